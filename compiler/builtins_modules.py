"""Operations that own something or read functions: parameters, attention, experts, scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..grammar import tree
from . import ir
from .diagnostics import Note
from .dims import Expr, const
from .operations import scores_type
from .operations_base import show, show_axis
from .scope import Frame
from .values import NONE, BankRecipe, Builtin, Initial, Instance, Recipe, Static, describe

if TYPE_CHECKING:
    from .apply import Applier
from .call_arguments import SIGNATURES, Args, Operation, operation

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
        missing = [x for x in axes if not table.type.has(x.label)]
        if missing:
            table = a.body.expand(table, missing, node.span)
        order = [x.label for x in axes]
        if set(order) == set(table.type.labels) and order != list(table.type.labels):
            table = a.body.transpose(table, order, node.span)
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


def declare(e: Applier, node: tree.Call, name: str, trainable: bool, frame: Frame) -> ir.Value:
    """`name = param([axes], init)`: a parameter (or buffer) of this component."""
    a = Args(e, "param" if trainable else "buffer", node, frame)
    axes = a.axes(0, "axes")
    for axis in axes:
        if axis.size.is_dynamic:
            raise e.error(
                "E369",
                f"a parameter cannot have the dynamic axis `{axis.label}`",
                node.span,
                remedy=f"`{axis.label}` is as long as the input: a parameter's axes are known when the model is built. If it came here by the order"
                " of an input's axes, `transpose(x, [...])` puts another last",
            )
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
        raise e.error(
            "E203",
            f"the parameter `{name}` would have an axis twice",
            node.span,
            help="a second axis of the same size is written with a prime: `[d, d']`",
        )
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
    scale: ir.Operand = const(1)
    if nodes["scale"] is not None and values["scale"] is not NONE:
        scale = a.e.operand_of(values["scale"], nodes["scale"], a.frame)
    named = {name: node.id if isinstance(node, tree.Name) else name for name, node in nodes.items()}
    score, mask, weights = values["score"], values["mask"], values["weights"]
    if isinstance(weights, Builtin) and weights.name == "softmax":
        weights = NONE
    score_region = (
        None
        if score is NONE
        else a.e.score_region(score, named["score"], scores, a.e.head_axes(q.type, query, feature), i, j, a.span, a.frame)
    )
    mask_region = None if mask is NONE or mask is True else a.e.mask_region(mask, named["mask"], i, j, a.span, a.frame)
    weights_region = None if weights is NONE else a.e.weights_region(weights, named["weights"], scores, a.span, a.frame)
    if score_region is not None and score_region.result is score_region.params[0]:
        score_region = None  # it leaves the scores as they are
    match weights_region:
        case ir.Region(params=(s,), body=(ir.Along(function="softmax", x=x, over=along, outs=(out,)),), result=result) if (
            x is s and along is fresh and out is result
        ):
            weights_region = None  # the softmax itself, by another name
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
    if feature is not None and not k.type.has(feature):
        notes = [Note(f"the {what} are made here", x.span) for what, x in (("queries", q), ("keys", k)) if x.span is not None]
        wanted = ", ".join(show_axis(x) for x in k.type.axes if x.label in only_k)
        raise a.e.error("E371", f"queries {show(q.type)} and keys {show(k.type)} do not meet: `{feature}` is no axis of the keys", a.span, *notes,
                        help=f"give both the same last axes, here [{wanted}]")  # fmt: skip
    raise a.e.error("E371", f"which axis do queries {show(q.type)} and keys {show(k.type)} run along?", a.span,
                    help="say `over = t`, or `over = [t, s]` when the keys have an axis of their own")  # fmt: skip


@operation("scan(component, carried..., x, over = axis, reverse = false)")
def _scan(a: Args) -> Static:
    backwards = a.find(None, "reverse")
    reverse = a.e.condition(backwards, a.frame) if backwards is not None else False
    node = a.need(0, "component")
    target = a.e.evaluate(node, a.frame)
    args = a.tensors()
    name = node.id if isinstance(node, tree.Name) else ""
    return a.e.apply_scan(target, name, args, a.label(None, "over"), reverse, a.span, a.frame)


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
        raise a.e.error(
            "E372", f"`route` sends tokens to a bank, found {describe(bank)}", node.span, help="bind one: `experts = bank(n, recipe)`"
        )
    index, weight = a.tensor(2, "index"), a.tensor(3, "weight")
    choice = index.type.axes[-1].label if index.type.axes else None
    if choice is None or x.type.has(choice) or not weight.type.has(choice) or index.type.dtype != "int":
        raise a.e.error(
            "E373", f"`index` and `weight` need a last axis of choices that `x` lacks, found {index.type!r} and {weight.type!r}", a.span
        )
    outs, outer = a.e.bank_module(bank, [ir.Value(x.type, x.hint, x.span)], a.span, a.frame)
    if len(outs) != 1:
        raise a.e.error("E372", "an expert has one result", node.span)
    result = ir.Value(outs[0].type, "", a.span)
    a.body.nodes.append(
        ir.Route(outs=(result,), span=a.span, target=bank.name, x=x, index=index, weight=weight, choice=choice, args=tuple(outer))
    )
    return result
