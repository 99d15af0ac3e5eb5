"""Text to tokens: words, numbers, strings and signs; line ends and indentation; comments kept aside.

Soft words (`component`, `mask`, `let`, `state`, ...) are keywords only at the start of a line and before a name or a string; anywhere
else they are names. In a `checkpoint` map a name is a whole dotted path with braces (`decoder.layers.{i}.attention.q_proj.weight`).
A lexical mistake is reported once and leaves an error token, so that the parser can skip the line in silence.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from dataclasses import field

from .frozen import frozen, mutable
from .problem import Problem
from .tables import Tables
from .tree import Source, Span

LONGEST_NUMBER = 60
MOST_PROBLEMS = 50
ERROR = -1

SOFT = {
    "component": "KIND",
    "mask": "KIND",
    "score": "KIND",
    "weights": "KIND",
    "fn": "KIND",
    "checkpoint": "MAP",
    "config": "MAP",
    "loss": "EFFECT",
    "emit": "EFFECT",
    "next": "EFFECT",
    "model": "MODEL",
    "import": "IMPORT",
    "let": "LET",
    "shared": "SHARED",
    "given": "GIVEN",
    "state": "STATE",
    "assume": "ASSUME",
    "ignore": "IGNORE",
}

_OTHERS = r"""
    |(?P<number>[0-9][0-9_]*(?:\.[0-9][0-9_]*)?(?:[eE][+-]?[0-9]+)?)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<sign>\.\.\.|->|==|!=|<=|>=|//|\.\.|[()\[\]:,=+\-*/%^<>.])
    |(?P<newline>\r?\n)
    |(?P<comment>\#[^\r\n]*)
    )"""
_WORD = r"[A-Za-z_][A-Za-z0-9_]*'*"
_BRACED = r"\{[^{}\s\"]*\}"
_TOKEN = re.compile(rf"[ \t]*(?:(?P<name>{_WORD})" + _OTHERS, re.VERBOSE)
_PATH_TOKEN = re.compile(rf"[ \t]*(?:(?P<name>(?:{_WORD}|{_BRACED})(?:\.(?:[A-Za-z0-9_]+|{_BRACED}))*)" + _OTHERS, re.VERBOSE)
_NAME, _NUMBER, _STRING, _SIGN, _NEWLINE, _COMMENT = range(1, 7)
#: Characters that no text may hold: controls, and what YAML takes for a line end or refuses. `\n` and `\t` are escapes.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\f]*")
_BEFORE_NAME = re.compile(r"[ \t]+(?:[A-Za-z_]|\")")
_NEW_STATEMENT = re.compile(
    rf"[ \t]*(?:(?:{'|'.join(SOFT)})[ \t]+(?!(?:if|else|and|or|of|in|for)\b)[A-Za-z_\"]|return\b|elif\b|else[ \t]*:"
    r"|if\b[^\n#]*:[ \t]*(?:#|$))",
    re.MULTILINE,
)
_PAIRS = {")": "(", "]": "["}
_ADVICE = {
    "**": "write `^` for powers",
    "&&": "write `and`",
    "&": "write `and`",
    "||": "write `or`",
    "|": "write `or`",
    "!": "write `not`",
    ":=": "write `=`",
    ";": "write one statement a line",
    "'": 'strings take double quotes: "..."',
    "@": "write einsum(a, b, over = axis) to contract an axis",
    "{": "a component's arguments stand in parentheses: f(a = 1)",
    "}": "braces stand in the names of tensors alone, around the number of a layer: {i}",
    "\r": "end lines with a line feed: this file has carriage returns",
    "\N{MINUS SIGN}": "write `-`",
    "\N{EN DASH}": "write `-`",
    "\N{MULTIPLICATION SIGN}": "write `*`",
    "\N{LEFT DOUBLE QUOTATION MARK}": 'write straight quotes: "..."',
    "\N{RIGHT DOUBLE QUOTATION MARK}": 'write straight quotes: "..."',
    "\N{NO-BREAK SPACE}": "write an ordinary space",
    "\N{RIGHTWARDS ARROW}": "write `->`",
    "\N{HORIZONTAL ELLIPSIS}": "write `...`",
    "\N{LESS-THAN OR EQUAL TO}": "write `<=`",
    "\N{GREATER-THAN OR EQUAL TO}": "write `>=`",
}


@frozen
class Fragment:
    """Text to parse and where it stands in its source: `anchors` are (offset in `text`, offset in the source), ascending.

    Between two anchors the text is the source's own; a whole file has the one anchor (0, 0)."""

    source: Source
    text: str
    anchors: tuple[tuple[int, int], ...] = ((0, 0),)

    def place(self, offset: int) -> int:
        here, there = self.anchors[bisect_right(self.anchors, (offset, math.inf)) - 1]
        return there + offset - here

    def span(self, start: int, end: int) -> Span:
        """The span in the source of `[start, end)` of the text; the end follows its last character, not the next anchor."""
        first = self.place(start)
        return Span(self.source, first, first if end <= start else self.place(end - 1) + 1)


