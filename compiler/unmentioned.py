"""What a body declares and never says again: a function or a mask that nothing uses, a state without a next value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

from ..grammar import tree


def unmentioned(component: tree.Component) -> Iterator[tree.Name]:
    """Names that a body declares as `component`, `fn`, `mask`, `score` or `weights`, and that stand nowhere else in it."""
    inside = _inside(component, tree.Define)
    said = Counter(word for node in inside for word in _words(node))
    yield from (node.name for node in inside if isinstance(node, tree.Component) and said[node.name.id] == 1)


def unchanged(component: tree.Component) -> Iterator[tree.Name]:
    """States of a body that it gives no next value."""
    inside = _inside(component, tree.State)
    given = {node.name.id for node in inside if isinstance(node, tree.Effect) and node.kind == "next"}
    yield from (node.name for node in inside if isinstance(node, tree.State) and node.name.id not in given)


def _inside(component: tree.Component, kind: type[tree.Node]) -> list[tree.Node]:
    """All that stands in a body in which a statement may be of this kind."""
    if not any(isinstance(statement, (kind, tree.If, tree.For)) for statement in component.body):
        return []
    return [node for statement in component.body for node in _everything(statement)]


def _words(node: tree.Node) -> Iterator[str]:
    match node:
        case tree.Name():
            yield node.id.rstrip("'")
        case tree.Axis():
            yield node.label.rstrip("'")
        case tree.Argument() if node.name is not None:
            yield from node.name.split(".")
        case _:
            pass


def _everything(node: tree.Node) -> Iterator[tree.Node]:
    yield node
    for field in fields(node):
        value = getattr(node, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, tree.Node):
                yield from _everything(item)
