"""Any tree, printed in either surface and parsed again, is itself; formatting is idempotent; junk is refused and never raises."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xfc.grammar import tree
from xfc.grammar.build_tree import block_value
from xfc.grammar.convert import to_xf, to_yaml
from xfc.grammar.format_file import format_file
from xfc.grammar.load import load
from xfc.grammar.tree import Expr, Source, Span, Statement

T = TypeVar("T")
SPAN = Span(Source("", ""), 0, 0)
WORDS = str.split("x y d heads mask score state model let type import maps paper assume none weights a_1 loss shared")
LABELS = ["d", "d'", "t", "mask", "let"]
NUMBERS = ["0", "1", "0.5", "1e-5", "128_256", "1.5E+3", "0777"]
TEXTS = [
    'a "quoted" \\ text',
    "two\nlines\tand a tab",
    "# no comment",
    "it's: {a, b} [c] - ",
    "{i}",
    "\N{GREEK SMALL LETTER ALPHA} \N{PILE OF POO}",
    " x ",
]
OPERATORS = str.split("+ - * / // % ^ == != < <= > >= and or")


class Maker:
    """Makes random trees that a parser could have made; `size` bounds how deep."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def pick(self, choices: list[T]) -> T:
        return choices[self.random.randrange(len(choices))]

    def maybe(self, make: Callable[[], T]) -> T | None:
        return make() if self.random.randrange(2) else None

    def some(self, make: Callable[[], T], least: int = 0, most: int = 2) -> tuple[T, ...]:
        return tuple([make() for _ in range(self.random.randint(least, most))])

    def unlike(self, make: Callable[[], T], key: Callable[[T], str | None], least: int = 0, most: int = 2) -> tuple[T, ...]:
        """Some with different keys."""
        return tuple({key(made): made for made in self.some(make, least, most)}.values())

    # ---------------------------------------------------------------- expressions

    def name(self) -> tree.Name:
        return tree.Name(span=SPAN, id=self.pick(WORDS))

    def string(self) -> tree.String:
        return tree.String(span=SPAN, value=self.pick(TEXTS))

    def expression(self, size: int = 3) -> Expr:
        inner = size - 1
        match self.random.randrange(13) if size else self.random.randrange(4):
            case 0 | 1:
                return self.name()
            case 2:
                return tree.Number(span=SPAN, text=self.pick(NUMBERS))
            case 3:
                return self.pick([self.string(), tree.Name(span=SPAN, id="...")])
            case 4 | 5:
                op = self.pick(OPERATORS)
                return tree.Binary(span=SPAN, op=op, left=self.expression(inner), right=self.expression(inner))
            case 6:
                return tree.Unary(span=SPAN, op=self.pick(["-", "not"]), value=self.expression(inner))
            case 7:
                condition, then, other = (self.expression(inner) for _ in range(3))
                return tree.Choose(span=SPAN, condition=condition, then=then, other=other)
            case 8:
                return tree.Repeat(span=SPAN, count=self.expression(inner), pattern=self.expression(inner))
            case 9 | 10:
                function = self.pick([self.name(), self.expression(inner)])
                return tree.Call(span=SPAN, function=function, arguments=self.arguments(inner))
            case 11:
                if self.random.randrange(2):
                    return tree.Attribute(span=SPAN, value=self.expression(inner), name=self.pick(WORDS))
                return tree.Index(span=SPAN, value=self.expression(inner), arguments=self.arguments(inner, 1))
            case _:
                if self.random.randrange(3):
                    return tree.List(span=SPAN, items=self.some(lambda: self.pick([self.axis(inner), self.expression(inner)]), 0, 3))
                return tree.Tuple(span=SPAN, items=self.some(lambda: self.expression(inner), 2, 3))

    def axis(self, size: int) -> tree.Axis:
        return tree.Axis(span=SPAN, label=self.pick(LABELS), size=self.expression(size))

    def arguments(self, size: int, least: int = 0) -> tuple[tree.Argument, ...]:
        def value() -> Expr:
            match self.random.randrange(6):
                case 0:
                    return self.axis(size)
                case 1:
                    end = [self.maybe(lambda: self.expression(size)) for _ in range(2)]
                    return tree.Range(span=SPAN, start=end[0], stop=end[1])
                case _:
                    return self.expression(size)

        unnamed = self.some(lambda: tree.Argument(span=SPAN, name=None, value=value()), least)
        named = self.unlike(lambda: tree.Argument(span=SPAN, name=self.pick(WORDS), value=value()), lambda made: made.name)
        return (*unnamed, *named)

    def axes(self) -> tree.List:
        return tree.List(span=SPAN, items=self.some(lambda: self.pick([self.axis(1), self.name()]), 0, 3))

    # ---------------------------------------------------------------- blocks

    def value(self, size: int = 2, refines: bool = True) -> Expr:
        """What may stand in a block; a local name refines nothing."""
        if not size or self.random.randrange(3):
            return self.expression()
        while True:
            base = self.maybe(self.expression) if refines else self.expression()
            made = block_value(SPAN, base, self.lets(size - 1), self.entries(size - 1, 1))
            named = [argument.name for argument in made.arguments if argument.name]
            if len(set(named)) == len(named):
                return made

    def entries(self, size: int, least: int = 0) -> tuple[tree.Argument, ...]:
        def entry() -> tree.Argument:
            return tree.Argument(span=SPAN, name=".".join(self.some(lambda: self.pick(WORDS), 1)), value=self.value(size))

        return self.unlike(entry, lambda made: made.name, least, 3)

    def targets(self) -> tuple[tree.Name, ...]:
        return self.some(self.name, 1)

    def lets(self, size: int) -> tuple[tree.Let, ...]:
        return self.some(lambda: tree.Let(span=SPAN, targets=self.targets(), value=self.value(size, refines=False)))

    def assume(self) -> tree.Assume:
        return tree.Assume(span=SPAN, property=self.pick(WORDS), reason=self.pick(TEXTS))

    # ---------------------------------------------------------------- statements and declarations

    def body(self, size: int) -> tuple[Statement, ...]:
        return self.some(lambda: self.statement(size), 1, 3)

    def statement(self, size: int) -> Statement:
        match self.random.randrange(10 if size else 7):
            case 0:
                return tree.Bind(span=SPAN, targets=self.targets(), value=self.expression(), shared=self.pick([True, False]))
            case 1:
                return tree.Let(span=SPAN, targets=self.targets(), value=self.value(refines=False))
            case 2:
                return tree.Given(span=SPAN, name=self.name(), axes=self.axes(), default=self.maybe(self.expression))
            case 3:
                return tree.State(span=SPAN, name=self.name(), axes=self.axes(), initial=self.expression())
            case 4:
                return tree.Effect(span=SPAN, kind=self.pick(["loss", "emit", "next"]), name=self.name(), value=self.expression())
            case 5:
                return tree.Return(span=SPAN, value=self.expression())
            case 6:
                return self.assume()
            case 7:
                other = self.maybe(lambda: self.body(size - 1)) or ()
                return tree.If(span=SPAN, condition=self.expression(), then=self.body(size - 1), other=other)
            case 8:
                return tree.For(span=SPAN, targets=self.targets(), values=self.expression(), body=self.body(size - 1))
            case _:
                return tree.Define(span=SPAN, component=self.component(size - 1))

    def input(self) -> tree.Input:
        name = self.name()
        if self.random.randrange(2):
            return tree.Input(span=SPAN, name=name, axes=None, dtype=None, bound=None, default=self.maybe(self.expression))
        dtype = self.pick([None, "int", "float", "bool"])
        bound, default = self.maybe(self.expression), self.maybe(self.expression)
        return tree.Input(span=SPAN, name=name, axes=self.axes(), dtype=dtype, bound=bound, default=default)

    def output(self) -> tree.Output:
        return tree.Output(span=SPAN, name=self.name(), axes=self.maybe(self.axes))

    def component(self, size: int) -> tree.Component:
        outputs = self.pick([(), (tree.Output(span=SPAN, name=None, axes=self.axes()),), self.some(self.output, 1)])
        return tree.Component(
            span=SPAN,
            kind=self.pick(["component", "mask", "score", "weights", "fn"]),
            name=self.name(),
            parameters=self.unlike(
                lambda: tree.Parameter(span=SPAN, name=self.name(), default=self.maybe(self.expression)), lambda made: made.name.id
            ),
            inputs=self.unlike(self.input, lambda made: made.name.id),
            outputs=outputs,
            body=self.body(size),
            paper=self.maybe(lambda: self.pick(TEXTS)),
        )

    def model(self) -> tree.Model:
        name, paper = self.name(), self.maybe(lambda: self.pick(TEXTS))
        kind = self.random.randrange(3)
        if kind == 0:
            component = replace(self.component(0), kind="model", name=name, paper=None)
            return tree.Model(span=SPAN, name=name, base=None, extends=None, component=component, paper=paper)
        return tree.Model(
            span=SPAN,
            name=name,
            base=self.expression() if kind == 1 else None,
            extends=self.name() if kind == 2 else None,
            component=None,
            lets=self.lets(1),
            arguments=self.entries(2),
            assumes=self.some(self.assume),
            paper=paper,
        )

    def map(self) -> tree.Map:
        kind = self.pick(["checkpoint", "config"])

        def row() -> tree.Row:
            left: Expr = tree.Name(span=SPAN, id=".".join(self.some(lambda: self.pick(WORDS), 1, 3)))
            if self.random.randrange(2):
                left = self.pick([self.string(), tree.Binary(span=SPAN, op="or", left=self.string(), right=self.string())])
            right = self.expression()
            if kind == "checkpoint":  # where a dotted path is one name
                path = tree.Name(span=SPAN, id="layers.{i}.q.weight")
                item = tree.Argument(span=SPAN, name=None, value=tree.Name(span=SPAN, id="{e}"))
                index = tree.Index(span=SPAN, value=path, arguments=(item,))
                argument = tree.Argument(span=SPAN, name=None, value=self.pick([path, index]))
                right = self.pick([path, index, tree.Call(span=SPAN, function=self.name(), arguments=(argument,))])
            return tree.Row(span=SPAN, left=left, right=right)

        rows = self.some(row, 0, 3)
        return tree.Map(
            span=SPAN, kind=kind, format="huggingface", model=self.name(), rows=rows, ignored=self.some(self.string, 0 if rows else 1, 3)
        )

    def file(self) -> tree.File:
        imports = self.some(lambda: tree.Import(span=SPAN, path=self.pick(TEXTS)))
        makers: list[Callable[[], tree.Declaration]] = [lambda: self.component(1), self.model, self.model, self.map]
        return tree.File(span=SPAN, imports=imports, declarations=self.some(lambda: self.pick(makers)(), 1, 3))


