"""A bias reaches the kernel with its keys next to each other in memory: the CPU's fused attention takes no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run as run_passes

SHARED = """
component layer(seen, distance)(x: [b, t, d]) -> [b, t, d]:
    inner = multi_head(heads = 2, mask = seen, score = distance)
    return x + inner(x)

component stacked(seen, distance)(x: [b, t, d]) -> [b, t, d]:
    shared distance = distance
    layers = 3 of layer(seen, distance)
    return layers(x)

model small(d = 8)(input_ids: [b, t] int in 17, attention_mask: [b, t] int = 1) -> (y):
    embed = embedding(17, d)
    layers = stacked({mask}, {score})
    {more}
    return layers(embed(input_ids))
"""

OWN = """
component far(heads)(i: [t], j: [t'], h: [heads]) -> [t, t', heads]:
    table = param([steps: 9, heads], normal(0.5))
    return table[minimum(abs(j - i), 8), h]

model own(d = 8)(input_ids: [b, t] int in 17) -> (y):
    embed = embedding(17, d)
    attention = multi_head(heads = 2, mask = none, score = far(heads = 2))
    return attention(embed(input_ids))
"""


@contextmanager
def biases(found: list[Tensor]) -> Iterator[None]:
    """What attention is given to add to its scores."""
    plain = torch.nn.functional.scaled_dot_product_attention

    def seen(*args: Tensor, attn_mask: Tensor | None = None, **options: float) -> Tensor:
        if attn_mask is not None:
            found.append(attn_mask)
        return plain(*args, attn_mask=attn_mask, **options)  # type: ignore[arg-type]

    torch.nn.functional.scaled_dot_product_attention = seen
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = plain


CASES = [
    SHARED.format(mask=mask, score=score, more="positions = index(t)" if "alibi" in score else "")
    for score in ("bucketed_bias(heads = 2)", "alibi(heads = 2)")
    for mask in ("padding", "causal and padding", "causal")
]


@pytest.mark.parametrize("text", CASES)
def test_keys_are_neighbours(text: str, tmp_path: Path) -> None:
    (tmp_path / "spec.xf").write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(tmp_path / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    found: list[Tensor] = []
    with loaded(torch_backend.emit(run_passes(program)), "ordered") as module, biases(found), torch.no_grad():
        model = module.Model()
        ids = torch.arange(14).reshape(2, 7)
        model(ids)
        model(ids, attention_mask=(ids != 0).long()) if "padding" in text else model(ids)
    assert len(found) == 6
    assert all(bias.stride(-1) == 1 for bias in found), [bias.stride() for bias in found]
