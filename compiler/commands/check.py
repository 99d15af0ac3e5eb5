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
from .reporting import finish, format_option, guarded, set_option

if TYPE_CHECKING:
    from ...grammar.tree import Span
    from ..passes.derive_decoding import Refusal
    from ..render_diagnostics import Format
    from .check_program import Checked


NOTHING: dict[str, object] = {"spec": None, "model": None, "ok": False, "flow": [], "decoding": None, "assumptions": []}
"""The record of a spec that has errors."""
LONGEST_WORDS = 72
"""Of a construct that is shown beside its place."""


@click.command("check")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@set_option
@format_option
def command(specs: tuple[str, ...], sets: tuple[str, ...], form: Format) -> None:
    """Check every SPEC, a path or the name of a shipped spec, and print what is wrong.

    The JSON document has `specs`, a list of objects with `spec`, `model`, `ok`, `flow` (objects with `output`, `input`, `answer`, which is
    proved, refuted or unproved, and `because`), `decoding` (`ok`: whether it decodes a token at a time; else `because`, `file`, `line` and
    `column`) and `assumptions` (`property`, `reason`); then `diagnostics`, `errors` and `warnings`."""
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
    from .check_program import check_program

    found = check_program(spec, sets, diagnostics)
    if found is None:
        return None
    name = found.program.name
    lines: list[Line] = [(Piece("ok", "help"), Piece(f" {name}", "strong"), Piece("" if spec == name else f" ({spec})"))]
    lines += _flow(found)
    refusal = _refusal(found)
    if refusal is not None:
        words = refusal.span.source.text[refusal.span.start : refusal.span.end].partition("\n")[0].strip()
        place = f"{_file(refusal.span)}:{refusal.span.line_column()[0]}"
        at = f"at `{words}` ({place})" if len(words) <= LONGEST_WORDS else f"at {place}"
        lines.append((Piece("   no cache:", "warning"), Piece(f" it cannot be decoded a token at a time: {refusal.what}, {at}")))
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


def _refusal(found: Checked) -> Refusal | None:
    """Why there is no cached decoding, if a model of tokens has none."""
    from ..passes.derive_decoding import Refusal, derive_decoding

    if found.flow.decoded is None:
        return None
    derived = derive_decoding(found.program, found.flow)
    return derived if isinstance(derived, Refusal) else None


def _file(span: Span) -> str:
    return span.source.path.replace("\\", "/").rsplit("/", 1)[-1]


def _decoding(found: Checked) -> dict[str, object]:
    refusal = _refusal(found)
    if refusal is None:
        return {"ok": found.flow.decoded is not None, "because": None, "file": None, "line": None, "column": None}
    line, column = refusal.span.line_column()
    return {"ok": False, "because": refusal.what, "file": refusal.span.source.path, "line": line, "column": column}


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
