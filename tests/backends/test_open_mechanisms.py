"""Mechanisms that the library lacks, as users would write them (tests/open): each checks, compiles to both targets, and means the same three
ways; most are also held against the formulas of their papers, written in plain torch (papers.py)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.verify import verify
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import unshrunk
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.pipeline import run as run_passes

from .papers import PAPERS, Weights

OPEN = Path(__file__).resolve().parent.parent / "open"
SPECS = sorted(path.stem for path in OPEN.glob("*.xf"))


@cache
def program(name: str) -> Program:
    diagnostics = Diagnostics()
    made = elaborate_file(str(OPEN / f"{name}.xf"), [], diagnostics)
    assert made is not None and not diagnostics.found, diagnostics.found
    return made


@pytest.mark.parametrize("name", SPECS)
def test_three_ways(name: str) -> None:
    report = verify(program(name), dtype="float64")
    assert report.ok, str(report)


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_paper(name: str) -> None:
    """The generated module gives what the paper's formula gives, for weights none of which is 0 or 1."""
    spec = program(name)
    rng = np.random.default_rng(0)
    under = unshrunk(spec).under
    start = interpreter.initial_params(spec, 0, "float64", under)
    weights = {n: torch.as_tensor(a + 0.2 * rng.normal(size=a.shape)) for n, a in start.items()}
    inputs = {n: torch.from_numpy(a) for n, a in input_sets(spec, under, 0)["required inputs"].items()}
    with loaded(torch_backend.emit(run_passes(spec)), f"paper_{name}") as module, torch.no_grad():
        model = module.Model().double().eval()
        model.load_state_dict({n: weights[n].reshape(v.shape) for n, v in model.state_dict().items()})
        result = model(**inputs)
        got = result if isinstance(result, torch.Tensor) else result[0]
        want = PAPERS[name](Weights(weights), inputs)
    assert got.shape == want.shape
    assert (got - want).abs().max() < 1e-9 * want.abs().max().clamp(min=1)


def test_every_mechanism_says_where_it_comes_from() -> None:
    for name in SPECS:
        assert (OPEN / f"{name}.xf").read_text(encoding="utf-8").startswith("# "), name
