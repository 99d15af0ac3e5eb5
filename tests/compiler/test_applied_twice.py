"""One instance applied twice is one set of weights, and each application does what is written: against a line of NumPy each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xfc.backends.interpreter import initial_params, run
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.verify_ir import verify

X = np.random.default_rng(0).normal(size=(2, 5, 12))
Map = Callable[[np.ndarray], np.ndarray]

#: What the component takes and does with its map `k`; what the model makes of `part`; the same of the map and X.
CASES: list[tuple[str, str, str, Callable[[Map], np.ndarray]]] = [
    ("x: [b, t, d], by", "k(x) * by", "part(x, 2.0) + part(x, 3.0)", lambda k: k(X) * 5),
    ("x: [b, t, d], by", "k(x) * by", "part(x, by = 0.5) + part(x, x)", lambda k: k(X) * (0.5 + X)),
    ("x: [b, t, d], by = none", "k(x) if by == none else k(by)", "part(x) + part(x, -x)", lambda k: k(X) + k(-X)),
    ("x: [b, t, d]", "k(float(x // 2))", "part(x) + part(int(x))", lambda k: k(X // 2) + k(X.astype(int) // 2.0)),
    ("x: [..., d]", "k(x) * index(d)", "part(x) + part(x[t = 0])", lambda k: (k(X) + k(X[:, :1])) * np.arange(12)),
    ("x: [b, t, d]", "k(x) * index(t) / t", "sum(part(x[t = 0 .. 3]), t) + sum(part(x), t)", lambda k: lasting(k, X[:, :3]) + lasting(k, X)),
    ("x: [b, t, d]", "k(x) * index(t) / t", "sum(part(x), t) + sum(part(x[t = 1 ..]), t)", lambda k: lasting(k, X) + lasting(k, X[:, 1:])),
    ("x: [b, t, d]", "k(x)[t = 1]", "part(x) + part(concat(x, x, over = t))", lambda k: 2 * k(X)[:, 1]),
]  # fmt: skip


def lasting(k: Map, x: np.ndarray) -> np.ndarray:
    """Of [b, t, d]: the sum over t of k(x) * t / length."""
    length = x.shape[1]
    return (k(x) * np.arange(length)[:, None] / length).sum(1)


def program_of(path: Path, inputs: str, body: str, result: str) -> ir.Program:
    text = f"component turn({inputs}) -> (y):\n    k = linear(d)\n    return {body}\n"
    path.write_text(f"{text}\nmodel m()(x: [b, t, d: 12]) -> (y):\n    part = turn\n    return {result}\n")
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None and not diagnostics.failed, [d.message for d in diagnostics.found]
    verify(program)
    return program


@pytest.mark.parametrize(("inputs", "body", "result", "numbers"), CASES, ids=[f"{body}: {result}" for _, body, result, _ in CASES])
def test_each_application_does_what_is_written(
    tmp_path: Path, inputs: str, body: str, result: str, numbers: Callable[[Map], np.ndarray]
) -> None:
    program = program_of(tmp_path / "spec.xf", inputs, body, result)
    params = initial_params(program, seed=0)
    (weight,) = params.values()
    found = run(program, params, {"x": X})["y"]
    wanted = numbers(lambda x: x @ weight.T)
    assert found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("result", ["part(x) + part(-x)", "sum(part(x), t) + sum(part(x[t = 1 ..]), t)"])
def test_applications_that_do_the_same_are_one_module(tmp_path: Path, result: str) -> None:
    program = program_of(tmp_path / "spec.xf", "x: [b, t, d]", "k(x) * index(t) / t", result)
    assert [node.target for node in program.root.body if isinstance(node, ir.Call)] == ["part", "part"]
