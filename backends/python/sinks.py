"""Attention whose weights are a softmax over the scores and one more logit, a sink, whose own weight is dropped (arXiv:2309.17453)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from ...compiler import ir
from ...compiler.dims import ONE, ZERO, Expr
from ...compiler.ir import Label, Type, Value
from ...grammar.frozen import frozen
from .attention_axes import attend_axes, depends_on, has_score

Made = Mapping[Value, ir.Node]


@frozen(kw_only=True, eq=False)
class SinkSoftmax(ir.Op):
    """softmax over the scores `s` along `over` and one more entry, `sink`, which lacks that axis and is left out of the result; what is minus
    infinity gets 0, also where all scores are."""

    s: Value
    sink: Value
    over: Label


def read_sinks(program: ir.Program) -> ir.Program:
    """Requires: a verified program. Ensures: weights of attention that come to such a softmax are one SinkSoftmax, whose sink is made before
    the attention. Leaves alone: what the weights are; nodes that are dead then."""

    def change(module: ir.Module) -> ir.Module:
        made = {out: n for n in module.body for out in n.outs}
        body: list[ir.Node] = []
        for node in module.body:
            body += _rewritten(node, made) if isinstance(node, ir.Attend) else [node]
        return replace(module, body=tuple(body)) if len(body) != len(module.body) or body != [*module.body] else module

    return replace(program, root=ir.rewrite(program.root, change))


def sink_of(node: ir.Attend) -> Value | None:
    """The sink, if the weights are a softmax with one."""
    match node.weights:
        case ir.Region(body=(SinkSoftmax(sink=sink),)):
            return sink
        case _:
            return None


def has_kernel_with_sink(node: ir.Attend) -> bool:
    """Whether it is attention on one more key, which a fused kernel can compute: no score, heads of one batch, masks alike for all heads."""
    axes = attend_axes(node)
    if sink_of(node) is None or has_score(node) or not isinstance(node.scale, Expr) or node.scale == ZERO:
        return False
    if len(axes.batch) != 1 or ir.REST in axes.batch or not axes.heads or not axes.features:
        return False
    if any(label in axes.heads and not node.k.type.has(label) for label in node.v.type.labels):
        return False
    return node.mask is None or not set(axes.heads) & set(node.mask.result.type.labels)


# ---------------------------------------------------------------- reading weights


def _rewritten(node: ir.Attend, outer: Made) -> list[ir.Node]:
    """The node, behind what its sink is made of in the region."""
    region = node.weights
    found = None if region is None else _find_sink(region, node, outer)
    if region is None or found is None:
        return [node]
    before = [n for n in region.body if n in ir.made_by(region.body, [found])] if isinstance(found, Value) else []
    if isinstance(found, Expr):
        number = Value(Type((), "float32"), "", node.span)
        before, found = [ir.Full(outs=(number,), span=node.span, value=found)], number
    softmax = SinkSoftmax(outs=(Value(region.params[0].type),), span=node.span, s=region.params[0], sink=found, over=node.key)
    weights = ir.Region(params=region.params, body=(cast(ir.Node, softmax),), result=softmax.out)
    return [*before, replace(node, weights=weights)]


def _find_sink(region: ir.Region, node: ir.Attend, outer: Made) -> ir.Operand | None:
    """The logit that the softmax has besides the scores: one for each row at most."""
    made = {out: n for n in region.body for out in n.outs}
    (s,) = region.params
    last = _uncast(region.result, made)
    found: ir.Operand | None = None
    match made.get(last):
        case ir.Elementwise(function="div", args=(Value() as part, Value() as whole)):
            found = _divided(part, whole, s, node.key, made)
        case ir.Slice(x=x, over=over, start=start, stop=stop) if over is node.key:
            found = _cut_off(x, start, stop, s, node.key, {**outer, **made})
        case _:
            pass
    if not isinstance(found, Value):
        return found
    rows = [x for x in node.q.type.labels if x is not node.feature]
    return found if set(found.type.labels) <= set(rows) and not depends_on(found, s, made) else None


def _divided(part: Value, whole: Value, s: Value, key: Label, made: Made) -> Value | None:
    """`e / (sum(e) + exp(sink - row))` with `e = exp(s - row)`, whatever the row is; or no row in either."""
    total = made.get(whole)
    if not isinstance(total, ir.Elementwise) or total.function != "add":
        return None
    for a, b in (total.args, total.args[::-1]):
        summed = made.get(a) if isinstance(a, Value) else None
        if not isinstance(summed, ir.Reduce) or summed.function != "sum" or summed.over != (key,) or summed.x is not part:
            continue
        scores, other = _exponent(part, made), _exponent(b, made)
        if scores is not None and other is not None and scores[0] is s and scores[1] is other[1]:
            return other[0]
    return None


def _exponent(e: ir.Operand, made: Made) -> tuple[Value, Value | None] | None:
    """`x, row` of exp(x - row); no row of exp(x) where x is no difference."""
    node = made.get(e) if isinstance(e, Value) else None
    if not isinstance(node, ir.Elementwise) or node.function != "exp" or not isinstance(x := node.args[0], Value):
        return None
    match made.get(x):
        case ir.Elementwise(function="sub", args=(Value() as left, Value() as row)):
            return left, row
        case _:
            return x, None


def _cut_off(x: Value, start: Expr, stop: Expr, s: Value, key: Label, made: Made) -> ir.Operand | None:
    """`softmax(concat(s, sink))` without its last entry, or `softmax(concat(sink, s))` without its first."""
    softmax = made.get(_uncast(x, made))
    joined = made.get(_uncast(softmax.x, made)) if isinstance(softmax, ir.Along) and softmax.function == "softmax" else None
    if not isinstance(softmax, ir.Along) or softmax.over is not key or not isinstance(joined, ir.Concat) or joined.entry:
        return None
    size = s.type.axis(key).size
    match joined.args:
        case (first, sink) if first is s and (start, stop) == (ZERO, size):
            pass
        case (sink, second) if second is s and (start, stop) == (ONE, size + ONE):
            pass
        case _:
            return None
    if joined.over is not key or sink.type.axis(key).size != ONE:
        return None
    while sink.type.has(key):
        match made.get(sink):
            case ir.Cast(x=below) | ir.Transpose(x=below) | ir.Expand(x=below):
                sink = below
            case ir.Full(value=value):
                return value
            case _:
                return None
    return sink


def _uncast(value: Value, made: Made) -> Value:
    while isinstance(node := made.get(value), ir.Cast | ir.Transpose):
        value = node.x
    return value
