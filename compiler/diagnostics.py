"""A diagnostic is data: a permanent code, a sentence, a place, notes at other places, and help. Renderers live in `render_diagnostics`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..grammar.tree import Span

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Note:
    """A second place that explains the first."""

    message: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """`code` is `E` and three digits (docs/diagnostics/E101.md); `message` is one sentence without a full stop; `help` says what to write."""

    code: str
    message: str
    span: Span | None
    notes: tuple[Note, ...] = ()
    help: str | None = None
    severity: Severity = "error"


@dataclass
class Diagnostics:
    """Collects what is wrong; never stops at the first. One mistake at one place is reported once."""

    found: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, message: str, span: Span | None, *notes: Note, help: str | None = None) -> None:
        new = Diagnostic(code, message, span, notes, help)
        if not any(old.code == code and old.span == span and old.message == message for old in self.found):
            self.found.append(new)

    def warning(self, code: str, message: str, span: Span | None, *notes: Note, help: str | None = None) -> None:
        self.found.append(Diagnostic(code, message, span, notes, help, "warning"))

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.found)


class SpecError(Exception):
    """Raised by a stage that cannot go on; carries every diagnostic found so far."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        super().__init__("; ".join(f"{d.code} {d.message}" for d in diagnostics))
        self.diagnostics = diagnostics
