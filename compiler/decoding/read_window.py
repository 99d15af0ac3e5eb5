"""How far back a mask lets a query see."""

from __future__ import annotations

from .. import ir
from ..dims import ONE, Expr
from ..ir import Node, Value
from ..passes.position_forms import position
from ..passes.read_indices import Range, exactly, implied, range_of


def read_window(node: ir.Attend) -> Expr | None:
    """The least w such that the mask says i - j < w, the query's own slot counted; none if it says nothing of that form."""
    if node.mask is None:
        return None
    query, key = node.query, node.key
    ranges: dict[Value, Range] = {}
    nodes: dict[Value, Node] = {}
    for value in node.mask.params:
        if len(value.type.axes) == 1:
            ranges[value] = exactly(position(value.type.labels[0]))
    for inner in node.mask.body:
        nodes.update((v, inner) for v in inner.outs)
        ranges[inner.out] = range_of(inner, ranges)
    behind = [f - position(key) for f in implied(node.mask.result, True, query, nodes, ranges)]
    found = [(f.constant + ONE) for f in behind if not f.terms]
    return min(found, key=lambda size: size.value() or 0) if found else None
