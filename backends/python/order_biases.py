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


ANY_ORDER = (ir.Take, ir.Elementwise, ir.Cast)
"""What is computed in the order that its result declares: it costs nothing to ask for another."""


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
        turning = {*captured, *(n.out for n in module.body if isinstance(n, ANY_ORDER))}
        body: list[ir.Node] = []
        for node in module.body:
            if isinstance(node, ir.Attend) and (order := _of_bias(node)) is not None:
                if order[0] in turning:
                    wanted[order[0]] = order[1]
                node = _turned_inside(node, *order)
            if isinstance(node, ir.Call | ir.Fold):
                node = self.pass_on(node, module, turning, wanted, body)
            body.append(node)
        _pass_back(wanted, turning, {n.out: n for n in module.body if isinstance(n, ANY_ORDER)})
        mapping = {old: Value(_ordered(old.type, labels), old.hint, old.span) for old, labels in wanted.items()}
        changed = (replace(n, outs=tuple(mapping.get(v, v) for v in n.outs)) for n in (ir.replace_values(n, mapping) for n in body))
        new = replace(module, inputs=tuple(mapping.get(v, v) for v in module.inputs), body=tuple(changed))
        self.orders[id(new)] = {
            module.inputs.index(old): tuple(old.type.labels.index(label) for label in labels)
            for old, labels in wanted.items()
            if old in captured
        }
        return new

    def pass_on(
        self, node: ir.Call | ir.Fold, module: ir.Module, turning: set[Value], wanted: dict[Value, tuple[Label, ...]], body: list[ir.Node]
    ) -> ir.Node:  # fmt: skip
        """Arguments in the order that a callee wants; what is made here is turned here."""
        args = list(node.args)
        for position, order in self.places(node, module):
            value = node.args[position]
            labels = tuple(value.type.labels[k] for k in order)
            if value in turning:
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


def _of_bias(node: ir.Attend) -> tuple[Value, tuple[Label, ...]] | None:
    """What is added to the scores, and the order in which a kernel wants it; none where it has that order."""
    bias = None if node.score is None else additive_bias(node.score)
    if bias is None or bias[0].type.has(REST):
        return None
    axes = attend_axes(node)
    labels = tuple(label for label in (*axes.batch, *axes.heads, node.query, node.key) if bias[0].type.has(label))
    return (bias[0], labels) if set(labels) == set(bias[0].type.labels) and labels != bias[0].type.labels else None


def _turned_inside(node: ir.Attend, bias: Value, labels: tuple[Label, ...]) -> ir.Attend:
    """The same where the score itself makes what it adds."""
    assert node.score is not None
    made: dict[Value, ir.Node] = {n.out: n for n in node.score.body if isinstance(n, ANY_ORDER)}
    if bias not in made:
        return node
    wanted = {bias: labels}
    _pass_back(wanted, {*made}, made)
    mapping = {old: Value(_ordered(old.type, order), old.hint, old.span) for old, order in wanted.items()}
    score = ir.replace_region(node.score, mapping)
    return replace(node, score=replace(score, body=tuple(replace(n, outs=tuple(mapping.get(v, v) for v in n.outs)) for n in score.body)))


def _pass_back(wanted: dict[Value, tuple[Label, ...]], turning: set[Value], made: dict[Value, ir.Node]) -> None:
    """What a turned result is computed from is turned alike: turning it afterwards would only change how the same numbers lie."""
    queue = list(wanted)
    for value in queue:
        for operand in ir.operands(made[value]) if value in made else ():
            labels = tuple(label for label in wanted[value] if operand.type.has(label))
            if (
                operand in made
                and operand in turning
                and operand not in wanted
                and set(labels) == set(operand.type.labels) != set(labels[:1])
            ):
                wanted[operand] = labels
                queue.append(operand)


def _ordered(kind: Type, labels: tuple[Label, ...]) -> Type:
    return Type(tuple(kind.axis(label) for label in labels), kind.dtype)
