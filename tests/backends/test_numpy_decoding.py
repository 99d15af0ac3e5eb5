"""Cached decoding in generated NumPy: a call at a time equals all at once, for every model whose causality is proved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xfc.backends import interpreter
from xfc.backends.numpy import emit
from xfc.backends.verify_decoding import calls_of
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import NumpyModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler.pipeline import run

from ..compiler.test_decoding import ASIDE, CARRIED, SHARED_LAYER, SHORT_AND_LONG
from ..decoding import DECODED, DECODED_OPEN, axis_of, chunks, derived, elaborated, written

QUICK = {"gemma3_1b", "bamba_9b", "t5_small", "deepseek_v3", "token_shift", "performer"}


def compare(chosen: Shrunk) -> None:
    program = derived(chosen.program)
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
            for lengths in (chunks(total, 5, 1), chunks(total, 4, 3)):
                cache = module.init_cache(stored, 2)
                parts = [model(part, cache=cache) for part in calls_of(program, inputs, lengths, repeats=True)]
                assert cache.position == total
                assert len(parts[0]) == len(program.decoding.outputs)
                for name in parts[0]:
                    at = axis_of(program.root.outputs[names.index(name)], program.decoding.rows)
                    assert at is not None
                    found = np.concatenate([p[name] for p in parts], axis=at)
                    np.testing.assert_allclose(found, want[name], atol=1e-10, rtol=1e-10, err_msg=kind)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DECODED + DECODED_OPEN])
def test_step_equals_forward(name: str) -> None:
    compare(shrink(elaborated(name)))


@pytest.mark.parametrize("text", [ASIDE, SHARED_LAYER, CARRIED, SHORT_AND_LONG], ids=["aside", "shared layer", "carried", "short and long"])
def test_written_models(text: str, tmp_path: Path) -> None:
    compare(shrink(written(tmp_path, text)))
