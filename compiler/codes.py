"""The permanent codes of diagnostics and their titles; docs/diagnostics has a page for each."""

from __future__ import annotations

TITLES: dict[str, str] = {
    "E201": "an axis has two sizes",
    "E202": "a tensor has no such axis",
    "E203": "an axis would occur twice",
    "E204": "a number is needed here",
    "E205": "the pieces of a split do not add up to the axis",
    "E206": "the product of new axes is not the axis",
    "E207": "an index or a range is out of bounds",
    "E208": "only an axis of size one can be squeezed",
    "E209": "more is taken than there is",
    "E210": "a size is not divisible",
    "E211": "a condition must be bool",
    "E212": "an index must be int",
    "E213": "the axes of an attention do not fit",
    "E214": "a mask, score or weights gives the wrong type",
    "E215": "not an order of the tensor's axes",
    "E216": "a size must be known when the model is built",
    "E217": "the rest of the axes cannot be used here",
    "E218": "logits and targets do not fit",
    "E219": "a size is divided by zero",
    "E220": "a window does not fit its axis",
    "E221": "an axis is missing in the values that are scattered",
}
