"""Cached decoding in generated NumPy: a call at a time equals all at once, for every model whose causality is proved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xfc.backends import interpreter
from xfc.backends.numpy import emit
from xfc.backends.verify_inputs import Inputs, input_sets
from xfc.backends.verify_modules import NumpyModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.pipeline import run

from ..compiler.test_decoding import ASIDE, DECODED, DECODED_OPEN, SHARED_LAYER

OPEN = Path(__file__).parents[1] / "open"
QUICK = {"gemma3_1b", "bamba_9b", "t5_small", "deepseek_v3", "token_shift", "performer"}


def shrunk(path: str) -> Shrunk:
    program = elaborate_file(path, [], diagnostics := Diagnostics())
    assert program is not None and not diagnostics.failed, diagnostics.found
    return shrink(program)


def parts_of(program: ir.Program, inputs: Inputs, lengths: list[int]) -> list[Inputs]:
    """The inputs of calls of some lengths: the tokens in turn, what does not run along them in each."""
    assert program.decoding is not None
    found: list[Inputs] = []
    start = 0
    for length in lengths:
        part: Inputs = {}
        for item in program.inputs:
            at = next((k for k, a in enumerate(item.value.type.axes) if program.decoding.rows in a.size.symbols), None)
            if item.name in inputs:
                part[item.name] = inputs[item.name] if at is None else np.take(inputs[item.name], range(start, start + length), axis=at)
        found.append(part)
        start += length
    return found


def compare(chosen: Shrunk) -> None:
    program = derive_decoding(chosen.program)
    assert not isinstance(program, Refusal), program
    assert program.decoding is not None
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    params = interpreter.initial_params(chosen.program, 0, np.float64, under)
    names = tuple(n or "output" for n in chosen.program.root.output_names) or ("output",)
    total = int(chosen.under[program.decoding.rows])
    with loaded(emit(run(program)), "numpy_decoding") as module:
        config = module.Config(**chosen.config())
        stored = {name: params[name].reshape(shape) for name, shape in module.shapes(config).items()}
        model = NumpyModule(module, stored, config, "float64", names)
        for kind, inputs in input_sets(chosen.program, chosen.under, 0).items():
            want = interpreter.run(chosen.program, params, inputs, under=under)
            plain = model(inputs)
            for name, value in plain.items() if kind != "loss" else ():
                np.testing.assert_allclose(value, want[name], atol=1e-10, rtol=1e-10, err_msg=kind)
            if kind == "loss":
                np.testing.assert_allclose(next(iter(plain.values())), want["loss"], atol=1e-10, rtol=1e-10)
                continue
            for lengths in ([5, *[1] * (total - 5)], [4, *[3] * ((total - 4) // 3), (total - 4) % 3]):
                cache = module.init_cache(stored, 2)
                parts = [model(part, cache=cache) for part in parts_of(program, inputs, [n for n in lengths if n])]
                assert cache.position == total
                assert len(parts[0]) == len(program.decoding.outputs)
                for name in parts[0]:
                    kind_of = program.root.outputs[names.index(name)].type
                    at = next(k for k, a in enumerate(kind_of.axes) if program.decoding.rows in a.size.symbols)
                    found = np.concatenate([p[name] for p in parts], axis=at)
                    np.testing.assert_allclose(found, want[name], atol=1e-10, rtol=1e-10, err_msg=kind)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DECODED + DECODED_OPEN])
def test_step_equals_forward(name: str) -> None:
    path = OPEN / f"{name}.xf"
    compare(shrunk(str(path) if path.exists() else name))


@pytest.mark.parametrize("text", [ASIDE, SHARED_LAYER], ids=["aside", "shared layer"])
def test_written_models(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.xf"
    path.write_text(text)
    compare(shrunk(str(path)))
