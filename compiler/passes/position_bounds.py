"""Bounds: how far along an input an entry of a value looks, as linear forms of the entry's position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from ...grammar.frozen import frozen
from ...grammar.tree import Span
from ..dims import ZERO, Expr
from ..ir import Axis, Label
from .position_forms import Form, at_most, number, positive
from .read_indices import UNKNOWN, Range

Support = tuple[tuple[Label, Form], ...]
"""Where something holds: only where the position along each label is at most the form."""


@frozen
class Cause:
    """The operation that lets something later in, in words; of a mask, `used` is the attention that has it. `remedy`, if it is known."""

    what: str
    span: Span
    used: Span | None = None
    remedy: str = ""


@frozen
class Bound:
    """Entries depend on positions of `source` up to the least of `forms`; `certain` if they really do, as far as operations go."""

    source: str
    forms: tuple[Form, ...]
    certain: bool = True
    cause: Cause | None = None

    def has(self, label: Label) -> bool:
        return any(f.has(label) for f in self.forms)

    def each(self, change: Callable[[Form], Form]) -> Bound:
        if len(self.forms) == 1:
            return Bound(self.source, (change(self.forms[0]),), self.certain, self.cause)
        return Bound(self.source, tuple(dict.fromkeys(change(f) for f in self.forms)), self.certain, self.cause)

    def caused(self, label: Label, cause: Cause | None) -> Bound:
        """With another cause, if every form looks along the label."""
        return replace(self, cause=cause) if cause is not None and all(f.has(label) for f in self.forms) else self


Bounds = tuple[Bound, ...]


@frozen
class Info:
    """What is known of a value. An int's `range`; `support`: where it is true or not zero; `shown`: where it is not minus infinity; `lost`: it is
    so, by positions alone, at places that neither names."""

    bounds: Bounds = ()
    range: Range = UNKNOWN
    support: Support = ()
    shown: Support = ()
    lost: bool = False


NOTHING = Info()
_LIMIT = 4


def union(groups: Iterable[Bounds]) -> Bounds:
    """All bounds, without those that another one implies."""
    given = [b for group in groups for b in group]
    if len(given) < 2:
        return tuple(given)
    kept: list[Bound] = []
    for bound in dict.fromkeys(given):
        if any(_implies(other, bound) for other in kept):
            continue
        kept = [other for other in kept if not _implies(bound, other)]
        kept.append(bound)
    return tuple(kept)


def _implies(one: Bound, other: Bound) -> bool:
    """Whether `one` allows all that `other` does."""
    if one.source != other.source or (other.certain and not one.certain):
        return False
    return all(any(_below(small, large) for small in other.forms) for large in one.forms)


def _below(small: Form, large: Form) -> bool:
    return dict(small.terms) == dict(large.terms) and _never_positive(small.constant - large.constant)


@lru_cache(maxsize=4096)
def _never_positive(size: Expr) -> bool:
    return at_most(number(size), number(ZERO), ())


def move(bounds: Bounds, label: Label, form: Form, cause: Cause | None) -> Bounds:
    """Substitute where along `label` an entry comes from; the cause is named if it may be later."""
    ahead = len(form.terms) != 1 or positive(form.constant)
    moved = [b.caused(label, cause if ahead else None).each(lambda f: f.substitute(label, form)) for b in bounds]
    return union((tuple(moved),))


def drop(bounds: Bounds, axis: Axis, cause: Cause | None, certain: bool = True) -> Bounds:
    """Every entry along an axis is read."""
    dropped: list[Bound] = []
    for bound in bounds:
        if bound.has(axis.label):
            known = all(f.has(axis.label) for f in bound.forms)
            if axis.size.is_dynamic:
                bound = bound.caused(axis.label, cause)
            bound = replace(bound, cause=bound.cause or cause)
            bound = replace(bound.each(lambda f: f.highest_along(axis)), certain=bound.certain and (certain or not known))
        dropped.append(bound)
    return union((tuple(dropped),))


def limit(bounds: Bounds, support: Support) -> Bounds:
    """Entries matter only where the support says: add what follows for how far they look."""
    if not support:
        return bounds
    limited: list[Bound] = []
    for bound in bounds:
        forms = list(bound.forms)
        for label, most in support:
            forms += [f.substitute(label, most) for f in bound.forms if positive(f.coefficient(label))]
        limited.append(replace(bound, forms=tuple(dict.fromkeys(forms))[:_LIMIT]))
    return tuple(limited)


def doubted(bounds: Bounds) -> Bounds:
    """The same, none of them certain."""
    return tuple(replace(b, certain=False) if b.certain else b for b in bounds)


def support_without(support: Support, labels: Iterable[Label]) -> Support:
    """What is left when axes are reduced."""
    gone = set(labels)
    return tuple((label, form) for label, form in support if label not in gone and not any(other in gone for other, _ in form.terms))


def relabel_support(support: Support, mapping: Mapping[Label, Label]) -> Support:
    return tuple((mapping.get(label, label), form.relabel(mapping)) for label, form in support)


def relabel(info: Info, mapping: Mapping[Label, Label]) -> Info:
    if info is NOTHING:
        return NOTHING
    return Info(
        tuple(b.each(lambda f: f.relabel(mapping)) for b in info.bounds),
        info.range.relabel(mapping),
        relabel_support(info.support, mapping),
        relabel_support(info.shown, mapping),
        info.lost,
    )
