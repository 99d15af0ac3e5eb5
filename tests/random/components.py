"""Random components from [b, t, d] to [b, t, d]. Each function declares what it needs and gives a recipe to apply: an expression.

`d` is the width's value. `masked`: whether `attention_mask` and `positions` of the model fit this place (t is the model's own)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .body import Axis, Body, Spec, Tensor
from .operations import parameter, random_operations

ACTS = ("silu", "gelu", "relu", "tanh", "gelu_tanh", "sigmoid")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a component will stand."""

    d: int
    depth: int
    masked: bool
    causal: bool
    effects: bool = True

    def inside(self, **changes: object) -> Place:
        from dataclasses import replace

        return replace(self, depth=self.depth - 1, **changes)  # type: ignore[arg-type]


Maker = Callable[[Spec, Place], str]


def started(spec: Spec, place: Place) -> tuple[Body, tuple[Axis, ...], Tensor]:
    axes = Axis("b", "b"), Axis("t", "t"), Axis("d", "d", place.d)
    body = Body(spec, axes, depth=place.depth, masked=place.masked)
    x = Tensor("x", axes)
    body.pool.append(x)
    return body, axes, x


def declared(
    spec: Spec, body: Body, name: str, *, inputs: str = "x: [b, t, d]", outputs: str = "[b, t, d]", recipes: dict[str, str] | None = None
) -> str:
    """Write the component; the recipe that gives it its hyperparameters, some by default."""
    c = spec.choices
    text = "\n".join(body.lines)
    given = {**(recipes or {}), **{n: v for n, v in body.hyper.items() if re.search(rf"\b{n}\b", text)}}
    parameters, arguments = [], []
    for k, (parameter_, value) in enumerate(given.items()):
        if parameter_ not in (recipes or {}) and c.chance(3):
            parameters.append(f"{parameter_} = {value}")
        else:
            parameters.append(parameter_)
            arguments.append(
                value
                if len(arguments) == k and c.below(2) == 0 and all("=" not in a.split("(")[0] for a in arguments)
                else f"{parameter_} = {value}"
            )
    order = sorted(parameters, key=lambda p: "=" in p)
    if order != parameters:
        names = [p.split(" ")[0] for p in parameters if "=" not in p]
        arguments = [a if "=" in a.split("(")[0] else f"{names[k]} = {a}" for k, a in enumerate(arguments)]
    header = (
        f"component {name}({', '.join(order)})({inputs}) -> {outputs}:"
        if order or c.below(2)
        else f"component {name}({inputs}) -> {outputs}:"
    )
    doc = c.pick(["", "", '    "A paper\'s idea, arXiv:0000.00000"\n'])
    spec.parts.append(header + "\n" + doc + "\n".join("    " + line for line in body.lines))
    if not arguments:
        return name if c.below(2) else f"{name}()"
    return f"{name}({', '.join(arguments)})"


def finish(spec: Spec, body: Body, x: Tensor, axes: tuple[Axis, ...], name: str, recipes: dict[str, str] | None = None) -> str:
    total = body.total(x, axes)
    names = ", ".join(a.label for a in axes)
    body.say(f"return transpose({total}, [{names}])" if spec.choices.below(2) else f"return {total}")
    if "transpose(" not in body.lines[-1]:  # the order of a sum's axes is that of its widest operand
        body.lines[-1] = f"return transpose({total}, [{names}])"
    return declared(spec, body, name, recipes=recipes)


# ---------------------------------------------------------------- operations at random


def dag(spec: Spec, place: Place) -> str:
    body, axes, x = started(spec, place)
    random_operations(body, spec.choices.between(2, 12))
    return finish(spec, body, x, axes, spec.name("mix"))


# ---------------------------------------------------------------- attention


