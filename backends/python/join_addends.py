"""`s + a - b` with a and b free of the scores is `s + (a - b)`: one tensor that a fused kernel adds."""

from __future__ import annotations

from dataclasses import replace

from ...compiler import ir
from ...compiler.ir import Axis, DType, Label, Type, Value
from ...grammar.tree import Span
from .attention_axes import depends_on, is_native


def join_addends(program: ir.Program) -> ir.Program:
    """Ensures: the same results up to rounding; where that lets a kernel take it, a score that adds several tensors adds their sum, which is
    taken in at least float32. Leaves alone: numbers that are added, and scores that do something else with s."""
    return replace(program, root=ir.rewrite(program.root, _change))


def _change(module: ir.Module) -> ir.Module:
    return replace(module, body=tuple(_joined(n) if isinstance(n, ir.Attend) and n.score is not None else n for n in module.body))


def _joined(node: ir.Attend) -> ir.Attend:
    score = node.score
    assert score is not None
    terms = _addends(score)
    if len(terms) < 2:
        return node
    before = ir.made_by(score.body, [v for v, _ in terms])
    body = [n for n in score.body if n in before]
    bias, negative = _exact(terms[0][0], node.span, body), terms[0][1]
    for value, subtracted in terms[1:]:
        bias = _combined("add" if subtracted is negative else "sub", bias, _exact(value, node.span, body), node.span, body)
    function = "sub" if negative else "add"
    last = ir.Elementwise(outs=(score.result,), span=node.span, function=function, args=(score.params[0], bias))
    new = replace(node, score=replace(score, body=(*body, last)))
    return new if is_native(new) else node


def _addends(score: ir.Region) -> list[tuple[Value, bool]]:
    """What is added to the scores, in order, and whether it is subtracted; nothing if the score is no such sum of tensors."""
    s, value = score.params[0], score.result
    nodes = {out: n for n in score.body for out in n.outs}
    found: list[tuple[Value, bool]] = []
    while value is not s:
        last = nodes.get(value)
        if not isinstance(last, ir.Elementwise) or last.function not in ("add", "sub") or len(last.args) != 2:
            return []
        a, b = last.args
        if not isinstance(a, Value) or not isinstance(b, Value):
            return []
        if last.function == "add" and depends_on(b, s, nodes):
            a, b = b, a
        if depends_on(b, s, nodes):
            return []
        found.append((b, last.function == "sub"))
        value = a
    return found[::-1]


def _exact(value: Value, span: Span, body: list[ir.Node]) -> Value:
    """In at least float32, as it was when it was added to the scores."""
    if value.type.dtype != "float":
        return value
    out = Value(Type(value.type.axes, "float32"), value.hint, span)
    body.append(ir.Cast(outs=(out,), span=span, x=value))
    return out


def _combined(function: str, a: Value, b: Value, span: Span, body: list[ir.Node]) -> Value:
    axes: dict[Label, Axis] = {axis.label: axis for axis in (*a.type.axes, *b.type.axes)}
    dtype: DType = "float32" if "float32" in (a.type.dtype, b.type.dtype) else a.type.dtype
    out = Value(Type(tuple(axes.values()), dtype), "", span)
    body.append(ir.Elementwise(outs=(out,), span=span, function=function, args=(a, b)))
    return out


__all__ = ["join_addends"]
