"""docs/zoo.md shows the table of witnesses that `xfc verify` reads, and every row speaks of models that there are.

`python tests/test_zoo_page.py` writes the page's table anew."""

from __future__ import annotations

import re
from pathlib import Path

from xfc.compiler.library import SPECS, shipped_models
from xfc.compiler.witnesses import witnesses, witnesses_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "zoo.md"
_TABLE = re.compile(r"(?<=\| --- \|\n)(\| \[.*\n)+")


def table() -> str:
    cells = ((f"[{w.spec}](../specs/{w.spec})", w.models, w.source, w.witness, w.torch, w.numpy) for w in witnesses())
    return "".join(re.sub(" +", " ", f"| {' | '.join(row)} |") + "\n" for row in cells)


def test_the_page_shows_the_table() -> None:
    found = _TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None and found[0] == table()


def test_every_shipped_file_has_a_witness() -> None:
    assert {w.spec for w in witnesses()} == {path.name for path in SPECS.glob("*.xf")}
    for name, path in shipped_models().items():
        assert witnesses_of(str(path)), name


def test_rows_name_models_and_errors_within_the_limit() -> None:
    for w in witnesses():
        named = set(re.findall(r"[a-z]\w*_?\w*", w.models)) & set(shipped_models())
        assert named or w.models.startswith("the same") or re.search(r"\w+ to \w+|llama2", w.models), w
        assert all(0 < float(e) < 1e-4 for e in (w.torch, w.numpy) if e), w
        for path in re.findall(r"tests/[\w/]+\.py", w.witness):
            assert (ROOT / path).exists(), path


if __name__ == "__main__":
    PAGE.write_text(_TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8"), count=1), encoding="utf-8")
