"""How long a sequence may be, where a table of a fixed size is read at numbers counted along it."""

from __future__ import annotations

from collections.abc import Iterator

from . import ir
from .dims import ONE, Expr
from .ir import Fact, Module, Value
from .passes.read_indices import UNKNOWN, Range, range_of


def table_facts(root: Module) -> list[Fact]:
    """`size` is at least `t`, for every table with an axis of `size` entries that is read at `index(t)`: at the exact number of a position,
    offsets and factors included."""
    found: list[Fact] = []
    for module in ir.walk(root):
        takes = [n for n in module.body if isinstance(n, ir.Take) and any(isinstance(i, Value) for i in n.indices)]
        if takes:
            ranges: dict[Value, Range] = {}
            for node in module.body:
                if len(node.outs) == 1:
                    ranges[node.outs[0]] = range_of(node, ranges)
            found += [fact for take in takes for fact in _of_take(take, ranges)]
    return found


def _of_take(node: ir.Take, ranges: dict[Value, Range]) -> Iterator[Fact]:
    for label, index in zip(node.over, node.indices, strict=True):
        size = node.x.type.axis(label).size
        if not isinstance(index, Value) or size.is_dynamic:
            continue
        bounds = ranges.get(index, UNKNOWN)
        for form in bounds.upper:
            if form not in bounds.lower:
                continue
            last = form
            for axis in index.type.axes:
                last = last.highest_along(axis)
            length = last.constant + ONE
            if not last.terms and length.is_dynamic:
                static = Expr(tuple((monomial, c) for monomial, c in length.terms if not Expr(((monomial, 1),)).is_dynamic))
                yield Fact(kind="at_least", a=size - static, b=length - static, span=node.span)
