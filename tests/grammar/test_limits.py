"""No text whatever raises, hangs or exhausts the stack; each is refused with a place."""

import inspect
import os
import sys
from pathlib import Path

import pytest

from xfc.grammar import tree
from xfc.grammar.automaton import DEEPEST
from xfc.grammar.convert import to_xf
from xfc.grammar.load import load

MODEL = "model a = "
DEEP = {
    "calls": MODEL + "f(" * 5000 + "1" + ")" * 5000,
    "lists": MODEL + "[" * 5000 + "]" * 5000,
    "signs": MODEL + "-" * 5000 + "1",
    "powers": MODEL + "2 ^ " * 5000 + "1",
    "sums": MODEL + "2 + " * 5000 + "1",
    "choices": MODEL + "1 if a else " * 5000 + "2",
    "attributes": MODEL + "x" + ".y" * 5000,
    "repeats": MODEL + "2 of " * 5000 + "x",
    "blocks": MODEL + "f:\n" + "".join(" " * k + "a:\n" for k in range(1, 500)) + " " * 500 + "b = 1\n",
    "elifs": "fn f(a):\n    if a:\n        x = 1\n" + "    elif b:\n        x = 1\n" * 500 + "    return x\n",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_deep_nesting_is_refused(text: str) -> None:
    _, problems = load("a.xf", text)
    assert [problem.code for problem in problems] == ["E018"]
    assert problems[0].span is not None


def test_what_is_allowed_leaves_room_on_the_stack() -> None:
    text = MODEL + "f(" * (DEEPEST - 2) + "1" + ")" * (DEEPEST - 2)
    file, problems = load("a.xf", text)
    assert not problems and isinstance(file, tree.File)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + DEEPEST * 8)
    try:
        assert file == load("a.xf", to_xf(file))[0]
    finally:
        sys.setrecursionlimit(limit)


ODD = {
    "a lot of brackets": MODEL + "(" * 200_000,
    "junk": "@" * 500_000,
    "junk lines": "x y\n" * 50_000,
    "bad lines in a body": "component f(a)(x):\n" + "    x y\n" * 5_000,
    "unclosed lines": "component f(a)(x):\n" + "    x = (1\n" * 5_000,
    "quotes": '"' * 500_000,
    "a long number": MODEL + "1" * 100_000,
    "NUL": MODEL + "\0",
    "carriage returns": "model a = f\rmodel b = f",
    "byte order mark within": "model a\ufeff = f",
    "empty": "",
    "blank": " \n\t\n",
    "comment": "# nothing",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("ending", ["xf", "yaml"])
def test_odd_texts_are_refused(text: str, ending: str) -> None:
    _, problems = load(f"a.{ending}", text)
    assert 1 <= len(problems) <= 50


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.xf").write_bytes(b"# a\n\xff\xfe")
    (tmp_path / "nul.yaml").write_bytes(b"model: \0")
    (tmp_path / "large.xf").write_bytes(b"#" * 4_000_001)
    (tmp_path / "huge.xf").write_bytes(b"#" * 16_000_001)
    (tmp_path / "folder.xf").mkdir()
    (tmp_path / "text.txt").write_text("model a = f")
    (tmp_path / "closed.xf").write_text("model a = f")
    found = {
        name: [problem.code for problem in load(tmp_path / name)[1]]
        for name in ("bytes.xf", "nul.yaml", "large.xf", "huge.xf", "folder.xf", "text.txt", "missing.xf", "a\0b.xf")
    }
    assert found == {
        "bytes.xf": ["E002"],
        "nul.yaml": ["E002"],
        "large.xf": ["E003"],
        "huge.xf": ["E003"],
        "folder.xf": ["E001"],
        "text.txt": ["E005"],
        "missing.xf": ["E001"],
        "a\0b.xf": ["E001"],
    }
    os.chmod(tmp_path / "closed.xf", 0)
    if not os.access(tmp_path / "closed.xf", os.R_OK):
        assert [problem.code for problem in load(tmp_path / "closed.xf")[1]] == ["E001"]


def test_byte_order_mark_at_the_start_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.xf").write_bytes(b"\xef\xbb\xbfmodel a = f\n")
    file, problems = load(tmp_path / "a.xf")
    assert file is not None and not problems
