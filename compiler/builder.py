"""Modules under construction.

A builder collects one module's parameters, children and nodes. A value of an enclosing module that is read inside becomes a captured
input, threaded through every module on the way. An *inline* builder holds the parameters of something whose body is written into another
module (a score with a table, a shared instance used in a layer): its nodes go to `target`, its parameters stay at their owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field

from ..grammar.frozen import frozen, mutable
from ..grammar.tree import Span
from . import ir
from .diagnostics import Diagnostics
from .dims import Expr
from .operations import Body


class OwnedNodes(list[ir.Node]):
    """A list of nodes that notes which module their results belong to."""

    def __init__(self, builder: Builder) -> None:
        super().__init__()
        self._builder = builder

    def append(self, node: ir.Node) -> None:
        super().append(node)
        for value in node.outs:
            self._builder.owners[value] = self._builder


@frozen(eq=False)
class Emitted:
    """A tensor that a body surfaces: a loss is summed by whoever applies it, any other is known by its name there."""

    value: ir.Value
    is_loss: bool
    span: Span


@mutable(eq=False)
class Builder:
    name: str
    parent: Builder | None
    owners: dict[ir.Value, Builder]
    diagnostics: Diagnostics
    facts: list[ir.Fact]
    span: Span
    doc: str = ""
    child_name: str = ""
    inline: bool = False
    target: Builder | None = None
    known: Builder | None = None
    named: Span | None = None
    inputs: list[ir.Value] = field(default_factory=list)
    params: dict[str, ir.Param] = field(default_factory=dict)
    children: dict[str, ir.Child | ir.Stack | ir.Bank | Builder] = field(default_factory=dict)
    captured: dict[ir.Value, ir.Value] = field(default_factory=dict)
    locals: dict[str, Expr] = field(default_factory=dict)
    axis_names: dict[ir.Label, str] = field(default_factory=dict)
    child_params: dict[tuple[str, ...], ir.Value] = field(default_factory=dict)
    states: dict[str, ir.State] = field(default_factory=dict)
    updates: dict[str, ir.Update] = field(default_factory=dict)
    emits: dict[str, Emitted] = field(default_factory=dict)
    _bodies: list[Body] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.inline:
            self._bodies.append(Body(OwnedNodes(self), self.diagnostics, self.facts))

    # ------------------------------------------------ nodes

    @property
    def real(self) -> Builder:
        """The module whose body nodes are written to."""
        return self.target.real if self.inline and self.target else self

    @property
    def owner(self) -> Builder:
        """The nearest enclosing module that is not inline: the one that owns this builder's parameters."""
        return self.parent.owner if self.inline and self.parent else self

    @property
    def body(self) -> Body:
        return self.real._bodies[-1]

    @property
    def main(self) -> Body:
        return self.real._bodies[0]

    @contextmanager
    def region(self) -> Iterator[Body]:
        """Nodes made inside go to a region of their own."""
        real = self.real
        body = Body(OwnedNodes(real), self.diagnostics, self.facts)
        real._bodies.append(body)
        try:
            yield body
        finally:
            real._bodies.pop()

    def own(self, value: ir.Value) -> ir.Value:
        self.owners[value] = self.real
        return value

    def local(self, value: ir.Value) -> ir.Value:
        """The value as it is known in this module: itself, or a captured input."""
        here = self.real
        if self.owners[value] is here:
            return value
        if value not in here.captured:
            if here.parent is None:
                raise AssertionError(f"{value!r} does not belong to an enclosing module")
            here.parent.local(value)
            here.captured[value] = here.own(ir.Value(value.type, value.hint, value.span))
        return here.captured[value]

    # ------------------------------------------------ parameters of children

    def path(self) -> tuple[str, ...]:
        """Names from the owner down to this inline builder."""
        if not self.inline or self.parent is None:
            return ()
        return (*self.parent.path(), self.child_name)

    def child_param(self, path: tuple[str, ...], kind: ir.Type, span: Span) -> ir.Value:
        """A parameter of a child, as a value of this (owning) module."""
        if path not in self.child_params:
            value = ir.Value(kind, path[-1], span)
            self._bodies[0].nodes.append(ir.ChildParam(outs=(value,), path=path, span=span))
            self.child_params[path] = value
        return self.child_params[path]

    def add_param(self, name: str, kind: ir.Type, init: ir.Init, trainable: bool, span: Span) -> ir.Value:
        """Declare a parameter; in an inline builder, the value read from the owner."""
        known = self.params.get(name) or (self.known.params.get(name) if self.known else None)
        if known is None:
            value = ir.Value(kind, name, span)
            self.params[name] = known = ir.Param(name=name, value=value, init=init, trainable=trainable, span=span)
            if not self.inline:
                self.own(value)
        if not self.inline:
            return known.value
        value = self.local(self.owner.child_param((*self.path(), name), known.type, span))
        if value.type.labels == kind.labels:
            return value
        return self.body.rename(value, value.type.labels, kind.labels, span)  # applied at a second place, whose axes are other ones

    def has_weights(self) -> bool:
        return bool(self.params or self.states) or any(not isinstance(c, Builder) or c.has_weights() for c in self.children.values())

    # ------------------------------------------------ the end

    def finish(self, outputs: tuple[ir.Value, ...], names: tuple[str, ...]) -> ir.Module:
        children: list[ir.Child | ir.Stack | ir.Bank] = []
        for name, child in self.children.items():
            if isinstance(child, Builder):
                if child.has_weights():
                    children.append(ir.Child(name=name, module=child.finish((), ())))
            else:
                children.append(child)
        return ir.Module(
            name=self.name,
            inputs=(*self.inputs, *self.captured.values()),
            outputs=outputs,
            output_names=names,
            params=tuple(self.params.values()),
            children=tuple(children),
            body=() if self.inline else tuple(self._bodies[0].nodes),
            locals=tuple(self.locals.items()),
            captured=len(self.captured),
            doc=self.doc,
            span=self.span,
            named=self.named,
            axis_names=tuple(self.axis_names.items()),
            states=tuple(self.states.values()),
            updates=tuple(self.updates.values()),
        )
