"""Axes split, merged, renamed, joined, cut."""

from __future__ import annotations

from ..body import Axis, Body, Tensor, Unfit
from .aligned import factor, shared, sized, union
from .parts import parameter


def split(body: Body) -> None:
    x = body.pick(lambda t: any((a.count or 0) > 1 for a in t.axes) and t.dtype != "bool")
    axis = body.choices.pick([a for a in x.axes if (a.count or 0) > 1])
    assert axis.count is not None
    first = body.choices.between(1, axis.count - 1)
    one, two = Axis(body.name("p"), str(first), first), Axis(body.name("p"), str(axis.count - first), axis.count - first)
    names = [body.name("part"), body.name("part")]
    spread = (
        f"{axis.label} - {first}" if body.axes.get(axis.label) == axis and axis.size == axis.label and body.choices.below(2) else two.size
    )
    body.say(f"{', '.join(names)} = split({body.use(x)}, {axis.label} = [{one}, {two.label}: {spread}])")
    for name, piece in zip(names, (one, two), strict=True):
        body.add(Tensor(name, tuple(piece if a is axis else a for a in x.axes), x.dtype, x.reach, x.tied))


def halves(body: Body) -> None:
    """Equal pieces that keep their label, joined again in another order."""
    x = body.pick(lambda t: any((a.count or 1) % 2 == 0 for a in t.axes))
    axis = body.choices.pick([a for a in x.axes if (a.count or 1) % 2 == 0])
    half = (axis.count or 2) // 2
    names = [body.name("half"), body.name("half")]
    body.say(f"{', '.join(names)} = split({body.use(x)}, {axis.label} = [{half}, {half}])")
    body.put(f"concat({names[1]}, {names[0]}, over = {axis.label})", x.axes, x.dtype, reach=x.reach, tied=x.tied)


