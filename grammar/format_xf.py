"""Canonical form of a .xf text: what the printer makes of its tree, with its comments, its order and its single empty lines kept.

A comment on a line of its own stays before the construct that followed it, one behind a construct stays behind it; a construct with
a comment inside its brackets is left as it was written, moved to its indentation as a whole.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import replace

from . import tree
from .lexer import Comment, Fragment, Lexer, Tokens
from .parse import parse_xf
from .print_xf import Header, Layout, Line, Printer
from .problem import Problem
from .tables import load_tables
from .tree import Source

STEP_OF_TAB = 4
_EMPTY_LINE = re.compile(r"\n[ \t\f\r]*\n")


def format_xf(source: Source) -> tuple[str | None, list[Problem]]:
    """The text in canonical form; or, for a text that does not parse, nothing and what is wrong with it."""
    file, problems = parse_xf(source)
    if file is None or problems:
        return None, problems
    tokens = Lexer(Fragment(source, source.text), load_tables()).run()
    lines = list(Printer(TokenLayout(source.text, tokens)).file(file))
    return _Weaver(source.text, tokens.comments, lines).run(), []


class TokenLayout(Layout):
    """Answers from the tokens of the text."""

    known = True

    def __init__(self, text: str, tokens: Tokens) -> None:
        tables = load_tables()
        self.text = text
        self.tokens = tokens
        self.indent, self.string = tables.terminal("INDENT"), tables.terminal("STRING")
        self.edges = {tables.terminal(name) for name in ("NEWLINE", "INDENT", "DEDENT")}

    def header(self, first_inside: int) -> Header:
        types, starts, ends = self.tokens.types, self.tokens.starts, self.tokens.ends
        at = bisect_left(starts, first_inside)
        while at >= len(types) or types[at] != self.indent:
            at -= 1
        paper = at + 1 if types[at + 1] == self.string and starts[at + 1] < first_inside else None
        last = at - 2  # before the end of the line
        first = last
        while first > 0 and types[first - 1] not in self.edges:
            first -= 1
        if paper is None:
            return Header(starts[first], ends[last])
        return Header(starts[first], ends[last], starts[paper], ends[paper])

    def written_as_block(self, call: tree.Call) -> bool:
        named = [argument for argument in call.arguments if argument.name is not None]
        if not named:
            return False
        at = bisect_left(self.tokens.starts, named[0].span.start)
        return self.tokens.types[at] == self.indent

    def same_line(self, left: int, right: int) -> bool:
        first, last = bisect_left(self.tokens.starts, left), bisect_left(self.tokens.starts, right)
        return not any(self.tokens.types[at] in self.edges for at in range(first, last))


class _Weaver:
    """Puts comments and empty lines between printed lines."""

    def __init__(self, text: str, comments: list[Comment], lines: list[Line]) -> None:
        self.text = text
        self.comments = comments
        self.lines = lines

    def run(self) -> str:
        starts = [line.start for line in self.lines]
        before: dict[int, list[Comment]] = {}
        behind: dict[int, list[Comment]] = {}
        inside: set[int] = set()
        for comment in self.comments:
            at = bisect_left(starts, comment.start) - 1  # the last line that starts before the comment
            if at >= 0 and comment.start < self.lines[at].end:
                inside.add(at)
            elif comment.alone or at < 0 or "\n" in self.text[self.lines[at].end : comment.start]:
                before.setdefault(at + 1, []).append(comment)
            else:
                behind.setdefault(at, []).append(comment)
        written: list[Line] = []
        for number, line in enumerate([*self.lines, None]):
            written += self._placed(before.get(number, []), number)
            if line is not None:
                kept = replace(line, text=self._as_written(line)) if number in inside else line
                tail = "".join("  " + self._comment(comment) for comment in behind.get(number, []))
                end = behind[number][-1].end if number in behind else line.end
                written.append(replace(kept, text=kept.text + tail, end=end))
        return self._joined(written)

    def _comment(self, comment: Comment) -> str:
        text = self.text[comment.start : comment.end]
        return text if text[1:2] in ("", " ", "#", "!", ":") else f"# {text[1:]}"

    def _column(self, offset: int) -> int:
        return len(self.text[self.text.rfind("\n", 0, offset) + 1 : offset].expandtabs(STEP_OF_TAB))

    def _as_written(self, line: Line) -> str:
        """The text of a line as it stands, its later lines moved as far as its first."""
        shift = line.indent - self._column(line.start)
        first, *rest = self.text[line.start : line.end].split("\n")
        moved = []
        for part in rest:
            content = part.strip()
            column = len(part.expandtabs(STEP_OF_TAB)) - len(part.expandtabs(STEP_OF_TAB).lstrip())
            moved.append(" " * max(0, column + shift) + content if content else "")
        return "\n".join([first.rstrip(), *moved])

    def _placed(self, comments: list[Comment], following: int) -> list[Line]:
        """Comments on lines of their own before a line: at its indentation, or, further right, at that of the block which ended there."""
        if not comments:
            return []
        levels: list[tuple[int, int]] = []  # (column in the text, indentation), of the blocks open at the line before, outermost first
        for line in self.lines[:following]:
            while levels and levels[-1][1] >= line.indent:
                levels.pop()
            levels.append((self._column(line.start), line.indent))
        after = self.lines[following] if following < len(self.lines) else None
        floor = after.indent if after is not None else 0
        placed = []
        for comment in comments:
            indent = floor
            if after is None or not levels or levels[-1][1] >= after.indent:
                column = self._column(comment.start)
                indent = max([level for place, level in levels if place <= column and level >= floor], default=floor)
            placed.append(Line(indent, self._comment(comment), comment.start, comment.end))
        return placed

    def _joined(self, lines: list[Line]) -> str:
        text = ""
        for number, line in enumerate(lines):
            if number:
                last = lines[number - 1]
                gap = bool(_EMPTY_LINE.search(self.text, last.end, line.start))
                if line.indent > last.indent:
                    gap = gap and line.text.startswith("#") and last.text.startswith("#")
                elif line.indent == 0 and (last.indent > 0 or (line.compound and not last.text.startswith("#"))):
                    gap = True
                text += "\n" if gap else ""
            text += " " * line.indent + line.text + "\n"
        return text
