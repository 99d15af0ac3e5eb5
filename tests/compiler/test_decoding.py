"""Step by step equals the whole sequence, for every model whose causality is proved, and what cannot be decoded says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xfc.backends import interpreter
from xfc.backends.interpreter.tensors import Array
from xfc.backends.verify_decoding import calls_of
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler import ir, pipeline
from xfc.compiler.count_cache import count_cache
from xfc.compiler.decoding.absorb_maps import absorb_maps, find_absorbed
from xfc.compiler.decoding.common import Length
from xfc.compiler.decoding.find_moved_by_padding import find_moved_by_padding
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.verify_ir import verify

from ..decoding import DECODED, DECODED_OPEN, axis_of, chunks, derived, elaborated, written

REFUSED = {
    "bert_base": "the mask lets query 0 see key 1",
    "roberta_base": "the mask lets query 0 see key 1",
    "longformer_base": "the mask lets query 0 see key 1",
    "linformer": "the sum over `t`",
    "mixture_of_depths": "causal only by assumption",
    "expert_choice": "`attend` without a mask",
    "transformer_xl_enwik8": "the state `past`, which every call replaces",
}


def compare(chosen: Shrunk, first: int, size: int) -> None:
    program = chosen.program
    step = derived(program)
    verify(step)
    assert step.decoding is not None
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    params = interpreter.initial_params(program, 0, np.float64, under)
    total = int(chosen.under[step.decoding.rows])
    for name, inputs in input_sets(program, chosen.under, 0).items():
        whole = interpreter.run(program, params, inputs, under=under)
        plain = interpreter.run(step, params, inputs, under=under)
        assert plain.keys() == whole.keys()
        for output, value in plain.items():
            np.testing.assert_allclose(value, whole[output], atol=1e-10, rtol=1e-10, err_msg=f"{name}, without a cache")
        if name == "loss":
            continue
        held = interpreter.init_cache(step)
        parts = [
            interpreter.run(step, params, part, under=under, cache=held)
            for part in calls_of(step, inputs, chunks(total, first, size), repeats=False)
        ]
        assert held.position == total
        assert len(parts[0]) == len(step.decoding.outputs)
        for output in parts[0]:
            out = step.root.outputs[step.root.output_names.index(output) if step.root.output_names else 0]
            at = axis_of(out, step.decoding.rows)
            assert at is not None
            found = np.concatenate([p[output] for p in parts], axis=at)
            np.testing.assert_allclose(found, whole[output], atol=1e-10, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("name", DECODED + DECODED_OPEN)
def test_step_equals_forward(name: str) -> None:
    chosen = shrink(elaborated(name))
    first = 4 if name == "top_k_attention" else 1  # it looks for the four largest of at least four
    for size in (1, 3, 7):
        compare(chosen, min(first + size // 2, 5), size)


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_construct(name: str) -> None:
    found = derive_decoding(elaborated(name))
    assert isinstance(found, Refusal)
    assert REFUSED[name] in found.what
    assert found.span.source.text[found.span.start : found.span.end]


# ---------------------------------------------------------------- what is kept


def held(program: ir.Program) -> dict[str, tuple[int, str | None]]:
    """Elements of each entry by its path, with its window."""
    found = count_cache(derived(program)).entries
    return {e.path: (int(e.elements.value() or 0), None if e.window is None else str(e.window)) for e in found if e.kind != "once"}


def per_layer(program: ir.Program, path: str) -> int:
    return sum(n for entry, (n, _) in held(program).items() if entry.startswith(path))


def formula(program: ir.Program, path: str) -> str:
    entries = [e for e in count_cache(derived(program)).entries if e.path.rpartition(".")[0] == path]
    total = entries[0].elements
    for entry in entries[1:]:
        total = total + entry.elements
    return str(total)


def test_grouped_query_keeps_keys_and_values() -> None:
    assert formula(elaborated("gemma3_1b"), "decoder.layers[1].attention") == "2 * kv_heads * head_dim"
    assert per_layer(elaborated("llama3_8b"), "decoder.layers.attention") == 2 * 8 * 128
    assert count_cache(derived(elaborated("llama3_8b"))).bytes_per_token == 32 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(("name", "d_model"), [("gpt2", 768), ("llama2_7b", 4096)])
def test_keys_and_values_wider_than_the_input_are_kept(name: str, d_model: int) -> None:
    found = held(elaborated(name))
    assert {path.rpartition(".")[2]: n for path, (n, _) in found.items()} == {"k": d_model, "v": d_model}


def test_a_latent_is_found() -> None:
    for slot in (0, 1):
        assert formula(elaborated("deepseek_v3"), f"decoder.layers[{slot}].attention") == "rope_dim + kv_rank"
        assert per_layer(elaborated("deepseek_v3"), f"decoder.layers[{slot}]") == 512 + 64


def test_a_window_is_a_ring_of_its_length() -> None:
    found = held(elaborated("gemma3_1b"))
    assert {window for path, (_, window) in found.items() if path.startswith("decoder.layers[0]")} == {"window"}
    assert {window for path, (_, window) in found.items() if path.startswith("decoder.layers[1]")} == {None}
    counts = count_cache(derived(elaborated("gemma3_1b")))
    assert counts.bytes(5000) - counts.bytes(4000) == 4 * 2 * 256 * 1000 * 2  # of 26 layers, 4 look back without end


def test_state_space_is_constant() -> None:
    counts = count_cache(derived(elaborated("mamba2_130m")))
    assert counts.bytes_per_token == 0
    assert counts.bytes(1000) == counts.bytes(100_000) > 0


def test_the_memory_is_kept_once() -> None:
    counts = count_cache(derived(elaborated("t5_small")))
    assert {e.path for e in counts.entries if e.kind == "once"} == {"decoder.layers.cross.k", "decoder.layers.cross.v"}
    assert {e.path for e in counts.entries if e.kind == "grows"} == {"decoder.layers.attention.k", "decoder.layers.attention.v"}


LOW_RANK = """
component low_rank(heads, rank, head_dim)(x: [b, t, d]) -> [b, t, d]:
    query = linear([heads, head_dim])
    {down}
    key = linear([heads, head_dim])
    value = linear([heads, head_dim])
    out = linear(d, over = [heads, head_dim])
    c = {c}
    return out(attend(query(x), key(c), value(c), causal and padding, scale = head_dim ^ -0.5, over = t))

