"""Parameters, linear maps, products, functions, branches, loops, parts of the library."""

from __future__ import annotations

from math import prod

from ..body import Axis, Body, Tensor, Unfit
from .aligned import shared, union


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
        if any(body.axes.get(a.label) != a for a in over):
            raise Unfit
        options += f", over = [{', '.join(a.label for a in over)}]"
    text = f"[{', '.join(map(str, out))}]" if len(out) > 1 or body.choices.below(2) else str(out[0])
    made = body.instance(f"linear({text}{options})", "proj")
    kept = [a for a in x.axes if a not in over]
    body.put(f"{made}({body.use(x)})", [*kept, *out], reach=2 * x.reach, typed=True)


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
    over = [] if body.choices.chance(6) else body.choices.some(axes) or [body.choices.pick(axes)]
    labels = over[0].label if len(over) == 1 else f"[{', '.join(x.label for x in over)}]"
    reach = a.reach * b.reach * prod(x.count or 5 for x in over)
    body.put(f"einsum({', '.join(texts)}, over = {labels})", [x for x in ordered if x not in over], reach=reach)


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
    value = body.choices.pick(["true", "false", '"wide"', '"a\\"b"'])
    body.hyper[flag] = value
    if value[0] == '"':
        body.say(f'if {flag} == "wide":')
        flag = f'{flag} != "narrow"'
    else:
        body.say(f"if {flag}:")
    body.say(f"    {name} = {body.use(x)} * 2")
    if body.choices.below(2):
        body.say(f"elif not ({flag}) and 2 > 1:")
        body.say(f"    {name} = tanh({x.name})")
    body.say("else:")
    body.say(f"    {name} = {x.name} - 1")
    body.add(Tensor(name, x.axes, reach=2 * x.reach, tied=x.tied))


def loop(body: Body) -> None:
    """A `for` over a list: numbers, or components, an instance for each round."""
    x = body.pick_float(lambda t: bool(t.axes) and (t.axes[-1].count or 0) > 1)
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


def configured(body: Body) -> None:
    """A recipe written over several lines."""
    x = body.pick_float(lambda t: bool(t.axes) and (t.axes[-1].count or 0) > 1)
    recipe, made = body.name("recipe"), body.name("made")
    lines = body.choices.pick(
        [("plain", "hidden = 5", "act = relu"), ("gated", "hidden = 3", "bias = true"), ("layer_norm", "eps = 0.01", "bias = false")]
    )
    body.say(f"let {recipe} = {lines[0]}:")
    for line in lines[1:]:
        body.say(f"    {line}")
    body.say(f"{made} = {recipe}")
    body.put(f"{made}({body.use(x)})", x.axes, reach=3)
