"""A diagnostic is data: a permanent code, a sentence, a place, notes at other places, and help. Renderers live in `render_diagnostics`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Literal

from ..grammar.frozen import frozen, mutable
from ..grammar.tree import Span
from .dims import Expr, Sym

Severity = Literal["error", "warning"]


@frozen
class Note:
    """A second place that explains the first."""

    message: str
    span: Span | None = None


@frozen
class Diagnostic:
    """`code` is `E` and three digits (docs/diagnostics/E101.md); `message` is one sentence without a full stop; `help` says what to write."""

    code: str
    message: str
    span: Span | None
    notes: tuple[Note, ...] = ()
    help: str | None = None
    severity: Severity = "error"


@mutable
class Diagnostics:
    """Collects what is wrong; never stops at the first. One mistake at one place is reported once.

    `shipped` are the paths of library files: a mistake found inside one is reported where the user's spec led there (`within`), with the
    library's line as a note. `places` says where each number of the spec was written."""

    found: list[Diagnostic] = field(default_factory=list)
    shipped: str | None = None
    places: dict[Sym, Span] = field(default_factory=dict)
    _led_here: list[Span] = field(default_factory=list)
    _said: set[tuple[str, str, Span | None]] = field(default_factory=set)

    def error(self, code: str, message: str, span: Span | None, *notes: Note, help: str | None = None, remedy: str | None = None) -> None:
        """`help` says what to write at these words; `remedy` what to write wherever the words stand that led there."""
        anchored, notes = self._anchored(span, notes)
        if anchored != span:
            span, help = anchored, None  # what to write there instead was said to the library's author
        help = remedy if help is None else help
        said = (code, message, span)
        if said not in self._said:
            self._said.add(said)
            self.found.append(Diagnostic(code, message, span, notes, help))

    def warning(self, code: str, message: str, span: Span | None, *notes: Note, help: str | None = None) -> None:
        self.found.append(Diagnostic(code, message, span, notes, help, "warning"))

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.found)

    def sort(self) -> None:
        """In the order of the text, the library's after that of the spec."""
        self.found.sort(key=lambda d: (self.is_shipped(d.span), d.span.source.path, d.span.start) if d.span else (False, "", -1))

    @contextmanager
    def within(self, span: Span | None) -> Iterator[None]:
        """What is found inside was led to by these words of a spec."""
        if span is None or self.is_shipped(span):
            yield
            return
        self._led_here.append(span)
        try:
            yield
        finally:
            self._led_here.pop()

    def written(self, *numbers: Expr) -> list[Note]:
        """Where the numbers in some expressions were written."""
        symbols = sorted({s for n in numbers for s in n.symbols}, key=lambda s: s.order)
        return [Note(f"{s.name} is {s.value}", self.places[s]) for s in symbols if s in self.places]

    def is_shipped(self, span: Span) -> bool:
        """Whether these words are the library's."""
        return self.shipped is not None and span.source.path.startswith(self.shipped)

    def _anchored(self, span: Span | None, notes: tuple[Note, ...]) -> tuple[Span | None, tuple[Note, ...]]:
        notes = tuple(n for n in notes if n.span is None or n.span != span)
        if span is None or not self.is_shipped(span) or not self._led_here:
            return span, notes
        return self._led_here[-1], (Note("found here", span), *notes)


class SpecError(Exception):
    """Raised by a stage that cannot go on; carries every diagnostic found so far."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        super().__init__("; ".join(f"{d.code} {d.message}" for d in diagnostics))
        self.diagnostics = diagnostics