model narrow = causal_lm:
    vocab = 101
    d_model = 2048
    positions = slots
    decoder:
        layers = 2
        attention = low_rank(heads = 16, rank = 192, head_dim = 128)
        ffn = gated(hidden = 53)
"""


def test_the_choice_moves_with_the_bottleneck(tmp_path: Path) -> None:
    narrow = written(tmp_path, LOW_RANK.format(down="down = linear(rank)", c="down(x)"))
    assert {path.rpartition(".")[2]: n for path, (n, _) in held(narrow).items()} == {"c": 192}
    wide = written(tmp_path, LOW_RANK.format(down="", c="x").replace("rank, ", "").replace("rank = 192, ", ""))
    assert {path.rpartition(".")[2]: n for path, (n, _) in held(wide).items()} == {"k": 2048, "v": 2048}


SHARED_KEYS = """
component reader(heads, head_dim)(x: [b, t, d], k: [b, t, heads, head_dim], v: [b, t, heads, head_dim]) -> [b, t, d]:
    query = linear([heads, head_dim])
    out = linear(d, over = [heads, head_dim])
    return x + out(attend(query(x), k, v, causal and padding, scale = head_dim ^ -0.5, over = t))

component decoder_of_readers(layers, heads, head_dim)(x: [b, t, d]) -> [b, t, d]:
    key = linear([heads, head_dim])
    value = linear([heads, head_dim])
    layers = layers of reader(heads, head_dim)
    return layers(x, key(x), value(x))

model shared_keys_lm = causal_lm:
    vocab = 53
    d_model = 24
    positions = slots
    decoder = decoder_of_readers(layers = 3, heads = 3, head_dim = 7)
"""


def test_keys_that_layers_share_are_stored_once(tmp_path: Path) -> None:
    program = written(tmp_path, SHARED_KEYS)
    found = {e.path.rpartition(".")[2]: e.copies.value() for e in count_cache(derived(program)).entries}
    assert found == {"k": 1, "v": 1}
    compare(shrink(program), 1, 3)


HAND_WRITTEN = """
component by_hand(heads, head_dim)(x: [b, t, d]) -> [b, t, d]:
    query = linear([heads, head_dim])
    key = linear([heads, head_dim])
    value = linear([heads, head_dim])
    out = linear(d, over = [heads, head_dim])
    k = rename(key(x), t = s)
    v = rename(value(x), t = s)
    scores = einsum(query(x), k, over = head_dim)
    seen = rename(index(t), t = s) <= index(t)
    return out(einsum(softmax(where(seen, scores, -1e30), s), v, over = s))

