"""Linear maps of one value as one map: the same function and gradients, from the same checkpoints, told the same way of those that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor, nn

from xfc.backends import torch as torch_backend
from xfc.backends.torch.fuse_linear_maps import joined_name
from xfc.backends.verify import verify
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import shrink, unshrunk
from xfc.compiler import ir
from xfc.compiler.commands.compile import command
from xfc.compiler.commands.verify import command as verify_command
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.pipeline import run

from ..decoding import elaborated, written

FUSED = {
    "bert_base": {"qkv_proj"},
    "deepseek_v3": {"q_kv_a_proj", "gate_up_proj"},
    "gpt_oss_20b": {"qkv_proj"},
    "llama3_8b": {"qkv_proj", "gate_up_proj"},
    "mixtral_8x7b": {"qkv_proj", "gate_up_proj"},
    "t5_small": {"qkv_proj", "kv_proj"},
    "whisper_tiny": {"qv_proj"},
}
"""What stands for several maps: of GPT-OSS's biased maps, of a latent, of a memory, of experts; Whisper's keys have no bias."""

MODEL = """
component block(heads, hidden)(x: [b, t, d]) -> [b, t, d]:
    q = linear([heads, e: d / heads])
    k = linear([heads, e: d / heads])
    v = linear([heads, e: d / heads], bias = true)
    gain = linear(d, bias = true)
    ffn = bank(3, gated(hidden))
    scores = param([3, d])
    a = mean(q(x) * k(x) + v(x), e)
    best = top(einsum(x, scores, over = d), 2, 3)
    return gain(x) * mean(a, heads) + route(x, ffn, best.index, best.values)

component tiny(layers, heads, hidden)(x: [b, t, d]) -> [b, t, d]:
    layers = layers of block(heads, hidden)
    return layers(x)

model m = causal_lm:
    vocab = 11
    d_model = 6
    decoder = tiny(layers = 2, heads = 2, hidden = 5)

checkpoint huggingface for m:
    "emb" = embed.weight
    "l.{i}.qk" = interleave(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight, by = heads)
    "l.{i}.v" = decoder.layers.{i}.v.weight
    "l.{i}.vb" = decoder.layers.{i}.v.bias
    "l.{i}.gain" = decoder.layers.{i}.gain.weight
    "l.{i}.gb" = decoder.layers.{i}.gain.bias
    "l.{i}.score" = transpose(decoder.layers.{i}.scores)
    "l.{i}.{e}.gate" = decoder.layers.{i}.ffn.gate_proj.weight[{e}]
    "l.{i}.up" = transpose(decoder.layers.{i}.ffn.up_proj.weight)
    "l.{i}.down" = decoder.layers.{i}.ffn.down_proj.weight
    "head" = head.weight
"""


@cache
def code_of(program: ir.Program, fuse: bool) -> str:
    derived = derive_decoding(program)
    return torch_backend.emit(run(program if isinstance(derived, Refusal) else derived), fuse=fuse)


def both(stack: ExitStack, program: ir.Program, name: str) -> list[ModuleType]:
    """The plain file and the other."""
    return [stack.enter_context(loaded(code_of(program, fuse), f"{name}{'_fused' if fuse else ''}")) for fuse in (False, True)]


def fused_names(model: nn.Module) -> set[str]:
    return {path.rpartition(".")[2] for path, module in model.named_modules() if hasattr(module, "sizes")}


class Pair:
    """A small model of the zoo in float64, both ways, with the same weights."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        chosen = shrink(elaborated(name))
        self.plain_file, self.file = both(stack, chosen.program, f"fuse_{name}")
        config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None}
        torch.manual_seed(0)
        self.plain: nn.Module = self.plain_file.Model(self.plain_file.Config(**config)).double().eval()
        self.model: nn.Module = self.file.Model(self.file.Config(**config)).double().eval()
        self.model.load_state_dict(self.file.put_together(dict(self.plain.state_dict()), self.model))
        given = input_sets(chosen.program, chosen.under, 0)["required inputs"]
        self.inputs = {n: torch.from_numpy(x) for n, x in given.items()}
        self.inputs = {n: x.double() if x.is_floating_point() else x for n, x in self.inputs.items()}


