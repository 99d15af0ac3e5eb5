"""Symbolic numbers in normal form: sizes, counts and scalar constants.

    Expr   ::= sum of coefficient * product of atom ^ integer          (a Laurent polynomial, so d / heads * heads is d)
    atom   ::= Sym | Apply(function, arguments)
    Sym    ::= a field of the generated Config (it has a value), or a dynamic axis (it has none)

Two expressions that are equal as polynomials compare equal. Values are computed with `Expr.value`, under another assignment of the
symbols if one is given (verify shrinks models this way).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from fractions import Fraction
from itertools import count
from typing import cast

from ..grammar.frozen import frozen

_ids = count()


@frozen(eq=False)
class Sym:
    """A named number with an identity. `value` is none for a dynamic axis. `hint` is the path it was set at, for disambiguation."""

    name: str
    value: int | float | None = None
    hint: tuple[str, ...] = ()
    order: int = field(default_factory=lambda: next(_ids))

    @property
    def is_real(self) -> bool:
        return isinstance(self.value, float)

    def __repr__(self) -> str:
        return self.name


@frozen
class Apply:
    """An opaque function of expressions: div, floor_div, mod, pow, maximum, minimum, ceil, floor, log, sqrt, exp, cos, sin, tanh, abs."""

    function: str
    arguments: tuple[Expr, ...]

    @property
    def is_real(self) -> bool:
        if self.function in ("div", "floor_div", "mod", "maximum", "minimum", "abs"):
            return self.function != "floor_div" and any(a.is_real for a in self.arguments)
        if self.function in ("floor", "ceil", "int"):
            return False
        if self.function == "pow":
            return self.arguments[0].is_real or self.arguments[1].is_real or (self.arguments[1].constant or 0) < 0
        return True


Atom = Sym | Apply
Number = int | float | Fraction
Monomial = tuple[tuple[Atom, int], ...]

LARGEST_BITS = 4096
"""Whole numbers grow no longer than this: a spec cannot make the compiler count for ever."""


def _power(a: int | float, b: int | float) -> int | float:
    """a ** b; raises OverflowError or ValueError where that is no number to work with."""
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() * b > LARGEST_BITS:
        raise OverflowError
    result = a**b
    if isinstance(result, complex):
        raise ValueError("a root of a negative number")
    return result


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "div": lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b,
    "floor_div": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "pow": _power,
    "maximum": max,
    "minimum": min,
    "ceil": math.ceil,
    "floor": math.floor,
    "int": int,
    "log": math.log,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "cos": math.cos,
    "sin": math.sin,
    "tanh": math.tanh,
    "abs": lambda a: abs(a),
}


Key = tuple[int, str, tuple[object, ...]]


def _atom_key(atom: Atom) -> Key:
    """Symbols come in the order in which they were made, whatever their names."""
    if isinstance(atom, Sym):
        return (0, "", (atom.order,))
    return (1, atom.function, tuple(_terms_key(a.terms) for a in atom.arguments))


def _terms_key(terms: tuple[tuple[Monomial, Number], ...]) -> tuple[object, ...]:
    return tuple((_monomial_key(m), float(c)) for m, c in terms)


def _monomial_key(monomial: Monomial) -> list[tuple[Key, int]]:
    return [(_atom_key(a), -p) for a, p in monomial] or [((9, "", ()), 0)]


@frozen
class Expr:
    """A number in normal form; build with `const`, `sym` and the operators."""

    terms: tuple[tuple[Monomial, Number], ...]

    def __hash__(self) -> int:
        return hash(self.terms)

    # ------------------------------------------------ construction

    @staticmethod
    def of(terms: Mapping[Monomial, Number]) -> Expr:
        kept = [(m, c) for m, c in terms.items() if c != 0]
        if len(kept) > 1:
            kept.sort(key=lambda term: (-sum(p for _, p in term[0]), _monomial_key(term[0])))
        return Expr(tuple((m, _plain(c)) for m, c in kept))

    def __add__(self, other: Expr) -> Expr:
        terms = dict(self.terms)
        for monomial, coefficient in other.terms:
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return Expr.of(terms)

    def __neg__(self) -> Expr:
        return Expr(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: Expr) -> Expr:
        return self + -other

    def __mul__(self, other: Expr) -> Expr:
        terms: dict[Monomial, Number] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                powers = dict(left)
                for atom, power in right:
                    powers[atom] = powers.get(atom, 0) + power
                monomial = tuple(sorted(((a, p) for a, p in powers.items() if p), key=lambda f: _atom_key(f[0])))
                terms[monomial] = terms.get(monomial, 0) + a * b
        return Expr.of(terms)

    def divide(self, other: Expr) -> Expr:
        """Exact quotient: the caller has checked divisibility for whole numbers."""
        if isinstance(other.constant, float):  # as floats divide: log(8) / log(2) is 3, not 3 less a rounding
            return const(float(self.constant) / other.constant) if self.constant is not None else apply("div", self, other)
        if len(other.terms) == 1:
            monomial, coefficient = other.terms[0]
            inverse = Fraction(1) / coefficient if isinstance(coefficient, int | Fraction) else 1 / coefficient
            return self * Expr(((tuple((a, -p) for a, p in monomial), inverse),))
        if self == other:
            return ONE
        return apply("div", self, other)

    # ------------------------------------------------ questions

    @property
    def constant(self) -> Number | None:
        """The number, if it has no symbols."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def symbols(self) -> frozenset[Sym]:
        found: set[Sym] = set()
        for monomial, _ in self.terms:
            for atom, _ in monomial:
                if isinstance(atom, Sym):
                    found.add(atom)
                else:
                    found.update(*(a.symbols for a in atom.arguments))
        return frozenset(found)

    @property
    def is_dynamic(self) -> bool:
        return any(s.value is None for s in self.symbols)

    @property
    def is_real(self) -> bool:
        """Whether it is a float rather than a whole number (an exact quotient of whole numbers is whole)."""
        return any(isinstance(c, float) or any(a.is_real for a, _ in m) for m, c in self.terms)

    def value(self, under: Mapping[Sym, int | float] | None = None) -> int | float | None:
        """The number; none if a symbol has no value, or there is no number for those of `under`. Whole results of exact quotients are ints."""
        total: int | float | Fraction = 0
        for monomial, coefficient in self.terms:
            product: int | float | Fraction = coefficient
            for atom, power in monomial:
                number = _atom_value(atom, under)
                if number is None:
                    return None
                if power < 0:
                    if number == 0:
                        return math.inf
                    product = product / (Fraction(number) ** -power if isinstance(number, int) else number**-power)
                else:
                    product = product * number**power
            total = total + product
        result = _plain(total)
        return float(result) if isinstance(result, Fraction) else result

    def substitute(self, mapping: Mapping[Sym, Expr] | Mapping[Atom, Expr]) -> Expr:
        """Replace symbols, or functions of them, by expressions."""
        atoms = cast("Mapping[Atom, Expr]", mapping)
        total = ZERO
        for monomial, coefficient in self.terms:
            product = Expr((((), coefficient),))
            for atom, power in monomial:
                if isinstance(atom, Sym) or atom in atoms:
                    new = atoms.get(atom) or Expr((((((atom, 1),)), 1),))
                else:
                    new = apply(atom.function, *(a.substitute(mapping) for a in atom.arguments))
                for _ in range(abs(power)):
                    product = product * new if power > 0 else product.divide(new)
            total = total + product
        return total

    def __str__(self) -> str:
        return render(self, lambda s: s.name)

    def __repr__(self) -> str:
        return str(self)