model by_hand_lm(vocab = 53, d_model = 24)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    block = by_hand(heads = 3, head_dim = 7)
    head = linear(vocab)
    x = embed(input_ids)
    logits = head(x + block(x))
    loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)
    return logits
"""


def test_attention_written_by_hand(tmp_path: Path) -> None:
    compare(shrink(written(tmp_path, HAND_WRITTEN)), 1, 3)


SHARED_LAYER = """
model twice_lm(vocab = 53, d_model = 24)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    positions = expand(index(t), b)
    embed = embedding(vocab, d_model)
    shared block = pre_norm(grouped_query(heads = 4, kv_heads = 2, rotate = rope(), mask = causal), gated(hidden = 31), rms_norm)
    head = linear(vocab)
    logits = head(block(block(embed(input_ids))))
    loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)
    return logits
"""


def test_a_layer_applied_twice_has_two_caches(tmp_path: Path) -> None:
    compare(shrink(written(tmp_path, SHARED_LAYER)), 1, 3)


CARRIED = """
component average_step(h: [b, c], x: [b, c]) -> (h: [b, c], y: [b, c]):
    a = param([c], init = 0.5)
    h = a * h + (1 - a) * x
    return h, h

component weighted_step(num: [b, c], den: [b, c], top: [b, c], k: [b, c], v: [b, c]) -> (
        num: [b, c], den: [b, c], top: [b, c], y: [b, c]):
    "RWKV-4, arXiv:2305.13048"
    decay = param([c], init = 0.5)
    bonus = param([c], init = 0.3)
    m = maximum(top, bonus + k)
    y = (exp(top - m) * num + exp(bonus + k - m) * v) / (exp(top - m) * den + exp(bonus + k - m))
    w = top - exp(decay)
    n = maximum(w, k)
    return exp(w - n) * num + exp(k - n) * v, exp(w - n) * den + exp(k - n), n, y

component two_before_step(older: [b, c], old: [b, c], x: [b, c]) -> (older: [b, c], old: [b, c], y: [b, c], before: [b, c]):
    return old, x, x - 0.5 * older, old

component two_before(x: [b, t, d]) -> [b, t, d]:
    step = two_before_step()
    older, old, y, before = scan(step, ones([b, d]), zeros([b, d]), x, over = t)
    return y + 0.3 * before

component moving(x: [b, t, d]) -> [b, t, d]:
    average = average_step()
    weighted = weighted_step()
    key = linear(d)
    behind = two_before()
    h, y = scan(average, zeros([b, d]), x, over = t)
    n, q, m, z = scan(weighted, zeros([b, d]), zeros([b, d]), full([b, d], -1e38), key(x), y, over = t)
    return z + behind(x)

model carried_lm(vocab = 19, d_model = 12)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    layers = 2 of pre_norm(moving, plain(hidden = 17), rms_norm)
    head = linear(vocab)
    logits = head(layers(embed(input_ids)))
    loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)
    return logits
"""


PADDING = """
component averaged_step(h: [b, c], x: [b, c], kept: [b]) -> (h: [b, c], y: [b, c]):
    h = where(kept == 1, 0.5 * h + 0.5 * x, h)
    return h, h

component averaged(x: [b, t, d]) -> [b, t, d]:
    given attention_mask: [b, t]
    step = averaged_step()
    h, y = scan(step, zeros([b, d]), x, MASK, over = t)
    return y

component beside(look)(x: [b, t, d]) -> [b, t, d]:
    look = look
    move = averaged()
    return look(x) + move(x)

model padded_lm = causal_lm:
    vocab = 19
    d_model = 12
    positions = slots
    decoder:
        layers = 2
        attention = beside(grouped_query(heads = 3, mask = causal and padding))
        ffn = plain(hidden = 17)
