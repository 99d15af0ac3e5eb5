"""Greedy `generate` against Hugging Face's own, token by token: 64 tokens, prompts of one length and padded on the left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers.generation import GenerationMixin

from .families import FAMILIES, INPUTS, Family, build, save
from .test_huggingface import load_module, xfc

NEW = 64
QUICK = {"gpt2", "gemma3", "t5", "mamba2"}
PROMPTS = {
    "gpt2": ("plain", "padded"), "llama": ("plain", "padded"), "mistral": ("padded",), "qwen2": ("padded",), "qwen3": ("plain",),
    "gemma2": ("padded",), "gemma3": ("plain", "padded"), "gpt_neox": ("plain",), "bloom": ("padded",), "mixtral": ("plain", "padded"),
    "qwen3_moe": ("plain",), "t5": ("pair", "padded_pair"), "t5_v1_1": ("pair",), "marian": ("padded_pair",), "bart": ("pair", "padded_pair"),
    "whisper": ("speech",), "switch_transformers": ("pair",), "deepseek_v3": ("plain", "padded"), "mamba2": ("plain",),
    "gpt_oss": ("plain", "padded"), "jamba": ("plain", "padded"), "bamba": ("plain", "padded"),
}  # fmt: skip


ROOM = dict.fromkeys(("n_positions", "max_position_embeddings", "max_target_positions"), 19 + NEW)
"""Positions enough for a prompt and what is generated."""
OTHERWISE = {"expert_capacity": 19 + NEW, "num_decoder_layers": 2}
"""Hugging Face counts an expert's tokens anew in each step, and wants as many layers in T5's decoder as in its encoder."""


def fit(family: Family) -> Family:
    changes = {k: v for k, v in (ROOM | OTHERWISE).items() if k in family.settings}
    return replace(family, settings=family.settings | changes)


@contextmanager
def one_thread() -> Iterator[None]:
    """Small products are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def generated(name: str, folder: Path) -> tuple[GenerationMixin, ModuleType, torch.nn.Module]:
    """Hugging Face's model, and the module and model made of its config and checkpoint."""
    reference = build(fit(FAMILIES[name]))
    for forced in ("forced_eos_token_id", "forced_bos_token_id"):
        setattr(reference.generation_config, forced, None)
    save(reference, folder)
    xfc("import", folder / "config.json", "-o", folder / f"{name}.yaml")
    xfc("compile", folder / f"{name}.yaml", "-o", folder / f"{name}_generate.py")
    module = load_module(folder / f"{name}_generate.py")
    return reference, module, module.Model.from_pretrained(folder).eval()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generate")


def inputs_of(name: str, kind: str) -> dict[str, torch.Tensor]:
    inputs = INPUTS[kind](FAMILIES[name])
    if "decoder_input_ids" in inputs:
        inputs["decoder_input_ids"] = inputs["decoder_input_ids"][:, :3].clone()
        inputs["decoder_input_ids"][:, 0] = 2
    return inputs


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PROMPTS])
def test_greedy_tokens_are_hugging_face_s(name: str, folder: Path) -> None:
    (folder / name).mkdir()
    reference, _, model = generated(name, folder / name)
    settings = {"decoder_start_token_id": 2} if "pair" in PROMPTS[name][0] else {}
    for kind in PROMPTS[name]:
        inputs = inputs_of(name, kind)
        with one_thread():
            want = GenerationMixin.generate(
                reference, **inputs, max_new_tokens=NEW, do_sample=False, num_beams=1, eos_token_id=None, pad_token_id=0, **settings
            )
            got = model.generate(**inputs, max_new_tokens=NEW)
        assert len(want.unique()) > 5
        assert torch.equal(got, want), kind