def regroup(body: Body) -> None:
    """Split an axis into two; merge them again, perhaps the other way round."""
    x = body.pick(lambda t: any((a.count or 1) > 3 and factor(a.count or 1) for a in t.axes))
    axis = body.choices.pick([a for a in x.axes if (a.count or 1) > 3 and factor(a.count or 1)])
    assert axis.count is not None
    small = factor(axis.count)
    one, two = body.axis(small), body.axis(axis.count // small)
    spread = [b for a in x.axes for b in ((one, two) if a is axis else (a,))]
    y = body.put(f"unflatten({body.use(x)}, {axis.label} = [{one}, {two}])", spread, x.dtype, reach=x.reach, tied=x.tied)
    if body.choices.below(2):
        order = body.choices.pick([(one, two), (two, one)])
        merged = axis if body.choices.below(2) and body.axes.get(axis.label) == axis else Axis(body.name("c"), axis.size, axis.count)
        place = [a for a in (merged if a is one else a for a in y.axes) if a is not two]
        body.put(
            f"flatten({body.use(y)}, [{order[0].label}, {order[1].label}], {merged.label})", place, x.dtype, reach=x.reach, tied=x.tied
        )


def merge(body: Body) -> None:
    """Two axes of any kind become one."""
    x = body.pick(lambda t: len(t.axes) >= 2)
    one = body.choices.pick(x.axes)
    two = body.choices.pick([a for a in x.axes if a is not one])
    count = one.count * two.count if one.count and two.count else None
    label = body.name("c")
    merged = Axis(label, f"({one.size}) * ({two.size})" if count is None else str(count), count)
    first = min((one, two), key=x.axes.index)
    place = [merged if a is first else a for a in x.axes if a is first or a not in (one, two)]
    body.put(f"flatten({body.use(x)}, [{one.label}, {two.label}], {label})", place, x.dtype, reach=x.reach, tied=x.tied)


def alike(body: Body) -> None:
    """Sizes that are equal for these numbers, and must stay so: `t * d` and `t * 4`."""
    x = body.named(
        body.pick_float(lambda t: sum(a.label == a.size for a in t.axes) > 1 and any(a.count and a.label == a.size for a in t.axes))
    )
    static = body.choices.pick([a for a in x.axes if a.count and a.label == a.size])
    other = body.choices.pick([a for a in x.axes if a.label == a.size and a is not static])
    label, k = body.name("c"), body.name("k")
    merged = Axis(label, f"({other.size}) * ({static.size})" if other.count is None else str(other.count * (static.count or 1)),
                  None if other.count is None else other.count * (static.count or 1))  # fmt: skip
    pair = sorted((static, other), key=x.axes.index)
    again = f"expand(mean({body.use(x)}, {static.label}), [{k}: {static.count}])"
    first, second = (k if a is static else a.label for a in pair)
    text = f"flatten({x.name}, [{pair[0].label}, {pair[1].label}], {label}) + flatten({again}, [{first}, {second}], {label})"
    body.put(text, [merged if a is pair[0] else a for a in x.axes if a is not pair[1]], reach=2 * x.reach, tied=x.tied)


def unstack(body: Body) -> None:
    x = body.pick(lambda t: any(2 <= (a.count or 0) <= 4 for a in t.axes))
    axis = body.choices.pick([a for a in x.axes if 2 <= (a.count or 0) <= 4])
    assert axis.count is not None
    names = [body.name("slice") for _ in range(axis.count)]
    body.say(f"{', '.join(names)} = unstack({body.use(x)}, {axis.label})")
    for name in names:
        body.add(Tensor(name, tuple(a for a in x.axes if a is not axis), x.dtype, x.reach, x.tied))


def stack(body: Body) -> None:
    a = body.pick_float()
    b = body.pick_float(lambda t: shared(a, t))
    label = body.name("pair")
    texts = (
        [body.use(a), "0.5 * " + (a.name if a is b and not a.once else body.use(b))] if a is not b or not a.once else [body.use(a), "1.5"]
    )
    axes = union(a, b)
    body.put(f"stack([{', '.join(texts)}], {label})", [*axes, Axis(label, "2", 2)], reach=max(a.reach, b.reach), tied=a.tied or b.tied)


def concat(body: Body) -> None:
    a = body.pick_float(lambda t: any(x.count for x in t.axes))
    axis = body.choices.pick([x for x in a.axes if x.count])
    assert axis.count is not None
    rest = Tensor("", tuple(x for x in a.axes if x is not axis))

    def fits(t: Tensor) -> bool:
        own = [x for x in t.axes if x.label == axis.label]
        return (
            t is not a
            and len(own) == 1
            and own[0].count is not None
            and shared(rest, Tensor("", tuple(x for x in t.axes if x is not own[0])))
        )

    found = [t for t in body.pool if t.dtype == "float" and fits(t)]
    if found and body.choices.below(2):
        b = body.choices.pick(found)
    else:
        b = parameter(body, [Axis(axis.label, "2", 2), *([x for x in rest.axes if x.count][:1])])
    other = b.axis(axis.label)
    size = axis.count + (other.count or 0)
    joined = Axis(axis.label, str(size), size)
    widest = max((a, b), key=lambda t: len(t.axes))
    kept = [joined if x.label == axis.label else x for x in widest.axes]
    kept += [x for x in (b if widest is a else a).axes if x.label not in {y.label for y in kept}]
    texts = [body.use(a), body.use(b)]
    body.put(f"concat({', '.join(texts)}, over = {axis.label})", kept, reach=max(a.reach, b.reach), tied=a.tied or b.tied)


def rename(body: Body) -> None:
    x = body.pick(lambda t: bool(t.axes))
    axis = body.choices.pick(x.axes)
    new = body.fresh(axis)
    body.put(
        f"rename({body.use(x)}, {axis.label} = {new.label})", [new if a is axis else a for a in x.axes], x.dtype, reach=x.reach, tied=x.tied
    )


def transpose(body: Body) -> None:
    x = body.pick(lambda t: len(t.axes) > 1)
    order = body.choices.shuffled(x.axes)
    body.put(f"transpose({body.use(x)}, [{', '.join(a.label for a in order)}])", order, x.dtype, reach=x.reach, tied=x.tied)


def expand(body: Body) -> None:
    x = body.pick_float()
    missing = [a for a in body.axes.values() if a.label not in x.labels and a.label == a.size]
    axis = body.choices.pick(missing) if missing and body.choices.below(2) else body.axis(body.choices.pick([1, 2, 3]))
    body.put(f"expand({body.use(x)}, [{axis}])", [axis, *x.axes], reach=x.reach, tied=True)


def squeeze(body: Body) -> None:
    x = body.pick(lambda t: any(a.count == 1 for a in t.axes))
    axis = body.choices.pick([a for a in x.axes if a.count == 1])
    body.put(f"squeeze({body.use(x)}, {axis.label})", [a for a in x.axes if a is not axis], x.dtype, reach=x.reach, tied=x.tied)


def pad(body: Body) -> None:
    x = body.pick_float(lambda t: bool(t.axes))
    axis = body.choices.pick(x.axes)
    before, after = body.choices.pick([(1, 0), (0, 1), (2, 1), (0, 3)])
    value = body.choices.pick(["", ", value = 0.5", ", value = -1.0"])
    longer = sized(axis, f"{axis.size} + {before + after}", before + after)
    axes = [longer if a is axis else a for a in x.axes]
    body.put(f"pad({body.use(x)}, {axis.label} = [{before}, {after}]{value})", axes, reach=x.reach, tied=True)


def slice_(body: Body) -> None:
    x = body.pick(lambda t: bool(t.axes))
    axis = body.choices.pick(x.axes)
    if axis.count == 1 or (axis.count is None and axis.size != axis.label):
        raise Unfit
    text = body.use(x)
    match body.choices.below(4):
        case 0:
            body.put(
                f"{text}[{axis.label} = {body.choices.pick([0, -1])}]",
                [a for a in x.axes if a is not axis],
                x.dtype,
                reach=x.reach,
                tied=x.tied,
            )
            return
        case 1:
            ends, less = "1 ..", -1
        case 2:
            ends, less = ".. -1", -1
        case _:
            ends, less = "..", 0
    shorter = axis if not less else sized(axis, f"{axis.size} - 1", less)
    body.put(f"{text}[{axis.label} = {ends}]", [shorter if a is axis else a for a in x.axes], x.dtype, reach=x.reach, tied=x.tied)


def pairs(body: Body) -> None:
    """A dynamic axis cut into pairs: its length must be even."""
    if not body.masked:
        raise Unfit
    x = body.pick_float(lambda t: any(a.label == "t" == a.size and a.count is None for a in t.axes))
    axis = next(a for a in x.axes if a.label == "t")
    n, two = body.name("n"), body.name("two")
    cut = f"unflatten({body.use(x)}, t = [{n}: t / 2, {two}: 2])"
    if body.choices.below(2):
        body.put(f"flatten(flip({cut}, {two}), [{n}, {two}], t)", x.axes, reach=x.reach, tied=True)
    else:
        body.put(f"max({cut}, [{n}, {two}])", [a for a in x.axes if a is not axis], reach=x.reach, tied=True)
