"""Losses that read logits of many classes otherwise than by a plain cross entropy: smoothed labels, a soft cap, a price for the normaliser."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ...compiler import ir
from ...compiler.dims import ONE, ZERO, Expr, const
from ...compiler.ir import Label, Node, Type, Value
from ...grammar.frozen import frozen
from ..python.code import call
from ..python.inline_functions import inlined_call
from ..python.layouts import without
from ..python.write_body import BodyWriter
from .chunk_losses import MANY, Logits, logits_of, sliced


@frozen(kw_only=True, eq=False)
class LinearStatistics(ir.Op):
    """Of the logits x times `weight` (plus `bias`, softly capped) along `over`: log-sum-exp, mean, and the entry at `target` (0 at -100)."""

    x: Value
    weight: Value
    bias: Value | None
    cap: Expr | None
    target: Value
    over: Label
    inside: Label


def read_statistics(program: ir.Program) -> ir.Program:
    """Requires: `name_parameters` has run. Ensures: where the losses read logits of many classes as cross entropies, as log-sum-exp or as the
    mean of log-softmax, all of one linear map, they read LinearStatistics. Leaves alone: the logits, for the output; losses that read them
    otherwise; plain cross entropies."""
    flat, losses = _flattened(program)
    made = {out: n for n in flat for out in n.outs}
    alone = ir.made_by(flat, [x.value for x in losses]) - ir.made_by(flat, list(ir.results(program.root)))
    readers = [(n, *found) for n in flat if n in alone and (found := _read(n, made)) is not None]
    entropies = [n for n, _, _ in readers if isinstance(n, ir.CrossEntropy)]
    if not entropies or len({n.target for n in entropies}) != 1:
        return program
    each = [logits_of(value, over, program.root, made) for _, value, over in readers]
    first = each[0]
    if first is None or len(first.x.type.axes) < 2 or any(x is None or not _same(x, first) for x in each):
        return program
    if first.cap is None and len(entropies) == len(readers):
        return program
    nodes, x = sliced(first)
    at = Type(tuple(a for a in x.type.axes if a.label is not first.inside), "float32")
    outs = tuple(Value(at, hint) for hint in ("total", "mean", "picked"))
    made_now = LinearStatistics(
        outs=outs, span=entropies[0].span, x=x, weight=first.weight, bias=first.bias, cap=first.cap, target=entropies[0].target,
        over=entropies[0].over, inside=first.inside,
    )  # fmt: skip
    counted = next((n.outs[0] for n in flat if _tells_counted(n, made_now.target)), None)
    instead = {n: _from_statistics(n, made_now, counted) for n, _, _ in readers}
    body: list[Node] = []
    for n in flat:
        if n is readers[0][0]:
            body += [*nodes, cast(Node, made_now)]
        body += instead.get(n, [n])
    kept = ir.made_by(body, [*(x.value for x in losses), *ir.results(program.root)])
    only = ir.made_by(body, [x.value for x in losses]) - ir.made_by(body, list(ir.results(program.root)))
    if any(_is_large(n) for n in only):
        return program
    root = replace(program.root, body=tuple(n for n in body if n in kept or ir.has_effects(program.root)))
    return replace(program, root=root, losses=losses)


def _flattened(program: ir.Program) -> tuple[tuple[Node, ...], tuple[ir.Loss, ...]]:
    """The model's body with the functions of many classes written out."""
    body: list[Node] = []
    mapping: dict[Value, Value] = {}
    for node in program.root.body:
        node = ir.replace_values(node, mapping)
        found = inlined_call(node) if any(map(_many, ir.operands(node))) else None
        if found is None:
            body.append(node)
            continue
        body += found[0]
        mapping.update(zip(node.outs, found[1], strict=True))
    return tuple(body), tuple(replace(x, value=mapping.get(x.value, x.value)) for x in program.losses)


def _many(value: Value) -> bool:
    return any(not a.size.is_dynamic and (a.size.value() or 0) >= MANY for a in value.type.axes if a.label is not ir.REST)


def _is_large(node: Node) -> bool:
    return not isinstance(node, ir.ChildParam) and any(_many(v) and any(a.size.is_dynamic for a in v.type.axes) for v in node.outs)


def _read(node: Node, made: dict[Value, Node]) -> tuple[Value, Label] | None:
    """The logits that a node reads whole, and the axis of classes."""
    match node:
        case ir.CrossEntropy() if _many(node.logits):
            return node.logits, node.over
        case ir.Reduce(function="logsumexp", over=(over,)) if _many(node.x):
            return node.x, over
        case ir.Reduce(function="mean", over=(over,)) if _many(node.x):
            log = made.get(node.x)
            return (log.x, over) if isinstance(log, ir.Along) and log.function == "log_softmax" and log.over is over else None
        case _:
            return None


def _same(a: Logits, b: Logits) -> bool:
    cut = [[(s.over, s.start, s.stop) for s in x.slices] for x in (a, b)]
    paths = [[n.path for n in x.reads if isinstance(n, ir.ChildParam)] for x in (a, b)]
    return (
        (a.x, a.cap, a.inside) == (b.x, b.cap, b.inside)
        and cut[0] == cut[1]
        and paths[0] == paths[1]
        and (bool(a.reads) or (a.weight, a.bias) == (b.weight, b.bias))
    )


