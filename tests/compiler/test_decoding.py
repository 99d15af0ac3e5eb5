"""Step by step equals the whole sequence, for every model whose causality is proved, and what cannot be decoded says why."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from xfc.backends import interpreter
from xfc.backends.verify_inputs import Inputs, input_sets
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import Sym
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.verify_ir import verify

OPEN = Path(__file__).parents[1] / "open"
DECODED = (
    "bamba_9b", "bart_base", "bloom_560m", "deepseek_v3", "gemma2_2b", "gemma3_1b", "gpt2", "gpt3_small", "gpt_neox_20b", "gpt_oss_20b",
    "jamba_v0_1", "llama2_7b", "llama3_8b", "mamba2_130m", "mistral_7b", "mixtral_8x7b", "opus_mt_en_de", "qwen2_0_5b", "qwen3_0_6b",
    "qwen3_30b_a3b", "switch_base_8", "t5_small", "whisper_tiny",
)  # fmt: skip
DECODED_OPEN = (
    "contextual_positions", "differential", "documents", "gated_linear", "hyper_connections", "layer_scale", "multi_token", "performer",
    "retention", "sigmoid_sinks", "token_shift", "top_k_attention", "value_residual", "xpos",
)  # fmt: skip
REFUSED = {
    "bert_base": "the mask lets query 0 see key 1",
    "roberta_base": "the mask lets query 0 see key 1",
    "longformer_base": "the mask lets query 0 see key 1",
    "linformer": "the sum over `t`",
    "mixture_of_depths": "causal only by assumption",
    "expert_choice": "`attend` without a mask",
}


@cache
def elaborated(name: str) -> ir.Program:
    path = OPEN / f"{name}.xf"
    program = elaborate_file(str(path) if path.exists() else name, [], diagnostics := Diagnostics())
    assert program is not None and not diagnostics.failed, diagnostics.found
    return program


def source(tmp_path: Path, text: str) -> ir.Program:
    path = tmp_path / "model.xf"
    path.write_text(text)
    program = elaborate_file(str(path), [], diagnostics := Diagnostics())
    assert program is not None and not diagnostics.failed, diagnostics.found
    return program


def derived(program: ir.Program) -> ir.Program:
    found = derive_decoding(program)
    assert not isinstance(found, Refusal), found
    return found


def axis_of(value: ir.Value, rows: Sym) -> int | None:
    return next((k for k, a in enumerate(value.type.axes) if rows in a.size.symbols), None)


def calls(program: ir.Program, inputs: Inputs, lengths: list[int]) -> list[Inputs]:
    """The inputs of calls of some lengths: what does not run along the tokens in the first only."""
    assert program.decoding is not None
    found: list[Inputs] = []
    start = 0
    for length in lengths:
        part: Inputs = {}
        for item in program.inputs:
            at = axis_of(item.value, program.decoding.rows)
            if item.name in inputs and (at is not None or not found):
                array = inputs[item.name]
                part[item.name] = array if at is None else np.take(array, range(start, start + length), axis=at)
        found.append(part)
        start += length
    return found


def chunks(total: int, first: int, size: int) -> list[int]:
    """The lengths of calls: a prompt, then chunks, then what is left."""
    rest = total - first
    return [first, *[size] * (rest // size), *([rest % size] if rest % size else [])]


def compare(chosen: Shrunk, first: int, size: int) -> None:
    program = chosen.program
    step = derived(program)
    verify(step)
    assert step.decoding is not None
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    params = interpreter.initial_params(program, 0, np.float64, under)
    total = int(chosen.under[step.decoding.rows])
    for name, inputs in input_sets(program, chosen.under, 0).items():
        if name == "loss":
            continue
        whole = interpreter.run(program, params, inputs, under=under)
        plain = interpreter.run(step, params, inputs, under=under)
        held = interpreter.init_cache(step)
        parts = [interpreter.run(step, params, part, under=under, cache=held) for part in calls(step, inputs, chunks(total, first, size))]
        assert held.position == total
        for output, value in plain.items():
            out = step.root.outputs[step.root.output_names.index(output) if step.root.output_names else 0]
            at = axis_of(out, step.decoding.rows)
            assert at is not None
            np.testing.assert_allclose(value, whole[output], atol=1e-10, rtol=1e-10, err_msg=f"{name}, without a cache")
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
