"""Random models: whole specs in .xf, with the inputs that what they contain reads."""

from __future__ import annotations

import re

from .body import Axis, Body, Spec, Tensor
from .choices import Choices
from .components.experts import feed_forward
from .components.mixers import mixer
from .components.place import Place
from .operations.all import random_operations
from .surface import file_text

WIDTHS = (1, 2, 3, 4, 5, 6, 8)


def random_spec(choices: Choices) -> str:
    """The text of a spec whose last model is well-typed, as far as sizes allow."""
    spec = Spec(choices)
    [language_model, plain_model, plain_model, operations_model, translator, images][choices.below(6)](spec)
    return file_text(spec)


def inputs_for(spec: Spec, vocab: bool) -> list[str]:
    found = ["input_ids: [b, t] int in vocab"] if vocab else ["features: [b, t, d_model]"]
    if "attention_mask" in spec.givens:
        found.append("attention_mask: [b, t] int = 1")
    if "document_ids" in spec.givens:
        found.append("document_ids: [b, t] int in 3")
    return found


def language_model(spec: Spec) -> None:
    """The library's causal_lm with parts of ours: blocks, lets, variants, as users write them."""
    c = spec.choices
    d, vocab, layers = c.pick(WIDTHS), 4099 if c.chance(12) else c.pick([2, 7, 11]), c.pick([1, 2, 3])
    place = Place(d, 2, True, True)
    spec.offered = frozenset(("attention_mask", "positions"))
    attention, ffn = mixer(spec, place), feed_forward(spec, place)
    norm = c.pick(["rms_norm", "rms_norm(eps = 1e-5)", "layer_norm()"][: 3 if d > 1 else 2])
    lines = [f"vocab = {vocab}", f"d_model = {d}"]
    if c.chance(4):
        lines += [c.pick(["tied = true", "head_bias = true", "embed_scale = 2.0"])]
    if c.chance(4):
        lines += [c.pick(["position = learned(size = 160)", "positions = kept"])]
    block = c.pick(["pre_norm", "parallel", "sandwich", "post_norm"])
    one = [f"    let a = {block}({attention}, {ffn}, {norm})"]
    if c.chance(3):
        one = [f"    let a = {block}:", *(f"        {n} = {r}" for n, r in (("attention", attention), ("ffn", ffn), ("norm", norm)))]
    match c.below(3):
        case 0:
            lines += [
                "decoder:",
                f"    layers = {layers}",
                f"    attention = {attention}",
                f"    ffn = {ffn}",
                f"    norm = {norm}",
                f"    block = {block}",
            ]
        case 1:
            lines += [
                "decoder = transformer:",
                f"    let mixing = {attention}",
                f"    layers = {layers}",
                "    attention = mixing",
                f"    ffn = {ffn}",
                f"    norm = {norm}",
            ]
        case _:
            lines += ["decoder:", *one, f"    let m = pre_norm({mixer(spec, place.inside())}, {ffn}, {norm})",
                      f"    blocks = {c.pick([f'{layers} of [a, m]', '[a * 2, m]', f'{layers} of a'])}", f"    norm = {norm}"]  # fmt: skip
            if "m]" not in lines[-2]:
                lines = [line for line in lines if "let m =" not in line]
    name = spec.name("model")
    spec.parts.append(f"model {name} = causal_lm:\n" + "\n".join("    " + line for line in lines))
    if c.chance(3):
        change = ["    decoder.layers = 1"] if lines[2] == "decoder:" and any(line.startswith("    layers") for line in lines) else []
        spec.parts.append(f"model {spec.name('variant')} extends {name}:\n" + "\n".join([*change, f"    vocab = {vocab + 1}"]))


