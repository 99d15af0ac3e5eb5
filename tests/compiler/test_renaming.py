"""Renaming everything that std and the zoo name changes nothing but names in the generated code."""

from __future__ import annotations

import ast
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


def scopes(text: str) -> dict[int, str]:
    """The function that each line stands in, or the class, by name."""
    found: dict[int, str] = {}

    def visit(node: ast.AST, path: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                below = f"{path}/{child.lineno}"
                for line in range(child.lineno, (child.end_lineno or 0) + 1):
                    found[line] = below
                visit(child, below)

    visit(ast.parse(text), "")
    return found


def words(text: str) -> list[tuple[str, str]]:
    """Tokens, without line breaks inside statements, each with the scope that its name belongs to: a name after a dot is an attribute's."""
    text = ast.unparse(ast.parse(text))
    inside = scopes(text)
    kept = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
    found: list[tuple[str, str]] = []
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kept:
            scope = inside.get(token.start[0], "") + ("." if before == "." else "")
            found.append((scope, '""' if token.type == tokenize.STRING else token.string))
            before = token.string
    return found


def models() -> list[str]:
    """One of each file."""
    return sorted({path: name for name, path in sorted(library.shipped_models().items(), reverse=True)}.values())


@pytest.mark.parametrize("target", ["torch", "numpy"])
@pytest.mark.parametrize("model", models())
def test_renamed(model: str, target: str, libraries: tuple[Path, Path, Renamer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Token by token; in each function names correspond one to one."""
    plain, renamed, renamer = libraries
    before = words(generate(plain, model, monkeypatch, target))
    after = words(generate(renamed, renamer.name(model), monkeypatch, target))
    forth: dict[tuple[str, str], str] = {}
    back: dict[tuple[str, str], str] = {}
    for (scope, old), (there, new) in zip(before, after, strict=False):
        assert scope == there
        if not old.isidentifier() or keyword.iskeyword(old):
            assert old == new
        else:
            assert forth.setdefault((scope, old), new) == new, f"{old} became {new} and {forth[scope, old]}"
            assert back.setdefault((scope, new), old) == old, f"{new} stands for {old} and {back[scope, new]}"
    assert len(before) == len(after)
