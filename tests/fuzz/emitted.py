"""What a generated module may be, whatever spec it is made of: Python that uses its own names, those of its few imports and a few builtins."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator

from .try_text import Fault

IMPORTS = set(
    str.split("__future__ collections dataclasses fnmatch functools itertools json math numpy operator pathlib re safetensors torch typing")
)
_KNOWN = (
    "TypeError ValueError FileNotFoundError AttributeError KeyError OSError RuntimeError IndexError any all abs bool classmethod dict enumerate filter float"
    " getattr hasattr int isinstance len list map max min next property range reversed round set slice sorted staticmethod str sum super tuple zip"
)
BUILTINS = set(str.split(_KNOWN))


def check_code(code: str) -> None:
    """Raises Fault where a module holds what none should."""
    for strange in strange_in(code):
        raise Fault(f"emitted code {strange}")


def strange_in(code: str) -> Iterator[str]:
    """What a module imports or names that is neither its own nor known."""
    try:
        parsed = ast.parse(code)
        table = symtable.symtable(code, "emitted", "exec")
    except (SyntaxError, ValueError) as error:
        yield f"is no Python: {error}"
        return
    for node in ast.walk(parsed):
        match node:
            case ast.Import(names=names):
                yield from (f"imports {name.name}" for name in names if name.name.split(".")[0] not in IMPORTS)
            case ast.ImportFrom(module=module) if str(module).split(".")[0] not in IMPORTS:
                yield f"imports {module}"
            case ast.Global() | ast.Nonlocal():
                yield "declares a global"
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    for inner in _below(table):
        for symbol in inner.get_symbols():
            if symbol.is_global() and not symbol.is_local() and symbol.is_referenced() and symbol.get_name() not in own | BUILTINS:
                yield f"reads {symbol.get_name()}"


def _below(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _below(child)
