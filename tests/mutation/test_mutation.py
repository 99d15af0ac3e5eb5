"""A fault is drawn, put in, found by the test that comes by, and taken out again. `python -m tests.mutation.run` does it for hundreds."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest

from . import faults
from .run import Reached, Suite, Worker, record

PLAIN = '''"""One of the files that are made faulty."""


def middle(a: int, b: int) -> int:
    assert a < 100
    if a > b:
        raise ValueError("wrong" + str(a))
    return a + b // 2
'''
TESTS = """
from compiler.dims import middle

def test_alike():
    assert middle(0, 0) == 0

def test_apart():
    assert middle(2, 6) == 5
    assert middle(3, 3) == 4

def test_fails_anyway():
    assert middle(1, 1) == 0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name, text in {"compiler/dims.py": PLAIN, "tests/test_middle.py": TESTS, "pyproject.toml": ""}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    return tree


def test_the_same_seed_draws_the_same_faults(root: Path) -> None:
    drawn = faults.draw(root, 1, 4)
    assert drawn == faults.draw(root, 1, 4) and len({(f.line, f.column) for f in drawn}) == 4
    assert {f.line for f in drawn} <= {6, 8}, "an assert or a message is no fault"
    for fault in drawn:
        before, after = ("\n".join(lines) for lines in (fault.before, fault.after))
        assert before in PLAIN and faults.source(root, fault) == PLAIN.replace(before, after) != PLAIN


def test_marks_stand_before_their_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[int] = []
    monkeypatch.setattr(builtins, "REACHED", reached.append, raising=False)
    numbers: dict[str, int] = {}
    text = faults.marked(PLAIN, lambda name: numbers.setdefault(name, len(numbers)))
    assert list(numbers) == [
        ".middle: assert a < 100",
        ".middle: if a > b:",
        ".middle: raise ValueError('wrong' + str(a))",
        ".middle: return a + b // 2",
    ]
    names: dict[str, object] = {}
    exec(text, names)
    assert not reached
    assert names["middle"](1, 2) == 2  # type: ignore[operator]
    assert reached == [0, 1, 3]


def test_faults_are_found_and_taken_out(root: Path, tmp_path: Path) -> None:
    drawn = faults.draw(root, 1, 4)
    assert {faults.place(PLAIN, f) for f in drawn} == {f"compiler/dims.py.middle: {s}" for s in ("if a > b:", "return a + b // 2")}
    record(root, tmp_path, ["tests"])
    assert "REACHED(0)" in (root / "compiler/dims.py").read_text()
    (root / "compiler/dims.py").write_text(PLAIN)
    worker = Worker(root, tmp_path / "modules.json")
    suite = Suite(root, worker, Reached(root, tmp_path, drawn), most=10)
    found = [suite(k, fault) for k, fault in enumerate(drawn)]
    assert [f["killer"] in ("tests/test_middle.py::test_alike", "tests/test_middle.py::test_apart") for f in found] == [True] * 4, found
    assert (root / "compiler/dims.py").read_text() == PLAIN
    worker.process.kill()
