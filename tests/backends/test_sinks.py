"""Softmax with a sink: found however it is written, computed by a kernel on one more key, and what the interpreter says, with the gradients of the softmax written out."""

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
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.ir import Program

SPEC = """
weights shares(heads)(s: [b, h, t, j]) -> [b, h, t, j]:
    sink = param([heads], init = normal(2.0))
    z = rename(sink, heads = h)
    {shares}

component sums(x: [b, t, d]) -> [b, t, d]:
    query = linear([heads: 4, e: 3])
    key = linear([heads: 4, e: 3])
    value = linear([heads: 4, f: 5])
    back = linear(d, over = [heads, f])
    return x + back(attend(query(x), key(x), value(x), {mask}, {score}, 0.7, shares(4), over = t))

model small(d = 8)(input_ids: [b, t] int in 17, attention_mask: [b, t] int = 1) -> (y):
    embed = embedding(17, d)
    layers = 2 of sums
    return layers(embed(input_ids))
"""
FORMS = {
    "rows": "row = maximum(max(s, j), z)\n    e = exp(s - row)\n    return e / (sum(e, j) + exp(z - row))",
    "other way round": "row = max(s, j)\n    e = exp(s - row)\n    return e / (exp(z - row) + sum(e, j))",
    "no rows": "e = exp(s)\n    return e / (sum(e, j) + exp(z))",
    "behind": "return softmax(concat(s, expand(z, [b, t, j: 1]), over = j), j)[j = 0 .. -1]",
    "in front": "return softmax(concat(expand(z, [b, t, j: 1]), s, over = j), j)[j = 1 ..]",
    "zero": "return softmax(concat(s, zeros([b, h, t, j: 1]), over = j), j)[j = .. -1]",
}
NO_SINKS = {
    "times a number": "return softmax(concat(s, expand(z, [b, t, j: 1]), over = j), j)[j = .. -1] * 2",
    "another row": "row = max(s, j)\n    return exp(s - row) / (sum(exp(s - row), j) + exp(z - 2 * row))",
    "of the scores": "row = max(s, j)\n    e = exp(s - row)\n    return e / (sum(e, j) + exp(mean(e, j) + z - row))",
    "summed twice": "e = exp(s)\n    return e / (sum(e, j) + sum(e, j) + exp(z))",
    "another sum": "e = exp(s)\n    return e / (sum(exp(s / 2), j) + exp(z))",
    "a key": "return softmax(concat(s, expand(z, [b, t, j: 1]), over = j), j)[j = 1 ..]",
}
MASKS = ("causal", "none", "padding", "sliding(3) and padding")


def program_of(folder: Path, shares: str, mask: str = "causal", score: str = "none") -> Program:
    (folder / "spec.xf").write_text(SPEC.format(shares=shares, mask=mask, score=score))
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    return program


def written_out(
    q: Tensor, k: Tensor, v: Tensor, sink: Tensor, mask: Tensor | None, scale: float, is_causal: bool = False, both_sides: bool = False
) -> Tensor:
    """What the helper is to give."""
    scores = q @ k.mT * scale
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask.squeeze(-3) if mask.dim() % 2 else ~mask, float("-inf"))
    sink = sink.expand(scores.shape[:-1])[..., None]
    highest = scores.amax(-1, keepdim=True).maximum(sink)
    e = (scores - highest).exp()
    return e / (e.sum(-1, keepdim=True) + (sink - highest).exp()) @ v


