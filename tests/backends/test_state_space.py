"""Recurrences of outer products by chunks: the same as step by step, over several chunks, from any state, and a part at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional
from torch import Tensor

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.torch.state_space import HELPER
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run as run_passes

GATED = """
model gated(width = 6, wide = 5, inner = 3)(x: [b, t, width]) -> (y):
    key = linear([n: inner])
    query = linear([n: inner])
    value = linear([p: wide])
    gate = linear([h: 2])
    decay = {decay}
    memory = linear_recurrence(decay, value(x) * key(x), over = t)
    return einsum(memory, query(x), over = n)
"""


def by_steps(decay: Tensor, u: Tensor, key: Tensor, query: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    ys = []
    for t in range(u.shape[-2]):
        h = decay[..., t, None, None] * h + key[..., t, :, None] * u[..., t, None, :]
        ys.append((query[..., t, :, None] * h).sum(-2))
    return torch.stack(ys, -2), h


@pytest.mark.parametrize("length", [1, 7, 64, 150])
def test_chunks_are_steps(length: int) -> None:
    space: dict[str, Any] = {"torch": torch, "Tensor": Tensor, "F": torch.nn.functional}
    exec("from __future__ import annotations\n" + HELPER, space)
    torch.manual_seed(length)
    decay = torch.rand(2, 3, length, dtype=torch.float64) ** 4
    decay[..., ::5] = 0.0  # forgets everything
    u, key, query = (torch.randn(2, 3, length, n, dtype=torch.float64) for n in (5, 4, 4))
    start = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (u, key, query, start)]
    found, wanted = space["state_space"](decay, u, key, query, start), by_steps(decay, u, key, query, start)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y, _ in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("decay", "chunked"), [("sigmoid(gate(x))", True), ("exp(-exp(gate(x)))", True), ("tanh(gate(x))", False)])
def test_only_factors_that_are_surely_positive(decay: str, chunked: bool, tmp_path: Path) -> None:
    path = tmp_path / "gated.xf"
    path.write_text(GATED.format(decay=decay))
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    code = torch_backend.emit(run_passes(program))
    assert ("state_space(" in code) == chunked
    with loaded(code, "gated_recurrence") as module:
        model, x = module.Model().double(), torch.randn(2, 100, 6, dtype=torch.float64)
        parts = {"sigmoid": torch.sigmoid, "exp": lambda g: torch.exp(-torch.exp(g)), "tanh": torch.tanh}
        factor = parts[decay.split("(")[0]](model.gate(x)).mT
        u, key, query = (m(x)[:, None].expand(-1, 2, -1, -1) for m in (model.value, model.key, model.query))
        wanted, _ = by_steps(factor, u, key, query, torch.zeros(2, 2, 3, 5, dtype=torch.float64))
        torch.testing.assert_close(model(x), wanted.permute(0, 2, 3, 1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("sums", "chunked"),
    [
        ("cumsum(value(x) * key(x), t)", True),
        ("linear_recurrence(1 - 2.0 ^ (-5 - float32(index(h: 2))), value(x) * key(x), over = t)", True),
        ("linear_recurrence(1 - 2.0 ^ float32(index(h: 2)), value(x) * key(x), over = t)", False),
    ],
    ids=["sums", "fixed", "negative"],
)
def test_sums_and_factors_within_bounds(sums: str, chunked: bool, tmp_path: Path) -> None:
    path = tmp_path / "sums.xf"
    text = GATED.replace("    gate = linear([h: 2])\n    decay = {decay}\n", "")
    path.write_text(text.replace("linear_recurrence(decay, value(x) * key(x), over = t)", sums))
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    code = torch_backend.emit(run_passes(program))
    assert ("state_space(" in code) == chunked
    params = interpreter.initial_params(program, 0, "float64", {})
    x = torch.randn(2, 130, 6, dtype=torch.float64)
    with loaded(code, "sums") as module:
        model = module.Model().double()
        model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        if not chunked:
            x = x[:, :5]
        said = interpreter.run(program, params, {"x": x.numpy()}, dtype="float64", under={})
        torch.testing.assert_close(model(x), torch.from_numpy(next(iter(said.values()))), rtol=1e-8, atol=1e-10)
