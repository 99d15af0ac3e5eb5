"""What one branch alone reads is computed there."""

from __future__ import annotations

from dataclasses import replace

from .code import Assign, Block, Call, Code, Do, Return, Statement, Store, Var, parts, variables


def sink_values(statements: tuple[Statement, ...], often: set[Var]) -> tuple[Statement, ...]:
    """Requires: pure values, each variable assigned before it is read; `often` are those that are assigned more than once. Ensures: a call whose
    result only one `if` reads, and not its condition, stands in its body. Leaves alone: what is, or reads, one of `often`; loops, `with`, `def`."""
    reads = [_read(s) for s in statements]
    readers: dict[Var, set[int]] = {}
    for k, read in enumerate(reads):
        for var in read:
            readers.setdefault(var, set()).add(k)
    inside: dict[int, list[Statement]] = {}  # what sinks into a block, the last first
    gone: set[int] = set()
    for k in range(len(statements) - 1, -1, -1):
        s = statements[k]
        if not isinstance(s, Assign) or not s.pure or len(s.targets) != 1 or s.targets[0] is None or not _calls(s.value):
            continue
        places = readers.get(s.targets[0], set())
        at = next(iter(places)) if len(places) == 1 else -1
        block = statements[at]
        if at <= k or not isinstance(block, Block) or block.keyword != "if" or s.targets[0] in variables(block.head):
            continue
        if {s.targets[0], *reads[k]} & often:
            continue
        inside.setdefault(at, []).append(s)
        gone.add(k)
        for var in reads[k]:
            readers[var].discard(k)
            readers[var].add(at)
    kept: list[Statement] = []
    for k, s in enumerate(statements):
        if isinstance(s, Block):
            s = replace(s, body=sink_values((*reversed(inside.get(k, [])), *s.body), often))
        if k not in gone:
            kept.append(s)
    return tuple(kept)


def _calls(code: Code) -> bool:
    return isinstance(code, Call) or any(map(_calls, parts(code)))


def _read(s: Statement) -> set[Var]:
    found = set(variables(s.value)) if isinstance(s, Assign | Do | Store | Return) else set()
    if isinstance(s, Store):
        found |= set(variables(s.target))
    if isinstance(s, Block):
        found |= set(variables(s.head)).union(*map(_read, s.body))
    return found
