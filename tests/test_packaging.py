"""What is declared about the tree is true of the tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CODE = ("backends", "compiler", "grammar")
"""The folders that hold packages."""


def tracked() -> list[str]:
    """Files of the work tree that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


def test_the_packages_list_is_the_tree() -> None:
    folders = {path.parent for folder in CODE for path in (ROOT / folder).rglob("*.py")}
    packages = {"xfc", *(".".join(("xfc", *folder.relative_to(ROOT).parts)) for folder in folders)}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages


def test_every_package_has_an_init_file() -> None:
    missing = [
        name for name in PROJECT["tool"]["setuptools"]["packages"] if not (ROOT.joinpath(*name.split(".")[1:]) / "__init__.py").exists()
    ]
    assert missing == []


def test_the_root_holds_one_python_file() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


def test_development_requirements_are_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines if "==" in line}
    project = PROJECT["project"]
    wanted = {
        re.split(r"[\[<>=]", name)[0].lower() for name in (*project["dependencies"], *project["optional-dependencies"]["development"])
    }
    assert wanted - pinned == set()
    assert "torch==2.13.0" in lines
    assert "torch>=2.6" in project["dependencies"]


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md"])
def test_paths_in_the_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    paths = {match for match in re.findall(r"`([\w./-]+)`", prose) if "/" in match or re.search(r"\.(py|md|lark|xf|toml|txt)$", match)}
    paths |= set(re.findall(r"\]\(([\w./-]+)\)", prose))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    assert paths


def test_the_wheel_holds_code_and_data(tmp_path: Path) -> None:
    names = tracked()
    for name in names:
        copy = tmp_path / "tree" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(tmp_path),
        "./tree",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name.removeprefix("xfc/") for name in zipfile.ZipFile(wheel).namelist() if name.startswith("xfc/")}
    data = [name for name in names if name.endswith((".lark", ".xf", ".j2")) or name.startswith(("specs/", "docs/diagnostics/"))]
    code = [name for name in names if name.split("/")[0] in CODE and not name.startswith("build/")]
    wanted = {name for name in (*code, *data, "__init__.py", "py.typed") if not name.startswith(("tests/", "benchmarks/"))}
    assert wanted - inside == set()
    assert {name for name in inside if name.startswith(("tests/", "build/", ".venv"))} == set()
