"""Cached decoding in generated PyTorch: a call at a time equals all at once, for every model whose causality is proved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from xfc.backends import interpreter
from xfc.backends.torch import emit
from xfc.backends.verify_inputs import Inputs, input_sets
from xfc.backends.verify_modules import TorchModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.pipeline import run

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
Calls = list[dict[str, Tensor]]


@cache
def shrunk(name: str, *sets: str) -> Shrunk:
    path = OPEN / f"{name}.xf"
    program = elaborate_file(str(path) if path.exists() else name, list(sets), diagnostics := Diagnostics())
    assert program is not None and not diagnostics.failed, diagnostics.found
    return shrink(program)


@cache
def derived(name: str, *sets: str) -> ir.Program:
    found = derive_decoding(shrunk(name, *sets).program)
    assert not isinstance(found, Refusal), found
    return found


@cache
def source(name: str, *sets: str) -> str:
    return emit(run(derived(name, *sets)))


@contextmanager
def model_of(name: str, dtype: str, *sets: str) -> Iterator[tuple[torch.nn.Module, Shrunk, ModuleType]]:
    """The small model with weights of its own, in evaluation."""
    chosen = shrunk(name, *sets)
    program = chosen.program
    with loaded(source(name, *sets), f"decoded_{name}_{dtype}") as module, torch.no_grad():
        names = tuple(n or "output" for n in program.root.output_names)
        model = TorchModule.build(module, chosen.config(), dtype, names)
        under = {s: v for s, v in chosen.under.items() if s.value is not None}
        model.load(interpreter.initial_params(program, 0, dtype, under))
        yield model.model, chosen, module


def axis_of(value: ir.Value, rows: ir.Sym) -> int | None:
    return next((k for k, a in enumerate(value.type.axes) if rows in a.size.symbols), None)


def calls(program: ir.Program, inputs: Inputs, lengths: list[int]) -> Calls:
    """The inputs of calls of some lengths: what does not run along the tokens in the first only."""
    assert program.decoding is not None
    found: Calls = []
    start = 0
    for length in lengths:
        part: dict[str, Tensor] = {}
        for item in program.inputs:
            at = axis_of(item.value, program.decoding.rows)
            if item.name in inputs and not item.training and (at is not None or not found):
                array = torch.as_tensor(inputs[item.name])
                part[item.name] = array if at is None else array.narrow(at, start, length)
        found.append(part)
        start += length
    return found


def chunks(total: int, first: int, size: int) -> list[int]:
    """The lengths of calls: a prompt, then chunks, then what is left."""
    rest = total - first
    return [first, *[size] * (rest // size), *([rest % size] if rest % size else [])]


def logits_of(result: object) -> Tensor:
    found = getattr(result, "logits", result if isinstance(result, Tensor) else None)
    return found if found is not None else result[0]  # type: ignore[index]


def decoded(model: torch.nn.Module, parts: Calls, axis: int, batch: int, length: int) -> Tensor:
    held = model.init_cache(batch, length)
    found = torch.cat([logits_of(model(**part, cache=held)) for part in parts], axis)
    assert int(held.position) == length
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", DECODED + DECODED_OPEN)
def test_step_equals_forward(name: str, dtype: str) -> None:
    with model_of(name, dtype) as (model, chosen, _):
        step = derived(name)
        assert step.decoding is not None
        rows = step.decoding.rows
        total = int(chosen.under[rows])
        first = 4 if name == "top_k_attention" else 1  # it looks for the four largest of at least four
        tolerance = 1e-10 if dtype == "float64" else 1e-5
        for case, inputs in input_sets(chosen.program, chosen.under, 0).items():
            if case == "loss":
                continue
            inputs = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in inputs.items()}
            (whole,) = calls(step, inputs, [total])
            want = logits_of(model(**whole))
            out = step.root.outputs[step.root.output_names.index("logits") if "logits" in step.root.output_names else 0]
            axis = axis_of(out, rows)
            assert axis is not None
            for size in (1, 3, 7):
                for prompt in {first, min(first + size // 2, 5), total - 2}:
                    parts = calls(step, inputs, chunks(total, prompt, size))
                    batch = next(iter(parts[0].values())).shape[0]
                    got = decoded(model, parts, axis, batch, total)
                    worst = float((got - want).abs().max() / (1 + want.abs().max()))
                    assert worst < tolerance, f"{case}: a prompt of {prompt}, then {size} at a time: {worst}"