"""


def test_what_padding_moves_is_told(tmp_path: Path) -> None:
    """A state that goes on at tokens that a mask leaves out, where other layers heed it."""
    heeds = written(tmp_path, PADDING.replace("MASK", "attention_mask"))
    assert find_moved_by_padding(derived(heeds)) is None
    text = PADDING.replace("MASK", "ones([b, t])").replace("    given attention_mask: [b, t]\n", "")
    moved = find_moved_by_padding(derived(written(tmp_path, text)))
    assert moved is not None
    assert (moved.what, moved.mask) == ("`scan`", "attention_mask")
    assert moved.span.source.text[moved.span.start : moved.span.end].startswith("scan(step")
    assert find_moved_by_padding(derived(written(tmp_path, text.replace("causal and padding", "causal")))) is None  # there is no mask
    for name in ("bamba_9b", "llama3_8b"):
        assert find_moved_by_padding(derived(elaborated(name))) is None
    shifted = find_moved_by_padding(derived(elaborated("conv_attention_lm")))
    assert shifted is not None and shifted.what == "the token before"


READ_BACK = """
score mixed(s: [b, h, t, j]) -> [b, h, t, j]:
    SCORE

component looking(heads)(x: [b, t, d]) -> [b, t, d]:
    q_proj = linear([heads, e: 4])
    gate = linear(heads)
    out = linear(d, over = [heads, e])
    q = q_proj(x)
    total = cumsum(-softplus(gate(x)), t)
    score fading(s, h, i, j) = s + total[t = i, heads = h] - total[t = j, heads = h]
    return out(attend(q, q, VALUES, causal and padding, CHOSEN))

model m = causal_lm:
    vocab = 11
    d_model = 8
    decoder:
        layers = 1
        attention = looking(heads = 2)
        ffn = plain(hidden = 8)
"""


@pytest.mark.parametrize(
    ("values", "chosen", "score", "what"),
    [
        ("q[t = maximum(index(t) - 1, 0)]", "none", "return s", "indexing"),
        ("q[t = 0 * index(t)]", "none", "return s", "indexing"),
        ("q", "mixed", "return s + s[j = 0]", "a score that mixes keys before they are hidden"),
        ("q", "mixed", "return pad(s[j = .. -1], j = [1, 0])", "a score that mixes keys before they are hidden"),
        ("q", "fading", "return s", None),  # what padding adds to the total is in both
        ("q", "none", "return s", None),
        ("q * (total - pad(total[t = .. -1], t = [1, 0]))", "none", "return s", "`cumsum`"),
    ],
)
def test_what_indices_and_scores_read_of_padding_is_told(values: str, chosen: str, score: str, what: str | None, tmp_path: Path) -> None:
    text = READ_BACK.replace("VALUES", values).replace("CHOSEN", chosen).replace("SCORE", score)
    text = (
        text
        if chosen == "fading" or "total" in values
        else "\n".join(line for line in text.split("\n") if "total" not in line and "gate" not in line)
    )
    text = text if chosen == "fading" else "\n".join(line for line in text.split("\n") if "score fading" not in line)
    text = text if chosen == "mixed" else text.partition("component")[1] + text.partition("component")[2]
    moved = find_moved_by_padding(derived(written(tmp_path, text)))
    assert (moved.what if moved else None) == what


def test_what_a_scan_carries_is_kept(tmp_path: Path) -> None:
    program = written(tmp_path, CARRIED)
    counts = count_cache(derived(program))
    assert counts.bytes_per_token == 0
    assert sum(e.total(1000) for e in counts.entries) == 2 * 6 * 12  # of two layers: an average, three sums, two tokens
    for first, size in ((1, 1), (4, 3), (2, 7)):
        compare(shrink(program), first, size)


SHORT_AND_LONG = """
component total_step(h: [b, c], x: [b, c]) -> (h: [b, c], y: [b, c]):
    h = 0.5 * h + x
    return h, h

component totals(far)(x: [b, t, d]) -> [b, t, d]:
    "What is before each token, in several words: axes that are longer or shorter than the tokens"
    step = total_step()
    long = pad(x, t = [2, 0])
    h, scanned = scan(step, zeros([b, d]), long, over = t)
    decayed = linear_recurrence(0.7 + 0 * long, long, over = t)
    summed = cumsum(0.1 * long, t)
    cut = 2 * x[t = .. -1]
    later = pad(cumsum(0.3 * cut, t) - tanh(cut), t = [1, 0])
    first = concat(ones([b, t: 1, d]), cut[t = .. -1], over = t)
    two = pad(cut[t = .. -1], t = [2, 0]) + pad(first, t = [1, 0])
    query = linear([heads: 2, e: 5])
    key = linear([heads: 2, e: 5])
    value = unflatten(x, d = [heads: 2, n: d / 2])
    looked = pad(flatten(attend(query(cut), key(x), value, causal, over = t), [heads, n], d), t = [1, 0])
    farther = cumsum(pad(cut[t = .. -far], t = [far + 1, 0]) + pad(x, t = [far, 0])[t = .. -far], t)
    return looked + later + two + farther + scanned[t = .. -2] + decayed[t = 1 .. -1] - summed[t = 2 ..]

