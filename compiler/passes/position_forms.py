"""Linear forms over positions: which number along an axis is at most (or at least) which combination of other positions.

    form ::= sum of coefficient * position along a label, + constant            coefficients and constant are Exprs

Used to bound where a value comes from, and to read what an index function says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...grammar.frozen import frozen
from ..dims import ONE, ZERO, Expr, Sym, const
from ..ir import Axis, Label


@frozen
class Form:
    """Coefficients are never zero and stand in the order in which they came."""

    terms: tuple[tuple[Label, Expr], ...]
    constant: Expr

    def coefficient(self, label: Label) -> Expr:
        return next((c for other, c in self.terms if other is label), ZERO)

    def has(self, label: Label) -> bool:
        return any(other is label for other, _ in self.terms)

    def __add__(self, other: Form) -> Form:
        terms = dict(self.terms)
        for label, coefficient in other.terms:
            terms[label] = terms.get(label, ZERO) + coefficient
        return _form(terms, self.constant + other.constant)

    def __sub__(self, other: Form) -> Form:
        return self + other.scaled(const(-1))

    def scaled(self, factor: Expr) -> Form:
        return _form({label: c * factor for label, c in self.terms}, self.constant * factor)

    def shifted(self, amount: Expr) -> Form:
        return Form(self.terms, self.constant + amount)

    def substitute(self, label: Label, form: Form) -> Form:
        """The form with the position along one label replaced by another form."""
        coefficient = self.coefficient(label)
        if coefficient == ZERO:
            return self
        kept = Form(tuple((other, c) for other, c in self.terms if other is not label), self.constant)
        return kept + form.scaled(coefficient)

    def relabel(self, mapping: Mapping[Label, Label]) -> Form:
        return _form({mapping.get(label, label): c for label, c in self.terms}, self.constant)

    def highest_along(self, axis: Axis) -> Form:
        """The largest over all positions along an axis, which it no longer has."""
        up = positive(self.coefficient(axis.label))
        return self.substitute(axis.label, number(axis.size - ONE if up else ZERO))

    def lowest_along(self, axis: Axis) -> Form:
        up = positive(self.coefficient(axis.label))
        return self.substitute(axis.label, number(ZERO if up else axis.size - ONE))


def _form(terms: Mapping[Label, Expr], constant: Expr) -> Form:
    return Form(tuple((label, c) for label, c in terms.items() if c != ZERO), constant)


def number(value: Expr) -> Form:
    return Form((), value)


def position(label: Label) -> Form:
    return Form(((label, ONE),), ZERO)


def positive(value: Expr) -> bool:
    """Whether a coefficient is positive; dynamic sizes count as large."""
    found = value.value({s: 720720 for s in value.symbols if s.value is None})
    return found is not None and found > 0


def highest(form: Form, axes: Iterable[Axis]) -> float | None:
    """The largest value of a form over all positions and over lengths; none if it cannot be known, infinity if it grows with a length."""
    sizes = {a.label: a.size for a in axes}
    symbols: set[Sym] = set(form.constant.symbols)
    for label, coefficient in form.terms:
        symbols |= coefficient.symbols
        if label not in sizes:
            return None
        symbols |= sizes[label].symbols
    dynamic = sorted((s for s in symbols if s.value is None), key=lambda s: s.order)
    found: list[tuple[int, float]] = []
    statics = {int(s.value) for s in symbols if isinstance(s.value, int) and 1 < s.value < 10**6}
    lengths = sorted({*_LENGTHS, *(v * k for v in statics for k in (1, 2, 5))})
    for length in lengths if dynamic else (1,):
        under: dict[Sym, int | float] = {s: length * (k + 1) for k, s in enumerate(dynamic)}
        total = _highest_under(form, sizes, under)
        if total is not None:
            found.append((length, total))
    if not found:
        return None
    best = max(total for _, total in found)
    longest = max(found)[1]
    others = [total for length, total in found if length < max(found)[0]]
    return float("inf") if others and longest > max(*others, 0) else best


_LENGTHS = (1, 2, 3, 4, 5, 7, 12, 60, 64, 97, 128, 840, 4096, 5040, 65536, 720720, 720720 * 64)


def _highest_under(form: Form, sizes: Mapping[Label, Expr], under: Mapping[Sym, int | float]) -> float | None:
    """The largest value for given lengths; none if a size is not a positive whole number under them."""
    total = form.constant.value(under)
    for label, coefficient in form.terms:
        factor, size = coefficient.value(under), sizes[label].value(under)
        if factor is None or size is None or size != int(size) or size < 1 or total is None:
            return None
        total += factor * (size - 1) if factor > 0 else 0
    return total


def at_most(form: Form, other: Form, axes: Iterable[Axis]) -> bool:
    """Whether one form never exceeds another."""
    found = highest(form - other, axes)
    return found is not None and found <= 0


def above_both(one: Form, other: Form, axes: Iterable[Axis]) -> tuple[Form, ...]:
    """Forms that neither exceeds: each of the two, raised by a constant if need be."""
    axes = tuple(axes)
    found: list[Form] = []
    for base, beside in ((one, other), (other, one)):
        excess = highest(beside - base, axes)
        if excess is not None and excess != float("inf"):
            found.append(base.shifted(const(_whole(excess))) if excess > 0 else base)
    return tuple(dict.fromkeys(found))


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
