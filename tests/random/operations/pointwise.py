"""Elementwise operations: functions, arithmetic, comparison, choice; whole numbers."""

from __future__ import annotations

from ..body import Body, Tensor
from .aligned import shared, union

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


RARE = ("log1p", "erf", "stop", "floor", "sqrt")
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


def unary(body: Body) -> None:
    x = body.named(body.pick_float())
    if not body.choices.chance(3):
        text, reach = SMOOTH[body.choices.pick(list(SMOOTH))]
        reach = max(reach, x.reach) if reach == 3.0 else reach
        body.put(text.format(x=body.use(x)), x.axes, reach=reach, tied=x.tied)
    else:
        body.put(TIED[body.choices.pick(list(TIED))].format(x=body.use(x)), x.axes, reach=x.reach, tied=True)


def rare(body: Body) -> None:
    """What no component of the library has."""
    x, name = body.named(body.pick_float()), body.choices.pick(RARE)
    text, reach = SMOOTH[name] if name in SMOOTH else (TIED[name], 3.0)
    body.put(text.format(x=body.use(x)), x.axes, reach=max(reach, x.reach), tied=x.tied or name in TIED)


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
    other = body.choices.pick(["0.0", "-1", "none", "alone"])
    if other == "alone":
        body.put(f"where({body.use(test)}, {body.number(1.5)}, {body.choices.pick(['0.25', '-1', '0'])})", test.axes, reach=2, tied=True)
        return
    text = body.use(a)
    if other == "none":
        both = Tensor("", union(test, a))
        b = body.pick_float(lambda t: t is not a and shared(both, t))
        body.put(f"where({body.use(test)}, {text}, {body.use(b)})", union(test, a, b), reach=max(a.reach, b.reach), tied=True)
    else:
        body.put(f"where({body.use(test)}, {text}, {other})", union(test, a), reach=a.reach, tied=True)


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
    form = body.choices.pick([f"{text} // {n}", f"{text} % {n}", f"2 * ({text} % {n})", f"({text} + 7) % (1 + ({text} % {n}) ^ 2)", f"({text} + {n}) * 2", f"abs({text})", f"minimum({text}, {n})", f"clamp({text}, -1, {n})",
                              f"sign({text})", f"-{text}", f"int(float({text}) / 2)"])  # fmt: skip
    body.put(form, x.axes, "int", reach=9, tied=True)


COUNTS = (
    "2 * ({k} % {n})", "({k} + 7) % (1 + ({k} % 2) ^ 2)", "{k} // 2 * {n}", "7 - ({k} - {n})", "-({k} % 3)", "({k} + 4) // (2 * {n})", "abs({k} - {n})",
    "{k} * {k} % 5", "minimum({k}, {n}) - maximum({k}, -1)", "sign({k}) * ({k} // {n})", "clamp({k}, none, {n})", "int({k} == {n}) + int({k} != 1)",
)  # fmt: skip
FORMS = (
    "where({flag}, {v}, 0.25)", "where({flag}, {v}, {x})", "where(not {flag} and {x} < 2.0, -{v}, 1)", "float(all({flag}, {axis}))", "float(any({flag}, {axis}))",
    "where(all({x} > -1.5, {axis}), 1.0, {v})", "clamp({x}, none, {v})", "clamp({x}, -{v}, none)", "maximum({v}, {x})", "minimum({x}, {v})", "mean({flag}, {axis})",
    "{v} - ({v} - {x})", "{x} / ({v} / 2.0)", "{v} * (1 - ({x} - {v}))", "float(sum({flag}, {axis}) // 2)", "-({x} * {v}) ^ 2", "like({v}, {x})",
)  # fmt: skip


def forms(body: Body) -> None:
    """Several small forms of one tensor: tests, choices, counts, bounds."""
    c, x = body.choices, body.named(body.pick_float(lambda t: bool(t.axes)))
    body.use(x)
    k = body.name("k")
    body.say(f"{k} = int(3 * tanh({x.name}))")
    terms = [f"{k} * 0.1"]
    for _ in range(c.between(3, 6)):
        if c.below(2):
            terms.append(f"0.1 * float({c.pick(COUNTS).format(k=k, n=c.pick([2, 3]))})")
        else:
            form = c.pick(FORMS).format(
                x=x.name, flag=f"({x.name} > {c.pick([0.1, -0.3])})", v=body.number(c.pick([0.5, 1.5, 0.7])), axis=c.pick(x.axes).label
            )
            terms.append(f"tanh({form})")
    body.put(f"{x.name} + {' + '.join(terms)}", x.axes, reach=x.reach + 4, tied=True)


def filled(body: Body) -> None:
    axes = [a for a in body.axes.values() if a.label == a.size]
    chosen = body.choices.some(axes[:4])
    labels = ", ".join(a.label for a in chosen)
    text = body.choices.pick([f"ones([{labels}])", f"full([{labels}], {body.number(0.5)})", f"zeros([{labels}])"])
    body.put(text, chosen, reach=1, tied=True)
