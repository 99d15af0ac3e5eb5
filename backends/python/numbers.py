"""Symbolic numbers as code."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from ...compiler.dims import Apply, Atom, Expr, Monomial, Number, Sym, apart
from .code import Attribute, Binary, Call, Code, Text, Unary, number

Lookup = Callable[[Sym], Code]
SIGNS = {"floor_div": "//", "mod": "%", "pow": "**"}
BUILTIN = {"maximum": "max", "minimum": "min", "abs": "abs", "int": "int"}


def expression(expr: Expr, lookup: Lookup) -> Code:
    """`heads * head_dim`, `d_model // heads`, `head_dim**-0.5`: exact quotients of whole numbers are written `//`."""
    result: Code | None = None
    whole, above, below = apart(expr)
    for monomial, coefficient in sorted(whole.terms, key=lambda term: term[1] < 0):
        term = _term(monomial, -coefficient if coefficient < 0 else coefficient, lookup, expr.is_real)
        if result is None:
            result = _negative(term) if coefficient < 0 else term
        else:
            result = Binary("-" if coefficient < 0 else "+", result, term)
    if above.terms:
        quotient = Binary("//", expression(above, lookup), expression(below, lookup))
        result = quotient if result is None else Binary("+", result, quotient)
    return number(0) if result is None else result


def _negative(term: Code) -> Code:
    """A leading minus goes on the first factor: `-x / 2`."""
    if isinstance(term, Binary) and term.operator in ("*", "/"):
        return Binary(term.operator, _negative(term.left), term.right)
    return Unary("-", term)


def _term(monomial: Monomial, coefficient: Number, lookup: Lookup, real: bool) -> Code:
    """`real`: a part of a float, (3 + x) / 2, need not be whole as parts of whole numbers are."""
    top: list[Code] = []
    bottom: list[Code] = []
    if isinstance(coefficient, Fraction):
        if coefficient.numerator != 1:
            top.append(number(coefficient.numerator))
        bottom.append(number(coefficient.denominator))
    elif coefficient != 1 or not monomial:
        top.append(number(coefficient))
    for atom, power in monomial:
        code = _atom(atom, lookup)
        (top if power > 0 else bottom).append(Binary("**", code, number(abs(power))) if abs(power) != 1 else code)
    upper = _product(top)
    return Binary("/" if real else "//", upper, _product(bottom)) if bottom else upper


def _product(factors: list[Code]) -> Code:
    result: Code = factors[0] if factors else number(1)
    for factor in factors[1:]:
        result = Binary("*", result, factor)
    return result


def _atom(atom: Atom, lookup: Lookup) -> Code:
    if isinstance(atom, Sym):
        return lookup(atom)
    arguments = [expression(a, lookup) for a in atom.arguments]
    if atom.function in SIGNS:
        return Binary(SIGNS[atom.function], *arguments)
    if atom.function == "div":
        return Binary("/" if atom.is_real else "//", *arguments)
    if atom.function in BUILTIN:
        return Call(Text(BUILTIN[atom.function]), tuple(arguments))
    return Call(Attribute(Text("math"), atom.function), tuple(arguments))


def applications(expr: Expr) -> set[str]:
    """Names of the functions inside (to know what must be imported)."""
    found: set[str] = set()
    for monomial, _ in expr.terms:
        for atom, _ in monomial:
            if isinstance(atom, Apply):
                found.add(atom.function)
                for a in atom.arguments:
                    found |= applications(a)
    return found
