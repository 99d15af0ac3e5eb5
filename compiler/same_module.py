"""Whether two elaborations of one recipe are one module: equal but for labels, values, places, and how long the axes of their inputs are."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import field, is_dataclass

from ..grammar.frozen import field_names, mutable
from ..grammar.tree import Span
from . import ir
from .dims import Atom, Expr, Sym, sym

_LEFT_OUT = frozenset(("span", "hint", "doc", "named", "locals", "axis_names"))
"""What a module is called and where its parts stand."""


def same_module(a: ir.Module, b: ir.Module) -> bool:
    """Whether a call of the one may stand for a call of the other. Lengths are those of the inputs: one module may serve two."""
    return _Form().of(a) == _Form().of(b)


@mutable
class _Form:
    """Writes a module with numbers for its labels and values, in the order in which they come."""

    numbers: dict[object, int] = field(default_factory=dict)
    lengths: dict[Atom, Expr] = field(default_factory=dict)

    def of(self, thing: object) -> Hashable:
        match thing:
            case ir.Value():
                known = thing in self.numbers
                return (self.count(thing), None if known else self.of(thing.type))
            case ir.Label():
                return "..." if thing is ir.REST else self.count(thing)
            case ir.Axis() if thing.label is ir.REST:
                return "..."
            case Expr():
                return thing.substitute(self.lengths) if thing.is_dynamic else thing
            case ir.Module():
                self.measure(thing)
                return self.parts(thing)
            case tuple():
                return tuple(map(self.of, thing))
            case Span():
                return None
            case _ if is_dataclass(thing):
                return self.parts(thing)
            case str() | bool() | int() | float() | None:
                return (type(thing), thing)
        raise TypeError(thing)

    def parts(self, thing: object) -> Hashable:
        kind = type(thing)
        return (kind, *(self.of(getattr(thing, name)) for name in field_names(kind) if name not in _LEFT_OUT))

    def count(self, thing: object) -> int:
        return self.numbers.setdefault(thing, len(self.numbers))

    def measure(self, module: ir.Module) -> None:
        """Lengths by those of the inputs: where one is `t - 1`, t is a number of the input's axis, and one."""
        for size in (a.size for v in module.inputs for a in v.type.axes if a.size.is_dynamic):
            for monomial, coefficient in size.terms:
                one = Expr(((monomial, 1),))
                alone = coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1 and one.is_dynamic
                if alone and monomial[0][0] not in self.lengths and not (size - one).is_dynamic:
                    self.lengths[monomial[0][0]] = sym(_stand_in(len(self.lengths))) - (size - one)


_STAND_INS: list[Sym] = []


def _stand_in(k: int) -> Sym:
    while len(_STAND_INS) <= k:
        _STAND_INS.append(Sym(name=f"${len(_STAND_INS)}"))
    return _STAND_INS[k]
