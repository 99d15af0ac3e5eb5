"""`xfc import CONFIG.json`: a Hugging Face config becomes a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..diagnostics import Diagnostics
from ..write_whole import write_whole
from .reporting import finish, format_option, guarded, output_option

if TYPE_CHECKING:
    from ..render_diagnostics import Format


@click.command("import")
@click.argument("config", metavar="CONFIG.json")
@output_option
@format_option
def command(config: str, output: str, form: Format) -> None:
    """Write the spec of a Hugging Face config; keys that the shipped maps do not know are reported."""
    diagnostics = Diagnostics()
    with guarded(diagnostics):
        from ..import_config import import_config

        write_whole(output, import_config(config, diagnostics))
    finish(diagnostics, form)
