"""Renaming everything that std and the zoo name changes nothing but names in the generated code."""

from __future__ import annotations

import io
import keyword
import tokenize
from pathlib import Path

import pytest

from xfc.compiler import library
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run

from ..renaming import Renamer, rename_library

SPECS = library.SPECS


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Renamer]:
    folder = tmp_path_factory.mktemp("specs")
    plain, renamed = folder / "plain", folder / "renamed"
    return plain, renamed, rename_library(SPECS, plain, renamed)


def generate(folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, target: str) -> str:
    from importlib import import_module

    monkeypatch.setattr(library, "SPECS", folder)
    library.shipped.cache_clear()
    diagnostics = Diagnostics()
    program = elaborate_file(model, [], diagnostics)
    assert program is not None, diagnostics.found
    text: str = import_module(f"xfc.backends.{target}").emit(run(program))
    library.shipped.cache_clear()
    return text


def words(text: str) -> list[str]:
    kept = (tokenize.NAME, tokenize.OP, tokenize.NUMBER)
    return [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type in kept]


def models() -> list[str]:
    return sorted(library.shipped_models())


@pytest.mark.parametrize("target", ["torch", "numpy"])
@pytest.mark.parametrize("model", models())
def test_renamed(model: str, target: str, libraries: tuple[Path, Path, Renamer], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, renamed, renamer = libraries
    before = words(generate(plain, model, monkeypatch, target))
    after = words(generate(renamed, renamer.name(model), monkeypatch, target))
    assert len(before) == len(after)
    forth: dict[str, str] = {}
    back: dict[str, str] = {}
    for old, new in zip(before, after, strict=True):
        if not old.isidentifier() or keyword.iskeyword(old):
            assert old == new
        else:
            assert forth.setdefault(old, new) == new, f"{old} became {new} and {forth[old]}"
            assert back.setdefault(new, old) == old, f"{new} stands for {old} and {back[new]}"
