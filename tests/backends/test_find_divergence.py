"""A fault put into a lowering is named: the operation, its line in the spec, its place, and by how much it is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.backends.numpy import pointwise as numpy_pointwise
from xfc.backends.torch import pointwise as torch_pointwise
from xfc.backends.verify import verify
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file

SPEC = """
component block(gain)(x: [..., d]) -> [..., d]:
    inner = linear(d)
    y = sigmoid(inner(x)) * gain
    return x + cos(y)

model small(width = 6)(x: [b, t, width]) -> (out: [b, t, width]):
    first = linear(width)
    layers = 3 of block(gain = 0.5)
    return layers(tanh(first(x))) * 2
"""


def report(tmp_path: Path):  # type: ignore[no-untyped-def]
    path = tmp_path / "small.xf"
    path.write_text(SPEC)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    return verify(program, dtype="float64")


def test_what_agrees_parts_nowhere(tmp_path: Path) -> None:
    assert report(tmp_path).ok and not report(tmp_path).parted


def test_a_fault_in_a_layer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch_pointwise.apply_function
    monkeypatch.setattr(torch_pointwise, "apply_function", lambda f, args, operands: right("sin" if f == "cos" else f, args, operands))
    found = report(tmp_path)
    assert not found.ok
    (told,) = found.parted
    assert told.startswith("torch parts at `cos` in layers.0, ") and "small.xf:5, by " in told and told.endswith("return x + cos(y)")


def test_a_fault_in_the_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = numpy_pointwise.apply_function
    monkeypatch.setattr(numpy_pointwise, "apply_function", lambda f, args, operands: right("abs" if f == "tanh" else f, args, operands))
    found = report(tmp_path)
    (told,) = found.parted
    assert told.startswith("numpy parts at `tanh`, ") and "small.xf:10" in told
    assert found.document()["parted"] == [told] and f"  first: {told}" in found.lines()
