"""Neighbours and chosen tokens: blocks with the chosen keys beside them give what one dense mask gives, whoever is chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file

MODEL = """
component sparse(near)(x: [b, t, d], special: [b, t]) -> [b, t, d]:
    heads = linear([heads: 2, e: 4])
    all_heads = linear([heads: 2, e: 4])
    back = linear(d, over = [heads, e])
    chosen = special == 1
    y, z = heads(x), all_heads(x)
    mask nearby(i, j) = abs(i - j) <= near or chosen[t = j]
    local = attend(y, y, y, nearby and padding, scale = 0.5, over = t)
    whole = attend(z, z, z, padding, scale = 0.5, over = t)
    return x + back(where(chosen, whole, local))

model small(d = 8, near = 5)(input_ids: [b, t] int in 17, special: [b, t] int, attention_mask: [b, t] int = 1) -> (y):
    embed = embedding(17, d)
    layers = 2 of sparse(near)
    return layers(embed(input_ids), special)
"""


def choices(length: int, which: str) -> Tensor:
    special = torch.zeros(2, length, dtype=torch.long)
    if which != "none":
        special[:, 0] = 1
    if which == "apart":
        special[0, length // 2] = special[1, length - 1] = special[1, length // 3] = 1
    if which == "all":
        special[:] = 1
    return special


@pytest.mark.parametrize("which", ["none", "first", "apart", "all"])
def test_the_same_as_one_dense_mask(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.xf").write_text(MODEL)
    diagnostics = Diagnostics()
    program = elaborate_file(str(tmp_path / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    code = torch_backend.emit(program)
    assert "near_and_chosen_attention(" in code and "attention_of_chosen(" in code
    params = interpreter.initial_params(program, 0, "float64", {})
    with loaded(code, "chosen") as module:
        model = module.Model().double()
        model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        for length in (9, 150):
            keep = torch.ones(2, length, dtype=torch.long)
            keep[0, -length // 4 :] = 0
            for more in ({}, {"attention_mask": keep}):
                inputs = {"input_ids": torch.arange(2 * length).reshape(2, -1) % 17, "special": choices(length, which), **more}
                y = model(**inputs)
                with monkeypatch.context() as patch:
                    patch.setattr(torch.compiler, "is_compiling", lambda: True)
                    dense = model(**inputs)
                torch.testing.assert_close(y, dense, rtol=1e-9, atol=1e-11)
                said = interpreter.run(program, params, {n: x.numpy() for n, x in inputs.items()}, dtype="float64", under={})
                assert np.allclose(y.detach().numpy(), next(iter(said.values())), rtol=1e-8, atol=1e-10)
                used = list(model.layers.parameters())
                both = [torch.autograd.grad(z.square().sum(), used, allow_unused=True) for z in (y, dense)]
                for a, b in zip(*both, strict=True):
                    torch.testing.assert_close(torch.zeros_like(b) if a is None else a, b, rtol=1e-8, atol=1e-10)