@pytest.mark.parametrize(("form", "mask"), [*((f, "causal and padding") for f in FORMS), *(("behind", m) for m in MASKS)])
def test_a_sink_is_one_more_key(form: str, mask: str, tmp_path: Path) -> None:
    program = program_of(tmp_path, FORMS[form], mask)
    code, _ = emit_with_cache(program, torch_backend.emit)
    assert "attention_with_sink(" in code and "softmax(concat" not in code
    params = interpreter.initial_params(program, 0, "float64", {})
    ids, keep = torch.randint(0, 17, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    keep[0, :4] = 0
    with loaded(code, "sinks") as module:
        model = module.Model().double()
        model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        for inputs in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": keep} if "padding" in mask else {}):
            if not inputs:
                continue
            found = model(**inputs)
            said = interpreter.run(program, params, {n: x.numpy() for n, x in inputs.items()}, dtype="float64", under={})
            assert np.allclose(found.detach().numpy(), next(iter(said.values())), rtol=1e-9, atol=1e-11)
            by_kernel = module.attention_with_sink
            module.__dict__["attention_with_sink"] = written_out
            wanted = model(**inputs)
            module.__dict__["attention_with_sink"] = by_kernel
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
            ways = [torch.autograd.grad(y.square().sum(), list(model.parameters()), allow_unused=True) for y in (found, wanted)]
            for (name, _), a, b in zip(model.named_parameters(), *ways, strict=True):
                assert (a is None) == (b is None) == (form == "zero" and "sink" in name)
                if a is not None:
                    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("form", NO_SINKS)
def test_what_is_no_sink(form: str, tmp_path: Path) -> None:
    assert "with_sink(" not in emit_with_cache(program_of(tmp_path, NO_SINKS[form]), torch_backend.emit)[0]


@pytest.mark.parametrize("mask", ["causal and padding", "sliding(3)"])
def test_scores_that_no_kernel_computes(mask: str, tmp_path: Path) -> None:
    program = program_of(tmp_path, FORMS["behind"], mask, "soft_cap(2.0)")
    code, _ = emit_with_cache(program, torch_backend.emit)
    assert "softmax_with_sink(" in code and "attention_with_sink(" not in code
    params = interpreter.initial_params(program, 0, "float64", {})
    ids = torch.randint(0, 17, (2, 9))
    with loaded(code, "capped_sinks") as module, torch.no_grad():
        model = module.Model().double()
        model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        said = interpreter.run(program, params, {"input_ids": ids.numpy()}, dtype="float64", under={})
        assert np.allclose(model(ids).numpy(), next(iter(said.values())), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mask", ["causal and padding", "sliding(3) and padding"])
def test_tokens_that_go_on_from_others(mask: str, tmp_path: Path) -> None:
    code, _ = emit_with_cache(program_of(tmp_path, FORMS["behind"], mask), torch_backend.emit)
    ids, keep = torch.randint(0, 17, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    keep[1, :2] = 0
    with loaded(code, "sinks_go_on") as module, torch.no_grad():
        model = module.Model().double()
        for whole, given in ((model(ids), None), (model(ids, attention_mask=keep), keep)):
            for parts in ((1, 4, 1, 3), (5, 1, 1, 1, 1)):
                cache, found, start = model.init_cache(2, 9), [], 0
                for part in ids.split(list(parts), 1):
                    end = start + part.shape[1]
                    found.append(model(part, attention_mask=None if given is None else given[:, start:end], cache=cache))
                    start = end
                torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    """Large sinks, in a width whose scale is no power of two."""
    code, _ = emit_with_cache(program_of(tmp_path, FORMS["rows"]), torch_backend.emit)
    with loaded(code, "low_sinks") as module:
        q, k, v = (torch.randn(2, 4, 33, 24, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(3))
        sink = torch.tensor([-8.0, 0.3, 3.1, 8.7], dtype=dtype)[:, None].requires_grad_()
        inputs = (q, k, v, sink)
        found = module.attention_with_sink(*inputs, None, 24**-0.5, is_causal=True)
        wanted = written_out(q.double(), k.double(), v.double(), sink.double(), None, 24**-0.5, is_causal=True)
        for a, b in zip((found, *torch.autograd.grad(found.double().square().sum(), inputs)),
                        (wanted, *torch.autograd.grad(wanted.square().sum(), inputs)), strict=True):  # fmt: skip
            assert (a.double() - b.double()).norm() <= 0.02 * b.double().norm()
