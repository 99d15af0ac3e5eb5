"""When local variables are in use, and which names are taken then. All of it in about linear time: a body may have thousands of variables."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import field
from heapq import heappop, heappush
from itertools import accumulate

from ...grammar.frozen import mutable
from .code import Assign, Block, Do, Return, Statement, Store, Var, variables


@mutable(slots=True)
class Life:
    """From where a variable is assigned to where it is last read; two lives overlap where one starts before the other ends, or with it."""

    start: int
    end: int


@mutable(slots=True)
class Lives:
    """When each variable is in use; which assignments stand where."""

    of: dict[Var, Life]
    at: dict[int, Assign] = field(default_factory=dict)
    made: dict[Var, list[Assign]] = field(default_factory=dict)
    _read: dict[int, frozenset[Var]] = field(default_factory=dict)

    def read(self, statement: Assign) -> frozenset[Var]:
        """The variables that one of these assignments reads."""
        if id(statement) not in self._read:
            self._read[id(statement)] = frozenset(variables(statement.value))
        return self._read[id(statement)]


class Together:
    """Lives, to be asked which others they overlap."""

    def __init__(self, lives: Sequence[Life]) -> None:
        ordered = sorted(lives, key=lambda life: life.start)
        self._starts = [life.start for life in ordered]
        self._ends = list(accumulate((life.end for life in ordered), max))  # the last end of these and those before
        self._count = Counter(self._starts)

    def overlap(self, life: Life) -> bool:
        """Whether one of them overlaps a life that is none of them."""
        if self._count[life.start]:
            return True
        earlier = bisect_left(self._starts, life.end)
        return earlier > 0 and self._ends[earlier - 1] > life.start

    def overlap_others(self, life: Life) -> bool:
        """Whether one of them overlaps another one of them."""
        if self._count[life.start] > 1:
            return True
        at = bisect_left(self._starts, life.start)
        before = at > 0 and self._ends[at - 1] > life.start
        return before or (at + 1 < len(self._starts) and self._starts[at + 1] < life.end)


class TakenNames:
    """The names in use at a place, which moves on."""

    def __init__(self, inputs: Iterable[tuple[Life, str]]) -> None:
        self._taken: Counter[str] = Counter()
        self._ends: list[tuple[int, int, str]] = []
        self._next: dict[tuple[str, bool], int] = {}
        self._place = self._made = 0
        for life, name in inputs:
            self.take(life, name)

    def __contains__(self, name: str) -> bool:
        return self._taken[name] > 0

    def take(self, life: Life, name: str) -> None:
        self._taken[name] += 1
        self._made += 1
        heappush(self._ends, (max(life.end, life.start), self._made, name))

    def move_to(self, place: int) -> None:
        """Names of what ended there or before, and started before, are free."""
        if place == self._place:
            return
        self._place = place
        while self._ends and self._ends[0][0] <= place:
            name = heappop(self._ends)[2]
            self._taken[name] -= 1
            if not self._taken[name]:
                self._free(name)

    def numbered(self, base: str, words: Collection[str]) -> str:
        """`base2`, `base3`, ...: the first that is neither taken nor one of the words."""
        key = (base, bool(words))
        n = self._next.get(key, 2)
        while self._taken[f"{base}{n}"] or f"{base}{n}" in words:
            n += 1
        self._next[key] = n
        return f"{base}{n}"

    def _free(self, name: str) -> None:
        for at in range(len(name) - 1, max(len(name) - 7, 0), -1):  # `x12` is the twelfth `x` and the second `x1`
            if not name[at].isdecimal():
                return
            for key in ((name[:at], False), (name[:at], True)):
                if key in self._next and name[at] != "0":
                    self._next[key] = min(self._next[key], max(int(name[at:]), 2))


def measure_lives(statements: tuple[Statement, ...], inputs: Iterable[Var]) -> Lives:
    lives = Lives({v: Life(0, 0) for v in inputs})
    end = _measure(statements, 1, lives)
    for v in _captured(statements):
        lives.of[v].end = end
    return lives


def _measure(statements: tuple[Statement, ...], position: int, lives: Lives) -> int:
    for s in statements:
        start = position
        match s:
            case Assign(targets, value, _, _):
                lives.at[position] = s
                for v in variables(value):
                    lives.of[v].end = position
                for t in targets:
                    if t is not None:
                        life = lives.of.setdefault(t, Life(position, position))
                        life.end = max(life.end, position)
                        lives.made.setdefault(t, []).append(s)
            case Do(value) | Store(_, value) | Return(value):
                for v in variables(value):
                    lives.of[v].end = position
            case Block(head, _, body, loop, binds):
                for v in variables(head):
                    lives.of[v].end = position
                for t in binds:
                    lives.of[t] = Life(position, position)
                around = [v for v in _touched(body) if v in lives.of] if loop else []
                position = _measure(body, position + 1, lives)
                for v in around:
                    lives.of[v].end = max(lives.of[v].end, position)
                    lives.of[v].start = min(lives.of[v].start, start)
        position += 1
    return position


def _captured(statements: tuple[Statement, ...]) -> set[Var]:
    """Functions inside, and what they read: that may be until the end."""
    found: set[Var] = set()
    for s in statements:
        if isinstance(s, Block):
            found |= {*s.binds, *_touched(s.body)} - _assigned(s.body) if s.keyword == "def" else _captured(s.body)
    return found


def _assigned(statements: tuple[Statement, ...]) -> set[Var | None]:
    found: set[Var | None] = set()
    for s in statements:
        if isinstance(s, Assign):
            found.update(s.targets)
        elif isinstance(s, Block):
            found |= _assigned(s.body)
    return found


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
