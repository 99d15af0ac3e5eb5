"""What README.md shows is what happens. `python tests/test_readme.py` puts the real output into it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
XFC = Path(sys.executable).with_name("xfc")
_SPEC = re.compile(r"^```(?:xf|yaml)\n# (\S+)\n.*?^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = ("SquaredRelu", "PreNorm")
"""Classes of the compiled module that README.md shows."""


def rewritten(text: str, folder: Path) -> str:
    """The text with the output of its commands, and the code that they write, as they are."""
    for match in _SPEC.finditer(text):
        (folder / match[1]).write_text(match[0].split("\n", 1)[1].rsplit("\n", 1)[0] + "\n", encoding="utf-8")

    def console(match: re.Match[str]) -> str:
        commands = [line[2:] for line in match[1].splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(f"$ {command}\n{run(command)}" for command in commands) + "```"

    def run(command: str) -> str:
        words = command.split()
        assert words[0] == "xfc"
        done = subprocess.run([XFC, *words[1:]], capture_output=True, text=True, cwd=folder)
        return done.stdout + done.stderr

    def code(_: re.Match[str]) -> str:
        spec = next(folder.glob("*.xf"))
        module = run(f"xfc compile {spec.name}")
        classes = [re.search(rf"^class {name}\(.*?(?=\n\n\n)", module, re.MULTILINE | re.DOTALL) for name in SHOWN]
        return "```python\n" + "\n\n\n".join(found[0] for found in classes if found) + "\n```"

    return _CODE.sub(code, _CONSOLE.sub(console, text))


def test_the_readme_is_true(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    assert rewritten(text, tmp_path) == text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        README.write_text(rewritten(README.read_text(encoding="utf-8"), Path(name)), encoding="utf-8")
