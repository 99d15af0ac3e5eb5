"""What a written file imports and defines of its own, no class, function or variable of a spec is called."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.numpy import file_names as numpy_names
from xfc.backends.torch import file_names as torch_names
from xfc.compiler.library import SPECS
from xfc.compiler.pipeline import run

from ..decoding import derived, elaborated

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("*.py"))
DECLARED = re.compile(r"^(?:component|fn) (\w+)", re.MULTILINE)


def own(code: str) -> set[str]:
    """Imported names and functions that stand at the top, but for those of the library's specs."""
    found = set[str]()
    for node in ast.parse(code).body:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {n.asname or n.name.partition(".")[0] for n in names}
            case ast.FunctionDef(name=name):
                found.add(name)
            case _:
                pass
    return found - {name for path in SPECS.rglob("*.xf") for name in DECLARED.findall(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_what_a_torch_file_has_is_kept_for_it(path: Path) -> None:
    assert own(path.read_text(encoding="utf-8")) <= torch_names.FILE_NAMES


def test_what_a_numpy_file_has_is_kept_for_it() -> None:
    found = own(numpy_backend.emit(run(elaborated("gpt2"))))
    assert {"np", "math", "Path"} <= found <= numpy_names.FILE_NAMES


def test_arguments_are_no_functions() -> None:
    """A component called `cache` would be hidden by the argument."""
    assert {"cache", "state", "path", "params", "config"} <= numpy_names.FILE_NAMES
    assert {"cache", "state", "logits_to_keep", "return_loss"} <= torch_names.FILE_NAMES


def test_a_component_called_as_the_cache_of_another(tmp_path: Path) -> None:
    """`multi_head_cache` is no class beside what MultiHead keeps in a MultiHeadCache."""
    spec = tmp_path / "named.xf"
    spec.write_text(
        "component multi_head_cache(x: [b, t, d]) -> [b, t, d]:\n    up = linear(d)\n    return up(x)\n\n"
        "model m = causal_lm:\n    vocab = 11\n    d_model = 4\n    decoder:\n        layers = 1\n"
        "        attention = multi_head_cache\n        ffn = multi_head(heads = 2)\n"
    )
    for backend in (torch_backend, numpy_backend):
        code = backend.emit(run(derived(elaborated(str(spec)))))
        classes = [node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
        assert len(classes) == len(set(classes))