def _plain(number: Number) -> Number:
    if isinstance(number, int | float):
        return number
    return int(number) if number.denominator == 1 else number


def _atom_value(atom: Atom, under: Mapping[Sym, int | float] | None) -> int | float | None:
    if isinstance(atom, Sym):
        return under[atom] if under is not None and atom in under else atom.value
    arguments = [a.value(under) for a in atom.arguments]
    if any(a is None for a in arguments):
        return None
    try:
        return _FUNCTIONS[atom.function](*arguments)
    except (OverflowError, ZeroDivisionError, ValueError):
        if under is None:  # the spec's own numbers: it is told
            raise
        return None


def const(number: int | float | Fraction) -> Expr:
    return Expr((((), number),)) if number != 0 or isinstance(number, float) else ZERO


def sym(symbol: Sym) -> Expr:
    return Expr((((((symbol, 1),)), 1),))


def apply(function: str, *arguments: Expr) -> Expr:
    """A function of expressions; folded when all arguments are constants."""
    constants = [a.constant for a in arguments]
    if all(c is not None for c in constants) and function != "div":
        number = _FUNCTIONS[function](*constants)
        return const(number)
    if function == "pow" and isinstance(arguments[1].constant, int) and 0 <= arguments[1].constant <= 8:
        result = ONE
        for _ in range(arguments[1].constant):
            result = result * arguments[0]
        return result
    if function == "mod" and arguments[0] == arguments[1]:
        return ZERO
    if function == "floor_div" and arguments[0] == arguments[1]:
        return ONE
    if function == "floor_div" and arguments[1] == ONE:
        return arguments[0]
    if function == "floor_div":  # (k * n + rest) // n
        parts = [Expr((term,)) for term in arguments[0].terms]
        whole = [p for p in parts if _is_multiple(p, arguments[1])]
        if whole:
            rest = sum((p for p in parts if p not in whole), ZERO)
            return sum((p.divide(arguments[1]) for p in whole), ZERO if rest == ZERO else apply(function, rest, arguments[1]))
    return Expr((((((Apply(function, tuple(arguments)), 1),)), 1),))


