"""Cross entropy over many classes without all logits at once: the last linear map goes into the loss, a few rows at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import Axis, Label, Type, Value
from ...grammar.frozen import frozen
from ..python.code import call, method, number
from ..python.layouts import without
from ..python.name_parameters import native_of
from ..python.natives import Linear
from ..python.write_body import BodyWriter

MANY = 4096
"""Classes from which on the logits of a batch are larger than what the layers keep."""


@frozen(kw_only=True, eq=False)
class LinearCrossEntropy(ir.Op):
    """CrossEntropy of logits = x times `weight` over `inside` (plus `bias`), along the axis `over`."""

    x: Value
    weight: Value
    bias: Value | None
    target: Value
    over: Label
    inside: Label


def chunk_losses(program: ir.Program) -> ir.Program:
    """Requires: `name_parameters` has run. Ensures: where the model's loss is the cross entropy of a linear map to many classes, casts and slices
    of rows apart, it is a LinearCrossEntropy of what the map is applied to. Leaves alone: the logits, for the output."""
    root = program.root
    made = {out: n for n in root.body for out in n.outs}
    body = tuple(new for n in root.body for new in (isinstance(n, ir.CrossEntropy) and _chunked(n, root, made)) or [n])
    return replace(program, root=replace(root, body=body))


@frozen(kw_only=True, eq=False)
class Logits:
    """What logits are made of: slices of rows of a linear map of x, softly capped at `cap`. `reads` are nodes that give weight and bias."""

    x: Value
    weight: Value
    bias: Value | None
    cap: Expr | None
    inside: Label
    slices: tuple[ir.Slice, ...]
    reads: tuple[ir.Node, ...] = ()


def logits_of(value: Value, over: Label, root: ir.Module, made: dict[Value, ir.Node]) -> Logits | None:
    """How a tensor of many classes follows from a smaller one; none if in another way."""
    classes = value.type.axis(over).size.value()
    if classes is None or classes < MANY:
        return None
    slices: list[ir.Slice] = []
    bias: Value | None = None
    cap: Expr | None = None
    while True:
        match made.get(value):
            case ir.Cast(x=x):
                value = x
            case ir.Slice(x=x, over=cut) as rows if cut is not over:
                slices.append(rows)
                value = x
            case ir.Elementwise(function="add", args=(Value() as x, Value() as term)) if bias is None and term.type.labels == (over,):
                value, bias = x, term
            case ir.Elementwise(function="mul") as node if cap is None and bias is None and (found := _capped(node, made)) is not None:
                value, cap = found
            case ir.Einsum(args=(x, weight), over=(inside,)) if set(weight.type.labels) == {over, inside}:
                found_logits = Logits(x=x, weight=weight, bias=bias, cap=cap, inside=inside, slices=tuple(slices))
                return found_logits if _is_plain(found_logits, over) else None
            case ir.Call(target=str() as name, args=(x,)) if bias is None:
                return _of_child(x, over, cap, tuple(slices), name, root)
            case _:
                return None


def _capped(node: ir.Elementwise, made: dict[Value, ir.Node]) -> tuple[Value, Expr] | None:
    """`cap * tanh(x / cap)`: x and the cap."""
    for cap, bent in (node.args, node.args[::-1]):
        match made.get(bent) if isinstance(bent, Value) else None:
            case ir.Elementwise(function="tanh", args=(Value() as inner,)) if isinstance(cap, Expr):
                match made.get(inner):
                    case ir.Elementwise(function="div", args=(Value() as x, Expr() as other)) if other == cap:
                        return x, cap
    return None


def _of_child(x: Value, over: Label, cap: Expr | None, slices: tuple[ir.Slice, ...], name: str, root: ir.Module) -> Logits | None:
    """The same where the linear map is a child."""
    child = root.child(name)
    native = native_of(child.module) if isinstance(child, ir.Child) else None
    if not isinstance(native, Linear) or len(native.inside) != 1 or len(native.outside) != 1:
        return None
    inside = x.type.labels[-1]
    own = {native.inside[0]: inside, native.outside[0]: over}
    params = [p for p in (native.weight, native.bias) if p is not None]
    weight, *more = [
        ir.ChildParam(
            outs=(Value(Type(tuple(Axis(own[a.label], a.size) for a in p.type.axes), p.type.dtype)),), span=p.span, path=(name, p.name)
        )
        for p in params
    ]
    bias = more[0].out if more else None
    found = Logits(x=x, weight=weight.out, bias=bias, cap=cap, inside=inside, slices=slices, reads=(weight, *more))
    return found if _is_plain(found, over) else None


def _is_plain(logits: Logits, over: Label) -> bool:
    x = logits.x.type
    return x.dtype == "float" and logits.weight.type.dtype == "float" and not x.has(over)


def sliced(logits: Logits) -> tuple[list[ir.Node], Value]:
    """The rows of x that the logits are of."""
    nodes: list[ir.Node] = [*logits.reads]
    x = logits.x
    for rows in reversed(logits.slices):
        axes = tuple(rows.out.type.axis(a.label) if a.label is rows.over else a for a in x.type.axes)
        nodes.append(replace(rows, outs=(Value(Type(axes, x.type.dtype)),), x=x))
        x = nodes[-1].out
    return nodes, x


def _chunked(node: ir.CrossEntropy, root: ir.Module, made: dict[Value, ir.Node]) -> list[ir.Node] | None:
    """The nodes in the place of one; none where it stays."""
    logits = logits_of(node.logits, node.over, root, made)
    if logits is None or logits.cap is not None:
        return None
    nodes, x = sliced(logits)
    loss = LinearCrossEntropy(
        outs=node.outs,
        span=node.span,
        x=x,
        weight=logits.weight,
        bias=logits.bias,
        target=node.target,
        over=node.over,
        inside=logits.inside,
    )
    return [*nodes, cast(ir.Node, loss)]


def lower_linear_cross_entropy(w: BodyWriter, node: ir.Node) -> None:
    loss = cast(LinearCrossEntropy, node)
    t = w.apart(w.read(loss.x), loss.inside)
    rows = without(t.layout, [loss.inside])
    x, target = w.arranged(t, (*rows, (loss.inside,))), w.arranged(w.read(loss.target), rows)
    weight = w.arranged(w.read(loss.weight), ((loss.over,), (loss.inside,)))
    if len(rows) != 1:
        x, target = method(x, "flatten", number(0), number(len(rows) - 1)), method(target, "flatten")
    bias = [] if loss.bias is None else [w.arranged(w.read(loss.bias), ((loss.over,),))]
    function = "biased_cross_entropy" if bias else "linear_cross_entropy"
    w.helpers.add(function)
    w.define(loss.out, call(function, x, target, weight, *bias), (), kind="loss")


def linear_cross_entropy(biased: bool) -> str:
    """The function as a generated file has it."""
    bias = ", bias" if biased else ""
    name = "biased" if biased else "linear"
    kind = f"{name.capitalize()}CrossEntropy"
    return f'''def {name}_cross_entropy(x: Tensor, target: Tensor, weight: Tensor{", bias: Tensor" if biased else ""}) -> Tensor:
    """Cross entropy of F.linear(x, weight{bias}) with the targets that are not -100; never all logits at once."""
    loss: Tensor = {kind}.apply(x, target, weight{bias}, torch.is_grad_enabled())
    return loss


class {kind}(torch.autograd.Function):
    """Gradients are computed on the way, while a few rows of logits are there."""

    @staticmethod
    def forward(ctx, x, target, weight{bias}, differentiate):  # type: ignore[no-untyped-def]
        exact = torch.promote_types(x.dtype, torch.float32)
        kept = target != -100
        place = target.where(kept, 0)[:, None]
        share = (kept.to(exact) / kept.sum().clamp(min=1))[:, None]
        loss = torch.zeros((), dtype=exact, device=x.device)
        if differentiate:
            grad_x, grad_weight = torch.empty_like(x), torch.zeros_like(weight, dtype=exact){BIAS_START if biased else ""}
        size = max(256, x.numel() // weight.shape[0])  # logits of a chunk are about as large as x
        for rows in map(slice, range(0, len(x), size), range(size, len(x) + size, size)):
            logits = F.linear(x[rows], weight{bias}).to(exact)
            total = logits.logsumexp(-1, keepdim=True)
            loss += ((total - logits.gather(1, place[rows])) * share[rows]).sum()
            if differentiate:
                grad = logits.sub_(total).exp_().mul_(share[rows]).scatter_add_(1, place[rows], -share[rows]){BIAS_SUM if biased else ""}
                grad = grad.to(x.dtype)
                grad_x[rows] = grad @ weight
                grad_weight += grad.t() @ x[rows]
        if differentiate:
            ctx.save_for_backward(grad_x, grad_weight.to(weight.dtype){", grad_bias.to(bias.dtype)" if biased else ""})
        return loss

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        grad_x, grad_weight{", grad_bias" if biased else ""} = ctx.saved_tensors
        return grad * grad_x, None, grad * grad_weight, {"grad * grad_bias, " if biased else ""}None'''


BIAS_START = """
            grad_bias = torch.zeros_like(bias, dtype=exact)"""
BIAS_SUM = """
                grad_bias += grad.sum(0)"""
