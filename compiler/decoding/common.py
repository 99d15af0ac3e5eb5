"""What the parts of the derivation share: how values come, why a derivation stops, which axes correspond in a call."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from ...grammar.frozen import frozen
from ...grammar.tree import Span
from ..dims import Expr, Sym, sym
from ..ir import REST, Axis, Label, Type


class Kind(IntEnum):
    """What a value depends on; a result is of the greatest kind among its operands."""

    FIXED = 0  # on parameters and numbers
    ONCE = 1  # on inputs that do not run along the decoded axis: the same in every call
    ROWS = 2  # on the tokens of this call


@frozen
class Cause:
    """The construct that needs a whole axis, or that prevents decoding."""

    what: str
    span: Span


class Refused(Exception):  # noqa: N818 -- not a failure of the compiler
    def __init__(self, what: str, span: Span) -> None:
        super().__init__(what)
        self.cause = Cause(what, span)


@frozen
class Length:
    """The decoded axis: `rows` is the number of tokens of a call, `length` of all tokens so far."""

    rows: Sym
    length: Sym

    def runs(self, axis: Axis) -> bool:
        """Whether an axis has the tokens of the sequence."""
        return axis.label is not REST and self.rows in axis.size.symbols

    def whole(self, size: Expr) -> Expr:
        return size.substitute({self.rows: sym(self.length)}) if self.rows in size.symbols else size

    def lead(self, size: Expr) -> Expr:
        """How much longer than the tokens an axis is."""
        return size - sym(self.rows)


def paired(inner: Type, outer: Type) -> list[tuple[int, int]]:
    """Places of axes that correspond between an input (or output) of a module and the value in its caller; those behind `...` apart."""
    labels = inner.labels
    if REST not in labels:
        return [(k, k) for k in range(len(labels))]
    at, more = labels.index(REST), len(outer.axes) - len(labels)
    return [(k, k if k < at else k + more) for k in range(len(labels)) if k != at]


def retyped(kind: Type, mapping: Mapping[Label, Axis]) -> Type:
    """A type with some axes replaced."""
    return Type(tuple(mapping.get(a.label, a) for a in kind.axes), kind.dtype)
