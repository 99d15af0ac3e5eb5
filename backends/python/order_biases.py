"""Biases of attention scores come to their layer as [batch.., heads, query, key], so that what is shared is turned once and not in each layer."""

from __future__ import annotations

from dataclasses import field, replace

from ...compiler import ir
from ...compiler.ir import REST, Label, Type, Value
from ...grammar.frozen import mutable
from .attention_axes import additive_bias, attend_axes


def order_biases(program: ir.Program) -> ir.Program:
    """Reorder the declared axes of captured inputs that an Attend adds to its scores, up to where they are made.

    Ensures: the same results. Leaves alone: values, and inputs that the spec itself declares."""
    return replace(program, root=_Ordering(program.root).visit(program.root))


@mutable
class _Ordering:
    root: ir.Module
    done: dict[int, ir.Module] = field(default_factory=dict)
    orders: dict[int, dict[int, tuple[int, ...]]] = field(default_factory=dict)  # by id of a new module: input number to permutation

    def visit(self, module: ir.Module) -> ir.Module:
        if id(module) not in self.done:
            children = ir.changed_children(module, self.visit)
            self.done[id(module)] = self.module(replace(module, children=children))
        return self.done[id(module)]

    def module(self, module: ir.Module) -> ir.Module:
        wanted: dict[Value, tuple[Label, ...]] = {}
        captured = module.inputs[len(module.inputs) - module.captured :] if module is not self.root else ()
        body: list[ir.Node] = []
        for node in module.body:
            if isinstance(node, ir.Attend) and node.score is not None:
                self.from_scores(node, captured, wanted)
            if isinstance(node, ir.Call | ir.Fold):
                node = self.pass_on(node, module, captured, wanted, body)
            body.append(node)
        mapping = {old: Value(_ordered(old.type, labels), old.hint, old.span) for old, labels in wanted.items()}
        new = replace(
            module, inputs=tuple(mapping.get(v, v) for v in module.inputs), body=tuple(ir.replace_values(n, mapping) for n in body),
        )  # fmt: skip
        self.orders[id(new)] = {
            module.inputs.index(old): tuple(old.type.labels.index(label) for label in labels) for old, labels in wanted.items()
        }
        return new

    def from_scores(self, node: ir.Attend, captured: tuple[Value, ...], wanted: dict[Value, tuple[Label, ...]]) -> None:
        assert node.score is not None
        bias = additive_bias(node.score)
        if bias is None or bias[0] not in captured or bias[0].type.has(REST):
            return
        axes = attend_axes(node)
        order = (*axes.batch, *axes.heads, node.query, node.key)
        labels = tuple(label for label in order if bias[0].type.has(label))
        if set(labels) == set(bias[0].type.labels) and labels != bias[0].type.labels:
            wanted[bias[0]] = labels

    def pass_on(
        self, node: ir.Call | ir.Fold, module: ir.Module, captured: tuple[Value, ...], wanted: dict[Value, tuple[Label, ...]], body: list[ir.Node]
    ) -> ir.Node:  # fmt: skip
        """Arguments in the order that a callee wants; what is made here is turned here."""
        args = list(node.args)
        for position, order in self.places(node, module):
            value = node.args[position]
            labels = tuple(value.type.labels[k] for k in order)
            if value in captured:
                wanted[value] = labels
            elif args[position] is value:
                turned = Value(_ordered(value.type, labels), value.hint, value.span)
                body.append(ir.Transpose(outs=(turned,), span=node.span, x=value))
                args[position] = turned
        return replace(node, args=tuple(args))

    def places(self, node: ir.Call | ir.Fold, module: ir.Module) -> list[tuple[int, tuple[int, ...]]]:
        if isinstance(node, ir.Call):
            target = node.target if isinstance(node.target, ir.Module) else module.child(node.target).module  # type: ignore[union-attr]
            return list(self.orders.get(id(target), {}).items())
        stack = module.child(node.target)
        assert isinstance(stack, ir.Stack)
        found = [
            (positions[k], order)
            for (target, _), positions in zip(stack.slots, node.inputs, strict=True)
            for k, order in self.orders.get(id(target), {}).items()
        ]
        return list(dict(found).items())


def _ordered(kind: Type, labels: tuple[Label, ...]) -> Type:
    return Type(tuple(kind.axis(label) for label in labels), kind.dtype)
