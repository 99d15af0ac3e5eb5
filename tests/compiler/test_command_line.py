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
        ["compile", "a.xf", "--target", "numpy", "--flex"],
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
    code = "import sys; sys.argv[0] = 'xfc'\nfrom xfc.compiler import command_line as c\nc.run()\nprint(sorted(sys.modules))"
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


# ---------------------------------------------------------------- compile, info, convert, fmt

TINY = """model tiny = causal_lm:
    vocab = 97
    d_model = 32
    decoder:
        layers = 3
        attention = grouped_query(heads = 4, kv_heads = 2, rotate = rope)
        ffn = gated(hidden = 56)
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.xf"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.mark.parametrize(("target", "word"), [("torch", "import torch"), ("numpy", "import numpy as np")])
def test_compile(target: str, word: str, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.py"
    assert xfc("compile", tiny, "--target", target, "-o", out).returncode == 0
    text = out.read_text(encoding="utf-8")
    compile(text, "out.py", "exec")
    assert word in text
    assert str(tmp_path) not in text
    assert xfc("compile", tiny, "--target", target).stdout == text


def test_compile_emits_the_ir(tiny: Path) -> None:
    assert xfc("compile", tiny, "--emit", "ir").stdout.startswith("program tiny: tiny\n")


def test_an_error_writes_nothing(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.py"
    out.write_text("old\n")
    done = xfc("compile", tiny, "--set", "decoder.attention.heads=5", "-o", out)
    assert done.returncode == 1
    assert "E210" in done.stderr
    assert done.stdout == ""
    assert out.read_text() == "old\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.py", "tiny.xf"]


def test_output_that_cannot_be_written(tiny: Path, tmp_path: Path) -> None:
    done = xfc("compile", tiny, "-o", tmp_path / "no" / "out.py")
    assert done.returncode == 1
    assert "E902" in done.stderr


def test_check_says_what_prevents_decoding() -> None:
    done = xfc("check", "linformer")
    assert done.returncode == 0
    assert "   no cache: it cannot be decoded a token at a time: the sum over `t`, at `einsum(k_map[length = index(t)], " in done.stdout
    assert "(low_rank.xf:" in done.stdout


def test_info(tiny: Path) -> None:
    document = json.loads(xfc("info", tiny, "--format", "json").stdout)
    # embedding and head, three layers of attention and feed-forward, seven norms
    parameters = 2 * 97 * 32 + 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 56) + 7 * 32
    assert document["parameters"] == document["active_parameters"] == parameters
    assert document["memory_bytes"] == {"float32": 4 * parameters, "bfloat16": 2 * parameters}
    assert sum(m["parameters"] for m in document["modules"] if m["path"] and "." not in m["path"]) == parameters
    assert f"{parameters:,}" in xfc("info", tiny).stdout


def test_formats_of_an_error(tiny: Path) -> None:
    words = ["check", tiny, "--set", "decoder.atention=none"]
    assert xfc(*words, "--format", "concise").stdout == "--set decoder.atention=none:1:1: E312 `transformer` has no argument `atention`\n"
    document = json.loads(xfc(*words, "--format", "json").stdout)
    assert [d["code"] for d in document["diagnostics"]] == ["E312"]
    assert document["specs"] == [{"spec": str(tiny), "model": None, "ok": False, "flow": [], "decoding": None, "assumptions": []}]


def test_convert_there_and_back(tiny: Path, tmp_path: Path) -> None:
    other, again = tmp_path / "other.yaml", tmp_path / "again.xf"
    assert xfc("convert", tiny, "--to", "yaml", "-o", other).returncode == 0
    assert xfc("convert", other, "--to", "xf", "-o", again).returncode == 0
    code = [xfc("compile", path).stdout.split("\n", 4)[4] for path in (tiny, other, again)]
    assert code[0] == code[1] == code[2]


def test_convert_a_shipped_spec(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    assert xfc("convert", "llama3_8b", "--to", "yaml", "-o", spec).returncode == 0
    assert xfc("check", spec).returncode == 0


def test_fmt(tiny: Path) -> None:
    tiny.write_text(TINY.replace(" = 97", "=97"), encoding="utf-8")
    refused = xfc("fmt", "--check", tiny)
    assert refused.returncode == 1
    assert "E904" in refused.stderr
    assert xfc("fmt", tiny).returncode == 0
    assert tiny.read_text(encoding="utf-8") == TINY
    assert xfc("fmt", "--check", tiny).returncode == 0
    tiny.write_text("model tiny = (\n", encoding="utf-8")
    assert xfc("fmt", tiny).returncode == 1
    assert tiny.read_text(encoding="utf-8") == "model tiny = (\n"


def test_import(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4}
    config.write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", **sizes}))
    spec = tmp_path / "spec.yaml"
    assert xfc("import", config, "-o", spec).returncode == 0
    assert xfc("check", spec).returncode == 0
    config.write_text("{")
    refused = xfc("import", config)
    assert refused.returncode == 1
    assert "E510" in refused.stderr
    assert xfc("import", tmp_path / "none.json").returncode == 1


def test_set_is_the_same_as_writing_it(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.xf"
    other.write_text(TINY.replace("layers = 3", "layers = 5").replace("vocab = 97", "vocab = 89"), encoding="utf-8")
    changed = xfc("info", tiny, "--set", "decoder.layers=5", "--set", "vocab=89", "--format", "json").stdout
    assert json.loads(changed) == json.loads(xfc("info", other, "--format", "json").stdout)
