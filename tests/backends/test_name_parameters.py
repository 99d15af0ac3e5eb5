"""Native modules are chosen on structure: what the spec calls their parameters does not matter, and every name of them follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.backends import numpy, torch
from xfc.backends.python.name_attributes import is_taken
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


# ---------------------------------------------------------------- names that modules have

SMALL = """
component part(x: [..., d]) -> [..., d]:
    {a} = param([d], init = 2.0)
    {b} = linear(d)
    return {b}(x) * {a}

model small(n = 6, experts = 3)(x: [b, t, n]) -> (y):
    {a} = linear(n)
    {a}_ = linear(n)
    {b} = 2 of part()
    {c} = bank(experts, part())
    many = {c}(expand({b}(x), experts))
    return {a}({a}_(mean(many, experts)))
"""


@pytest.mark.parametrize("names", [("to", "apply", "forward"), ("config", "state_dict", "children"), ("train", "half", "start_weights")])
def test_names_that_modules_have(names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(SMALL.format(**dict(zip("abc", names, strict=True))))
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    assert verify(program).ok


def test_names_that_modules_have_are_known() -> None:
    import torch as real

    names = [*dir(real.nn.Module()), *dir(real.nn.ModuleList()), "config", "generate", "stream", "from_pretrained", "init_cache"]
    mine = {"append", "extend", "insert", "pop"}  # of lists of layers, which have no other names
    assert [n for n in names if not is_taken(n) and n not in mine] == []


PUBLISHED = """
component part(x: [..., d]) -> [..., d]:
    half = param([d], init = 2.0)
    apply = linear(d)
    return apply(x) * half

model small(n = 6)(x: [b, t, n]) -> (y):
    to = 2 of part()
    return to(x)

checkpoint huggingface for small:
    "a.{i}" = to.{i}.half
    "b.{i}" = transpose(to.{i}.apply.weight)
"""


def test_checkpoints_follow_the_names(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(PUBLISHED)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    for code in (torch.emit(run(program)), numpy.emit(run(program))):
        assert '"to_.{i}.half_"' in code and '"to_.{i}.apply_.weight"' in code