def _tells_counted(node: Node, target: Value) -> bool:
    return isinstance(node, ir.Elementwise) and node.function == "ne" and node.args == (target, const(-100))


def _from_statistics(node: Node, made: LinearStatistics, counted: Value | None) -> list[Node]:
    """The same number, from statistics of each row; `counted`: where the targets are not -100, if that is known."""
    total, mean, picked = made.outs
    nodes: list[Node] = []

    def of(function: str, *args: ir.Operand, dtype: ir.DType = "float32", out: Value | None = None, hint: str = "") -> Value:
        out = out or Value(Type(total.type.axes, dtype), hint, node.span)
        nodes.append(ir.Elementwise(outs=(out,), span=node.span, function=function, args=args))
        return out

    if isinstance(node, ir.Reduce):
        if node.function == "logsumexp":
            of("add", total, ZERO, out=node.out)
        else:
            of("sub", mean, total, out=node.out)
        return nodes
    assert isinstance(node, ir.CrossEntropy)
    if counted is None:
        counted = of("ne", node.target, const(-100), dtype="bool", hint="counted")
    losses = of("where", counted, of("sub", total, picked), ZERO)
    scalar = Type((), "float32")
    both = [Value(scalar, hint, node.span) for hint in ("", "", "count")]
    number_of = Value(Type(total.type.axes, "float32"), "", node.span)
    nodes.append(ir.Cast(outs=(number_of,), span=node.span, x=counted))
    for out, x in ((both[0], losses), (both[1], number_of)):
        nodes.append(ir.Reduce(outs=(out,), span=node.span, function="sum", x=x, over=total.type.labels))
    of("maximum", both[1], ONE, out=both[2])
    of("div", both[0], both[2], out=node.out)
    return nodes


def lower_linear_statistics(w: BodyWriter, node: ir.Node) -> None:
    made = cast(LinearStatistics, node)
    t = w.apart(w.read(made.x), made.inside)
    rows = without(t.layout, [made.inside])
    x, target = w.arranged(t, (*rows, (made.inside,))), w.arranged(w.read(made.target), rows)
    weight = w.arranged(w.read(made.weight), ((made.over,), (made.inside,)))
    named = {}
    if made.bias is not None:
        named["bias"] = w.arranged(w.read(made.bias), ((made.over,),))
    if made.cap is not None:
        named["cap"] = w.number(made.cap)
    w.helpers.add("linear_statistics")
    w.define_several(made.outs, call("linear_statistics", x, target, weight, **named), [rows] * 3, ["total", "mean", "picked"])


LINEAR_STATISTICS = '''def linear_statistics(
    x: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None = None, cap: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp, mean and entry at the target (0 for -100) of each row of F.linear(x, weight, bias), softly capped; never
    all logits at once: they are computed again on the way back."""
    total, mean, picked = LinearStatistics.apply(x.flatten(0, -2), target.flatten(), weight, bias, cap)
    return total.view_as(target), mean.view_as(target), picked.view_as(target)


class LinearStatistics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, target, weight, bias, cap):  # type: ignore[no-untyped-def]
        found = x.new_zeros(3, len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        for rows in chunks(x, weight):
            logits = capped(F.linear(x[rows], weight, bias), cap)
            found[0, rows], found[1, rows] = logits.logsumexp(-1), logits.mean(-1)
            found[2, rows] = logits.gather(1, target[rows, None].clamp(min=0))[:, 0]
        ctx.save_for_backward(x, target, weight, bias, found[0])
        ctx.cap = cap
        return found[0], found[1], found[2] * (target != -100)

    @staticmethod
    def backward(ctx, of_total, of_mean, of_picked):  # type: ignore[no-untyped-def]
        x, target, weight, bias, total = ctx.saved_tensors
        grad_x, grad_weight = torch.empty_like(x), torch.zeros_like(weight, dtype=total.dtype)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=total.dtype)
        of_picked = of_picked * (target != -100)
        for rows in chunks(x, weight):
            logits = capped(F.linear(x[rows], weight, bias), ctx.cap)
            grad = (logits - total[rows, None]).exp() * of_total[rows, None] + of_mean[rows, None] / len(weight)
            grad.scatter_add_(1, target[rows, None].clamp(min=0), of_picked[rows, None])
            if ctx.cap is not None:
                grad *= 1 - (logits / ctx.cap).square()
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad = grad.to(x.dtype)
            grad_x[rows] = grad @ weight
            grad_weight += grad.t() @ x[rows]
        return grad_x, None, grad_weight.to(weight.dtype), None if grad_bias is None else grad_bias.to(bias.dtype), None


def chunks(x: Tensor, weight: Tensor) -> Iterator[slice]:
    """A few rows at a time: their logits are about as large as x."""
    size = max(256, x.numel() // weight.shape[0])
    return map(slice, range(0, len(x), size), range(size, len(x) + size, size))


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """At least float32, and smoothly within -cap and cap."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if cap is None else cap * (logits / cap).tanh()'''
