"""Files that reviewers read: generated PyTorch, and the printed IR of two models. `pytest tests/backends/test_golden.py --update-golden` writes
them anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xfc.backends.torch import emit
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.library import shipped_models
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.pipeline import run
from xfc.compiler.print_ir import print_program

GOLDEN = Path(__file__).parent.parent / "golden"
MODULES = ("gpt2", "llama3_8b", "gemma3_1b", "mixtral_8x7b", "bert_base")
PRINTED = ("gpt2", "gemma3_1b")


def program_of(name: str) -> Program:
    diagnostics = Diagnostics()
    program = elaborate_file(name, [], diagnostics)
    assert program is not None and not diagnostics.failed, diagnostics.found
    return run(program)


def compare(text: str, path: Path, update: bool) -> None:
    if update:
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} is generated otherwise now: look at the difference, then --update-golden"


def written(name: str) -> str:
    """As `xfc compile` writes it: with a cache, where there can be one."""
    diagnostics = Diagnostics()
    program = elaborate_file(name, [], diagnostics)
    assert program is not None and not diagnostics.failed, diagnostics.found
    derived = derive_decoding(program)
    return emit(run(program if isinstance(derived, Refusal) else derived))


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str, update_golden: bool) -> None:
    compare(written(name), GOLDEN / f"{name}.py", update_golden)


@pytest.mark.parametrize("name", PRINTED)
def test_ir(name: str, update_golden: bool) -> None:
    compare(print_program(program_of(name)), GOLDEN / f"{name}.ir", update_golden)


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def files() -> list[str]:
    return [str(GOLDEN / f"{name}.py") for name in MODULES]


@pytest.mark.parametrize(
    "command", [("format", "--check"), ("check", "--select", "B,C4,E,F,I,PIE,RET,RUF,SIM,UP,W", "--ignore", "E501,RET504,SIM108")]
)
def test_ruff(command: tuple[str, ...]) -> None:
    """As they are: the formatter changes nothing, the linter finds nothing."""
    found = subprocess.run([tool("ruff"), *command, "--isolated", "--line-length", "120", *files()], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def typed(paths: list[str], cache: Path) -> str:
    """What mypy finds, strictly, but for what PyTorch itself leaves open: a module's call gives Any, some methods of tensors have no types."""
    options = ["--strict", "--allow-untyped-calls", "--no-warn-return-any", "--config-file", "/dev/null", "--cache-dir", str(cache)]
    found = subprocess.run([tool("mypy"), *options, *paths], capture_output=True, text=True)
    return found.stdout if found.returncode else ""


UNLIKE = ("cvt_13", "gps_base", "swin_tiny")
"""Modules in which a line is taken apart at a number and at a tuple of indices, and in which the spec has an `i` of its own."""


def test_mypy(tmp_path: Path) -> None:
    for name in UNLIKE:
        (tmp_path / f"{name}.py").write_text(written(name))
    assert not typed([*files(), *map(str, tmp_path.glob("*.py"))], tmp_path)


@pytest.mark.slow
def test_every_module_is_typed(tmp_path: Path) -> None:
    for name in sorted({path: name for name, path in shipped_models().items()}.values()):
        (tmp_path / f"{name}.py").write_text(written(name))
    assert not typed([*map(str, tmp_path.glob("*.py"))], tmp_path)
