"""`xfc verify SPEC`: PyTorch, NumPy and the interpreter on the same weights and inputs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from ..diagnostics import Diagnostics
from ..render_diagnostics import Line, Piece, print_lines
from .check_program import check_program
from .reporting import finish, format_option, guarded, set_option

if TYPE_CHECKING:
    from ...backends.verify_report import Report
    from ..change_fields import Field
    from ..render_diagnostics import Format


@click.command("verify")
@click.argument("spec")
@click.option(
    "--checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR", help="Use these published weights."
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True, help="Precision of the comparison."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random weights and inputs.")
@click.option("--fuse", is_flag=True, help="PyTorch as `xfc compile --fuse` writes it.")
@click.option("--fields", is_flag=True, help="Change every argument of SPEC in turn, and tell what that does.")
@set_option
@format_option
def command(
    spec: str,
    checkpoint: Path | None,
    dtype: Literal["float32", "float64"],
    seed: int,
    fuse: bool,
    fields: bool,
    sets: tuple[str, ...],
    form: Format,
) -> None:
    """Run what SPEC compiles to on the same weights and inputs, three ways, and compare outputs, gradients, decoding and information flow.

    A large spec is made smaller first. Exits with 1 where the ways differ. The JSON document has `model`, `ok`, `dtype`, `seed`,
    `parameters`, `sizes`, `lengths`, `rows` (`what`, `error`, `tolerance`, `ok`, `note`), `skipped`, `parted` (where a backend parts from the interpreter first), `proved`, `tested` and
    `assumed` (what is known besides: docs/trust.md); then `diagnostics`, `errors`, `warnings`.
    With --fields it has `ok` and `fields` (`path`, `line`, `was`, `now`, `effect`, `note`): an effect is parameters, code, outputs, refused or inert."""
    gc.enable()
    diagnostics = Diagnostics()
    if fields:
        _tell_fields(spec, sets, form, diagnostics)
    report: Report | None = None
    with guarded(diagnostics):
        checked = check_program(spec, sets, diagnostics)
        if checked is not None:
            with _progress(f"verifying {checked.program.name}"):
                from ...backends.verify import verify
                from ...backends.verify_trust import trust_in

                report = verify(checked.program, checkpoint=checkpoint, dtype=dtype, seed=seed, fuse=fuse)
                trust = trust_in(checked.program, changed=bool(sets), smaller=bool(report.changed or report.layers))
                report = replace(report, trust=trust)
            if not report.ok:
                wrong = [row.what for row in report.rows if not row.ok]
                found = report.parted[0] if report.parted else ", ".join(wrong) or "nothing could be compared"
                diagnostics.error("E701", f"`{report.model}` is not verified: {found}", checked.program.span)
    if report is not None and form != "json":
        print_lines(_lines(report), sys.stdout)
    finish(diagnostics, form, document=report.document() if report is not None else {"model": None, "ok": False})


def _tell_fields(spec: str, sets: tuple[str, ...], form: Format, diagnostics: Diagnostics) -> NoReturn:
    found: list[Field] | None = None
    with guarded(diagnostics), _progress(f"changing {spec}"):
        from ..change_fields import change_fields

        found = change_fields(spec, list(sets), diagnostics)
    inert = [f for f in found or [] if f.effect == "inert"]
    for f in inert:
        help_ = "let it reach something, or delete it"
        diagnostics.error("E702", f"`{f.path}` is inert: with {f.now} for {f.was} the model is the same", f.span, help=help_)
    if form != "json":
        print_lines([(Piece(str(f), "error" if f.effect == "inert" else "plain"),) for f in found or []], sys.stdout)
    rows = [
        {"path": f.path, "line": f.span.line_column()[0], "was": f.was, "now": f.now, "effect": f.effect, "note": f.note}
        for f in found or []
    ]
    finish(diagnostics, form, document={"ok": bool(found) and not inert, "fields": rows})


def _lines(report: Report) -> list[Line]:
    return [(Piece(text, "error" if text.lstrip().startswith(("DIFFERS", "IS NaN")) else "plain"),) for text in report.lines()]


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """Something that moves while the work lasts, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
