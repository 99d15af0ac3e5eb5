"""Straight-line code that reads as written: dead values go, values used once move into the expression that uses them, copies vanish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from .broadcast_once import broadcast_once
from .code import (
    AT,
    COUNT,
    WIDTH,
    Assign,
    Attribute,
    Binary,
    Block,
    Call,
    Code,
    Do,
    Each,
    Items,
    Note,
    Return,
    Statement,
    Store,
    Subscript,
    Text,
    Var,
    render,
    size_of,
    substitute,
    variables,
    with_value,
)  # fmt: skip
from .sink_values import sink_values

FOLD_WIDTH = 114
FOLD_SIZE = 12
LARGEST = FOLD_WIDTH // 2
"""Into a value that reads more variables than this nothing moves: it fits no line, with two characters for each."""


Simplify = Callable[[Code], Code]


def fold_values(
    statements: tuple[Statement, ...], inputs: tuple[Var, ...], indent: int, simplify: Simplify = lambda code: code
) -> tuple[Statement, ...]:
    """Requires: pure values, each variable assigned before it is read. Ensures: the same result; no dead store and no plain copy.

    A value with a name in the spec keeps its line, unless it is only returned; a nameless one read once moves into its reader while the
    line stays readable. `simplify` rewrites what was joined. Nothing moves into a loop, and nothing that reads a variable assigned twice moves across a block."""
    statements = _drop_dead(statements)
    statements = _join_copies(statements, inputs)
    statements = _take_results(statements, Counter(_reads(statements)))
    statements = broadcast_once(statements, inputs)
    often = _assigned_often(statements)
    statements = sink_values(statements, often)
    folded = _fold(statements, Counter(_reads(statements)), often, indent, simplify)
    return break_long(folded, indent)


def _value(s: Statement) -> Code | None:
    return s.value if isinstance(s, Assign | Do | Store | Return) else s.head if isinstance(s, Block) else None


def reads_of(statement: Statement) -> Iterator[Var]:
    """Variables that a statement reads, as often as it does."""
    yield from _reads((statement,))


def _reads(statements: tuple[Statement, ...]) -> Iterator[Var]:
    for s in statements:
        value = _value(s)
        if value is not None:
            yield from variables(value)
        if isinstance(s, Block):
            yield from _reads(s.body)


def _targets(statements: tuple[Statement, ...]) -> Iterator[Var]:
    for s in statements:
        if isinstance(s, Assign):
            yield from (t for t in s.targets if t is not None)
        elif isinstance(s, Block):
            yield from s.binds
            yield from _targets(s.body)


def _assigned_often(statements: tuple[Statement, ...]) -> set[Var]:
    return {v for v, n in Counter(_targets(statements)).items() if n > 1}


def _drop_dead(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    while True:
        read = set(_reads(statements))
        kept = _living(statements, read)
        if len(list(_targets(kept))) == len(list(_targets(statements))):
            return kept
        statements = kept


def _living(statements: tuple[Statement, ...], read: set[Var]) -> tuple[Statement, ...]:
    kept: list[Statement] = []
    for s in statements:
        if isinstance(s, Assign) and s.pure:
            targets = tuple(t if t in read else None for t in s.targets)
            if any(t is not None for t in targets):
                kept.append(replace(s, targets=targets))
        elif isinstance(s, Block):
            body = _living(s.body, read)
            if body:
                kept.append(replace(s, body=body))
        else:
            kept.append(s)
    return tuple(kept)


def _join_copies(statements: tuple[Statement, ...], inputs: tuple[Var, ...]) -> tuple[Statement, ...]:
    """`c = v` where v is read nowhere else: v is c from the start (an input lends its name instead)."""
    often = _assigned_often(statements)
    last = {v: k for k, s in enumerate(statements) for v in reads_of(s)} if often else {}
    mapping: dict[Var, Code] = {}
    kept: list[Statement] = []
    assigned: set[Var | None] = set()
    for k, s in enumerate(statements):
        target = s.targets[0] if isinstance(s, Assign) and len(s.targets) == 1 else None
        source = s.value if isinstance(s, Assign) else None
        if target is not None and target in often and isinstance(source, Var) and last[source] == k:
            if source in inputs:
                mapping[target] = source
                continue
            if source in assigned:
                mapping[source] = target
                continue
        if isinstance(s, Assign):
            assigned.update(s.targets)
        kept.append(s)
    return _rename(tuple(kept), mapping) if mapping else statements


def _take_results(statements: tuple[Statement, ...], reads: Counter[Var]) -> tuple[Statement, ...]:
    """`a, b = f(); c = a; d = b` is `c, d = f()` where nobody else reads a and b."""
    found: list[Statement] = []
    for s in statements:
        if isinstance(s, Block):
            s = replace(s, body=_take_results(s.body, reads))
        taken = None if not found else _taken(found[-1], s, reads)
        found[-1 if taken else len(found) :] = [taken or s]
    return tuple(found)


def _taken(made: Statement, copy: Statement, reads: Counter[Var]) -> Assign | None:
    """Two statements as one, if the second names a result of the first."""
    if not isinstance(made, Assign) or not isinstance(copy, Assign) or len(made.targets) == 1 or len(copy.targets) != 1:
        return None
    source, target = copy.value, copy.targets[0]
    if not isinstance(source, Var) or source not in made.targets or reads[source] != 1 or target in (*made.targets, *variables(made.value)):
        return None
    return replace(made, targets=tuple(target if t is source else t for t in made.targets))


def _rename(statements: tuple[Statement, ...], mapping: dict[Var, Code]) -> tuple[Statement, ...]:
    def target(t: Var | None) -> Var | None:
        new = mapping.get(t) if t is not None else None
        return new if isinstance(new, Var) else t

    found: list[Statement] = []
    for s in statements:
        value = _value(s)
        if value is not None:
            s = with_value(s, substitute(value, mapping))
        if isinstance(s, Assign):
            s = replace(s, targets=tuple(map(target, s.targets)))
        elif isinstance(s, Block):
            s = replace(s, body=_rename(s.body, mapping))
        found.append(s)
    return tuple(found)


class _Ready:
    """Values of a block that are read once and may still move; `kept` has None where one has moved."""

    def __init__(self) -> None:
        self.kept: list[Statement | None] = []
        self._at: dict[Var, int] = {}
        self._readers: dict[Var, list[Var]] = {}  # of the values that may move

    def __contains__(self, var: Var) -> bool:
        return var in self._at

    def variables(self) -> list[Var]:
        return list(self._at)

    def value(self, var: Var) -> Code:
        assign = self.kept[self._at[var]]
        assert isinstance(assign, Assign)
        return assign.value

    def add(self, var: Var, value: Code) -> None:
        """The last statement that was kept makes a value that may move."""
        self._at[var] = len(self.kept) - 1
        for read in variables(value):
            self._readers.setdefault(read, []).append(var)

    def move(self, var: Var) -> None:
        self.kept[self._at.pop(var)] = None

    def stay(self, of: Var | None = None) -> None:
        """What reads a variable does not move beyond here; or nothing does."""
        if of is None:
            self._at, self._readers = {}, {}
            return
        for var in self._readers.pop(of, ()):
            self._at.pop(var, None)

    def statements(self) -> tuple[Statement, ...]:
        return tuple(s for s in self.kept if s is not None)


def _fold(
    statements: tuple[Statement, ...], reads: Counter[Var], often: set[Var], indent: int, simplify: Simplify
) -> tuple[Statement, ...]:
    ready = _Ready()
    for s in statements:
        if isinstance(s, Block):
            if s.keyword == "with":
                s = replace(s, body=_with_casts(s.body, ready))
            body = _fold(s.body, reads, often, indent + 4, simplify)
            s = replace(s, body=body)
            for var in often:
                ready.stay(var)
            if _has_effects(s.body):
                ready.stay()
            ready.kept.append(s)
            continue
        value = _value(s)
        if value is not None:
            s = with_value(s, _absorb(s, value, ready, indent, simplify))
        ready.kept.append(s)
        target = s.targets[0] if isinstance(s, Assign) and s.pure and len(s.targets) == 1 else None
        if isinstance(s, Assign) and target is not None:
            if reads[target] == 1 and target not in often:
                ready.add(target, s.value)
            if target in often:
                ready.stay(target)
        if isinstance(s, Do | Store):
            ready.stay()
    return ready.statements()


def _with_casts(body: tuple[Statement, ...], ready: _Ready) -> tuple[Statement, ...]:
    """The body of a `with` with the casts in it that it alone reads: it does not change what they do."""
    read = set(_reads(body))
    casts: dict[Var, Code] = {}
    for var in [v for v in ready.variables() if v in read and not v.hint]:
        value = ready.value(var)
        if isinstance(value, Call) and value.function == Text("float32"):
            casts[var] = value
            ready.move(var)
    return _rename(body, casts) if casts else body


def _has_effects(statements: tuple[Statement, ...]) -> bool:
    return any(isinstance(s, Do | Store) or (isinstance(s, Block) and _has_effects(s.body)) for s in statements)


def _absorb(s: Statement, value: Code, ready: _Ready, indent: int, simplify: Simplify) -> Code:
    """The value with what is read once only here moved into it, as far as it stays readable."""
    width = indent + (
        7 if isinstance(s, Return) else sum(len(t.hint or t.kind) + 2 if t else 3 for t in s.targets) + 1 if isinstance(s, Assign) else 0
    )
    read = list(variables(value))
    if len(read) > LARGEST:
        return value
    for var in read:
        if var not in ready:
            continue
        whole = value is var
        rebound = isinstance(s, Assign) and len(s.targets) == 1 and s.targets[0] is not None and s.targets[0].hint == var.hint
        if var.hint and not whole and not rebound:
            continue
        new = simplify(substitute(value, {var: ready.value(var)}))
        fits = width + len(render(new, lambda v: v.hint or v.kind)) <= FOLD_WIDTH and size_of(new) <= FOLD_SIZE
        if whole or fits:
            value = new
            ready.move(var)
    return value


def _flat_width(code: Code) -> int:
    return len(render(code, lambda v: v.hint or v.kind))


def break_long(statements: tuple[Statement, ...], indent: int) -> tuple[Statement, ...]:
    """Give the longest part of a statement that no line can hold a line of its own."""
    found: list[Statement] = []
    for s in statements:
        if isinstance(s, Block):
            found.append(replace(s, body=break_long(s.body, indent + 4)))
            continue
        if isinstance(s, Assign | Return):
            before: list[Statement] = []
            while (part := _too_long(s, indent)) is not None:
                var = Var(kind=_kind_of(part))
                before.insert(0, Assign((var,), part))
                s = with_value(s, _replace_part(s.value, part, var))
                assert isinstance(s, Assign | Return)
            found += break_long(tuple(before), indent) if before else []
        found.append(s)
    return tuple(found)


def _kind_of(part: Code) -> str:
    """What a part that gets a line of its own is called: a tuple of indices, a number, or a tensor as any other."""
    if isinstance(part, Items):
        return AT
    return COUNT if _is_number(part) else "y"


def _is_number(code: Code) -> bool:
    """Whether it is made of numbers and sizes alone."""
    match code:
        case Binary(_, left, right):
            return _is_number(left) and _is_number(right)
        case Var(hint=hint):
            return hint.isupper()
        case Attribute(value, _):
            return value == Text("self")
        case Text(text):
            return text.lstrip("-").replace(".", "", 1).isdecimal()
    return False


def _too_long(s: Assign | Return, indent: int) -> Code | None:
    """A part to take out, if the statement fits neither one line nor one line an argument."""
    start = 7 if isinstance(s, Return) else sum(len(t.hint or t.kind) + 2 if t else 3 for t in s.targets) + 1
    value = s.value
    if indent + start + _flat_width(value) <= WIDTH:
        return None
    if (
        isinstance(value, Call)
        and isinstance(value.function, Text | Attribute | Var)
        and not isinstance(getattr(value.function, "value", None), Call)
    ):
        longest = max((*value.args, *(v for _, v in value.named)), key=_flat_width, default=None)
        if longest is None or indent + 4 + _flat_width(longest) + 12 <= WIDTH:
            return None
        return longest if not isinstance(longest, Var | Each) else None
    if isinstance(value, Call):
        assert isinstance(value.function, Attribute)
        return value.function.value
    if isinstance(value, Binary):
        return max((value.left, value.right), key=_flat_width)
    if isinstance(value, Subscript):
        return value.value if not isinstance(value.value, Var) else None
    if isinstance(value, Items):
        longest = max(value.items, key=_flat_width)
        return longest if indent + 4 + _flat_width(longest) > WIDTH - 2 else None
    return None


def _replace_part(code: Code, part: Code, var: Var) -> Code:
    match code:
        case Call(function, args, named):
            if isinstance(function, Attribute) and function.value is part:
                return Call(Attribute(var, function.name), args, named)
            return Call(function, tuple(var if a is part else a for a in args), tuple((k, var if v is part else v) for k, v in named))
        case Binary(operator, left, right):
            return Binary(operator, var if left is part else left, var if right is part else right)
        case Subscript(value, items):
            return Subscript(var if value is part else value, items)
        case Items(items, square):
            return Items(tuple(var if i is part else i for i in items), square)
        case _:
            return code


def trim_notes(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """No empty line first, last or twice."""
    kept: list[Statement] = []
    for s in statements:
        if isinstance(s, Note) and not s.text and (not kept or (isinstance(kept[-1], Note) and not kept[-1].text)):
            continue
        kept.append(s)
    while kept and isinstance(kept[-1], Note) and not kept[-1].text:
        kept.pop()
    return tuple(kept)
