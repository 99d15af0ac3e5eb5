"""Names of local variables: the spec's own, bound again where the old value is dead; never two living values under one name, and never a name
of the spec for a value that has none there."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .code import Assign, Block, Do, Return, Statement, Store, Var, variables

Names = Mapping[Var, str]


@dataclass(slots=True)
class _Life:
    start: int
    end: int


def name_variables(statements: tuple[Statement, ...], inputs: Mapping[Var, str], reserved: Collection[str]) -> dict[Var, str]:
    """Requires: each variable is assigned before it is read. Ensures: two variables share a name only if their lives do not overlap.

    `inputs` are named already; `reserved` names (functions of the file, modules) are not taken."""
    lives = {v: _Life(0, 0) for v in inputs}
    _measure(statements, 1, lives)
    names: dict[Var, str] = dict(inputs)
    hints = {*inputs.values(), *(next(_candidates(v)) for v in lives if v.hint)}
    for var in sorted((v for v in lives if v not in inputs), key=lambda v: (lives[v].start, v.serial)):
        life = lives[var]
        taken = {names[o] for o in names if (lives[o].start < life.end and life.start < lives[o].end) or lives[o].start == life.start}
        taken |= hints if not var.hint else set()
        names[var] = next(c for c in _candidates(var) if c not in taken and c not in reserved)
    return names


def _candidates(var: Var):  # type: ignore[no-untyped-def]
    base = var.hint or var.kind
    base = base.replace("'", "_").replace(".", "")
    base = f"{base}_" if keyword.iskeyword(base) else base
    yield base
    if var.hint and var.kind not in ("y", var.hint):
        yield var.kind
        yield f"{base}_{var.kind}"
    n = 2
    while True:
        yield f"{base}{n}"
        n += 1


def _measure(statements: tuple[Statement, ...], position: int, lives: dict[Var, _Life]) -> int:
    for s in statements:
        start = position
        match s:
            case Assign(targets, value, _, _):
                for v in variables(value):
                    lives[v].end = position
                for t in targets:
                    if t is not None:
                        life = lives.setdefault(t, _Life(position, position))
                        life.end = max(life.end, position)
            case Do(value) | Store(_, value) | Return(value):
                for v in variables(value):
                    lives[v].end = position
            case Block(head, _, body, loop, binds):
                for v in variables(head):
                    lives[v].end = position
                for t in binds:
                    lives[t] = _Life(position, position)
                before = set(lives)
                position = _measure(body, position + 1, lives)
                if loop:
                    for v in before & _touched(body):
                        lives[v].end = max(lives[v].end, position)
                        lives[v].start = min(lives[v].start, start)
        position += 1
    return position


def _touched(statements: tuple[Statement, ...]) -> set[Var]:
    found: set[Var] = set()
    for s in statements:
        match s:
            case Assign(targets, value, _, _):
                found |= {*variables(value), *(t for t in targets if t is not None)}
            case Do(value) | Store(_, value) | Return(value):
                found |= set(variables(value))
            case Block(head, _, body, _, _):
                found |= {*variables(head), *_touched(body)}
    return found