model totals_lm(vocab = 19, d_model = 12)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab], tail: [b, n: t - 1, vocab]):
    embed = embedding(vocab, d_model)
    layers = 2 of pre_norm(totals(far = 3), plain(hidden = 17), rms_norm)
    head = linear(vocab)
    logits = head(layers(embed(input_ids)))
    cut = logits[t = .. -1]
    loss lm = cross_entropy(cut, labels[t = 1 ..], over = vocab)
    return logits + pad(cut, t = [1, 0]), rename(cut, t = n)
"""


def test_axes_longer_and_shorter_than_the_tokens(tmp_path: Path) -> None:
    for first, size in ((1, 1), (2, 3), (5, 7)):
        compare(shrink(written(tmp_path, SHORT_AND_LONG)), first, size)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("pad(x[t = 1 ..] - x[t = .. -1], t = [1, 0])", "`t` from 1 on, shorter than the tokens"),
        ("pad(sum(unfold(x, t, k: 3), k), t = [2, 0])", "windows along `t` without padding before it"),
    ],
)
def test_what_is_short_at_its_start_is_refused(words: str, what: str, tmp_path: Path) -> None:
    text = CARRIED.replace("    return z + behind(x)", f"    return z + behind(x) + {words}")
    found = derive_decoding(written(tmp_path, text))
    assert isinstance(found, Refusal)
    assert found.what == what


def test_a_mean_over_the_tokens_is_refused(tmp_path: Path) -> None:
    text = HAND_WRITTEN.replace("head(x + block(x))", "head(x + block(x) + 0 * mean(x, t))")
    found = derive_decoding(written(tmp_path, text))
    assert isinstance(found, Refusal)
    assert found.what == "`mean` over `t`"
    assert found.span.source.text[found.span.start : found.span.end] == "mean(x, t)"


# ---------------------------------------------------------------- what does not run with a cache

ASIDE = """
component noted(heads, head_dim)(x: [b, t, d]) -> [b, t, d]:
    "Attention whose scores, weights and means over the tokens are looked at from outside"
    query = linear([heads, head_dim])
    key = linear([heads, head_dim])
    value = linear([heads, head_dim])
    out = linear(d, over = [heads, head_dim])
    total = buffer([d], init = zeros)
    next total = 0.9 * total + 0.1 * mean(x, [b, t])
    k = rename(key(x), t = s)
    scores = einsum(query(x), k, over = head_dim)
    loss height = mean(scores ^ 2, [b, t, s, heads])
    loss drift = mean(mean(x, t) ^ 2, [b, d])
    seen = rename(index(t), t = s) <= index(t)
    w = softmax(where(seen, scores, -1e30), s)
    emit attention = w
    return x + total + out(einsum(w, rename(value(x), t = s), over = s))

model noted_lm(vocab = 53, d_model = 24)(
    input_ids: [b, t] int in vocab, weights: [b, t] int = 1, labels: [b, t] int = none
) -> (pooled: [b, d_model], logits: [b, t, vocab], attention: [l, b, t, h, s], ahead: [b, t, vocab]):
    let block = noted(heads = 3, head_dim = 7)
    embed = embedding(vocab, d_model)
    layers = 2 of block
    shared last = grouped_query(heads = 4, kv_heads = 2, mask = sliding(5))
    head = linear(vocab)
    x = layers(embed(input_ids))
    y = last(x)
    logits = head(y)
    pooled = mean(y * float(weights), t)
    ahead = head(last(flip(x, t)))
    loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)
    loss ahead = cross_entropy(ahead, labels, over = vocab)
    return pooled, logits, layers.attention, ahead
