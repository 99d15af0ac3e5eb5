"""A tensor that is always read with the same new dimensions gets them once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from .code import Assign, Block, Code, Do, Note, Return, Statement, Store, Subscript, Text, Var, map_parts, parts, with_value

Items = tuple[Code, ...]
PLACES = frozenset((Text(":"), Text("..."), Text("None")))


def broadcast_once(statements: tuple[Statement, ...], inputs: Collection[Var]) -> tuple[Statement, ...]:
    """Requires: `inputs` are tensors. Ensures: `c[:, None]`, where nothing else is read of c and it is read so twice or more, or in a loop, stands where c
    is made, or first of all if c is an input. Leaves alone: variables that are assigned more than once."""
    views: dict[Var, set[Items]] = {}
    reads: Counter[Var] = Counter()
    made: Counter[Var] = Counter()
    _count(statements, views, reads, made)
    chosen = {v: next(iter(items)) for v, items in views.items() if reads[v] > 1 and len(items) == 1 and next(iter(items))}
    mapping: dict[Var, Var] = {}
    for var in chosen:
        if (var in inputs and not made[var]) or (made[var] == 1 and _in_line(statements, var)):
            mapping[var] = Var(hint=var.hint, kind=var.kind)
    if not mapping:
        return statements
    first = [Assign((mapping[v],), Subscript(v, chosen[v])) for v in mapping if v in inputs]
    notes = [k for k, s in enumerate(statements) if not isinstance(s, Assign) or not _is_shape(s)][:1]
    at = notes[0] if notes else len(statements)
    rewritten = _rewrite(statements, {v: (mapping[v], chosen[v]) for v in mapping})
    return (*rewritten[:at], *first, *rewritten[at:])


def take_views(statements: tuple[Statement, ...], inputs: Collection[Var]) -> tuple[tuple[Statement, ...], dict[Var, Items]]:
    """The inputs of which nothing but one view is read, each with that view, and the statements that read what the caller gives instead: the view itself."""
    views: dict[Var, set[Items]] = {}
    made: Counter[Var] = Counter()
    _count(statements, views, Counter(), made)
    chosen = {v: next(iter(views[v])) for v in inputs if len(views.get(v, ())) == 1 and next(iter(views[v])) and not made[v]}
    return _rewrite(statements, {v: (v, items) for v, items in chosen.items()}), chosen


def _is_shape(s: Assign) -> bool:
    return any(getattr(part, "name", "") == "shape" for part in (s.value, *parts(s.value)))


def _in_line(statements: tuple[Statement, ...], var: Var) -> bool:
    """Whether it is made on its own, outside of blocks."""
    return any(isinstance(s, Assign) and s.targets == (var,) for s in statements)


def _value(s: Statement) -> Code | None:
    match s:
        case Block():
            return s.head
        case Assign() | Do() | Store() | Return():
            return s.value
        case Note():
            return None


def _count(
    statements: tuple[Statement, ...], views: dict[Var, set[Items]], reads: Counter[Var], made: Counter[Var], times: int = 1
) -> None:  # fmt: skip
    """How often each variable is read (`times` for each place), as which views, and how often it is assigned."""

    def look(code: Code) -> None:
        match code:
            case Subscript(Var() as var, items) if set(items) <= PLACES and Text("None") in items:
                views.setdefault(var, set()).add(items)
                reads[var] += times
            case Var():
                views.setdefault(code, set()).add(())
                reads[code] += times
            case _:
                for part in parts(code):
                    look(part)

    for s in statements:
        value = _value(s)
        if value is not None:
            look(value)
        if isinstance(s, Assign):
            made.update(t for t in s.targets if t is not None)
        elif isinstance(s, Store):
            look(s.target)
        elif isinstance(s, Block):
            made.update(s.binds)
            _count(s.body, views, reads, made, times + s.loop)


def _rewrite(statements: tuple[Statement, ...], chosen: dict[Var, tuple[Var, Items]]) -> tuple[Statement, ...]:
    def go(code: Code) -> Code:
        if isinstance(code, Subscript) and isinstance(code.value, Var) and code.value in chosen:
            return chosen[code.value][0]
        return map_parts(code, go)

    found: list[Statement] = []
    for s in statements:
        value = _value(s)
        if value is not None:
            s = with_value(s, go(value))
        if isinstance(s, Assign) and len(s.targets) == 1 and s.targets[0] in chosen:
            new, items = chosen[s.targets[0]]
            s = replace(s, targets=(new,), value=Subscript(s.value, items), note="")
        elif isinstance(s, Block):
            s = replace(s, body=_rewrite(s.body, chosen))
        found.append(s)
    return tuple(found)
