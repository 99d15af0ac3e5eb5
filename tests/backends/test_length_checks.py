"""Lengths that a spec cannot be applied to are refused in its own words, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache

SPEC = """component patches(patch, least)(x: [b, t, d]) -> [b, n: t / patch, d]:
    y = mean(unflatten(x, t = [n: t / patch, patch]), patch)
    early = x[t = .. least]
    return y + mean(early, t)

model m(vocab = 7, d_model = 8, {sizes})(input_ids: [b, t] int in vocab) -> (y: [b, n: t / patch, d_model]):
    embed = embedding(vocab, d_model)
    inner = patches(patch, least)
    return inner(embed(input_ids))
"""


@pytest.mark.parametrize(
    ("sizes", "length", "message"),
    [
        ("patch = 4, least = 2", 9, "patch must divide t"),
        ("patch = 2, least = 5", 4, "t must be at least least"),
        ("patch = 2, least = 5", 6, None),
    ],
)
def test_lengths(sizes: str, length: int, message: str | None, tmp_path: Path) -> None:
    spec = tmp_path / "m.xf"
    spec.write_text(SPEC.format(sizes=sizes))
    program = elaborate_file(str(spec), [], Diagnostics())
    assert program is not None
    ids = torch.zeros(2, length, dtype=torch.long)
    torch_text, numpy_text = (emit_with_cache(program, b.emit)[0] for b in (torch_backend, numpy_backend))
    with loaded(torch_text, "lengths_torch") as module, loaded(numpy_text, "lengths_numpy") as reference:
        model = module.Model()
        params = {n: p.numpy() for n, p in model.state_dict().items()}
        if message is None:
            torch.testing.assert_close(model(ids).detach(), torch.from_numpy(reference.forward(params, ids.numpy())))
            return
        with pytest.raises(ValueError, match=f"^{message}$"):
            model(ids)
        with pytest.raises(ValueError, match=f"^{message}$"):
            reference.forward(params, np.asarray(ids))
