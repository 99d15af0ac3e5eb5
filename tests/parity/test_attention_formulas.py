"""Attention patterns, linear attention and relative positions against the formulas of their papers, written in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import transformers as hf
from click.testing import CliRunner
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import unshrunk
from xfc.compiler.command_line import xfc as command
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.prove_causality import prove
from xfc.compiler.pipeline import run as run_passes

from .families import Family, build, save, tokens
from .test_huggingface import TOLERANCE, load_module, xfc

Inputs = dict[str, Tensor]
IDS = tokens(0, 29, 2, 19)


def small(name: str, *sets: str) -> tuple[dict[str, Tensor], Callable[[Tensor], None]]:
    """A model of the library at a small size, with weights none of which is 0 or 1: its weights, and a check of what it makes of IDS."""
    diagnostics = Diagnostics()
    program = elaborate_file(name, list(sets), diagnostics)
    assert program is not None, diagnostics.found
    rng = np.random.default_rng(0)
    start = interpreter.initial_params(program, 0, "float32", unshrunk(program).under)
    arrays = {n: (a + 0.2 * rng.normal(size=a.shape)).astype(np.float32) for n, a in start.items()}
    numpy_inputs = run_passes(program)

    def gives(want: Tensor) -> None:
        with loaded(torch_backend.emit(numpy_inputs), f"small_{name}") as module, torch.no_grad():
            model = module.Model().eval()
            model.load_state_dict({n: torch.from_numpy(arrays[n]).reshape(v.shape) for n, v in model.state_dict().items()})
            got = {"torch": model(IDS)}
            params = {n: v.numpy() for n, v in model.state_dict().items()}
        with loaded(numpy_backend.emit(numpy_inputs), f"small_{name}_numpy") as module:
            got["numpy"] = torch.from_numpy(module.forward(params, IDS.numpy()))
        for target, logits in got.items():
            assert (logits - want).abs().max() < TOLERANCE, target

    return {n: torch.from_numpy(a).double() for n, a in arrays.items()}, gives


def dense(w: dict[str, Tensor], name: str, x: Tensor, heads: int | None = None) -> Tensor:
    """A linear map, of the last axis or axes; `heads`: what it gives is split into so many."""
    weight = w[name + ".weight"]
    given = x.flatten(2) if x.dim() == 4 else x
    y = given @ weight.reshape(-1, given.shape[-1]).T
    if name + ".bias" in w:
        y = y + w[name + ".bias"].flatten()
    return y if heads is None else y.unflatten(-1, (heads, -1))


def normed(w: dict[str, Tensor], name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps)


def below(w: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    return {n[len(path) + 1 :]: v for n, v in w.items() if n.startswith(path + ".")}


Attention = Callable[[dict[str, Tensor], Tensor], Tensor]


def blocks(w: dict[str, Tensor], x: Tensor, attention: Attention, act: Callable[[Tensor], Tensor], *, post: bool = False) -> Tensor:
    """Pre-norm or post-norm blocks and the last norm."""
    n = 0
    while any(name.startswith(f"layers.{n}.") for name in w):
        layer = below(w, f"layers.{n}")

        def ffn(y: Tensor, layer: dict[str, Tensor] = layer) -> Tensor:
            return dense(layer, "ffn.down_proj", act(dense(layer, "ffn.up_proj", y)))

        if post:
            x = normed(layer, "attention_norm", x + attention(below(layer, "attention"), x))
            x = normed(layer, "ffn_norm", x + ffn(x))
        else:
            x = x + attention(below(layer, "attention"), normed(layer, "attention_norm", x))
            x = x + ffn(normed(layer, "ffn_norm", x))
        n += 1
    return normed(w, "norm", x)


def softmax_attention(seen: Tensor, heads: int) -> Attention:
    def attention(w: dict[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (dense(w, f"{n}_proj", x, heads) for n in "qkv")
        s = torch.einsum("bihe,bjhe->bhij", q, k) * q.shape[-1] ** -0.5
        a = s.masked_fill(~seen, -torch.inf).softmax(-1)
        return dense(w, "o_proj", torch.einsum("bhij,bjhe->bihe", a, v))

    return attention


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def tied_or_head(w: dict[str, Tensor], x: Tensor) -> Tensor:
    return dense(w, "head", x) if "head.weight" in w else x @ w["embed.weight"].T


def strided_sets(t: int, stride: int) -> Tensor:
    """Section 4.2: the last `stride` places, and those a multiple of the stride before."""
    seen = torch.zeros(t, t, dtype=torch.bool)
    for i in range(t):
        seen[i, max(0, i - stride) : i + 1] = True
        seen[i, [j for j in range(i + 1) if (i - j) % stride == 0]] = True
    return seen


def fixed_sets(t: int, stride: int, summary: int) -> Tensor:
    seen = torch.zeros(t, t, dtype=torch.bool)
    for i in range(t):
        seen[i, [j for j in range(i + 1) if j // stride == i // stride]] = True
        seen[i, [j for j in range(i + 1) if j % stride in range(stride - summary, stride)]] = True
    return seen


@pytest.mark.parametrize(
    ("name", "mask", "seen"),
    [
        ("sparse_transformer_imagenet64", "strided(stride = 5) and padding", strided_sets(19, 5)),
        ("sparse_transformer_enwik8", "fixed(stride = 5, summary = 2) and padding", fixed_sets(19, 5, 2)),
    ],
)
def test_sparse_transformer(name: str, mask: str, seen: Tensor) -> None:
    sets = ["vocab=29", "d_model=30", "decoder.layers=2", "decoder.attention.heads=5", f"decoder.attention.mask={mask}"]
    w, gives = small(name, *sets, "position.counts=[[3, 1], [7, 3]]")
    place = torch.arange(19)
    x = w["embed.weight"][IDS] + w["position.table_0.weight"][place % 3] + w["position.table_1.weight"][place // 3 % 7]
    want = tied_or_head(w, blocks(below(w, "decoder"), x, softmax_attention(seen, 5), quick_gelu))
    gives(want)


def test_banded_layers(tmp_path: Path) -> None:
    """GPT-2's own class, every second layer of which is handed a mask with a band."""
    settings = {"vocab_size": 29, "n_embd": 30, "n_layer": 4, "n_head": 5, "n_positions": 2048, "bos_token_id": 1, "eos_token_id": 2}
    reference = build(Family("GPT2LMHeadModel", "GPT2Config", settings))
    save(reference, tmp_path)
    i, j = torch.arange(19)[:, None], torch.arange(19)
    band = torch.zeros(19, 19).masked_fill((j > i) | (i - j >= 5), -torch.inf)

    def banded(module: torch.nn.Module, args: tuple[object, ...], named: dict[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        assert "attention_mask" in named
        return args, named | {"attention_mask": band[None, None]}

    for layer in reference.transformer.h[1::2]:  # type: ignore[union-attr]
        layer.attn.register_forward_pre_hook(banded, with_kwargs=True)
    sets = ["vocab=29", "d_model=30", "decoder.layers=4", "decoder.attention.heads=5", "decoder.banded.mask=sliding(5) and padding"]
    for target in ("torch", "numpy"):
        path = tmp_path / f"banded_{target}.py"
        xfc("compile", "gpt3_small", "--target", target, "-o", path, *(w for s in sets for w in ("--set", s)))
        module = load_module(path)
        with torch.no_grad():
            want = reference(IDS).logits
            got = (
                module.Model.from_pretrained(tmp_path).eval()(IDS)
                if target == "torch"
                else torch.from_numpy(module.forward(module.load(tmp_path), IDS.numpy()))
            )
        assert (got - want).abs().max() < TOLERANCE, target


TINY = ["vocab=29", "d_model=30", "decoder.layers=2", "decoder.attention.heads=5"]


def test_linear_attention() -> None:
    """Equation 8 with a mask: all products of queries and keys, then the sums."""
    w, gives = small("linear_transformer", *TINY)

    def attention(w: dict[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (dense(w, f"{n}_proj", x, 5) for n in "qkv")
        a = torch.einsum("bihe,bjhe->bhij", F.elu(q) + 1, F.elu(k) + 1).tril()
        y = torch.einsum("bhij,bjhe->bihe", a, v) / (a.sum(-1).transpose(1, 2)[..., None] + 1e-6)
        return dense(w, "o_proj", y)

    x = w["embed.weight"][IDS] + w["position.weight"][:19]
    want = tied_or_head(w, blocks(below(w, "decoder"), x, attention, F.gelu, post=True))
    gives(want)


def test_retention() -> None:
    """The parallel form, equation 5: complex rotations, and a matrix of decays."""
    w, gives = small("retnet_1_3b", *TINY)

    def attention(w: dict[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (dense(w, f"{n}_proj", x, 5) for n in "qkv")
        turn = torch.polar(torch.ones(19, 3).double(), torch.arange(19)[:, None] * 10000.0 ** (-torch.arange(3).double() / 3))[:, None]
        q, k = (torch.view_as_complex(y.unflatten(-1, (-1, 2)).contiguous()) * turn for y in (q, k))
        gamma = 1 - 2.0 ** (-5 - torch.arange(5).double())
        n, m = torch.arange(19)[:, None], torch.arange(19)
        decay = torch.where(n >= m, gamma[:, None, None] ** (n - m), 0.0)
        r = torch.einsum("bihe,bjhe->bhij", q, k.conj()).real * 6**-0.5 * decay
        y = torch.einsum("bhij,bjhe->bihe", r, v)
        y = y * (y.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
        return dense(w, "o_proj", F.silu(dense(w, "gate_proj", x, 5)) * y)

    want = tied_or_head(w, blocks(below(w, "decoder"), w["embed.weight"][IDS], attention, F.gelu))
    gives(want)


def test_gated_linear_attention() -> None:
    """Equation 3, a token at a time."""
    w, gives = small(
        "gla_1_3b",
        "vocab=29",
        "d_model=24",
        "decoder.layers=2",
        "decoder.attention.heads=3",
        "decoder.attention.rank=5",
        "decoder.ffn.hidden=37",
    )

    def rms(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * w[name + ".weight"]

    def attention(w: dict[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (dense(w, f"{n}_proj", x, 3) for n in "qkv")
        alpha = torch.sigmoid(dense(w, "keep_proj", dense(w, "down_proj", x), 3)) ** (1 / 16)
        state, rows = torch.zeros(2, 3, 4, 8).double(), []
        for t in range(19):
            state = alpha[:, t, :, :, None] * state + k[:, t, :, :, None] * v[:, t, :, None]
            rows.append(torch.einsum("bhe,bhef->bhf", q[:, t] * 4**-0.5, state))
        return dense(w, "o_proj", rms(w, "norm", torch.stack(rows, 1)) * F.silu(dense(w, "gate_proj", x, 3)))

    x = w["embed.weight"][IDS]
    for n in range(2):
        layer = below(w, f"decoder.layers.{n}")
        x = x + attention(below(layer, "attention"), rms(layer, "attention_norm", x))
        y = rms(layer, "ffn_norm", x)
        x = x + dense(layer, "ffn.down_proj", F.silu(dense(layer, "ffn.gate_proj", y)) * dense(layer, "ffn.up_proj", y))
    want = tied_or_head(w, rms(w, "decoder.norm", x))
    gives(want)


def test_relative_attention() -> None:
    """Equations 3 and 4, for each pair of places."""
    w, gives = small("shaw_encoder", "vocab=29", "d_model=30", "encoder.layers=2", "encoder.attention.heads=5", "encoder.attention.reach=4")

    def attention(w: dict[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (dense(w, f"{n}_proj", x, 5) for n in "qkv")
        e, z = torch.empty(2, 5, 19, 19).double(), torch.zeros(2, 19, 5, 6).double()
        near = [[max(-4, min(4, j - i)) + 4 for j in range(19)] for i in range(19)]
        for i in range(19):
            for j in range(19):
                e[:, :, i, j] = (q[:, i] * (k[:, j] + w["key_table"][near[i][j]])).sum(-1) / 6**0.5
        a = e.softmax(-1)
        for i in range(19):
            for j in range(19):
                z[:, i] += a[:, :, i, j, None] * (v[:, j] + w["value_table"][near[i][j]])
        return dense(w, "o_proj", z)

    def norms(path: str, y: Tensor) -> Tensor:
        return normed(w, path, y, 1e-6)

    x = w["embed.weight"][IDS]
    for n in range(2):
        layer = f"encoder.layers.{n}"
        x = x + attention(below(w, f"{layer}.attention"), norms(f"{layer}.attention_norm", x))
        x = x + dense(w, f"{layer}.ffn.down_proj", F.relu(dense(w, f"{layer}.ffn.up_proj", norms(f"{layer}.ffn_norm", x))))
    want = dense(w, "head", norms("encoder.norm", x))
    gives(want)


def test_contextual_positions() -> None:
    """The listing of the paper's appendix."""
    w, gives = small("cope_decoder", *TINY, "decoder.attention.reach=4")

    def attention(w: dict[str, Tensor], x: Tensor) -> Tensor:
        q, k, v = (dense(w, f"{n}_proj", x, 5).transpose(1, 2) for n in "qkv")
        logits = (q @ k.transpose(-1, -2)) / 6**0.5 + torch.ones(19, 19).tril().log()
        gates = torch.sigmoid(logits)
        pos = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=3)
        ceil, floor = pos.ceil().long(), pos.floor().long()
        by_place = q @ w["table"].T
        share = pos - floor
        logits = logits + by_place.gather(-1, ceil) * share + by_place.gather(-1, floor) * (1 - share)
        return dense(w, "o_proj", (logits.softmax(-1) @ v).transpose(1, 2))

    want = tied_or_head(w, blocks(below(w, "decoder"), w["embed.weight"][IDS], attention, F.gelu))
    gives(want)


# ---------------------------------------------------------------- tables at full size


def computed(tmp_path: Path, text: str, inputs: Inputs) -> Tensor:
    (tmp_path / "table.xf").write_text(text, encoding="utf-8")
    xfc("compile", tmp_path / "table.xf", "-o", tmp_path / "table.py")
    got: Tensor = load_module(tmp_path / "table.py").Model()(**inputs)
    return got


SCALINGS = {
    "linear": ("linear_scaling(factor = 8.0)", {"factor": 8.0}, None),
    "llama3": (
        "llama3_scaling(factor = 8.0, low = 1.0, high = 4.0, context = 8192)",
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        None,
    ),
    "yarn": ("yarn(factor = 16.0, context = 4096, theta = 10000.0)", {"factor": 16.0, "original_max_position_embeddings": 4096}, None),
    "dynamic": ("dynamic_ntk_scaling(factor = 2.0, context = 4096)", {"factor": 2.0}, 10000),
    "dynamic, short": ("dynamic_ntk_scaling(factor = 2.0, context = 4096)", {"factor": 2.0}, 3000),
    "ntk": ("ntk_scaling(factor = 8.0)", {"factor": 1.0}, 8 * 4096),  # what the dynamic one has at eight times the length
}


@pytest.mark.parametrize("name", sorted(SCALINGS))
def test_frequencies(name: str, tmp_path: Path) -> None:
    """Heads of 128 features, against the tables that transformers computes."""
    scaling, parameters, length = SCALINGS[name]
    kind = {"ntk": "dynamic"}.get(name, name.split(",")[0])
    config = hf.LlamaConfig(
        hidden_size=4096,
        num_attention_heads=32,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": kind, "rope_theta": 10000.0} | parameters,
    )
    want, _ = ROPE_INIT_FUNCTIONS[kind](config, seq_len=length)
    inputs = {"frequency": 1 / 10000.0 ** (torch.arange(0, 128, 2) / 128)}
    if name.startswith("dynamic"):
        inputs["positions"] = torch.arange(length or 0)[None]
    typed = ", positions: [b, t] int" if "positions" in inputs else ""
    body = f"    scale = {scaling}\n    return scale(frequency)\n"
    got = computed(tmp_path, f"model table(pairs = 64)(frequency: [e: pairs]{typed}) -> (scaled: [e]):\n{body}", inputs)
    assert torch.allclose(got, want, rtol=1e-5, atol=0)


def test_log_buckets(tmp_path: Path) -> None:
    """Every distance within 512, as DeBERTa's second version counts them."""
    distance = torch.arange(-511, 512).float()
    body = "    bucket = log_buckets(exact = 128, longest = 512)\n    return bucket(distance)\n"
    got = computed(tmp_path, f"model table(distance: [n]) -> (bucket: [n]):\n{body}", {"distance": distance})
    assert torch.equal(got, make_log_bucket_position(distance, 256, 512))


# ---------------------------------------------------------------- what sees what


@pytest.mark.parametrize(
    "name", ["gpt3_small", "sparse_transformer_enwik8", "linear_transformer", "retnet_1_3b", "gla_1_3b", "cope_decoder"]
)
def test_proved_causal(name: str) -> None:
    program = elaborate_file(name, [], Diagnostics())
    assert program is not None and prove(program).causal


@pytest.mark.parametrize(
    ("attention", "causal"),
    [
        ("native_sparse(4, kv_heads = 2, head_dim = 8, window = 4, block = 4, stride = 2, chosen_block = 4, chosen = 2)", True),
        ("relative_attention(heads = 4, reach = 3, causal = true)", True),
        ("relative_attention(heads = 4, reach = 3)", False),
        ("linear_attention(heads = 4, causal = false)", False),
        ("contextual_attention(heads = 4, reach = 3, mask = padding)", False),
    ],
)
def test_leaks_are_refused(attention: str, causal: bool, tmp_path: Path) -> None:
    text = (
        f"model tried = causal_lm:\n    vocab = 29\n    d_model = 32\n    decoder:\n        layers = 2\n        attention = {attention}\n"
    )
    (tmp_path / "tried.xf").write_text(text + "        ffn = gated(hidden = 53)\n", encoding="utf-8")
    done = CliRunner().invoke(command, ["check", str(tmp_path / "tried.xf")])
    assert ("proved causal" in done.output) == causal and (done.exit_code == 0) == causal, done.output