def mask(spec: Spec, body: Body, place: Place, size: int = 0) -> str:
    """A mask expression; causal whatever is chosen, if the place asks for it."""
    c = spec.choices
    name = spec.name("rule")
    w = c.pick([1, 2, 3, 4])
    rules = [
        f"i - j < {w}",
        "(i + j) % 2 == 0",
        f"i // {w} == j // {w}",
        f"j < {w}",
        f"abs(i - j) <= {w}",
        f"(i - j) % {w + 1} == 0",
        "i != j",
    ]
    chosen = c.pick(rules)
    made = {
        0: lambda: f"mask {name}(i, j) = {chosen}",
        1: lambda: f"mask {name}(n)(i, j) = {chosen.replace(str(w), 'n') if str(w) in chosen else chosen + ' or i - j > n'}",
        2: lambda: f"mask {name}(i, j):\n    near = {chosen}\n    return near or i == j",
    }[c.below(3)]()
    parts: list[str] = []
    if c.below(2):
        spec.parts.append(made)
        parts.append(f"{name}({w})" if f"{name}(n)" in made else name)
    if place.masked and c.below(2):
        parts.append("padding")
        spec.givens.add("attention_mask")
    if place.masked and "document_ids" in spec.offered and c.chance(5):
        other = spec.name("documents")
        spec.parts.append(f"mask {other}(i, j):\n    given document_ids: [b, t]\n    return document_ids[t = i] == document_ids[t = j]")
        spec.givens.add("document_ids")
        parts.append(other)
    if c.chance(5):
        inner = body.name("seen")
        flags = body.name("flags")
        body.say(f"{flags} = index(t) % 3 != 1")
        body.say(f"mask {inner}(i, j) = {flags}[t = j] or i == j")
        parts.append(inner)
    if len(parts) > 1 and c.below(2):
        parts = [f"({parts[0]} {c.pick(['or', 'and'])} {parts[1]})", *parts[2:]]
    if parts and c.chance(4) and not place.causal:
        parts[0] = f"not {parts[0]}"
    if place.causal or c.below(2):
        parts.insert(c.below(len(parts) + 1), c.pick(["causal", "causal", f"sliding({w + 1})"]))
    return " and ".join(parts) if parts else "none"


def score(spec: Spec, body: Body, heads: str, count: int, place: Place) -> str:
    c = spec.choices
    name = spec.name("bias")
    match c.below(8):
        case 0 | 1 | 2:
            return "none"
        case 3:
            spec.parts.append(f"score {name}(cap)(s) = cap * tanh(s / cap)")
            return f"{name}({c.pick(['5.0', '30.0'])})"
        case 4:
            spec.parts.append(
                f"score {name}(heads)(s, h, i, j):\n    slope = param([heads], init = 0.1)\n    return s - slope[heads = h] * abs(i - j)"
            )
            return f"{name}({count})"
        case 5:
            spec.parts.append(f"score {name}(reach)(s, i, j):\n    table = param([places: 2 * reach + 1], init = normal(0.5))\n"
                              "    return s + table[places = clamp(i - j, -reach, reach) + reach]")  # fmt: skip
            return f"{name}({c.pick([1, 2])})"
        case 6 if place.masked:
            spec.givens.add("positions")
            return f"alibi({count})"
        case _:
            inner = body.name("pull")
            row = body.name("row")
            body.say(f"{row} = mean(tanh(x), d)")
            body.say(
                f"score {inner}(s, i, j) = s + {row}[t = i] - 0.5 * {row}[t = j]"
                if c.below(2)
                else f"score {inner}(s, i, j) = s * 0.5 + 0.1 * (i - j)"
            )
            if row not in body.lines[-1]:
                body.lines.pop(-2)
            return inner


def weights(spec: Spec, axes: int) -> str:
    """`axes`: how many static ones queries have."""
    c = spec.choices
    name = spec.name("share")
    match c.below(7):
        case 3:
            spec.parts.append(
                f"weights {name}(power)(s: [..., j]) -> [..., j]:\n    w = softmax(s, j) ^ power\n    return w / (sum(w, j) + 1e-9)"
            )
            return f"{name}({c.pick(['2.0', '1.5'])})"
        case 4:
            spec.parts.append(f"weights {name}(s: [..., j]) -> [..., j]:\n    return sigmoid(s) / 4")
            return name
        case 5 if axes == 2:
            spec.parts.append(f"weights {name}(heads)(s: [b, h, t, j]) -> [b, h, t, j]:\n    sink = param([heads], init = normal(1.0))\n"
                              "    whole = concat(s, expand(rename(sink, heads = h), [b, t, j: 1]), over = j)\n    return softmax(whole, j)[j = 0 .. -1]")  # fmt: skip
            return f"{name}(HEADS)"
        case 6:
            return f"softmax_dropout({c.pick(['0.0', '0.1'])})"
        case _:
            return "softmax"


def rotation(spec: Spec, place: Place, width: int) -> str:
    c = spec.choices
    if place.masked and width % 2 == 0 and c.below(2):
        spec.givens.add("positions")
        return c.pick(
            ["rope()", "rope(theta = 100.0)", "rope(pairing = interleaved)"] + (["rope(fraction = 0.5)"] if width % 4 == 0 else [])
        )
    return "keep"


