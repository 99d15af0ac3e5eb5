"""Numbers of places, and what they read: rows of tables, entries, sums."""

from __future__ import annotations

from ..body import Axis, Body, Unfit
from .aligned import shared
from .parts import parameter


def index(body: Body) -> None:
    axis = body.choices.pick([a for a in body.axes.values() if a.label == a.size and a.label != "b"])
    body.put(body.choices.pick([f"index({axis.label})", f"index({axis.label}) * 2 - 1", f"index({axis.label}) // 2", f"-index({axis.label}) % 3"]),
             [axis], "int", reach=9, tied=True)  # fmt: skip


def one_hot(body: Body) -> None:
    x = body.pick(lambda t: t.dtype == "int")
    n = Axis(body.name("n"), "4", 4)
    body.put(f"one_hot({body.use(x)}, {n})", [*x.axes, n], "bool", tied=True)


def gather(body: Body) -> None:
    """Rows of a table, or entries of a tensor, at computed places."""
    at = body.pick(lambda t: t.dtype == "int")
    if body.choices.below(2):
        rows = Axis(body.name("rows"), "5", 5)
        extra = [body.axis(body.choices.pick([2, 3]))] if body.choices.below(2) else []
        table = parameter(body, [rows, *extra])
        if body.choices.chance(3):
            table = body.named(table)
        body.put(f"{body.use(table)}[{rows.label} = {body.use(at)} % 5]", [*at.axes, *extra], typed=True)
        return
    x = body.pick_float(lambda t: any(a.count and a.label not in at.labels for a in t.axes) and shared(at, t))
    axis = body.choices.pick([a for a in x.axes if a.count and a.label not in at.labels])
    mine = [a for a in x.axes if a is not axis]
    place = x.axes.index(axis)
    new = [a for a in at.axes if a.label not in {m.label for m in mine}]
    axes = [*list(x.axes[:place]), *new, *x.axes[place + 1 :]]
    y = body.put(f"0 + {body.use(x)}[{axis.label} = {body.use(at)} % {axis.size}]", axes, reach=x.reach, tied=True)
    labels = ", ".join(a.label for a in y.axes)
    body.put(f"transpose({body.use(y)}, [{labels}])", y.axes, reach=x.reach, tied=True)


def scatter(body: Body) -> None:
    x = body.pick_float(lambda t: any(a.count is not None for a in t.axes) or bool(t.axes))
    axis = body.choices.pick(x.axes)
    slots = Axis(body.name("slots"), "3", 3)
    rest = [a for a in x.axes if a is not axis]
    if any(a.size != a.label for a in rest):
        raise Unfit
    source = body.named(x)
    base = f"zeros([{', '.join([*(a.label for a in rest), str(slots)])}])"
    at = body.name("at")
    if axis.size != axis.label:
        raise Unfit
    body.say(f"{at} = index({axis.label}) % 3")
    body.put(f"scatter_add({base}, {at}, {body.use(source)}, over = {slots.label})", [*rest, slots], reach=3 * x.reach, tied=True)


def entries(body: Body) -> None:
    """Several axes indexed at once; a table by position."""
    if body.choices.below(2):
        at = body.pick(lambda t: t.dtype == "int" and len(t.axes) < 3)
        rows, columns = Axis(body.name("rows"), "4", 4), Axis(body.name("columns"), "3", 3)
        table = body.named(parameter(body, [rows, columns]))
        text = body.use(at)
        if at.once:
            text = body.choices.pick([f"{text} % 4, 1", f"0, {text} % 3", f"-1, {text} % 3"])
        else:
            text = body.choices.pick([f"{text} % 4, {text} % 3", f"2, {text} % 3", f"{text} % 4, -1"])
        body.put(f"{body.use(table)}[{text}]", at.axes, reach=2, tied=True)
        return
    x = body.pick_float(lambda t: sum((a.count or 0) > 1 for a in t.axes) > 1)
    one, two = [a for a in x.axes if (a.count or 0) > 1][:2]
    assert two.count is not None
    shorter = Axis(two.label, str(two.count - 1), two.count - 1)
    body.put(
        f"{body.use(x)}[{one.label} = {body.choices.pick([0, 1, -1])}, {two.label} = {body.choices.pick(['1 ..', '.. -1'])}]",
        [shorter if a is two else a for a in x.axes if a is not one],
        reach=x.reach,
        tied=x.tied,
    )
