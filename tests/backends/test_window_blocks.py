"""Attention in a window by blocks, by a kernel or written out: what the interpreter says, with the gradients of one dense mask, at any length, padded and from a cache."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.ir import Program

DECODER = """
model small = causal_lm:
    vocab = 17
    d_model = 8
    decoder:
        let attention = grouped_query(heads = 4, kv_heads = 2, rotate = rope)
        let local = pre_norm(attention(mask = sliding(5) and padding), gated(hidden = 6), rms_norm)
        let whole = pre_norm(attention, gated(hidden = 6), rms_norm)
        layers = 3
        blocks = layers of [local * 2, whole]
"""

ENCODER = """
mask {mask}

component sums(x: [b, t, d]) -> [b, t, d]:
    heads = linear([heads: 2, e: 4])
    y = heads(x)
    back = linear(d, over = [heads, e])
    return x + back(attend(y, y, y, near(3) and padding, scale = 0.5, over = t))

model small(d = 8)(input_ids: [b, t] int in 17, attention_mask: [b, t] int = 1) -> (y):
    embed = embedding(17, d)
    layers = 2 of sums
    return layers(embed(input_ids))
"""
PARTS = """
component sums(x: [b, t, d], part: [b, t]) -> [b, t, d]:
    heads = linear([heads: 2, e: 4])
    y = heads(x)
    mask alike(i, j) = part[t = i] == part[t = j]
    back = linear(d, over = [heads, e])
    return x + back(attend(y, y, y, sliding(9) and alike, scale = 0.5, over = t))

model small(d = 8)(input_ids: [b, t] int in 17, part: [b, t] int) -> (y):
    embed = embedding(17, d)
    layers = 2 of sums
    return layers(embed(input_ids), part)
"""
CAPPED = DECODER.replace("rotate = rope)", "rotate = rope, score = soft_cap(cap = 2.0))")
SINKS = DECODER.replace("rotate = rope)", "rotate = rope, weights = softmax_sinks)")
MIXED = """
weights mixed(s: [b, h, t, j]) -> [b, h, t, j]:
    mix = param([out: h, h], init = normal(0.5))
    return rename(einsum(sigmoid(s - 1), mix, over = h), out = h)

component heads_mixed(x: [b, t, d]) -> [b, t, d]:
    heads = linear([heads: 2, e: 4])
    y = heads(x)
    mask near(i, j) = abs(i - j) <= 5
    back = linear(d, over = [heads, e])
    return x + back(attend(y, y, y, near and padding, soft_cap(3.0), 0.5, mixed, over = t))

model small(d = 8)(input_ids: [b, t] int in 17, attention_mask: [b, t] int = 1) -> (y):
    embed = embedding(17, d)
    layers = 2 of heads_mixed
    return layers(embed(input_ids))
"""
ALIBI = DECODER.replace("rotate = rope)", "score = alibi(heads = 4))")
OWN_TABLES = DECODER.replace(
    "rotate = rope)", "score = bucketed_bias(heads = 4, max_distance = 9, buckets = 8, bidirectional = false, gain = 0.5))"
)
SHARED_TABLE = """
mask near(width)(i, j) = abs(i - j) <= width

component layer(distance)(x: [b, t, d]) -> [b, t, d]:
    inner = grouped_query(heads = 4, kv_heads = 2, mask = {mask} and padding, score = distance)
    return x + inner(x)

component stacked(distance)(x: [b, t, d]) -> [b, t, d]:
    shared distance = distance
    layers = 2 of layer(distance)
    return layers(x)

model small(d = 8)(input_ids: [b, t] int in 17, attention_mask: [b, t] int = 1) -> (y):
    embed = embedding(17, d)
    layers = stacked(bucketed_bias(heads = 4, max_distance = 9, buckets = 8, bidirectional = {both}))
    return layers(embed(input_ids))
"""
LATER_TABLE = SHARED_TABLE.format(mask="sliding(5)", both="false")
CENTRED_TABLE = SHARED_TABLE.format(mask="near(4)", both="true")
SLOPES = """
score slopes(heads)(s, h, i, j):
    given positions: [b, t]
    slope = param([heads], init = normal(0.3))
    return 2.0 * tanh((s + slope[heads = h] * (positions[t = i] - positions[t = j])) / 2.0)
