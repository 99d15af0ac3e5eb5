"""Who else has computed what a shipped spec says, and how far apart the results were: the table behind docs/zoo.md."""

from __future__ import annotations

import csv
from functools import cache

from ..grammar.frozen import frozen
from .library import SPECS

TABLE = SPECS / "witnesses.csv"


@frozen(kw_only=True)
class Witness:
    """An independent implementation. `torch` and `numpy` are the largest differences from it at float32, as text; empty: not run as a whole."""

    spec: str
    models: str
    source: str
    witness: str
    torch: str
    numpy: str


@cache
def witnesses() -> tuple[Witness, ...]:
    """Every row, in the order of the zoo's page."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(Witness(**row) for row in csv.DictReader(file))


def witnesses_of(file: str) -> list[Witness]:
    """Those of a shipped file, by its path."""
    return [w for w in witnesses() if str(SPECS / w.spec) == file]
