"""A program as a backend writes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from .diagnostics import SpecError
from .ir import Program
from .passes.derive_decoding import Refusal, derive_decoding
from .pipeline import run


def emit_with_cache(program: Program, emit: Callable[[Program], str], derived: Program | Refusal | None = None) -> tuple[str, bool]:
    """Its code, and whether that decodes with a cache: it does where decoding can be derived (`derived`, if that is known) and the backend
    can write what is kept."""
    derived = derived or derive_decoding(program)
    if not isinstance(derived, Refusal):
        with suppress(SpecError):
            return emit(run(derived)), True
    return emit(run(program)), False
