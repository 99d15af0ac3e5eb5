"""The actions of xf.lark for expressions: the method of an alternative's name builds what the alternative stands for.

A method takes the range `[start, end)` of the text and the values of the alternative's symbols in order: a token's value is its
number, a symbol's is what its method returned. What a rule cannot say (no name is given twice) is reported here.
"""

from __future__ import annotations

from typing import TypeVar

from . import tree
from .lexer import Fragment, Tokens, unescape
from .problem import Problem
from .tree import Expr, Span

T = TypeVar("T")


class ExpressionBuilder:
    """Builds the tree of one fragment; `problems` collects what its rules forbid."""

    def __init__(self, fragment: Fragment, tokens: Tokens) -> None:
        self.fragment = fragment
        self.tokens = tokens
        self.problems: list[Problem] = []
        self.plain = fragment.anchors == ((0, 0),)

    def at(self, start: int, end: int) -> Span:
        return Span(self.fragment.source, start, end) if self.plain else self.fragment.span(start, end)

    def text(self, token: int) -> str:
        return self.fragment.text[self.tokens.starts[token] : self.tokens.ends[token]]

    def word(self, token: int) -> tree.Name:
        return tree.Name(span=self.at(self.tokens.starts[token], self.tokens.ends[token]), id=self.text(token))

    def quoted(self, token: int) -> tree.String:
        return tree.String(span=self.at(self.tokens.starts[token], self.tokens.ends[token]), value=unescape(self.text(token)))

    def problem(self, code: str, message: str, span: Span, help: str) -> None:
        self.problems.append(Problem(code, message, span, help))

    # ---------------------------------------------------------------- collecting

    def one(self, start: int, end: int, value: T) -> list[T]:
        return [value]

    def more(self, start: int, end: int, values: list[T], comma: int, value: T) -> list[T]:
        values.append(value)
        return values

    def append(self, start: int, end: int, values: list[T], value: T) -> list[T]:
        values.append(value)
        return values

    def inner(self, start: int, end: int, opening: int, value: T, *closing: int) -> T:
        return value

    def first_value(self, start: int, end: int, value: T, *rest: int) -> T:
        return value

    def second_value(self, start: int, end: int, sign: int, value: T) -> T:
        return value

    def nothing(self, start: int, end: int) -> None:
        return None

    def no_items(self, start: int, end: int, *brackets: int) -> list[object]:
        return []

    # ---------------------------------------------------------------- expressions

    def number(self, start: int, end: int, token: int) -> tree.Number:
        return tree.Number(span=self.at(start, end), text=self.text(token))

    def string(self, start: int, end: int, token: int) -> tree.String:
        return self.quoted(token)

    def name(self, start: int, end: int, token: int) -> tree.Name:
        return tree.Name(span=self.at(start, end), id=self.text(token))

    def list_(self, start: int, end: int, opening: int, items: list[Expr], *closing: int) -> tree.List:
        return tree.List(span=self.at(start, end), items=tuple(items))

    def no_list(self, start: int, end: int, opening: int, closing: int) -> tree.List:
        return tree.List(span=self.at(start, end), items=())

    def axis(self, start: int, end: int, label: int, colon: int, size: Expr) -> tree.Axis:
        return tree.Axis(span=self.at(start, end), label=self.text(label), size=size)

    def tuple_(self, start: int, end: int, items: list[Expr], comma: int, last: Expr) -> tree.Tuple:
        return tree.Tuple(span=self.at(start, end), items=(*items, last))

    def call(self, start: int, end: int, function: Expr, opening: int, arguments: list[tree.Argument], closing: int) -> tree.Call:
        self.distinct(arguments)
        return tree.Call(span=self.at(start, end), function=function, arguments=tuple(arguments))

    def index(self, start: int, end: int, value: Expr, opening: int, arguments: list[tree.Argument], closing: int) -> tree.Index:
        self.distinct(arguments)
        if not arguments:
            self.problem("E020", "an index needs at least one position", self.at(start, end), "write x[i] or x[t = i]")
        return tree.Index(span=self.at(start, end), value=value, arguments=tuple(arguments))

    def attribute(self, start: int, end: int, value: Expr, dot: int, name: int) -> tree.Attribute:
        return tree.Attribute(span=self.at(start, end), value=value, name=self.text(name))

    def argument(self, start: int, end: int, value: Expr) -> tree.Argument:
        return tree.Argument(span=self.at(start, end), name=None, value=value)

    def named_argument(self, start: int, end: int, name: int, equals: int, value: Expr) -> tree.Argument:
        word = self.word(name)
        return tree.Argument(span=self.at(start, end), name=word.id, name_span=word.span, value=value)

    def range_(self, start: int, end: int, first: Expr, dots: int, last: Expr) -> tree.Range:
        return tree.Range(span=self.at(start, end), start=first, stop=last)

    def range_from(self, start: int, end: int, first: Expr, dots: int) -> tree.Range:
        return tree.Range(span=self.at(start, end), start=first, stop=None)

    def range_to(self, start: int, end: int, dots: int, last: Expr) -> tree.Range:
        return tree.Range(span=self.at(start, end), start=None, stop=last)

    def range_all(self, start: int, end: int, dots: int) -> tree.Range:
        return tree.Range(span=self.at(start, end), start=None, stop=None)

    def binary(self, start: int, end: int, left: Expr, op: int, right: Expr) -> tree.Binary:
        return tree.Binary(span=self.at(start, end), op=self.text(op), left=left, right=right)

    def unary(self, start: int, end: int, op: int, value: Expr) -> tree.Unary:
        return tree.Unary(span=self.at(start, end), op=self.text(op), value=value)

    def choose(self, start: int, end: int, then: Expr, if_: int, condition: Expr, else_: int, other: Expr) -> tree.Choose:
        return tree.Choose(span=self.at(start, end), condition=condition, then=then, other=other)

    def repeat(self, start: int, end: int, count: Expr, of: int, pattern: Expr) -> tree.Repeat:
        return tree.Repeat(span=self.at(start, end), count=count, pattern=pattern)

    def distinct(self, arguments: list[tree.Argument]) -> None:
        seen: set[str] = set()
        for argument in arguments:
            if argument.name is None and seen:
                self.problem("E021", "an argument without a name follows a named one", argument.span, "name it, or put it first")
            elif argument.name is not None and argument.name in seen:
                self.problem("E022", f"`{argument.name}` is given twice", argument.name_span or argument.span, "keep one of the two")
            elif argument.name is not None:
                seen.add(argument.name)
