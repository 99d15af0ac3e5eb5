"""Small values for a model's sizes that keep every fact the checker used, so that a large model can be verified in seconds.

Divisibilities, equalities and bounds hold as in the spec; sizes are distinct primes where they are free, so that a swapped axis cannot
hide; a window stays shorter than the sequence; repeats come down to every slot twice and one more. The structure never changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

from ..compiler import ir
from ..compiler.dims import Expr, Sym, const
from ..compiler.ir import Bank, Fact, Module, Program, Stack
from ..grammar.frozen import frozen, mutable
from .interpreter import places

Number = int | float

SMALL = 4
"""Numbers up to this are kept: they may count what cannot be fewer."""

ENOUGH = 1_000_000
"""A smaller model should hold no more numbers than this, if it can."""

_PRIMES = tuple(n for n in range(2, 200) if all(n % d for d in range(2, math.isqrt(n) + 1)))
_OTHERS = tuple(n for n in range(4, 513) if n not in _PRIMES)
_TRIES = 3000
_CHOICES = 40


@frozen
class Shrunk:
    """A program with fewer layers where their number is fixed, and values for Config and for the dynamic axes."""

    program: Program
    under: Mapping[Sym, Number]

    def config(self) -> dict[str, Number]:
        """Every field of Config with its value here."""
        return {name: self.under.get(symbol, symbol.value or 0) for name, symbol in self.program.config}

    def changes(self) -> dict[str, tuple[Number, Number]]:
        """Fields of Config that differ from the spec: name to (value in the spec, value here)."""
        values = self.config()
        return {n: (s.value, values[n]) for n, s in self.program.config if s.value is not None and s.value != values[n]}


def unshrunk(program: Program) -> Shrunk:
    """The program as it is, with lengths for its dynamic axes."""
    fixed = {s: s.value for _, s in program.config if s.value is not None}
    return _solved(program, fixed, {})


def shrink(program: Program) -> Shrunk:
    """See the module. If no small values satisfy the facts, the numbers stay what they are."""
    smaller = replace(program, root=ir.rewrite(program.root, _fewer_layers))
    counts = _layer_counts(smaller)
    fixed: dict[Sym, Number] = {}
    free: dict[Sym, int] = {}
    for _, symbol in smaller.config:
        value = symbol.value
        if value is None:
            continue
        if symbol in counts:
            fixed[symbol] = min(int(value), counts[symbol])
        elif symbol.is_real or value <= SMALL:
            fixed[symbol] = value
        else:
            free[symbol] = int(value)
    chosen = _solved(smaller, fixed, free)
    if _weights(chosen) <= ENOUGH:
        return chosen
    frugal = _solved(smaller, fixed, free, frugal=True)
    return frugal if _weights(frugal) < _weights(chosen) else chosen


def _weights(chosen: Shrunk) -> int:
    """How many numbers the parameters of the smaller model hold."""
    return sum(math.prod(int(n) for n in p.shape(chosen.under)) for p in places(chosen.program, chosen.under))


# ---------------------------------------------------------------- layers


def _fewer_layers(module: Module) -> Module:
    """Exact patterns of fixed numbers: each slot at most twice."""

    def fewer(child: ir.Child | Stack | Bank) -> ir.Child | Stack | Bank:
        if not isinstance(child, Stack) or child.cycle or child.count.symbols or any(n.symbols for _, n in child.slots):
            return child
        slots = tuple((m, const(min(int(n.value() or 0), 2))) for m, n in child.slots)
        return replace(child, slots=slots, count=const(sum(int(n.value() or 0) for _, n in slots)))

    return replace(module, children=tuple(map(fewer, module.children)))


def _layer_counts(program: Program) -> dict[Sym, int]:
    """Symbols that count layers, with how many are enough."""
    found: dict[Sym, int] = {}
    for module in ir.walk(program.root):
        for child in module.children:
            if not isinstance(child, Stack):
                continue
            if child.cycle or len(child.slots) == 1:
                pattern = sum(int(n.value() or 1) for _, n in child.slots) if child.cycle else 1
                enough = 2 * pattern + 1 if pattern > 1 else 2
                for symbol in child.count.symbols:
                    found[symbol] = max(enough, found.get(symbol, 0))
            else:
                for _, n in child.slots:
                    for symbol in n.symbols:
                        found[symbol] = max(2, found.get(symbol, 0))
    return found


# ---------------------------------------------------------------- sizes


@mutable(slots=True)
class _Search:
    """Depth-first search, one symbol after another in the order of their size in the spec."""

    facts: tuple[Fact, ...]
    original: Mapping[Sym, int]
    in_params: frozenset[Sym]
    together: frozenset[frozenset[Sym]]
    under: dict[Sym, Number]
    order: Sequence[Sym]
    tries: int = 0
    frugal: bool = False

    def solve(self, k: int = 0) -> bool:
        if k == len(self.order):
            return True
        symbol = self.order[k]
        for value in self.candidates(symbol):
            self.tries += 1
            if self.tries > _TRIES:
                return False
            self.under[symbol] = value
            if self.solve(k + 1):
                return True
            del self.under[symbol]
        return False

    def fits(self, symbol: Sym, value: int) -> bool:
        """Whether the facts whose symbols all have a value then hold."""
        under = {**self.under, symbol: value}
        return all(_holds(f, under, self.order) for f in self.facts if symbol in f.a.symbols | f.b.symbols)

    def candidates(self, symbol: Sym) -> list[int]:
        """Values to try, best first: as in the spec greater than what is smaller there, not used yet, prime, small."""
        original = self.original.get(symbol)
        if original is None:
            return [n for n in (*_PRIMES, *_OTHERS) if n >= self.least_length() and self.fits(symbol, n)][:_CHOICES]
        floor = 17 if original >= 128 and symbol in self.in_params else 2
        numbers = [n for n in {*_PRIMES, *_OTHERS, original} if n <= original and self.fits(symbol, n)]
        used = set(self.under.values())
        alike = [s for s in self.under if s in self.original and (s in self.in_params) == (symbol in self.in_params)]
        beside = [s for s in self.under if s in self.original and frozenset((s, symbol)) in self.together]

        def cost(n: int) -> tuple[int, int, bool, int]:
            inverted = sum((self.under[s] >= n) != (self.original[s] >= original) for s in beside)
            low = n < floor or any(self.under[s] >= n for s in alike if self.original[s] < original)
            if self.frugal:  # where distinct sizes multiply to too much: small ones, in the spec's order
                return inverted, 0, False, n
            repeated = n in used or bool(self.quotients(symbol, n) & used)
            return inverted, low + 2 * repeated, n not in _PRIMES, n

        return sorted(numbers, key=cost)[:_CHOICES]

    def least_length(self) -> int:
        """Dynamic axes: the batch first, then sequences long enough for windows to matter."""
        dynamic = sum(s in self.under for s in self.order if s not in self.original)
        return (2, 11, 7, 5)[min(dynamic, 3)]

    def quotients(self, symbol: Sym, value: int) -> set[Number]:
        """Sizes that follow from this one by an exact division."""
        under = {**self.under, symbol: value}
        found: set[Number] = set()
        for fact in self.facts:
            if (
                fact.kind == "divides"
                and fact.a.symbols
                and symbol in fact.a.symbols | fact.b.symbols
                and (fact.a.symbols | fact.b.symbols) <= under.keys()
            ):
                a, b = fact.a.value(under), fact.b.value(under)
                if a and b and a != 1 and b != a:
                    found.add(b / a)
        return {int(n) for n in found if n == int(n) and n > 1}


def _holds(fact: Fact, under: Mapping[Sym, Number], order: Sequence[Sym]) -> bool:
    """Whether a fact holds, as far as its symbols have got their values."""
    if any(s in order and s not in under for s in fact.a.symbols | fact.b.symbols):
        return True
    a, b = fact.a.value(under), fact.b.value(under)
    if a is None or b is None:
        return True
    match fact.kind:
        case "divides":
            return a != 0 and b % a == 0 and b > 0
        case "equal":
            return a == b
        case "at_least":
            return a >= b


def _solved(program: Program, fixed: dict[Sym, Number], free: Mapping[Sym, int], *, frugal: bool = False) -> Shrunk:
    facts = tuple({(f.kind, f.a, f.b): f for f in program.facts}.values())
    sized = sorted(free, key=lambda s: (free[s], s.order))
    search = _Search(facts, free, _in_params(program), _together(program), dict(fixed), (*sized, *program.dynamic), frugal=frugal)
    if search.solve():
        return Shrunk(program, dict(search.under))
    kept: dict[Sym, Number] = {**fixed, **free}
    lengths = _Search(facts, {}, frozenset(), frozenset(), dict(kept), program.dynamic)
    if lengths.solve():
        return Shrunk(program, lengths.under)
    return Shrunk(program, {**kept, **{s: 2 if k == 0 else 12 for k, s in enumerate(program.dynamic)}})


def _in_params(program: Program) -> frozenset[Sym]:
    """Symbols that the size of some parameter depends on."""
    sizes = [a.size for m in ir.walk(program.root) for p in m.params for a in p.type.axes]
    sizes += [c.axis.size for m in ir.walk(program.root) for c in m.children if isinstance(c, Bank)]
    return frozenset(s for size in sizes for s in size.symbols)


def _together(program: Program) -> frozenset[frozenset[Sym]]:
    """Pairs of symbols that one expression compares or combines: their order matters."""
    found: set[frozenset[Sym]] = set()
    for module in ir.walk(program.root):
        for expr in (e for node in module.body for e in _numbers(node)):
            symbols = [s for s in expr.symbols if s.value is not None]
            found |= {frozenset((a, b)) for a in symbols for b in symbols if a is not b}
    return frozenset(found)


def _numbers(node: ir.Op) -> Iterator[Expr]:
    for f in fields(node):
        value = getattr(node, f.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Expr):
                yield item
    for region in ir.regions(node):
        for inner in region.body:
            yield from _numbers(inner)
