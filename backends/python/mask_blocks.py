"""Masks over blocks of queries and the keys around each, instead of over all queries and all keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...compiler import ir
from ...compiler.dims import Expr, sym
from ...compiler.ir import Axis, Node, Type, Value
from ...grammar.frozen import frozen
from .attention_axes import additive_bias, attend_axes, has_score, is_native
from .blocks import BLOCK, SIZE, SPAN, is_by_blocks
from .hidden_keys import may_leave_out


@frozen(kw_only=True, eq=False)
class Blocked:
    """What a mask computes over slots `params`, [block, query] and [block, key]; `slots` are the axes behind the blocks."""

    params: tuple[Value, Value]
    body: tuple[Node, ...]
    terms: tuple[Value, ...]
    slots: tuple[Axis, Axis]


def lies_in_order(node: ir.Attend, module: ir.Module, program: ir.Program) -> bool:
    """Whether each slot of a sequence attends to the slots of the same sequence, which are at hand or kept as they are, by scores that
    know no slots, or count them by blocks."""
    axes = attend_axes(node)
    if len(axes.batch) != 1 or not axes.heads:
        return False
    if isinstance(node.scale, Value) and {*axes.batch, node.query, node.key, node.k_axis} & {*node.scale.type.labels}:
        return False
    if not (_adds_blocks(node) if is_native(node) else may_leave_out(node)):
        return False
    if any(node.k.type.has(label) != node.v.type.has(label) for label in axes.heads):
        return False
    if axes.features != (node.v.type.labels[-1],) or any(axes.batch[0] not in v.type.labels for v in (node.q, node.k, node.v)):
        return False
    rows, length = node.q.type.axis(node.query).size, node.k.type.axis(node.k_axis).size
    if rows == length:
        return True
    decoding = program.decoding
    if decoding is None or (rows, length) != (sym(decoding.rows), sym(decoding.length)):
        return False
    made = {out: n for n in module.body for out in n.outs}
    return all(isinstance(kept := made.get(v), ir.Keep) and kept.window is not None for v in (node.k, node.v))


def _adds_blocks(node: ir.Attend) -> bool:
    """Whether a kernel's scores are as they are, or get something that is counted by blocks."""
    added = additive_bias(node.score) if node.score is not None and has_score(node) else None
    return not has_score(node) or (added is not None and is_by_blocks(added[0]))


def is_whole(size: Expr) -> bool:
    """Whether it is a whole number under every Config."""
    return all(isinstance(c, int) and all(not a.is_real and power > 0 for a, power in monomial) for monomial, c in size.terms)


def in_blocks(params: tuple[Value, Value], body: Sequence[Node], terms: Sequence[Value]) -> Blocked | None:
    """The same nodes over slots by blocks; none if one of them is not a function of single slots."""
    own = {label for v in params for label in v.type.labels}
    new: dict[Value, Value] = {}
    slots: list[Axis] = []
    for value, size in zip(params, (SIZE, SPAN), strict=True):
        slots.append(Axis(value.type.labels[0], size))
        new[value] = Value(Type((BLOCK, slots[-1]), "int"), value.hint, value.span)
    found: list[Node] = []
    for node in body:
        if any(v in new for v in ir.operands(node)):
            if not isinstance(node, ir.Elementwise | ir.Cast | ir.Take | ir.Transpose):
                return None
            out = node.outs[0]
            axes = tuple(next((s for s in slots if s.label is a.label), a) for a in out.type.axes)
            new[out] = Value(Type((BLOCK, *axes), out.type.dtype), out.hint, out.span)
            node = replace(ir.replace_values(node, new), outs=(new[out],))
        elif any(own & set(out.type.labels) for out in node.outs):
            return None
        outside = [v for v in ir.operands(node) if own & set(v.type.labels) and not v.type.has(BLOCK.label)]
        if any(not (isinstance(node, ir.Take) and v is node.x and own & set(v.type.labels) <= set(node.over)) for v in outside):
            return None
        found.append(node)
    if not all(term in new for term in terms):
        return None
    one, other = new[params[0]], new[params[1]]
    return Blocked(params=(one, other), body=tuple(found), terms=tuple(new[t] for t in terms), slots=(slots[0], slots[1]))
