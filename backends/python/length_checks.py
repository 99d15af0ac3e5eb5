"""What a spec takes for granted of sizes that only a call knows, asked of its inputs: `if T % self.patch: raise ...`."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.dims import Apply, Expr, Sym, const, sym
from .code import Binary, Block, Do, Statement, Text
from .write_body import BodyWriter


def length_checks(w: BodyWriter, program: ir.Program) -> list[Statement]:
    """For every fact about dynamic sizes that not all lengths and settings fulfil. With a cache, a call knows a part of the length only.

    Sizes of sizes (a chain of convolutions) are left to the operations that need them."""
    known = {*program.dynamic, *(s for _, s in program.config)}
    found: dict[str, Statement] = {}
    for fact in program.facts if program.decoding is None else ():
        symbols = fact.a.symbols | fact.b.symbols
        if not symbols & set(program.dynamic) or not symbols <= known or _nested(fact.a) or _nested(fact.b) or _always(fact):
            continue
        a, b = w.number(fact.a), w.number(fact.b)
        match fact.kind:
            case "divides":
                wrong, message = Binary("%", b, a), f"{fact.a} must divide {fact.b}"
            case "equal":
                wrong, message = Binary("!=", a, b), f"{fact.a} must equal {fact.b}"
            case "at_least":
                wrong, message = Binary("<", a, b), f"{fact.a} must be at least {fact.b}"
        found[message] = Block(wrong, "if", (Do(Text(f'raise ValueError("{message}")')),))
    return list(found.values())


def _always(fact: ir.Fact) -> bool:
    """Whether it holds for all sizes of one and more."""
    if fact.kind == "divides":
        return fact.a.constant == 1
    return fact.kind == "at_least" and _never_negative(fact.a - fact.b)


def _never_negative(expr: Expr) -> bool:
    """Whether this is at least 0 for sizes of one and more: `n // k` lies between 0 and n."""
    least = const(0)
    for monomial, coefficient in expr.terms:
        term = const(coefficient)
        for atom, power in monomial:
            bound = _bound(atom, below=coefficient > 0)
            if bound is None or power < 0:
                return False
            for _ in range(power):
                term = term * bound
        least = least + term
    shifted = least.substitute({s: sym(s) + const(1) for s in least.symbols})
    return all(c >= 0 and all(isinstance(a, Sym) for a, _ in monomial) for monomial, c in shifted.terms)


def _bound(atom: Sym | Apply, *, below: bool) -> Expr | None:
    if isinstance(atom, Sym):
        return sym(atom)
    if atom.function != "floor_div" or not all(_never_negative(e) for e in atom.arguments):
        return None
    return const(0) if below else atom.arguments[0]


def _nested(expr: Expr) -> bool:
    """Whether a part of a size is taken of another part."""
    applied = [a for monomial, _ in expr.terms for a, _ in monomial if isinstance(a, Apply)]
    return any(isinstance(b, Apply) for a in applied for e in a.arguments for monomial, _ in e.terms for b, _ in monomial)
