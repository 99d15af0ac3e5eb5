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
from xfc.backends.torch.helpers import chosen_helpers
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
    decay = decay if decay.ndim == u.ndim else decay[..., None]
    for t in range(u.shape[-2]):
        h = decay[..., t, :, None] * h + key[..., t, :, None] * u[..., t, None, :]
        ys.append((query[..., t, :, None] * h).sum(-2))
    return torch.stack(ys, -2), h


def by_chunks(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    space: dict[str, Any] = {"torch": torch, "Tensor": Tensor, "F": torch.nn.functional}
    exec("from __future__ import annotations\n" + "\n".join(chosen_helpers({"state_space", "feature_state_space"})), space)
    found: tuple[Tensor, Tensor] = space["feature_state_space" if inputs[0].ndim == inputs[1].ndim else "state_space"](*inputs)
    return found


@pytest.mark.parametrize("by_feature", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 64, 150])
def test_chunks_are_steps(length: int, by_feature: bool) -> None:
    torch.manual_seed(length)
    decay = torch.rand(2, 3, length, *([4] if by_feature else []), dtype=torch.float64) ** 4
    decay[:, :, ::5] = 0.0  # forgets everything
    u, key, query = (torch.randn(2, 3, length, n, dtype=torch.float64) for n in (5, 4, 4))
    start = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    _assert_same(decay, u, key, query, start, rtol=1e-10, atol=1e-11)
    decay = decay.clamp(min=1e-9).requires_grad_()
    _assert_same(decay, u, key, query, start, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 150, 1100])
def test_sums_are_steps_that_keep_all(length: int) -> None:
    """Without a state before and with one; without gradients 1,100 tokens are three parts."""
    space: dict[str, Any] = {"torch": torch, "Tensor": Tensor, "F": torch.nn.functional}
    exec("from __future__ import annotations\n" + "\n".join(chosen_helpers({"outer_sums"})), space)
    torch.manual_seed(length)
    u, key, query = (torch.randn(1, length, 2, n, dtype=torch.float64).transpose(1, 2).requires_grad_() for n in (5, 4, 4))
    for start in (None, torch.randn(1, 2, 4, 5, dtype=torch.float64)):
        y, h = space["outer_sums"](u, key, query, start)
        added = key[..., None] * u[..., None, :]
        states = added.cumsum(2) + (0 if start is None else start[:, :, None])
        wanted = (query[..., None, :] @ states).squeeze(-2)
        assert torch.allclose(y, wanted, rtol=1e-10, atol=1e-9)
        assert torch.allclose(h, states[:, :, -1], rtol=1e-10, atol=1e-9)
        with torch.no_grad():
            assert all(
                torch.allclose(a, b, rtol=1e-10, atol=1e-9) for a, b in zip(space["outer_sums"](u, key, query, start), (y, h), strict=True)
            )
        got, want = (torch.autograd.grad((z * torch.arange(5.0)).mean(), (u, key, query), retain_graph=True) for z in (y, wanted))
        assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("factor", [0.0, 1e-38, 1e-3, 1 - 2**-24], ids=["forgets", "tiny", "small", "keeps"])
def test_strong_factors_by_feature_in_float32(factor: float) -> None:
    torch.manual_seed(0)
    decay = torch.rand(1, 2, 130, 4)
    decay[..., ::2] = factor  # over all of the sequence, beside others
    decay[..., 64:128, :] = factor  # and over a chunk
    others = [torch.randn(1, 2, *shape) for shape in ((130, 5), (130, 4), (130, 4), (4, 5))]
    each = []
    for run, dtype in ((by_chunks, torch.float32), (by_steps, torch.float64)):
        inputs = [x.to(dtype).requires_grad_(x is not decay or factor > 1e-37) for x in (decay, *others)]
        y, h = run(*inputs)
        each.append((y, h, *torch.autograd.grad(y.square().sum() + h.square().sum(), [x for x in inputs if x.requires_grad])))
    for a, b in zip(*each, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5 * float(b.detach().abs().max()))


