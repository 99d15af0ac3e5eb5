"""Small random models of Hugging Face's classes, as published checkpoints: config, weights and inputs.

Sizes avoid coincidences (lengths and widths unlike each other, fewer key-value heads than heads), and every tensor is drawn away from 0 and 1, so
that a missing weight, bias or setting shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers as hf


@dataclass(frozen=True)
class Family:
    model: str
    config: str
    settings: dict[str, object]
    inputs: tuple[str, ...] = ("plain",)
    extra: dict[str, object] = field(default_factory=dict)


TEXT = {"vocab_size": 89, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = TEXT | {
    "hidden_size": 30, "intermediate_size": 53, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10,
    "max_position_embeddings": 64,
}  # fmt: skip
BERT = TEXT | {
    "hidden_size": 30,
    "intermediate_size": 53,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "max_position_embeddings": 64,
    "type_vocab_size": 3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "beta_fast": 4.0, "beta_slow": 0.25, "mscale": 0.7, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
T5 = {
    "vocab_size": 89, "d_model": 30, "d_kv": 7, "d_ff": 53, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4,
    "relative_attention_num_buckets": 12, "relative_attention_max_distance": 20,
}  # fmt: skip
SEQ2SEQ = {
    "vocab_size": 89, "d_model": 30, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 5, "decoder_attention_heads": 3,
    "encoder_ffn_dim": 53, "decoder_ffn_dim": 41, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip
CLIP_TEXT = {
    "vocab_size": 89, "hidden_size": 28, "intermediate_size": 53, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 23,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 88,
}  # fmt: skip
CLIP_IMAGE = {
    "hidden_size": 30,
    "intermediate_size": 41,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "image_size": 18,
    "patch_size": 6,
}
SPEECH = {
    "vocab_size": 29, "hidden_size": 30, "intermediate_size": 53, "num_hidden_layers": 2, "num_attention_heads": 5, "conv_dim": [11, 13], "conv_kernel": [7, 3],
    "conv_stride": [4, 2], "num_feat_extract_layers": 2, "conv_depthwise_kernel_size": 5, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 5,
}  # fmt: skip

FAMILIES = {
    "gpt2": Family("GPT2LMHeadModel", "GPT2Config", TEXT | {"n_embd": 35, "n_layer": 3, "n_head": 5, "n_positions": 40, "n_inner": 53}, ("plain", "padded")),
    "llama": Family("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": False}, ("plain", "padded", "positions")),
    "llama_biased": Family("LlamaForCausalLM", "LlamaConfig", GROUPED | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "mistral": Family("MistralForCausalLM", "MistralConfig", GROUPED | {"sliding_window": 5}, ("plain", "padded")),
    "qwen2": Family("Qwen2ForCausalLM", "Qwen2Config", {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "hidden_size": 36}),
    "qwen3": Family("Qwen3ForCausalLM", "Qwen3Config", GROUPED),
    "gemma2": Family("Gemma2ForCausalLM", "Gemma2Config", GROUPED | {"sliding_window": 5, "query_pre_attn_scalar": 17, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0, "num_hidden_layers": 4}, ("plain", "padded")),
    "gemma3": Family("Gemma3ForCausalLM", "Gemma3TextConfig", GROUPED | {"sliding_window": 5, "query_pre_attn_scalar": 17, "num_hidden_layers": 8}),
    "gpt_neox": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT | {"hidden_size": 48, "intermediate_size": 53, "num_hidden_layers": 3, "num_attention_heads": 4, "rotary_pct": 0.5, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    "bloom": Family("BloomForCausalLM", "BloomConfig", TEXT | {"hidden_size": 42, "n_layer": 3, "n_head": 6}, ("plain", "padded")),
    "mixtral": Family("MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", "Qwen3MoeConfig", GROUPED | {"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 19, "mlp_only_layers": [1], "norm_topk_prob": True}),
    "bert": Family("BertForMaskedLM", "BertConfig", BERT, ("types", "padded")),
    "bert_classifier": Family("BertForSequenceClassification", "BertConfig", BERT | {"num_labels": 4}, ("types", "padded")),
    "roberta": Family("RobertaForMaskedLM", "RobertaConfig", BERT | {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0}, ("plain", "padded")),
    "vit": Family("ViTForImageClassification", "ViTConfig", {"hidden_size": 30, "intermediate_size": 53, "num_hidden_layers": 3, "num_attention_heads": 5, "image_size": 18, "patch_size": 6, "num_labels": 7}, ("image",)),
    "t5": Family("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "relu", "tie_word_embeddings": True}, ("pair", "padded_pair")),
    "t5_v1_1": Family("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, ("pair", "padded_pair")),
    "marian": Family("MarianMTModel", "MarianConfig", SEQ2SEQ | {"activation_function": "relu", "scale_embedding": True}, ("pair", "padded_pair")),
    "bart": Family("BartForConditionalGeneration", "BartConfig", SEQ2SEQ, ("pair", "padded_pair")),
    "whisper": Family("WhisperForConditionalGeneration", "WhisperConfig", SEQ2SEQ | {"num_mel_bins": 11, "max_source_positions": 20, "max_target_positions": 24}, ("speech",)),
    "switch_transformers": Family("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", T5 | {"num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 5, "expert_capacity": 3, "router_z_loss_coef": 0.03, "router_aux_loss_coef": 0.07}, ("pair", "padded_pair"), {"output_router_logits": True}),
    "clip": Family("CLIPModel", "CLIPConfig", {"projection_dim": 19, "text_config": CLIP_TEXT, "vision_config": CLIP_IMAGE}, ("image_text",), {"return_loss": True}),
    "swin": Family("SwinForImageClassification", "SwinConfig", {"embed_dim": 18, "image_size": 18, "patch_size": 3, "window_size": 3, "depths": [3, 2], "num_heads": [2, 3], "num_labels": 7, "qkv_bias": True}, ("image",)),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", "DeepseekV3Config", TEXT | {"hidden_size": 30, "intermediate_size": 53, "moe_intermediate_size": 19, "num_hidden_layers": 3, "num_attention_heads": 5, "num_key_value_heads": 5, "n_shared_experts": 2, "n_routed_experts": 12, "routed_scaling_factor": 2.5, "kv_lora_rank": 11, "q_lora_rank": 17, "qk_rope_head_dim": 8, "v_head_dim": 7, "qk_nope_head_dim": 9, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3, "first_k_dense_replace": 1, "norm_topk_prob": True, "max_position_embeddings": 64, "rope_parameters": YARN, "rope_interleave": True}),
    "mamba2": Family("Mamba2ForCausalLM", "Mamba2Config", TEXT | {"hidden_size": 28, "num_heads": 8, "head_dim": 7, "state_size": 11, "num_hidden_layers": 3, "n_groups": 2, "conv_kernel": 4, "expand": 2, "chunk_size": 8, "tie_word_embeddings": False}),
    "gpt_oss": Family("GptOssForCausalLM", "GptOssConfig", GROUPED | {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "rope_parameters": {"rope_type": "yarn", "rope_theta": 150.0, "factor": 4.0, "beta_fast": 4.0, "beta_slow": 0.25, "truncate": False, "original_max_position_embeddings": 32}}, ("plain", "padded")),
    "jamba": Family("JambaForCausalLM", "JambaConfig", {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 5, "mamba_d_state": 7, "mamba_dt_rank": 3, "use_mamba_kernels": False}, ("plain", "padded")),
    "bamba": Family("BambaForCausalLM", "BambaConfig", {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"hidden_size": 48, "attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 12, "mamba_d_state": 7, "mamba_n_groups": 2, "mamba_chunk_size": 8}, ("plain", "padded")),
    "longformer": Family("LongformerForMaskedLM", "LongformerConfig", BERT | {"pad_token_id": 1, "bos_token_id": 0, "sep_token_id": 2, "attention_window": [4, 6, 4]}, ("global", "padded_global")),
    "wav2vec2_conformer": Family("Wav2Vec2ConformerForCTC", "Wav2Vec2ConformerConfig", SPEECH | {"position_embeddings_type": "relative", "feat_extract_norm": "group"}, ("wave",)),
    "wav2vec2_conformer_rope": Family("Wav2Vec2ConformerForCTC", "Wav2Vec2ConformerConfig", SPEECH | {"position_embeddings_type": "rotary", "feat_extract_norm": "layer", "conv_bias": True}, ("wave", "padded_wave")),
}  # fmt: skip


def build(family: Family) -> torch.nn.Module:
    """The model with every tensor redrawn."""
    torch.manual_seed(0)
    config = getattr(hf, family.config)(**family.settings)
    if hasattr(config, "_attn_implementation"):
        config._attn_implementation = "eager"
    config._experts_implementation = "eager"  # the grouped kernel wants widths in multiples of 16 bytes
    model: torch.nn.Module = getattr(hf, family.model)(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in [
            *model.named_parameters(),
            *((n, b) for n, b in model.named_buffers() if n.endswith(("correction_bias", "logits_bias"))),
        ]:
            drawn = torch.randn(value.shape, generator=generator)
            if name in (getattr(model, "_keys_to_ignore_on_save", None) or ()):  # fixed tables, which no checkpoint holds
                continue
            if "norm" in name.lower() or "ln_" in name or name.endswith((".D", "layernorm.weight")):
                value.copy_(1.1 + 0.3 * drawn)
            elif name.endswith("A_log"):
                value.copy_(0.5 + 0.3 * drawn)
            else:
                value.copy_(drawn * (0.25 if value.dim() > 1 else 0.3))
    return model


def save(model: torch.nn.Module, folder: Path) -> None:
    model.save_pretrained(folder)  # type: ignore[operator]


def tokens(low: int, high: int, *shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def left_padded(ids: torch.Tensor, pad: int) -> dict[str, torch.Tensor]:
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    mask[1, :1] = 0
    return {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}


def right_padded(ids: torch.Tensor, pad: int) -> dict[str, torch.Tensor]:
    mask = torch.ones_like(ids)
    mask[0, -6:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}


def _padded(family: Family) -> dict[str, torch.Tensor]:
    pad = int(str(family.settings.get("pad_token_id", 0)))
    ids = tokens(3, 89, 2, 19)
    return right_padded(ids, pad) if "Bert" in family.config or "Roberta" in family.config else left_padded(ids, pad)


def _ended(ids: torch.Tensor) -> torch.Tensor:
    """Each text ends at a place of its own."""
    for row, place in enumerate((12, 6, 9)):
        ids[row, place:] = 88
    return ids


def _wave() -> torch.Tensor:
    return torch.randn(2, 203, generator=torch.Generator().manual_seed(2))


INPUTS: dict[str, Callable[[Family], dict[str, torch.Tensor]]] = {
    "plain": lambda f: {"input_ids": tokens(3, 89, 2, 19)},
    "padded": _padded,
    "global": lambda f: {"input_ids": tokens(3, 89, 2, 19), "global_attention_mask": tokens(0, 4, 2, 19, seed=3) // 3},
    "padded_global": lambda f: right_padded(tokens(3, 89, 2, 19), 1) | {"global_attention_mask": tokens(0, 4, 2, 19, seed=3) // 3},
    "wave": lambda f: {"input_values": _wave()},
    "padded_wave": lambda f: {"input_values": _wave(), "attention_mask": (torch.arange(203) < torch.tensor([[203], [117]])).long()},
    "positions": lambda f: {"input_ids": tokens(3, 89, 2, 19), "position_ids": torch.arange(19).flip(0).expand(2, -1) % 13},
    "types": lambda f: {"input_ids": tokens(3, 89, 2, 19), "token_type_ids": tokens(0, 3, 2, 19, seed=3)},
    "image": lambda f: {"pixel_values": torch.randn(2, 3, 18, 18, generator=torch.Generator().manual_seed(2))},
    "speech": lambda f: {
        "input_features": torch.randn(2, 11, 40, generator=torch.Generator().manual_seed(2)),
        "decoder_input_ids": tokens(3, 89, 2, 13, seed=3),
    },
    "image_text": lambda f: {
        "input_ids": _ended(tokens(3, 80, 3, 13)),
        "pixel_values": torch.randn(3, 3, 18, 18, generator=torch.Generator().manual_seed(2)),
    },
    "pair": lambda f: {"input_ids": tokens(3, 89, 2, 19), "decoder_input_ids": tokens(3, 89, 2, 13, seed=3)},
    "padded_pair": lambda f: right_padded(tokens(3, 89, 2, 19), 0) | {"decoder_input_ids": tokens(3, 89, 2, 13, seed=3)},
}