@frozen
class Comment:
    """`# ...` at `[start, end)` of the text; `alone` when nothing stands before it on its line."""

    start: int
    end: int
    alone: bool


@mutable(slots=True)
class Tokens:
    """Parallel lists: the terminal's number, and the range in the text. `pieces` are the token ranges of the declarations."""

    types: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Lexer:
    """Reads one fragment. `inline` takes the text as one expression, whose line ends mean nothing."""

    def __init__(self, fragment: Fragment, tables: Tables, inline: bool = False) -> None:
        self.fragment = fragment
        self.text = fragment.text
        self.tokens = Tokens()
        self.inline = inline
        self.literals = tables.literals
        self.soft = {word: tables.terminal(name) for word, name in SOFT.items()}
        self.name, self.number, self.string = tables.terminal("NAME"), tables.terminal("NUMBER"), tables.terminal("STRING")
        self.newline, self.indent, self.dedent = tables.terminal("NEWLINE"), tables.terminal("INDENT"), tables.terminal("DEDENT")
        self.extends = tables.terminal("EXTENDS")
        self.model = tables.terminal("MODEL")
        self.columns = [0]
        self.brackets: list[int] = []
        self.pattern = _TOKEN

    def run(self) -> Tokens:
        position = 0
        if self.inline:
            while position < len(self.text):
                position = self._line(position)
        else:
            while position < len(self.text):
                position = self._blanks(position)
                if position < len(self.text):
                    position = self._line(position)
            self._dedent_to(0)
        if self.brackets:
            self._unclosed()
        return self.tokens

    # ---------------------------------------------------------------- lines

    def _blanks(self, position: int) -> int:
        """Skips empty and comment lines; at the first other one, emits what its indentation means and returns where its words start."""
        while position < len(self.text):
            match = _BLANKS.match(self.text, position)
            start = match.end() if match else position
            if self.text.startswith(("\n", "\r\n"), start):
                position = self.text.index("\n", start) + 1
            elif self.text.startswith("#", start):
                position = self._comment(start, alone=True)
            elif start >= len(self.text):
                return start
            else:
                self._indentation(position, start)
                return start
        return position

    def _comment(self, start: int, alone: bool) -> int:
        end = self.text.find("\n", start)
        end = len(self.text) if end < 0 else end
        stop = start + len(self.text[start:end].rstrip())
        self.tokens.comments.append(Comment(start, stop, alone))
        return end

    def _indentation(self, line: int, start: int) -> None:
        indentation = self.text[line:start]
        if "\t" in indentation:
            self._problem("E016", "a tab indents this line", line, start, "indent with spaces, four a level")
        column = len(indentation.expandtabs(4))
        if column > self.columns[-1]:
            self.columns.append(column)
            self._emit(self.indent, start, start)
            return
        self._dedent_to(column)
        if column > self.columns[-1]:
            help = f"align it with its block, or with the one around that ({self.columns[-1]} spaces)"
            self._problem("E016", "this line is indented less than its block and more than the one around that", line, start, help)
            self.columns.append(column)
        if column == 0:
            self.tokens.pieces.append(len(self.tokens.types))
            self.pattern = _TOKEN

    def _dedent_to(self, column: int) -> None:
        """Ends the blocks that are indented more. A line between two levels is in the outer one's block still."""
        end = self.tokens.ends[-1] if self.tokens.ends else 0
        while column < self.columns[-1]:
            self.columns.pop()
            if column <= self.columns[-1]:
                self._emit(self.dedent, end, end)

    def _line(self, position: int) -> int:
        """Reads one logical line: to its end outside brackets, or to the end of the text."""
        match, pattern = self.pattern.match, self.pattern
        types, starts, ends = self.tokens.types, self.tokens.starts, self.tokens.ends
        names, literals, name_type = self.literals, self.literals, self.name
        first = len(types)
        while True:
            token = match(self.text, position)
            if token is None:
                position = self._no_token(position)
                if position >= len(self.text):
                    break
                continue
            kind = token.lastindex
            start, position = token.span(kind or 0)
            if kind == _NAME:
                word = token.group(_NAME)
                terminal = names.get(word, name_type)
                if len(types) == first and word in self.soft and not self.inline and _BEFORE_NAME.match(self.text, position):
                    terminal = self.soft[word]
                    if word == "checkpoint":
                        self.pattern = pattern = _PATH_TOKEN
                        match = pattern.match
                elif word == "extends" and types[first:] == [self.model, name_type]:
                    terminal = self.extends
                types.append(terminal)
                starts.append(start)
                ends.append(position)
            elif kind == _SIGN:
                sign = token.group(_SIGN)
                if sign in "()[]":
                    self._bracket(sign, start)
                elif sign == "." and pattern is _PATH_TOKEN and types[-1:] == [name_type]:
                    self._problem("E014", "a path in a checkpoint map has no blanks", start, position, "write it in one piece: a.{i}.b")
                    self._emit(ERROR, start, position)
                else:
                    types.append(literals[sign])
                    starts.append(start)
                    ends.append(position)
            elif kind == _NUMBER:
                position = self._number(start, position)
            elif kind == _STRING:
                self._emit(self._string(start, position), start, position)
            elif kind == _COMMENT:
                position = self._comment(start, alone=not self.text[self.text.rfind("\n", 0, start) + 1 : start].strip())
            elif self.inline or (self.brackets and not _NEW_STATEMENT.match(self.text, position)):
                continue
            else:
                break
        if self.inline:
            return position
        if self.brackets:
            self._unclosed()
        if len(types) > first:
            self._emit(self.newline, ends[-1], ends[-1])
        return position

    # ---------------------------------------------------------------- tokens

    def _emit(self, terminal: int, start: int, end: int) -> None:
        self.tokens.types.append(terminal)
        self.tokens.starts.append(start)
        self.tokens.ends.append(end)

    def _bracket(self, sign: str, start: int) -> None:
        if sign in "([":
            self.brackets.append(start)
        elif not self.brackets:
            self._problem("E013", f"`{sign}` closes nothing", start, start + 1, f"take it out, or open it before with `{_PAIRS[sign]}`")
            self._emit(ERROR, start, start + 1)
            return
        else:
            opening = self.brackets.pop()
            if self.text[opening] != _PAIRS[sign]:
                opened = (f"`{self.text[opening]}` was opened here", self.fragment.span(opening, opening + 1))
                closing = "]" if self.text[opening] == "[" else ")"
                message = f"`{sign}` cannot close `{self.text[opening]}`"
                self._problem("E013", message, start, start + 1, f"write `{closing}`", opened)
                self._emit(ERROR, start, start + 1)
                return
        self._emit(self.literals[sign], start, start + 1)

    def _unclosed(self) -> None:
        opening = self.brackets[-1]
        closing = "]" if self.text[opening] == "[" else ")"
        message = f"`{self.text[opening]}` is never closed"
        self._problem("E012", message, opening, opening + 1, f"close it with `{closing}`")
        self._emit(ERROR, opening, opening + 1)
        self.brackets.clear()

    def _number(self, start: int, end: int) -> int:
        tail = re.compile(r"[A-Za-z0-9_']*").match(self.text, end)
        stop = tail.end() if tail else end
        text = self.text[start:stop]
        shown = text if len(text) <= 30 else text[:27] + "..."
        if stop > end or text.endswith("_") or "__" in text:
            self._problem(
                "E017", f"`{shown}` is not a number", start, stop, "numbers look like 12, 0.5, 1e-5 or 1_000; names start with a letter"
            )
        elif len(text) > LONGEST_NUMBER:
            self._problem("E017", f"this number has {len(text)} characters", start, stop, "write it shorter, as in 1e20")
        elif not math.isfinite(float(text)):
            self._problem(
                "E017",
                f"`{shown}` is too large for a number",
                start,
                stop,
                "the largest is about 1.8e308; use where and masks for infinities",
            )
        else:
            self._emit(self.number, start, stop)
            return stop
        self._emit(ERROR, start, stop)
        return stop

    def _string(self, start: int, end: int) -> int:
        control = UNPRINTABLE.search(self.text, start, end)
        if control is not None:
            message = f"this string holds the character U+{ord(control[0]):04X}"
            self._problem("E015", message, control.start(), control.end(), "take it out; a line break is \\n and a tab is \\t")
            return ERROR
        for escape in re.finditer(r"\\(.)", self.text[start:end]):
            if escape[1] not in '"\\nt':
                at = start + escape.start()
                self._problem(
                    "E015", f"`{escape[0]}` is no escape in a string", at, at + 2, r"the escapes are \" \\ \n \t; a backslash itself is \\"
                )
                return ERROR
        return self.string

    def _no_token(self, position: int) -> int:
        """Reports what cannot start a token; returns where to go on."""
        match = _BLANKS.match(self.text, position)
        start = match.end() if match else position
        if start >= len(self.text):
            return start
        character = self.text[start]
        if character == '"':
            end = self.text.find("\n", start)
            end = len(self.text) if end < 0 else end
            self._problem("E015", "this string does not end on its line", start, start + 1, 'close it with `"`')
            self._emit(ERROR, start, end)
            return end
        two = self.text[start : start + 2]
        found = two if two in _ADVICE else character
        shown = f"`{found}`" if found.isprintable() and not found.isspace() else f"the character U+{ord(found):04X}"
        if not found.isascii():
            shown = f"`{found}` (U+{ord(found):04X})" if found.isprintable() and not found.isspace() else shown
        self._problem("E014", f"{shown} has no meaning here", start, start + len(found), _ADVICE.get(found) or _looks_like(found))
        self._emit(ERROR, start, start + len(found))
        if character == "'" or character == "{":
            closing = self.text.find("'" if character == "'" else "}", start + 1)
            line_end = self.text.find("\n", start)
            if closing >= 0 and (line_end < 0 or closing < line_end):
                return closing + 1
        return start + len(found)

    def _problem(self, code: str, message: str, start: int, end: int, help: str | None, *notes: tuple[str, Span | None]) -> None:
        self.tokens.problems.append(Problem(code, message, self.fragment.span(start, end), help, notes))
        if len(self.tokens.problems) >= MOST_PROBLEMS:
            self.text = self.text[:end]  # enough is enough


def _looks_like(character: str) -> str | None:
    """What a character that is not ASCII is called, so that one which looks like a letter is found."""
    if character.isascii() or not character.isalnum():
        return None
    name = unicodedata.name(character, "").lower()
    return f"names have the letters a to z, digits and `_`; this is {name}" if name else None


def unescape(literal: str) -> str:
    """The value of a string literal with its quotes."""
    inner = literal[1:-1]
    if "\\" not in inner:
        return inner
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), inner)


def escape(value: str) -> str:
    """The string literal of a value, with its quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