"""


def test_what_is_not_decoded_stays_without_a_cache(tmp_path: Path) -> None:
    program = written(tmp_path, ASIDE)
    step = derived(program)
    assert step.decoding is not None
    assert [step.root.output_names[k] for k in step.decoding.outputs] == ["logits"]
    assert [loss.name for loss in step.losses] == [loss.name for loss in program.losses]
    chosen = shrink(program)
    compare(chosen, 2, 3)
    compare(shrink(pipeline.run(program)), 1, 4)
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    params = interpreter.initial_params(chosen.program, 0, np.float64, under)
    inputs = input_sets(chosen.program, chosen.under, 0)["loss"]
    buffers: list[dict[str, Array]] = [{}, {}]
    found = [
        interpreter.run(p, params, inputs, under=under, training=True, buffers=b)
        for p, b in zip((chosen.program, pipeline.run(derived(chosen.program))), buffers, strict=True)
    ]
    assert {"loss", "loss.height", "loss.drift", "loss.lm", "loss.ahead"} <= found[1].keys() == found[0].keys()
    for a, b in (found, buffers):
        assert a.keys() == b.keys() and a
        for name in a:
            np.testing.assert_allclose(b[name], a[name], atol=1e-10, rtol=1e-10, err_msg=name)


# ---------------------------------------------------------------- attention on what is kept


def compare_absorbed(program: ir.Program, count: int) -> None:
    """The absorbed form of `count` attends gives what the plain one does, without a cache and with one."""
    chosen = shrink(program)
    step = derived(chosen.program)
    assert step.decoding is not None
    length = Length(step.decoding.rows, step.decoding.length)
    assert sum(len(find_absorbed(m, length)) for m in ir.walk(step.root)) == count
    other = absorb_maps(step)
    verify(other)
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    params = interpreter.initial_params(chosen.program, 0, np.float64, under)
    total = int(chosen.under[step.decoding.rows])
    for inputs in list(input_sets(chosen.program, chosen.under, 0).values())[:2]:
        want = interpreter.run(step, params, inputs, under=under)["logits"]
        np.testing.assert_allclose(interpreter.run(other, params, inputs, under=under)["logits"], want, atol=1e-10, rtol=1e-10)
        held = interpreter.init_cache(other)
        parts = calls_of(other, inputs, chunks(total, 3, 2), repeats=False)
        found = [interpreter.run(other, params, part, under=under, cache=held)["logits"] for part in parts]
        np.testing.assert_allclose(np.concatenate(found, axis=1), want, atol=1e-10, rtol=1e-10)


def test_latent_attention_is_absorbed() -> None:
    compare_absorbed(elaborated("deepseek_v3"), 2)


def test_low_rank_attention_is_absorbed(tmp_path: Path) -> None:
    compare_absorbed(written(tmp_path, LOW_RANK.format(down="down = linear(rank)", c="down(x)")), 1)


TWO_LATENTS = """
component two_latents(heads, rank, head_dim)(x: [b, t, d]) -> [b, t, d]:
    query = linear([heads, head_dim])
    down = linear(rank)
    other = linear(rank)
    key = linear([heads, head_dim])
    value = linear([heads, head_dim])
    out = linear(d, over = [heads, head_dim])
    return out(attend(query(x), key(down(x)), value(other(x)), causal and padding, scale = head_dim ^ -0.5, over = t))
"""
THREE_PARTS = """
score bent(cap)(s, h, i, j) = cap * tanh((s - float(i - j) / float(h + 3)) / cap)

component three_parts(heads, rank, head_dim)(x: [b, t, d]) -> [b, t, d]:
    query = linear([heads, e: 2 * head_dim + 3])
    down = linear(rank)
    other = linear(rank)
    tail = linear(e: 3)
    key = linear([heads, head_dim])
    further = linear([heads, head_dim])
    value = linear([heads, head_dim])
    out = linear(d, over = [heads, head_dim])
    c = down(x)
    k = concat(rename(key(c), head_dim = e), rename(further(other(x)), head_dim = e), expand(tail(x), heads), over = e)
    return out(attend(query(x), k, value(c), sliding(5) and padding, bent(3), scale = head_dim ^ -0.5, over = t))
"""
OWN_MATRIX = """
component own_matrix(heads, rank, head_dim)(x: [b, t, d]) -> [b, t, d]:
    query = linear([kv_heads: heads / 4, group: 4, head_dim])
    down = linear(rank)
    up = param([kv_heads: heads / 4, kv: 2 * head_dim, rank], init = normal(0.3))
    out = linear(d, over = [kv_heads, group, head_dim])
    k, v = split(einsum(down(x), up, over = rank), kv = [head_dim, head_dim])
    return out(attend(query(x), k, v, causal and padding, scale = head_dim ^ -0.5, over = t))
