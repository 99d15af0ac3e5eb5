"""The `xfc` command as a process: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xfc.compiler.command_line import COMMANDS
from xfc.compiler.commands.reporting import exit_code, guarded
from xfc.compiler.diagnostics import Diagnostic, Diagnostics, SpecError
from xfc.compiler.write_whole import write_whole

XFC = Path(sys.executable).with_name("xfc")


def xfc(*words: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([XFC, *map(str, words)], capture_output=True, text=True, cwd=folder, timeout=120)


# ---------------------------------------------------------------- usage


def test_help_names_every_command() -> None:
    done = xfc("--help")
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = xfc(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: xfc {name} ")


@pytest.mark.parametrize(
    "words",
    [
        ["chek"],
        ["check"],
        ["check", "--format", "xml", "a.xf"],
        ["check", "--no-such-option", "a.xf"],
        ["compile"],
        ["compile", "a.xf", "b.xf"],
        ["compile", "a.xf", "--target", "fortran"],
        ["verify", "a.xf", "--seed", "many"],
        ["convert", "a.xf"],
        ["convert", "a.xf", "--to", "json"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(words: list[str], tmp_path: Path) -> None:
    done = xfc(*words, folder=tmp_path)
    assert done.returncode == 2
    assert "Usage: xfc" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_command_is_suggested() -> None:
    assert "did you mean `check`?" in xfc("chek").stderr


def test_explain() -> None:
    done = xfc("explain", "e999")
    assert done.returncode == 0
    assert done.stdout.startswith("# E999")
    unknown = xfc("explain", "../../README")
    assert unknown.returncode == 1
    assert "E903" in unknown.stderr


# ---------------------------------------------------------------- what must not be imported


@pytest.mark.parametrize("words", [["--help"], ["check", "no_such.xf"], ["compile", "no_such.xf"], ["info", "no_such.xf"]], ids=" ".join)
def test_heavy_libraries_are_not_imported(words: list[str], tmp_path: Path) -> None:
    code = "import sys; sys.argv[0] = 'xfc'\nfrom xfc.compiler import command_line as c\ntry:\n    c.main()\nfinally:\n    print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    modules = done.stdout.splitlines()[-1]
    assert [name for name in ("torch", "numpy", "rich", "lark", "safetensors") if f"'{name}'" in modules] == []


# ---------------------------------------------------------------- faults


def test_what_is_raised_becomes_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFC_DEBUG", raising=False)
    known = Diagnostic("E301", "known", None)
    diagnostics = Diagnostics([known])
    with guarded(diagnostics):
        raise SpecError([known, Diagnostic("E302", "new", None)])
    assert [d.code for d in diagnostics.found] == ["E301", "E302"]
    assert exit_code(diagnostics) == 1
    with guarded(diagnostics):
        raise ZeroDivisionError("by seven")
    assert diagnostics.found[-1].code == "E999"
    assert "ZeroDivisionError at test_command_line.py:" in diagnostics.found[-1].message
    assert exit_code(diagnostics) == 2


def test_warnings_alone_are_clean() -> None:
    diagnostics = Diagnostics()
    diagnostics.warning("E301", "w", None)
    assert exit_code(diagnostics) == 0


def test_a_closed_pipe_is_quiet() -> None:
    done = subprocess.run(["bash", "-c", f"{XFC} list | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


# ---------------------------------------------------------------- files are written whole or not at all


def test_write_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.py"
    write_whole(str(path), "é = 1\n")
    assert path.read_bytes() == "é = 1\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()
    path.chmod(0o640)
    write_whole(str(path), "x = 2\n")
    assert path.read_text() == "x = 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    link = tmp_path / "link.py"
    link.symlink_to(path)
    write_whole(str(link), "x = 3\n")
    assert link.is_symlink()
    assert path.read_text() == "x = 3\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.py", "out.py"]
    write_whole(os.devnull, "x = 4\n")


@pytest.mark.parametrize("name", ["no/such/folder.py", "."])
def test_write_whole_refuses(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        write_whole(str(tmp_path / name), "x = 1\n")
    assert caught.value.diagnostics[0].code == "E902"
    assert list(tmp_path.iterdir()) == []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------- list


def test_list() -> None:
    rows = json.loads(xfc("list", "--format", "json").stdout)["specs"]
    assert all(set(row) == {"name", "file", "about"} for row in rows)
    assert [line.split()[0] for line in xfc("list").stdout.splitlines()] == [row["name"] for row in rows]
    assert "llama3_8b" in {row["name"] for row in rows}
