"""Random operations: each takes tensors of a body that fit and makes new ones. `OPERATIONS` is the list, more likely ones more often."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from .body import Axis, Body, Tensor, Unfit

Operation = Callable[[Body], None]

SMOOTH = {
    "exp": ("exp(tanh({x}))", 3.0),
    "log": ("log(abs({x}) + 0.5)", 3.0),
    "log1p": ("log1p({x} ^ 2)", 5.0),
    "sqrt": ("sqrt({x} ^ 2 + 0.3)", 4.0),
    "rsqrt": ("rsqrt({x} ^ 2 + 0.5)", 1.5),
    "abs": ("abs({x})", 3.0),
    "sin": ("sin(2 * tanh({x}))", 1.0),
    "cos": ("cos(2 * tanh({x}))", 1.0),
    "tanh": ("tanh({x})", 1.0),
    "sigmoid": ("sigmoid({x})", 1.0),
    "silu": ("silu({x})", 3.0),
    "gelu": ("gelu({x})", 3.0),
    "gelu_tanh": ("gelu_tanh({x})", 3.0),
    "softplus": ("softplus({x})", 3.0),
    "erf": ("erf({x})", 1.0),
    "neg": ("-{x}", 3.0),
    "square": ("tanh({x}) ^ 2", 1.0),
    "cube": ("tanh({x}) ^ 3", 1.0),
    "root": ("(abs({x}) + 0.2) ^ 0.5", 3.0),
    "inverse": ("(1 + abs({x})) ^ -1", 1.0),
    "base": ("2 ^ tanh({x})", 2.0),
    "float32": ("like(float32({x}) * 0.5, {x})", 3.0),
    "like": ("like(float32({x}), {x})", 3.0),
    "back": ("float(float32({x}))", 3.0),
    "dropout": ("dropout({x}, 0.25)", 3.0),
    "stop": ("stop_gradient({x})", 3.0),
}
TIED = {
    "floor": "floor(3 * tanh({x}))",
    "sign": "sign({x})",
    "relu": "relu({x})",
    "clamp": "clamp({x}, -0.5, 0.5)",
    "low": "clamp({x}, none, 0.7)",
    "high": "clamp({x}, -0.2, none)",
    "maximum": "maximum({x}, 0.1)",
    "minimum": "minimum(0.2, {x})",
    "remainder": "tanh({x}) % 0.7",
    "quotient": "tanh({x}) // 0.4",
}


def shared(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors align: an axis of one label has one size."""
    sizes = {x.label: x.size for x in a.axes}
    return all(sizes.get(x.label, x.size) == x.size for x in b.axes)


def union(*tensors: Tensor) -> tuple[Axis, ...]:
    found: dict[str, Axis] = {}
    for tensor in sorted(tensors, key=lambda t: -len(t.axes)):
        for axis in tensor.axes:
            found.setdefault(axis.label, axis)
    return tuple(found.values())


def unary(body: Body) -> None:
    x = body.named(body.pick_float())
    if not body.choices.chance(3):
        text, reach = SMOOTH[body.choices.pick(list(SMOOTH))]
        reach = max(reach, x.reach) if reach == 3.0 else reach
        body.put(text.format(x=body.use(x)), x.axes, reach=reach, tied=x.tied)
    else:
        body.put(TIED[body.choices.pick(list(TIED))].format(x=body.use(x)), x.axes, reach=x.reach, tied=True)


def with_number(body: Body) -> None:
    x = body.pick_float()
    c = body.choices
    static = [a.label for a in body.axes.values() if a.count is not None and a.label == a.size]
    value = body.number(c.pick([0.5, 1.5, 2, -0.7, 3]))
    if static and c.below(3) == 0:
        label = c.pick(static)
        value = c.pick([f"{label} ^ -0.5", f"(1 / (1.0 * {label}))", f"log({label} + 1)", f"sqrt({label} * 1.0)", f"exp(-{label} * 0.1)"])
    text = body.use(x)
    body.put(c.pick([f"{text} * {value}", f"{value} * {text}", f"{text} + {value}", f"{value} - {text}", f"{text} / {value}" if value != "0" else text]),
             x.axes, reach=5 * x.reach, tied=x.tied)  # fmt: skip


