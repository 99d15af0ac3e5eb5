"""`xfc check SPEC...`: everything that can be known before running."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..diagnostics import Diagnostics
from ..render_diagnostics import Line, Piece, print_lines
from .reporting import finish, format_option, guarded, set_option

if TYPE_CHECKING:
    from ..ir import Program
    from ..render_diagnostics import Format


@dataclass(frozen=True, slots=True)
class Checked:
    """One spec, and what is known of it; `program` is none if it is wrong."""

    spec: str
    program: Program | None


@click.command("check")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@set_option
@format_option
def command(specs: tuple[str, ...], sets: tuple[str, ...], form: Format) -> None:
    """Check every SPEC, a path or the name of a shipped spec, and print what is wrong.

    The JSON document has the keys `specs` (a list of `spec`, `model`, `ok`, `assumptions`), `diagnostics`, `errors` and `warnings`."""
    diagnostics = Diagnostics()
    checked: list[Checked] = []
    for spec in specs:
        own = Diagnostics()
        program: Program | None = None
        with guarded(own):
            program = _check(spec, list(sets), own)
        diagnostics.found += [d for d in own.found if d not in diagnostics.found]
        checked.append(Checked(spec, None if own.failed else program))
    if form == "full":
        print_lines((line for c in checked if c.program is not None for line in _lines(c.spec, c.program)), sys.stdout)
    finish(diagnostics, form, stream=sys.stdout, document={"specs": [_record(c) for c in checked]})


def _check(spec: str, sets: list[str], diagnostics: Diagnostics) -> Program | None:
    from ..elaborate import elaborate_file

    return elaborate_file(spec, sets, diagnostics)


def _lines(spec: str, program: Program) -> list[Line]:
    lines: list[Line] = [(Piece("ok", "help"), Piece(f" {program.name}", "strong"), Piece("" if spec == program.name else f" ({spec})"))]
    lines += [(Piece("   assumed", "warning"), Piece(f" {a.property}: {a.reason}")) for a in program.assumptions]
    return lines


def _record(checked: Checked) -> dict[str, object]:
    program = checked.program
    return {
        "spec": checked.spec,
        "model": program.name if program else None,
        "ok": program is not None,
        "assumptions": [{"property": a.property, "reason": a.reason} for a in program.assumptions] if program else [],
    }
