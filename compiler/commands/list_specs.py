"""`xfc list`: the shipped specs."""

from __future__ import annotations

import json
import sys
from typing import Literal

import click

from ..diagnostics import Diagnostics
from ..render_diagnostics import Line, Piece, print_lines
from .reporting import finish, guarded


@click.command("list")
@click.option("--format", "form", type=click.Choice(["full", "json"]), default="full", show_default=True, help="A table, or one JSON document.")
def command(form: Literal["full", "json"]) -> None:
    """List the shipped specs: name, file and paper. JSON: `{"specs": [{"name", "file", "paper"}]}`."""
    diagnostics = Diagnostics()
    rows: list[tuple[str, str, str]] = []
    with guarded(diagnostics):
        rows = _rows()
    if form == "json" and not diagnostics.failed:
        print(json.dumps({"specs": [{"name": name, "file": file, "paper": paper or None} for name, file, paper in rows]}, indent=2))
        return
    widths = [max([len(row[column]) for row in rows], default=0) for column in (0, 1)]
    lines: list[Line] = [
        (Piece(name.ljust(widths[0]), "strong"), Piece(f"  {file.ljust(widths[1])}", "gutter"), Piece(f"  {paper}")) for name, file, paper in rows
    ]
    print_lines(lines, sys.stdout)
    if diagnostics.found:
        finish(diagnostics, form)


def _rows() -> list[tuple[str, str, str]]:
    from ..library import SPECS, shipped_models

    models = shipped_models()
    return sorted((name, path.relative_to(SPECS).as_posix(), _paper(name, path.read_text(encoding="utf-8"))) for name, path in models.items())


def _paper(name: str, text: str) -> str:
    return ""
