"""What a mask says, as terms of which all must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...compiler import ir
from ...compiler.dims import ZERO, Expr
from ...compiler.ir import Value


def conjunction(region: ir.Region, ring: bool) -> tuple[tuple[ir.Node, ...], tuple[Value, ...]]:
    """The nodes that the terms need, and the terms; an index over all keys is a renaming, unless they lie in a ring."""
    nodes: dict[Value, ir.Node] = {}
    body: list[ir.Node] = []
    for node in region.body:
        if ring and isinstance(node, ir.Take) and any(i in region.params for i in node.indices):
            node = _written_take(node, region, body)
        elif not ring:
            node = _whole_take(node, region)
        body.append(node)
        nodes.update((o, node) for o in node.outs)
    terms: list[Value] = []
    todo = [region.result]
    joins: set[ir.Node] = set()
    while todo:
        value = todo.pop(0)
        made = nodes.get(value)
        if isinstance(made, ir.Elementwise) and made.function == "and":
            todo = [a for a in made.args if isinstance(a, Value)] + todo
            joins.add(made)
        elif isinstance(made, ir.Transpose) and len(terms) == 0:
            todo = [made.x, *todo]
            joins.add(made)
        else:
            terms.append(value)
    return tuple(n for n in body if n not in joins), tuple(dict.fromkeys(terms))


def _whole_take(node: ir.Node, region: ir.Region) -> ir.Node:
    """`mask[s = j]` for all j of the axis is the same tensor with another label."""
    if isinstance(node, ir.Take) and len(node.over) == 1 and node.indices[0] in region.params:
        index = node.indices[0]
        assert isinstance(index, Value)
        axis = node.x.type.axis(node.over[0])
        label = index.type.axes[0].label
        if axis.size == index.type.axes[0].size and (label is node.over[0] or not node.x.type.has(label)):
            return ir.Rename(outs=node.outs, span=node.span, x=node.x, old=node.over, new=index.type.labels)
    return node


def _written_take(node: ir.Take, region: ir.Region, body: list[ir.Node]) -> ir.Take:
    """Where a ring holds nothing yet, its slots are negative; the mask hides what is read there."""
    indices: list[ir.Operand] = []
    for index in node.indices:
        if isinstance(index, Value) and index is region.params[1]:
            held = Value(index.type, "", node.span)
            body.append(ir.Elementwise(outs=(held,), span=node.span, function="maximum", args=(index, ZERO)))
            index = held
        indices.append(index)
    return replace(node, indices=tuple(indices))


def made_in(body: Sequence[ir.Node]) -> dict[Value, ir.Node]:
    return {o: n for n in body for o in n.outs}


def reads(value: Value, body: Sequence[ir.Node], targets: dict[Value, Expr]) -> bool:
    if value in targets:
        return True
    node = made_in(body).get(value)
    return node is not None and any(reads(v, body, targets) for v in ir.operands(node))


def constant_of(value: Value, body: Sequence[ir.Node], defaults: dict[Value, Expr]) -> float | bool | None:
    """The one number that a value is full of under the defaults, if it is."""
    if value in defaults:
        return defaults[value].value()
    match made_in(body).get(value):
        case ir.Rename(x=x) | ir.Transpose(x=x) | ir.Expand(x=x) | ir.Cast(x=x) | ir.Take(x=x):
            return constant_of(x, body, defaults)
        case ir.Full(value=number):
            return number.value()
        case ir.Elementwise() as node:
            args = [a.value() if isinstance(a, Expr) else constant_of(a, body, defaults) for a in node.args]
            return _apply(node.function, args)
        case _:
            return None


def _apply(function: str, args: list[float | bool | None]) -> float | bool | None:
    known = [a for a in args if a is not None]
    if function == "or" and any(a is True for a in known):
        return True
    if function == "and" and any(a is False for a in known):
        return False
    if len(known) != len(args):
        return None
    match function:
        case "eq":
            return known[0] == known[1]
        case "ne":
            return known[0] != known[1]
        case "gt":
            return known[0] > known[1]
        case "ge":
            return known[0] >= known[1]
        case "lt":
            return known[0] < known[1]
        case "le":
            return known[0] <= known[1]
        case "not":
            return not known[0]
        case "and":
            return bool(known[0]) and bool(known[1])
        case "or":
            return bool(known[0]) or bool(known[1])
        case _:
            return None


def is_causal(term: Value, body: Sequence[ir.Node], region: ir.Region) -> bool:
    node = made_in(body).get(term)
    i, j = region.params
    return isinstance(node, ir.Elementwise) and (
        (node.function == "le" and node.args == (j, i)) or (node.function == "ge" and node.args == (i, j))
    )