def plain_model(spec: Spec) -> None:
    """A model with typed inputs and a body."""
    c = spec.choices
    d, vocab = c.pick(WIDTHS), c.pick([2, 7])
    causal = c.chance(3)
    place = Place(d, c.pick([1, 2, 3]), True, causal)
    recipes = [mixer(spec, place) for _ in range(c.between(1, 3))]
    ids = bool(c.below(3))
    lines = ["embed = embedding(vocab, d_model)", "x: [b, t, d_model] = embed(input_ids)"] if ids else ["x = tanh(features)"]
    if "positions" in spec.givens:
        lines.append("positions = expand(index(t), b)")
    emits: list[str] = []
    for k, recipe in enumerate(recipes):
        name = f"part{k}"
        match c.below(4):
            case 0:
                lines += [f"{name} = {recipe}", f"x = {name}(x)"]
            case 1:
                lines += [f"{name} = {recipe}", f"x = x + {name}(x)"]
            case 2:
                lines += [f"{name} = {c.pick([1, 2])} of {recipe}", f"x = {name}(x)"]
            case _:
                watched = spec.name("watched")
                spec.parts.append(
                    f"component {watched}(block)(x: [b, t, d]) -> [b, t, d]:\n    block = block\n    y = block(x)\n    emit {watched} = y\n    return y"
                )
                lines += [f"{name} = {c.pick([1, 2, 3])} of {watched}({recipe})", f"x = {name}(x)"]
                emits.append(f"{name}.{watched}")
    inputs, outputs, results = inputs_for(spec, ids), [], []
    if c.chance(4):
        default, axes = c.pick(
            [
                ("0.5", "b, t"),
                ("2 * 0.25", "b, t"),
                ("index(t) * 0.5", "b, t"),
                ("1.0 / d_model", "b, t"),
                ("0.3", ""),
                ("tanh(0.5)", "b, t"),
            ]
        )
        inputs.append(f"shift: [{axes}] = {default}")
        lines.append(f"x = x + {c.pick(['0.1 * shift', 'sin(shift)'])}")
    hyper = [f"d_model = {d}", *([f"vocab = {vocab}"] if ids or c.below(2) else [])]
    if len(hyper) > 1:
        inputs.append("labels: [b, t] int = none")
        if c.chance(6):
            hyper[-1] = "vocab = 4099"  # many classes: the loss is taken without all logits at once
        tied = ids and c.below(2)
        lines += ["logits = einsum(x, embed.weight, over = d_model)"] if tied else ["head = linear(vocab)", "logits = head(x)"]
        shifted = causal and c.below(2)
        lines.append(
            "loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)"
            if shifted
            else "loss tags = cross_entropy(logits, labels, over = vocab)"
        )
        match c.below(6):
            case 4:
                lines.append("loss sizes = 0.01 * mean(logsumexp(logits, vocab) ^ 2, [b, t])")
            case 5:
                lines.append(f"loss even = {c.pick(['-0.1', '0.1'])} * mean(log_softmax(logits, vocab), [b, t, vocab])")
            case _:
                pass
        outputs.append("logits: [b, t, vocab]")
        results.append("logits")
    if not results or c.below(2):
        outputs.append("last_hidden_state: [b, t, d_model]")
        results.append("x")
    if emits and c.below(2):
        outputs.append("hidden_states: [layer, b, t, d_model]")
        results.append(emits[0])
    if c.chance(4):
        lines.append("pooled = mean(x, t)")
        outputs.append("pooled: [b, d_model]")
        results.append("pooled")
    given = f"({', '.join(outputs)})" if len(outputs) > 1 or c.below(2) else outputs[0].partition(": ")[2]
    assume = ['assume causal: "as it may be"'] if causal and c.chance(4) else []
    body = "\n".join("    " + line for line in [*assume, *lines, f"return {', '.join(results)}"])
    spec.parts.append(f"model {spec.name('model')}({', '.join(hyper)})({', '.join(inputs)}) -> {given}:\n{body}")


def operations_model(spec: Spec) -> None:
    """Operations at random in the model's own body, over inputs of several kinds."""
    c = spec.choices
    axes = [Axis("b", "b"), Axis("t", "t"), Axis("d", "d", c.pick(WIDTHS)), Axis("n", "n", c.pick([1, 2, 3]))]
    body = Body(spec, axes, depth=0)
    b, t, d, n = axes
    kinds = [("x: [b, t, d]", Tensor("x", (b, t, d))), ("ids: [b, t] int in 5", Tensor("ids", (b, t), "int", 5, True)),
             ("flags: [b, t] bool", Tensor("flags", (b, t), "bool", 1, True)), ("y: [b, n, d]", Tensor("y", (b, n, d))),
             ("z: [b, t, t']", Tensor("z", (b, t, Axis("t'", "t"))))]  # fmt: skip
    chosen = [kinds[0], *(k for k in kinds[1:] if c.below(2))]
    for _, tensor in chosen:
        body.add(tensor)
    body.taken |= {"x", "y", "z", "ids", "flags"}
    if not any("n" in k[0].split("]")[0] for k in chosen[1:]):
        axes.remove(n)
        del body.axes["n"]
    random_operations(body, c.between(3, 16))
    body.say(f"out = transpose({body.total(chosen[0][1], (b, t, d))}, [b, t, d])")
    hyper = [
        f"d = {d.count}",
        *([f"n = {n.count}"] if n in axes else []),
        *(f"{k} = {v}" for k, v in body.hyper.items() if re.search(rf"\b{k}\b", "\n".join(body.lines))),
    ]
    inputs = ", ".join(k for k, _ in chosen)
    lines = "\n".join("    " + line for line in [*body.lines, "return out"])
    spec.parts.append(f"model {spec.name('model')}({', '.join(hyper)})({inputs}) -> (out: [b, t, d]):\n{lines}")


