"""Diagnostics as text: `full` for people, `concise` for one line each, `json` for programs.

The JSON document has stable keys:

    {"diagnostics": [{"code", "severity", "message", "path", "line", "column", "end_line", "end_column", "help",
                      "notes": [{"message", "path", "line", "column", "end_line", "end_column"}]}],
     "errors": 1, "warnings": 0}

Lines and columns count from 1; an end is the place just after the last character; all five places are null where a diagnostic has none.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TextIO, TypedDict

from ..grammar.frozen import frozen
from ..grammar.tree import Span
from .diagnostics import Diagnostic, Note

if TYPE_CHECKING:
    from rich.text import Text

Format = Literal["full", "concise", "json"]
Role = Literal["plain", "error", "warning", "note", "help", "strong", "gutter"]

STYLES: dict[Role, str] = {
    "plain": "",
    "error": "bold red",
    "warning": "bold yellow",
    "note": "bold cyan",
    "help": "bold green",
    "strong": "bold",
    "gutter": "blue",
}

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

WIDTH = 120
"""How much of a source line is shown: a longer one is cut around the words that matter."""


@frozen
class Piece:
    """Some text and what it is for; a renderer decides how that looks."""

    text: str
    role: Role = "plain"


Line = tuple[Piece, ...]


class Place(TypedDict):
    path: str | None
    line: int | None
    column: int | None
    end_line: int | None
    end_column: int | None


class NoteRecord(Place):
    message: str


class DiagnosticRecord(Place):
    code: str
    severity: str
    message: str
    help: str | None
    notes: list[NoteRecord]


def print_diagnostics(diagnostics: Sequence[Diagnostic], form: Literal["full", "concise"], stream: TextIO) -> None:
    """Write them for people, in the order of their places; colour only where the stream is a terminal."""
    ordered = sort_diagnostics(diagnostics)
    if form == "concise":
        stream.writelines(concise(d) + "\n" for d in ordered)
        return
    lines = [line for d in ordered for line in (*full(d), ())]
    if diagnostics:
        lines.append((Piece(summary(diagnostics), "error" if any(d.severity == "error" for d in diagnostics) else "warning"),))
    print_lines(lines, stream)


def print_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Write lines of pieces; the terminal library is imported only for a terminal."""
    if not stream.isatty():
        stream.writelines("".join(piece.text for piece in line) + "\n" for line in lines)
        return
    from rich.console import Console

    console = Console(file=stream, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(_styled(line))


def _styled(line: Line) -> Text:
    from rich.text import Text

    return Text.assemble(*((piece.text, STYLES[piece.role]) for piece in line))


def sort_diagnostics(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By file in the order first mentioned, then by place; those without a place come first."""
    found = list(diagnostics)
    paths = list(dict.fromkeys(d.span.source.path for d in found if d.span))
    return sorted(found, key=lambda d: (paths.index(d.span.source.path), d.span.start, d.span.end) if d.span else (-1, 0, 0))


def summary(diagnostics: Sequence[Diagnostic]) -> str:
    """`2 errors, 1 warning`."""
    counts = {severity: sum(d.severity == severity for d in diagnostics) for severity in ("error", "warning")}
    return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts.items() if n)


# ---------------------------------------------------------------- concise


def concise(diagnostic: Diagnostic) -> str:
    """`path:line:column: E301 message`."""
    place = f"{_location(diagnostic.span)}: " if diagnostic.span else ""
    kind = "warning " if diagnostic.severity == "warning" else ""
    return f"{place}{kind}{diagnostic.code} {_one_line(diagnostic.message)}"


# ---------------------------------------------------------------- json


def record(diagnostic: Diagnostic) -> DiagnosticRecord:
    """One diagnostic with the keys above."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.span),
        "help": diagnostic.help,
        "notes": [{"message": note.message, **_place(note.span)} for note in diagnostic.notes],
    }


def json_document(diagnostics: Sequence[Diagnostic]) -> dict[str, object]:
    return {
        "diagnostics": [record(d) for d in sort_diagnostics(diagnostics)],
        "errors": sum(d.severity == "error" for d in diagnostics),
        "warnings": sum(d.severity == "warning" for d in diagnostics),
    }


def _place(span: Span | None) -> Place:
    if span is None:
        return {"path": None, "line": None, "column": None, "end_line": None, "end_column": None}
    line, column = span.line_column()
    end_line, end_column = Span(span.source, span.end, span.end).line_column()
    return {"path": span.source.path, "line": line, "column": column, "end_line": end_line, "end_column": end_column}


# ---------------------------------------------------------------- full


def full(diagnostic: Diagnostic) -> list[Line]:
    """The sentence, the source line with carets under the exact words, the same for each note, and the help."""
    title = (Piece(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity), Piece(f": {_one_line(diagnostic.message)}", "strong"))
    spans = [diagnostic.span, *(note.span for note in diagnostic.notes)]
    margin = max([len(str(span.line_column()[0])) for span in spans if span] + [1])
    lines: list[Line] = [title]
    if diagnostic.span:
        lines += _excerpt(diagnostic.span, margin, diagnostic.severity)
    for note in diagnostic.notes:
        lines += _note(note, margin)
    if diagnostic.help:
        first, *rest = diagnostic.help.splitlines() or [""]
        lines.append((Piece(" " * margin + " = ", "gutter"), Piece("help", "help"), Piece(f": {first}")))
        lines += [(Piece(" " * (margin + 9) + line),) for line in rest]
    return lines


def _note(note: Note, margin: int) -> list[Line]:
    title: Line = (Piece(" " * margin + " = ", "gutter"), Piece("note", "note"), Piece(f": {_one_line(note.message)}"))
    return [title, *(_excerpt(note.span, margin, "note") if note.span else [])]


def _excerpt(span: Span, margin: int, role: Role) -> list[Line]:
    """The place and the line of a span; of a span of several lines the first."""
    line, column = span.line_column()
    text = span.source.text.split("\n", line)[line - 1].rstrip("\r")
    start = column - 1
    stop = max(start + 1, min(len(text), start + span.end - span.start))
    text, start, stop = _cut(text, start, stop)
    bar = Piece(" " * margin + " |", "gutter")
    under = " " * _width(text[:start]) + "^" * max(1, _width(text[start:stop]))
    return [
        (Piece(f"{' ' * margin}--> ", "gutter"), Piece(_location(span))),
        (bar,),
        (Piece(f"{line:>{margin}} |", "gutter"), Piece(f" {_printable(text)}" if text else "")),
        (bar, Piece(f" {under}", role)),
    ]


def _cut(text: str, start: int, stop: int) -> tuple[str, int, int]:
    """The part of a long line around `[start, stop)`, and where that lies in it."""
    if len(text) <= WIDTH:
        return text, start, stop
    left = max(0, min(start - WIDTH // 3, len(text) - WIDTH))
    right = left + WIDTH
    before, after = "…" if left else "", "…" if right < len(text) else ""
    shift = len(before) - left
    return before + text[left:right] + after, start + shift, min(stop, right) + shift


def _location(span: Span) -> str:
    line, column = span.line_column()
    return f"{_printable(_short(span.source.path))}:{line}:{column}"


def _short(path: str) -> str:
    """A file of the package by its place in it, any other as it was named."""
    return os.path.join("xfc", os.path.relpath(path, PACKAGE)) if path.startswith(PACKAGE + os.sep) else path


def _printable(text: str) -> str:
    """Text that moves no cursor and changes no terminal: a tab is four blanks, any other control character a replacement mark."""
    return "".join("    " if c == "\t" else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _width(text: str) -> int:
    """Columns that `_printable(text)` takes in a terminal."""
    return sum(4 if c == "\t" else 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _one_line(message: str) -> str:
    return _printable(message.replace("\n", " "))
