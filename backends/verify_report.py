"""What verification found: rows of differences, printable and as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field

from ..grammar.frozen import frozen
from .verify_trust import Trust

Number = int | float


@frozen(kw_only=True)
class Row:
    """One comparison: the largest difference, relative to the scale of what is compared, and what is allowed."""

    what: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return bool(self.error <= self.tolerance)

    def __str__(self) -> str:
        note = f"  {self.note}" if self.note else ""
        verdict = "agrees " if self.ok else "IS NaN " if math.isnan(self.error) else "DIFFERS"
        return f"{verdict}  {self.what}: {self.error:.1e} (at most {self.tolerance:.0e}){note}"


@frozen(kw_only=True)
class Report:
    """`changed`: fields of Config made smaller, name to (in the spec, here). `lengths`: the dynamic axes. `parted`: the first
    operation where a backend parts from the interpreter. `trust`: what is known besides."""

    model: str
    dtype: str
    seed: int
    parameters: int
    changed: Mapping[str, tuple[Number, Number]] = field(default_factory=dict)
    layers: str = ""
    lengths: Mapping[str, Number] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    skipped: tuple[str, ...] = ()
    parted: tuple[str, ...] = ()
    trust: Trust | None = None

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    def lines(self) -> list[str]:
        """For people, one line a fact."""
        sizes = ", ".join(f"{name} {value}" for name, value in self.lengths.items())
        found = [f"{self.model} in {self.dtype}, {self.parameters:,} parameters, {sizes}, seed {self.seed}"]
        if self.changed:
            found.append("made smaller: " + ", ".join(f"{name} {old} -> {new}" for name, (old, new) in self.changed.items()))
        if self.layers:
            found.append(f"made smaller: {self.layers}")
        found += [f"  {row}" for row in self.rows]
        found += [f"  first: {text}" for text in self.parted]
        found += [f"  not compared: {reason}" for reason in self.skipped]
        return found + (self.trust.lines() if self.trust is not None else [])

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def document(self) -> dict[str, object]:
        """For programs: keys are stable."""
        return {
            "model": self.model,
            "ok": self.ok,
            "dtype": self.dtype,
            "seed": self.seed,
            "parameters": self.parameters,
            "sizes": {name: {"spec": old, "here": new} for name, (old, new) in self.changed.items()},
            "lengths": dict(self.lengths),
            "rows": [
                {"what": r.what, "error": r.error if math.isfinite(r.error) else None, "tolerance": r.tolerance, "ok": r.ok, "note": r.note}
                for r in self.rows
            ],
            "skipped": list(self.skipped),
            "parted": list(self.parted),
            "proved": list(self.trust.proved) if self.trust is not None else [],
            "tested": list(self.trust.tested) if self.trust is not None else [],
            "assumed": list(self.trust.assumed) if self.trust is not None else [],
        }
