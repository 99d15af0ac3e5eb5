"""What fuzzing has found, once each; and that what looks at emitted code sees what should not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from .emitted import strange_in
from .guided_target import run_all

HEAD = "model a(n = 3)(x: [b, t, n]) -> [b, t, n]:\n"
FOUND = {
    "a class without a letter": "component _9(x: [..., d]) -> [..., d]:\n    w = param([d])\n    return x * w\n\nmodel _1(n = 3)(x: [b, n]) -> [b, n]:\n"
    "    f = _9\n    return f(x)\n",
    "no number for the lengths that are tried": HEAD + "    let a = (t + n) ^ 100\n    return x * a\n",
    "a hundred sizes without a name": "component f(k)(x: [..., d]) -> [..., d]:\n"
    + "".join(f"    p{i} = param([w: {i} * k + {i}])\n    x = x + sum(p{i}, w)\n" for i in range(1, 120))
    + f"    return x\n\n{HEAD}    g = f(2)\n    h = f(3)\n    return h(g(x))\n",
    "a mask by places and a score on a kept latent": (
        "mask rule(i, j) = j < 3\n\nscore bias(reach)(s, i, j):\n    table = param([places: 2 * reach + 1])\n"
        "    return s + table[places = clamp(i - j, -reach, reach) + reach]\n\n"
        "component look(count)(x: [b, t, d]) -> [b, t, d]:\n    q_proj = linear([e: count])\n    k_proj = linear([e: count])\n"
        "    v_proj = linear([e: count])\n    o_proj = linear(d, over = [e: count])\n"
        "    y = attend(q_proj(x), k_proj(x), v_proj(x), rule and padding and sliding(4), score = bias(1), scale = 1, over = t)\n    return o_proj(y)\n\n"
        "model m(d_model = 1, vocab = 7)(input_ids: [b, t] int in vocab, attention_mask: [b, t] int = 1, labels: [b, t] int = none)"
        " -> (logits: [b, t, vocab]):\n    embed = embedding(vocab, d_model)\n    part = look(4)\n    head = linear(vocab)\n"
        "    logits = head(part(embed(input_ids)))\n    loss tags = cross_entropy(logits, labels, over = vocab)\n    return logits\n"
    ),
}

FOUND |= {path.stem: path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "cases").glob("*.xf"))}


@pytest.mark.parametrize("name", FOUND)
def test_is_right_now(name: str, tmp_path: Path) -> None:
    done = run_all(".xf", FOUND[name].encode(), tmp_path)
    assert done.right and done.fault is None, done


@pytest.mark.parametrize(
    "code",
    [
        "import os\n",
        "def f():\n    return eval('1')\n",
        "from subprocess import run\n",
        "def f(x):\n    return y\n",
        "class 9:\n    pass\n",
        "x = __import__\n",
    ],
)
def test_what_is_strange_is_seen(code: str) -> None:
    assert list(strange_in(code))


def test_what_is_usual_is_not(tmp_path: Path) -> None:
    assert not list(strange_in("import math\n\n\ndef top(x, k):\n    return sorted(x)[:k], math.pi\n"))
