"""How far back a mask lets a query see."""

from __future__ import annotations

from ...grammar.frozen import frozen
from .. import ir
from ..dims import ONE, ZERO, Expr
from ..ir import Label, Node, Value
from ..passes.position_forms import position
from ..passes.read_indices import Range, exactly, implied, range_of


@frozen
class Band:
    """A query sees no key more than `before` slots back and none more than `after` slots ahead."""

    before: Expr
    after: Expr


def read_band(node: ir.Attend) -> Band | None:
    """The narrowest band that the mask surely says; none if it is open on a side, or grows with the length."""
    if node.mask is None:
        return None
    query, key = node.mask.params[0].type.labels, node.mask.params[1].type.labels
    if not query or not key:
        return None
    behind, ahead = _reaches(node.mask, query[0], key[0]), _reaches(node.mask, key[0], query[0])
    if behind is None or ahead is None or _value(behind) < 0:
        return None
    if ahead.constant is not None and _value(ahead) <= 0:
        return Band(behind, ZERO)
    return Band(behind, ahead) if _value(ahead) >= 0 else None


def read_window(node: ir.Attend) -> Expr | None:
    """The least w such that the mask says i - j < w, the query's own slot counted; none if it says nothing of that form."""
    reach = None if node.mask is None else _reaches(node.mask, node.query, node.key)
    return None if reach is None else reach + ONE


def _reaches(mask: ir.Region, far: Label, near: Label) -> Expr | None:
    """The least r such that the mask says that the slot along `far` is at most r more than the one along `near`."""
    ranges: dict[Value, Range] = {}
    nodes: dict[Value, Node] = {}
    for value in mask.params:
        if len(value.type.axes) == 1:
            ranges[value] = exactly(position(value.type.labels[0]))
    for inner in mask.body:
        nodes.update((v, inner) for v in inner.outs)
        ranges[inner.out] = range_of(inner, ranges)
    reach = [f - position(near) for f in implied(mask.result, True, far, nodes, ranges)]
    found = [f.constant for f in reach if not f.terms and not f.constant.is_dynamic]
    return min(found, key=_value) if found else None


def _value(size: Expr) -> float:
    return size.value() or 0
