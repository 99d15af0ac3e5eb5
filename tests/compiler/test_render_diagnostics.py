"""Diagnostics as text."""

from __future__ import annotations

import io
import json

import pytest

from xfc.compiler.diagnostics import Diagnostic, Note
from xfc.compiler.render_diagnostics import concise, json_document, print_diagnostics, sort_diagnostics
from xfc.grammar.tree import Source, Span

SOURCE = Source("spec.xf", "model a = b:\n    heads = 7 + 3\n    x = 2\n")


def at(words: str, source: Source = SOURCE) -> Span:
    start = source.text.index(words)
    return Span(source, start, start + len(words))


def shown(*diagnostics: Diagnostic) -> str:
    stream = io.StringIO()
    print_diagnostics(diagnostics, "full", stream)
    return stream.getvalue()


def test_full_form() -> None:
    note = Note("`x` is given here", at("x = 2"))
    found = Diagnostic("E301", "10 is not 7", at("7 + 3"), (note, Note("and so on")), "write 7")
    assert shown(found) == (
        "error[E301]: 10 is not 7\n"
        " --> spec.xf:2:13\n"
        "  |\n"
        "2 |     heads = 7 + 3\n"
        "  |             ^^^^^\n"
        "  = note: `x` is given here\n"
        " --> spec.xf:3:5\n"
        "  |\n"
        "3 |     x = 2\n"
        "  |     ^^^^^\n"
        "  = note: and so on\n"
        "  = help: write 7\n"
        "\n"
        "1 error\n"
    )


def test_without_a_place() -> None:
    assert shown(Diagnostic("E902", "no", None)) == "error[E902]: no\n\n1 error\n"
    assert concise(Diagnostic("E902", "no", None)) == "E902 no"


def test_concise_form() -> None:
    assert concise(Diagnostic("E301", "two\nlines", at("x"))) == "spec.xf:3:5: E301 two lines"
    assert concise(Diagnostic("E301", "so", at("x"), severity="warning")) == "spec.xf:3:5: warning E301 so"


def test_json_keys() -> None:
    document = json_document([Diagnostic("E301", "wrong", at("7 + 3"), (Note("here"),), "help")])
    place = {"path": "spec.xf", "line": 2, "column": 13, "end_line": 2, "end_column": 18}
    nowhere = dict.fromkeys(place)
    expected = {"code": "E301", "severity": "error", "message": "wrong", **place, "help": "help", "notes": [{"message": "here", **nowhere}]}
    assert json.loads(json.dumps(document)) == {"diagnostics": [expected], "errors": 1, "warnings": 0}


@pytest.mark.parametrize(
    ("text", "words", "line", "carets"),
    [
        ("a\tbad\r\n", "bad", "a    bad", "     ^^^"),
        ("全角 bad\n", "bad", "全角 bad", "     ^^^"),
        ("e\u0301 bad\n", "bad", "e\u0301 bad", "  ^^^"),
        ("\x1b[31m bad\n", "bad", "\ufffd[31m bad", "      ^^^"),
    ],
)
def test_carets_stand_under_the_words(text: str, words: str, line: str, carets: str) -> None:
    assert f" | {line}\n  | {carets}\n" in shown(Diagnostic("E301", "m", at(words, Source("s", text))))


def test_carets_of_odd_spans() -> None:
    several = Source("s", "ab\ncd\n")
    assert "1 | ab\n  |  ^\n" in shown(Diagnostic("E301", "m", Span(several, 1, 5)))
    assert "3 |\n  | ^\n" in shown(Diagnostic("E301", "m", Span(several, 6, 6)))
    assert "1 |\n  | ^\n" in shown(Diagnostic("E301", "m", Span(Source("s", ""), 0, 0)))


def test_a_long_line_is_cut_around_the_words() -> None:
    text = "x" * 5000 + " bad " + "y" * 5000
    lines = shown(Diagnostic("E301", "m", at("bad", Source("s", text)))).splitlines()
    assert len(lines[3]) < 140
    start = lines[4].index("^")
    assert lines[3][start : start + 3] == "bad"


def test_in_the_order_of_places() -> None:
    a, b, c = Diagnostic("E303", "m", at("x")), Diagnostic("E302", "m", at("heads")), Diagnostic("E301", "m", None)
    assert sort_diagnostics([a, b, c]) == [c, b, a]
    assert shown(a, b).endswith("\n2 errors\n")
