"""Templates that were compiled before are used again, by their text, and damaged ones are compiled anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from xfc.backends.python import templates
from xfc.grammar.keep import places


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the code of a template is kept, if nothing is found or written beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(templates, "places", lambda origin, kind: places(origin, kind)[1:])
    templates.template.cache_clear()
    templates.template("numpy", "reference.py.j2")
    templates.template.cache_clear()
    (found,) = (tmp_path / "xfc" / "code").iterdir()
    yield found
    templates.template.cache_clear()
    shutil.rmtree(tmp_path / "xfc")


def test_a_kept_template_is_not_compiled(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinja2.Environment.compile", lambda *given, **named: pytest.fail("compiled again"))
    assert templates.template("numpy", "reference.py.j2").name == "reference.py.j2"


@pytest.mark.parametrize("damage", [b"", b"junk", "half", "of another text"])
def test_a_damaged_one_is_compiled_anew(code: Path, damage: bytes | str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = code.read_bytes()
    match damage:
        case "half":
            code.write_bytes(good[: len(good) // 2])
        case "of another text":
            monkeypatch.setattr(templates._Kept, "get_source_checksum", lambda self, source: "other")
        case bytes():
            code.write_bytes(damage)
    templates.template("numpy", "reference.py.j2")
    assert (code.read_bytes() == good) == (damage != "of another text")
