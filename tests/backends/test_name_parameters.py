"""Native modules are chosen on structure: what the spec calls their parameters does not matter, and every name of them follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.backends import numpy, torch
from xfc.backends.verify import verify
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run

SPEC = """
component rows(n, width)(ids: [...] int in n) -> [..., width]:
    table = param([n, width], init = normal(0.02))
    return table[n = ids]

component matrix(out)(x: [..., d]) -> [..., out]:
    shift = param([out], init = zeros)
    kernel = param([out, d], init = normal(0.02))
    return einsum(x, kernel, over = d) + shift

component scaled(eps = 1e-6)(x: [..., d]) -> [..., d]:
    gain = param([d], init = ones)
    y = float32(x)
    return gain * like(y * rsqrt(mean(y ^ 2, d) + eps), x)

component centred(eps = 1e-5)(x: [..., d]) -> [..., d]:
    weight = param([d], init = zeros)
    bias = param([d], init = ones)
    y = float32(x)
    c = y - mean(y, d)
    return like(c * rsqrt(mean(c ^ 2, d) + eps), x) * bias + weight

model renamed(vocab = 11, width = 8)(input_ids: [b, t] int in vocab) -> (logits: [b, t, vocab]):
    embed = rows(vocab, width)
    first = scaled
    map = matrix(2 * width)
    last = centred
    back = matrix(width)
    x = back(last(map(first(embed(input_ids)))))
    logits = einsum(x, embed.table, over = width)
    return logits

checkpoint huggingface for renamed:
    "wte" = embed.table
    "ln.g" = first.gain
    "fc.w" = transpose(map.kernel)
    "fc.b" = map.shift
    "bk.w" = transpose(back.kernel)
    "bk.b" = back.shift
    "ln_f.g" = last.bias
    "ln_f.b" = last.weight
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "renamed.xf"
    path.write_text(SPEC)
    return path


def test_native_whatever_their_names(spec: Path) -> None:
    diagnostics = Diagnostics()
    program = elaborate_file(str(spec), [], diagnostics)
    assert program is not None, diagnostics.found
    source = torch.emit(run(program))
    for native in ("nn.Embedding(", "nn.RMSNorm(", "nn.Linear(", "nn.LayerNorm("):
        assert native in source
    for text in (source, numpy.emit(run(program))):
        for row in ('"wte": "embed.weight"', '"fc.b": "map.bias"', '"ln_f.g": "last.weight"', '"ln_f.b": "last.bias"', '"map.weight"'):
            assert row in text
    report = verify(program)
    assert report.ok, str(report)
