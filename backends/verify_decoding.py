"""A call at a time, with a cache, against all at once: on the interpreter and on both modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..compiler import ir
from ..compiler.ir import Program
from .verify_inputs import Inputs
from .verify_modules import Array

Step = Callable[[Inputs], Mapping[str, Array]]


def lengths_of(total: int) -> list[list[int]]:
    """A prompt, then single tokens; a prompt, then chunks of three."""
    cut, rest = total // 2, total - min(5, total - 1)
    return [[cut, *[1] * (total - cut)], [n for n in (total - rest, *[3] * (rest // 3), rest % 3) if n]]


def calls_of(step: Program, inputs: Inputs, lengths: Sequence[int], *, repeats: bool) -> list[Inputs]:
    """The inputs of calls of some lengths; what does not run along the tokens comes with the first, or with each."""
    found: list[Inputs] = []
    start = 0
    for length in lengths:
        part: Inputs = {}
        for item in step.inputs:
            at = _axis(item.value, step)
            if item.name in inputs and (at is not None or repeats or not found):
                array = inputs[item.name]
                part[item.name] = array if at is None else np.take(array, range(start, start + length), axis=at)
        found.append(part)
        start += length
    return found


def joined(step: Program, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The decoded outputs of all calls, side by side."""
    assert step.decoding is not None
    found: dict[str, Array] = {}
    for k in step.decoding.outputs:
        name = step.root.output_names[k] if step.root.output_names else ""
        axis = _axis(step.root.outputs[k], step)
        assert axis is not None
        found[name or "output"] = np.concatenate([p[name or "output"] for p in parts], axis=axis)
    return found


def _axis(value: ir.Value, step: Program) -> int | None:
    assert step.decoding is not None
    return next((k for k, a in enumerate(value.type.axes) if step.decoding.rows in a.size.symbols), None)
