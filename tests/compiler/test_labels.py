"""What names of axes mean: a signature's are different axes, a declared result's and a bound result's are those in scope."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from xfc.backends.interpreter import run
from xfc.backends.interpreter.parameters import initial_params
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program

Array = NDArray[np.float64]
RNG = np.random.default_rng(0)


def elaborated(folder: Path, text: str) -> tuple[Program | None, list[str]]:
    path = folder / "labels.xf"
    path.write_text(text, encoding="utf-8")
    diagnostics = Diagnostics()
    return elaborate_file(str(path), [], diagnostics), [d.code for d in diagnostics.found if d.severity == "error"]


def result(folder: Path, text: str, **inputs: Array) -> tuple[Array, dict[str, Array]]:
    program, errors = elaborated(folder, text)
    assert program is not None, errors
    params = initial_params(program, seed=1)
    return run(program, params, inputs)["y"], params


def test_two_names_for_one_axis_are_two_axes(tmp_path: Path) -> None:
    text = """
component pairs(a: [b, t, d], c: [b, s, d]) -> [b, t, s]:
    return sum((a - c) ^ 2, d)

model m(n = 6)(x: [b, t, n]) -> (y):
    f = pairs()
    return f(x, x)
"""
    x = RNG.normal(size=(2, 5, 6))
    y, _ = result(tmp_path, text, x=x)
    np.testing.assert_allclose(y, ((x[:, :, None] - x[:, None]) ** 2).sum(-1))


@pytest.mark.parametrize("body", ["fn product(a: [b, i, j], c: [b, j, k]) = einsum(a, c, over = j)",
                                  "component product(a: [b, i, j], c: [b, j, k]) -> (y):\n    return einsum(a, c, over = j)"])  # fmt: skip
def test_a_product_binds_by_position(tmp_path: Path, body: str) -> None:
    text = body + "\n\nmodel m(n = 4)(x: [b, n, n']) -> (y):\n    z = x * 2.0\n    return product(x, z)\n"
    x = RNG.normal(size=(3, 4, 4))
    y, _ = result(tmp_path, text, x=x)
    np.testing.assert_allclose(y, x @ x * 2)


def test_a_second_axis_of_one_size_is_an_input(tmp_path: Path) -> None:
    text = "model m(n = 4)(x: [b, n, n']) -> (y: [b, n, n']):\n    return x + transpose(rename(x, n = n', n' = n), [b, n, n'])\n"
    x = RNG.normal(size=(3, 4, 4))
    y, _ = result(tmp_path, text, x=x)
    np.testing.assert_allclose(y, x + x.swapaxes(1, 2))


def test_a_declared_result_has_the_declared_axes(tmp_path: Path) -> None:
    text = """
component twice(x: [b, t, d]) -> [b, t, d]:
    y = unflatten(x, t = [c: t / 2, w: 2])
    return flatten(y * 2, [c, w], u)

model m(n = 3, length = 4)(x: [b, length, n]) -> (y):
    f = twice()
    return x + f(x)
"""
    x = RNG.normal(size=(2, 4, 3))
    y, _ = result(tmp_path, text, x=x)
    np.testing.assert_allclose(y, 3 * x)


def test_a_name_in_scope_makes_an_axis_that_axis(tmp_path: Path) -> None:
    text = """
model m(n = 4)(x: [b, t, n]) -> (y):
    a = linear([half: n])
    z: [b, t, n] = a(x)
    return sum(x + z, n)
"""
    x = RNG.normal(size=(2, 5, 4))
    y, params = result(tmp_path, text, x=x)
    np.testing.assert_allclose(y, (x + np.einsum("btn,hn->bth", x, params["a.weight"])).sum(-1))


def test_a_new_name_is_one_more_name(tmp_path: Path) -> None:
    text = "model m(n = 4)(x: [b, t, n]) -> (y):\n    z: [b, s, c] = x * 2.0\n    return sum(z, s) + mean(x, t)\n"
    x = RNG.normal(size=(2, 5, 4))
    y, _ = result(tmp_path, text, x=x)
    np.testing.assert_allclose(y, 2 * x.sum(1) + x.mean(1))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("model m(n = 6)(x: [b, t, n]) -> (y):\n    a = linear(8)\n    c = linear(9)\n    return a(x) * c(x)\n", "E222"),
        ("component f(x: [..., d]) -> [..., d]:\n    w = param([k: 3])\n    return x * w\n\n"
         "model m(n = 4)(x: [b, t, n]) -> (y):\n    g = f()\n    return g(x)\n", "E349"),
        ("model m(n = 4)(x: [b, t, n]) -> (y):\n    z: [b, n, n] = x\n    return z\n", "E347"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, code: str) -> None:
    program, errors = elaborated(tmp_path, text)
    assert program is None and errors == [code]
