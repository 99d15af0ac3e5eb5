"""Random components from [b, t, d] to [b, t, d]. Each function declares what it needs and gives a recipe to apply: an expression.

`d` is the width's value. `masked`: whether `attention_mask` and `positions` of the model fit this place (t is the model's own)."""

from __future__ import annotations

from collections.abc import Callable

from ..body import Spec
from ..operations.all import random_operations
from .attention import attention, latent_attention, library_attention, windowed_attention, written_attention
from .experts import feed_forward, mixture, pairwise
from .library import library
from .place import Place, declared, finish, started
from .recurrent import cell, convolution, running

Maker = Callable[[Spec, Place], str]


def dag(spec: Spec, place: Place) -> str:
    body, axes, x = started(spec, place)
    random_operations(body, spec.choices.between(2, 12))
    return finish(spec, body, x, axes, spec.name("mix"))


def nested(spec: Spec, place: Place) -> str:
    """A component around another: residual, normalised, twice with the same weights, gated, stacked."""
    c = spec.choices
    body, _, _ = started(spec, place)
    recipes = {"inner": mixer(spec, place.inside())}
    match c.below(7):
        case 0:
            body.lines += ["norm = norm", "inner = inner", "return x + inner(norm(x))"]
            recipes["norm"] = c.pick(["rms_norm", "identity", "layer_norm()"][: 3 if place.d > 1 else 2])
        case 1:
            body.lines += ["first = inner", "second = inner", "return second(first(x)) + x"]
        case 2:
            body.lines += ["inner = inner", "gain = param([], init = 0.5)", "return x + gain * inner(inner(x))"]
            recipes = {"inner": mixer(spec, place.inside(effects=False))}
        case 3:
            n = body.number(c.pick([1, 2, 3]))
            pattern = c.pick(
                [
                    f"{n} of inner",
                    f"{n} of [inner, other * 2]",
                    "[inner * 2, other]",
                    "[other, inner]",
                    f"[inner * {n}, other, inner * {n}]",
                ]
            )
            if "other" in pattern:
                recipes["other"] = mixer(spec, place.inside())
            elif n in body.hyper:
                pass
            if n not in pattern and n in body.hyper:
                del body.hyper[n]
            elif n not in pattern:
                body.lines = []
            body.lines += [f"layers = {pattern}", "return layers(x)"]
        case 4:
            body.lines += ["inner = inner", "if extra != none:", "    extra = extra", "    x = extra(x)", "return x + 0.5 * inner(x)"]
            recipes["extra"] = c.pick(["none", "rms_norm()", feed_forward(spec, place.inside())])
        case 5:
            n = c.pick([1, 2])
            other = place.inside(effects=False)
            recipes = {"inner": mixer(spec, other)}
            body.lines += ["inner = inner", f"many = expand(x, streams: {n})",
                           "y = transpose(many, [b, t, streams, d])", f"mix = param([streams: {n}], init = normal(0.5))", "return x + inner(einsum(y, mix, over = streams))"]  # fmt: skip
        case _:
            body.lines += [
                "inner = inner",
                "y = inner(x)",
                f"return {c.pick(['y - x', 'where(training, y, y)', 'like(float32(y) * 2, x)', 'dropout(y, 0.2)'])}",
            ]
            if "training" in body.lines[-1]:
                body.lines[-1] = "return where(training, y, y * 0.5)"
    return declared(spec, body, spec.name("wrap"), recipes=recipes)


def shared_weights(spec: Spec, place: Place) -> str:
    """One instance passed to the layers of a stack."""
    name = spec.name("borrow")
    spec.parts.append(f"component {name}(table, inner)(x: [b, t, d]) -> [b, t, d]:\n    inner = inner\n    return x + inner(x) * table(x)")
    body, _, _ = started(spec, place)
    n = body.number(spec.choices.pick([1, 2, 3]))
    body.lines += ["shared table = table", f"layers = {n} of {name}(table, inner)", "return layers(x)"]
    recipes = {"table": feed_forward(spec, place.inside()), "inner": mixer(spec, place.inside())}
    return declared(spec, body, spec.name("lend"), recipes=recipes)


def carried(spec: Spec, place: Place) -> str:
    """A stack that carries two streams and reads a third."""
    c = spec.choices
    name = spec.name("pairwork")
    inner = mixer(spec, place.inside(effects=False))
    spec.parts.append(f"component {name}(inner)(x: [b, t, d], y: [b, t, d], start: [b, t, d]) -> (x: [b, t, d], y: [b, t, d]):\n    f = inner\n    g = plain(3)\n"
                      "    y = y + f(x)\n    x = x + g(y) * sigmoid(start)\n    return x, y")  # fmt: skip
    body, _, _ = started(spec, place)
    body.lines += [f"layers = {body.number(c.pick([1, 2]))} of {name}(inner)", "y, z = layers(x, tanh(x), x)", "return y - z"]
    return declared(spec, body, spec.name("twin"), recipes={"inner": inner})


