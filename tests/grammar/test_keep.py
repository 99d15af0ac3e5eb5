"""What is kept between runs: beside the package's own files where that can be written, else with the user's; never in the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from xfc.grammar import cache, keep
from xfc.grammar.keep import places, recall


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for one of the package's, and an empty cache of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = tmp_path / "specs"
    folder.mkdir()
    monkeypatch.setattr(keep, "_OWN", (str(folder) + os.sep,))
    return folder


def kept(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder.parent).as_posix() for p in folder.parent.rglob("*") if p.is_file() and p.suffix != ".xf")


def test_the_packages_are_kept_beside_them(own: Path) -> None:
    (own / "a.xf").write_text("model a = f\n")
    file, _ = cache.cached_load(own / "a.xf")
    assert kept(own) == ["specs/__pycache__/a.xf.tree"]
    (own / "a.xf").write_text("model b = f\n")
    assert cache.cached_load(own / "a.xf")[0] != file  # by content, not by name
    assert kept(own) == ["specs/__pycache__/a.xf.tree"]


@pytest.mark.parametrize("how", ["no folder can be made", "bytecode is not to be written"])
def test_where_that_cannot_be_they_are_with_the_users(own: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "no folder can be made":
        (own / "__pycache__").write_text("in the way")
    else:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (own / "a.xf").write_text("model a = f\n")
    file, _ = cache.cached_load(own / "a.xf")
    assert [path for path in kept(own) if path.startswith("user/")] == [f"user/xfc/tree/{Path(places(str(own / 'a.xf'), 'tree')[1]).name}"]
    with monkeypatch.context() as context:
        context.setattr(cache, "parse_source", lambda source: pytest.fail("parsed again"))
        assert cache.cached_load(own / "a.xf")[0] == file


def test_a_stale_file_beside_it_does_not_hide_the_users(own: Path) -> None:
    (own / "a.xf").write_text("model a = f\n")
    cache.cached_load(own / "a.xf")
    beside, users = map(Path, places(str(own / "a.xf"), "tree"))
    users.parent.mkdir(parents=True)
    users.write_bytes(beside.read_bytes())
    beside.write_bytes(b"of another time")
    assert [len(data) > 20 for data in recall([str(beside), str(users)])] == [False, True]
    file, _ = cache.cached_load(own / "a.xf")
    assert file is not None and beside.read_bytes() == b"of another time"  # found with the user's: nothing was written
