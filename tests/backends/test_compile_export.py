"""What tools of PyTorch's own make of the generated modules: torch.compile, torch.export, the meta device, bfloat16, autocast.

One model of each file of the zoo, at sizes as small as `xfc verify` makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from xfc.backends import torch as torch_backend
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import Sym, sym
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.library import shipped_models
from xfc.compiler.pipeline import run as run_passes

MODELS = sorted({path: name for name, path in reversed(shipped_models().items())}.values())
INDUCTOR = ("bert_base", "gpt2", "llama2_7b", "mamba2_130m", "mixtral_8x7b")
TRACED = (*INDUCTOR, "bloom_176b", "deepseek_v3", "gemma3_1b", "t5_small", "vit_base")
"""Compiled by inductor, or traced and exported, by default; the others are marked slow."""
FIXED_LENGTH = {
    "lstm_lm": "a loop over the positions fixes the length",
    "gshard_moe": "a capacity that is a fraction of the length fixes the length",
    "native_sparse_attention": "a number of blocks that is the length divided and rounded fixes the range of lengths",
}
SHAPES_OF_DATA = {"longformer_base": "which tokens are global is a number for each sequence"}


def usually(names: tuple[str, ...]) -> list[object]:
    assert set(names) <= set(MODELS)
    return [pytest.param(n, marks=() if n in names else pytest.mark.slow) for n in MODELS]


@dataclass(frozen=True)
class Case:
    name: str
    module: ModuleType
    shrunk: Shrunk
    model: nn.Module
    inputs: dict[str, dict[str, Tensor]]

    @property
    def prompt(self) -> dict[str, Tensor]:
        return self.inputs["required inputs"]

    def new(self) -> nn.Module:
        """Another model of the same Config."""
        made: nn.Module = self.module.Model(self.model.config)
        return made.eval()

    def has(self, *kinds: type[ir.Op]) -> bool:
        return any(isinstance(n, kinds) for m in ir.walk(self.shrunk.program.root) for n in m.body)

    @property
    def tolerance(self) -> float:
        """For bfloat16: a token that another expert takes is another number."""
        return 0.5 if self.has(ir.Top) else 0.1


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, stack: ExitStack) -> Case:
    return build(request.param, stack)


def build(name: str, stack: ExitStack) -> Case:
    diagnostics = Diagnostics()
    program = elaborate_file(name, [], diagnostics)
    assert program is not None, diagnostics.found
    shrunk = shrink(program)
    code, _ = emit_with_cache(shrunk.program, torch_backend.emit)
    module = stack.enter_context(loaded(code, f"compiled_{name}"))
    torch.manual_seed(0)
    numbers = shrunk.config()
    layers = {n: max(2, v // 2) for n, v in numbers.items() if n == "layers"}  # a pattern of layers once is enough here
    model = module.Model(module.Config(**numbers | layers)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.3 if value.dim() > 1 else 0.1).add_(1.0 if value.dim() < 2 else 0.0)
    kept = {i.name for i in run_passes(shrunk.program).inputs}
    inputs = {
        kind: {n: torch.from_numpy(a).to(torch.float32 if a.dtype.kind == "f" else None) for n, a in given.items() if n in kept}
        for kind, given in input_sets(shrunk.program, shrunk.under, 0).items()
    }
    return Case(name, module, shrunk, model, inputs)


def first(result: object) -> Tensor:
    found = result if isinstance(result, Tensor) else result[0]  # type: ignore[index]
    assert isinstance(found, Tensor)
    return found


def outputs(model: Callable[..., object], inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return first(model(**inputs))


def near(got: Tensor, want: Tensor, tolerance: float) -> bool:
    """Finite, of the same shape, and off by a small part of the size on average."""
    size = want.square().mean().sqrt()
    return got.shape == want.shape and bool(got.isfinite().all()) and bool((got.float() - want).abs().mean() < tolerance * size)


@pytest.mark.parametrize("case", usually(TRACED), indirect=True)
def test_compile(case: Case) -> None:
    """Dynamo captures the whole forward pass as one graph, for a prompt and with padding."""
    torch._dynamo.reset()
    compiled = torch.compile(case.model, fullgraph=True, backend="eager")
    for kind, inputs in case.inputs.items():
        if kind == "loss":
            continue
        assert torch.allclose(outputs(compiled, inputs), outputs(case.model, inputs), atol=1e-5), kind


@pytest.mark.parametrize("name", usually(INDUCTOR))
def test_inductor(name: str, stack: ExitStack) -> None:
    case = build(name, stack)
    torch._dynamo.reset()
    compiled = torch.compile(case.model, fullgraph=True)
    assert torch.allclose(outputs(compiled, case.prompt), outputs(case.model, case.prompt), atol=1e-4)


@pytest.mark.parametrize("case", usually(TRACED), indirect=True)
def test_export(case: Case) -> None:
    """With dynamic batch and lengths, and right at another length; a recurrence, which loops over powers of two, with the batch alone."""
    if case.name in FIXED_LENGTH:
        pytest.xfail(FIXED_LENGTH[case.name])
    dynamic = case.shrunk.program.dynamic[: 1 if case.has(ir.LinearRecurrence) else None]
    symbols = {s: Dim(s.name, min=min(8, int(case.shrunk.under[s])), max=largest(case.shrunk, s)) for s in dynamic}
    shapes = {
        i.name: {k: symbols[s] for k, a in enumerate(i.value.type.axes) for s in symbols if a.size.symbols == {s}}
        for i in case.shrunk.program.inputs
        if i.name in case.prompt
    }
    exported = torch.export.export(case.model, (), case.prompt, dynamic_shapes=shapes, strict=False).module()
    assert torch.allclose(first(exported(**case.prompt)), outputs(case.model, case.prompt), atol=1e-5)
    longer = {n: lengthened(x, shapes[n], dynamic[1:]) for n, x in case.prompt.items()}
    assert torch.allclose(first(exported(**longer)), outputs(case.model, longer), atol=1e-5)


def largest(shrunk: Shrunk, length: Sym) -> int:
    """64, or what the model has room for."""
    rooms = [f.a.value(shrunk.under) for f in shrunk.program.facts if f.kind == "at_least" and f.b == sym(length)]
    return int(min([64, *(r for r in rooms if r is not None)]))


def lengthened(x: Tensor, axes: dict[int, Dim], lengths: tuple[Sym, ...]) -> Tensor:
    """The tensor with its first two entries once more at the end of each axis of a length."""
    for k, dim in axes.items():
        if any(dim.__name__ == s.name for s in lengths):
            x = torch.cat([x, x.narrow(k, 0, 2)], k)
    return x


def test_meta(case: Case) -> None:
    """A model made on the meta device allocates nothing, tells the shapes of what it gives, and is the model once its weights are there."""
    with torch.device("meta"):
        model = case.new()
    assert all(v.is_meta for v in model.state_dict().values())
    if case.name not in SHAPES_OF_DATA:
        found = outputs(model, {n: x.to("meta") for n, x in case.prompt.items()})
        assert found.is_meta and found.shape == outputs(case.model, case.prompt).shape
    model.load_state_dict({n: v.clone() for n, v in case.model.state_dict().items()}, assign=True)
    assert torch.equal(outputs(model, case.prompt), outputs(case.model, case.prompt))


def test_bfloat16(case: Case) -> None:
    model = case.new()
    model.load_state_dict(case.model.state_dict())
    model.to(torch.bfloat16)
    for kind, inputs in case.inputs.items():
        given = {n: x.to(torch.bfloat16) if x.is_floating_point() else x for n, x in inputs.items()}
        got, want = outputs(model, given), outputs(case.model, inputs)
        assert near(got, want, case.tolerance), kind
        assert got.dtype == (torch.float32 if kind == "loss" and got.dim() == 0 else torch.bfloat16), kind


def test_autocast(case: Case) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        got = outputs(case.model, case.prompt)
    assert near(got, outputs(case.model, case.prompt), case.tolerance)
