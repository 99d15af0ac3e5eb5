"""A program as a backend writes it."""

from __future__ import annotations

from collections.abc import Callable

from .diagnostics import Diagnostics, SpecError
from .ir import Program
from .passes.derive_decoding import Refusal, derive_decoding
from .pipeline import run


def emit_with_cache(
    program: Program,
    emit: Callable[[Program], str],
    derived: Program | Refusal | None = None,
    diagnostics: Diagnostics | None = None,
) -> tuple[str, bool]:
    """Its code, and whether that decodes with a cache: it does where decoding can be derived (`derived`, if that is known) and the backend
    can write what is kept; if it cannot, a warning says why."""
    derived = derived or derive_decoding(program)
    if not isinstance(derived, Refusal):
        try:
            return emit(run(derived)), True
        except SpecError as error:
            plain = emit(run(program))
            for found in error.diagnostics if diagnostics is not None else ():
                assert diagnostics is not None
                diagnostics.warning(found.code, f"written without a cache: {found.message}", found.span, *found.notes, help=found.help)
            return plain, False
    return emit(run(program)), False
