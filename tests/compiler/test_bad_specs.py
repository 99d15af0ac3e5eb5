"""Wrong specs on both surfaces: each is refused with the expected codes at the expected words, and with exit code 1.

bad_specs/EXPECTED has a line for every diagnostic: `file line:column code words`. `python tests/compiler/test_bad_specs.py` rewrites it: read the
difference before you commit it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from xfc.compiler.command_line import xfc

FOLDER = Path(__file__).with_name("bad_specs")
EXPECTED = FOLDER / "EXPECTED"
SPECS = sorted(p.name for p in FOLDER.iterdir() if p.suffix in (".xf", ".yaml"))


@dataclass(frozen=True, slots=True)
class Found:
    exit_code: int
    lines: list[str]


def check(path: Path, name: str) -> Found:
    """The diagnostics of a spec as lines of EXPECTED; of a place in another file only that file's name."""
    done = CliRunner().invoke(xfc, ["check", str(path), "--format", "json"], standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    document = json.loads(done.stdout)
    lines = []
    for d in document["diagnostics"]:
        place = "-" if d["line"] is None else f"{d['line']}:{d['column']}"
        elsewhere = d["path"] is not None and d["path"] != str(path)
        if elsewhere:  # the library's own lines may move
            place = Path(d["path"]).name
        kind = f"warning-{d['code']}" if d["severity"] == "warning" else d["code"]
        lines.append(f"{name} {place} {kind} {'' if elsewhere else _words(d)}".rstrip())
    return Found(done.return_value if isinstance(done.return_value, int) else done.exit_code, lines)


def _words(d: dict[str, object]) -> str:
    """What the caret stands under, shortened."""
    if d["path"] is None or d["line"] is None:
        return ""
    assert isinstance(d["line"], int) and isinstance(d["column"], int) and isinstance(d["end_column"], int)
    line = Path(str(d["path"])).read_bytes().decode("utf-8-sig").split("\n")[d["line"] - 1]
    end = d["end_column"] - 1 if d["end_line"] == d["line"] else len(line)
    words = line[d["column"] - 1 : end].rstrip("\r")
    return words if len(words) <= 40 else words[:39] + "…"


def expected() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in EXPECTED.read_text(encoding="utf-8").splitlines():
        found.setdefault(line.split(" ")[0], []).append(line)
    return found


@pytest.mark.parametrize("name", SPECS)
def test_bad_spec(name: str) -> None:
    found = check(FOLDER / name, name)
    assert found.lines == expected().get(name)
    assert found.exit_code == 1


def test_nothing_is_expected_of_files_that_are_gone() -> None:
    assert sorted(expected()) == SPECS


# ---------------------------------------------------------------- files that are no texts


FILES: dict[str, tuple[bytes, str]] = {
    "empty.xf": (b"", "E004"),
    "empty.yaml": (b"", "E004"),
    "blank.xf": (b"\n\n   \n", "E004"),
    "latin.xf": ("# caf\u00e9\n".encode("latin-1"), "E002"),
    "latin.yaml": ("model: caf\u00e9\n".encode("latin-1"), "E002"),
    "utf16.xf": ("model m = causal_lm:\n".encode("utf-16"), "E002"),
    "binary.xf": (bytes(range(256)) * 8, "E002"),
    "nul.yaml": (b"model: a\0b\n", "E002"),
    "text.txt": (b"model m = causal_lm:\n", "E005"),
    "config.json": (b"{}", "E005"),
    "large.xf": (b"# " + b"x" * 17_000_000, "E003"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_specs(name: str, tmp_path: Path) -> None:
    content, code = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    found = check(path, name)
    assert [line.split(" ")[2] for line in found.lines] == [code]
    assert found.exit_code == 1


@pytest.mark.parametrize("name", ["folder", "folder.xf", "missing.xf", "missing", "a" * 300 + ".xf", "loop.xf"])
def test_paths_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    if name.startswith("loop"):
        path.symlink_to(path)
    found = check(path, name)
    assert [line.split(" ")[2] for line in found.lines] in (["E001"], ["E005"], ["E306"])
    assert found.exit_code == 1


def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "closed.xf"
    path.write_text("model m = causal_lm:\n    vocab = 7\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert [line.split(" ")[2] for line in check(path, path.name).lines] == ["E001"]


def test_a_byte_order_mark_and_carriage_returns_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "windows.xf"
    path.write_bytes(b"\xef\xbb\xbfmodel m(d = 8)(x: [b, t, d]) -> (y: [b, t, d]):\r\n    return x * 2\r\n")
    assert check(path, path.name) == Found(0, [])


def test_a_wrong_spec_does_not_hide_the_others(tmp_path: Path) -> None:
    good = tmp_path / "good.xf"
    good.write_text("model m(d = 8)(x: [b, t, d]) -> (y: [b, t, d]):\n    return x * 2\n")
    words = ["check", str(FOLDER / "name_unknown_axis.xf"), str(good), str(FOLDER / "shape_two_sizes.xf"), "--format", "json"]
    done = CliRunner().invoke(xfc, words, standalone_mode=False)
    document = json.loads(done.stdout)
    assert [spec["ok"] for spec in document["specs"]] == [False, True, False]
    assert [d["code"] for d in document["diagnostics"]] == ["E322", "E201"]


@pytest.mark.parametrize("change", ["no_path", "=3", "d", "d=", "d=3 +", "d.x=3", "q=3", "d=[", "d=\x00", "=", "d=" + "(" * 500])
def test_wrong_changes(change: str, tmp_path: Path) -> None:
    good = tmp_path / "good.xf"
    good.write_text("model m(d = 8)(x: [b, t, d]) -> (y: [b, t, d]):\n    return x * 2\n")
    done = CliRunner().invoke(xfc, ["check", str(good), "--set", change, "--format", "json"], standalone_mode=False)
    assert done.return_value == 1, done.output
    assert [d["code"] for d in json.loads(done.stdout)["diagnostics"]] != ["E999"]


def rewrite() -> None:
    lines = [line for name in SPECS for line in check(FOLDER / name, name).lines]
    EXPECTED.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    rewrite()
