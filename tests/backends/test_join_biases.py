"""A bias and a mask that all layers share are one tensor, made once: what the interpreter says, with and without padding, gradients included."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.pipeline import run as run_passes

emitting = import_module("xfc.backends.torch.emit")  # the package has the function under this name

SPEC = """
component layer(seen, distance)(x: [b, t, d]) -> [b, t, d]:
    norm = rms_norm
    inner = grouped_query(heads = 4, kv_heads = 2, mask = seen, score = distance)
    return x + inner(norm(x))

component stacked(seen, distance)(x: [b, t, d]) -> [b, t, d]:
    shared distance = distance
    layers = 3 of layer(seen, distance)
    return layers(x)

model small(d = 8)(input_ids: [b, t] int in 17, attention_mask: [b, t] int = 1) -> (y):
    embed = embedding(17, d)
    layers = stacked({mask}, {score})
    {more}
    return layers(embed(input_ids))
"""


def program_of(text: str, folder: Path) -> Program:
    (folder / "spec.xf").write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    return program


@pytest.mark.parametrize("score", ["bucketed_bias(heads = 4)", "alibi(heads = 4)"])
@pytest.mark.parametrize("mask", ["padding", "causal and padding", "causal"])
def test_one_tensor_for_all_layers(mask: str, score: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(SPEC.format(mask=mask, score=score, more="positions = index(t)" if "alibi" in score else ""), tmp_path)
    code = emitting.emit(run_passes(program))
    monkeypatch.setattr(emitting, "join_biases", lambda p, _: p)
    apart = emitting.emit(run_passes(program))
    assert code.count("masked_fill(") == apart.count("masked_fill(") == 1
    params = interpreter.initial_params(program, 0, "float64", {})
    ids = torch.arange(14).reshape(2, 7)
    keep = torch.ones(2, 7, dtype=torch.long)
    keep[0, :3] = 0
    with loaded(code, "joined") as one, loaded(apart, "apart") as other:
        models = [module.Model().double() for module in (one, other)]
        for model in models:
            model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        assert "masked_fill(" not in code.split("class Layer(")[0].split("class GroupedQuery(")[-1]
        for inputs in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": keep}):
            if "attention_mask" in inputs and "padding" not in mask:
                continue
            found, plain = (model(**inputs) for model in models)
            said = interpreter.run(program, params, {n: x.numpy() for n, x in inputs.items()}, dtype="float64", under={})
            assert np.allclose(found.detach().numpy(), next(iter(said.values())), rtol=1e-9, atol=1e-11)
            grads = [torch.autograd.grad(y.square().sum(), list(m.parameters())) for y, m in zip((found, plain), models, strict=True)]
            for a, b in zip(*grads, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
