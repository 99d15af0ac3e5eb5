"""The operations of the language by name: each reads its arguments and adds nodes.

An operation is a function of `Args`, which gives its arguments as tensors, axes or numbers and reports what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..grammar import tree
from . import ir
from .diagnostics import Note
from .dims import Expr, apply, const
from .evaluate import Results
from .library import suggest
from .operations import Body, infinity, scores_type
from .scope import Frame
from .values import NONE, BankRecipe, Builtin, Initial, Instance, ListValue, Recipe, Static, describe

if TYPE_CHECKING:
    from .elaborate import Elaborator


@dataclass
class Args:
    """The arguments of one operation."""

    e: Elaborator
    name: str
    node: tree.Call
    frame: Frame
    taken: set[int] = field(default_factory=set)

    @property
    def span(self) -> tree.Span:
        return self.node.span

    @property
    def body(self) -> Body:
        return self.e.body(self.frame, self.node)

    def find(self, position: int | None, name: str) -> tree.Expr | None:
        """The argument at a position or of a name."""
        at = 0
        for k, argument in enumerate(self.node.arguments):
            if argument.name == name or (argument.name is None and at == position):
                self.taken.add(k)
                return argument.value
            at += argument.name is None
        return None

    def need(self, position: int | None, name: str) -> tree.Expr:
        found = self.find(position, name)
        if found is None:
            raise self.e.error("E360", f"`{self.name}` needs `{name}`", self.span, help=SIGNATURES.get(self.name))
        return found

    def tensor(self, position: int | None, name: str) -> ir.Value:
        return self.e.tensor(self.need(position, name), self.frame)

    def axes(self, position: int | None, name: str) -> tuple[ir.Axis, ...]:
        return self.e.axes(self.need(position, name), self.frame)

    def label(self, position: int | None, name: str) -> ir.Label:
        node = self.need(position, name)
        axes = self.e.axes(node, self.frame)
        if len(axes) != 1:
            raise self.e.error("E361", f"`{self.name}` works along one axis, found {len(axes)}", node.span)
        return axes[0].label

    def labels(self, position: int | None, name: str) -> tuple[ir.Label, ...]:
        return tuple(a.label for a in self.axes(position, name))

    def new_axis(self, position: int | None, name: str, size: Expr | None = None) -> ir.Axis:
        """An axis that may be new here: `label: size`, or a bare name of a known size."""
        node = self.need(position, name)
        if isinstance(node, tree.Name) and size is not None:
            return self.e.new_axis(node.id, size, self.frame)
        axes = self.e.axes(node, self.frame)
        if len(axes) != 1:
            raise self.e.error("E361", f"`{self.name}` makes one axis, found {len(axes)}", node.span)
        return axes[0]

    def number(self, position: int | None, name: str, default: int | float | None = None) -> Expr:
        found = self.find(position, name)
        if found is None:
            if default is None:
                self.need(position, name)
            return const(default or 0)
        return self.e.number(found, self.frame)

    def along(self) -> list[tuple[str, tree.Expr, tree.Span]]:
        """`axis = value` arguments: an axis with what to do along it."""
        found = []
        for k, argument in enumerate(self.node.arguments):
            if argument.name is not None and k not in self.taken:
                self.taken.add(k)
                found.append((argument.name, argument.value, argument.name_span or argument.span))
        return found

    def one_along(self) -> tuple[ir.Label, tree.Expr]:
        found = self.along()
        if len(found) != 1:
            raise self.e.error("E362", f"`{self.name}` works on one axis, written `axis = ...`, found {len(found)}", self.span, help=SIGNATURES.get(self.name))
        name, value, span = found[0]
        return self.named_label(name, span), value

    def named_label(self, name: str, span: tree.Span) -> ir.Label:
        return self.e.axes(tree.Name(span=span, id=name), self.frame)[0].label

    def finish(self) -> None:
        """Nothing is silently ignored."""
        for k, argument in enumerate(self.node.arguments):
            if k not in self.taken:
                shown = f"`{argument.name}`" if argument.name else "so many arguments"
                raise self.e.error("E363", f"`{self.name}` takes no {shown[1:] if shown.startswith('so') else shown}".replace("no o many", "not so many"),
                                   argument.name_span or argument.span, help=SIGNATURES.get(self.name))  # fmt: skip


Operation = Callable[[Args], Static]
OPERATIONS: dict[str, Operation] = {}
SIGNATURES: dict[str, str] = {}


def operation(signature: str) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        name = signature.partition("(")[0]
        OPERATIONS[name] = function
        SIGNATURES[name] = f"`{signature}`"
        return function

    return add


UNARY = ("exp log log1p sqrt rsqrt abs sign floor sin cos tanh sigmoid relu silu gelu gelu_tanh softplus erf").split()
STATIC = {"exp": "exp", "log": "log", "sqrt": "sqrt", "abs": "abs", "floor": "floor", "sin": "sin", "cos": "cos", "tanh": "tanh", "ceil": "ceil"}
REDUCE = "sum mean max min prod any all logsumexp argmax argmin".split()
ALONG = "softmax log_softmax cumsum sort argsort flip".split()


def _unary(name: str) -> Operation:
    def run(a: Args) -> Static:
        node = a.need(0, "x")
        value = a.e.evaluate(node, a.frame)
        if isinstance(value, Expr) and name in STATIC:
            return apply(STATIC[name], value)
        if isinstance(value, Expr) and name == "rsqrt":
            return apply("pow", value, const(-0.5))
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
    if isinstance(condition, bool):
        return a.e.evaluate(a.need(1, "a") if condition else a.need(2, "b"), a.frame)
    chosen = [a.e.operand(a.need(1, "a"), a.frame), a.e.operand(a.need(2, "b"), a.frame)]
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
        return apply("int", value)
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


def _tensors(a: Args) -> list[ir.Value]:
    """Tensors given as a list or one by one."""
    found: list[ir.Value] = []
    for k, argument in enumerate(a.node.arguments):
        if argument.name is None and k not in a.taken:
            a.taken.add(k)
            items = argument.value.items if isinstance(argument.value, tree.List) else (argument.value,)
            found += [a.e.tensor(item, a.frame) for item in items]
    return found


@operation("stack([a, b], label)")
def _stack(a: Args) -> Static:
    first = a.need(0, "tensors")
    items = first.items if isinstance(first, tree.List) else (first,)
    args = [a.e.tensor(item, a.frame) for item in items]
    return a.body.stack(args, a.new_axis(1, "label", const(len(args))).label, a.span)


@operation("concat(a, b, ..., over = axis)")
def _concat(a: Args) -> Static:
    tensors = _tensors(a)
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
    return a.body.unfold(a.tensor(0, "x"), a.label(1, "over"), a.new_axis(2, "window"), a.number(None, "stride", 1), a.number(None, "dilation", 1), a.span)


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


# ---------------------------------------------------------------- parameters


@operation("normal(std)")
def _normal(a: Args) -> Static:
    return Initial(ir.Init(kind="normal", numbers=(a.number(0, "std"),)))


@operation("uniform(low, high)")
def _uniform(a: Args) -> Static:
    return Initial(ir.Init(kind="uniform", numbers=(a.number(0, "low"), a.number(1, "high"))))


def _initial(a: Args, axes: tuple[ir.Axis, ...], default: str) -> ir.Init:
    node = a.find(1, "init")
    if node is None:
        return ir.Init(kind="normal", numbers=(const(0.02),)) if default == "normal" else ir.Init(kind="zeros")
    assert a.frame.builder is not None
    builder = a.frame.builder
    with builder.region() as body:
        value = a.e.evaluate(node, a.frame)
        if isinstance(value, Initial):
            return value.init
        if isinstance(value, Builtin) and value.name in ("zeros", "ones"):
            return ir.Init(kind="zeros" if value.name == "zeros" else "ones")
        if isinstance(value, Expr):
            return ir.Init(kind="constant", numbers=(value,))
        table = a.e.as_tensor(value, node.span, a.frame)
        nodes = tuple(body.nodes)
    if set(table.type.labels) - {x.label for x in axes}:
        raise a.e.error("E367", f"the initial value {table.type!r} has axes that the parameter lacks", node.span)
    return ir.Init(kind="table", table=ir.Region(params=(), body=nodes, result=table))


def _owned(trainable: bool) -> Operation:
    def run(a: Args) -> Static:
        raise a.e.error("E368", f"bind it: `name = {a.name}(...)`", a.span)

    return run


operation("param([axes], init)")(_owned(True))
operation("buffer([axes], init)")(_owned(False))


def declare(e: Elaborator, node: tree.Call, name: str, trainable: bool, frame: Frame) -> ir.Value:
    """`name = param([axes], init)`: a parameter (or buffer) of this component."""
    a = Args(e, "param" if trainable else "buffer", node, frame)
    axes = a.axes(0, "axes")
    for axis in axes:
        if axis.size.is_dynamic:
            raise e.error("E369", f"a parameter cannot have the dynamic axis `{axis.label}`", node.span, help="its size must be known when the model is built")
        number = axis.size.value()
        if not isinstance(number, int) or number <= 0:
            places = [n.span for n in e.diagnostics.written(axis.size) if n.span is not None]
            raise e.error("E370", f"axis `{axis.label}` of `{name}` has the size {number}", places[0] if len(places) == 1 else node.span,
                          Note("the parameter", node.span))  # fmt: skip
    init = _initial(a, axes, "normal")
    a.finish()
    assert frame.builder is not None
    builder = frame.builder
    if name in builder.children or (name in builder.params and not builder.inline):
        raise e.error("E338", f"`{builder.name}` already has weights called `{name}`", node.span)
    if len({x.label for x in axes}) != len(axes):
        raise e.error("E203", f"the parameter `{name}` would have an axis twice", node.span, help="a second axis of the same size is written with a prime: `[d, d']`")
    return builder.add_param(name, ir.Type(axes), init, trainable, node.span)


# ---------------------------------------------------------------- attention and experts


@operation("attend(q, k, v, mask, score, scale, weights, over)")
def _attend(a: Args) -> Static:
    q, k, v = a.tensor(0, "q"), a.tensor(1, "k"), a.tensor(2, "v")
    nodes = {name: a.find(position, name) for position, name in ((3, "mask"), (4, "score"), (5, "scale"), (6, "weights"), (7, "over"))}
    query, k_axis = _sequence_axes(a, q, k, nodes["over"])
    fresh = k_axis if not q.type.has(k_axis) else a.e.prime(k_axis, a.frame)
    length = a.body.axis(k, k_axis, a.span).size
    i, j = ir.Type((a.body.axis(q, query, a.span),), "int"), ir.Type((ir.Axis(fresh, length),), "int")
    feature = q.type.axes[-1].label
    scores = scores_type(q.type, k.type, query, k_axis, fresh, feature)
    values = {name: a.e.evaluate(node, a.frame) if node is not None and name != "over" else NONE for name, node in nodes.items()}
    scale: ir.Operand = const(1) if values["scale"] is NONE or nodes["scale"] is None else a.e.operand(nodes["scale"], a.frame)
    named = {name: node.id if isinstance(node, tree.Name) else name for name, node in nodes.items()}
    score, mask, weights = values["score"], values["mask"], values["weights"]
    if isinstance(weights, Builtin) and weights.name == "softmax":
        weights = NONE
    score_region = (
        None if score is NONE else a.e.score_region(score, named["score"], scores, a.e.head_axes(q.type, query, feature), i, j, a.span, a.frame)
    )
    mask_region = None if mask is NONE or mask is True else a.e.mask_region(mask, named["mask"], i, j, a.span, a.frame)
    weights_region = None if weights is NONE else a.e.weights_region(weights, named["weights"], scores, a.span, a.frame)
    if score_region is not None and score_region.result is score_region.params[0]:
        score_region = None                                        # it leaves the scores as they are
    match weights_region:
        case ir.Region(params=(s,), body=(ir.Along(function="softmax", x=x, over=along, outs=(out,)),), result=result) if x is s and along is fresh and out is result:
            weights_region = None                                  # the softmax itself, by another name
    return a.body.attend(q, k, v, query, k_axis, fresh, scale, mask_region, score_region, weights_region, a.span)


def _sequence_axes(a: Args, q: ir.Value, k: ir.Value, over: tree.Expr | None) -> tuple[ir.Label, ir.Label]:
    """The query axis of q and the key axis of k: as `over` says, or the only possibility."""
    if over is not None:
        axes = a.e.axes(over, a.frame)
        if len(axes) not in (1, 2):
            raise a.e.error("E371", "`over` is the sequence axis, or [query axis, key axis]", over.span)
        return axes[0].label, axes[-1].label
    feature = q.type.axes[-1].label if q.type.axes else None
    only_k = [x.label for x in k.type.axes if not q.type.has(x.label)]
    dynamic = [x.label for x in q.type.axes[1:] if x.size.is_dynamic and x.label is not feature]
    if len(only_k) == 1:
        mine = [x for x in dynamic if not k.type.has(x)]
        if len(mine) == 1:
            return mine[0], only_k[0]
    elif not only_k:
        shared = [x for x in dynamic if k.type.has(x)]
        if len(shared) == 1:
            return shared[0], shared[0]
    raise a.e.error("E371", f"which axis do queries {q.type!r} and keys {k.type!r} run along?", a.span,
                    help="say `over = t`, or `over = [t, s]` when the keys have an axis of their own")  # fmt: skip


@operation("scan(component, carried..., x, over = axis, reverse = false)")
def _scan(a: Args) -> Static:
    over = a.label(None, "over")
    backwards = a.find(None, "reverse")
    reverse = a.e.condition(backwards, a.frame) if backwards is not None else False
    node = a.need(0, "component")
    target = a.e.evaluate(node, a.frame)
    args = _tensors(a)
    name = node.id if isinstance(node, tree.Name) else ""
    return a.e.apply_scan(target, name, args, over, reverse, a.span, a.frame)


@operation("bank(count, recipe)")
def _bank(a: Args) -> Static:
    axis = a.new_axis(0, "count")
    node = a.need(1, "recipe")
    recipe = a.e.evaluate(node, a.frame)
    if not isinstance(recipe, Recipe):
        raise a.e.error("E372", f"a bank is made of a component, found {describe(recipe)}", node.span, help=SIGNATURES["bank"])
    return BankRecipe(axis, recipe)


@operation("route(x, experts, index, weight)")
def _route(a: Args) -> Static:
    x = a.tensor(0, "x")
    node = a.need(1, "experts")
    bank = a.e.evaluate(node, a.frame)
    if not isinstance(bank, Instance) or not isinstance(bank.recipe, BankRecipe):
        raise a.e.error("E372", f"`route` sends tokens to a bank, found {describe(bank)}", node.span, help="bind one: `experts = bank(n, recipe)`")
    index, weight = a.tensor(2, "index"), a.tensor(3, "weight")
    choice = index.type.axes[-1].label if index.type.axes else None
    if choice is None or x.type.has(choice) or not weight.type.has(choice) or index.type.dtype != "int":
        raise a.e.error("E373", f"`index` and `weight` need a last axis of choices that `x` lacks, found {index.type!r} and {weight.type!r}", a.span)
    outs, outer = a.e.bank_module(bank, [ir.Value(x.type, x.hint, x.span)], a.span, a.frame)
    if len(outs) != 1:
        raise a.e.error("E372", "an expert has one result", node.span)
    result = ir.Value(outs[0].type, "", a.span)
    a.body.nodes.append(ir.Route(outs=(result,), span=a.span, target=bank.name, x=x, index=index, weight=weight, choice=choice, args=tuple(outer)))
    return result


def run(e: Elaborator, name: str, node: tree.Call, frame: Frame) -> Static:
    a = Args(e, name, node, frame)
    result = OPERATIONS[name](a)
    a.finish()
    return result


def table() -> dict[str, Builtin]:
    return {name: Builtin(name, function) for name, function in OPERATIONS.items()}


def unknown_operation(name: str) -> str | None:
    return suggest(name, OPERATIONS)