def effects(spec: Spec, place: Place) -> str:
    """Losses, emitted tensors, states, running statistics."""
    c = spec.choices
    if not place.effects:
        return dag(spec, place)
    body, _, _ = started(spec, place)
    match c.pick((0, 1, 2, 3) if not place.causal else (0, 4)):
        case 0:
            body.lines += ["up = linear(d)", "y = up(x)", "loss size = 0.1 * mean(y ^ 2, [b, t, d])", "return x + y"]
        case 1:
            m = c.pick([1, 2])
            body.lines += [f"state past: [b, m: {m}, d] = zeros", "all = concat(rename(past, m = s), rename(x, t = s), over = s)",
                           "next past = stop_gradient(rename(all[s = t ..], s = m))", "return x + mean(past, m) + mean(all, s)"]  # fmt: skip
        case 4:
            m = c.pick([1, 2])
            body.lines += [f"state past: [b, m: {m}, d] = {c.pick(['zeros', '0.5'])}", "all = concat(rename(past, m = s), rename(x, t = s), over = s)",
                           "next past = stop_gradient(rename(all[s = t ..], s = m))", "return x * 0.5 + mean(past, m)"]  # fmt: skip
        case 2:
            return c.pick(["batch_norm()", "batch_norm(momentum = 0.3)"])
        case _:
            body.lines += [
                "centre = buffer([d], init = zeros)",
                "now = mean(x, [b, t])",
                "next centre = 0.9 * centre + 0.1 * now",
                "return x - where(training, now, centre)",
            ]
    return declared(spec, body, spec.name("act"))


def windows(spec: Spec, place: Place) -> str:
    """The width cut into pieces that are mixed and joined again."""
    body, _axes, _x = started(spec, place)
    body.say("return flip(roll(x, 1, d), t)" if not place.causal else "return roll(flip(x, d), 1, d)")
    if spec.choices.below(2) and place.d % 2 == 0:
        body.lines = ["pairs = unflatten(x, d = [n: d / 2, two: 2])", "up, down = unstack(pairs, two)",
                      "return flatten(stack([up * 2, down - up], two), [n, two], d)"]  # fmt: skip
    return declared(spec, body, spec.name("cut"))


def given_streams(spec: Spec, place: Place) -> str:
    """What a component reads is given by the model, by default, or by the call."""
    c = spec.choices
    if not place.masked:
        return dag(spec, place) if not place.causal else feed_forward(spec, place)
    body, _, _ = started(spec, place)
    name = spec.name("tempo")
    axes, value = c.pick([("t", "index(t) * 0.5"), ("b, t", "expand(index(t), b) + 1.0")])
    match c.below(3):
        case 0:
            spec.givens.add("positions")
            body.lines += ["given positions: [b, t]", "up = linear(d)", "return up(x) * cos(0.1 * positions)"]
        case 1:
            body.lines += [f"given {name}: [{axes}] = {value}", "up = linear(d, true)", f"return up(x) + sin({name})"]
        case _:
            inner = spec.name("timed")
            spec.parts.append(
                f"component {inner}(x: [b, t, d]) -> [b, t, d]:\n    given {name}: [t] = index(t)\n    up = linear(d)\n    return up(x) * cos(0.2 * {name})"
            )
            body.lines += [f"inner = {inner}", f"return x + inner(x, {name} = {c.pick(['index(t) + 1', '3 * index(t)', 'index(t) % 2'])})"]
    return declared(spec, body, spec.name("timed"))


def numbered(spec: Spec, place: Place) -> str:
    """Layers that count themselves, and find what is their own; what they emit is read by later ones."""
    c = spec.choices
    name, inner = spec.name("nth"), mixer(spec, place.inside(effects=False))
    spec.parts.append(f"component {name}(inner)(x: [b, t, d], number: [], offsets: [layers, d]) -> (x: [b, t, d], number: []):\n    inner = inner\n"
                      "    y = inner(x) + offsets[layers = number]\n    return x + 0.5 * y, number + 1")  # fmt: skip
    body, _, _ = started(spec, place)
    n = body.number(c.pick([1, 2, 3]))
    body.lines += [
        f"let count = {n}",
        "offsets = param([layers: count, d], init = normal(0.3))",
        f"stack = count of {name}(inner)",
        "y, number = stack(x, 0, offsets)",
    ]
    body.say(c.pick(["return y", "return y * number", "return y - x"]))
    if "number" not in body.lines[-1]:
        body.lines[-2] = body.lines[-2].replace("y, number", "y, _")
    return declared(spec, body, spec.name("counted"), recipes={"inner": inner})


def experts_of_sequences(spec: Spec, place: Place) -> str:
    """A bank of modules that see more than rows: routed, or each on a slice."""
    c = spec.choices
    body, _, _ = started(spec, place)
    n = c.pick([1, 2, 3])
    inner = c.pick([attention, library_attention, convolution])(spec, place.inside(effects=False, masked=False))
    body.lines += [f"gate = linear([experts: {n}])", "many = bank(experts, expert)"]
    body.lines += c.pick(
        [
            ["best = top(softmax(gate(x), experts), one: 1, experts)", "return x + route(x, many, best.index, best.values)"],
            ["share = sigmoid(gate(x))", "return einsum(many(share * x), share, over = experts)"],
            ["parts = many(expand(x, experts))", "return mean(parts, experts)"],
        ]
    )
    if "share" not in body.lines[-2] and "best" not in body.lines[-2]:
        body.lines[0] = f"let experts = {n}"
        body.lines[1] = "many = bank(experts, expert)"
    return declared(spec, body, spec.name("choir"), recipes={"expert": inner})


CAUSAL: tuple[Maker, ...] = (
    attention, attention, latent_attention, library_attention, windowed_attention, feed_forward, mixture, pairwise, cell, convolution, running, nested, nested, shared_weights, written_attention, effects, effects,
    carried, windows, library, library, library, given_streams, numbered, experts_of_sequences,
)  # fmt: skip
ANY: tuple[Maker, ...] = (*CAUSAL, dag, dag, dag, dag, dag, effects)


def mixer(spec: Spec, place: Place) -> str:
    if place.depth <= 0:
        return spec.choices.pick(
            (feed_forward, dag, library_attention) if not place.causal else (feed_forward, running, library_attention)
        )(spec, place)
    return spec.choices.pick(CAUSAL if place.causal else ANY)(spec, place)
