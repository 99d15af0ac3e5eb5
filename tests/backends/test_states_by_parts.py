"""States that a product alone reads, a part of the steps after the other: what the interpreter says, from any state, with the gradients of all steps at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.ir import Program

SPEC = """
component remembers(state)(x: [b, t, d]) -> [b, t, d]:
    key = linear([s: state])
    {body}

model small = causal_lm:
    vocab = 17
    d_model = 6
    decoder:
        layers = 2
        attention = remembers(4)
        ffn = gated(hidden = 5)
"""
RATES, QUERY, GATE = "rates = param([d, s: state], init = normal(0.5))", "query = linear([s: state])", "gate = linear(d, true)"
ADDED, READ = "x * key(x), over = t)", "return einsum(h, query(x), over = s)"
BODIES = {
    "selective": (
        RATES,
        QUERY,
        GATE,
        "back = linear(d)",
        "decay = exp(-exp(float32(rates)) * softplus(gate(x)))",
        "h = linear_recurrence(decay, float32(x) * key(x), over = t)",
        "return back(like(einsum(h, query(x), over = s), x))",
    ),
    "of both signs": (RATES, QUERY, GATE, f"h = linear_recurrence(tanh(rates * gate(x)), {ADDED}", READ),
    "read by a parameter": (RATES, GATE, f"h = linear_recurrence(sigmoid(rates + gate(x)), {ADDED}", "return einsum(h, rates, over = s)"),
    "factors at hand": (QUERY, GATE, "h = linear_recurrence(cos(gate(x)), sin(x * key(x)), over = t)", READ),
}
OTHERWISE = {
    "read twice": (RATES, QUERY, GATE, f"h = linear_recurrence(tanh(rates * gate(x)), {ADDED}", f"{READ} + sum(h, s)"),
    "factors of all steps": (RATES, QUERY, f"h = linear_recurrence(tanh(rates), {ADDED}", READ),
}  # fmt: skip


def program_of(folder: Path, body: Sequence[str]) -> Program:
    (folder / "spec.xf").write_text(SPEC.format(body="\n    ".join(body)))
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    return program


@pytest.mark.parametrize("body", BODIES)
def test_parts_are_all_steps(body: str, tmp_path: Path) -> None:
    program = program_of(tmp_path, BODIES[body])
    code, _ = emit_with_cache(program, torch_backend.emit)
    assert "states_by_parts(read" in code
    params = interpreter.initial_params(program, 0, "float64", {})
    ids = torch.randint(0, 17, (2, 13))
    with loaded(re.sub(r"else 256\n", "else 4\n", code), "parts") as parts, loaded(code, "whole") as whole:
        models = [m.Model().double() for m in (parts, whole)]
        for model in models:
            model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        found, wanted = (model(ids) for model in models)
        said = interpreter.run(program, params, {"input_ids": ids.numpy()}, dtype="float64", under={})
        assert np.allclose(found.detach().numpy(), next(iter(said.values())), rtol=1e-9, atol=1e-11)
        ways = [torch.autograd.grad(y.square().sum(), list(m.parameters())) for y, m in zip((found, wanted), models, strict=True)]
        for a, b in zip(*ways, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
        with torch.no_grad():
            for lengths in ((13,), (6, 1, 6), (1, 12)):
                cache = models[0].init_cache(2, 13)
                each = [models[0](part, cache=cache) for part in ids.split(list(lengths), 1)]
                torch.testing.assert_close(torch.cat(each, 1), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("body", OTHERWISE)
def test_what_is_read_otherwise(body: str, tmp_path: Path) -> None:
    assert "states_by_parts(" not in emit_with_cache(program_of(tmp_path, OTHERWISE[body]), torch_backend.emit)[0]


def test_states_of_a_part_alone_are_remembered(tmp_path: Path) -> None:
    code, _ = emit_with_cache(program_of(tmp_path, BODIES["selective"]), torch_backend.emit)
    largest = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        largest.append(x.numel())
        return x

    with loaded(code, "long_parts") as module:
        model, ids = module.Model(), torch.randint(0, 17, (1, 1024))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = model(ids, labels=ids)
        assert max(largest) < 1024 * 6 * 4 == 1024 * 24  # width times states
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_one_graph_for_any_length(tmp_path: Path) -> None:
    code, _ = emit_with_cache(program_of(tmp_path, BODIES["selective"]), torch_backend.emit)
    with loaded(code, "compiled_parts") as module:
        model = module.Model().double()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        ids = torch.randint(0, 17, (2, 21))
        one, other = (m(ids) for m in (model, compiled))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        ways = [torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (one, other)]
        for a, b in zip(*ways, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
