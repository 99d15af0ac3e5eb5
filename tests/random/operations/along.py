"""Reductions, and what runs along an axis."""

from __future__ import annotations

from ..body import Axis, Body, Tensor
from .aligned import axes_
from .parts import parameter


def reduce(body: Body) -> None:
    x = body.pick(lambda t: len(t.axes) >= 1)
    over = body.choices.some(x.axes) or [body.choices.pick(x.axes)]
    rest = [a for a in x.axes if a not in over]
    labels = over[0].label if len(over) == 1 else f"[{', '.join(a.label for a in over)}]"
    text = body.use(x)
    if x.dtype == "bool":
        how, dtype = body.choices.pick([("any", "bool"), ("all", "bool"), ("sum", "int"), ("mean", "float")])
        body.put(f"{how}({text}, {labels})", rest, dtype, reach=1, tied=True)
    elif x.dtype == "int":
        how, dtype = body.choices.pick([("sum", "int"), ("max", "int"), ("min", "int"), ("mean", "float")])
        body.put(f"{how}({text}, {labels})", rest, dtype, reach=9, tied=True)
    else:
        how = body.choices.pick(["sum", "mean", "max", "min", "logsumexp", "prod"])
        text = f"tanh({text})" if how == "prod" else text
        reach = 3 * x.reach * (4 if how == "sum" else 1)
        body.put(f"{how}({text}, {labels})", rest, reach=reach, tied=x.tied)


def arg_reduce(body: Body) -> None:
    x = body.pick_float(lambda t: bool(t.axes) and not t.tied)
    axis = body.choices.pick(x.axes)
    body.put(
        f"{body.choices.pick(['argmax', 'argmin'])}({body.use(x)}, {axis.label})", [a for a in x.axes if a is not axis], "int", tied=True
    )


def along(body: Body) -> None:
    x = body.pick_float(lambda t: bool(t.axes))
    axis = body.choices.pick(x.axes)
    how = body.choices.pick(["softmax", "log_softmax", "cumsum", "sort", "flip"] + ([] if x.tied else ["argsort"]))
    dtype, reach = ("int", 9.0) if how == "argsort" else ("float", x.reach * (4 if how == "cumsum" else 1))
    body.put(f"{how}({body.use(x)}, {axis.label})", x.axes, dtype, reach=reach, tied=x.tied)


def roll(body: Body) -> None:
    x = body.pick(lambda t: bool(t.axes))
    axis = body.choices.pick(x.axes)
    body.put(f"roll({body.use(x)}, {body.choices.pick([1, -1, 2, -3])}, {axis.label})", x.axes, x.dtype, reach=x.reach, tied=x.tied)


def top(body: Body) -> None:
    x = body.pick_float(lambda t: not t.tied and any(a.count for a in t.axes))
    axis = body.choices.pick([a for a in x.axes if a.count])
    count = body.choices.between(1, axis.count or 1)
    new = Axis(body.name("best"), str(count), count)
    name = body.name("largest")
    source = body.named(x)
    body.say(f"{name} = top({body.use(source)}, {new.label}: {count}, {axis.label})")
    axes = [new if a is axis else a for a in x.axes]
    match body.choices.below(3):
        case 0:
            body.add(Tensor(f"{name}.values", axes_(axes), "float", x.reach))
        case 1:
            body.put(f"{source.name}[{axis.label} = {name}.index]", axes, reach=x.reach, tied=False)
        case _:
            body.add(Tensor(f"{name}.values", axes_(axes), "float", x.reach))
            body.add(Tensor(f"{name}.index", axes_(axes), "int", 9, tied=True))


def unfold(body: Body) -> None:
    x = body.pick_float(lambda t: any(a.size == a.label or (a.count or 0) > 2 for a in t.axes))
    axis = body.choices.pick([a for a in x.axes if a.size == a.label or (a.count or 0) > 2])
    width = body.choices.pick([2, 3])
    dilation = body.choices.pick([1, 1, 2])
    stride = body.choices.pick([1, 1, 2])
    k = Axis(body.name("k"), str(width), width)
    reach = (width - 1) * dilation
    padded = f"pad({body.use(x)}, {axis.label} = [{reach}, 0])"
    options = (f", stride = {stride}" if stride > 1 else "") + (f", dilation = {dilation}" if dilation > 1 else "")
    count = None if axis.count is None else (axis.count - 1) // stride + 1
    out = axis if stride == 1 else Axis(axis.label, f"(({axis.size} - 1) // {stride} + 1)" if count is None else str(count), count)
    axes = [*(out if a is axis else a for a in x.axes), k]
    y = body.put(f"unfold({padded}, {axis.label}, {k}{options})", axes, reach=x.reach, tied=True)
    if body.choices.below(2):
        channels = [a for a in x.axes if a is not axis and a.count][:1]
        weight = parameter(body, [k, *channels])
        over = [k.label, *(a.label for a in (channels if body.choices.below(2) else []))]
        body.put(
            f"einsum({body.use(y)}, {body.use(weight)}, over = [{', '.join(over)}])", [a for a in y.axes if a.label not in over], reach=9
        )


def recurrence(body: Body) -> None:
    x = body.named(body.pick_float(lambda t: bool(t.axes)))
    axis = body.choices.pick(x.axes)
    gate = f"sigmoid({x.name})"
    if body.choices.below(2):
        static = [a for a in x.axes if a.count and a is not axis][:1]
        p = body.named(parameter(body, static))
        gate = f"sigmoid({body.use(p)})"
    body.put(f"linear_recurrence({gate}, {body.use(x)}, over = {axis.label})", x.axes, reach=3 * x.reach, tied=x.tied)


def shift(body: Body) -> None:
    """Each entry next to the one before it, as convolutions and token shifts are made."""
    x = body.named(body.pick_float(lambda t: any(a.size == a.label for a in t.axes)))
    axis = body.choices.pick([a for a in x.axes if a.size == a.label])
    before = f"pad({body.use(x)}, {axis.label} = [1, 0])[{axis.label} = .. -1]"
    body.put(f"{x.name} - {before}" if body.choices.below(2) else before, x.axes, reach=2 * x.reach, tied=True)
