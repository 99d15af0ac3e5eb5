"""`xfc fmt FILE...`: spec files in canonical form, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..diagnostics import Diagnostics
from ..write_whole import write_whole
from .reporting import finish, format_option, guarded

if TYPE_CHECKING:
    from ..render_diagnostics import Format


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--check", is_flag=True, help="Change nothing; name the files that are not in canonical form and exit with 1 if there are any."
)
@format_option
def command(files: tuple[str, ...], check: bool, form: Format) -> None:
    """Bring every FILE into canonical form. A file that does not parse is left as it is."""
    diagnostics = Diagnostics()
    for path in files:
        with guarded(diagnostics):
            _format(path, check, diagnostics)
    finish(diagnostics, form)


def _format(path: str, check: bool, diagnostics: Diagnostics) -> None:
    from ...grammar.format_file import format_file
    from ...grammar.load import read_source
    from ..problems import report

    source, problem = read_source(path)
    if source is None:
        report([problem] if problem else [], diagnostics)
        return
    text, problems = format_file(source)
    report(problems, diagnostics)
    if text is None or text == source.text:
        return
    if check:
        diagnostics.error("E904", f"`{path}` is not in canonical form", None, help=f"`xfc fmt {path}` rewrites it")
    else:
        write_whole(path, text)