@pytest.fixture(scope="module", params=sorted(FUSED))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(request.param, stack)


def first_of(y: object) -> Tensor:
    found = y if isinstance(y, Tensor) else y[0]  # type: ignore[index]
    assert isinstance(found, Tensor)
    return found


def test_same_function_and_gradients(pair: Pair) -> None:
    assert fused_names(pair.model) == FUSED[pair.name]
    found = []
    for model in (pair.plain, pair.model):
        model.zero_grad()
        y = first_of(model(**pair.inputs))
        (y * torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype)).sum().backward()
        found.append((y.detach(), {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}))
    (wanted, gradients), (y, others) = found
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    others = pair.file.taken_apart(others, pair.model)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-9, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")


def test_tokens_from_a_cache(pair: Pair) -> None:
    if pair.name == "bert_base":
        assert not hasattr(pair.model, "init_cache")
        return
    name = "decoder_input_ids" if "decoder_input_ids" in pair.inputs else "input_ids"
    if name not in pair.inputs:
        name = next(n for n, x in reversed(pair.inputs.items()) if x.dtype == torch.long)
    ids = pair.inputs[name]
    with torch.no_grad():
        whole = first_of(pair.plain(**pair.inputs))
        kept = pair.model.init_cache(*ids.shape)  # type: ignore[operator]
        parts = [first_of(pair.model(**pair.inputs | {name: ids[:, :3]}, cache=kept))]
        parts += [first_of(pair.model(**{name: ids[:, k : k + 1]}, cache=kept)) for k in range(3, ids.shape[1])]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)


def test_graphs_and_empty_modules() -> None:
    """One graph; layers computed again; built without memory and filled later."""
    with ExitStack() as stack:
        pair = Pair("mixtral_8x7b", stack)
        ids = pair.inputs["input_ids"]
        torch._dynamo.reset()
        y = torch.compile(pair.model, fullgraph=True, backend="eager")(ids)
        torch.testing.assert_close(y, pair.plain(ids), rtol=1e-9, atol=1e-9)
        losses = []
        for again in (0, 1):
            pair.model.zero_grad()
            pair.model.recompute_layers(again)  # type: ignore[operator]
            pair.model.train()(ids, labels=ids).backward()
            losses.append([p.grad.clone() for p in pair.model.parameters() if p.grad is not None])
        torch.testing.assert_close(losses[1], losses[0])
        with torch.device("meta"):
            empty = pair.file.Model(pair.model.config)
        assert {n: p.shape for n, p in empty.state_dict().items()} == {n: p.shape for n, p in pair.model.state_dict().items()}
        empty.to_empty(device="cpu").double().load_state_dict(pair.model.state_dict())
        torch.testing.assert_close(empty.eval()(ids), pair.plain(ids), rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- loading


def published() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"emb": (11, 6), "head": (11, 6)}
    for i in range(2):
        shapes |= {f"l.{i}.qk": (12, 6), f"l.{i}.v": (6, 6), f"l.{i}.vb": (6,), f"l.{i}.gain": (6, 6), f"l.{i}.gb": (6,)}
        shapes |= {f"l.{i}.score": (6, 3), f"l.{i}.up": (3, 6, 5), f"l.{i}.down": (3, 6, 5)}
        shapes |= {f"l.{i}.{e}.gate": (5, 6) for e in range(3)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ModuleType]]:
    with ExitStack() as stack:
        yield both(stack, written(tmp_path_factory.mktemp("spec"), MODEL), "fuse_loading")


def test_published_tensors(files: list[ModuleType], tmp_path: Path) -> None:
    """Interleaved, one file an expert, transposed; with biases and without."""
    save_file(published(), tmp_path / "model.safetensors")
    plain, model = (f.Model.from_pretrained(tmp_path) for f in files)
    assert fused_names(model) == {"qk", "v_gain", "gate_up_proj"}
    found = files[1].taken_apart(model.state_dict(), model)
    assert found.keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    ids = torch.arange(10).reshape(2, 5)
    torch.testing.assert_close(model.double()(ids), plain.double()(ids))


