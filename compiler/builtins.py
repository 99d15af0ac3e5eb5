"""The operations of the language by name: each reads its arguments and adds nodes.

Parameters, attention and experts are in builtins_modules.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..grammar import tree
from . import builtins_modules as builtins_modules  # its operations add themselves to the table
from . import ir
from .dims import Expr, apply, const
from .evaluate import Results
from .operations import infinity
from .scope import Frame
from .values import NONE, Builtin, ListValue, Static

if TYPE_CHECKING:
    from .apply import Applier
from .call_arguments import OPERATIONS, SIGNATURES, Args, Operation, operation

UNARY = [
    "exp",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "abs",
    "sign",
    "floor",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "relu",
    "silu",
    "gelu",
    "gelu_tanh",
    "softplus",
    "erf",
]
STATIC = {
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "abs": "abs",
    "floor": "floor",
    "sin": "sin",
    "cos": "cos",
    "tanh": "tanh",
    "ceil": "ceil",
}
REDUCE = ["sum", "mean", "max", "min", "prod", "any", "all", "logsumexp", "argmax", "argmin"]
ALONG = ["softmax", "log_softmax", "cumsum", "sort", "argsort", "flip"]


def _unary(name: str) -> Operation:
    def run(a: Args) -> Static:
        node = a.need(0, "x")
        value = a.e.evaluate(node, a.frame)
        if isinstance(value, Expr) and name in STATIC:
            return a.e.finite(lambda: apply(STATIC[name], value), a.node)
        if isinstance(value, Expr) and name == "rsqrt":
            return a.e.finite(lambda: apply("pow", value, const(-0.5)), a.node)
        if name == "ceil":
            below = a.body.elementwise("neg", [a.e.as_tensor(value, node.span, a.frame)], a.span)
            return a.body.elementwise("neg", [a.body.elementwise("floor", [below], a.span)], a.span)
        return a.body.elementwise(name, [a.e.as_tensor(value, node.span, a.frame)], a.span)

    return run


def _reduce(name: str) -> Operation:
    def run(a: Args) -> Static:
        return a.body.reduce(name, a.tensor(0, "x"), a.labels(1, "over"), a.span)

    return run


def _along(name: str) -> Operation:
    def run(a: Args) -> Static:
        return a.body.along(name, a.tensor(0, "x"), a.label(1, "over"), a.span)

    return run


for _name in [*UNARY, "ceil"]:
    operation(f"{_name}(x)")(_unary(_name))
for _name in REDUCE:
    operation(f"{_name}(x, axes)")(_reduce(_name))
for _name in ALONG:
    operation(f"{_name}(x, axis)")(_along(_name))


def _pairwise(name: str) -> Operation:
    def run(a: Args) -> Static:
        left, right = a.need(0, "a"), a.need(1, "b")
        x, y = a.e.operand(left, a.frame), a.e.operand(right, a.frame)
        if isinstance(x, Expr) and isinstance(y, Expr):
            return apply(name, x, y)
        return a.body.elementwise(name, [x, y], a.span)

    return run


operation("minimum(a, b)")(_pairwise("minimum"))
operation("maximum(a, b)")(_pairwise("maximum"))


@operation("where(condition, a, b)")
def _where(a: Args) -> Static:
    condition = a.e.evaluate(a.need(0, "condition"), a.frame)
    ways = a.need(1, "a"), a.need(2, "b")
    if isinstance(condition, bool):
        return a.e.evaluate(ways[0] if condition else ways[1], a.frame)
    chosen = [a.e.operand(way, a.frame) for way in ways]
    return a.body.elementwise("where", [a.e.as_tensor(condition, a.span, a.frame), *chosen], a.span)


@operation("clamp(x, low, high)")
def _clamp(a: Args) -> Static:
    bounds: list[ir.Operand] = []
    for position, name, sign in ((1, "low", -1), (2, "high", 1)):
        node = a.need(position, name)
        value = a.e.evaluate(node, a.frame)
        bounds.append(infinity(sign) if value is NONE else a.e.operand(node, a.frame))
    return a.body.elementwise("clamp", [a.tensor(0, "x"), *bounds], a.span)


@operation("float32(x)")
def _float32(a: Args) -> Static:
    return a.body.cast(a.tensor(0, "x"), "float32", a.span)


@operation("float(x)")
def _float(a: Args) -> Static:
    node = a.need(0, "x")
    value = a.e.evaluate(node, a.frame)
    if isinstance(value, Expr):
        return value * const(1.0)
    return a.body.cast(a.e.as_tensor(value, node.span, a.frame), "float", a.span)


@operation("int(x)")
def _int(a: Args) -> Static:
    node = a.need(0, "x")
    value = a.e.evaluate(node, a.frame)
    if isinstance(value, Expr):
        return a.e.finite(lambda: apply("int", value), a.node)
    return a.body.cast(a.e.as_tensor(value, node.span, a.frame), "int", a.span)


@operation("bool(x)")
def _bool(a: Args) -> Static:
    return a.body.cast(a.tensor(0, "x"), "bool", a.span)


@operation("like(y, x)")
def _like(a: Args) -> Static:
    y, x = a.tensor(0, "y"), a.tensor(1, "x")
    return a.body.cast(y, x.type.dtype, a.span)


@operation("top(x, k, axis)")
def _top(a: Args) -> Static:
    x, over = a.tensor(0, "x"), a.label(2, "over")
    axes = a.axes(1, "k")
    if len(axes) != 1:
        raise a.e.error("E361", "`top` takes one count", a.span)
    values, index = a.body.top(x, axes[0].size, over, axes[0].label, a.span)
    return Results.of((values, index), ("values", "index"))


@operation("einsum(a, b, ..., over = axes)")
def _einsum(a: Args) -> Static:
    args = []
    for k, argument in enumerate(a.node.arguments):
        if argument.name is None:
            a.taken.add(k)
            args.append(a.e.tensor(argument.value, a.frame))
    return a.body.einsum(args, a.labels(None, "over"), a.span)


@operation("split(x, axis = [sizes])")
def _split(a: Args) -> Static:
    x = a.tensor(0, "x")
    over, pieces = a.one_along()
    items = pieces.items if isinstance(pieces, tree.List) else None
    if items is None:
        value = a.e.evaluate(pieces, a.frame)
        if isinstance(value, ListValue):
            items = value.node.items
        else:
            raise a.e.error("E364", "`split` takes a list of sizes", pieces.span, help=SIGNATURES["split"])
    sizes, labels = [], []
    for item in items:
        if isinstance(item, tree.Name | tree.Axis):
            axis = a.e.axes(item, a.frame)[0]
            sizes.append(axis.size)
            labels.append(axis.label)
        else:
            sizes.append(a.e.number(item, a.frame))
            labels.append(over)
    return Results.of(a.body.split(x, over, sizes, labels, a.span), ())


@operation("unflatten(x, axis = [axes])")
def _unflatten(a: Args) -> Static:
    x = a.tensor(0, "x")
    over, axes = a.one_along()
    return a.body.unflatten(x, over, a.e.axes(axes, a.frame), a.span)


@operation("flatten(x, [axes], label)")
def _flatten(a: Args) -> Static:
    x = a.tensor(0, "x")
    over = a.labels(1, "axes")
    size = const(1)
    for label in over:
        size = size * a.body.axis(x, label, a.span).size
    return a.body.flatten(x, over, a.new_axis(2, "label", size).label, a.span)


@operation("unstack(x, axis)")
def _unstack(a: Args) -> Static:
    return Results.of(a.body.unstack(a.tensor(0, "x"), a.label(1, "over"), a.span), ())


@operation("stack([a, b], label)")
def _stack(a: Args) -> Static:
    first = a.need(0, "tensors")
    items = first.items if isinstance(first, tree.List) else (first,)
    args = [a.e.tensor(item, a.frame) for item in items]
    return a.body.stack(args, a.new_axis(1, "label", const(len(args))).label, a.span)


@operation("concat(a, b, ..., over = axis)")
def _concat(a: Args) -> Static:
    tensors = a.tensors()
    return a.body.concat(tensors, a.label(None, "over"), a.span)


@operation("rename(x, old = new)")
def _rename(a: Args) -> Static:
    x = a.tensor(0, "x")
    old: list[ir.Label] = []
    new: list[ir.Label] = []
    for name, value, span in a.along():
        before = a.e.axes(tree.Name(span=span, id=name), a.frame)
        if isinstance(value, tree.Name) and len(before) == 1 and not value.id.endswith("'"):
            after: tuple[ir.Axis, ...] = (a.e.new_axis(value.id, a.body.axis(x, before[0].label, span).size, a.frame),)
        else:
            after = a.e.axes(value, a.frame)
        if len(before) != len(after):
            raise a.e.error("E365", f"`{name}` is {len(before)} axes and is renamed to {len(after)}", span)
        old += [b.label for b in before]
        new += [b.label for b in after]
    return a.body.rename(x, old, new, a.span)


@operation("expand(x, axes)")
def _expand(a: Args) -> Static:
    return a.body.expand(a.tensor(0, "x"), a.axes(1, "axes"), a.span)


@operation("squeeze(x, axis)")
def _squeeze(a: Args) -> Static:
    return a.body.squeeze(a.tensor(0, "x"), a.label(1, "over"), a.span)


@operation("transpose(x, [axes])")
def _transpose(a: Args) -> Static:
    return a.body.transpose(a.tensor(0, "x"), a.labels(1, "axes"), a.span)


@operation("pad(x, axis = [before, after], value = 0)")
def _pad(a: Args) -> Static:
    x = a.tensor(0, "x")
    value = a.number(None, "value", 0)
    over, ends = a.one_along()
    if not isinstance(ends, tree.List) or len(ends.items) != 2:
        raise a.e.error("E364", "`pad` takes `[before, after]`", ends.span, help=SIGNATURES["pad"])
    return a.body.pad(x, over, a.e.number(ends.items[0], a.frame), a.e.number(ends.items[1], a.frame), value, a.span)


@operation("roll(x, shift, axis)")
def _roll(a: Args) -> Static:
    return a.body.roll(a.tensor(0, "x"), a.number(1, "shift"), a.label(2, "over"), a.span)


@operation("index(axis)")
def _index(a: Args) -> Static:
    axes = a.axes(0, "axis")
    if len(axes) != 1:
        raise a.e.error("E361", "`index` runs along one axis", a.span)
    return a.body.index(axes[0], a.span, axes[0].size.is_dynamic)


def _filled(number: float | None) -> Operation:
    def run(a: Args) -> Static:
        value = const(int(number)) if number is not None else a.number(1, "value")
        axes = a.axes(0, "axes")
        return a.body.full(axes, value, "float", a.span)

    return run


operation("zeros([axes])")(_filled(0))
operation("ones([axes])")(_filled(1))
operation("full([axes], value)")(_filled(None))


@operation("one_hot(index, axis)")
def _one_hot(a: Args) -> Static:
    return a.body.one_hot(a.tensor(0, "x"), a.new_axis(1, "axis"), a.span)


@operation("scatter_add(base, index, x, over = axis)")
def _scatter_add(a: Args) -> Static:
    return a.body.scatter_add(a.tensor(0, "base"), a.tensor(1, "index"), a.tensor(2, "x"), a.label(3, "over"), a.span)


@operation("unfold(x, axis, label: width, stride = 1, dilation = 1)")
def _unfold(a: Args) -> Static:
    return a.body.unfold(
        a.tensor(0, "x"), a.label(1, "over"), a.new_axis(2, "window"), a.number(None, "stride", 1), a.number(None, "dilation", 1), a.span
    )


@operation("linear_recurrence(a, b, over = axis)")
def _linear_recurrence(a: Args) -> Static:
    return a.body.linear_recurrence(a.tensor(0, "a"), a.tensor(1, "b"), a.label(2, "over"), a.span)


@operation("dropout(x, rate)")
def _dropout(a: Args) -> Static:
    rate = a.number(1, "rate")
    x = a.tensor(0, "x")
    if rate.value() == 0:
        a.e.symbols.choose(rate)
        return x
    return a.body.dropout(x, rate, a.span)


@operation("stop_gradient(x)")
def _stop_gradient(a: Args) -> Static:
    return a.body.stop_gradient(a.tensor(0, "x"), a.span)


@operation("cross_entropy(logits, target, over = axis)")
def _cross_entropy(a: Args) -> Static:
    return a.body.cross_entropy(a.tensor(0, "logits"), a.tensor(1, "target"), a.label(2, "over"), a.span)


def run(e: Applier, name: str, node: tree.Call, frame: Frame) -> Static:
    a = Args(e, name, node, frame)
    result = OPERATIONS[name](a)
    a.finish()
    return result


def table() -> dict[str, Builtin]:
    """Every operation by name, those of builtins_modules.py included."""
    return {name: Builtin(name, function) for name, function in OPERATIONS.items()}
