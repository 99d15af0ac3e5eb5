"""What the commands share: their options, and how they end. Whatever goes wrong inside `guarded` becomes a diagnostic."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TextIO, TypeVar

import click

from ..diagnostics import Diagnostic, Diagnostics, SpecError
from ..render_diagnostics import Format, json_document, print_diagnostics

if TYPE_CHECKING:
    from ...grammar.tree import Span

P = ParamSpec("P")
R = TypeVar("R")

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["full", "concise", "json"]),
    default="full",
    show_default=True,
    help="How to say it: with the source lines, in one line each, or as one JSON document.",
)
_set = click.option(
    "--set", "sets", multiple=True, metavar="PATH=VALUE", help="Replace an argument of the spec: `--set decoder.layers=2`. Repeatable."
)


def _allow(_: click.Context, __: click.Parameter, folders: tuple[Path, ...]) -> None:
    from .. import library

    library.IMPORT_ROOTS[:] = folders


_import_root = click.option(
    "--import-root",
    multiple=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    expose_value=False,
    callback=_allow,
    help="Let imports read this folder too. Repeatable.",
)


def set_option(command: Callable[P, R]) -> Callable[P, R]:
    """The options of every command that elaborates a spec."""
    return _set(_import_root(command))


output_option = click.option(
    "-o", "--output", default="-", show_default=True, metavar="FILE", help="Where to write; `-` is standard output."
)


@contextmanager
def guarded(diagnostics: Diagnostics) -> Iterator[None]:
    """Collect what is raised inside, so that no input shows a traceback (unless XFC_DEBUG=1 asks for it)."""
    try:
        yield
    except SpecError as error:
        known = set(diagnostics.found)
        diagnostics.found += [d for d in error.diagnostics if d not in known]
    except BrokenPipeError:
        raise
    except RecursionError:
        debug()
        diagnostics.error(
            "E901", "this nests too deeply to be read", None, help="name the inner parts with `let`, or make components of them"
        )
    except Exception as error:
        debug()
        diagnostics.found.append(internal_error(error))


def internal_error(error: Exception) -> Diagnostic:
    """A fault of the compiler's own: where it happened in its source, and what to do."""
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {os.path.basename(frame[0].filename)}:{frame[0].lineno}" if frame else ""
    detail = f": {error}" if str(error) else ""
    help = "this is a fault of xfc and not of the spec: please report it with the spec; XFC_DEBUG=1 shows the traceback"
    return Diagnostic("E999", f"internal error, {type(error).__name__}{where}{detail}", None, help=help)


def debug() -> None:
    """Show the traceback of the error being handled, if it was asked for."""
    if os.environ.get("XFC_DEBUG") == "1":
        import traceback

        traceback.print_exc()


def exit_code(diagnostics: Diagnostics) -> int:
    """0 clean, 1 errors, 2 a fault of the compiler."""
    return 2 if any(d.code == "E999" for d in diagnostics.found) else int(diagnostics.failed)


def finish(
    diagnostics: Diagnostics, form: Format, *, stream: TextIO | None = None, document: Mapping[str, object] | None = None
) -> NoReturn:
    """Print what was found and leave. In JSON, `document` (what the command has to say) comes first in the same document."""
    if form == "json":
        import json

        print(json.dumps({**(document or {}), **json_document(diagnostics.found)}, indent=2))
    else:
        print_diagnostics(diagnostics.found, form, stream or sys.stderr)
    raise click.exceptions.Exit(exit_code(diagnostics))


LONGEST_WORDS = 72
"""Of a construct that is shown beside its place."""


def at_place(span: Span) -> str:
    """A construct, unless it is long, and its place: ``at `flip(x, t)` (model.xf:3)``."""
    words = span.source.text[span.start : span.end].partition("\n")[0].strip()
    file = span.source.path.replace("\\", "/").rsplit("/", 1)[-1]
    place = f"{file}:{span.line_column()[0]}"
    return f"at `{words}` ({place})" if len(words) <= LONGEST_WORDS else f"at {place}"