@pytest.mark.parametrize("writer", [0, 1])
def test_own_names(files: list[ModuleType], tmp_path: Path, writer: int) -> None:
    """Those of this file, and those of the plain one."""
    torch.manual_seed(0)
    before = files[writer].Model()
    before.save_pretrained(tmp_path)
    ids = torch.arange(10).reshape(2, 5)
    torch.testing.assert_close(files[1].Model.from_pretrained(tmp_path).double()(ids), before.double()(ids))


FAULTS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "missing": lambda t: t.pop("l.1.v"),
    "misshapen": lambda t: t.update({"l.0.v": torch.zeros(5, 6), "l.0.gain": torch.zeros(7, 6)}),
    "an expert misshapen": lambda t: t.update({"l.0.1.gate": torch.zeros(6, 6)}),
    "parts of other sizes": lambda t: t.update({"l.1.up": torch.zeros(3, 6, 4)}),
    "not a number": lambda t: t["l.1.gain"].fill_(float("nan")),
    "integers": lambda t: t.update({"l.0.gb": torch.zeros(6, dtype=torch.long)}),
    "too many": lambda t: t.update({"l.0.w": torch.zeros(2)}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit(files: list[ModuleType], tmp_path: Path, fault: str) -> None:
    """Both files say the same of a folder: sizes of a sum do not hide those of its parts."""
    tensors = published()
    FAULTS[fault](tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    said = []
    for file in files:
        with pytest.raises(ValueError, match="does not fit") as raised:
            file.Model.from_pretrained(tmp_path)
        said.append(str(raised.value))
    assert said[0] == said[1]


# ---------------------------------------------------------------- what is one, and what is not


def names_in(folder: Path, text: str) -> set[str]:
    program = written(folder, text)
    with loaded(code_of(program, True), "fuse_names") as file:
        return fused_names(file.Model())


ONE = """
component part(x: [b, t, d]) -> [b, t, d]:
    {maps}
    return {result}

model small(d = 6)(x: [b, t, d]) -> (y):
    part = part()
    return part(x)
"""


@pytest.mark.parametrize(
    ("maps", "result", "fused"),
    [
        ("one = linear(d); two = linear(d)", "one(x) * two(x)", {"one_two"}),
        ("a_one = linear(d); a_two = linear(d); a_three = linear(d)", "a_one(x) * a_two(x) + a_three(x)", {"a_one_two_three"}),
        ("one = linear(d); two = linear(d)", "one(x) * two(x * x)", set()),
        ("one = linear(d); two = linear(d)", "one(x) * two(two(x))", set()),
        ("one = linear(d); two = linear(d, bias = true)", "one(x) * two(x)", set()),
        ("one = linear(d, init = normal(0.5)); two = linear(d)", "one(x) * two(x)", set()),
        ("one = linear([e: 5]); two = linear([e: 5])", "einsum(one(x) * two(x), one.weight, over = e)", set()),
    ],
    ids=["two", "three", "of two values", "used twice", "one bias", "start otherwise", "weight read"],
)
def test_which(tmp_path: Path, maps: str, result: str, fused: set[str]) -> None:
    text = ONE.format(maps=maps.replace("; ", "\n    "), result=result)
    assert names_in(tmp_path, text) == fused


def test_start(tmp_path: Path) -> None:
    """All parts start as the spec says, biases too."""
    maps = (
        "one = linear(200, init = normal(0.5), bias = true)\n    two = linear(200, init = normal(0.5), bias = true)\n    back = linear(d)"
    )
    program = written(tmp_path, ONE.format(maps=maps, result="back(one(x) * two(x))"))
    with loaded(code_of(program, True), "fuse_start") as file:
        made = file.Model().part.one_two
    assert made.weight.shape == (400, 6) and 0.45 < made.weight.std() < 0.55
    assert not made.bias.any()


@pytest.mark.parametrize("name", ["lstm_lm", "native_sparse_attention", "yoco_3b"])
def test_others(name: str) -> None:
    """A kernel's map of its input stays alone; several attentions of one value, keys and values of another module."""
    chosen = shrink(elaborated(name)) if name != "lstm_lm" else unshrunk(elaborated(name))
    assert ("FusedLinear" in code_of(chosen.program, True)) == (name != "lstm_lm")


def test_layers_of_several_sizes(tmp_path: Path) -> None:
    """A class with sizes of its own in each use."""
    text = """
component part(hidden)(x: [b, t, d]) -> [b, t, d]:
    gate = linear([two: 2, e: hidden])
    up = linear([e: hidden])
    back = linear(d, over = e)
    return x + back(mean(gate(x), two) * up(x))

component several(x: [b, t, d]) -> [b, t, d]:
    first = part(3)
    second = part(5)
    return second(first(x))

model small(d = 6)(x: [b, t, d]) -> (y):
    several = several()
    return several(x)
"""
    program = written(tmp_path, text)
    assert verify(program, dtype="float64", fuse=True).ok


def test_names() -> None:
    for names, joined in (
        (("q_proj", "k_proj", "v_proj"), "qkv_proj"),
        (("gate_proj", "up_proj"), "gate_up_proj"),
        (("q", "k", "v"), "qkv"),
        (("query", "key"), "query_key"),
        (("to_q", "to_k"), "to_qk"),
        (("w_1_in", "w_2_in"), "w_12_in"),
        (("proj", "gate_proj"), "proj_gate_proj"),
        (("q_a_proj", "kv_a_proj"), "q_kv_a_proj"),
    ):
        assert joined_name(names)[0] == joined


HEADS = """
component head(x: [b, t, d]) -> [b, t, d]:
    q = linear([e: 4])
    k = linear([e: 4])
    v = linear([e: 4], bias = true)
    up = linear(d, bias = true)
    back = linear(d, over = e)
    mask before(i, j) = j <= i
    return back(attend(q(x), k(x), v(x), before, scale = 0.5, over = t)) + up(x)

component some(x: [b, t, d]) -> [b, t, d]:
    experts = bank(3, head())
    router = linear([k: 3])
    best = top(router(x), 2, k)
    return x + route(x, experts, best.index, best.values)

model small(d = 8)(input_ids: [b, t] int in 17) -> (y):
    embed = embedding(17, d)
    layers = 2 of some
    return layers(embed(input_ids))
"""


def test_modules_of_a_bank(tmp_path: Path) -> None:
    """Experts that are modules: their tensors lie in one of each, also in a file whose spec has no published names."""
    program = written(tmp_path, HEADS)
    assert verify(program, dtype="float64", fuse=True).ok
    ids = torch.arange(10).reshape(2, 5)
    with ExitStack() as stack:
        plain, file = both(stack, program, "fuse_bank")
        for writer in (plain, file):
            before = writer.Model()
            before.save_pretrained(tmp_path)
            torch.testing.assert_close(file.Model.from_pretrained(tmp_path).double()(ids), before.double()(ids))
        tensors = {**plain.Model().state_dict(), "layers.0.experts.q.weight": torch.zeros(3, 5, 8)}
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=r"layers.0.experts.q.weight has shape \(3, 5, 8\) and needs \(3, 4, 8\)"):
            file.Model.from_pretrained(tmp_path)


# ---------------------------------------------------------------- commands


def test_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(ONE.format(maps="one = linear(d)\n    two = linear(d)", result="one(x) * two(x)"))
    found = [CliRunner().invoke(command, [str(path), *more]) for more in ([], ["--fuse"], ["--fuse", "--target", "numpy"])]
    assert [done.exit_code for done in found] == [0, 0, 2]
    assert "Fused" not in found[0].output and "one, two = self.one_two(x).chunk(2, -1)" in found[1].output
    done = CliRunner().invoke(verify_command, [str(path), "--fuse"])
    assert done.exit_code == 0, done.output
