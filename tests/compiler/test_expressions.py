"""What expressions of the language mean, each against a line of NumPy: what is known when the model is built, and what its data decide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xfc.backends.interpreter import initial_params, run
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file

X = np.random.default_rng(0).normal(size=(2, 5, 12))
STEPS = np.arange(5)
Numbers = Callable[[], np.ndarray]

EXPRESSIONS: list[tuple[str, Numbers]] = [
    ("x * where(true or x > 0, 1.0, 0.0)", lambda: X),
    ("where(x > 0 or false, 1.0, 0.0)", lambda: X > 0),
    ("where(false or x > 0, 1.0, 0.0)", lambda: X > 0),
    ("where(x > 0 and true, 1.0, 0.0)", lambda: X > 0),
    ("where(d == 12 and x > 0, 1.0, 0.0)", lambda: X > 0),
    ("where(not (x > 0) and x < 1, 1.0, 0.0)", lambda: (X <= 0) & (X < 1)),
    ("where(d == 12, x, -x)", lambda: X),
    ("where(d != 12, x, -x)", lambda: -X),
    ("where(x >= 0.5, 2, x)", lambda: np.where(X >= 0.5, 2, X)),
    ("x * float(bool(floor(x)))", lambda: X * (np.floor(X) != 0)),
    ("x * float(int(x * 3))", lambda: X * np.trunc(X * 3)),
    ("x + 1.0 if linear == linear else x", lambda: X + 1),
    ("x + 1.0 if linear != linear else x", lambda: X),
    ("x + 1.0 if rms_norm == layer_norm else x", lambda: X),
    ('x + 1.0 if "a" == "a" else x', lambda: X + 1),
    ('x + 1.0 if "a" != "b" else x', lambda: X + 1),
    ("x + 1.0 if none == none else x", lambda: X + 1),
    ("x + 1.0 if linear != none else x", lambda: X + 1),
    ("x + 1.0 if true == false else x", lambda: X),
    ("x + 1.0 if 3 < 4 and 4 <= 4 and 5 > 4 and not (4 != 4) else x", lambda: X + 1),
    ("x * (d / 4)", lambda: X * 3),
    ("x * (d // 8)", lambda: X),
    ("x * (d % 8)", lambda: X * 4),
    ("x * (2 ^ -2)", lambda: X / 4),
    ("x * d ^ -0.5", lambda: X / 12**0.5),
    ("x * rsqrt(d) + sqrt(d) + log(d)", lambda: X / 12**0.5 + 12**0.5 + np.log(12)),
    ("x * exp(d / 6) + abs(3 - d) + floor(d * 0.3) + ceil(d * 0.3)", lambda: X * np.exp(2) + 9 + 3 + 4),
    ("x * sin(d) + cos(d) + tanh(d / 12)", lambda: X * np.sin(12) + np.cos(12) + np.tanh(1)),
    ("float(all(x > -1, d)) + 2 * float(any(x > 2, d))", lambda: (X > -1).all(-1) + 2.0 * (X > 2).any(-1)),
    (
        "clamp(x, none, 0.5) + clamp(x, -0.5, none) + clamp(x, -0.1, 0.1)",
        lambda: X.clip(None, 0.5) + X.clip(-0.5, None) + X.clip(-0.1, 0.1),
    ),
    ("x - (t + t - 2 * t)", lambda: X),
    ("x ^ 2 % 0.5", lambda: X**2 % 0.5),
    ("x // 0.5", lambda: X // 0.5),
    ("maximum(x, 0) - minimum(0.1, x)", lambda: np.maximum(X, 0) - np.minimum(0.1, X)),
    ("maximum(x, 0.5 * d - 6)", lambda: np.maximum(X, 0)),
    ("sum(x, d) / t", lambda: X.sum(-1) / 5),
    ("mean(x, [t, d])", lambda: X.mean((1, 2))),
    ("(x + (t - 1) / 2) / (t + 1)", lambda: (X + 2) / 6),
    ("x + (0.5 + 3) / d + (0.5 + 3) / 2", lambda: X + 3.5 / 12 + 1.75),
    ("x[d = -1] + x[d = 0] + x[d = 11]", lambda: X[..., -1] * 2 + X[..., 0]),
    ("x[t = 1 .. -1, d = 2 ..]", lambda: X[:, 1:-1, 2:]),
    ("x[t = t - 1 - index(t)]", lambda: X[:, ::-1]),
    ("flip(x, t)", lambda: X[:, ::-1]),
    ("roll(x, 2, t)", lambda: np.roll(X, 2, axis=1)),
    ("transpose(x, [b, d, t])", lambda: X.swapaxes(1, 2)),
    ("unflatten(x, d = [n: 3, e: 4])[n = 1]", lambda: X[..., 4:8]),
    ("flatten(unflatten(x, d = [n: 3, e: 4]), [e, n], d)", lambda: X.reshape(2, 5, 3, 4).swapaxes(2, 3).reshape(2, 5, 12)),
    ("concat(x, x * 2, over = t)", lambda: np.concatenate([X, X * 2], axis=1)),
    ("pad(x, t = [1, 2], value = 7)", lambda: np.pad(X, ((0, 0), (1, 2), (0, 0)), constant_values=7)),
    ("stack([x, -x], n)[n = 1]", lambda: -X),
    ("einsum(x, rename(x, t = s), over = d)", lambda: X @ X.swapaxes(1, 2)),
    ("einsum(x, index(d), over = d)", lambda: X @ np.arange(12.0)),
    ("x + index(t) * float(index(d))", lambda: X + STEPS[:, None] * np.arange(12)),
    ("x * full([d], 0.5) + zeros([t]) + ones([t])", lambda: X * 0.5 + 1),
    ("x[d = 0] * where(one_hot(index(t) % 3, n: 3), 1.0, 0.0)", lambda: X[:, :, :1] * (STEPS[:, None] % 3 == np.arange(3))),
    (
        "scatter_add(zeros([b, n: 3]), index(t) % 3, x[d = 0], over = n)",
        lambda: np.stack([X[:, n == STEPS % 3, 0].sum(1) for n in range(3)], -1),
    ),
    ("cumsum(x, t)", lambda: X.cumsum(1)),
    ("linear_recurrence(0.5 * ones([b, t, d]), x, over = t)[t = 1]", lambda: X[:, 0] / 2 + X[:, 1]),
    ("unfold(x, t, k: 3)[k = 2]", lambda: X[:, 2:]),
    ("softmax(x, d)", lambda: np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
    ("max(x, d) - min(x, t)[d = 0]", lambda: X.max(-1) - X.min(1)[:, :1]),
    ("float(argmax(x, d))", lambda: X.argmax(-1)),
    ("sort(x, t)[t = 0]", lambda: X.min(1)),
    ("top(x, k: 2, d).values[k = 1]", lambda: np.sort(X, -1)[..., -2]),
]


@pytest.mark.parametrize(("text", "numbers"), EXPRESSIONS, ids=[text for text, _ in EXPRESSIONS])
def test_expression(tmp_path: Path, text: str, numbers: Numbers) -> None:
    path = tmp_path / "expression.xf"
    path.write_text(f"model m()(x: [b, t, d: 12]) -> (y):\n    return {text}\n")
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None and not diagnostics.failed, [d.message for d in diagnostics.found]
    found = run(program, initial_params(program, seed=0), {"x": X})["y"]
    wanted = numbers().astype("float64")
    assert found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-12, atol=1e-12)
