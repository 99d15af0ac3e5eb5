"""Problems of the front end (which knows nothing of the compiler) as diagnostics."""

from __future__ import annotations

from collections.abc import Iterable

from ..grammar.problem import Problem
from .diagnostics import Diagnostics, Note


def report(problems: Iterable[Problem], diagnostics: Diagnostics) -> None:
    for problem in problems:
        notes = tuple(Note(message, span) for message, span in problem.notes)
        diagnostics.error(problem.code, problem.message, problem.span, *notes, help=problem.help)
