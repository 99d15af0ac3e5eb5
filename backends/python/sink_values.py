"""What one branch alone reads is computed there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from .code import Assign, Block, Call, Code, Do, Return, Statement, Store, Var, parts, variables


def sink_values(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Requires: pure values, each variable assigned before it is read. Ensures: a call whose result only one `if` reads, and not its condition, stands in its body.

    Leaves alone: values of variables that are assigned twice, or change on the way; loops, `with`, `def`."""
    often = {v for v, n in Counter(_assigned(statements)).items() if n > 1}
    return _sink(statements, often)


def _sink(statements: tuple[Statement, ...], often: set[Var]) -> tuple[Statement, ...]:
    kept = list(statements)
    for k in range(len(kept) - 1, -1, -1):
        s = kept[k]
        if not isinstance(s, Assign) or not s.pure or len(s.targets) != 1 or s.targets[0] is None or not _calls(s.value):
            continue
        read = set(variables(s.value))
        readers = [j for j in range(k + 1, len(kept)) if s.targets[0] in _read(kept[j])]
        block = kept[readers[0]] if len(readers) == 1 else None
        if not isinstance(block, Block) or block.keyword != "if" or s.targets[0] in variables(block.head) or {s.targets[0], *read} & often:
            continue
        kept[readers[0]] = replace(block, body=(s, *block.body))
        del kept[k]
    return tuple(replace(s, body=_sink(s.body, often)) if isinstance(s, Block) else s for s in kept)


def _calls(code: Code) -> bool:
    return isinstance(code, Call) or any(map(_calls, parts(code)))


def _read(s: Statement) -> set[Var]:
    found = set(variables(s.value)) if isinstance(s, Assign | Do | Store | Return) else set()
    if isinstance(s, Store):
        found |= set(variables(s.target))
    if isinstance(s, Block):
        found |= set(variables(s.head)).union(*map(_read, s.body))
    return found


def _assigned(statements: tuple[Statement, ...]) -> list[Var]:
    found: list[Var] = []
    for s in statements:
        if isinstance(s, Assign):
            found += [t for t in s.targets if t is not None]
        elif isinstance(s, Block):
            found += [*s.binds, *_assigned(s.body)]
    return found
