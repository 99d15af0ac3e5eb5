"""Where a tensor is read along the sequence, by rules of indices made at random: the compiler must say exactly whether later entries are seen.

A rule is tried on a model that does nothing else, so that what is seen shows; what the compiler says is held against what moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xfc.backends import interpreter
from xfc.compiler import ir
from xfc.compiler.passes.prove_causality import prove

from .choices import Choices
from .executions import Disagreement
from .surface import write_spec

LENGTHS = (1, 11)
"""Rules speak of distances of a few entries."""


def rule_spec(c: Choices) -> str:
    rows = [attended, attended, taken, shifted][c.below(4)](c)
    body = "\n".join(f"    {row}" for row in ["embed = embedding(vocab, d)", "x: [b, t, d] = embed(input_ids)", *rows, "return y"])
    return f"model rules(vocab = 7, d = 3)(input_ids: [b, t] int in vocab) -> (y: [b, t, d]):\n{body}\n"


def number(c: Choices) -> str:
    return str(c.pick([1, 0, 2, 3, 4]))


def position(c: Choices, i: str) -> str:
    """A whole number that grows with a position, or stays."""
    n = number(c)
    return c.pick([i, f"{i} + {n}", f"{i} - {n}", f"2 * {i}", f"{i} // 2", f"({i} + {n}) // 2 * 2", n])


def test(c: Choices, depth: int = 2) -> str:
    """A rule of i and j."""
    if depth and c.below(2):
        one, two = test(c, depth - 1), test(c, depth - 1)
        return c.pick([f"({one}) and ({two})", f"({one}) or ({two})", f"not ({one})", f"({one}) and j <= i", f"j <= i and ({one})"])
    sign = c.pick(["<=", "<", ">=", ">", "==", "!="])
    n = number(c)
    return c.pick(
        [
            f"j {sign} {position(c, 'i')}",
            f"{position(c, 'i')} {sign} {position(c, 'j')}",
            f"i - j {sign} {n}",
            f"-j {sign} -i",
            f"abs(i - j) {c.pick(['<=', '<', '=='])} {n}",
            f"(i - j) % {c.pick([2, 3])} == 0",
            f"i // {c.pick([2, 3])} == j // {c.pick([2, 3])}",
            f"j {sign} {n}",
            f"minimum(i, {n}) {sign} j",
            f"maximum(i - {n}, 0) {sign} j",
        ]
    )


def attended(c: Choices) -> list[str]:
    return [
        f"mask rule(i, j) = {test(c)}",
        f"y = attend(x, x, x, {c.pick(['rule', 'rule', 'rule and causal', 'not rule', 'rule or causal', 'causal and not rule'])}, over = t)",
    ]


def taken(c: Choices) -> list[str]:
    """Entries at computed places, which lie inside the axis whatever its length."""
    i, n = "index(t)", number(c)
    place = c.pick(
        [
            f"maximum({i} - {n}, 0)",
            f"minimum({i} + {n}, t - 1)",
            f"clamp({i} - {n}, 0, t - 1)",
            f"clamp({position(c, i)}, 0, t - 1)",
            f"{i} // {c.pick([1, 2, 3])}",
            f"clamp(({i} + {n}) // {c.pick([2, 3])}, 0, t - 1)",
            f"(2 * {i} + {n}) % {c.pick([1, 2, 3])}",
            f"{i} % {c.pick([1, 2, 3])}",
            f"maximum(-(-{i}), 0)",
            f"where({i} > {n}, {c.pick(['0', i])}, {i})",
            f"where({i} > {n}, minimum({i} + 1, t - 1), 0)",
            f"t - 1 - {i}",
            "0",
            "-1",
        ]
    )
    if place in ("0", "-1"):
        return [f"y = 0.5 * x + x[t = {place}]"]
    return [f"at = {place}", "y = 0 * x + x[t = at]" if c.below(2) else "y = transpose(x[t = at], [b, t, d])"]


def shifted(c: Choices) -> list[str]:
    n = c.pick([1, 2, 3])
    return c.pick(
        [
            [f"y = pad(x, t = [{n}, 0])[t = .. -{n}]"],
            [f"y = pad(x, t = [0, {n}])[t = {n} ..]"],
            [f"y = roll(x, {c.pick([1, -1, 0])}, t)"],
            [f"y = {c.pick(['cumsum(x, t)', 'flip(cumsum(flip(x, t), t), t)', 'flip(flip(x, t), t)'])}"],
            [f"y = where(index(t) > {n}, {c.pick(['x', 'flip(x, t)'])}, {c.pick(['0', 'x', 'cumsum(x, t)', 'mean(x, t)'])})"],
            [f"y = max(unfold(pad(x, t = [{c.pick([n, 0, 1])}, {c.pick([0, n])}]), t, k: {n + 1}), k)[t = 0 .. t]"],
            [f"y = linear_recurrence(sigmoid(x), x, over = t{c.pick(['', ''])})"],
        ]
    )


def check_rule(folder: Path, seed: int) -> str:
    """What the compiler says of a rule, once it is held against what happens. Refused: a window longer than its axis, a surplus rule."""
    from .agree import elaborated

    path = folder / "rules.xf"
    text = rule_spec(Choices.seeded(seed))
    write_spec(text, path)
    program = elaborated(path)
    verdict = prove(program).verdicts[0]
    moved = sees_ahead(program, seed)
    if (verdict.answer == "proved" and moved) or (verdict.answer == "refuted" and not moved):
        raise Disagreement(f"a rule is {verdict.answer}, and the output {'moved' if moved else 'did not move'}:\n{text}")
    doubted = ("where(", "% 1", "% 2", "% 3") if "at = " in text else ("where(",)
    loose = any(part in text for part in doubted) or ("attend(" in text and not moved)
    if verdict.answer == "unproved" and not loose:
        raise Disagreement(f"a rule is unproved, and the output {'moved' if moved else 'did not move'}:\n{text}")
    return f"rule {verdict.answer}"


def sees_ahead(program: ir.Program, seed: int) -> bool:
    under = dict(zip(program.dynamic, LENGTHS, strict=True))
    rng = np.random.default_rng(seed)
    params = interpreter.initial_params(program, seed, np.float64, under)
    ids = rng.integers(0, 7, LENGTHS)
    before = interpreter.run(program, params, {"input_ids": ids})["y"]
    for cut in range(1, LENGTHS[1]):
        later = np.where(np.arange(LENGTHS[1]) >= cut, (ids + 1) % 7, ids)
        after = interpreter.run(program, params, {"input_ids": later})["y"]
        if not np.allclose(after[:, :cut], before[:, :cut], rtol=0, atol=1e-12, equal_nan=True):
            return True
    return False
