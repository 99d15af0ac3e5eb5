"""Rows 0, 1, ... are a slice where there are as many; elsewhere they are looked up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xfc.backends.torch import emit
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run

SPEC = """
component part(x: [b, t, d]) -> [b, t, d]:
    weight = param([rows: 6, d], init = normal(0.5))
    return x * {read}

model model(d_model = 3)(features: [b, t, d_model]) -> [b, t, d_model]:
    inner = part
    return inner(features)
"""
ROWS = [("weight[rows = index(t)]", 0), ("weight[rows = index(t) + 2]", 2)]


def written(read: str, tmp_path: Path) -> str:
    path = tmp_path / "model.xf"
    path.write_text(SPEC.format(read=read))
    program = elaborate_file(str(path), [], Diagnostics())
    assert program is not None
    return emit(run(program))


@pytest.mark.parametrize(("read", "start"), ROWS)
def test_first_rows(read: str, start: int, tmp_path: Path) -> None:
    source = written(read, tmp_path)
    assert "arange" not in source
    with loaded(source, "first_rows") as module, torch.no_grad():
        model = module.Model()
        weight = next(model.parameters())
        for count in (1, 3, 6 - start):
            torch.testing.assert_close(model(torch.ones(2, count, 3)), weight[start : start + count].expand(2, -1, -1))
        with pytest.raises(ValueError, match="at least t"):
            model(torch.ones(2, 7 - start, 3))


@pytest.mark.parametrize("read", ["weight[rows = 5 - index(t)]", "weight[rows = index(t) % 4]", "weight[rows = 2 * index(t)]"])
def test_other_rows_are_looked_up(read: str, tmp_path: Path) -> None:
    source = written(read, tmp_path)
    assert "arange" in source
    with loaded(source, "other_rows") as module, torch.no_grad():
        model = module.Model()
        weight = next(model.parameters())
        at = {"5": [5, 4, 3], "i": [0, 1, 2], "2": [0, 2, 4]}[read[14]]
        torch.testing.assert_close(model(torch.ones(2, 3, 3)), weight[at].expand(2, -1, -1))