CANONICAL = (Path(__file__).parent / "canonical.xf").read_text(encoding="utf-8")
PRINTERS = {"xf": to_xf, "yaml": to_yaml}


@pytest.mark.parametrize("surface", ["xf", "yaml"])
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_round_trip(surface: str, seed: int) -> None:
    file = Maker(Random(seed)).file()
    text = PRINTERS[surface](file)
    again, problems = load(f"test.{surface}", text)
    assert not problems, text
    assert again == file, text
    formatted, _ = format_file(Source(f"test.{surface}", text))
    assert formatted is not None and load(f"test.{surface}", formatted)[0] == file
    assert format_file(Source(f"test.{surface}", formatted))[0] == formatted, formatted


PIECES = [
    "(",
    ")",
    "[",
    "]",
    ":",
    "=",
    ",",
    '"',
    "\n",
    "    ",
    "\t",
    "if ",
    "of ",
    "let ",
    "..",
    "-",
    " # c",
    "\0",
    "{",
    "|",
    "\r",
    "'",
    "&a",
    "",
]
edits = st.lists(st.tuples(st.integers(0, len(CANONICAL)), st.integers(0, 5), st.sampled_from(PIECES)), min_size=1, max_size=5)


@pytest.mark.parametrize("surface", ["xf", "yaml"])
@settings(max_examples=100, deadline=None)
@given(changes=edits)
def test_damaged_text_is_read_or_refused(surface: str, changes: list[tuple[int, int, str]]) -> None:
    whole, _ = load("test.xf", CANONICAL)
    assert whole is not None
    text = PRINTERS[surface](whole)
    for place, removed, added in changes:
        text = text[:place] + added + text[place + removed :]
    file, problems = load(f"test.{surface}", text)
    for problem in problems:
        assert problem.span is None or 0 <= problem.span.start <= problem.span.end <= len(text)
        assert problem.message and "\n" not in problem.message
    if file is not None and not problems:
        assert load("test.xf", to_xf(file)) == (file, [])
        assert load("test.yaml", to_yaml(file)) == (file, [])