def translator(spec: Spec) -> None:
    """An encoder and a decoder that reads what it made."""
    c = spec.choices
    d, vocab = c.pick([n for n in WIDTHS if n > 1]), c.pick([3, 7])
    outer = Place(d, 1, False, False)
    encoder = mixer(spec, outer.inside(effects=False) if c.below(2) else outer)
    decoder = mixer(spec, Place(d, 1, False, True, effects=False))
    heads = c.pick([1, 2])
    e = c.pick([1, 2, 3])
    name = spec.name("cross")
    padded = c.pick(["none", "padding", "near", "causal"])
    if padded == "near":
        padded = spec.name("near")
        spec.parts.append(f"mask {padded}(i, j) = j % 2 == 0 or j <= i")
    spec.parts.append(
        f"component {name}(x: [b, t, d], memory: [b, s, m]) -> [b, t, d]:\n    q = linear([heads: {heads}, e: {e}])\n    k = linear([heads: {heads}, e: {e}])\n"
        f"    v = linear([heads: {heads}, e: {e}], true)\n    o = linear(d, over = [heads: {heads}, e: {e}])\n"
        f"    return o(attend(q(x), k(memory), v(memory), {padded}, over = [t, s]))"
    )
    block = spec.name("block")
    spec.parts.append(f"component {block}(inner, cross)(x: [b, t, d], memory: [b, s, m]) -> [b, t, d]:\n    inner = inner\n    cross = cross\n    x = x + inner(x)\n"
                      "    return x + cross(x, memory)")  # fmt: skip
    layers = c.pick([1, 2])
    lines = ["embed = embedding(vocab, d_model)", f"encoder = {encoder}", f"layers = {layers} of {block}({decoder}, {name})", "memory = encoder(embed(input_ids))",
             "x = layers(embed(decoder_input_ids), memory)", "logits = einsum(x, embed.weight, over = d_model)",
             "loss lm = cross_entropy(logits, labels, over = vocab)", "return logits, memory"]  # fmt: skip
    mask = ", attention_mask: [b, s] int = 1" if padded == "padding" else ""
    body = "\n".join("    " + line for line in lines)
    spec.parts.append(
        f"model {spec.name('model')}(vocab = {vocab}, d_model = {d})(input_ids: [b, s] int in vocab, decoder_input_ids: [b, t] int in vocab{mask}, "
        f"labels: [b, t] int = none) -> (logits: [b, t, vocab], memory: [b, s, d_model]):\n{body}"
    )


def images(spec: Spec) -> None:
    """Static axes only: patches of a picture, and components over them."""
    c = spec.choices
    patch, grid, d = c.pick([1, 2, 3]), c.pick([1, 2, 3]), c.pick([n for n in WIDTHS if n > 1])
    place = Place(d, 1, False, False, effects=False)
    recipes = [mixer(spec, place) for _ in range(c.between(1, 2))]
    lines = ["cells = unflatten(unflatten(pixel_values, y = [rows: y / patch, u: patch]), x = [columns: x / patch, v: patch])",
             "project = linear(d_model, bias = true, over = [channels, u, v])", "flat = flatten(cells, [rows, columns], t)",
             "tokens = project(transpose(flat, [b, t, channels, u, v]))"]  # fmt: skip
    for k, recipe in enumerate(recipes):
        lines += [f"part{k} = {recipe}", f"tokens = part{k}(tokens)"]
    lines += ["head = linear(classes)", f"return head({c.pick(['mean(tokens, t)', 'tokens[t = 0]', 'max(tokens, t)'])})"]
    body = "\n".join("    " + line for line in lines)
    spec.parts.append(
        f"model {spec.name('model')}(patch = {patch}, d_model = {d}, classes = 3, channels = {c.pick([1, 3])}, side = {patch * grid})"
        f"(pixel_values: [b, channels, y: side, x: side]) -> (logits: [b, classes]):\n{body}"
    )
