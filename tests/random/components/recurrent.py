"""Along the sequence: cells that are scanned, convolutions, running sums."""

from __future__ import annotations

from ..body import Spec
from .place import Place, declared, started


def cell(spec: Spec, place: Place) -> str:
    c = spec.choices
    n = c.pick([2, 3])
    name = spec.name("cell")
    reverse = c.pick(["", ", reverse = true"]) if not place.causal else ""
    match c.pick([0, 2, 3]) if place.causal else c.below(4):
        case 0:
            spec.parts.append(f"component {name}(h: [b, n], x: [b, d]) -> (h: [b, n], y: [b, n]):\n    from_x = linear(n, bias = true)\n    from_h = linear(n)\n"
                              "    h = tanh(from_x(x) + from_h(h))\n    return h, h * 2")  # fmt: skip
            lines = [
                f"step = {name}()",
                f"h, y = scan(step, zeros([b, n: {n}]), x, over = t{reverse})",
                "back = linear(d)",
                "return back(y)" if place.causal else "return back(y) + 0.1 * mean(h, n)",
            ]
        case 1:
            spec.parts.append(f"component {name}(h: [b, d], c: [b, d], x: [b, d], w: [d]) -> (h: [b, d], c: [b, d]):\n"
                              "    c = sigmoid(h) * c + tanh(x)\n    h = tanh(c * w) + 0.5 * x\n    return h, c")  # fmt: skip
            lines = [
                "w = param([d], init = normal(0.5))",
                f"h, c = scan({name}, zeros([b, d]), 0 * x[t = 0], x, w, over = t{reverse})",
                "return x + h * c",
            ]
        case 2:
            lines = [
                f"made = {c.pick(['lstm', 'gru'])}({n}{reverse})",
                f"y: [b, t, n{n}] = made(x)",
                "back = linear(d)",
                "return x + back(y)",
            ]
        case _:
            spec.parts.append(f"component {name}(s: [b, d, n], k: [b, n], v: [b, d]) -> (s: [b, d, n], y: [b, d]):\n    s = s + k * (v - einsum(s, k, over = n))\n"
                              "    return s, einsum(s, k, over = n)")  # fmt: skip
            lines = [
                f"key = linear(n: {n})",
                f"s, y = scan({name}, zeros([b, d, n: {n}]), tanh(key(x)) * 0.5, x, over = t{reverse})",
                "return y",
            ]
    body, _, _ = started(spec, place)
    body.lines = lines
    return declared(spec, body, spec.name("recur"))


def convolution(spec: Spec, place: Place) -> str:
    c = spec.choices
    body, _, _ = started(spec, place)
    width = c.pick([1, 2, 3])
    w = body.number(width)
    right = 0 if place.causal else c.below(width)
    ends = f"[{w} - {1 + right}, {right}]"
    dilation = c.pick([1, 1, 2]) if right == 0 and width > 1 else 1
    if dilation == 2:
        ends = f"[2 * {w} - 2, 0]"
    windows = f"unfold(pad(x, t = {ends}), t, k: {w}{', dilation = 2' if dilation == 2 else ''})"
    match c.below(3):
        case 0:
            body.lines += [f"taps = param([d, k: {w}], init = normal(0.4))", f"y = einsum({windows}, taps, over = k)"]
        case 1:
            body.lines += [
                f"taps = param([out: 3, d, k: {w}], init = normal(0.4))",
                f"y = einsum({windows}, taps, over = [d, k])",
                "back = linear(d, true)",
                "y = back(y)",
            ]
        case _:
            body.lines += [f"weight = param([d', k: {w}, d], init = normal(0.4))", f"y = rename(einsum({windows}, weight, over = [k, d]), d' = d)",
                           "bias = param([d], init = zeros)", "y = y + bias"]  # fmt: skip
    body.say(f"return {c.pick(['y', 'x + tanh(y)', 'y * sigmoid(y)'])}")
    return declared(spec, body, spec.name("conv"))


def running(spec: Spec, place: Place) -> str:
    """Sums and recurrences that run along the sequence."""
    c = spec.choices
    body, _, _ = started(spec, place)
    match c.below(4):
        case 0:
            body.lines += ["count = index(t) + 1.0", "return cumsum(x, t) / count"]
        case 1:
            body.lines += ["decay = param([d], init = normal(0.5))", "return linear_recurrence(sigmoid(decay), x, over = t)"]
        case 2:
            n = c.pick([2, 3])
            body.lines += [f"key = linear(n: {n})", "gate = linear(d, true)", "s = linear_recurrence(sigmoid(gate(x)), tanh(key(x)) * x, over = t)",
                           "return x + einsum(s, key(x), over = n)"]  # fmt: skip
        case _:
            body.lines += [
                "before = pad(x[t = 0 .. -1], t = [1, 0])",
                "share = param([d], init = 0.5)",
                "up = linear(d)",
                "return up(x * share + before * (1 - share))",
            ]
    return declared(spec, body, spec.name("run"))
