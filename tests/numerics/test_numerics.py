"""Numerics of generated modules: masked rows, padding, large and small numbers, long texts, half precision; bounds are stated here.

Errors are the largest difference from the interpreter in float64, relative to the largest output. Every module is a shipped one made small
as `xfc verify` does, with normal weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.python.name_parameters import generated_names
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import NumpyModule, TorchModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink, unshrunk
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.library import shipped_models
from xfc.compiler.pipeline import run

Arrays = Mapping[str, NDArray[Any]]
BOUNDS = {
    "float64": 1e-10,
    "float32": 1e-5,
    "float16": 1e-2,
    "bfloat16": 6e-2,
    "autocast to float16": 6e-2,
    "autocast to bfloat16": 6e-2,
}
"""Relative to the largest output. float16 rounds each activation to 2^-11, bfloat16 to 2^-8, over some tens of operations of small models."""

LAST = sorted({path: name for name, path in shipped_models().items()}.values())
"""A model of each file."""
HALVES = [
    "gpt_oss_20b",
    "t5_small",
    "longformer_base",
    "performer_causal",
    "native_sparse_attention",
    "memorizing_transformer",
    "mamba2_2_7b",
    "swin_base",
]
PADDED = [
    "bert_base",
    "gemma2_2b",
    "t5_small",
    "bloom_560m",
    "deberta_base",
    "gpt_oss_20b",
    "longformer_base",
    "bamba_9b",
    "performer_causal",
    "gps_base",
    "rnn_search",
    "esm2_t6_8m",
    "memorizing_transformer",
]
LABELLED = ["gpt2", "bert_base", "opus_mt_en_de", "vit_base"]
LARGE = ["llama2_7b", "gemma2_2b", "bert_base", "t5_small", "performer", "swin_base"]
"""Those of the everyday suite; `-m slow` takes a model of every file."""


def models(often: list[str]) -> list[object]:
    return [*often, *(pytest.param(name, marks=pytest.mark.slow) for name in LAST if name not in often)]


@dataclass(frozen=True, slots=True)
class Case:
    """A small model: the PyTorch module with its weights in float64, the NumPy module, and the interpreter's parameters."""

    chosen: Shrunk
    model: TorchModule
    numpy: NumpyModule
    params: Arrays
    kept: frozenset[str]

    @property
    def under(self) -> dict[Any, Any]:
        return {s: v for s, v in self.chosen.under.items() if s.value is not None}

    def start(self, dtype: torch.dtype) -> None:
        """The weights as they were, in a type, and no gradients."""
        self.model.to("float64")
        self.model.load(self.params)
        self.model.model.to(dtype).zero_grad()

    def exact(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        found = interpreter.run(self.chosen.program, self.params, dict(inputs), dtype="float64", under=self.under)
        return {n: a for n, a in found.items() if n != "loss" and not n.startswith("loss.")}

    def given(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Without the inputs that reach nothing and went."""
        return {n: a for n, a in inputs.items() if n in self.kept}

    def inputs(self, seed: int = 0) -> dict[str, dict[str, NDArray[Any]]]:
        return input_sets(self.chosen.program, self.chosen.under, seed)


def made(name: str, stack: ExitStack) -> Case:
    diagnostics = Diagnostics()
    program = elaborate_file(name, [], diagnostics)
    assert program is not None, diagnostics.found
    chosen = shrink(program) if name in shipped_models() else unshrunk(program)
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    emitted = run(chosen.program)
    keys = {
        a.name: b.name for a, b in zip(interpreter.places(emitted, under), interpreter.places(generated_names(emitted), under), strict=True)
    }
    outputs = tuple(n or "output" for n in emitted.root.output_names) or ("output",)
    config = chosen.config()
    modules: list[ModuleType] = [
        stack.enter_context(loaded(emit_with_cache(chosen.program, b.emit)[0], f"numerics_{name.rpartition('/')[2].partition('.')[0]}_{k}")) for k, b in enumerate((torch_backend, numpy_backend))
    ]  # fmt: skip
    model = TorchModule.build(modules[0], config, "float64", outputs, keys)
    params = interpreter.initial_params(chosen.program, 0, "float64", under)
    rng = np.random.default_rng(1)
    for place in interpreter.places(chosen.program, under):  # so that what starts at 0 or 1 shows
        if place.param.trainable:
            params[place.name] = params[place.name] + rng.normal(scale=0.05, size=params[place.name].shape)
    model.load(params)
    fields = {n: v for n, v in config.items() if n in getattr(modules[1].Config, "__dataclass_fields__", {})}
    return Case(
        chosen,
        model,
        NumpyModule(modules[1], model.state(), modules[1].Config(**fields), "float64", outputs),
        params,
        frozenset(i.name for i in emitted.inputs),
    )


class _Cases(dict[str, Case]):
    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self.stack = stack

    def __missing__(self, name: str) -> Case:
        self[name] = made(name, self.stack)
        return self[name]


@pytest.fixture(scope="module")
def cases() -> Iterator[_Cases]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other
    with ExitStack() as stack:
        yield _Cases(stack)
    torch.set_num_threads(threads)


def error(got: Arrays, want: Arrays) -> float:
    """The largest difference, relative to the largest number (at least 1e-3); infinite where something is not finite."""
    worst = 0.0
    for name, array in want.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        mine = np.asarray(got[name], dtype=np.float64)
        if not np.isfinite(mine).all():
            return math.inf
        worst = max(worst, float(np.abs(mine - array).max() / max(1e-3, float(np.abs(array).max()))))
    return worst


# ---------------------------------------------------------------- half precision

STEEP = {
    "bamba_9b": "a norm of groups of numbers that are small before training makes errors as large as they are small",
    "jamba_v0_1": "experts, behind recurrences",
    "gemma3_27b": "a norm on each side of every layer, and scores scaled by the width of a head of the full model",
    "deberta_v3_large": "buckets of distances, by a logarithm that float64 rounds otherwise",
    "reformer_rotary": "buckets of hashes",
    "t5_v1_1_base": "scores that nothing scales",
}
"""Models that are held to be finite only, in less than float64."""
TIED = ("depths_lm", "expert_choice_lm")
"""Models that choose tokens: of equal scores, which all padding has and saturated ones, any may come first, so that they are held to be finite."""


def chooses(program: ir.Program) -> bool:
    """Whether it makes of two almost equal numbers two different things: rounding then chooses other experts, tokens or places."""
    nodes = [n for m in ir.walk(program.root) for n in m.body]
    return any(isinstance(n, ir.Top) or (isinstance(n, ir.Along) and n.function == "argsort") for n in nodes)


def outputs(case: Case, inputs: Arrays, dtype: torch.dtype, *, autocast: bool = False) -> dict[str, torch.Tensor]:
    """Of the PyTorch module with its weights in a type, or in float32 under autocast to it."""
    case.start(torch.float32 if autocast else dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        result = case.model.model(**case.model.tensors(inputs))
    fields = result._asdict() if hasattr(result, "_asdict") else {case.model.names[0]: result}
    return {name: value for name, value in fields.items() if value is not None}


def arrays(found: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: value.detach().double().numpy() for name, value in found.items()}


@pytest.mark.parametrize("name", models(HALVES))
def test_less_precision_is_as_far_off_as_it_rounds(name: str, cases: _Cases) -> None:
    case = cases[name]
    inputs = case.inputs()["required inputs"]
    want = case.exact(inputs)
    exact = [error(case.numpy(case.given(inputs)), want), error(arrays(outputs(case, inputs, torch.float64)), want)]
    assert max(exact) < BOUNDS["float64"]
    free, chosen = name in STEEP, chooses(case.chosen.program)
    for what, dtype, autocast in (
        ("float32", torch.float32, False),
        ("float16", torch.float16, False),
        ("bfloat16", torch.bfloat16, False),
        ("autocast to float16", torch.float16, True),
        ("autocast to bfloat16", torch.bfloat16, True),
    ):
        off = error(arrays(outputs(case, inputs, dtype, autocast=autocast)), want)
        held = not free and (what == "float32" or not chosen)
        assert off < (BOUNDS[what] if held else math.inf), what


# ---------------------------------------------------------------- padding


def masked(case: Case) -> list[dict[str, NDArray[Any]]]:
    """The inputs with a last row of nothing but padding, and with rows that begin with padding."""
    sets = case.inputs()
    given = sets.get("padded inputs")
    if given is None:  # a model that knows no padding
        return []
    masks = [name for name in given if name not in sets["required inputs"]]
    nothing, left = dict(given), dict(given)
    for name in masks:
        nothing[name] = given[name].copy()
        nothing[name][-1] = 0
        left[name] = np.ones_like(given[name])
        left[name][..., : max(1, given[name].shape[-1] // 3)] = 0
    return [nothing, left]


@pytest.mark.parametrize("name", models(PADDED))
def test_padding_gives_no_nan(name: str, cases: _Cases) -> None:
    """Forward and backward, in each type; in float64 as the definition says."""
    case = cases[name]
    for inputs in masked(case):
        want = case.exact(inputs)
        exact = math.inf if name in TIED else BOUNDS["float64"]
        off = error(case.numpy(case.given(inputs)), want)
        assert off < exact
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            found = outputs(case, inputs, dtype)
            off = error(arrays(found), want)
            assert off < (exact if dtype is torch.float64 else math.inf), dtype
            torch.stack([v.float().mean() for v in found.values() if v.is_floating_point()]).sum().backward()
            bad = [n for n, p in case.model.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            assert not bad, (dtype, bad)


@pytest.mark.parametrize("name", LABELLED)
def test_targets_that_are_all_ignored_give_zero(name: str, cases: _Cases) -> None:
    case = cases[name]
    inputs = case.inputs()["loss"] | {"labels": np.full_like(case.inputs()["loss"]["labels"], -100)}
    case.start(torch.float32)
    loss = case.model.model(**case.model.tensors(inputs))
    told = float(loss.detach()), float(np.asarray(case.numpy.forward(case.numpy.params, **inputs, config=case.numpy.config)))
    assert told == (0, 0)
    loss.backward()
    moved = [n for n, p in case.model.model.named_parameters() if p.grad is not None and p.grad.any()]
    assert not moved


def test_a_batch_without_rows(cases: _Cases) -> None:
    for name in ("llama2_7b", "bert_base", "t5_small", "mixtral_8x7b", "mamba2_130m"):
        case = cases[name]
        inputs = {n: a[:0] for n, a in case.inputs()["required inputs"].items()}
        for found in (arrays(outputs(case, inputs, torch.float32)), case.numpy(inputs)):
            assert all(a.shape[0] == 0 for a in found.values())


# ---------------------------------------------------------------- large and small numbers


@pytest.mark.parametrize("name", models(LARGE))
def test_large_scores_saturate(name: str, cases: _Cases) -> None:
    """Matrices 60 times as large: scores of some thousands, of which a softmax makes 0 and 1."""
    case = cases[name]
    case = Case(case.chosen, case.model, case.numpy, {n: a * 60 if a.ndim > 1 else a for n, a in case.params.items()}, case.kept)
    inputs = case.inputs()["required inputs"]
    want = case.exact(inputs)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        case.start(dtype)
        result = case.model.model(**case.model.tensors(inputs))
        found = result._asdict() if hasattr(result, "_asdict") else {case.model.names[0]: result}
        off = error(arrays(found), want)
        assert off < (1e-8 if dtype is torch.float64 and name not in TIED else math.inf), (dtype, off)
        torch.stack([v.float().mean() for v in found.values() if v.is_floating_point()]).sum().backward()
        bad = [n for n, p in case.model.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        assert not bad, dtype


PIECES = """
model pieces(classes = 7)(x: [b, classes], target: [b] int = none) -> (
    soft: [b, classes], log: [b, classes], total: [b], rms: [b, classes], layer: [b, classes], plus: [b, classes], gated: [b, classes]
):
    rms = rms_norm()
    layer = layer_norm()
    loss class = cross_entropy(x, target, over = classes)
    return softmax(x, classes), log_softmax(x, classes), logsumexp(x, classes), rms(x), layer(x), softplus(x), silu(x)
"""


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-4, 1.0, 3e4, 1e15])
def test_operations_on_large_and_small_numbers(size: float, tmp_path: Path) -> None:
    """In float32 within 1e-5 of float64 for all sizes; in half precision finite for what it can hold."""
    (tmp_path / "pieces.xf").write_text(PIECES)
    with ExitStack() as stack:
        case = made(str(tmp_path / "pieces.xf"), stack)
        x = np.random.default_rng(0).normal(size=(5, 7)) * size
        want = case.exact({"x": x.astype(np.float32)})
        for dtype in (torch.float32, torch.bfloat16, *([torch.float16] if size <= 1 else [])):
            found = arrays(outputs(case, {"x": x}, dtype))
            off = error(found, want)
            assert off < (1e-5 if dtype is torch.float32 else math.inf if size > 1 else 6e-2), dtype
        model, target = case.model.model.float(), torch.tensor([0, 1, -100, 3, 6])
        given = torch.from_numpy(x).float().requires_grad_()
        loss = model(given, target=target)
        loss.backward()
        exact = torch.from_numpy(x.astype(np.float32)).double().requires_grad_()
        wanted = torch.nn.functional.cross_entropy(exact, target)
        wanted.backward()
        torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-6)
        assert given.grad is not None and exact.grad is not None
        torch.testing.assert_close(given.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- long texts


@pytest.mark.parametrize("name", ["llama2_7b", "mistral_7b", "bloom_560m", pytest.param("mamba2_130m", marks=pytest.mark.slow)])
def test_long_texts(name: str, cases: _Cases) -> None:
    """A thousand tokens, many times what the small model's windows span: float32 within 1e-4 of float64."""
    case = cases[name]
    under = {s: (1024 if s.name == "t" else 1 if s.name == "b" else v) for s, v in case.chosen.under.items()}
    long = Case(Shrunk(case.chosen.program, under), case.model, case.numpy, case.params, case.kept)
    inputs = long.inputs()["required inputs"]
    assert next(iter(inputs.values())).shape[-1] == 1024
    off = error(arrays(outputs(long, inputs, torch.float32)), long.exact(inputs))
    assert off < 1e-4


# ---------------------------------------------------------------- seeds


def test_a_seed_gives_the_same_bytes(cases: _Cases) -> None:
    """Weights, and a step of training with dropout."""
    case = cases["gpt2"]
    kind, inputs = type(case.model.model), case.model.tensors(case.inputs()["loss"])

    def step(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        model = kind(case.model.model.config).train()
        model(**inputs).backward()
        return [t for p in model.parameters() for t in (p.detach(), p.grad) if t is not None]

    first, again, other = step(3), step(3), step(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
