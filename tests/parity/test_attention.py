"""Attention patterns and relative positions against other people's classes: configs imported, checkpoints loaded by their published names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from .families import Family, build, save, tokens
from .test_huggingface import TOLERANCE, load_module, xfc

Inputs = dict[str, Tensor]
SMALL = {
    "vocab_size": 89, "hidden_size": 30, "intermediate_size": 53, "num_hidden_layers": 3, "num_attention_heads": 5, "max_position_embeddings": 64,
    "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
}  # fmt: skip
LLAMA = {
    "vocab_size": 89, "hidden_size": 30, "intermediate_size": 53, "num_hidden_layers": 3, "num_attention_heads": 5, "num_key_value_heads": 5,
    "head_dim": 10, "max_position_embeddings": 64,
}  # fmt: skip
DEBERTA = SMALL | {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": -1}
FAMILIES = {
    "gpt_neo": Family(
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {"vocab_size": 89, "hidden_size": 30, "num_layers": 4, "num_heads": 5, "intermediate_size": 53, "window_size": 6}
        | {"max_position_embeddings": 64, "attention_types": [[["global", "local"], 2]], "resid_dropout": 0.0},
    ),
    "deberta": Family("DebertaForMaskedLM", "DebertaConfig", DEBERTA),
    "deberta_short": Family("DebertaForMaskedLM", "DebertaConfig", DEBERTA | {"max_relative_positions": 7}),
    "deberta_v2": Family(
        "DebertaV2ForMaskedLM", "DebertaV2Config", DEBERTA | {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
    ),
    "big_bird": Family("BigBirdForMaskedLM", "BigBirdConfig", SMALL | {"block_size": 4, "num_random_blocks": 2, "pad_token_id": 0}),
    "gptj": Family(
        "GPTJForCausalLM",
        "GPTJConfig",
        {"vocab_size": 89, "n_embd": 40, "n_layer": 3, "n_head": 4, "n_inner": 53, "rotary_dim": 6, "n_positions": 64, "resid_pdrop": 0.0},
    ),
    "llama_multi_query": Family("LlamaForCausalLM", "LlamaConfig", LLAMA | {"num_key_value_heads": 1}),
    "llama_linear": Family(
        "LlamaForCausalLM", "LlamaConfig", LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0}}
    ),
    "llama_dynamic": Family(
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA | {"max_position_embeddings": 11, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 3.0}},
    ),
    "llama_yarn": Family(
        "LlamaForCausalLM",
        "LlamaConfig",
        LLAMA
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 500.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "beta_fast": 4.0,
            }
        },
    ),
    "pixtral": Family(
        "PixtralVisionModel",
        "PixtralVisionConfig",
        {"hidden_size": 24, "intermediate_size": 19, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 18, "patch_size": 6}
        | {"hidden_act": "silu", "head_dim": 8},
    ),
}


def with_draws(model: nn.Module) -> tuple[Inputs, Tensor]:
    """Let each layer draw its blocks (in evaluation the class takes block 0 each time) and hand them on: `[layers, heads, rows, each]`."""
    found: list[np.ndarray] = []
    for layer in model.bert.encoder.layer:  # type: ignore[union-attr]
        attention = layer.attention.self
        attention.training = True

        def recorded(
            *args: object, draw: Callable[..., list[np.ndarray]] = attention._bigbird_block_rand_mask_with_head, **named: object
        ) -> object:
            found.append(np.stack(draw(*args, **named)))
            return found[-1]

        attention._bigbird_block_rand_mask_with_head = recorded
    inputs = {"input_ids": tokens(3, 89, 2, 43), "attention_mask": (torch.arange(43) < torch.tensor([[43], [35]])).long()}
    with torch.no_grad():
        want = model(**inputs).logits
    return inputs | {"random_blocks": torch.from_numpy(np.stack(found)).long()}, want


def with_padding(model: nn.Module) -> tuple[Inputs, Tensor]:
    inputs = {"input_ids": tokens(3, 89, 2, 19), "attention_mask": (torch.arange(19) < torch.tensor([[19], [14]])).long()}
    with torch.no_grad():
        return inputs, model(**inputs).logits


def with_image(model: nn.Module) -> tuple[Inputs, Tensor]:
    """The class puts the patches of all images in one row."""
    inputs = {"pixel_values": torch.randn(2, 3, 18, 18, generator=torch.Generator().manual_seed(2))}
    with torch.no_grad():
        return inputs, model(**inputs).last_hidden_state.reshape(2, 9, -1)


CALLS = {"big_bird": with_draws, "pixtral": with_image}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_published(name: str, tmp_path: Path) -> None:
    reference = build(FAMILIES[name])
    save(reference, tmp_path)
    xfc("import", tmp_path / "config.json", "-o", tmp_path / "spec.yaml")
    xfc("check", tmp_path / "spec.yaml")
    inputs, want = CALLS.get(name, with_padding)(reference)
    for target in ("torch", "numpy"):
        path = tmp_path / f"{name}_{target}.py"
        xfc("compile", tmp_path / "spec.yaml", "--target", target, "-o", path)
        module = load_module(path)
        if target == "torch":
            with torch.no_grad():
                got = module.Model.from_pretrained(tmp_path).eval()(**inputs).numpy()
        else:
            got = module.forward(module.load(tmp_path), **{k: v.numpy() for k, v in inputs.items()})
        keep = inputs["attention_mask"].numpy() != 0 if "attention_mask" in inputs else np.ones(want.shape[:2], bool)
        gap = np.abs(got.astype(np.float64) - want.double().numpy())[keep].max()
        print(name, target, gap)
        assert gap < TOLERANCE, target
