"""Scans by torch's kernels: only cells that compute what the kernel computes, whatever they are called, forwards and backwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file

LSTM = """
component inner(p: [b, m], r: [b, m], u: [b, four, m]) -> (p: [b, m], r: [b, m], y: [b, m]):
    again = linear([four, m], bias = {bias})
    w0, w1, w2, w3 = unstack(again(p) + u, four)
    r = {cell}
    p = tanh(r) * sigmoid(w3)
    return p, r, p

model small(m = 5, inside = 3)(x: [b, t, inside]) -> (y):
    first = linear([four: 4, m], bias = {bias})
    step = inner()
    p, r, y = scan(step, zeros([b, m]), zeros([b, m]), first(x), over = t, reverse = {reverse})
    return y + p + r
"""
GRU = """
component inner(p: [b, m], u: [b, three, m]) -> (p: [b, m], y: [b, m]):
    again = linear([three, m], bias = {bias})
    a, c, n = unstack(u, three)
    a_own, c_own, n_own = unstack(again(p), three)
    keep = sigmoid(c_own + c)
    p = {cell}
    return p, p

model small(m = 5, inside = 3)(x: [b, t, inside]) -> (y):
    first = linear([three: 3, m], bias = {bias})
    step = inner()
    p, y = scan(step, zeros([b, m]), first(x), over = t, reverse = {reverse})
    return y + p
"""
KEEPING = "sigmoid(w0) * tanh(w2) + r * sigmoid(w1)"
OTHER_GATES = "sigmoid(w1) * tanh(w2) + r * sigmoid(w0)"
MIXING = "keep * p + (1 - keep) * tanh(n + sigmoid(a + a_own) * n_own)"
RESET_FIRST = "keep * p + (1 - keep) * tanh(n + n_own)"


@pytest.mark.parametrize(
    ("text", "cell", "function"),
    [
        (LSTM, KEEPING, "torch.lstm("),
        (LSTM, OTHER_GATES, None),
        (GRU, MIXING, "torch.gru("),
        (GRU, RESET_FIRST.replace("n_own", "a_own * n_own + a"), None),
    ],
    ids=["lstm", "other_gates", "gru", "reset_first"],
)
@pytest.mark.parametrize(("bias", "reverse"), [("true", "false"), ("false", "true")], ids=["biased", "reverse"])
def test_kernels_mean_what_the_cell_says(text: str, cell: str, function: str | None, bias: str, reverse: str, tmp_path: Path) -> None:
    (tmp_path / "spec.xf").write_text(text.format(bias=bias, cell=cell, reverse=reverse))
    diagnostics = Diagnostics()
    program = elaborate_file(str(tmp_path / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    code = torch_backend.emit(program)
    assert ("torch.lstm(" in code or "torch.gru(" in code) == (function is not None)
    assert function is None or function in code
    params = interpreter.initial_params(program, 0, "float64", {})
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    with loaded(code, "recurrent") as module:
        model = module.Model().double()
        model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        y = model(x)
        said = interpreter.run(program, params, {"x": x.numpy()}, dtype="float64", under={})
        assert np.allclose(y.detach().numpy(), next(iter(said.values())), rtol=1e-9, atol=1e-11)
        name, weight = next((n, p) for n, p in model.named_parameters() if n.startswith("step"))
        (grad,) = torch.autograd.grad(y.square().sum(), [weight])
        step, by_hand = 1e-6, []
        for sign in (1, -1):
            moved = {**params, name: params[name] + sign * step * np.eye(1, params[name].size, 3).reshape(params[name].shape)}
            result = interpreter.run(program, moved, {"x": x.numpy()}, dtype="float64", under={})
            by_hand.append(float(np.square(next(iter(result.values()))).sum()))
        assert abs(float(grad.flatten()[3]) - (by_hand[0] - by_hand[1]) / (2 * step)) < 1e-5
