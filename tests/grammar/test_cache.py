"""A cached file equals the parsed one, and no state of the cache is an error."""

import os
from pathlib import Path

import pytest

from xfc.grammar import cache
from xfc.grammar.cache import cached_load
from xfc.grammar.load import load
from xfc.grammar.tree import Source


def test_cached_tree_equals_the_parsed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canonical: Source) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "a.xf"
    path.write_text(canonical.text, encoding="utf-8")
    first, second = cached_load(path)[0], None
    with monkeypatch.context() as context:
        context.setattr(cache, "parse_source", lambda source: pytest.fail("parsed again"))
        second, problems = cached_load(path)
    assert not problems and first == second == load(path)[0]
    assert first is not None and second is not None and second.declarations[3].span.source.text == canonical.text
    assert [d.span.start for d in first.declarations] == [d.span.start for d in second.declarations]
    path.write_text("model a = f\n")
    changed, _ = cached_load(path)
    assert changed == load(path)[0]


def test_damaged_or_missing_caches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "a.xf"
    path.write_text("model a = f\n")
    expected = cached_load(path)
    (kept,) = (tmp_path / "xfc" / "tree").iterdir()
    for damage in (b"", b"junk", kept.read_bytes()[:-9], b"\x80\x05N."):
        kept.write_bytes(damage)
        assert cached_load(path) == expected
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert cached_load(path) == expected


def test_problems_are_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "a.xf").write_text("model a = \n")
    assert [p.code for p in cached_load(tmp_path / "a.xf")[1]] == [p.code for p in cached_load(tmp_path / "a.xf")[1]] == ["E010"]
    assert [p.code for p in cached_load(tmp_path / "none.xf")[1]] == ["E001"]
