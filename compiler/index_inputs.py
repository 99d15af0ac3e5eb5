"""The inputs of index functions (masks, scores, weights), which are bound by place: what stands where, and a known name in another's place."""

from __future__ import annotations

from collections.abc import Mapping

from ..grammar import tree

FORMS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "mask": (("i", "j"), ("j",)),
    "score": (("s",), ("s", "i", "j"), ("s", "h", "i", "j")),
    "weights": (("s",),),
}
"""What each kind takes: the slots of query and key, the scores, the number of the head."""
_TAKEN: Mapping[str, frozenset[str]] = {"mask": frozenset("hij"), "score": frozenset("shij"), "weights": frozenset("shij")}
"""Names that mean one thing in each kind. In a mask, `s` may well be the slot of a key along an axis `s`."""
_ORDINALS = ("first", "second", "third", "fourth")


def forms_of(kind: str) -> str:
    """`(i, j) or (j)`."""
    *others, last = (f"({', '.join(form)})" for form in FORMS[kind])
    return f"{', '.join(others)} or {last}" if others else last


def misplaced(component: tree.Component, kind: str) -> tuple[tree.Name, str, str] | None:
    """A name that stands where another belongs, what is wrong about it, and a remedy; none if the names fit, are others, or are too many."""
    names = [i.name for i in component.inputs]
    form = next((f for f in FORMS[kind] if len(f) == len(names)), None)
    if form is None:
        return None
    wrong = [(_distance(name.id, k, form), -k) for k, name in enumerate(names) if name.id in _TAKEN[kind] and name.id != form[k]]
    if not wrong:
        return None
    at = -max(wrong)[1]
    name = names[at]
    of = kind if kind == "weights" else f"a {kind}"
    what = f"`{name.id}` stands in the place of `{form[at]}`: the inputs of {of} are bound by place, as `({', '.join(form)})`"
    return name, what, _remedy(name.id, kind, form)


def _distance(name: str, at: int, form: tuple[str, ...]) -> int:
    return abs(form.index(name) - at) if name in form else len(form)


def _remedy(name: str, kind: str, form: tuple[str, ...]) -> str:
    if name in form:
        return f"the place of `{name}` is {_ORDINALS[form.index(name)]}: `({', '.join(form)})`"
    longer = next((f for f in FORMS[kind] if name in f), None)
    if longer is not None:
        return f"to get `{name}`, write `({', '.join(longer)})`; else call this input something else"
    if kind == "mask":
        return f"a mask is the same for all heads: what differs by `{name}` is a score, `({', '.join(FORMS['score'][-1])})`"
    return "weights are made of the scores alone: call them `s`, or something else"
