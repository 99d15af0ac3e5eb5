"""The original Transformer against torch.nn.Transformer, and its smoothed loss against torch's."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn.functional import cross_entropy

from xfc.compiler.command_line import xfc as command

SIZES = ["vocab=89", "d_model=30", "layers=2", "heads=6", "ffn.hidden=53"]


def emitted(folder: Path) -> type[nn.Module]:
    words = ["compile", "transformer_base", "-o", str(folder / "small_transformer.py")]
    done = CliRunner().invoke(command, [*words, *(w for s in SIZES for w in ("--set", s))])
    assert done.exit_code == 0, done.output
    spec = importlib.util.spec_from_file_location("small_transformer", folder / "small_transformer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_transformer"] = module
    spec.loader.exec_module(module)
    return module.Model  # type: ignore[no-any-return]


def place(own: nn.Module, other: nn.Module, attention: str, prefix: str) -> None:
    """The weights of one attention: torch keeps queries, keys and values in one."""
    projections = [getattr(getattr(own, attention), f"{p}_proj") for p in "qkv"]
    theirs = getattr(other, prefix)
    theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
    theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    theirs.out_proj.load_state_dict(getattr(own, attention).o_proj.state_dict())


def layer(own: nn.Module, other: nn.Module, norms: list[str]) -> None:
    place(own, other, "attention", "self_attn")
    if hasattr(own, "cross"):
        place(own, other, "cross", "multihead_attn")
    other.linear1.load_state_dict(own.ffn.up_proj.state_dict())
    other.linear2.load_state_dict(own.ffn.down_proj.state_dict())
    for number, norm in enumerate(norms, start=1):
        getattr(other, f"norm{number}").load_state_dict(getattr(own, norm).state_dict())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, nn.Transformer]:
    torch.manual_seed(0)
    own = emitted(tmp_path_factory.mktemp("transformer"))().eval()
    other = nn.Transformer(30, 6, 2, 2, 53, batch_first=True).eval()
    other.encoder.norm = other.decoder.norm = None
    with torch.no_grad():
        for value in own.parameters():
            value.copy_(0.3 * torch.randn(value.shape) + (1 if value.dim() == 1 else 0))
        for a, b in zip(own.encoder.stack.layers, other.encoder.layers, strict=True):
            layer(a, b, ["attention_norm", "ffn_norm"])
        for a, b in zip(own.decoder.stack.layers, other.decoder.layers, strict=True):
            layer(a, b, ["attention_norm", "cross_norm", "ffn_norm"])
    return own, other


def embedded(own: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i / d)), the cosines after the sines; embeddings times the root of d."""
    angle = torch.arange(ids.shape[1])[:, None] / 10000 ** (torch.arange(0, 30, 2) / 30)
    return own.embed(ids) * 30**0.5 + torch.cat((angle.sin(), angle.cos()), -1)


def test_logits_and_smoothed_loss(pair: tuple[nn.Module, nn.Transformer]) -> None:
    own, other = pair
    generator = torch.Generator().manual_seed(1)
    source, target, labels = (torch.randint(0, 89, (2, n), generator=generator) for n in (17, 11, 11))
    labels[0, :4] = -100
    with torch.no_grad():
        causal = nn.Transformer.generate_square_subsequent_mask(11)
        want = other(embedded(own, source), embedded(own, target), tgt_mask=causal) @ own.embed.weight.T
        got = own(input_ids=source, decoder_input_ids=target).logits
        loss = own(input_ids=source, decoder_input_ids=target, labels=labels)
    assert (got - want).abs().max() < 1e-4
    smoothed = cross_entropy(want.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    assert torch.allclose(loss, smoothed, atol=1e-5)
