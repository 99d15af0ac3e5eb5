"""Names in components that no model of the file uses: the bodies are not elaborated, yet a name that nothing has can be told."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from dataclasses import fields

from ..grammar import tree
from .diagnostics import Diagnostics
from .habits import of_name
from .library import Library

_WORDS = {"true", "false", "yes", "no", "on", "off", "none", "null", "training", "..."}


def check_names(file: tree.File, library: Library, operations: Collection[str], diagnostics: Diagnostics) -> None:
    """E310 for each name in the file's components that is neither declared in the component, nor the library's, nor an operation.

    Leaves alone what may name an axis: items of lists, and arguments of operations."""
    for component in file.declarations:
        if not isinstance(component, tree.Component):
            continue
        known = set(_declared(component, operations)) | _WORDS
        for name in _used(component, operations):
            word = name.id.rstrip("'")
            if word in known or word in operations or library.component(word, name.span.source.path) is not None:
                continue
            instead = of_name(word) or library.nearest(word, [*known, *operations])
            diagnostics.error("E310", f"`{component.name.id}` has no name `{name.id}`", name.span, help=instead)


def _inside(node: tree.Node) -> Iterator[tree.Node]:
    for field in fields(node):
        value = getattr(node, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, tree.Node):
                yield item


def _everything(node: tree.Node) -> Iterator[tree.Node]:
    yield node
    for item in _inside(node):
        yield from _everything(item)


def _operates(node: tree.Node, operations: Container[str]) -> bool:
    return isinstance(node, tree.Call) and isinstance(node.function, tree.Name) and node.function.id in operations


def _declared(component: tree.Component, operations: Container[str]) -> Iterator[str]:
    """Names that anything in a component binds, and those that may be labels of axes."""
    for node in _everything(component):
        match node:
            case tree.Component() | tree.Parameter() | tree.Input() | tree.Given() | tree.State() | tree.Effect():
                yield node.name.id
            case tree.Output() if node.name is not None:
                yield node.name.id
            case tree.Bind() | tree.Let() | tree.For():
                yield from (t.id for t in node.targets)
            case tree.Axis():
                yield node.label
            case tree.List():
                yield from (i.id for i in node.items if isinstance(i, tree.Name))
            case tree.Call() if _operates(node, operations):
                yield from (a.value.id for a in node.arguments if isinstance(a.value, tree.Name))
            case _:
                pass


def _used(node: tree.Node, operations: Container[str]) -> Iterator[tree.Name]:
    """Names that are read as values."""
    match node:
        case tree.Call():
            read = [node.function, *(a.value for a in node.arguments if not _operates(node, operations))]
        case tree.Binary():
            read = [node.left, node.right]
        case tree.Unary() | tree.Attribute() | tree.Return() | tree.Effect() | tree.Bind() | tree.Index():
            read = [node.value]
        case tree.Choose():
            read = [node.condition, node.then, node.other]
        case _:
            read = []
    yield from (r for r in read if isinstance(r, tree.Name))
    for item in _inside(node):
        yield from _used(item, operations)
