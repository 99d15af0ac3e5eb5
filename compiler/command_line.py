"""The `xfc` command: finds the command that is asked for, imports only that one, and lets no traceback out.

Start-up is designed: a command imports what it needs when it runs, and check, compile and info never import torch."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from contextlib import suppress
from io import TextIOWrapper

import click

COMMANDS = {
    "check": "Check specs: names, shapes, information flow.",
    "compile": "Write the PyTorch module or the NumPy reference of a spec.",
    "convert": "Print a spec in the other surface, YAML or .xf.",
    "explain": "Explain a diagnostic's code.",
    "fmt": "Bring spec files into canonical form.",
    "import": "Turn a Hugging Face config into a spec.",
    "info": "Count parameters, FLOPs, cache and memory.",
    "list": "List the shipped specs.",
    "verify": "Run PyTorch, NumPy and the interpreter on the same weights and compare.",
}
MODULES = {"import": "import_config", "list": "list_specs"}
"""Files in compiler/commands whose name is not the command's."""


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".commands.{MODULES.get(cmd_name, cmd_name)}", __package__)
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(COMMANDS)}."
            ctx.fail(f"there is no command `{args[0]}`: {hint}")
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from .. import __version__

        click.echo(f"xfc {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version and exit.")
def xfc() -> None:
    """Compile a short description of a transformer into a standalone PyTorch module and a NumPy reference."""


def main() -> None:
    """Run the command of the command line, and exit with what `run` says."""
    gc.disable()  # most commands end before a collection would free anything; `verify` turns it on again
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, TextIOWrapper)]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    code = run()
    if "torch" in sys.modules:  # it has threads to end
        sys.exit(code)
    for stream in streams:
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # to free every object first would take an eighth of a compilation


def run() -> int:
    """0 fine, 1 errors in the spec, 2 wrong usage or a fault of the compiler."""
    try:
        result = xfc.main(standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader has gone: say nothing more, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from ..compiler.render_diagnostics import print_diagnostics
        from .commands.reporting import debug, internal_error

        debug()
        print_diagnostics([internal_error(error)], "full", sys.stderr)
        return 2


if __name__ == "__main__":
    main()