def attention(spec: Spec, place: Place) -> str:
    """Self attention over named heads and groups, or keys of an axis of their own."""
    c = spec.choices
    body, axes, _x = started(spec, place)
    kv, group, width = c.pick([1, 2, 3]), c.pick([1, 1, 2]), c.pick([1, 2, 3, 4])
    heads, e = Axis("heads", body.number(kv), kv), Axis("e", body.number(width), width)
    for axis in (heads, e):
        body.axes[axis.label] = axis
    shape = [heads, *([Axis("group", str(group), group)] if group > 1 or c.chance(4) else []), e]
    if c.chance(5):
        shape = [e]
    wide = Axis("wide", "2", 2) if c.chance(3) else e
    key = [heads, e] if len(shape) > 1 else [e]
    value = [*key[:-1], wide]
    listed = [f"[{', '.join(map(str, s))}]" for s in (shape, key, value, [*shape[:-1], wide])]
    bias = c.pick(["", ", bias = true"])
    body.say(f"q_proj = linear({listed[0]}{bias})")
    body.say(f"k_proj = linear({listed[1]})")
    body.say(f"v_proj = linear({listed[2]}{bias})")
    body.say(f"o_proj = linear(d, over = {listed[3]})")
    recipes: dict[str, str] = {}
    q, k, v = "q_proj(x)", "k_proj(x)", "v_proj(x)"
    if c.below(2) and len(shape) > 1:
        recipes["rotate"] = rotation(spec, place, width)
        body.say(f"q, k = rotate({q}, {k})")
        q, k = "q", "k"
    if c.chance(3) and width > 1:
        body.say("q_norm = rms_norm()")
        q = f"q_norm({q})"
    scale = c.pick(["1", "e ^ -0.5", "0.5", "temperature"])
    if scale == "temperature":
        body.say(f"temperature = param([{key[0] if len(key) > 1 else ''}], init = 0.7)")
    count = 1
    for axis in shape[:-1]:
        count *= axis.count or 1
    over, memory = "t", c.chance(4) and not place.causal
    plain = "none"
    if memory:
        body.say(f"memory = param([rows: 3, {', '.join(map(str, key))}], init = normal(0.5))")
        body.say(f"k = concat(rename({k}, t = s), rename(memory, rows = s), over = s)")
        body.say(
            f"v = concat(rename({v}, t = s), ones([rows: 3, {', '.join(map(str, value))}])[rows = 0 ..], over = s)".replace(
                "rows: 3", "s: 3"
            ).replace("[rows = 0 ..]", "")
        )
        k, v, over = "k", "v", "[t, s]"
        seen = score(spec, body, "heads", count, place.inside(masked=False)) if c.below(2) else "none"
        seen = seen if not seen.startswith("pull") else "none"
        if seen == "none" and "pull" in "".join(body.lines):
            body.lines = [line for line in body.lines if "pull" not in line and not line.startswith("row")]
    else:
        plain = mask(spec, body, place)
        seen = score(spec, body, "heads", count, place)
    shares = weights(spec, len(shape)).replace("HEADS", str(kv))
    options = ", ".join(filter(None, [plain if plain != "none" or seen != "none" else "", f"score = {seen}" if seen != "none" else "",
                                      f"scale = {scale}" if scale != "1" else "", f"weights = {shares}" if shares != "softmax" else "", f"over = {over}"]))  # fmt: skip
    body.say(f"y = attend({q}, {k}, {v}, {options})")
    body.pool.append(Tensor("y", (axes[0], axes[1], *shape[:-1], wide)))
    if c.chance(3):
        gate = body.instance(f"linear({listed[3]})", "gate")
        body.say(f"y = y * sigmoid({gate}(x))")
    body.say(f"return {c.pick(['', 'x + '])}o_proj(y)")
    return declared(spec, body, spec.name("look"), recipes=recipes)


