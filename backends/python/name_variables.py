"""Names of local variables: the spec's own, bound again where the old value is dead; never two living values under one name.

A value without a name in the spec takes that of what becomes of it (`x = embed(ids)`, then `x = norm(x)`), else that of what it is made of and
uses up, else a word for its kind that is no name of the spec here. What a call takes and gives back has one name (`q, k = rotate(q, k)`), and so
has a step between two values of one name: what is dead is not kept by another name."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Iterator, Mapping, Sequence

from ...grammar.frozen import frozen
from .code import AT, COUNT, Attribute, Call, Code, Statement, Text, Var, parts, variables
from .variable_lives import Life, Lives, TakenNames, Together, measure_lives

Names = Mapping[Var, str]
GENERIC = ("y", "x")
MOST_TOLD_APART = 12
"""More values of one name than this that live at once are numbered."""


def name_variables(statements: tuple[Statement, ...], inputs: Mapping[Var, str], reserved: Collection[str]) -> dict[Var, str]:
    """Requires: each variable is assigned before it is read. Ensures: two variables share a name only if their lives do not overlap.

    `inputs` are named already; `reserved` names (functions of the file, modules) are not taken."""
    lives = measure_lives(statements, inputs)
    names: dict[Var, str] = dict(inputs)
    plain = _Plain(frozenset(reserved))
    meant: dict[str, list[Life]] = {}
    for var, life in lives.of.items():
        if var.hint:
            meant.setdefault(plain(var.hint), []).append(life)
    wanted = {name: Together(found) for name, found in meant.items()}
    words = {*inputs.values(), *wanted}
    apart = _told_apart(lives, inputs, plain)
    taken = TakenNames([(lives.of[v], name) for v, name in inputs.items()])
    kinds: dict[str, str] = dict.fromkeys(inputs.values(), "")
    for var in sorted((v for v in lives.of if v not in inputs), key=lambda v: (lives.of[v].start, v.serial)):
        life = lives.of[var]
        taken.move_to(life.start)
        names[var] = next(
            (
                name
                for name, derived in _candidates(var, lives, names, apart, plain)
                if name not in taken
                and kinds.get(name, _type_of(var)) == _type_of(var)
                and (var.hint or name not in wanted or not wanted[name].overlap(life))
                and (var.hint or derived or name not in words)
            ),
            "",
        ) or taken.numbered(plain(var.hint or var.kind), {*reserved} if var.hint else {*reserved, *words})
        taken.take(life, names[var])
        kinds.setdefault(names[var], _type_of(var))
    return names


def _type_of(var: Var) -> str:
    """What a name keeps, for whoever checks types: a tuple's name is its own."""
    return f"{AT} {var.serial}" if var.kind == AT else COUNT if var.kind == COUNT else ""


@frozen
class _Plain:
    """A name of the spec as a local variable."""

    reserved: frozenset[str]

    def __call__(self, name: str) -> str:
        name = name.replace("'", "_").replace(".", "")
        while keyword.iskeyword(name) or name in self.reserved:
            name += "_"
        return name


def _candidates(var: Var, lives: Lives, names: Names, apart: Mapping[Var, str], plain: _Plain) -> Iterator[tuple[str, bool]]:
    """Names in order of preference, before numbered ones; whether each comes from another value's."""
    if var in apart:
        yield apart[var], True
    base = plain(var.hint or var.kind)
    if not var.hint and var.kind in GENERIC:
        yield from ((name, True) for name in _derived(var, lives, names, plain))
    elif not var.hint:
        yield from ((name, True) for name in _between(var, lives, names, plain))
    yield base, False
    if var.hint and var.kind not in ("y", var.hint):
        yield plain(var.kind), False
        yield f"{base}_{var.kind}", False


def _derived(var: Var, lives: Lives, names: Names, plain: _Plain) -> Iterator[str]:
    """The name of what it becomes, where it is last read; of the value that it is made of, where that is last read."""
    last = var
    while True:
        reader = lives.at.get(lives.of[last].end)
        target = reader.targets[0] if reader is not None and len(reader.targets) == 1 else None
        if target is None or target is last or reader is None or last not in lives.read(reader):
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


def _between(var: Var, lives: Lives, names: Names, plain: _Plain) -> Iterator[str]:
    """The name of the result that stands where it does among a call's operands, where it is last read; of what it comes from and becomes."""
    reader = lives.at.get(lives.of[var].end)
    if reader is None or var not in lives.read(reader):
        return
    if len(reader.targets) > 1:
        given = reader.value.args if isinstance(reader.value, Call) else ()
        yield from (plain(t.hint) for t, g in zip(reader.targets, given, strict=False) if g is var and t is not None and t.hint)
        return
    target, made = next(iter(reader.targets), None), lives.made.get(var, [])
    if target is not None and target.hint and len(made) == 1:
        ended = (v for v in lives.read(made[0]) if lives.of[v].end == lives.of[var].start)
        yield from (plain(target.hint) for v in ended if names.get(v) == plain(target.hint))


# ---------------------------------------------------------------- copies


def _told_apart(lives: Lives, inputs: Names, plain: _Plain) -> dict[Var, str]:
    """Values of one name that live at once, each made in the same way from other numbers: `local_angle` and `angle` from `local_theta` and
    `theta`."""
    groups: dict[str, list[Var]] = {}
    for var in lives.of:
        if var.hint and var not in inputs and len(lives.made.get(var, [])) == 1:
            groups.setdefault(var.hint, []).append(var)
    found: dict[Var, str] = {}
    for hint, group in groups.items():
        where = Together([lives.of[v] for v in group])
        together = [v for v in group if where.overlap_others(lives.of[v])]
        if len(together) > MOST_TOLD_APART:
            continue
        prefixes = _prefixes([_numbers_behind(v, lives, set(inputs)) for v in together])
        found |= {v: plain(f"{p}_{hint}" if p else hint) for v, p in zip(together, prefixes, strict=False)}
    return found


def _numbers_behind(var: Var, lives: Lives, seen: set[Var]) -> set[str]:
    """The attributes and arguments that a value is computed from."""
    found: set[str] = set()
    left = [var]
    while left:
        at = left.pop()
        if at in seen:
            continue
        seen.add(at)
        for statement in lives.made.get(at, []):
            found |= _numbers_in(statement.value)
            left += [v for v in lives.read(statement) if len(lives.made.get(v, [])) == 1]
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
    """What stands in each number's name before the words that all have, where each value is made from one number that not all are made from."""
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
    return found if shared and len(set(found)) > 1 else []
