"""A score that adds several tensors to the scores adds one, which the kernel takes: what it was without, padding, gradients and a cache included."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends.verify_modules import loaded
from xfc.compiler.ir import Program
from xfc.compiler.passes.derive_decoding import derive_decoding
from xfc.compiler.pipeline import run as run_passes

from .test_join_biases import program_of

emitting = import_module("xfc.backends.torch.emit")  # the package has the function under this name

SPEC = """
component decaying(heads, head_dim = d / heads)(x: [b, t, d]) -> [b, t, d]:
    q_proj = linear([heads, head_dim])
    k_proj = linear([heads, head_dim])
    v_proj = linear([heads, head_dim])
    f_proj = linear(heads, bias = true)
    o_proj = linear(d, over = [heads, head_dim])
    c = cumsum(-softplus(-float32(f_proj(x))), t)
    score decay(s, h, i, j) = {score}
    return o_proj(attend(q_proj(x), k_proj(x), v_proj(x), {mask}, decay, head_dim ^ -0.5))

model small = causal_lm:
    vocab = 17
    d_model = 8
    decoder:
        layers = 2
        attention = decaying(heads = 2)
        ffn = gated(hidden = 8)
"""
QUERY, KEY = "c[t = i, heads = h]", "c[t = j, heads = h]"


@pytest.mark.parametrize(
    ("score", "mask"),
    [
        (f"s + {QUERY} - {KEY}", "causal and padding"),
        (f"{QUERY} + s - {KEY} + (j - i)", "causal and padding"),
        (f"s - {KEY} + {QUERY}", "sliding(3) and padding"),
    ],
)
def test_sum_is_added_by_the_kernel(score: str, mask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(SPEC.format(score=score, mask=mask), tmp_path)
    derived = derive_decoding(run_passes(program))
    assert isinstance(derived, Program), derived
    code = emitting.emit(derived)
    for name in ("join_addends", "keep_whole_scores"):
        monkeypatch.setattr(emitting, name, lambda p: p)
    apart = emitting.emit(derived)
    layer = code.split("class Decaying(")[1].split("return self.o_proj")[0]
    assert "scores" not in layer and ("scaled_dot_product_attention" in layer or "window_attention" in layer)
    assert "torch.arange(self.heads" not in layer and ("q_slots" not in layer or "j - i" in score)
    params = interpreter.initial_params(program, 0, "float64", {})
    ids, keep = torch.arange(14).reshape(2, 7), torch.ones(2, 7, dtype=torch.long)
    keep[0, :3] = 0
    with loaded(code, "joined") as one, loaded(apart, "apart") as other:
        models = [module.Model().double() for module in (one, other)]
        for model in models:
            model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        found, plain = (model(ids, keep) for model in models)
        inputs = {"input_ids": ids.numpy(), "attention_mask": keep.numpy()}
        said = next(iter(interpreter.run(program, params, inputs, dtype="float64", under={}).values()))
        assert np.allclose(found.detach().numpy(), said, rtol=1e-9, atol=1e-11)
        grads = [torch.autograd.grad(y.square().sum(), list(m.parameters())) for y, m in zip((found, plain), models, strict=True)]
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        model, cache = models[0], models[0].init_cache(2, 7)
        pieces = [model(ids[:, at], keep[:, at], cache=cache) for at in (slice(0, 3), slice(3, 5), slice(5, 6), slice(6, 7))]
        torch.testing.assert_close(torch.cat(pieces, 1)[1], found[1], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(torch.cat(pieces, 1)[0, 3:], found[0, 3:], rtol=1e-9, atol=1e-11)
        errors = [float((m.bfloat16()(ids, keep).double() - found).detach().abs().mean()) for m in models]
        assert errors[0] < 1.5 * errors[1], "in bfloat16 it is about as exact as scores in float32 are"


def test_what_reads_the_scores_stays_as_it_is(tmp_path: Path) -> None:
    program = program_of(SPEC.format(score=f"s + {QUERY} - s * {KEY}", mask="causal and padding"), tmp_path)
    layer = emitting.emit(run_passes(program)).split("class Decaying(")[1].split("return self.o_proj")[0]
    assert "softmax(-1)" in layer and "scaled_dot_product_attention" not in layer
