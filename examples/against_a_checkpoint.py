"""Hold a generated module against the model that a checkpoint came from.

    python examples/against_a_checkpoint.py FOLDER

Makes a small random Llama of Hugging Face's own class, saves it into FOLDER as it would be published (config.json, model.safetensors), and then does
what a user does with a published model: `xfc import` its config, `xfc compile` the spec, load the checkpoint by its published names, and compare
what both say of the same tokens, one row padded on the left."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import torch
import transformers

XFC = Path(sys.executable).with_name("xfc")


def publish(folder: Path) -> transformers.PreTrainedModel:
    """A small random model with its checkpoint in the folder."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=101, hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=64
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn_like(value) * 0.2 + (1.0 if value.dim() == 1 else 0.0))
    model.save_pretrained(folder)
    return model


def generated(folder: Path) -> torch.nn.Module:
    """The module that xfc writes from the config alone, with the checkpoint's weights."""
    subprocess.run([XFC, "import", folder / "config.json", "-o", folder / "llama.yaml"], check=True)
    subprocess.run([XFC, "compile", folder / "llama.yaml", "-o", folder / "llama.py"], check=True)
    spec = importlib.util.spec_from_file_location("llama", folder / "llama.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["llama"] = module
    spec.loader.exec_module(module)
    model: torch.nn.Module = module.Model.from_pretrained(folder).eval()
    return model


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    theirs, ours = publish(folder), generated(folder)
    tokens = torch.randint(3, 101, (2, 17))
    keep = torch.ones_like(tokens)
    keep[0, :5] = 0
    with torch.no_grad():
        want = theirs(input_ids=tokens, attention_mask=keep).logits
        got = ours(input_ids=tokens, attention_mask=keep)
    difference = (got - want)[keep == 1].abs().max().item()
    print(f"{sum(p.numel() for p in ours.parameters()):,} weights from {folder}/model.safetensors")
    print(f"largest difference of the logits from {type(theirs).__name__}: {difference:.1e}")
    return 0 if difference < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