def binary(body: Body) -> None:
    a = body.pick_float()
    b = body.pick_float(lambda t: t is not a and shared(a, t))
    left, right = body.use(a), body.use(b)
    form, reach = body.choices.pick(
        [
            (f"{left} + {right}", a.reach + b.reach),
            (f"{left} * {right}", a.reach * b.reach),
            (f"{left} - {right}", a.reach + b.reach),
            (f"{left} / (1 + abs({right}))", a.reach),
            (f"minimum({left}, {right})", max(a.reach, b.reach)),
            (f"maximum({left}, {right})", max(a.reach, b.reach)),
            (f"(0.2 + sigmoid({left})) ^ tanh({right})", 3.0),
            (f"{left} * (1 - sigmoid({right})) - ({right}) / 2", a.reach + b.reach),
        ]
    )
    body.put(form, union(a, b), reach=reach, tied=a.tied or b.tied)


def compare(body: Body) -> None:
    a = body.pick(lambda t: t.dtype != "bool")
    b = body.pick(lambda t: t.dtype == a.dtype and shared(a, t))
    sign = body.choices.pick(["<", ">"] if a.dtype == "float" else ["<", "<=", ">", ">=", "==", "!="])
    if a is b:
        number = body.number(body.choices.pick([0.1, -0.3]) if a.dtype == "float" else body.choices.pick([1, 0, 2]), plain=True)
        body.put(f"{body.use(a)} {sign} {number}", a.axes, "bool", tied=True)
    else:
        body.put(f"{body.use(a)} {sign} {body.use(b)}", union(a, b), "bool", tied=True)


def logic(body: Body) -> None:
    a = body.pick(lambda t: t.dtype == "bool")
    b = body.pick(lambda t: t.dtype == "bool" and shared(a, t))
    word = body.choices.pick(["and", "or"])
    if a is b:
        body.put(f"not {body.use(a)}", a.axes, "bool", tied=True)
    else:
        body.put(f"{body.use(a)} {word} not {body.use(b)}", union(a, b), "bool", tied=True)


def where(body: Body) -> None:
    test = body.pick(lambda t: t.dtype == "bool")
    a = body.pick_float(lambda t: shared(test, t))
    other = body.choices.pick(["0.0", "-1", "none"])
    text = body.use(a)
    if other == "none":
        both = Tensor("", union(test, a))
        b = body.pick_float(lambda t: t is not a and shared(both, t))
        body.put(f"where({body.use(test)}, {text}, {body.use(b)})", union(test, a, b), reach=max(a.reach, b.reach), tied=True)
    else:
        body.put(f"where({body.use(test)}, {text}, {other})", union(test, a), reach=a.reach, tied=True)


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


def axes_(axes: list[Axis]) -> tuple[Axis, ...]:
    return tuple(axes)


def einsum(body: Body) -> None:
    a = body.pick_float(lambda t: bool(t.axes))
    b = body.pick_float(lambda t: shared(a, t) and bool(t.axes))
    texts, axes = [body.use(a)], union(a)
    if a is b or body.choices.chance(3):
        axis = body.choices.pick(a.axes)
        weight = (
            parameter(body, [axis, *([body.axis(body.choices.pick([2, 3, 5]))] if body.choices.below(2) else [])]) if axis.count else None
        )
        if weight is None:
            raise Unfit
        b = weight
    texts.append(body.use(b))
    axes = union(a, b)
    ordered = [*a.axes, *(x for x in b.axes if x.label not in a.labels)]
    over = body.choices.some(axes) or [body.choices.pick(axes)]
    labels = over[0].label if len(over) == 1 else f"[{', '.join(x.label for x in over)}]"
    reach = a.reach * b.reach * prod(x.count or 5 for x in over)
    body.put(f"einsum({', '.join(texts)}, over = {labels})", [x for x in ordered if x not in over], reach=reach)


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


def factor(n: int) -> int:
    return next((k for k in (2, 3, 5) if n % k == 0 and n > k), 0)


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


def sized(axis: Axis, size: str, more: int) -> Axis:
    count = None if axis.count is None else axis.count + more
    return Axis(axis.label, f"({size})" if count is None else str(count), count)


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


def shift(body: Body) -> None:
    """Each entry next to the one before it, as convolutions and token shifts are made."""
    x = body.named(body.pick_float(lambda t: any(a.size == a.label for a in t.axes)))
    axis = body.choices.pick([a for a in x.axes if a.size == a.label])
    before = f"pad({body.use(x)}, {axis.label} = [1, 0])[{axis.label} = .. -1]"
    body.put(f"{x.name} - {before}" if body.choices.below(2) else before, x.axes, reach=2 * x.reach, tied=True)