@pytest.mark.parametrize(("length", "width"), [*((n, 3) for n in (0, 1, 2, 8, 9, 64, 65, 150)), (2, 600), (30, 600)])
def test_parts_are_steps(length: int, width: int) -> None:
    """Factors of both signs, none, and such as are the same for all columns; from 1,024 numbers on each step is written in its place."""
    space: dict[str, Any] = {"torch": torch, "Tensor": Tensor, "F": torch.nn.functional}
    exec("from __future__ import annotations\n" + "\n".join(chosen_helpers({"linear_recurrence_from"})), space)
    torch.manual_seed(length)
    a = torch.randn(2, length, 1, dtype=torch.float64)
    a[:, ::5] = 0.0
    b, start = torch.randn(2, length, width, dtype=torch.float64), torch.randn(2, width, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (a, b, start)]
    for first in (start if length else None, None):
        h, steps = torch.zeros_like(start) if first is None else first, []
        for t in range(length):
            h = a[:, t] * h + b[:, t]
            steps.append(h)
        wanted = torch.stack(steps, 1) if length else b
        found = space["linear_recurrence"](a, b, 1, None if first is None else first[None])
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
        each = [torch.autograd.grad(y.sin().sum(), inputs, materialize_grads=True) for y in (found, wanted)]
        for x, y in zip(*each, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("helper", ["linear_recurrence", "linear_recurrence_from"])
def test_long_recurrences_are_steps_without_gradients_too(helper: str) -> None:
    """2,500 steps are three lots, in which nothing but the states is kept."""
    space: dict[str, Any] = {"torch": torch, "Tensor": Tensor, "F": torch.nn.functional}
    exec("from __future__ import annotations\n" + "\n".join(chosen_helpers({helper})), space)
    torch.manual_seed(0)
    a, b, start = (torch.randn(*size, dtype=torch.float64) for size in ((2, 2500, 1), (2, 2500, 3), (2, 3)))
    a = a.tanh().requires_grad_()
    for first in (start, None) if helper == "linear_recurrence_from" else (None,):
        given = () if helper == "linear_recurrence" else (first,)
        wanted = space["linear_recurrence"](a, b, 1, *given)
        h = torch.zeros_like(start) if first is None else first
        for t in range(3):
            h = a[:, t] * h + b[:, t]
        torch.testing.assert_close(wanted[:, 2], h)
        with torch.no_grad():
            torch.testing.assert_close(space["linear_recurrence"](a, b, 1, *given), wanted, rtol=1e-11, atol=1e-11)


def _assert_same(decay: Tensor, *others: Tensor, rtol: float, atol: float) -> None:
    """By chunks as by steps: the results, and the gradients of all inputs that have some."""
    inputs = [x for x in (decay, *others) if x.requires_grad] + [x.requires_grad_() for x in others if not x.requires_grad]
    found, wanted = by_chunks(decay, *others), by_steps(decay, *others)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
    each = [torch.autograd.grad(y.square().sum() + h.square().sum(), inputs) for y, h in (found, wanted)]
    for a, b in zip(*each, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("decay", "chunked"),
    [("sigmoid(gate(x))", True), ("exp(-exp(gate(x)))", True), ("sigmoid(gate(x)) ^ 0.25", True), ("tanh(gate(x))", False)],
)
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
        factor = parts[decay.split("(")[0]](model.gate(x)).mT ** (0.25 if "^" in decay else 1)
        u, key, query = (m(x)[:, None].expand(-1, 2, -1, -1) for m in (model.value, model.key, model.query))
        wanted, _ = by_steps(factor, u, key, query, torch.zeros(2, 2, 3, 5, dtype=torch.float64))
        torch.testing.assert_close(model(x), wanted.permute(0, 2, 3, 1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("sums", "called"),
    [
        ("cumsum(value(x) * key(x), t)", "outer_sums("),
        ("linear_recurrence(1 - 2.0 ^ (-5 - float32(index(h: 2))), value(x) * key(x), over = t)", "state_space("),
        ("linear_recurrence(sigmoid(query(x)), value(x) * key(x), over = t)", "feature_state_space("),
        ("linear_recurrence(1 - 2.0 ^ (-5 - float32(index(n: inner))), value(x) * key(x), over = t)", "feature_state_space("),
        ("linear_recurrence(1 - 2.0 ^ float32(index(h: 2)), value(x) * key(x), over = t)", "linear_recurrence("),
        ("linear_recurrence(sigmoid(value(x)), value(x) * key(x), over = t)", "linear_recurrence("),
    ],
    ids=["sums", "fixed", "by feature", "fixed by feature", "negative", "by column"],
)
def test_sums_and_factors_within_bounds(sums: str, called: str, tmp_path: Path) -> None:
    path = tmp_path / "sums.xf"
    text = GATED.replace("    gate = linear([h: 2])\n    decay = {decay}\n", "")
    path.write_text(text.replace("linear_recurrence(decay, value(x) * key(x), over = t)", sums))
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    code = torch_backend.emit(run_passes(program))
    assert f" {called}" in code
    params = interpreter.initial_params(program, 0, "float64", {})
    x = torch.randn(2, 130, 6, dtype=torch.float64)
    with loaded(code, "sums") as module:
        model = module.Model().double()
        model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        if called == "linear_recurrence(":
            x = x[:, :5]
        said = interpreter.run(program, params, {"x": x.numpy()}, dtype="float64", under={})
        torch.testing.assert_close(model(x), torch.from_numpy(next(iter(said.values()))), rtol=1e-10, atol=1e-10)
