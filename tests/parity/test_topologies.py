"""Residual topologies, routings, recurrences, graphs and stems: the generated modules give what their papers' formulas and torch.nn's modules give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import unshrunk
from xfc.compiler.command_line import xfc as command
from xfc.compiler.count import count, whole
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run as run_passes

from ..backends.papers import Weights
from . import topologies
from .families import Family, build, save
from .topologies import Witness

TEXT = ("vocab=31", "d_model=28")
DECODER = (*TEXT, "decoder.layers=3", "decoder.attention.heads=4")
ROTARY = ("vocab=31", "d_model=24")
POSITIONS = "position.size=24"


@dataclass(frozen=True)
class Case:
    witness: Witness
    sets: tuple[str, ...]
    inputs: str = "text"


CASES = {
    "rezero_decoder": Case(topologies.rezero, (*TEXT, POSITIONS, "decoder.blocks=3 of rezero(attention, plain(hidden = 53, act = relu, bias = true), rate = 0.1)", "decoder.attention.heads=4")),
    "deepnorm_decoder": Case(topologies.deep_norm, (*DECODER, POSITIONS)),
    "layer_scale_decoder": Case(topologies.layer_scale, (*DECODER, POSITIONS)),
    "u_shaped_decoder": Case(topologies.u_shaped, (*TEXT, POSITIONS, "decoder.half=3", "decoder.block.attention.heads=4")),
    "reversible_decoder": Case(topologies.reversible, (*TEXT, POSITIONS, "decoder.blocks=3 of reversible_block(multi_head(heads = 4), plain(hidden = 53, bias = true), norm)")),
    "scaled_init_decoder": Case(topologies.scaled_init, (*DECODER, POSITIONS)),
    "mup_decoder": Case(topologies.mup, ("vocab=31", "d_model=32", "base=8", POSITIONS, "decoder.layers=3", "decoder.head_dim=8")),
    "dense_mixture_lm": Case(topologies.dense_mixture, (*ROTARY, "decoder.layers=3", "decoder.attention.heads=4", "decoder.ffn.experts=5")),
    "expert_choice_lm": Case(topologies.expert_choice, (*ROTARY, "attention.heads=4", "experts.experts=5", "decoder.blocks=4 of [dense, pre_norm(attention, experts, rms_norm)]")),
    "depths_lm": Case(topologies.mixture_of_depths, (*ROTARY, "block.attention.heads=4", "decoder.blocks=4 of [block, mixture_of_depths(block, every = 3)]")),
    "sparsely_gated_lm": Case(topologies.sparsely_gated, (*TEXT, "experts=5", "top_k=2", "expert.hidden=17"), "noise"),
    "lstm_lm": Case(topologies.recurrent_lm(nn.LSTM), TEXT),
    "gru_lm": Case(topologies.recurrent_lm(nn.GRU), TEXT),
    "rnn_search": Case(topologies.rnn_search, (*TEXT, "hidden=19", "align=11", "maxout=7"), "pair"),
    "conv_attention_lm": Case(topologies.conv_attention, (*DECODER, POSITIONS, "decoder.attention.width=3")),
    "graphormer_base": Case(topologies.graphormer, ("atoms=23", "degrees=7", "distances=17", "bonds=13", "reach=3", "d_model=28", "heads=4", "encoder.layers=2"), "molecule"),
    "gps_base": Case(topologies.gps, ("d_model=28", "layers=2", "waves=3"), "graph"),
    "vit_c_4gf": Case(topologies.vit_c, ("image=64", "d_model=28", "block.attention.heads=4", "classes=5", "stages=[conv_stage(5), conv_stage(7), conv_stage(11), conv_stage(13), token_stage(d_model, 2 of block)]"), "image"),
}  # fmt: skip


def drawn(kind: str) -> dict[str, Tensor]:
    """Inputs of a kind; lengths of 13 and 9, of which a mask keeps some."""
    g = torch.Generator().manual_seed(3)

    def ints(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=g)

    kept = (torch.arange(9) < torch.tensor([[9], [6]])).long()
    match kind:
        case "noise":
            return {"input_ids": ints(31, 2, 13), "router_noise": torch.randn(2, 13, 5, generator=g)}
        case "pair":
            return {"input_ids": ints(31, 2, 9), "attention_mask": kept, "decoder_input_ids": ints(31, 2, 5)}
        case "molecule":
            near = {"distance": ints(17, 2, 9, 9), "path": ints(13, 2, 9, 9, 3, 2)}
            near["distance"][:, :4, 4:] %= 5
            return {"input_nodes": ints(23, 2, 9, 3), "in_degree": ints(7, 2, 9), "out_degree": ints(7, 2, 9), **near, "node_mask": kept}
        case "graph":
            ends = {"source": ints(6, 2, 14), "target": ints(5, 2, 14), "edge_type": ints(4, 2, 14)}
            masks = {"attention_mask": kept, "edge_mask": (torch.arange(14) < torch.tensor([[14], [8]])).long()}
            return {"input_nodes": ints(28, 2, 9), "positions": torch.randn(2, 9, 3, generator=g), **ends, **masks}
        case "image":
            return {"pixel_values": torch.randn(2, 3, 64, 64, generator=g)}
        case _:
            return {"input_ids": ints(31, 2, 13)}


@dataclass(frozen=True)
class Made:
    module: ModuleType
    numpy: ModuleType
    weights: dict[str, Tensor]

    def model(self, dtype: torch.dtype) -> nn.Module:
        model: nn.Module = self.module.Model().to(dtype).eval()
        model.load_state_dict({n: self.weights[n].reshape(v.shape) for n, v in model.state_dict().items()})
        return model


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def make(name: str, sets: tuple[str, ...], stack: ExitStack) -> Made:
    """Both targets, and weights none of which is 0 or 1."""
    diagnostics = Diagnostics()
    program = elaborate_file(name, list(sets), diagnostics)
    assert program is not None and not diagnostics.found, diagnostics.found
    start = interpreter.initial_params(program, 0, "float64", unshrunk(program).under)
    rng = np.random.default_rng(0)
    weights = {n: torch.as_tensor(a + 0.2 * rng.normal(size=a.shape)) for n, a in start.items()}
    weights = {n: w.abs() if n.endswith("running_var") else w for n, w in weights.items()}
    ready = run_passes(program)
    emitted = (torch_backend.emit(ready), numpy_backend.emit(ready))
    modules = [stack.enter_context(loaded(text, f"{name}_{k}")) for k, text in enumerate(emitted)]
    return Made(modules[0], modules[1], weights)


def first(result: object) -> object:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", CASES)
def test_formula(name: str, stack: ExitStack, record_property: pytest.RecordProperty) -> None:
    case = CASES[name]
    made, inputs = make(name, case.sets, stack), drawn(case.inputs)
    exact = {n: x.double() if x.is_floating_point() else x for n, x in inputs.items()}
    with torch.no_grad():
        want, further = case.witness(Weights(made.weights), exact)
        got = first(made.model(torch.float32)(**inputs))
        assert isinstance(got, Tensor) and got.shape == want.shape
        params = {n: w.numpy() for n, w in made.model(torch.float32).state_dict().items()}
        also = first(made.numpy.forward(params, **{n: x.numpy() for n, x in inputs.items()}))
        errors = (float((got - want).abs().max()), float(np.abs(also - want.numpy()).max()))  # type: ignore[operator]
        record_property("errors", errors)
        assert max(errors) < 1e-4, errors
        labels = torch.randint(want.shape[-1], want.shape[:-1], generator=torch.Generator().manual_seed(5))
        loss = made.model(torch.float64)(**exact, labels=labels)
        shift = "decoder_input_ids" not in inputs and labels.dim() > 1
        entropy = nn.functional.cross_entropy(
            (want[:, :-1] if shift else want).flatten(0, -2), (labels[:, 1:] if shift else labels).flatten()
        )
        assert abs(float(loss - entropy - further)) < 1e-10


# ---------------------------------------------------------------- published pyramids, and sizes

PYRAMIDS = {
    "pvt": Family(
        "PvtForImageClassification",
        "PvtConfig",
        {
            "image_size": 32, "depths": [2, 1, 3, 2], "sequence_reduction_ratios": [4, 2, 1, 1], "hidden_sizes": [6, 10, 12, 14],
            "num_attention_heads": [1, 2, 3, 2], "mlp_ratios": [3, 2, 2, 4], "num_labels": 7, "drop_path_rate": 0.2,
        },
    ),
    "cvt": Family(
        "CvtForImageClassification",
        "CvtConfig",
        {"embed_dim": [6, 10, 14], "num_heads": [1, 2, 2], "depth": [1, 2, 3], "mlp_ratio": [3.0, 2.0, 4.0], "qkv_bias": [True, False, True], "num_labels": 7},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYRAMIDS)
def test_pyramid(name: str, tmp_path: Path, stack: ExitStack, record_property: pytest.RecordProperty) -> None:
    """A config of Hugging Face's class becomes a spec, and its checkpoint the spec's weights."""
    reference = build(PYRAMIDS[name])
    for buffer, value in reference.named_buffers():
        if "running" in buffer:
            value.uniform_(0.5, 1.5)
    save(reference, tmp_path)
    spec = str(tmp_path / f"{name}.yaml")
    for words in (["import", str(tmp_path / "config.json"), "-o", spec], ["check", spec]):
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
    program = elaborate_file(spec, ["image=32"], Diagnostics())
    assert program is not None
    ready = run_passes(program)
    own, other = (stack.enter_context(loaded(b.emit(ready), f"{name}_{b.__name__[-5:]}")) for b in (torch_backend, numpy_backend))
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        want = reference(image).logits
        got = own.Model.from_pretrained(tmp_path).eval()(image)
        also = other.forward(other.load(tmp_path), image.numpy())
    errors = float((got - want).abs().max()), float(np.abs(also - want.numpy()).max())
    record_property("errors", errors)
    assert max(errors) < 1e-4, errors


PUBLISHED = {  # in millions, to the papers' digits
    "pvt_tiny": "13.2", "pvt_small": "24.5", "pvt_medium": "44.2", "pvt_large": "61.4", "cvt_13": "20", "cvt_21": "32", "cvt_w24": "277",
    "vit_c_1gf": "4.6", "vit_c_4gf": "17.8", "lstm_lm": "66",
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name: str) -> None:
    program = elaborate_file(name, [], Diagnostics())
    assert program is not None
    digits = len(PUBLISHED[name].partition(".")[2])
    assert f"{whole(count(program).parameters) / 1e6:.{digits}f}" == PUBLISHED[name]


# ---------------------------------------------------------------- training terms


def test_scaled_init(stack: ExitStack) -> None:
    """GPT-2: 0.02 / sqrt(2 layers) for what is added, for every number of layers; DeepNet, table 2: Glorot's times (8 layers)^(-1/4)."""
    made = make("scaled_init_decoder", (*DECODER, POSITIONS), stack)
    for layers in (3, 8):
        model = made.module.Model(made.module.Config(d_model=64, layers=layers))
        for name, scale in {
            "attention.q_proj": 1,
            "attention.o_proj": 1 / (2 * layers) ** 0.5,
            "ffn.down_proj": 1 / (2 * layers) ** 0.5,
        }.items():
            std = float(model.get_submodule(f"decoder.layers.1.{name}").weight.detach().std())
            assert abs(std / (0.02 * scale) - 1) < 0.1, (layers, name, std)
    deep = make("deepnorm_decoder", (*DECODER, POSITIONS), stack)
    model = deep.module.Model(deep.module.Config(d_model=64, layers=2))
    layer, glorot = model.decoder.layers[0], nn.init.xavier_normal_
    for name, gain in {"attention.q_proj": 1, "attention.v_proj": 0.5, "ffn.up_proj": 0.5, "ffn.down_proj": 0.5}.items():
        weight = layer.get_submodule(name).weight
        assert abs(float(weight.std() / glorot(torch.empty_like(weight), gain).std()) - 1) < 0.1, name