def written_attention(spec: Spec, place: Place) -> str:
    """Attention by einsum and softmax, as a paper writes it."""
    c = spec.choices
    body, _, _ = started(spec, place)
    h, e = c.pick([1, 2, 3]), c.pick([2, 3])
    body.lines += [
        f"query = linear([heads: {h}, e: {e}])", f"key = linear([heads: {h}, e: {e}])", f"value = linear([heads: {h}, e: {e}])",
        f"out = linear(d, over = [heads: {h}, e: {e}])", "k = rename(key(x), t = s)", "v = rename(value(x), t = s)",
        "scores = einsum(query(x), k, over = e) * e ^ -0.5", "distance = index(t) - index(s: t)",
    ]  # fmt: skip
    if c.below(2):
        body.lines += ["table = param([places: 5, e], init = normal(0.5))", "near = clamp(distance, -2, 2) + 2",
                       "scores = scores + einsum(query(x), table[places = near], over = e)"]  # fmt: skip
    if place.causal or c.below(2):
        body.say("scores = where(distance >= 0, scores, -1e30)")
    else:
        body.say("scores = scores - 0.1 * abs(distance)")
    body.say("return out(einsum(softmax(scores, s), v, over = s))")
    return declared(spec, body, spec.name("read"))


def library_attention(spec: Spec, place: Place) -> str:
    c = spec.choices
    heads = c.pick([n for n in (1, 2, 3) if place.d % n == 0])
    width = c.pick([2, 4]) if place.d // heads % 2 else place.d // heads
    rotate = rotation(spec, place, width)
    masks = "causal" if place.causal else c.pick(["causal", "none", "sliding(2)"])
    if place.masked and c.below(2):
        spec.givens.add("attention_mask")
        masks = f"{masks} and padding" if masks != "none" else "padding"
    options = f"heads = {heads}, head_dim = {width}, mask = {masks}, rotate = {rotate}"
    options += c.pick(["", ", bias = true", ", score = soft_cap(20.0)"])
    return c.pick(
        [
            f"multi_head({options})",
            f"grouped_query(kv_heads = {c.pick([1, heads])}, {options}{c.pick(['', ', qk_norm = rms_norm'])})",
        ]
    )


# ---------------------------------------------------------------- feed-forward, mixtures


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
    body.lines += [f"gate = linear([experts: {body.number(n)}])", f"mlps = bank(experts: {n}, expert)"]
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


# ---------------------------------------------------------------- recurrences, convolutions


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


# ---------------------------------------------------------------- wrappers


def nested(spec: Spec, place: Place) -> str:
    """A component around another: residual, normalised, twice with the same weights, gated, stacked."""
    c = spec.choices
    body, _, _ = started(spec, place)
    recipes = {"inner": mixer(spec, place.inside())}
    match c.below(7):
        case 0:
            body.lines += ["norm = norm", "inner = inner", "return x + inner(norm(x))"]
            recipes["norm"] = c.pick(["rms_norm", "layer_norm()", "identity"])
        case 1:
            body.lines += ["first = inner", "second = inner", "return second(first(x)) + x"]
        case 2:
            body.lines += ["inner = inner", "gain = param([], init = 0.5)", "return x + gain * inner(inner(x))"]
            recipes = {"inner": mixer(spec, place.inside(effects=False))}
        case 3:
            n = body.number(c.pick([1, 2, 3]))
            pattern = c.pick([f"{n} of inner", f"{n} of [inner, other * 2]", "[inner * 2, other]", "[other, inner]"])
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
    match c.below(4 if not place.causal else 1):
        case 0:
            body.lines += ["up = linear(d)", "y = up(x)", "loss size = 0.1 * mean(y ^ 2, [b, t, d])", "return x + y"]
        case 1:
            m = c.pick([1, 2])
            body.lines += [f"state past: [b, m: {m}, d] = zeros", "all = concat(rename(past, m = s), rename(x, t = s), over = s)",
                           "next past = stop_gradient(rename(all[s = t ..], s = m))", "return x + mean(past, m) + mean(all, s)"]  # fmt: skip
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


CAUSAL: tuple[Maker, ...] = (
    attention, attention, library_attention, feed_forward, mixture, pairwise, cell, convolution, running, nested, nested, shared_weights, written_attention, effects,
    carried, windows,
)  # fmt: skip
ANY: tuple[Maker, ...] = (*CAUSAL, dag, dag, dag, dag, dag, effects)


def mixer(spec: Spec, place: Place) -> str:
    if place.depth <= 0:
        return spec.choices.pick(
            (feed_forward, dag, library_attention) if not place.causal else (feed_forward, running, library_attention)
        )(spec, place)
    return spec.choices.pick(CAUSAL if place.causal else ANY)(spec, place)


__all__ = ["Place", "mixer", "parameter"]
