"""Every argument that a shipped spec gives is live: another value changes parameters, code or outputs, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.compiler.change_fields import change_fields
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.library import shipped_models

LAST = {path: name for name, path in shipped_models().items()}


@pytest.mark.parametrize("name", sorted(LAST.values()))
def test_every_argument_is_live(name: str) -> None:
    diagnostics = Diagnostics()
    found = change_fields(name, [], diagnostics)
    assert found, diagnostics.found
    assert not [str(f) for f in found if f.effect == "inert"]


SPEC = """
component scaled(gain, shown)(x: [..., d]) -> [..., d]:
    return x * gain if shown else x + gain

model small(width = 6, classes = 3)(x: [b, t, width]) -> (logits: [b, t, classes]):
    scaled = scaled(gain = GAIN, shown = true)
    head = linear(classes)
    return head(scaled(x))
"""


def test_what_a_change_does_is_told(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(SPEC.replace("GAIN", "0.5"))
    diagnostics = Diagnostics()
    found = change_fields(str(path), [], diagnostics)
    assert found is not None, diagnostics.found
    effects = {f.path.rpartition(".")[2]: f.effect for f in found}
    assert effects == {"width": "parameters", "classes": "parameters", "gain": "outputs", "shown": "code"}
    assert "line 5" in str(found[0]) and "6 -> 12" in str(found[0])


def test_what_changes_nothing_is_found(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(SPEC.replace("GAIN", "1.0 if 2 > 1 else 3.0"))
    found = change_fields(str(path), [], Diagnostics())
    assert found is not None
    assert [f.was for f in found if f.effect == "inert"] == ["3.0"]