def index(body: Body) -> None:
    axis = body.choices.pick([a for a in body.axes.values() if a.label == a.size and a.label != "b"])
    body.put(body.choices.pick([f"index({axis.label})", f"index({axis.label}) * 2 - 1", f"index({axis.label}) // 2", f"-index({axis.label}) % 3"]),
             [axis], "int", reach=9, tied=True)  # fmt: skip


def whole(body: Body) -> None:
    """Whole numbers: arithmetic, or a float cut off."""
    found = [t for t in body.pool if t.dtype == "int"]
    if not found or body.choices.chance(3):
        x = body.pick_float(lambda t: not t.tied)
        body.put(f"int(3 * tanh({body.use(x)}))", x.axes, "int", reach=3, tied=True)
        return
    x = body.choices.pick(found)
    n = body.number(body.choices.pick([2, 3, 5]))
    text = body.use(x)
    form = body.choices.pick([f"{text} // {n}", f"{text} % {n}", f"({text} + {n}) * 2", f"abs({text})", f"minimum({text}, {n})", f"clamp({text}, -1, {n})",
                              f"sign({text})", f"-{text}", f"int(float({text}) / 2)"])  # fmt: skip
    body.put(form, x.axes, "int", reach=9, tied=True)


def filled(body: Body) -> None:
    axes = [a for a in body.axes.values() if a.label == a.size]
    chosen = body.choices.some(axes[:4])
    labels = ", ".join(a.label for a in chosen)
    text = body.choices.pick([f"ones([{labels}])", f"full([{labels}], {body.number(0.5)})", f"zeros([{labels}])"])
    body.put(text, chosen, reach=1, tied=True)


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
    y = body.put(f"0 + {body.use(x)}[{axis.label} = {body.use(at)} % {axis.count}]", axes, reach=x.reach, tied=True)
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


def parameter(body: Body, axes: list[Axis]) -> Tensor:
    """A parameter or a buffer, with one of the ways to start."""
    name = body.name(body.choices.pick(["weight", "gain", "table"]))
    static = [a for a in axes if a.label == a.size]
    inits = ["", ", init = ones", ", init = normal(0.3)", ", init = 0.5", ", init = zeros", ", init = uniform(-1.0, 1.0)"]
    if static and len(axes) == len(static):
        inits.append(f", init = sin(1.0 + index({static[0].label}))")
    kind = "buffer" if body.choices.chance(6) else "param"
    body.say(f"{name} = {kind}([{', '.join(map(str, axes))}]{body.choices.pick(inits)})")
    return body.add(Tensor(name, tuple(axes), reach=2))


def own(body: Body) -> None:
    static = [a for a in body.axes.values() if a.count is not None and a.label == a.size]
    parameter(body, body.choices.some(static)[:3])


def linear(body: Body) -> None:
    x = body.pick_float(lambda t: bool(t.axes) and t.axes[-1].count is not None)
    out = [body.axis(body.choices.pick([1, 2, 3, 5, 6])) for _ in range(body.choices.between(1, 2))]
    over = [x.axes[-1]]
    if len(x.axes) > 1 and x.axes[-2].count is not None and body.choices.below(2):
        over.insert(0, x.axes[-2])
    options = body.choices.pick(["", ", true", ", bias = true", ", init = normal(0.3)"])
    if len(over) > 1 or body.choices.chance(4):
        options += f", over = [{', '.join(a.label for a in over)}]"
    text = f"[{', '.join(map(str, out))}]" if len(out) > 1 or body.choices.below(2) else str(out[0])
    made = body.instance(f"linear({text}{options})", "proj")
    kept = [a for a in x.axes if a not in over]
    body.put(f"{made}({body.use(x)})", [*kept, *out], reach=2 * x.reach, typed=True)


