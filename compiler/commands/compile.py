"""`xfc compile SPEC`: the module of a spec, by one of the backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import click

from ..diagnostics import Diagnostics
from ..write_whole import write_whole
from .check_program import check_program
from .reporting import finish, format_option, guarded, output_option, set_option

if TYPE_CHECKING:
    from ..ir import Program
    from ..render_diagnostics import Format
    from .check_program import Checked


SHIPPED = {"torch": "xfc.backends.torch", "numpy": "xfc.backends.numpy"}
"""Backends that are found without reading the metadata of every installed package."""


@click.command("compile")
@click.argument("spec")
@click.option("--target", default="torch", show_default=True, metavar="NAME", help="The backend: torch or numpy.")
@click.option("--emit", type=click.Choice(["code", "ir"]), default="code", show_default=True, help="What to write: code, or the typed IR.")
@output_option
@set_option
@format_option
def command(spec: str, target: str, emit: Literal["code", "ir"], output: str, sets: tuple[str, ...], form: Format) -> None:
    """Write the module of SPEC, a path or the name of a shipped spec. Where there is an error, nothing is written."""
    write = _printer() if emit == "ir" else _backend(target)
    diagnostics = Diagnostics()
    with guarded(diagnostics):
        from ..pipeline import run

        checked = check_program(spec, sets, diagnostics)
        if checked is not None:
            text = write(run(checked.program))
            write_whole(output, text + _derived(checked) if emit == "ir" else text)
    finish(diagnostics, form)


def _derived(checked: Checked) -> str:
    """The modules that remember something from call to call, as they are derived for decoding, and what is left of the decoding."""
    from ..passes.derive_decoding import Refusal, derive_decoding
    from ..pipeline import run
    from ..print_ir import print_decoding

    derived = derive_decoding(checked.program, checked.flow)
    if isinstance(derived, Refusal):
        return f"\nno decoding: {derived.what}\n"
    return f"\n{print_decoding(run(derived))}"


def _printer() -> Callable[[Program], str]:
    from ..print_ir import print_program

    return print_program


def _backend(name: str) -> Callable[[Program], str]:
    """The emitter of that name: a shipped one, or an installed one (an entry point of the group `xfc.backends`)."""
    if name in SHIPPED:
        import importlib

        shipped: Callable[[Program], str] = importlib.import_module(SHIPPED[name]).emit
        return shipped
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group="xfc.backends")}
    if name not in found:
        raise click.BadParameter(f"there is no backend `{name}`: there are {', '.join(sorted(found))}.", param_hint="'--target'")
    emit: Callable[[Program], str] = found[name].load()
    return emit
