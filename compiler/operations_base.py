"""What all type rules share: reporting, comparing sizes, aligning axes by label, promoting dtypes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from ..grammar.frozen import mutable
from ..grammar.tree import Span
from .diagnostics import Diagnostics, Note
from .dims import ONE, Expr, Sym
from .ir import REST, Axis, DType, Fact, Label, Node, Operand, Type, Value

_BY_RANK: tuple[DType, ...] = ("bool", "int", "float", "float32")
RANK: dict[DType, int] = {"bool": 0, "int": 1, "float": 2, "float32": 3}


def _itself(label: Label) -> object:
    return label


class Poison(Exception):  # noqa: N818 -- not a failure of the compiler
    """A mistake was reported; the caller marks what depends on it."""


def show(type_: Type) -> str:
    """`[b, t, d: 64]`: the axes with the values of their sizes."""
    return f"[{', '.join(show_axis(a) for a in type_.axes)}]"


def show_axis(axis: Axis) -> str:
    if axis.label is REST:
        return "..."
    text = show_size(axis.size)
    return axis.label.name if text == axis.label.name else f"{axis.label.name}: {text}"


def show_size(size: Expr) -> str:
    """The value if there is one, else the formula."""
    value = size.value()
    return str(size) if value is None else str(value)


def name_of(value: Value) -> str:
    return f"`{value.hint}` {show(value.type)}" if value.hint else f"this {show(value.type)}"


def agree(a: Expr, b: Expr) -> bool:
    """Whether two sizes that differ in form have the same value, for every value of their dynamic symbols (decided by trying)."""
    symbols = sorted(a.symbols | b.symbols, key=lambda s: s.order)
    dynamic = [s for s in symbols if s.value is None]
    if not dynamic:
        return a.value() == b.value()
    compared = False
    # Quotients that are exact only for some lengths are not whole elsewhere; a multiple of everything small keeps them whole.
    for base in (720720, 5040, 97, 101, 64, 23, 7, 4, 3, 2, 1):
        for order in (dynamic, dynamic[::-1]):  # whichever is the longer
            under: dict[Sym, int | float] = {s: base + 2520 * k if base > 1000 else base + 3 * k for k, s in enumerate(order)}
            one, other = a.value(under), b.value(under)
            if one != other:
                return False
            compared |= one is not None
    return compared


@mutable
class BodyBase:
    """The nodes of one straight-line body, and the means to check what is added to it."""

    nodes: list[Node]
    diagnostics: Diagnostics
    facts: list[Fact]
    name_of_axis: Callable[[Label], object] = _itself  # what the text calls an axis; in a program without text, nothing is a namesake

    # ------------------------------------------------ building

    def add(self, node: Node) -> Value:
        self.nodes.append(node)
        return node.outs[0]

    def value(self, axes: Iterable[Axis], dtype: DType, span: Span, hint: str) -> Value:
        return Value(Type(tuple(axes), dtype), hint, span)

    # ------------------------------------------------ reporting

    def fail(self, code: str, message: str, span: Span, *about: Value | Note, help: str | None = None) -> NoReturn:
        """Report, with a note for each value that has a place of its own, and raise Poison."""
        notes: list[Note] = []
        for item in about:
            if isinstance(item, Note):
                notes.append(item)
            elif item.span is not None and item.span != span:
                notes.append(Note(f"{name_of(item)} comes from here", item.span))
        self.diagnostics.error(code, message, span, *notes, help=help)
        raise Poison

    def axis(self, x: Value, label: Label, span: Span) -> Axis:
        """The axis of a tensor, or E202."""
        if not x.type.has(label):
            namesake = any(a.label.name == label.name for a in x.type.axes)
            other = f"its `{label.name}` is another axis of the same name: the word here was bound elsewhere, or to a number"
            remedy = "; a result's axes are named where it is bound (`y: [..., axis] = ...`)"
            self.fail("E202", f"{name_of(x)} has no axis `{label.name}`", span, x, help=other + remedy if namesake else None)
        return x.type.axis(label)

    def distinct(self, axes: Sequence[Axis], span: Span, *about: Value) -> tuple[Axis, ...]:
        """The axes, or E203 if a label occurs twice."""
        for k, axis in enumerate(axes):
            if any(axis.label is other.label for other in axes[:k]):
                message = f"the result [{', '.join(map(show_axis, axes))}] would have the axis `{axis.label.name}` twice"
                self.fail("E203", message, span, *about, help="give one of them another label with `rename`")
        return tuple(axes)

    # ------------------------------------------------ sizes

    def same(self, a: Expr, b: Expr, span: Span) -> bool:
        """Whether two sizes are equal; what was used beyond their form is recorded as a fact."""
        if a == b:
            return True
        if not agree(a, b):
            return False
        self.facts.append(Fact(kind="equal", a=a, b=b, span=span))
        return True

    def unify(self, one: Axis, in_one: Value, other: Axis, in_other: Value, span: Span) -> None:
        """E201 unless two axes of one label have the same size."""
        if one.label is REST or self.same(one.size, other.size, span):
            return
        left, right = show_size(one.size), show_size(other.size)
        if left == right:
            left, right = str(one.size), str(other.size)
        message = f"axis `{one.label.name}` is {left} in {name_of(in_one)} and {right} in {name_of(in_other)}"
        forms = [Note(f"{value} is {formula}") for value, formula in ((left, str(one.size)), (right, str(other.size))) if value != formula]
        forms += self.diagnostics.written(one.size, other.size)
        self.fail("E201", message, span, in_one, in_other, *forms)

    def at_least(self, a: Expr, b: Expr, span: Span) -> bool:
        """Whether a >= b, as far as can be known; what is used is recorded as a fact."""
        difference = (a - b).constant
        if difference is not None:
            return difference >= 0
        left, right = a.value(), b.value()
        if left is not None and right is not None and left < right:
            return False
        self.facts.append(Fact(kind="at_least", a=a, b=b, span=span))
        return True

    def divide(self, a: Expr, b: Expr, span: Span) -> Expr:
        """`a / b`: exact for whole numbers (E210 if it is not), plain for reals."""
        below = b.value()
        if below == 0:
            self.fail("E219", f"{a} / {b} divides by zero", span, *self.diagnostics.written(b))
        quotient = a.divide(b)
        if a.is_real or b.is_real or _is_whole_polynomial(quotient):
            return quotient
        above = a.value()
        if above is not None and below is not None:
            if above % below != 0:
                shown = f"{a} / {b}: " if not (a.constant is not None and b.constant is not None) else ""
                self.fail(
                    "E210",
                    f"{shown}{above} is not divisible by {below}",
                    span,
                    *self.diagnostics.written(a, b),
                    help=_instead_of_quotient(span, above // below),
                )
            if quotient.constant is not None:
                return quotient
        self.facts.append(Fact(kind="divides", a=b, b=a, span=span))
        return quotient

    # ------------------------------------------------ axes and dtypes of several operands

    def align(self, args: Sequence[Value], span: Span, *, in_order: bool = False) -> tuple[Axis, ...]:
        """The union of the operands' axes by label: in the order of the operand with most axes (unless `in_order`), then of the others."""
        ordered = list(args) if in_order else sorted(args, key=lambda v: -len(v.type.axes) - v.type.has(REST))
        found: dict[Label, tuple[Axis, Value]] = {}
        for value in ordered:
            for axis in value.type.axes:
                if axis.label in found:
                    self.unify(found[axis.label][0], found[axis.label][1], axis, value, span)
                else:
                    found[axis.label] = (axis, value)
        return tuple(axis for axis, _ in found.values())

    def numeric(self, args: Sequence[Operand]) -> DType:
        """The dtype of arithmetic: bool counts as int, real numbers make ints float."""
        rank = 1
        for arg in args:
            rank = max(rank, RANK[arg.type.dtype] if isinstance(arg, Value) else 2 if arg.is_real else 1)
        return _BY_RANK[rank]

    def need_bool(self, x: Operand, what: str, span: Span) -> None:
        if isinstance(x, Expr):
            self.fail("E211", f"{what} must be bool, not the number {x}", span)
        if x.type.dtype != "bool":
            help_ = "compare it: `x == 1`, or cast it: `bool(x)`"
            self.fail("E211", f"{what} must be bool; {name_of(x)} is {x.type.dtype}", span, x, help=help_)

    def need_int(self, x: Value, what: str, span: Span) -> None:
        if x.type.dtype != "int":
            self.fail("E212", f"{what} must be int; {name_of(x)} is {x.type.dtype}", span, x, help="cast it: `int(x)`")

    def whole(self, x: Expr, what: str, span: Span) -> None:
        if x.is_real:
            self.fail("E204", f"{what} must be a whole number, not {show_size(x)}", span)


def product(axes: Iterable[Axis]) -> Expr:
    total = ONE
    for axis in axes:
        total = total * axis.size
    return total


def _is_whole_polynomial(e: Expr) -> bool:
    """Whether it is whole by its form alone: integer coefficients, no negative powers."""
    return all(isinstance(c, int) and all(p > 0 for _, p in m) for m, c in e.terms)


def _instead_of_quotient(span: Span, floor: int | float) -> str:
    """What to write for a quotient of whole numbers that leaves a rest."""
    text = span.source.text[span.start : span.end]
    number = re.match(r"\d+(?=\s*/)", text)
    fraction = f"{number.group()}.0{text[number.end() :]}" if number else f"1.0 * {text}"
    if floor == 0:
        return f"`/` of whole numbers must leave no rest; the fraction is `{fraction}`"
    return f"use `//` for the quotient rounded down, {floor}; the fraction is `{fraction}`"