"""
LEARNED = SLOPES + DECODER.replace("rotate = rope)", "score = slopes(heads = 4))")
BIASED_SINKS = DECODER.replace("rotate = rope)", "score = alibi(heads = 4), weights = softmax_sinks)")
BOTH_SIDES = "near(width)(i, j) = abs(i - j) <= width"
IN_BLOCKS = "near(width)(i, j) = i // width == j // width"
SCALED = """
component scaled(mask = causal and padding, score = none)(x: [b, t, d]) -> [b, t, d]:
    q_proj = linear([kv: 2, group: 2, e: 2])
    k_proj = linear([kv, e])
    v_proj = linear([kv, e])
    o_proj = linear(d, over = [kv, group, e])
    gain = param([kv, group], init = normal(0.5))
    return o_proj(attend(q_proj(x), k_proj(x), v_proj(x), mask, score, exp(gain), over = t))
""" + DECODER.replace("grouped_query(heads = 4, kv_heads = 2, rotate = rope)", "scaled{score}")
BIASED = {
    "scaled": SCALED.format(score=""),
    "scaled_alibi": SCALED.format(score="(score = alibi(heads = 4))"),
    "scaled_caps": SCALED.format(score="(score = soft_cap(3.0))"),
    "alibi": ALIBI,
    "own_tables": OWN_TABLES,
    "later_table": LATER_TABLE,
    "centred_table": CENTRED_TABLE,
    "learned": LEARNED,
    "biased_sinks": BIASED_SINKS,
}
DECODED = {name: text for name, text in BIASED.items() if name != "centred_table"}
LENGTHS = (1, 140, 200)


def program_of(text: str, folder: Path) -> Program:
    (folder / "spec.xf").write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    return program


def inputs_of(length: int, padded: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(length)
    ids = torch.randint(0, 17, (2, length))
    if not padded:
        return {"input_ids": ids}
    keep = torch.ones(2, length, dtype=torch.long)
    keep[0, : length // 3] = 0
    return {"input_ids": ids, "attention_mask": keep}


def dense(module: ModuleType, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """With one block of all queries, whatever the length."""
    by_blocks = module.window_blocks
    module.__dict__["window_blocks"] = lambda slots, *_: (slots[None], slots[None])
    try:
        y: torch.Tensor = model(**inputs)
        return y
    finally:
        module.__dict__["window_blocks"] = by_blocks


@pytest.mark.parametrize(
    "text",
    [DECODER, ENCODER.format(mask=BOTH_SIDES), ENCODER.format(mask=IN_BLOCKS), PARTS, CAPPED, SINKS, MIXED, *BIASED.values()],
    ids=["decoder", "both_sides", "in_blocks", "parts", "capped", "sinks", "mixed", *BIASED],
)
def test_blocks_mean_what_the_interpreter_says(text: str, tmp_path: Path) -> None:
    program = program_of(text, tmp_path)
    code, _ = emit_with_cache(program, torch_backend.emit)
    assert "window_blocks(" in code
    params = interpreter.initial_params(program, 0, "float64", {})
    with loaded(code, "windows") as module:
        model = module.Model().double()
        state = {n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()}
        model.load_state_dict(state)
        for length in LENGTHS:
            for padded in (False, True):
                inputs = inputs_of(length, padded)
                if text is PARTS:
                    inputs.pop("attention_mask", None)
                    inputs["part"] = torch.arange(length)[None].expand(2, -1) // 7
                found, wanted = model(**inputs), dense(module, model, inputs)
                torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
                if length == 140:
                    said = interpreter.run(program, params, {n: x.numpy() for n, x in inputs.items()}, dtype="float64", under={})
                    assert np.allclose(found.detach().numpy(), next(iter(said.values())), rtol=1e-8, atol=1e-10)
                if length != 140:
                    continue
                one, other = (torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (found, wanted))
                for a, b in zip(one, other, strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("text", [DECODER, CAPPED, SINKS, *DECODED.values()], ids=["decoder", "capped", "sinks", *DECODED])
def test_a_prompt_of_several_blocks_fills_the_rings(text: str, tmp_path: Path) -> None:
    code, _ = emit_with_cache(program_of(text, tmp_path), torch_backend.emit)
    with loaded(code, "rings") as module, torch.no_grad():
        model = module.Model().double()
        ids = inputs_of(160, False)["input_ids"]
        whole = model(ids)
        for parts in ((150, 1, 9), (3, 140, 17)):
            cache, found = model.init_cache(2, 160), []
            for part in ids.split(list(parts), 1):
                found.append(model(part, cache=cache))
            torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-9, atol=1e-11)


def test_no_slot_is_read_that_is_not_there(tmp_path: Path) -> None:
    """The last block of 140 tokens has room for 192: a table of 140 distances has all that any pair of tokens asks for."""
    score = "score far(heads)(s, h, i, j):\n    table = param([places: 140, heads], init = normal(0.5))\n    return s + table[places = abs(i - j), heads = h]\n"
    code, _ = emit_with_cache(program_of(score + ALIBI.replace("alibi", "far"), tmp_path), torch_backend.emit)
    with loaded(code, "tables") as module, torch.no_grad():
        model, inputs = module.Model().double(), inputs_of(140, True)
        torch.testing.assert_close(model(**inputs), dense(module, model, inputs), rtol=1e-9, atol=1e-11)


def test_keys_of_a_biased_window_lie_in_a_ring_unless_a_kernel_takes_functions_of_indices(tmp_path: Path) -> None:
    program = program_of(OWN_TABLES, tmp_path)
    code, flex = (emit_with_cache(program, partial(torch_backend.emit, flex=on))[0] for on in (False, True))
    assert "k=Ring(" in code and "class Ring(" not in flex and "window_blocks" not in flex
    with loaded(code, "ring") as one, loaded(flex, "rows") as other, torch.no_grad():
        models = [module.Model().double() for module in (one, other)]
        models[1].load_state_dict(models[0].state_dict())
        inputs = inputs_of(140, True)
        torch.testing.assert_close(models[0](**inputs), models[1](**inputs), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("text", [CAPPED, SINKS, OWN_TABLES, BIASED_SINKS], ids=["capped", "sinks", "own_tables", "biased_sinks"])
def test_scores_of_blocks_are_in_float32(text: str, tmp_path: Path) -> None:
    code, _ = emit_with_cache(program_of(text, tmp_path), torch_backend.emit)
    with loaded(code, "half") as module:
        model, inputs = module.Model().bfloat16(), inputs_of(200, True)
        found, wanted = model(**inputs), dense(module, model, inputs)
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=1e-3)
        one, other = (torch.autograd.grad(y.float().square().sum(), list(model.parameters())) for y in (found, wanted))
        assert all((a - b).norm() <= 0.02 * b.norm() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("text", [DECODER, SINKS, ALIBI, OWN_TABLES], ids=["decoder", "sinks", "alibi", "own_tables"])
def test_compiled_for_any_length(text: str, tmp_path: Path) -> None:
    code, _ = emit_with_cache(program_of(text.replace("layers = 3", "layers = 1"), tmp_path), torch_backend.emit)
    with loaded(code, "compiled_windows") as module, torch.no_grad():
        model = module.Model().double()
        graphs: list[str] = []

        def backend(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
            graphs.append(graph.code)
            return graph

        compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
        for length in (150, 201):
            inputs = inputs_of(length, False)
            torch.testing.assert_close(compiled(**inputs), model(**inputs), rtol=1e-9, atol=1e-11)
        assert len(graphs) == 1 and "unfold" in graphs[0]


@pytest.mark.parametrize("text", [DECODER, CAPPED, LATER_TABLE], ids=["decoder", "capped", "later_table"])
def test_exported_for_any_length(text: str, tmp_path: Path) -> None:
    code, _ = emit_with_cache(program_of(text, tmp_path), torch_backend.emit)
    with loaded(code, "exported_windows") as module, torch.no_grad():
        model = module.Model().double()
        shapes = {"input_ids": {1: torch.export.Dim("t", max=4096)}}
        exported = torch.export.export(model, (), inputs_of(160, False), dynamic_shapes=shapes, strict=False).module()
        for length in (9, 160, 201):
            inputs = inputs_of(length, False)
            torch.testing.assert_close(exported(**inputs), model(**inputs), rtol=1e-9, atol=1e-11)


def test_no_blocks_where_a_mask_is_open_or_scores_count(tmp_path: Path) -> None:
    opened = DECODER.replace("sliding(5) and padding", "causal and padding")
    summed = "\nscore summed(s: [b, kv, g, t, j], h, i, j):\n    return s + cumsum(float(i - j), over = j)\n"
    scored = summed + ALIBI.replace("alibi(heads = 4)", "summed")
    along_keys = (MIXED.replace("soft_cap(3.0)", "beside"), MIXED.replace("sigmoid(s - 1)", "(s - mean(s, j))"))
    beside = "score beside(s: [b, h, t, j]) -> [b, h, t, j]:\n    return s - max(s, j)\n"
    for text in (opened, scored, *(beside + text for text in along_keys)):
        assert "window_blocks" not in emit_with_cache(program_of(text, tmp_path), torch_backend.emit)[0]
