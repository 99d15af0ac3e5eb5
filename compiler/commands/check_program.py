"""From what a user names to a checked program: the front half that check, compile, info and verify share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...grammar.frozen import frozen
from ..diagnostics import Diagnostics

if TYPE_CHECKING:
    from ..ir import Program
    from ..passes.prove_causality import Flow


@frozen
class Checked:
    """A program without errors, as elaborated, and how information flows in it."""

    program: Program
    flow: Flow


def check_program(spec: str, sets: Sequence[str], diagnostics: Diagnostics) -> Checked | None:
    """A path or the name of a shipped spec, elaborated and checked; none if anything is wrong."""
    from ..elaborate import elaborate_file
    from ..passes.prove_causality import check_causality

    program = elaborate_file(spec, list(sets), diagnostics)
    if program is None or diagnostics.failed:
        return None
    flow = check_causality(program, diagnostics)
    return None if diagnostics.failed else Checked(program, flow)
