"""`xfc verify SPEC`: PyTorch, NumPy and the interpreter on the same weights and inputs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..diagnostics import Diagnostics
from ..render_diagnostics import Line, Piece, print_lines
from .check_program import check_program
from .reporting import finish, format_option, guarded, set_option

if TYPE_CHECKING:
    from ...backends.verify_report import Report
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
@set_option
@format_option
def command(
    spec: str, checkpoint: Path | None, dtype: Literal["float32", "float64"], seed: int, sets: tuple[str, ...], form: Format
) -> None:
    """Run what SPEC compiles to on the same weights and inputs, three ways, and compare outputs, gradients, decoding and information flow.

    A large spec is made smaller first. Exits with 1 where the ways differ. The JSON document has `model`, `ok`, `dtype`, `seed`,
    `parameters`, `sizes`, `lengths`, `rows` (`what`, `error`, `tolerance`, `ok`, `note`), `skipped`; then `diagnostics`, `errors`, `warnings`."""
    gc.enable()
    diagnostics = Diagnostics()
    report: Report | None = None
    with guarded(diagnostics):
        checked = check_program(spec, sets, diagnostics)
        if checked is not None:
            with _progress(f"verifying {checked.program.name}"):
                from ...backends.verify import verify

                report = verify(checked.program, checkpoint=checkpoint, dtype=dtype, seed=seed)
            if not report.ok:
                differing = ", ".join(row.what for row in report.rows if not row.ok) or "nothing could be compared"
                diagnostics.error("E701", f"`{report.model}` is not verified: {differing}", checked.program.span)
    if report is not None and form != "json":
        print_lines(_lines(report), sys.stdout)
    finish(diagnostics, form, document=report.document() if report is not None else {"model": None, "ok": False})


def _lines(report: Report) -> list[Line]:
    return [(Piece(text, "error" if text.lstrip().startswith("DIFFERS") else "plain"),) for text in report.lines()]


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """Something that moves while the work lasts, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