def _is_multiple(term: Expr, of: Expr) -> bool:
    """Whether a single term is a whole number times another one, whatever its symbols are."""
    if len(of.terms) != 1:
        return False
    (monomial, coefficient), (base, step) = term.terms[0], of.terms[0]
    powers = dict(monomial)
    if not (isinstance(coefficient, int) and isinstance(step, int) and coefficient % step == 0):
        return False
    whole = all(power > 0 and not atom.is_real for atom, power in (*monomial, *base))
    return whole and all(powers.get(atom, 0) >= power for atom, power in base)


ZERO = Expr(())
ONE = Expr((((), 1),))


def apart(expr: Expr) -> tuple[Expr, Expr, Expr]:
    """Of a whole number, the terms that are whole each by itself, and the others over a common denominator: of (a + c) / 2 only the sum is."""
    parts = [Expr((term,)) for term in expr.terms]
    broken = [p for p in parts if isinstance(p.terms[0][1], Fraction) or any(power < 0 for _, power in p.terms[0][0])]
    if len(broken) < 2 or expr.is_real:
        return expr, ZERO, ONE
    number, powers = 1, dict[Atom, int]()
    for (monomial, coefficient), *_ in (p.terms for p in broken):
        number = math.lcm(number, coefficient.denominator if isinstance(coefficient, Fraction) else 1)
        for atom, power in monomial:
            powers[atom] = max(powers.get(atom, 0), -power)
    below = Expr(((tuple(sorted(((a, p) for a, p in powers.items() if p), key=lambda f: _atom_key(f[0]))), number),))
    return sum((p for p in parts if p not in broken), ZERO), sum((p * below for p in broken), ZERO), below


def render(expr: Expr, name: Callable[[Sym], str], functions: Mapping[str, str] | None = None) -> str:
    """Python source of an expression: `heads * head_dim`, `d // heads`, `4 * d`, `head_dim ** -0.5`.

    `functions` renames functions (`{"log": "math.log"}`). The result needs parentheses beside `*` if `precedence` is low: use `factor`."""
    whole, above, below = apart(expr)
    text = ""
    for monomial, coefficient in sorted(whole.terms, key=lambda term: term[1] < 0):
        piece = _term(monomial, coefficient if coefficient >= 0 else -coefficient, name, functions or {}, expr.is_real)
        if not text:
            text = piece if coefficient >= 0 else "-" + piece
        else:
            text += (" + " if coefficient >= 0 else " - ") + piece
    if above != ZERO:
        quotient = f"{factor(above, name, functions)} // {factor(below, name, functions)}"
        text = f"{text} + {quotient}" if text else quotient
    return text or "0"


def factor(expr: Expr, name: Callable[[Sym], str], functions: Mapping[str, str] | None = None) -> str:
    """`render`, in parentheses unless it is a single name, number or call, or in them anyway."""
    text = render(expr, name, functions)
    match expr.terms:
        case [(((Sym(), 1),), 1)] | [((), int() | float())] | []:
            simple = not text.startswith("-")
        case [(((Apply(function=function), 1),), 1)]:
            simple = function != "pow"
        case _:
            simple = False
    return text if simple else f"({text})"


def _term(monomial: Monomial, coefficient: Number, name: Callable[[Sym], str], functions: Mapping[str, str], real: bool) -> str:
    """`real`: a part of a float, (3 + x) / 2, need not be whole as parts of whole numbers are."""
    top: list[str] = []
    bottom: list[str] = []
    if isinstance(coefficient, Fraction):
        if coefficient.numerator != 1:
            top.append(str(coefficient.numerator))
        bottom.append(str(coefficient.denominator))
    elif coefficient != 1 or not monomial:
        top.append(repr(coefficient))
    for atom, power in monomial:
        text = _atom(atom, name, functions)
        if abs(power) != 1:
            text = f"{text} ** {abs(power)}"
        (top if power > 0 else bottom).append(text)
    upper = " * ".join(top) or "1"
    if not bottom:
        return upper
    lower = bottom[0] if len(bottom) == 1 and "**" not in bottom[0] else f"({' * '.join(bottom)})"
    return f"{upper} {'/' if real else '//'} {lower}"


def _atom(atom: Atom, name: Callable[[Sym], str], functions: Mapping[str, str]) -> str:
    if isinstance(atom, Sym):
        return name(atom)
    if atom.function in ("floor_div", "mod", "div", "pow"):
        sign = {"floor_div": "//", "mod": "%", "div": "/" if atom.is_real else "//", "pow": "**"}[atom.function]
        left, right = (factor(a, name, functions) for a in atom.arguments)
        if sign == "**" and right.startswith("(-") and right[2:-1].replace(".", "").isdigit():
            right = right[1:-1]
        return f"({left} {sign} {right})" if sign != "**" else f"{left} ** {right}"
    function = {"maximum": "max", "minimum": "min"}.get(atom.function, functions.get(atom.function, f"math.{atom.function}"))
    if atom.function in ("abs", "int"):
        function = atom.function
    return f"{function}({', '.join(render(a, name, functions) for a in atom.arguments)})"
