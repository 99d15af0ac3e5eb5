"""Results that are kept: used again while nothing changed, made anew where anything did, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xfc.compiler.commands.remembered import remembered
from xfc.compiler.diagnostics import Diagnostics


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return f"result {self.asked}"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "m.xf"
    path.write_text("model m = causal_lm:\n    vocab = 7\n")
    return path


def test_it_is_made_once(spec: Path) -> None:
    make = Maker()
    assert [remembered(("compile", "torch"), str(spec), Diagnostics(), make) for _ in range(3)] == ["result 1"] * 3


def test_other_words_another_text_or_path_make_it_anew(spec: Path) -> None:
    make = Maker()
    remembered(("compile", "torch"), str(spec), Diagnostics(), make)
    assert remembered(("compile", "numpy"), str(spec), Diagnostics(), make) == "result 2"
    spec.write_text("model m = causal_lm:\n    vocab = 8\n")
    assert remembered(("compile", "torch"), str(spec), Diagnostics(), make) == "result 3"
    moved = spec.rename(spec.with_name("n.xf"))
    assert remembered(("compile", "torch"), str(moved), Diagnostics(), make) == "result 4"


@pytest.mark.parametrize("text", ['import "other.xf"\n\nmodel m = causal_lm:\n', "model: m\ntype: causal_lm\nimport: other.xf\n"])
def test_what_imports_is_not_kept(spec: Path, text: str) -> None:
    spec.write_text(text)
    make = Maker()
    assert [remembered((), str(spec), Diagnostics(), make) for _ in range(2)] == ["result 1", "result 2"]


def test_what_was_said_with_a_diagnostic_is_not_kept(spec: Path) -> None:
    make, diagnostics = Maker(), Diagnostics()
    diagnostics.error("E306", "wrong", None)
    assert [remembered((), str(spec), diagnostics, make) for _ in range(2)] == ["result 1", "result 2"]


def test_a_damaged_or_unwritable_cache_is_as_good_as_none(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    remembered((), str(spec), Diagnostics(), make)
    for file in (spec.parent / "cache" / "xfc" / "results").iterdir():
        file.write_bytes(b"\x80nonsense")
    assert remembered((), str(spec), Diagnostics(), make) == "result 2"
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert remembered((), str(spec), Diagnostics(), make) == "result 3"
