"""What docs/decoding.md shows is what happens. `python tests/test_decoding_doc.py` puts the real output into it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

DOC = Path(__file__).resolve().parent.parent / "docs" / "decoding.md"
XFC = Path(sys.executable).with_name("xfc")
_SPEC = re.compile(r"^```xf\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def rewritten(text: str, folder: Path) -> str:
    """The text with the output of its commands."""
    for match in _SPEC.finditer(text):
        (folder / match[1]).write_text(match[2], encoding="utf-8")

    def console(match: re.Match[str]) -> str:
        commands = [line[2:] for line in match[1].splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(f"$ {command}\n{run(command)}" for command in commands) + "```"

    def run(command: str) -> str:
        done = subprocess.run([XFC, *command.split()[1:]], capture_output=True, text=True, cwd=folder)
        return done.stdout + done.stderr

    return _CONSOLE.sub(console, text)


def test_the_page_is_true(tmp_path: Path) -> None:
    text = DOC.read_text(encoding="utf-8")
    assert rewritten(text, tmp_path) == text


def test_its_code_runs(tmp_path: Path) -> None:
    text = DOC.read_text(encoding="utf-8")
    rewritten(text, tmp_path)
    subprocess.run([XFC, "compile", "narrow.xf", "-o", "narrow.py"], cwd=tmp_path, check=True)
    for code in _CODE.findall(text):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        DOC.write_text(rewritten(DOC.read_text(encoding="utf-8"), Path(name)), encoding="utf-8")
