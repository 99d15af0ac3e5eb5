"""What is written, as text: the formatter changes nothing, the linter finds nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .executions import Disagreement

CHECKS = (("format", "--diff"), ("check", "--select", "B,C4,E,F,I,PIE,RET,RUF,SIM,UP,W", "--ignore", "E501,RET504,SIM108"))
"""As in tests/backends/test_golden.py."""


def check_texts(codes: tuple[str, str], folder: Path) -> list[str]:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        return []
    folder.mkdir(exist_ok=True)
    files = [folder / "module.py", folder / "reference.py"]
    for file, code in zip(files, codes, strict=True):
        file.write_text(code, encoding="utf-8")
    for command in CHECKS:
        found = subprocess.run([ruff, *command, "--isolated", "--no-cache", "--line-length", "120", *files], capture_output=True, text=True)
        if found.returncode:
            raise Disagreement(f"text, ruff {command[0]}: {found.stdout[:600]}")
    return ["texts"]
