"""What is compared: published architectures at sizes that a benchmark can run, as configs of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

SIZES = {
    "tiny": {"vocab": 256, "width": 64, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 128, "mixers": 2},
    "narrow": {"vocab": 8192, "width": 256, "layers": 4, "heads": 4, "kv_heads": 2, "hidden": 512, "mixers": 8},
    "small": {"vocab": 8192, "width": 384, "layers": 8, "heads": 6, "kv_heads": 2, "hidden": 1024, "mixers": 12},
    "large": {"vocab": 128256, "width": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "hidden": 8192, "mixers": 64},
}
WIDTHS = {
    "vocab_size": "vocab",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "hidden",
}


@dataclass(frozen=True)
class Family:
    """`config`: a class of transformers; `more`: its arguments beside those that `keys` takes from the size. `causal`: has logits of next tokens."""

    config: str
    model: str
    more: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=lambda: {**WIDTHS, "num_key_value_heads": "kv_heads"})
    causal: bool = True
    padded: bool = False
    kernels: bool = True
    """Hugging Face has kernels for its attention; where it has none, all its sides are eager."""
    both: bool = False
    """An encoder and a decoder."""


GPT2 = {"vocab_size": "vocab", "n_embd": "width", "n_layer": "layers", "n_head": "heads"}
T5 = {"vocab_size": "vocab", "d_model": "width", "num_layers": "layers", "num_heads": "heads", "d_ff": "hidden"}
COMMON = {"max_position_embeddings": 4096, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
LATENT = {
    **COMMON,
    "max_position_embeddings": 163840,
    "q_lora_rank": 192,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 256,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
}
QUIET = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

FAMILIES = {
    "llama": Family("LlamaConfig", "LlamaForCausalLM", COMMON),
    "gpt2": Family("GPT2Config", "GPT2LMHeadModel", {"n_positions": 4096, "bos_token_id": 0, "eos_token_id": 0, **QUIET}, GPT2),
    "mixtral": Family(
        "MixtralConfig", "MixtralForCausalLM", {**COMMON, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None}
    ),
    "qwen3_moe": Family(
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {**COMMON, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "head_dim": 64, "norm_topk_prob": True},
    ),
    "gemma3": Family(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**COMMON, "tie_word_embeddings": True, "sliding_window": 256, "head_dim": 64, "query_pre_attn_scalar": 64},
    ),
    "gemma2": Family(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**COMMON, "sliding_window": 256, "head_dim": 64, "query_pre_attn_scalar": 64, "tie_word_embeddings": True},
        kernels=False,
    ),
    "gpt_oss": Family(
        "GptOssConfig",
        "GptOssForCausalLM",
        {**COMMON, "sliding_window": 256, "head_dim": 64, "num_local_experts": 8, "num_experts_per_tok": 2},
        kernels=False,
    ),
    "mamba2": Family(
        "Mamba2Config",
        "Mamba2ForCausalLM",
        {"head_dim": 64, "state_size": 64, "n_groups": 1, "expand": 2, "chunk_size": 64, "tie_word_embeddings": True},
        {"vocab_size": "vocab", "hidden_size": "width", "num_hidden_layers": "layers", "num_heads": "mixers"},
        kernels=False,
    ),
    "deepseek_v3": Family(
        "DeepseekV3Config",
        "DeepseekV3ForCausalLM",
        LATENT,
        {**WIDTHS, "num_attention_heads": "mixers", "num_key_value_heads": "mixers"},
    ),
    "t5": Family("T5Config", "T5ForConditionalGeneration", {"d_kv": 64, "dropout_rate": 0.0}, T5, both=True),
    "bert": Family(
        "BertConfig",
        "BertForMaskedLM",
        {"max_position_embeddings": 4096, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        WIDTHS,
        causal=False,
        padded=True,
    ),
}


def hugging_face_config(name: str, size: str) -> Any:
    """The config object of a family at a size."""
    import transformers

    family = FAMILIES[name]
    arguments = {key: SIZES[size][own] for key, own in family.keys.items()} | dict(family.more)
    config = getattr(transformers, family.config)(**arguments)
    config.architectures = [family.model]
    return config


def hugging_face_model(name: str, size: str, attention: str) -> torch.nn.Module:
    """A model with weights that depend on the seed alone."""
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, FAMILIES[name].model)
    model: torch.nn.Module = kind._from_config(
        hugging_face_config(name, size), attn_implementation=attention if FAMILIES[name].kernels else "eager"
    )
    return model


def inputs(name: str, size: str, batch: int, tokens: int) -> dict[str, Tensor]:
    """Token ids; for a padded family a mask with rows of several lengths."""
    generator = torch.Generator().manual_seed(1)
    names = ("input_ids", "decoder_input_ids") if FAMILIES[name].both else ("input_ids",)
    found = {own: torch.randint(1, SIZES[size]["vocab"], (batch, tokens), generator=generator) for own in names}
    if FAMILIES[name].padded:
        lengths = torch.linspace(tokens / 4, tokens, batch).long()
        found["attention_mask"] = (torch.arange(tokens) < lengths[:, None]).long()
    return found
