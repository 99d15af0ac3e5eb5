"""Names for the fields of the generated Config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from . import ir
from .dims import Expr, Sym
from .scope import Symbols


def exprs_of(module: ir.Module) -> Iterator[Expr]:
    """Every static number in a module and below, in order."""
    for m in ir.walk(module):
        for param in m.params:
            yield from _in_type(param.type)
            yield from param.init.numbers
            if param.init.table is not None:
                yield from _in_body(param.init.table.body)
        for child in m.children:
            yield from ir.counts_of(child)
        yield from _in_body(m.body)


def _in_type(kind: ir.Type) -> Iterator[Expr]:
    yield from (a.size for a in kind.axes if a.label is not ir.REST)


def _in_body(body: Iterable[ir.Op]) -> Iterator[Expr]:
    for node in body:
        for f in fields(node):
            value = getattr(node, f.name)
            for item in value if isinstance(value, tuple) else (value,):
                match item:
                    case Expr():
                        yield item
                    case ir.Value():
                        yield from _in_type(item.type)
                    case ir.Axis():
                        yield item.size
                    case ir.Region():
                        yield from _in_body(item.body)


def name_config(root: ir.Module, symbols: Symbols, inputs: Sequence[ir.ModelInput]) -> tuple[tuple[str, Sym], ...]:
    """The symbols that measure, in the order in which the spec brought them up, with unique names.

    A name that two symbols share is made longer by the path at which each was given: `hidden` and `experts_hidden`."""
    found: set[Sym] = set()
    for expr in exprs_of(root):
        found.update(s for s in expr.symbols if s.value is not None)
    for given in inputs:
        inside = [] if given.default is None else _in_body(given.default.body)
        for expr in [*inside, *([given.bound] if given.bound is not None else [])]:
            found.update(s for s in expr.symbols if s.value is not None)
    ordered = sorted(found - symbols.structural, key=lambda s: s.order)
    names: dict[Sym, str] = {}
    by_name: dict[str, list[Sym]] = {}
    for symbol in ordered:
        by_name.setdefault(symbol.name, []).append(symbol)
    taken = set(by_name)
    again: dict[str, int] = {}
    for name, group in by_name.items():
        first = min(group, key=lambda s: (len(s.hint), s.order))
        for symbol in group:
            if symbol is first:
                names[symbol] = name
                continue
            path = [p for p in symbol.hint[:-1] if p] or ["other"]
            longer = name
            for part in reversed(path):
                longer = f"{part}_{longer}"
                if longer not in taken:
                    break
            if longer in taken:
                n = again.get(longer, 1)
                while (numbered := f"{longer}_{n if n > 1 else ''}") in taken:
                    n += 1
                again[longer], longer = n, numbered
            taken.add(longer)
            names[symbol] = longer
    return tuple((names[s], s) for s in ordered)
