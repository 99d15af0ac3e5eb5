"""`xfc explain CODE`: a diagnostic's page."""

from __future__ import annotations

import re
import sys
from importlib.resources import files

import click

from ..diagnostics import Diagnostics
from .reporting import finish


@click.command("explain")
@click.argument("code", metavar="CODE")
def command(code: str) -> None:
    """Explain CODE, as `E301`: a wrong example, why it is wrong, and a right one."""
    wanted = code.strip().upper()
    page = files("xfc") / "docs" / "diagnostics" / f"{wanted}.md"
    if not re.fullmatch(r"E\d{3}", wanted) or not page.is_file():
        _unknown(code)
    text = page.read_text(encoding="utf-8")
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text), width=min(console.width, 100))


def _unknown(code: str) -> None:
    diagnostics = Diagnostics()
    known = sorted(
        p.name.removesuffix(".md") for p in (files("xfc") / "docs" / "diagnostics").iterdir() if re.fullmatch(r"E\d{3}\.md", p.name)
    )
    diagnostics.error("E903", f"there is no diagnostic `{code}`", None, help=f"there are {', '.join(known)}")
    finish(diagnostics, "full")
