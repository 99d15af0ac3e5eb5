"""Attention: masks, scores, weights, heads and groups; as a kernel, as the library has it, written out."""

from __future__ import annotations

from ..body import Axis, Body, Spec, Tensor
from .place import Place, declared, started


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
    match c.below(9):
        case 0 | 1 | 2:
            return "none"
        case 8 if any("heads: " in line for line in body.lines[:1]):
            tilt, inner = body.name("tilt"), body.name("lean")
            body.say(f"{tilt} = param([heads], init = normal(0.5))")
            body.say(f"score {inner}(s, i, j) = {c.pick([f's + 0.1 * {tilt} * (i - j)', f's + {tilt}', f's - {tilt} * abs(i - j)'])}")
            return inner
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


def latent_attention(spec: Spec, place: Place) -> str:
    """Attention whose keys and values are linear maps of something small, by modules or by weights of its own; keys perhaps joined of two."""
    c = spec.choices
    body, _, _ = started(spec, place)
    h, e, r = c.pick([1, 2, 3]), c.pick([2, 3]), c.pick([1, 2, 5])
    body.lines += [f"down = linear([r: {r}])", "small = down(x)"]
    made = {}
    for name in ("key", "value"):
        if c.below(2):
            body.say(f"{name}_up = linear([heads: {h}, e: {e}])")
            made[name] = f"{name}_up(small)"
        else:
            body.say(f"{name}_map = param([r, heads: {h}, e: {e}], init = normal(0.5))")
            made[name] = f"einsum(small, {name}_map, over = r)"
    width = f"e: {e}"
    if c.chance(3):
        width = "f: 2"
        body.lines += ["near = linear([f: 2])", f"k = concat(rename({made['key']}, e = f), near(x), over = f)"]
        made["key"], width = "k", f"f: {e + 2}"
    body.lines += [f"query = linear([heads: {h}, {width}])", f"out = linear(d, over = [heads: {h}, e: {e}])"]
    seen = mask(spec, body, place) if not place.causal else "causal"
    body.say(f"return x + out(attend(query(x), {made['key']}, {made['value']}, {seen}, scale = 0.5, over = t))")
    return declared(spec, body, spec.name("small"))


SHARES = (
    "return softmax(s, j)",
    "return sigmoid(s - 1) / 4",
    "e = relu(s)\n    return e / (sum(e, j) + 1)",
    "sink = param([h], init = normal(1.0))\n    row = maximum(max(s, j), sink)\n    e = exp(s - row)\n    return e / (sum(e, j) + exp(sink - row))",
    "mix = param([out: h, h], init = normal(0.5))\n    return rename(einsum(softmax(s, j), mix, over = h), out = h)",
    "e = exp(s)\n    return e / (mean(e, j) + 1)",
)


def windowed_attention(spec: Spec, place: Place) -> str:
    """A window with scores and weights of its own: capped scores, a sink for each head, weights that are no softmax, mixed heads."""
    c = spec.choices
    body, _, _ = started(spec, place)
    heads, e, width = c.pick([1, 2, 3]), c.pick([1, 2, 4]), c.pick([2, 3, 4])
    body.lines += [f"look = linear([heads: {heads}, e: {e}])", f"back = linear(d, over = [heads: {heads}, e: {e}])", "y = look(x)"]
    seen = f"sliding({width})"
    if not place.causal and c.below(2):
        near = spec.name("near")
        spec.parts.append(f"mask {near}(width)(i, j) = abs(i - j) < width")
        seen = f"{near}({width})"
    if place.masked and c.below(2):
        spec.givens.add("attention_mask")
        seen += " and padding"
    shares = spec.name("shares")
    spec.parts.append(f"weights {shares}(s: [b, h, t, j]) -> [b, h, t, j]:\n    {c.pick(SHARES)}")
    body.say(f"return x + back(attend(y, y, y, {seen}, {c.pick(['none', 'soft_cap(2.0)'])}, 0.5, {shares}, over = t))")
    return declared(spec, body, spec.name("near"))


def written_attention(spec: Spec, place: Place) -> str:
    """Attention by einsum and softmax, as a paper writes it."""
    c = spec.choices
    body, _, _ = started(spec, place)
    h, e = c.pick([1, 2, 3]), c.pick([2, 3])
    body.lines += [
        f"query = linear([heads: {h}, e: {e}])", f"key = linear([heads: {h}, e: {e}])", f"value = linear([heads: {h}, e: {e}])",
        f"out = linear(d, over = [heads: {h}, e: {e}])", "k = rename(key(x), t = far)", "v = rename(value(x), t = far)",
        "scores = einsum(query(x), k, over = e) * e ^ -0.5", "distance = index(t) - index(far: t)",
    ]  # fmt: skip
    if c.below(2):
        body.lines += ["table = param([places: 5, e], init = normal(0.5))", "near = clamp(distance, -2, 2) + 2",
                       "scores = scores + einsum(query(x), table[places = near], over = e)"]  # fmt: skip
    if place.causal or c.below(2):
        body.say("scores = where(distance >= 0, scores, -1e30)")
    else:
        body.say("scores = scores - 0.1 * abs(distance)")
    body.say("return out(einsum(softmax(scores, far), v, over = far))")
    return declared(spec, body, spec.name("read"))


def library_attention(spec: Spec, place: Place) -> str:
    c = spec.choices
    heads = c.pick([n for n in (1, 2, 3) if place.d % n == 0])
    width = c.pick([2, 4]) if place.d // heads % 2 else place.d // heads
    rotate = rotation(spec, place, width)
    masks = c.pick(["causal", "sliding(3)"] if place.causal else ["causal", "none", "sliding(2)"])
    if place.masked and c.below(2):
        spec.givens.add("attention_mask")
        masks = f"{masks} and padding" if masks != "none" else "padding"
    options = f"heads = {heads}, head_dim = {width}, mask = {masks}, rotate = {rotate}"
    options += c.pick(["", ", bias = true", ", score = soft_cap(20.0)"])
    return c.pick(
        [
            f"multi_head({options})",
            f"grouped_query(kv_heads = {c.pick([1, heads])}, {options}{c.pick(['', ', qk_norm = rms_norm', ', weights = softmax_sinks'])})",
        ]
    )