"""


@pytest.mark.parametrize(
    ("text", "kept"), [(TWO_LATENTS, 200), (THREE_PARTS, 203), (OWN_MATRIX, 100)], ids=["two latents", "three parts", "own matrix"]
)
def test_what_is_absorbed_is_found_by_structure(text: str, kept: int, tmp_path: Path) -> None:
    name = text.partition("component ")[2].partition("(")[0]
    model = LOW_RANK[LOW_RANK.index("model narrow") :].replace("low_rank(heads = 16, rank = 192,", f"{name}(heads = 16, rank = 100,")
    program = written(tmp_path, text + model)
    assert sum(n for _, (n, _) in held(program).items()) == kept
    compare_absorbed(program, 1)


def test_the_absorbed_form_is_for_few_queries() -> None:
    step = derived(elaborated("deepseek_v3"))
    assert step.decoding is not None
    length = Length(step.decoding.rows, step.decoding.length)
    found = [a for m in ir.walk(step.root) for a in find_absorbed(m, length).values()]
    assert [str(a.more) for a in found] == ["2 * kv_rank - nope_dim - v_dim"] * 2
    assert [(a.once.value(), a.more.value()) for a in found] == [(512 * 256, 768)] * 2  # cheaper for up to 170 queries


def test_keys_and_values_that_are_kept_are_not_absorbed() -> None:
    step = derived(elaborated("llama3_8b"))
    assert step.decoding is not None
    length = Length(step.decoding.rows, step.decoding.length)
    assert not any(find_absorbed(m, length) for m in ir.walk(step.root))


OWN_WEIGHTS = """
weights own(s: [b, h, t, j]) -> [b, h, t, j]:
    BODY

component weighted(heads)(x: [b, t, d]) -> [b, t, d]:
    q_proj = linear([heads, e: 4])
    out = linear(d, over = [heads, e])
    q = q_proj(x)
    return out(attend(q, q, q, causal, weights = own))

model m = causal_lm:
    vocab = 11
    d_model = 8
    decoder:
        layers = 1
        attention = weighted(heads = 2)
        ffn = plain(hidden = 8)
"""
EACH_KEY_ALONE = [
    "return softmax(s, j) + 0.1",
    "return cumsum(softmax(s, j), j) * (1 + index(j))",
    "w = exp(s - max(s, j))\n    return w / (1 + sum(w, j))",
    "z = flip(sort(s, j), j)\n    n = sum(1 + (index(j) + 1) * z > cumsum(z, j), j)\n    return relu(s - z[j = n - 1])",
    "sink = concat(s, zeros([b, h, t, j: 1]), over = j)\n    return softmax(sink, j)[j = .. -1]",
    "return flip(cumsum(flip(softmax(s, j), j), j), j)",
    "w = softmax(s, j)\n    return w / (1 + sum(w * cos(w), j))",
]
ALL_KEYS_TOGETHER = [
    "return flip(softmax(s, j), j)",
    "return roll(softmax(s, j), 1, j)",
    "return softmax(s, j) + mean(softmax(s, j), j)",
    "return softmax(s, j) / sum(exp(softmax(s, j)), j)",
    "return softmax(s, j) / sum(softmax(s, j) + 2, j)",
    "return pad(softmax(s, j)[j = 1 ..], j = [0, 1], value = 1)",
    "return pad(softmax(s, j)[j = .. -1], j = [1, 0])[j = 0 ..] + cumsum(flip(softmax(s, j) + 1, j), j)",
]


@pytest.mark.parametrize("body", EACH_KEY_ALONE)
def test_weights_that_leave_hidden_keys_out_are_decoded(body: str, tmp_path: Path) -> None:
    compare(shrink(written(tmp_path, OWN_WEIGHTS.replace("BODY", body))), 3, 1)


@pytest.mark.parametrize("body", ALL_KEYS_TOGETHER)
def test_weights_that_count_keys_are_refused(body: str, tmp_path: Path) -> None:
    found = derive_decoding(written(tmp_path, OWN_WEIGHTS.replace("BODY", body)))
    assert isinstance(found, Refusal) and found.what == "weights that change with the number of keys"
