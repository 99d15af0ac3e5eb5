"""Every code has a row and a page, and every example of a page is true: the wrong one gives exactly that code, the right one is clean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from xfc.compiler.codes import TITLES
from xfc.compiler.commands.check_program import check_program
from xfc.compiler.commands.reporting import guarded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.import_config import import_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path for path in sorted((ROOT / "docs" / "diagnostics").glob("E*.md"))}
_EXAMPLE = re.compile(r"^## (Wrong|Right)\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    code: str
    right: bool
    language: str
    text: str


def examples() -> list[Example]:
    return [
        Example(code, kind == "Right", language, text)
        for code, path in PAGES.items()
        for kind, language, text in _EXAMPLE.findall(path.read_text(encoding="utf-8"))
    ]


EXAMPLES = examples()
RUN = [e for e in EXAMPLES if e.language in ("xf", "yaml", "json")]


def used_codes() -> dict[str, str]:
    """Every code that the source speaks of, with a file that does."""
    found: dict[str, str] = {}
    for folder in ("grammar", "compiler", "backends"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for code in re.findall(r"\"(E\d{3})\"", path.read_text(encoding="utf-8")):
                found.setdefault(code, path.relative_to(ROOT).as_posix())
    return found


def test_every_code_has_a_row() -> None:
    assert {code: where for code, where in used_codes().items() if code not in TITLES} == {}


def test_every_row_has_a_page() -> None:
    assert sorted(PAGES) == sorted(TITLES)


@pytest.mark.parametrize("code", PAGES)
def test_page_has_its_parts(code: str) -> None:
    text = PAGES[code].read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: {TITLES.get(code)}\n\n")
    assert [e.right for e in EXAMPLES if e.code == code] == [False, True]


@pytest.mark.parametrize("example", RUN, ids=lambda e: f"{e.code}-{'right' if e.right else 'wrong'}")
def test_examples_are_true(example: Example, tmp_path: Path) -> None:
    path = tmp_path / f"spec.{example.language}"
    path.write_text(example.text, encoding="utf-8")
    diagnostics = Diagnostics()
    with guarded(diagnostics):
        if example.language == "json":
            import_config(str(path), diagnostics)
        else:
            check_program(str(path), [], diagnostics)
    assert {d.code for d in diagnostics.found} == (set() if example.right else {example.code})
