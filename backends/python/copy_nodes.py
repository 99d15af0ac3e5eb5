"""Copies of nodes with other labels and operands: what inlining and moving need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields, replace

from ...compiler import ir
from ...compiler.ir import REST, Axis, Label, Type, Value
from ...grammar.frozen import mutable


@mutable
class Copier:
    """`values` maps operands; results of copied nodes are added to it. `labels` maps labels; `rest` is what `...` stands for."""

    values: dict[Value, Value] = field(default_factory=dict)
    labels: dict[Label, Label] = field(default_factory=dict)
    rest: tuple[Axis, ...] | None = None

    def bind(self, formal: Type, actual: Type) -> bool:
        """Map the labels of a formal type to those of an actual one, by position; false if two uses disagree."""
        wanted, given = formal.axes, actual.axes
        if formal.has(REST):
            at = formal.labels.index(REST)
            tail = len(wanted) - at - 1
            middle = given[at : len(given) - tail]
            if self.rest is not None and tuple(a.label for a in self.rest) != tuple(a.label for a in middle):
                return False
            self.rest = middle
            wanted = (*wanted[:at], *wanted[at + 1 :])
            given = (*given[:at], *given[len(given) - tail :])
        if len(wanted) != len(given):
            return False
        return all(self.labels.setdefault(w.label, g.label) is g.label for w, g in zip(wanted, given, strict=True))

    def type(self, t: Type) -> Type:
        axes: list[Axis] = []
        for axis in t.axes:
            if axis.label is REST and self.rest is not None:
                axes += self.rest
            else:
                axes.append(Axis(self.labels.get(axis.label, axis.label), axis.size))
        return Type(tuple(axes), t.dtype)

    def value(self, v: Value) -> Value:
        return self.values.get(v, v)

    def result(self, v: Value) -> Value:
        self.values[v] = Value(self.type(v.type), v.hint, v.span)
        return self.values[v]

    def node(self, node: ir.Node) -> ir.Node:
        changes = {f.name: self._item(getattr(node, f.name)) for f in fields(node) if f.name not in ("outs", "span")}
        return replace(node, outs=tuple(map(self.result, node.outs)), **changes)  # type: ignore[arg-type]

    def nodes(self, nodes: Sequence[ir.Node]) -> list[ir.Node]:
        return [self.node(n) for n in nodes]

    def region(self, region: ir.Region) -> ir.Region:
        params = tuple(map(self.result, region.params))
        return ir.Region(params=params, body=tuple(self.nodes(region.body)), result=self.value(region.result))

    def _item(self, item: object) -> object:
        match item:
            case Value():
                return self.value(item)
            case Label():
                return self.labels.get(item, item)
            case Axis(label, size):
                return Axis(self.labels.get(label, label), size)
            case ir.Region():
                return self.region(item)
            case tuple():
                found: list[object] = []
                for x in item:
                    if x is REST and self.rest is not None:
                        found += [a.label for a in self.rest]
                    else:
                        found.append(self._item(x))
                return tuple(found)
            case _:
                return item
