"""`xfc convert SPEC --to yaml|xf`: the same tree in the other surface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..diagnostics import Diagnostics
from ..write_whole import write_whole
from .reporting import finish, format_option, guarded, output_option

if TYPE_CHECKING:
    from ..render_diagnostics import Format


@click.command("convert")
@click.argument("spec")
@click.option("--to", "surface", type=click.Choice(["yaml", "xf"]), required=True, help="The surface to write.")
@output_option
@format_option
def command(spec: str, surface: Literal["yaml", "xf"], output: str, form: Format) -> None:
    """Write the file of SPEC, a path or the name of a shipped spec, in YAML or in .xf. Read again it gives the same tree; comments are not kept."""
    diagnostics = Diagnostics()
    with guarded(diagnostics):
        from ...grammar.convert import to_xf, to_yaml
        from ...grammar.load import load
        from ..problems import report

        file, problems = load(_path(spec))
        report(problems, diagnostics)
        if file is not None and not diagnostics.failed:
            write_whole(output, to_yaml(file) if surface == "yaml" else to_xf(file))
    finish(diagnostics, form)


def _path(spec: str) -> Path:
    """A path, or the file of a shipped spec."""
    from ..library import shipped_models

    return Path(spec) if Path(spec).suffix else shipped_models().get(spec, Path(spec))
