"""The arguments of an operation, read as tensors, axes or numbers, and the table of operations by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING

from ..grammar import tree
from ..grammar.frozen import mutable
from . import ir
from .dims import Expr, const
from .operations import Body
from .scope import Frame
from .values import Static

if TYPE_CHECKING:
    from .apply import Applier


@mutable
class Args:
    """The arguments of one operation."""

    e: Applier
    name: str
    node: tree.Call
    frame: Frame
    taken: set[int] = field(default_factory=set)

    @property
    def span(self) -> tree.Span:
        return self.node.span

    @property
    def body(self) -> Body:
        return self.e.body(self.frame, self.node)

    def find(self, position: int | None, name: str) -> tree.Expr | None:
        """The argument at a position or of a name."""
        at = 0
        for k, argument in enumerate(self.node.arguments):
            if argument.name == name or (argument.name is None and at == position):
                self.taken.add(k)
                return argument.value
            at += argument.name is None
        return None

    def need(self, position: int | None, name: str) -> tree.Expr:
        found = self.find(position, name)
        if found is None:
            form = SIGNATURES.get(self.name)
            named = [a for a in self.node.arguments if a.name is not None]
            surplus = [a for a in named if a.name not in re.findall(r"\w+", form or a.name or "")]
            beside = f", and has no `{surplus[0].name}`" if surplus else ""
            raise self.e.error("E360", f"`{self.name}` needs `{name}`{beside}", surplus[0].span if surplus else self.span, help=form)
        return found

    def tensor(self, position: int | None, name: str) -> ir.Value:
        return self.e.tensor(self.need(position, name), self.frame)

    def axes(self, position: int | None, name: str) -> tuple[ir.Axis, ...]:
        return self.e.axes(self.need(position, name), self.frame)

    def label(self, position: int | None, name: str) -> ir.Label:
        node = self.need(position, name)
        axes = self.e.axes(node, self.frame)
        if len(axes) != 1:
            raise self.e.error("E361", f"`{self.name}` works along one axis, found {len(axes)}", node.span)
        return axes[0].label

    def labels(self, position: int | None, name: str) -> tuple[ir.Label, ...]:
        return tuple(a.label for a in self.axes(position, name))

    def new_axis(self, position: int | None, name: str, size: Expr | None = None) -> ir.Axis:
        """An axis that may be new here: `label: size`, or a bare name of a known size."""
        node = self.need(position, name)
        if isinstance(node, tree.Name) and size is not None:
            return self.e.new_axis(node.id, size, self.frame)
        axes = self.e.axes(node, self.frame)
        if len(axes) != 1:
            raise self.e.error("E361", f"`{self.name}` makes one axis, found {len(axes)}", node.span)
        return axes[0]

    def number(self, position: int | None, name: str, default: int | float | None = None) -> Expr:
        found = self.find(position, name)
        if found is None:
            if default is None:
                self.need(position, name)
            return const(default or 0)
        return self.e.number(found, self.frame)

    def tensors(self) -> list[ir.Value]:
        """The remaining positional arguments: tensors one by one, or in a list."""
        found: list[ir.Value] = []
        for k, argument in enumerate(self.node.arguments):
            if argument.name is None and k not in self.taken:
                self.taken.add(k)
                items = argument.value.items if isinstance(argument.value, tree.List) else (argument.value,)
                found += [self.e.tensor(item, self.frame) for item in items]
        return found

    def along(self) -> list[tuple[str, tree.Expr, tree.Span]]:
        """`axis = value` arguments: an axis with what to do along it."""
        found = []
        for k, argument in enumerate(self.node.arguments):
            if argument.name is not None and k not in self.taken:
                self.taken.add(k)
                found.append((argument.name, argument.value, argument.name_span or argument.span))
        return found

    def one_along(self) -> tuple[ir.Label, tree.Expr]:
        found = self.along()
        if len(found) != 1:
            raise self.e.error(
                "E362",
                f"`{self.name}` works on one axis, written `axis = ...`, found {len(found)}",
                self.span,
                help=SIGNATURES.get(self.name),
            )
        name, value, span = found[0]
        return self.named_label(name, span), value

    def named_label(self, name: str, span: tree.Span) -> ir.Label:
        return self.e.axes(tree.Name(span=span, id=name), self.frame)[0].label

    def finish(self) -> None:
        """Nothing is silently ignored."""
        for k, argument in enumerate(self.node.arguments):
            if k not in self.taken:
                surplus = f"no `{argument.name}`" if argument.name else "fewer arguments"
                place = argument.name_span or argument.span
                raise self.e.error("E363", f"`{self.name}` takes {surplus}", place, help=SIGNATURES.get(self.name))


Operation = Callable[[Args], Static]
OPERATIONS: dict[str, Operation] = {}
SIGNATURES: dict[str, str] = {}


def operation(signature: str) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        name = signature.partition("(")[0]
        OPERATIONS[name] = function
        SIGNATURES[name] = f"`{signature}`"
        return function

    return add
