"""What the compiler says of information flow, against what happens when later entries of an input change."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfc.backends.verify import difference
from xfc.backends.verify_inputs import Inputs
from xfc.compiler import ir
from xfc.compiler.passes.prove_causality import Flow, Verdict

from .executions import TOLERANCE, Disagreement, Executions

Array = NDArray[Any]


class Foresight:
    """Each verdict of the flow on one execution: what is proved holds wherever it is tried."""

    def __init__(self, run: Executions, flow: Flow) -> None:
        self.run, self.flow = run, flow
        self.rng = np.random.default_rng(run.seed)
        self.items = {i.name: i for i in run.program.inputs}

    def checks(self) -> list[str]:
        found = set()
        for verdict in (*self.flow.verdicts, *self.flow.further):
            outcome = self.tried(verdict)
            if verdict.answer == "proved" and outcome == "moved":
                raise Disagreement(f"{verdict.output} is proved not to see later {verdict.input}, and does, lengths {self.run.under}")
            if outcome:
                found.add(f"{verdict.answer}, {outcome}")
        return sorted(found)

    def tried(self, verdict: Verdict) -> str:
        """Whether the output moved at positions before those where the input was changed; nothing if that cannot be tried."""
        item = self.items[verdict.input]
        place = along(item)
        inputs = {**self.run.sets["forward"]}
        array = inputs.get(verdict.input)
        if array is None:
            array = self.run.input(item)
            inputs[verdict.input] = array
        length = array.shape[place]
        axis = self.output_axis(verdict.output, item, place)
        if length < 2 or axis is None:
            return ""
        before = self.run.interpret(inputs)[verdict.output]
        cuts = [int(self.rng.integers(1, length))] if verdict.answer == "proved" else range(length - 1, 0, -1)
        for cut in cuts:
            after = self.run.interpret(self.changed(item, inputs, place, cut))[verdict.output]
            kept = (slice(None),) * axis + (slice(0, cut),)
            if not difference(after[kept], before[kept]) <= TOLERANCE:
                return "moved"
        return "unmoved"

    def output_axis(self, name: str, item: ir.ModelInput, place: int) -> int | None:
        names = self.run.program.root.output_names or ("output",)
        kind = dict(zip(names, self.run.program.root.outputs, strict=True))[name].type
        size, label = item.value.type.axes[place].size, item.value.type.axes[place].label
        fits = [k for k, a in enumerate(kind.axes) if a.size == size]
        return next((k for k in fits if kind.axes[k].label is label), fits[0] if fits else None)

    def changed(self, item: ir.ModelInput, inputs: Inputs, place: int, cut: int) -> dict[str, Array]:
        """Every entry from there on is another."""
        array = np.moveaxis(inputs[item.name].copy(), place, -1)
        later = array[..., cut:]
        if array.dtype.kind != "i":
            array[..., cut:] = ~later if array.dtype.kind == "b" else later + self.rng.normal(size=later.shape)
            return {**inputs, item.name: np.moveaxis(array, -1, place)}
        most = 2 if item.bound is None else int(item.bound.value(self.run.under) or 1)
        array[..., cut:] = (later + self.rng.integers(1, max(most, 2), later.shape)) % most
        return {**inputs, item.name: np.moveaxis(array, -1, place)}


def along(item: ir.ModelInput) -> int:
    """The axis that positions run along: the last dynamic one; where only the batch is dynamic, the last."""
    dynamic = [k for k, a in enumerate(item.value.type.axes) if a.size.is_dynamic]
    return dynamic[-1] if len(dynamic) > 1 else len(item.value.type.axes) - 1
