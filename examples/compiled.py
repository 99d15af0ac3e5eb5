"""The model class that xfc writes of a spec, for the examples beside this file."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

XFC = Path(sys.executable).with_name("xfc")


def compiled(spec: str, sets: Sequence[str], folder: Path) -> type[nn.Module]:
    """Write the module of a spec, with `--set`s, into a folder, and import it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.py"
    subprocess.run([XFC, "compile", spec, "-o", file, *(word for s in sets for word in ("--set", s))], check=True)
    found = importlib.util.spec_from_file_location("generated_model", file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    kind: type[nn.Module] = module.Model
    return kind
