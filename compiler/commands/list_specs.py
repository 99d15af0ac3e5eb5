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
@click.option(
    "--format", "form", type=click.Choice(["full", "json"]), default="full", show_default=True, help="A table, or one JSON document."
)
def command(form: Literal["full", "json"]) -> None:
    """List the shipped specs: name, file, and what the file says of itself. JSON: `{"specs": [{"name", "file", "about"}]}`."""
    diagnostics = Diagnostics()
    rows: list[tuple[str, str, str]] = []
    with guarded(diagnostics):
        rows = _rows()
    if form == "json" and not diagnostics.failed:
        print(json.dumps({"specs": [{"name": name, "file": file, "about": about} for name, file, about in rows]}, indent=2))
        return
    width, file_width = (max([len(row[column]) for row in rows], default=0) for column in (0, 1))
    lines: list[Line] = [
        (Piece(name.ljust(width), "strong"), Piece(f"  {file.ljust(file_width)}", "gutter"), Piece(f"  {about}"))
        for name, file, about in rows
    ]
    print_lines(lines, sys.stdout)
    if diagnostics.found:
        finish(diagnostics, form)


def _rows() -> list[tuple[str, str, str]]:
    from ..library import SPECS, shipped_models

    models = shipped_models()
    about = {path: _about(path.read_text(encoding="utf-8")) for path in set(models.values())}
    return sorted((name, path.relative_to(SPECS).as_posix(), about[path]) for name, path in models.items())


def _about(text: str) -> str:
    """The first line of a file, if it is a comment."""
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