def test_mup_is_table_8(stack: ExitStack) -> None:
    """One learning rate for all weights trains the same function as table 8: hidden weights learn 1 / width as fast, and start with 1 / fan_in."""
    case = CASES["mup_decoder"]
    made, ids = make("mup_decoder", case.sets, stack), drawn("text")["input_ids"]
    model = made.module.Model().double()
    hidden = {n for n, v in model.named_parameters() if "_proj" in n}
    for name in hidden:  # of twice the spread at four times the width, a quarter of which acts
        assert abs(float(model.get_parameter(name).std()) / 0.04 - 1) < 0.15, name
    true = {n: (v.detach() / 4 if n in hidden else v.detach().clone()).requires_grad_() for n, v in model.named_parameters()}
    groups = [
        {"params": [v for n, v in true.items() if (n in hidden) == inner], "lr": 0.01 / (4 if inner else 1)} for inner in (False, True)
    ]
    optimizers = torch.optim.Adam(model.parameters(), lr=0.01, eps=1e-30), torch.optim.Adam(groups, eps=1e-30)

    def plainly() -> Tensor:
        return case.witness(Weights({n: 4 * v if n in hidden else v for n, v in true.items()}), {"input_ids": ids})[0]

    for _ in range(4):
        for logits, optimizer in zip((model(ids), plainly()), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
            optimizer.step()
    with torch.no_grad():
        assert (model(ids) - plainly()).abs().max() < 1e-6


def test_path_dropout(stack: ExitStack) -> None:
    """In training a sample has each sublayer doubled or not at all, each half of the time; afterwards all have all."""
    made = make("scaled_init_decoder", (*DECODER, POSITIONS, "decoder.block.rate=0.5"), stack)
    layer = made.model(torch.float64).decoder.layers[0].train()  # type: ignore[union-attr, operator]
    torch.manual_seed(0)
    x = torch.randn(200, 5, 28, dtype=torch.float64)

    def sublayers(one: float, two: float) -> Tensor:
        y = x + one * layer.attention(layer.attention_norm(x), None)  # type: ignore[operator]
        return y + two * layer.ffn(layer.ffn_norm(y))  # type: ignore[operator]

    with torch.no_grad():
        got = layer(x, None)  # type: ignore[operator]
        cases = torch.stack([(got - sublayers(a, b)).abs().amax((1, 2)) < 1e-9 for a in (0, 2) for b in (0, 2)])
        assert cases.any(0).all() and ((cases.float().mean(1) - 0.25).abs() < 0.1).all()
        assert torch.allclose(layer.eval()(x, None), sublayers(1, 1))  # type: ignore[operator]
