"""Every shipped model whose causality is proved: a call at a time equals all at once, three ways; the others say why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.verify import TOLERANCE, difference
from xfc.backends.verify_decoding import Step, calls_of, joined
from xfc.backends.verify_inputs import Inputs, input_sets
from xfc.backends.verify_modules import Arrays, NumpyModule, TorchModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.backends.verify_shrink import _holds as holds
from xfc.compiler import ir
from xfc.compiler.library import shipped_models
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.passes.prove_causality import prove
from xfc.compiler.pipeline import run

from ..decoding import DECODED, chunks, derived, elaborated

SIZES = (1, 3, 7)
PROVED_BUT_REFUSED = {
    "decision_transformer_hopper": "`unflatten` of `n`",
    "compressive_transformer": "the state `past`",
    "memorizing_transformer": "the state `keys`",
    "transformer_xl_enwik8": "the state `past`",
    "transformer_xl_enwik8_large": "the state `past`",
}


def window_of(step: ir.Program, chosen: Shrunk) -> int:
    """How far back the rings of a small model look; some length for a model without."""
    found = (n.window for m in ir.walk(step.root) for n in m.body if isinstance(n, ir.Keep))
    return max((int(w.value(chosen.under) or 0) for w in found if w is not None), default=4)


def lengthened(chosen: Shrunk) -> Shrunk:
    """The small model on a sequence longer than any window."""
    step = derived(chosen.program)
    assert step.decoding is not None
    rows, least = step.decoding.rows, window_of(step, chosen) + 10
    order = chosen.program.dynamic
    for total in range(max(least, int(chosen.under[rows])), least + 100):
        under = {**chosen.under, rows: total}
        if all(holds(f, under, order) for f in chosen.program.facts):
            return replace(chosen, under=under)
    raise AssertionError("no such sequence")


class Model:
    """A small model three ways, with one set of weights."""

    def __init__(self, program: ir.Program) -> None:
        self.chosen = lengthened(shrink(program))
        self.step = derived(self.chosen.program)
        assert self.step.decoding is not None
        self.under = {s: v for s, v in self.chosen.under.items() if s.value is not None}
        rows = self.step.decoding.rows
        self.window = window_of(self.step, self.chosen)
        self.total = int(self.chosen.under[rows])
        self.params = interpreter.initial_params(self.chosen.program, 0, np.float64, self.under)
        self.sets = {n: i for n, i in input_sets(self.chosen.program, self.chosen.under, 0).items() if n != "loss"}
        self.emitted = run(self.step)
        self.names = tuple(n or "output" for n in self.emitted.root.output_names) or ("output",)

    def prompts(self) -> list[int]:
        """One token; a window, or some; more than any window."""
        return [1, self.window, self.window + 3]

    def given(self, inputs: Inputs, dtype: str) -> Inputs:
        """The inputs that a module has, in its dtype."""
        there = {i.name for i in self.emitted.inputs}
        return {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in inputs.items() if n in there}

    def check(self, want: Arrays, inputs: Inputs, step: Step, lengths: list[int], dtype: str, repeats: bool) -> None:
        parts = [step(p) for p in calls_of(self.step, self.given(inputs, dtype), lengths, repeats=repeats)]
        for name, array in joined(self.step, parts).items():
            error = difference(array, want[name])
            if dtype == "float32" and error > TOLERANCE[dtype]:  # some are off by more in themselves, at such small widths
                assert error < 4 * self.rounding(inputs, name), f"{name} in {dtype}, calls of {lengths}: {error}"
            else:
                assert error < TOLERANCE[dtype], f"{name} in {dtype}, calls of {lengths}: {error}"

    def rounding(self, inputs: Inputs, name: str) -> float:
        """How far the definition in float32 is from that in float64."""
        exact, rounded = (
            interpreter.run(self.chosen.program, self.params, inputs, under=self.under, dtype=d)[name] for d in ("float64", "float32")
        )
        return difference(rounded, exact)

    def cases(self) -> list[tuple[Inputs, int, int]]:
        """All prompts and chunks with the inputs that are required; one of each kind for the others."""
        first, *others = self.sets.values()
        pairs = [(p, s) for p in self.prompts() for s in SIZES]
        return [*((first, *pair) for pair in pairs), *((inputs, *pairs[4]) for inputs in others)]

    def compare(self) -> None:
        program = self.chosen.program
        params = self.params
        wants = {id(i): interpreter.run(program, params, i, under=self.under) for i in self.sets.values()}
        for inputs, prompt, size in self.cases()[4:5]:
            held = interpreter.init_cache(self.step)
            step = lambda i: interpreter.run(self.step, params, i, under=self.under, cache=held)  # noqa: B023, E731
            self.check(wants[id(inputs)], inputs, step, chunks(self.total, prompt, size), "float64", False)
        batch = next(iter(self.sets["required inputs"].values())).shape[0]
        config = self.chosen.config()
        with loaded(torch_backend.emit(self.emitted), "every_torch") as module, torch.no_grad():
            for dtype in TOLERANCE:
                model = TorchModule.build(module, config, dtype, self.names)
                model.load(params)
                for inputs, prompt, size in self.cases():
                    held = model.cache(batch, self.total)
                    step = lambda i: model(i, cache=held)  # noqa: B023, E731
                    want = wants[id(inputs)] if dtype == "float64" else model(self.given(inputs, dtype))
                    self.check(want, inputs, step, chunks(self.total, prompt, size), dtype, False)
        with loaded(numpy_backend.emit(self.emitted), "every_numpy") as module:
            own = module.Config(**{n: v for n, v in config.items() if n in module.Config.__dataclass_fields__})
            stored = {name: params[name].reshape(shape) for name, shape in module.shapes(own).items()}
            plain = NumpyModule(module, stored, own, "float64", self.names)
            for inputs, prompt, size in self.cases():
                held = plain.cache(batch, self.total)
                step = lambda i: plain(i, cache=held)  # noqa: B023, E731
                self.check(wants[id(inputs)], inputs, step, chunks(self.total, prompt, size), "float64", True)


def refused(program: ir.Program, name: str) -> bool:
    """Whether there is no cache, for the reason there should be."""
    flow = prove(program)
    found = derive_decoding(program, flow)
    if not isinstance(found, Refusal):
        return False
    assert found.span.source.text[found.span.start : found.span.end]
    if flow.causal and flow.assumed is None and all(v.answer == "proved" for v in flow.verdicts):
        assert PROVED_BUT_REFUSED[name] in found.what
    return True


QUICK = ("gru_lm",)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(shipped_models())])
def test_step_equals_forward(name: str) -> None:
    """Prompts of one token, a window, and longer; then one, three and seven tokens at a time."""
    program = elaborated(name)
    elaborated.cache_clear()
    if not refused(program, name):
        Model(program).compare()
    else:
        assert name not in DECODED
