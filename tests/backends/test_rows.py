"""Feed-forward layers of models for long sequences: a part of the tokens at a time without gradients, and the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run as run_passes

MODEL = """
model small = {kind}:
    vocab = 5
    d_model = 4
    {body}
"""
LOW_RANK = """let length = 5000
    position = learned_slots(size = length)
    encoder = transformer:
        layers = 1
        attention = low_rank_attention(heads = 2, length = length, rank = 3)
        ffn = plain(hidden = 8, bias = true)"""
SUMS = """decoder:
        layers = 1
        attention = linear_attention(heads = 2)
        ffn = {ffn}"""


def written(text: str, tmp_path: Path) -> str:
    path, diagnostics = tmp_path / "small.xf", Diagnostics()
    path.write_text(text)
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    return torch_backend.emit(run_passes(program))


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (SUMS.format(ffn="gated(hidden = 8)"), True),
        (SUMS.format(ffn="plain(hidden = 4)"), False),
        (SUMS.replace("linear_attention(heads = 2)", "multi_head(heads = 2)").format(ffn="plain(hidden = 8)"), False),
    ],
    ids=["wider", "as wide", "all positions with all"],
)
def test_where_tokens_are_apart(body: str, parts: bool, tmp_path: Path) -> None:
    assert ("@by_rows" in written(MODEL.format(kind="causal_lm", body=body), tmp_path)) == parts


def test_parts_are_the_whole(tmp_path: Path) -> None:
    """5,000 tokens are ten parts; with gradients there are none."""
    with loaded(written(MODEL.format(kind="token_encoder", body=LOW_RANK), tmp_path), "by_rows") as module:
        model = module.Model().double()
        seen: list[int] = []
        for layer in model.modules():
            if isinstance(layer, nn.Linear) and layer.out_features == 8:
                layer.register_forward_hook(lambda _, given, result: seen.append(given[0].shape[-2]))
        ids = torch.randint(0, 5, (2, 5000), generator=torch.Generator().manual_seed(0))
        whole: Tensor = model(ids)
        with torch.no_grad():
            assert torch.allclose(model(ids), whole, rtol=1e-10, atol=1e-12)
    assert seen == [5000, *[512] * 9, 392]
