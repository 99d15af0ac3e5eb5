"""Feed-forwards, and banks of them: routed, or each with a slice of its own."""

from __future__ import annotations

from ..body import Spec
from .place import Place, declared, started

ACTS = ("silu", "gelu", "relu", "tanh", "gelu_tanh", "sigmoid")


def feed_forward(spec: Spec, place: Place) -> str:
    c = spec.choices
    if c.chance(3):
        return c.pick([f"gated(hidden = {c.pick([3, 5])}, act = {c.pick(ACTS)})", f"plain({c.pick([2, 7])}, {c.pick(ACTS)}, true)"])
    body, _, _ = started(spec, place)
    h = body.number(c.pick([1, 3, 5]))
    body.lines += [f"let hidden = {h}", "up = linear(hidden, bias)", f"down = linear(d, {c.pick(['bias', 'not bias'])}, over = hidden)"]
    body.hyper["bias"] = c.pick(["true", "false"])
    body.say(c.pick(["return down(act(up(x)))", "return down(act(up(x)) * 2)", "y = up(x)\n    return x + down(act(y) * y)"]))
    return declared(spec, body, spec.name("ff"), inputs="x: [..., d]", outputs="[..., d]", recipes={"act": c.pick(ACTS)})


def expert(spec: Spec, place: Place) -> str:
    """A component of any leading axes without effects: what banks hold."""
    return feed_forward(spec, place)


def mixture(spec: Spec, place: Place) -> str:
    c = spec.choices
    body, _, _ = started(spec, place)
    n = c.pick([2, 1, 3])
    k = c.between(1, min(n, 2))
    body.lines += [f"gate = linear([experts: {body.number(n)}])", "mlps = bank(experts, expert)"]
    scored = c.pick(["softmax(float32(gate(x)), experts)", "sigmoid(gate(x))"])
    body.lines += [f"best = top({scored}, k: {k}, experts)"]
    share = c.pick(["like(best.values, x)", "like(best.values / (sum(best.values, k) + 0.01), x)"])
    if c.chance(3):
        body.lines += [
            "position = cumsum(sum(one_hot(best.index, n: 4), k), t)",
            "late = any(position > 2, n)",
            f"share = where(late, 0.0, {share})",
        ]
        share = "share"
    if c.chance(3) and place.effects:
        body.say("loss balance = 0.01 * mean(gate(x) ^ 2, [b, t, experts])")
    body.say(f"return {c.pick(['', 'x + '])}route(x, mlps, best.index, {share})")
    return declared(spec, body, spec.name("moe"), recipes={"expert": expert(spec, place.inside(effects=False))})


def pairwise(spec: Spec, place: Place) -> str:
    """A bank of which every expert has its own slice: dispatched by weights, or chosen by the experts."""
    c = spec.choices
    body, _, _ = started(spec, place)
    n = c.pick([1, 2, 3])
    recipes = {"expert": expert(spec, place.inside(effects=False))}
    if place.causal or c.below(2):
        body.lines += [f"gate = linear([experts: {n}])", "mlps = bank(experts, expert)", "share = softmax(gate(x), experts)",
                       "parts = mlps(expand(x, experts))" if c.below(2) else "parts = mlps(share * x)",
                       "return einsum(parts, share, over = experts)"]  # fmt: skip
    else:
        body.lines += [f"gate = linear([experts: {n}])", "mlps = bank(experts, expert)", "scores = sigmoid(gate(x)) + 0.01 * (index(t) % 7)",
                       "best = top(scores, one: 1, t)", "chosen = mlps(x[t = best.index])",
                       "return scatter_add(0 * x, best.index, chosen * best.values, over = t)"]  # fmt: skip
    return declared(spec, body, spec.name("soft"), recipes=recipes)
