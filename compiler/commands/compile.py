"""`xfc compile SPEC`: the module of a spec, by one of the backends."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import click

from ..diagnostics import Diagnostics
from ..write_whole import write_whole
from .remembered import remembered
from .reporting import at_place, finish, format_option, guarded, output_option, set_option

if TYPE_CHECKING:
    from ..ir import Program
    from ..render_diagnostics import Format
    from .check_program import Checked

    Emitter = Callable[[Program], str]

SHIPPED = {"torch": "xfc.backends.torch", "numpy": "xfc.backends.numpy"}
"""Backends that are found without reading the metadata of every installed package."""


KEEPING = ("torch", "numpy")
"""Backends that write what a derived program keeps."""


@click.command("compile")
@click.argument("spec")
@click.option("--target", default="torch", show_default=True, metavar="NAME", help="The backend: torch or numpy.")
@click.option("--emit", type=click.Choice(["code", "ir"]), default="code", show_default=True, help="What to write: code, or the typed IR.")
@click.option("--flex", is_flag=True, help="PyTorch: on a GPU, FlexAttention where masks or scores are functions of positions.")
@click.option("--fuse", is_flag=True, help="PyTorch: linear maps of one value (q, k, v) as one map; published checkpoints load as ever.")
@output_option
@set_option
@format_option
def command(
    spec: str, target: str, emit: Literal["code", "ir"], flex: bool, fuse: bool, output: str, sets: tuple[str, ...], form: Format
) -> None:
    """Write the module of SPEC, a path or the name of a shipped spec. Where there is an error, nothing is written."""
    installed = None if target in SHIPPED or emit == "ir" else _installed(target)
    diagnostics = Diagnostics()
    options = {"flex": flex, "fuse": fuse}
    chosen = [f"--{name}" for name, on in options.items() if on]
    if chosen and (target != "torch" or emit != "code"):
        raise click.BadParameter("it is for the code of `--target torch` alone.", param_hint=f"'{chosen[0]}'")

    def make() -> str | None:
        return _written(spec, sets, diagnostics, target if emit == "code" else None, _with_options(options) if chosen else installed)

    with guarded(diagnostics):
        text = make() if installed else remembered(("compile", target, emit, *chosen, *sets), spec, diagnostics, make)
        if text is not None:
            write_whole(output, text)
    finish(diagnostics, form)


def _written(spec: str, sets: Sequence[str], diagnostics: Diagnostics, target: str | None, emitter: Emitter | None) -> str | None:
    """The text that was asked for: by an installed emitter, a shipped target's, or (no target) the IR."""
    from ..emit_with_cache import emit_with_cache
    from ..passes.derive_decoding import derive_decoding
    from ..pipeline import run
    from .check_program import check_program

    checked = check_program(spec, sets, diagnostics)
    if checked is None:
        return None
    if target is not None:
        if target not in KEEPING:
            return (emitter or _shipped(target))(run(checked.program))
        derived = derive_decoding(checked.program, checked.flow)
        return emit_with_cache(checked.program, emitter or _shipped(target), derived, diagnostics)[0]
    from ..print_ir import print_program

    return print_program(run(checked.program)) + _derived(checked)


def _derived(checked: Checked) -> str:
    """The modules that remember something from call to call, as they are derived for decoding, and what is left of the decoding."""
    from ..passes.derive_decoding import Refusal, derive_decoding
    from ..pipeline import run
    from ..print_ir import print_decoding

    derived = derive_decoding(checked.program, checked.flow)
    if isinstance(derived, Refusal):
        return f"\nno decoding: {derived.what}, {at_place(derived.span)}\n"
    return f"\n{print_decoding(run(derived))}"


def _shipped(target: str) -> Emitter:
    emitter: Emitter = importlib.import_module(SHIPPED[target]).emit
    return emitter


def _with_options(options: Mapping[str, bool]) -> Emitter:
    """PyTorch's emitter, with FlexAttention, with fused linear maps, or with both."""
    emit = importlib.import_module(SHIPPED["torch"]).emit
    return lambda program: str(emit(program, **options))


def _installed(target: str) -> Emitter:
    """The emitter of an installed package: an entry point of the group `xfc.backends`."""
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group="xfc.backends")}
    if target not in found:
        raise click.BadParameter(f"there is no backend `{target}`: there are {', '.join(sorted(found))}.", param_hint="'--target'")
    emitter: Emitter = found[target].load()
    return emitter
