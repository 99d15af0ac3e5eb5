"""Shipped models whose causality is proved, each with one change that lets a token see later ones: `check` must refuse it, where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.compiler.diagnostics import Diagnostic, Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.prove_causality import check_causality

LEAKS = {
    "no mask": ("model leaky extends gpt2:\n    decoder.attention.mask = none\n", "attend"),
    "a mask that only pads": ("model leaky extends llama2_7b:\n    decoder.attention.mask = padding\n", "query 0 see key 1"),
    "a mask that is one step late": (
        "model leaky extends mistral_7b:\n    decoder.attention.mask = almost\n\nmask almost(i, j) = j <= i + 1\n",
        "attend",
    ),
    "one window of several looks ahead": (
        "model leaky extends gemma3_1b:\n    decoder.local.attention.mask = around\n\nmask around(i, j) = i - j < 4 and j - i < 4\n",
        "attend",
    ),
    "a convolution around its token": (
        "model leaky extends mamba2_130m:\n    mixer = seen_around\n\n"
        "component seen_around(width = 3)(x: [b, t, d]) -> [b, t, d]:\n"
        "    kernel = param([width, d])\n"
        "    return einsum(unfold(pad(x, t = [1, width - 2]), t, width, stride = 1), kernel, over = width)\n",
        "windows",
    ),
    "a mean over the sequence beside the attention": (
        "model leaky extends qwen3_0_6b:\n    decoder.ffn = pooled\n\n"
        "component pooled()(x: [b, t, d]) -> [b, t, d]:\n"
        "    up_proj = linear(d)\n"
        "    return up_proj(x) + mean(x, t)\n",
        "mean",
    ),
    "experts that choose tokens": (
        "model leaky extends gpt2:\n    decoder.ffn = chosen_tokens\n\n"
        "component chosen_tokens()(x: [b, t, d]) -> [b, t, d]:\n"
        "    score = linear(one: 1)\n"
        "    s = squeeze(score(x), one)\n"
        "    return x * softmax(s, t)\n",
        "softmax",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_refused(name: str, tmp_path: Path) -> None:
    text, cause = LEAKS[name]
    base = text.split(" extends ")[1].split(":")[0]
    assert checked(base) == []
    path = tmp_path / "leaky.xf"
    path.write_text(text, encoding="utf-8")
    (error,) = checked(str(path))
    assert error.code == "E401" and cause in error.message


def checked(spec: str) -> list[Diagnostic]:
    """The errors of a spec, those of information flow included."""
    diagnostics = Diagnostics()
    program = elaborate_file(spec, [], diagnostics)
    assert program is not None, diagnostics.found
    check_causality(program, diagnostics)
    return [d for d in diagnostics.found if d.severity == "error"]
