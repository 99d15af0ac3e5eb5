"""Time grows with the size of a spec and no faster. Calls of functions are counted, which no other load of the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from xfc.backends.numpy import emit as emit_numpy
from xfc.backends.torch import emit as emit_torch
from xfc.compiler.commands.check_program import check_program
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.grammar.cache import cached_load

from .growing import RIGHT, WRONG, YAML

MOST = 1.3
"""How much more the second step of a size may cost than the first, which is as long: 1 is linear, 2 quadratic."""

HEAVY = ("layers", "stacks")


def calls(path: Path, text: str, right: bool) -> int:
    path.write_text(text, encoding="utf-8")
    cached_load(path)  # whether the tree is kept from another run is not counted
    count = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    diagnostics = Diagnostics()
    sys.setprofile(note)
    try:
        checked = check_program(str(path), (), diagnostics)
        if checked is not None:
            for emit in (emit_torch, emit_numpy):
                emit_with_cache(checked.program, emit)
    finally:
        sys.setprofile(None)
    assert right == (checked is not None), [d.message for d in diagnostics.found][:3]
    return count


def growth(make: Callable[[int], str], path: Path, step: int, right: bool) -> float:
    calls(path, make(2), right)  # what is loaded once is loaded
    first, second, third = (calls(path, make(step * k), right) for k in (1, 2, 3))
    return (third - second) / max(second - first, 1000)


@pytest.mark.parametrize("name", RIGHT)
def test_right_specs(name: str, tmp_path: Path) -> None:
    assert growth(RIGHT[name], tmp_path / "a.xf", 5 if name in HEAVY else 12, True) < MOST


@pytest.mark.parametrize("name", WRONG)
def test_wrong_specs(name: str, tmp_path: Path) -> None:
    assert growth(WRONG[name], tmp_path / "a.xf", 20, False) < MOST


@pytest.mark.parametrize("name", YAML)
def test_yaml(name: str, tmp_path: Path) -> None:
    assert growth(YAML[name], tmp_path / "a.yaml", 20, False) < MOST


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_large_specs(name: str, tmp_path: Path) -> None:
    assert growth(RIGHT[name], tmp_path / "a.xf", 150, True) < MOST
