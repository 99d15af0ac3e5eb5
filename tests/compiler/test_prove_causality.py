"""What the flow analysis proves, refutes and leaves open, one small model each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xfc.backends.interpreter import initial_params, run
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.passes.hoist_invariants import hoist_invariants
from xfc.compiler.passes.prove_causality import Verdict, check_causality, prove
from xfc.compiler.verify_ir import verify

MODEL = """
component attention(mask)(x: [b, t, d]) -> [b, t, d]:
    q_proj = linear([heads: 2, e: 4])
    k_proj = linear([heads: 2, e: 4])
    v_proj = linear([heads: 2, e: 4])
    out = linear(d, over = [heads, e])
    let heads = 2
    return out(attend(q_proj(x), k_proj(x), v_proj(x), mask, over = t))

mask window(n)(i, j) = j <= i and i - j < n
mask chunked(n)(i, j) = i // n == j // n
mask chunks_before(n)(i, j) = j // n < i // n or j == i
mask not_later(i, j) = not (j > i)
mask not_before(i, j) = i <= j
mask shifted(i, j) = i - j >= 0 - 2
mask keep(j):
    given attention_mask: [b, s]
    return attention_mask[s = j] == 1

model m(vocab = 11, width = 8)(
        input_ids: [b, t] int in vocab, MASK_INPUT labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, width)
    x = embed(input_ids)
    BODY
    head = linear(vocab)
    logits = head(x)
    loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)
    return logits
