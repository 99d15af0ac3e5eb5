"""`xfc check SPEC...`: everything that can be known before running."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from ..diagnostics import Diagnostics
from ..render_diagnostics import Line, Piece, print_lines
from .remembered import remembered
from .reporting import at_place, finish, format_option, guarded, set_option

if TYPE_CHECKING:
    from ...grammar.tree import Span
    from ..ir import Program
    from ..passes.derive_decoding import Refusal
    from ..render_diagnostics import Format
    from .check_program import Checked


NOTHING: dict[str, object] = {"spec": None, "model": None, "ok": False, "flow": [], "decoding": None, "assumptions": []}
"""The record of a spec that has errors."""


@click.command("check")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@set_option
@format_option
def command(specs: tuple[str, ...], sets: tuple[str, ...], form: Format) -> None:
    """Check every SPEC, a path or the name of a shipped spec, and print what is wrong.

    The JSON document has `specs`, a list of objects with `spec`, `model`, `ok`, `flow` (objects with `output`, `input`, `answer`, which is
    proved, refuted or unproved, and `because`), `decoding` (`ok`: whether it decodes a token at a time; else `because`, `file`, `line` and
    `column`; `padding`: null, or `what` lets tokens that the input `mask` leaves out reach later ones, with `file`, `line` and `column`) and
    `assumptions` (`property`, `reason`); then `diagnostics`, `errors` and `warnings`."""
    diagnostics = Diagnostics()
    said: list[Line] = []
    records: list[Mapping[str, object]] = []
    for spec in specs:
        own = Diagnostics()
        record: Mapping[str, object] | None = None
        with guarded(own):
            match form:
                case "json":
                    record = remembered(("check", form, *sets), spec, own, partial(_record, spec, sets, own))
                case _:
                    said += remembered(("check", form, *sets), spec, own, partial(_lines, spec, sets, own)) or ()
        diagnostics.found += [d for d in own.found if d not in diagnostics.found]
        records.append(record or NOTHING | {"spec": spec})
    if form == "full":
        print_lines(said, sys.stdout)
    finish(diagnostics, form, stream=sys.stdout, document={"specs": records})


def _lines(spec: str, sets: Sequence[str], diagnostics: Diagnostics) -> list[Line] | None:
    from ..decoding.find_moved_by_padding import find_moved_by_padding
    from ..passes.derive_decoding import Refusal
    from .check_program import check_program

    found = check_program(spec, sets, diagnostics)
    if found is None:
        return None
    name = found.program.name
    lines: list[Line] = [(Piece("ok", "help"), Piece(f" {name}", "strong"), Piece("" if spec == name else f" ({spec})"))]
    lines += _flow(found)
    derived = _derived(found)
    if isinstance(derived, Refusal):
        what = f" it cannot be decoded a token at a time: {derived.what}, {at_place(derived.span)}"
        lines.append((Piece("   no cache:", "warning"), Piece(what)))
    elif derived is not None and (moved := find_moved_by_padding(derived)) is not None:
        what = f" tokens where `{moved.mask}` is 0 still reach later ones by {moved.what}, {at_place(moved.span)}"
        lines.append((Piece("   padding:", "warning"), Piece(what)))
    lines += [(Piece("   assumed", "warning"), Piece(f" {a.property}: {a.reason}")) for a in found.program.assumptions]
    return lines


def _flow(found: Checked) -> list[Line]:
    """What is proved of the outputs over the tokens' positions; if that holds of some only, what the others see."""
    decoded = found.flow.decoded
    mine = [v for v in found.flow.verdicts if decoded is not None and v.input == decoded.input]
    proved = [f"`{v.output}`" for v in mine if v.answer == "proved"]
    if decoded is None or not proved:
        return []
    lines: list[Line] = [
        (Piece("   proved", "help"), Piece(f" causal: no position of {', '.join(proved)} sees later positions of `{decoded.input}`"))
    ]
    for verdict in mine:
        if verdict.answer != "proved":
            ahead = "sees later positions" if verdict.answer == "refuted" else "may see later positions"
            because = f": {verdict.cause.what}" if verdict.cause else ""
            lines.append((Piece("   not causal", "warning"), Piece(f" `{verdict.output}` {ahead} of `{verdict.input}`{because}")))
    return lines


def _derived(found: Checked) -> Program | Refusal | None:
    """How a model of tokens is decoded, or why it is not."""
    from ..passes.derive_decoding import derive_decoding

    return None if found.flow.decoded is None else derive_decoding(found.program, found.flow)


def _decoding(found: Checked) -> dict[str, object]:
    from ..decoding.find_moved_by_padding import find_moved_by_padding
    from ..passes.derive_decoding import Refusal

    derived = _derived(found)
    if isinstance(derived, Refusal):
        return {"ok": False, "because": derived.what, **_place(derived.span), "padding": None}
    moved = None if derived is None else find_moved_by_padding(derived)
    padding = None if moved is None else {"mask": moved.mask, "what": moved.what, **_place(moved.span)}
    return {"ok": derived is not None, "because": None, "file": None, "line": None, "column": None, "padding": padding}


def _place(span: Span) -> dict[str, object]:
    line, column = span.line_column()
    return {"file": span.source.path, "line": line, "column": column}


def _record(spec: str, sets: Sequence[str], diagnostics: Diagnostics) -> dict[str, object] | None:
    from .check_program import check_program

    found = check_program(spec, sets, diagnostics)
    if found is None:
        return None
    flow = [
        {"output": v.output, "input": v.input, "answer": v.answer, "because": v.cause.what if v.cause else None}
        for v in found.flow.verdicts
    ]
    assumptions = [{"property": a.property, "reason": a.reason} for a in found.program.assumptions]
    return {"spec": spec, "model": found.program.name, "ok": True, "flow": flow, "decoding": _decoding(found), "assumptions": assumptions}
