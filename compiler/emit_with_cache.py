"""A program as a backend writes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from .diagnostics import SpecError
from .ir import Program
from .passes.derive_decoding import Refusal, derive_decoding
from .passes.prove_causality import Flow
from .pipeline import run


def emit_with_cache(program: Program, emit: Callable[[Program], str], flow: Flow | None = None) -> tuple[str, bool]:
    """Its code, and whether that decodes with a cache: it does where decoding can be derived and the backend can write what is kept."""
    derived = derive_decoding(program, flow)
    if not isinstance(derived, Refusal):
        with suppress(SpecError):
            return emit(run(derived)), True
    return emit(run(program)), False