"""


def program(tmp_path: Path, body: str) -> Program:
    path = tmp_path / "m.xf"
    lines = "".join(f"    {line}\n" for line in body.split("\n")).rstrip()
    text = MODEL.replace("    BODY", lines).replace("MASK_INPUT", "attention_mask: [b, t] int = 1," if "keep" in body else "")
    path.write_text(text)
    diagnostics = Diagnostics()
    found = elaborate_file(str(path), [], diagnostics)
    assert found is not None, diagnostics.found
    verify(found)
    return found


def verdict(tmp_path: Path, body: str) -> Verdict:
    found = prove(program(tmp_path, body)).decoded
    assert found is not None
    return found


CAUSAL = [
    "x = x",
    "x = cumsum(x, t)",
    "at = attention(mask = causal)\nx = x + at(x)",
    "at = attention(mask = window(3))\nx = x + at(x)",
    "at = attention(mask = causal and keep)\nx = x + at(x)",
    "at = attention(mask = not_later)\nx = x + at(x)",
    "at = attention(mask = chunks_before(4))\nx = x + at(x)",
    "at = attention(mask = chunked(4) and causal)\nx = x + at(x)",
    "mask itself(i, j) = not (i != j)\nat = attention(mask = itself)\nx = x + at(x)",
    "k = unfold(pad(x, t = [3, 0]), t, k: 4)\nx = mean(k, k)",
    "x = linear_recurrence(sigmoid(x), x, over = t)",
    "x = pad(x, t = [1, 0])[t = 0 .. -1]",
    "x = x + x[t = maximum(index(t) - 1, 0)]",
    "x = x + x[t = maximum(-(1 - index(t)), 0)]",
    "x = flatten(unflatten(x, t = [n: t / 4, w: 4]), [n, w], t)",
    "seen = index(s: t) <= index(t)\nx = einsum(where(seen, 0.5 ^ (index(t) - index(s: t)), 0.0), rename(x, t = s), over = s)",
    "seen = index(s: t) <= index(t)\nx = einsum(float(seen), rename(x, t = s), over = s)",
    "z = rename(x, t = s)\nw = softmax(where(index(s: t) <= index(t), einsum(x, z, over = width), -1e30), s)\nx = einsum(w, z, over = s)",
    "z = rename(x, t = s)\nw = where(index(s: t) <= index(t), x * z, 0)\nx = sum(flip(cumsum(flip(w, s), s), s), s)",
    "x = x + x[t = index(t) // 2]",
    "x = einsum(float(one_hot(maximum(index(t) - 1, 0), n: t)), rename(x, t = n), over = n)",
    "lag = index(t) - index(s: t)\nw = where(lag >= 0, stack([1.0 * lag, 2.0 * lag], g: 2), 0.0)[g = 0]\nx = einsum(w, rename(x, t = s), over = s)",
    "z = rename(x, t = s)\nw = softmax(einsum(x, z, over = width) + where(index(s: t) <= index(t), 0.0, -1e30), s)\nx = einsum(w, z, over = s)",
    "z = rename(x, t = s)\nsee = index(s: t) <= index(t)\nw = unfold(pad(where(see, einsum(x, z, over = width), 0.0), s = [1, 1]), s, n: 3)\n"
    "w = unflatten(where(see, sum(w, n), 0.0) * x, width = [g: 2, e: 4])\nx = einsum(sum(w, [g, e]), z, over = s)",
    "weights own(s: [b, h, t, j]) -> [b, h, t, j]:\n    return flip(softmax(s, j), j) + 1.0 + rename(mean(x, width), t = j)\n"
    "q = unflatten(x, width = [h: 2, e: 4])\nx = x + flatten(attend(q, q, q, causal, weights = own, over = t), [h, e], width)",
    "z = unflatten(x, t = [n: t / 4, w: 4])\nm = pad(mean(z, w), n = [1, 0])[n = 0 .. -1]\nx = flatten(z + m, [n, w], t)",
]

NOT_CAUSAL = [
    ("x = x + mean(x, t)", "mean", None),
    ("x = softmax(x, t)", "softmax", None),
    ("x = softmax(x, t)\nx = where(training, x, 0.5 * x)", "softmax", None),
    ("mask rule(i, j) = i // 2 > 3 and i // 3 == j // 3\nx = attend(x, x, x, rule, over = t)", "the mask of `attend`", 2),
    ("x = flip(x, t)", "flip", None),
    ("x = roll(x, 1, t)", "roll", None),
    ("x = sort(x, t)", "sort", None),
    ("at = attention(mask = shifted)\nx = x + at(x)", "mask", 2),
    ("at = attention(mask = chunked(4))\nx = x + at(x)", "mask", 3),
    ("mask near(i, j) = abs(i - j) < 2\nat = attention(mask = near)\nx = x + at(x)", "mask", 1),
    ("mask even(i, j) = (i - j) % 2 == 0\nat = attention(mask = even)\nx = x + at(x)", "mask", None),
    ("at = attention(mask = not_before)\nx = x + at(x)", "query 0 see key 1", None),
    ("at = attention(mask = keep)\nx = x + at(x)", "query 0 see key 1", None),
    ("at = attention(mask = none)\nx = x + at(x)", "without a mask", None),
    ("k = unfold(pad(x, t = [1, 1]), t, k: 3)\nx = mean(k, k)", "windows of 3", 1),
    ("x = pad(x, t = [0, 2])[t = 2 ..]", "starts at 2", 2),
    ("z = unflatten(x, t = [n: t / 4, w: 4])\nx = flatten(z + mean(z, w), [n, w], t)", "mean", 3),
    ("z = rename(x, t = s)\nx = einsum(softmax(einsum(x, z, over = width), s), z, over = s)", "softmax", None),
    ("seen = index(s: t) <= index(t) + 1\nx = einsum(float(seen), rename(x, t = s), over = s)", "the sum over `s`", 1),
    ("x = x * x[t = -1]", "indexing", None),
    ("first = index(width)\nx = x + x[t = first, width = first % 3]", "indexing", 7),
    (
        "q = unflatten(x, width = [h: 4, e: 2])\nc = mean(q, e)\nscore peek(s, h, i, j) = s + c[t = h, h = j % 2]\n"
        "x = x + flatten(attend(q, q, q, causal, peek, over = t), [h, e], width)",
        "indexing",
        3,
    ),
    ("x = where(x > 0, x[t = -1], x)", "indexing", None),
    ("x = where(x > 0, x, x[t = -1])", "indexing", None),
    ("order = argmax(x, width)\nx = x[t = order] + mean(x, t)", "mean", None),  # one way is unproved, the other refuted
    ("order = argmax(x, width)\nx = mean(x, t) + x[t = order]", "mean", None),
]

OPEN = [
    "x = x + x[t = index(t) - 1]",  # at 0 it reads the end
    "x = x + x[t = maximum(index(t) - 1, 0 - 1)]",
    "x = x + x[t = minimum(int(sum(x, width)), t - 1)]",
    "z = rename(x, t = s)\nw = softmax(where(index(s: t) < index(t), einsum(x, z, over = width), -1e30), s)\nx = einsum(w, z, over = s)",
    "x = einsum(float((index(s: t) * index(s: t)) <= index(t)), rename(x, t = s), over = s)",
    "x = where(index(t) >= 0, x, x[t = -1])",
    "order = argmax(x, width)\nx = x[t = order]",
]


@pytest.mark.parametrize("body", CAUSAL)
def test_proved(tmp_path: Path, body: str) -> None:
    found = verdict(tmp_path, body)
    assert found.answer == "proved", found


@pytest.mark.parametrize(("body", "cause", "offset"), NOT_CAUSAL)
def test_refuted(tmp_path: Path, body: str, cause: str, offset: int | None) -> None:
    found = verdict(tmp_path, body)
    assert found.answer == "refuted" and found.cause is not None and cause in found.cause.what, found
    assert found.offset == offset


def looks_ahead(program: Program) -> bool:
    """Whether changing one token changes the logits of an earlier position."""
    params = initial_params(program, seed=2)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 11, size=(1, 16))
    before = run(program, params, {"input_ids": ids})["logits"]
    for at in range(1, 16):
        changed = ids.copy()
        changed[0, at] = (ids[0, at] + 5) % 11
        after = run(program, params, {"input_ids": changed})["logits"]
        if np.abs(after[:, :at] - before[:, :at]).max() > 1e-12:
            return True
    return False


@pytest.mark.parametrize("body", CAUSAL)
def test_what_is_proved_holds(tmp_path: Path, body: str) -> None:
    assert not looks_ahead(program(tmp_path, body))


@pytest.mark.parametrize("body", [body for body, _, _ in NOT_CAUSAL])
def test_what_is_refuted_fails(tmp_path: Path, body: str) -> None:
    assert looks_ahead(program(tmp_path, body))


@pytest.mark.parametrize("body", OPEN)
def test_unproved(tmp_path: Path, body: str) -> None:
    assert verdict(tmp_path, body).answer == "unproved"


def test_stacks_reach_a_fixed_point_and_hoisting_keeps_the_answer(tmp_path: Path) -> None:
    layers = "layers = 3 of pre_norm(attention = attention(mask = MASK), ffn = gated(hidden = 8), norm = rms_norm)\nx = layers(x)"
    good, bad = (program(tmp_path, layers.replace("MASK", m)) for m in ("causal and keep", "shifted"))
    assert prove(good).causal and prove(hoist_invariants(good)).causal
    refuted = prove(bad).decoded
    assert refuted is not None and refuted.answer == "refuted" and refuted.offset is None


def test_an_autoregressive_head_must_not_see_ahead(tmp_path: Path) -> None:
    diagnostics = Diagnostics()
    flow = check_causality(program(tmp_path, "x = x + mean(x, t)"), diagnostics)
    assert flow.autoregressive
    assert [d.code for d in diagnostics.found] == ["E401"] and "mean" in diagnostics.found[0].message


@pytest.mark.parametrize(
    ("body", "ahead"),
    [
        ("k = unfold(pad(x, t = [1, 1]), t, k: 3)\nx = mean(k, k)", "1 position ahead of"),
        ("x = pad(x, t = [0, 2])[t = 2 ..]", "2 positions ahead of"),
        ("x = x + mean(x, t)", "later positions of"),
    ],
)
def test_it_is_told_how_far_ahead(tmp_path: Path, body: str, ahead: str) -> None:
    diagnostics = Diagnostics()
    check_causality(program(tmp_path, body), diagnostics)
    assert f"`logits` sees {ahead} `input_ids`" in diagnostics.found[0].message


def test_what_may_read_the_end_is_told_how_not_to(tmp_path: Path) -> None:
    diagnostics = Diagnostics()
    check_causality(program(tmp_path, "x = x + x[t = index(t) - 1]"), diagnostics)
    assert [d.code for d in diagnostics.found] == ["E402"] and "may be negative" in diagnostics.found[0].message
    assert "maximum(..., 0)" in (diagnostics.found[0].help or "")


def test_an_assumption_is_stated_instead(tmp_path: Path) -> None:
    diagnostics = Diagnostics()
    flow = check_causality(program(tmp_path, 'assume causal: "the mean is small"\nx = x + mean(x, t)'), diagnostics)
    assert flow.assumed is not None and not flow.causal and not diagnostics.found


def test_a_sequence_of_fixed_length_has_later_positions_too(tmp_path: Path) -> None:
    text = (
        MODEL.replace("input_ids: [b, t]", "input_ids: [b, t: 12]")
        .replace("MASK_INPUT", "")
        .replace("BODY", "layer = attention(none)\n    x = layer(x)")
    )
    path = tmp_path / "m.xf"
    path.write_text(text)
    diagnostics = Diagnostics()
    found = elaborate_file(str(path), [], diagnostics)
    assert found is not None, diagnostics.found
    check_causality(found, diagnostics)
    assert [d.code for d in diagnostics.found] == ["E401"]
