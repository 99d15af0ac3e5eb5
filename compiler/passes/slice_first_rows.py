"""Rows 0, 1, ... of a tensor are a slice of it: nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..dims import ZERO, Expr
from ..ir import Elementwise, Index, Module, Node, Program, Rename, Slice, Take, Type, Value, rewrite


def slice_first_rows(program: Program) -> Program:
    """Replace `x[l = index(t) + offset]` by a slice.

    Requires: a verified program. Ensures: the same values. Leaves alone: programs with a cache, whose indices move with it; what is not a fact of
    the sizes, for a slice does not mind that there are fewer rows."""
    if program.decoding is not None:
        return program
    more = {f.a - f.b for f in program.facts if f.kind == "at_least"}

    def change(module: Module) -> Module:
        starts: dict[Value, Expr] = {}
        body: list[Node] = []
        for node in module.body:
            body += _sliced(node, starts, more) if isinstance(node, Take) else [node]
            if isinstance(node, Index):
                starts[node.out] = ZERO
            elif isinstance(node, Elementwise) and node.function == "add":
                at, offset = node.args
                if isinstance(at, Value) and at in starts and isinstance(offset, Expr) and not offset.is_dynamic:
                    starts[node.out] = starts[at] + offset
        return replace(module, body=tuple(body)) if len(body) != len(module.body) else module

    return replace(program, root=rewrite(program.root, change))


def _sliced(node: Take, starts: Mapping[Value, Expr], more: set[Expr]) -> list[Node]:
    """A slice with the index's label, or the node as it is."""
    index = node.indices[0]
    if len(node.over) != 1 or not isinstance(index, Value) or index not in starts:
        return [node]
    rows = index.type.axes[0]
    start, stop = starts[index], starts[index] + rows.size
    kind = node.x.type
    size = kind.axis(node.over[0]).size
    if kind.has(rows.label) or (start.value() or 0) < 0 or not _has_rows(size - stop, more):
        return [node]
    labels = tuple(rows.label if a.label is node.over[0] else a.label for a in kind.axes)
    if labels != node.out.type.labels:
        return [node]
    cut = Value(Type(tuple(replace(a, size=rows.size) if a.label is node.over[0] else a for a in kind.axes), kind.dtype), "", node.out.span)
    taken = Slice(outs=(cut,), span=node.span, x=node.x, over=node.over[0], start=start, stop=stop)
    return [taken, Rename(outs=node.outs, span=node.span, x=cut, old=kind.labels, new=labels)]


def _has_rows(surplus: Expr, more: set[Expr]) -> bool:
    """Whether a tensor has the rows, by a fact or by numbers that do not vary."""
    return surplus in more or (surplus.constant is not None and surplus.constant >= 0)
