"""Components may be called what generated files call things of their own: neither takes the other's place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.numpy.file_names import FILE_NAMES as NUMPY_NAMES
from xfc.backends.numpy.file_names import LOADING as NUMPY_LOADING
from xfc.backends.numpy.helpers import HELPERS as NUMPY_HELPERS
from xfc.backends.torch.cache.helpers import CACHE_HELPERS
from xfc.backends.torch.file_names import FILE_NAMES, LOADING, MODEL
from xfc.backends.torch.helpers import HELPERS
from xfc.backends.verify import verify
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache

BACKENDS = Path(__file__).resolve().parents[2] / "backends"
_DEFINED = re.compile(r"^(?:class (\w+)|def (\w+)|([A-Za-z]\w*)(?:: .*|\{\{.*)? = )", re.MULTILINE)


def defined(text: str) -> set[str]:
    return {next(filter(None, m.groups())) for m in _DEFINED.finditer(text)}


def test_every_name_that_a_file_brings_along_is_kept_from_specs() -> None:
    common = ["python/templates/weight_files.py.j2"]
    torch_files = ["torch/templates/module.py.j2", "torch/templates/generation.py.j2", "python/templates/checkpoint_torch.py.j2", *common]
    numpy_files = ["numpy/templates/reference.py.j2", "python/templates/checkpoint_numpy.py.j2", *common]
    for files, helpers, names in (
        (torch_files, [*HELPERS.values(), *CACHE_HELPERS.values()], FILE_NAMES),
        (numpy_files, list(NUMPY_HELPERS.values()), NUMPY_NAMES),
    ):
        found = set[str]().union(*(defined((BACKENDS / f).read_text()) for f in files), *map(defined, helpers))
        assert len(found) > 20
        assert found <= names, found - names


@pytest.mark.parametrize("kind", ["component", "fn"])
def test_components_called_like_parts_of_the_file(kind: str, tmp_path: Path) -> None:
    free = sorted({*LOADING, *NUMPY_LOADING, *MODEL} - {"annotations", "Model"})
    spec = tmp_path / "m.xf"
    if kind == "fn":
        parts = [f"fn {n}(x: [b, t, d]):\n    y = tanh(x)\n    return y + {k} * y\n" for k, n in enumerate(free)]
        steps = [f"    x = {n}(x)\n" for n in free]
    else:
        parts = [
            f"component {n}()(x: [b, t, d]) -> [b, t, d]:\n    scale = param([d], init = {k + 1})\n    return tanh(x * scale)\n"
            for k, n in enumerate(free)
        ]
        steps = [f"    part_{k} = {n}()\n    x = part_{k}(x)\n" for k, n in enumerate(free)]
    model = "model m(vocab = 7, d = 4)(input_ids: [b, t] int in vocab) -> (y: [b, t, d]):\n    embed = embedding(vocab, d)\n    x = embed(input_ids)\n"
    spec.write_text("\n".join([*parts, model]) + "".join(steps) + "    return x\n")
    diagnostics = Diagnostics()
    program = elaborate_file(str(spec), [], diagnostics)
    assert program is not None, diagnostics.found
    for backend in (torch_backend, numpy_backend):
        tree = ast.parse(emit_with_cache(program, backend.emit)[0])
        tops = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
        assert len(tops) == len(set(tops))
    assert verify(program).ok
