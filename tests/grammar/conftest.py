"""Texts that several tests read."""

from pathlib import Path

import pytest

from xfc.grammar.tree import Source


@pytest.fixture
def canonical() -> Source:
    """Every construct of .xf in canonical form."""
    path = Path(__file__).parent / "canonical.xf"
    return Source(path.name, path.read_text(encoding="utf-8"))