def function(body: Body) -> None:
    """A `fn` of its own, written above or inside the body."""
    x = body.pick_float(lambda t: bool(t.axes))
    inside = body.choices.below(2)
    name = body.name("helper") if inside else body.spec.name("helper")
    axis = x.axes[-1]
    text = body.choices.pick(
        ["tanh(x) * scale", "x * rsqrt(mean(x ^ 2, e) + 0.1) * scale", "softmax(x * scale, e)", "scale * (x - max(x, e))"]
    )
    lines = [f"fn {name}(x: [..., e], scale = 0.5) = {text}"]
    if body.choices.below(2):
        lines = [f"fn {name}(x: [..., e], scale = 0.5):", "    y = x + 1", f"    return y * {text}"]
    if inside:
        for line in lines:
            body.say(line)
    else:
        body.spec.parts.append("\n".join(lines))
    scale = body.choices.pick(["", ", 2.0", ", scale = 0.7"])
    body.put(f"{name}({body.use(x)}{scale})", x.axes, reach=3 * x.reach + 3, tied=x.tied and axis is not None)


def branches(body: Body) -> None:
    """What is decided when the model is built."""
    x = body.named(body.pick_float(lambda t: bool(t.axes)))
    name = body.name("chosen")
    flag = body.name("flag")
    value = body.choices.pick(["true", "false"])
    body.hyper[flag] = value
    body.say(f"if {flag}:")
    body.say(f"    {name} = {body.use(x)} * 2")
    if body.choices.below(2):
        body.say(f"elif not {flag} and 2 > 1:")
        body.say(f"    {name} = tanh({x.name})")
    body.say("else:")
    body.say(f"    {name} = {x.name} - 1")
    body.add(Tensor(name, x.axes, reach=2 * x.reach, tied=x.tied))


def loop(body: Body) -> None:
    """A `for` over a list: numbers, or components, an instance for each round."""
    x = body.pick_float(lambda t: bool(t.axes) and t.axes[-1].count is not None)
    name, turn = body.name("turned"), body.name("turn")
    body.say(f"{name} = {body.use(x)}")
    match body.choices.below(3):
        case 0:
            body.say(f"for {turn} in [1, 2]:")
            body.say(f"    {name} = {name} + {turn} * tanh({name})")
        case 1:
            norms = body.name("norms")
            body.say(f"let {norms} = [rms_norm(), layer_norm()]")
            body.say(f"for {turn} in {norms}:")
            step = body.name("step")
            body.say(f"    {step} = {turn}")
            body.say(f"    {name} = {name} + {step}({name})")
        case _:
            other = body.name("other")
            body.say(f"for {turn}, {other} in [[1, 0.5], [3, 2.0]]:")
            gain = body.name("gain")
            body.say(f"    {gain} = param([], init = {other})")
            body.say(f"    {name} = {gain} * tanh({name} + {turn})")
    body.add(Tensor(name, x.axes, reach=9 * x.reach, tied=x.tied))


def normed(body: Body) -> None:
    x = body.pick_float(lambda t: bool(t.axes) and (t.axes[-1].count or 0) > 1)
    recipe = body.choices.pick(["rms_norm()", "layer_norm()", "layer_norm(bias = false)", "rms_norm(eps = 0.01)", "offset_rms_norm()", "gated(hidden = 3)",
                                "plain(hidden = 5, act = relu)", "plain(7, bias = true)", "gated(5, act = gelu, bias = true)"])  # fmt: skip
    made = body.instance(recipe, "part")
    y = body.put(f"{made}({body.use(x)})", x.axes, reach=3)
    if body.choices.chance(4):
        body.put(f"{made}({body.use(body.named(y))})", y.axes, reach=3)


OPERATIONS: tuple[Operation, ...] = (
    unary, unary, with_number, binary, binary, binary, compare, logic, where, where, reduce, reduce, arg_reduce, along, along, roll, top, einsum, einsum,
    split, halves, regroup, merge, unstack, stack, concat, rename, rename, transpose, expand, squeeze, pad, slice_, shift, index, whole, filled, one_hot,
    gather, gather, scatter, unfold, recurrence, own, linear, linear, function, branches, loop, normed, normed,
)  # fmt: skip


def random_operations(body: Body, count: int) -> None:
    for _ in range(count):
        chosen = body.choices.pick((None, *OPERATIONS))
        if chosen is None:
            continue
        marks = len(body.lines), dict(body.hyper), set(body.unused), list(body.pool), dict(body.axes)
        try:
            chosen(body)
        except Unfit:
            del body.lines[marks[0] :]
            body.hyper, body.unused, body.pool, body.axes = marks[1:]
