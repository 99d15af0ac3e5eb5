"""What tests of decoding share: models, and a sequence cut into calls."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import Sym
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding

OPEN = Path(__file__).parent / "open"
DECODED = (
    "bamba_9b", "bart_base", "bloom_560m", "cla2_decoder", "dalle_12b", "deepseek_v3", "gemma2_2b", "gemma3_1b", "gpt2", "gpt3_small",
    "gpt_neox_20b", "gpt_oss_20b", "gru_lm", "jamba_v0_1", "llama2_7b", "llama3_8b", "lstm_lm", "mamba2_130m", "mistral_7b", "mixtral_8x7b",
    "opus_mt_en_de", "qwen2_0_5b", "qwen3_0_6b", "qwen3_30b_a3b", "rnn_search", "sparsely_gated_lm", "switch_base_8", "t5_small",
    "whisper_tiny", "yoco_3b",
)  # fmt: skip
DECODED_OPEN = (
    "attention_free", "contextual_positions", "differential", "documents", "gated_linear", "gated_recurrence", "hyper_connections", "layer_scale", "multi_token", "performer",
    "retention", "sigmoid_sinks", "sparsemax", "token_shift", "top_k_attention", "value_residual", "xpos",
)  # fmt: skip
"""Specs of a user's own, in tests/open."""


@cache
def elaborated(name: str) -> ir.Program:
    """A shipped model, one of tests/open, or that of a file."""
    path = OPEN / f"{name}.xf"
    program = elaborate_file(str(path) if path.exists() else name, [], diagnostics := Diagnostics())
    assert program is not None and not diagnostics.failed, diagnostics.found
    return program


def written(folder: Path, text: str) -> ir.Program:
    """The model of a spec."""
    path = folder / "model.xf"
    path.write_text(text)
    elaborated.cache_clear()
    return elaborated(str(path))


def derived(program: ir.Program) -> ir.Program:
    found = derive_decoding(program)
    assert not isinstance(found, Refusal), found
    return found


def axis_of(value: ir.Value, rows: Sym) -> int | None:
    """The place of a value's axis of tokens."""
    return next((k for k, a in enumerate(value.type.axes) if rows in a.size.symbols), None)


def chunks(total: int, first: int, size: int) -> list[int]:
    """The lengths of calls: a prompt, then chunks, then what is left."""
    rest = total - first
    return [first, *[size] * (rest // size), *([rest % size] if rest % size else [])]
