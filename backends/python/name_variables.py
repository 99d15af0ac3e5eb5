"""Names of local variables: the spec's own, bound again where the old value is dead; never two living values under one name.

A value without a name in the spec takes that of what becomes of it (`x = embed(ids)`, then `x = norm(x)`), else that of what it is made of and
uses up, else a word for its kind that is no name of the spec here."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...grammar.frozen import frozen
from .code import Assign, Attribute, Block, Code, Do, Return, Statement, Store, Text, Var, parts, variables

Names = Mapping[Var, str]
GENERIC = ("y", "x")


@dataclass(slots=True)
class _Life:
    start: int
    end: int


@dataclass(slots=True)
class _Lives:
    """When each variable is in use; which assignments stand where."""

    of: dict[Var, _Life]
    at: dict[int, Assign] = field(default_factory=dict)
    made: dict[Var, list[Assign]] = field(default_factory=dict)

    def overlap(self, a: Var, b: Var) -> bool:
        one, two = self.of[a], self.of[b]
        return (one.start < two.end and two.start < one.end) or one.start == two.start


def name_variables(statements: tuple[Statement, ...], inputs: Mapping[Var, str], reserved: Collection[str]) -> dict[Var, str]:
    """Requires: each variable is assigned before it is read. Ensures: two variables share a name only if their lives do not overlap.

    `inputs` are named already; `reserved` names (functions of the file, modules) are not taken."""
    lives = _Lives({v: _Life(0, 0) for v in inputs})
    _measure(statements, 1, lives)
    names: dict[Var, str] = dict(inputs)
    plain = _Plain(frozenset(reserved))
    words = {*inputs.values(), *(plain(v.hint) for v in lives.of if v.hint)}
    apart = _told_apart(lives, inputs, plain)
    for var in sorted((v for v in lives.of if v not in inputs), key=lambda v: (lives.of[v].start, v.serial)):
        taken = {names[o] for o in names if lives.overlap(var, o)}
        for name, derived in _candidates(var, lives, names, apart, plain):
            wanted = not var.hint and any(o.hint and plain(o.hint) == name and lives.overlap(var, o) for o in lives.of)
            if name not in taken and not wanted and (var.hint or derived or name not in words):
                names[var] = name
                break
    return names


@frozen
class _Plain:
    """A name of the spec as a local variable."""

    reserved: frozenset[str]

    def __call__(self, name: str) -> str:
        name = name.replace("'", "_").replace(".", "")
        return f"{name}_" if keyword.iskeyword(name) or name in self.reserved else name


def _candidates(var: Var, lives: _Lives, names: Names, apart: Mapping[Var, str], plain: _Plain) -> Iterator[tuple[str, bool]]:
    """Names in order of preference; whether each comes from another value's."""
    if var in apart:
        yield apart[var], True
    base = plain(var.hint or var.kind)
    if not var.hint and var.kind in GENERIC:
        yield from ((name, True) for name in _derived(var, lives, names, plain))
    yield base, False
    if var.hint and var.kind not in ("y", var.hint):
        yield plain(var.kind), False
        yield f"{base}_{var.kind}", False
    n = 2
    while True:
        yield f"{base}{n}", False
        n += 1


def _derived(var: Var, lives: _Lives, names: Names, plain: _Plain) -> Iterator[str]:
    """The name of what it becomes, where it is last read; of the value that it is made of, where that is last read."""
    last = var
    while True:
        reader = lives.at.get(lives.of[last].end)
        target = reader.targets[0] if reader is not None and len(reader.targets) == 1 else None
        if target is None or target is last or reader is None or last not in set(variables(reader.value)):
            break
        if target.hint:
            yield plain(target.hint)
            break
        if target.kind not in GENERIC:
            break
        last = target
    made = lives.made.get(var, [])
    source = next(variables(made[0].value), None) if len(made) == 1 and not made[0].note else None
    if source is not None and source in names and lives.of[source].end == lives.of[var].start and not names[source].isupper():
        yield names[source]


# ---------------------------------------------------------------- copies


def _told_apart(lives: _Lives, inputs: Names, plain: _Plain) -> dict[Var, str]:
    """Values of one name that live at once, each made in the same way from other numbers: `local_angle` and `angle` from `local_theta` and
    `theta`."""
    groups: dict[str, list[Var]] = {}
    for var in lives.of:
        if var.hint and var not in inputs and len(lives.made.get(var, [])) == 1:
            groups.setdefault(var.hint, []).append(var)
    found: dict[Var, str] = {}
    for hint, group in groups.items():
        together = [v for v in group if any(v is not o and lives.overlap(v, o) for o in group)]
        prefixes = _prefixes([_numbers_behind(v, lives, set(inputs)) for v in together])
        found |= {v: plain(f"{p}_{hint}" if p else hint) for v, p in zip(together, prefixes, strict=False)}
    return found


def _numbers_behind(var: Var, lives: _Lives, seen: set[Var]) -> set[str]:
    """The attributes and arguments that a value is computed from."""
    if var in seen:
        return set()
    seen.add(var)
    found: set[str] = set()
    for statement in lives.made.get(var, []):
        found |= _numbers_in(statement.value)
        for other in variables(statement.value):
            if len(lives.made.get(other, [])) == 1:
                found |= _numbers_behind(other, lives, seen)
    return found


def _numbers_in(code: Code) -> set[str]:
    if isinstance(code, Attribute) and isinstance(code.value, Text | Attribute):
        return {code.name}
    if isinstance(code, Text) and code.text.isidentifier():
        return {code.text}
    found: set[str] = set()
    for part in parts(code):
        found |= _numbers_in(part)
    return found


def _prefixes(behind: Sequence[set[str]]) -> list[str]:
    """What stands in each number's name before the words that all have, where each value is made from one number that the others are not."""
    if len(behind) < 2:
        return []
    common: set[str] = behind[0].intersection(*behind[1:])
    own = [numbers - common for numbers in behind]
    if any(len(numbers) != 1 for numbers in own):
        return []
    words = [next(iter(numbers)).split("_") for numbers in own]
    shared = 0
    while all(len(w) > shared for w in words) and len({w[-1 - shared] for w in words}) == 1:
        shared += 1
    found = ["_".join(w[: len(w) - shared]) for w in words]
    return found if shared and len(set(found)) == len(found) else []


# ---------------------------------------------------------------- lives


def _measure(statements: tuple[Statement, ...], position: int, lives: _Lives) -> int:
    for s in statements:
        start = position
        match s:
            case Assign(targets, value, _, _):
                lives.at[position] = s
                for v in variables(value):
                    lives.of[v].end = position
                for t in targets:
                    if t is not None:
                        life = lives.of.setdefault(t, _Life(position, position))
                        life.end = max(life.end, position)
                        lives.made.setdefault(t, []).append(s)
            case Do(value) | Store(_, value) | Return(value):
                for v in variables(value):
                    lives.of[v].end = position
            case Block(head, _, body, loop, binds):
                for v in variables(head):
                    lives.of[v].end = position
                for t in binds:
                    lives.of[t] = _Life(position, position)
                before = set(lives.of)
                position = _measure(body, position + 1, lives)
                if loop:
                    for v in before & _touched(body):
                        lives.of[v].end = max(lives.of[v].end, position)
                        lives.of[v].start = min(lives.of[v].start, start)
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
