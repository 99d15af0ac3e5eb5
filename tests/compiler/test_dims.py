"""Symbolic numbers: normal forms, their values, and the Python they are written as, on random expressions against plain arithmetic."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

import pytest

from xfc.backends.python import code
from xfc.backends.python.numbers import expression
from xfc.compiler.dims import ONE, ZERO, Apply, Expr, Sym, apply, const, factor, render, sym
from xfc.compiler.operations_base import agree

WHOLE = {"a": 24, "b": 60, "c": 5, "d": 1}
DIVISORS = {"h": 2, "k": 3}
REAL = {"x": 0.25, "y": 1.5}
SYMBOLS = {n: Sym(n, v) for n, v in {**WHOLE, **DIVISORS, **REAL}.items()}
NAMES = {"math": math, **{n: s.value for n, s in SYMBOLS.items()}}

Made = tuple[Expr, int | float | Fraction]


def leaf(rng: random.Random, names: dict[str, int] | dict[str, float]) -> Made:
    if rng.random() < 0.3:
        number = rng.choice([1, 2, 3, 7])
        return const(number), number
    name = rng.choice(list(names))
    return sym(SYMBOLS[name]), Fraction(names[name]) if isinstance(names[name], int) else names[name]


def whole(rng: random.Random, depth: int) -> Made:
    """An expression of whole numbers, and its value by plain arithmetic."""
    if depth == 0:
        return leaf(rng, WHOLE)
    a, left = whole(rng, depth - 1)
    match rng.randrange(9):
        case 0 | 1:
            b, right = whole(rng, depth - 1)
            return a + b, left + right
        case 2:
            b, right = whole(rng, depth - 1)
            return a - b, left - right
        case 3 | 4:
            b, right = whole(rng, depth - 1)
            return a * b, left * right
        case 5:
            b, right = leaf(rng, DIVISORS)
            return a.divide(b), Fraction(left) / Fraction(right)
        case 6:
            b, right = whole(rng, 1)
            function = rng.choice(["floor_div", "mod"])
            if right == 0 or Fraction(left).denominator != 1:
                return a, left
            return apply(function, a, b), left // right if function == "floor_div" else left % right
        case 7:
            b, right = whole(rng, depth - 1)
            function = rng.choice(["maximum", "minimum"])
            return apply(function, a, b), (max if function == "maximum" else min)(left, right)
        case _:
            power = rng.randrange(3)
            return apply("pow", a, const(power)), left**power


def real(rng: random.Random, depth: int) -> Made:
    """An expression of floats, and its value."""
    if depth == 0:
        return leaf(rng, rng.choice([REAL, WHOLE]))
    a, left = real(rng, depth - 1)
    b, right = real(rng, depth - 1)
    match rng.randrange(7):
        case 0:
            return a + b, left + right
        case 1:
            return a - b, left - right
        case 2:
            return a * b, left * right
        case 3:
            return (a.divide(b), left / right) if right and (a * b).is_real else (a, left)
        case 4:
            function = rng.choice(["log", "sqrt"])
            positive = apply("abs", a) + ONE
            return apply(function, positive), getattr(math, function)(abs(left) + 1)
        case 5:
            function = rng.choice(["exp", "cos", "sin", "tanh", "ceil", "floor"])
            small = apply("tanh", a)
            return apply(function, small), getattr(math, function)(math.tanh(left))
        case _:
            power = rng.choice([-0.5, -1.0, 0.5, 2.0])
            return apply("pow", apply("abs", a) + ONE, const(power)), (abs(left) + 1) ** power


def exact(expr: Expr) -> bool:
    """Whether what is whole by its kind is whole: generated code asserts so where it divides."""
    value = expr.value()
    inside = (a for monomial, _ in expr.terms for atom, _ in monomial if isinstance(atom, Apply) for a in atom.arguments)
    return (expr.is_real or float(value or 0).is_integer()) and all(map(exact, inside))


def name(symbol: Sym) -> str:
    return symbol.name


def emitted(expr: Expr) -> str:
    return code.render(expression(expr, lambda s: code.Text(s.name)), lambda v: v.hint)


@pytest.mark.parametrize("make", [whole, real])
@pytest.mark.parametrize("seed", range(4))
def test_random_expressions(make: Callable[[random.Random, int], Made], seed: int) -> None:
    rng = random.Random(seed)
    written = 0
    for _ in range(150):
        expr, wanted = make(rng, rng.randrange(1, 4))
        if abs(wanted) > 1e12:
            continue
        close = pytest.approx(float(wanted), rel=1e-9, abs=1e-9)
        assert expr.value() == close, expr
        other = {s: s.value for s in expr.symbols if s.value is not None}
        assert expr.value(other) == close
        assert expr.substitute({s: const(v) for s, v in other.items()}).value() == close, expr
        assert expr - expr == ZERO and expr * const(2) == expr + expr
        if exact(expr):
            written += 1
            number = float(wanted)
            for text, of_text in (
                (render(expr, name), 1),
                (f"3 * {factor(expr, name)}", 3),
                (emitted(expr), 1),
                (f"3 * ({emitted(expr)})", 3),
            ):
                assert eval(text, dict(NAMES)) == pytest.approx(of_text * number, rel=1e-9, abs=1e-9), text
            if number:
                assert eval(f"1e9 / {factor(expr, name)}", dict(NAMES)) == pytest.approx(1e9 / number), factor(expr, name)
    assert written > 50


def test_texts() -> None:
    a, b, h = (sym(SYMBOLS[n]) for n in "abh")
    x = sym(SYMBOLS["x"])
    texts = {
        render(a.divide(h), name): "a // h",
        render(a.divide(const(2)), name): "a // 2",
        render((a * const(3)).divide(const(4)), name): "3 * a // 4",
        render(a.divide(h * const(3)), name): "a // (3 * h)",
        render((a + b).divide(h), name): "(a + b) // h",
        render((a * const(2) + b).divide(const(4)) + h, name): "h + (2 * a + b) // 4",
        render(a.divide(h) + b.divide(const(3)), name): "(b * h + 3 * a) // (3 * h)",
        render((x + const(3)).divide(h), name): "x / h + 3 / h",
        render(a - b, name): "a - b",
        render(b - a * a, name): "b - a ** 2",
        render(x.divide(h), name): "x / h",
        render(apply("pow", a, const(-0.5)), name): "a ** -0.5",
        render(apply("pow", a, const(-2)), name): "a ** -2",
        render(apply("pow", a, ZERO - x), name): "a ** (-x)",
        render(apply("pow", a, const(-1.25) * x), name): "a ** (-1.25 * x)",
        render(apply("maximum", a, b + ONE), name): "max(a, b + 1)",
        factor(apply("maximum", a, b + ONE), name): "max(a, b + 1)",
        factor(apply("sqrt", a + b), name): "math.sqrt(a + b)",
        factor(a + b, name): "(a + b)",
        factor(a.divide(h), name): "(a // h)",
        factor(ZERO - a, name): "(-a)",
        factor(a, name): "a",
        factor(const(7), name): "7",
        render(ZERO, name): "0",
    }
    assert {found: wanted for found, wanted in texts.items() if found != wanted} == {}


def test_what_is_known_without_values() -> None:
    n, m, h = sym(Sym("n")), sym(Sym("m")), sym(SYMBOLS["h"])
    assert apply("mod", n, n) == ZERO and apply("floor_div", n, n) == ONE and apply("floor_div", n + m, ONE) == n + m
    assert (n + m).divide(n + m) == ONE and (n + m).divide(n - m) * (n - m) != n + m
    assert apply("floor_div", n * h + m, h) == n + apply("floor_div", m, h)
    assert (n * h).divide(h) == n and (n - n + ONE).constant == 1 and (n + ONE).constant is None
    assert [apply("pow", n, const(k)) for k in range(3)] == [ONE, n, n * n]
    assert n.value() is None and n.is_dynamic and not h.is_dynamic and (n * h).symbols == n.symbols | h.symbols
    assert ONE.divide(n - m).value({**dict.fromkeys((n - m).symbols, 2)}) in (math.inf, None)
    assert apply("log", n).value({next(iter(n.symbols)): 0}) is None
    with pytest.raises(OverflowError):
        apply("pow", sym(Sym("two", 2)), sym(Sym("much", 10**6))).value()


def test_sizes_of_other_forms_agree_where_they_always_do() -> None:
    t, s, two = sym(Sym("t")), sym(Sym("s")), const(2)
    alike = [
        (apply("floor_div", t + ONE, two), t - apply("floor_div", t, two)),
        (apply("maximum", t, s), t + s - apply("minimum", t, s)),
        (apply("mod", t, two), t - two * apply("floor_div", t, two)),
        (apply("maximum", t, ZERO), t),
    ]
    unlike = [(apply("floor_div", t + ONE, two), apply("floor_div", t, two)), (t.divide(two), apply("floor_div", t, two)), (t, s)]
    unlike += [(apply(function, t, s), one) for function in ("maximum", "minimum") for one in (t, s)]
    assert [agree(a, b) for a, b in alike] == [agree(b, a) for a, b in alike] == [True] * len(alike)
    assert [agree(a, b) for a, b in unlike] == [False] * len(unlike)
    assert agree(sym(Sym("n", 6)).divide(two), const(3)) and not agree(sym(Sym("n", 6)), const(3))
