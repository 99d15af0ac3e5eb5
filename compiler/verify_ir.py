"""The invariants of the IR, checked between passes in the tests.

A value is assigned once, before it is read, in the body that reads it (regions also read the bodies around them); calls match the modules
they call, by name if it owns something and else the module itself; names of parameters and children are unique; and every type is what the
type rules give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NoReturn, TypeVar

from ..grammar.tree import Span
from . import ir
from .decoding.find_running_values import find_running_values
from .diagnostics import Diagnostics
from .dims import sym
from .ir import REST, Axis, Bank, Module, Node, Program, Region, Stack, Type, Value
from .operations import Body, Poison, agree


class IRError(AssertionError):
    """A pass broke the IR; the message names the module and the node."""


def verify(program: Program) -> None:
    """Raise IRError at the first broken invariant."""
    running = find_running_values(program) if program.decoding is not None else None
    for module in ir.walk(program.root):
        _Checker(module, program.decoding, running).run()
    if tuple(i.value for i in program.inputs) != program.root.inputs:
        raise IRError(f"{program.name}: the inputs of the program are not the root's")
    assigned = set(program.root.inputs) | {v for n in program.root.body for v in n.outs} | {p.value for p in program.root.params}
    for loss in program.losses:
        if loss.value not in assigned or loss.value.type.axes:
            raise IRError(f"{program.name}: loss {loss.name} is not a scalar of the root's body")


_Kind = TypeVar("_Kind", ir.Child, Stack, Bank)


class _Checker:
    """`running`: what is computed with a cache; where that is not so, all tokens so far are those of the call."""

    def __init__(self, module: Module, decoding: ir.Decoding | None, running: frozenset[Value] | None) -> None:
        self.module, self.decoding, self.running = module, decoding, running
        self.known: set[Value] = set()

    def fail(self, message: str, node: Node | None = None) -> NoReturn:
        at = "" if node is None else f", {type(node).__name__} of {', '.join(map(repr, node.outs))}"
        raise IRError(f"module {self.module.name}{at}: {message}")

    def run(self) -> None:
        module = self.module
        self.unique([p.name for p in module.params] + [c.name for c in module.children], "parameters and children")
        self.unique([name for name, _ in module.locals], "locals")
        self.define(module.inputs, None)
        self.define((p.value for p in module.params), None)
        self.define((s.value for s in module.states), None)
        if not 0 <= module.captured <= len(module.inputs):
            self.fail(f"{module.captured} of {len(module.inputs)} inputs are captured")
        for state in module.states:
            self.region(state.initial, None)
        for param in module.params:
            if param.init.table is not None:
                self.region(param.init.table, None)
        for child in module.children:
            if isinstance(child, ir.Child) and child.module.is_function:
                self.fail(f"the child `{child.name}` owns nothing")
        for node in module.body:
            self.node(node)
        for value in ir.results(module):
            self.read(value, None)
        if module.output_names and len(module.output_names) != len(module.outputs):
            self.fail("names and outputs differ in number")

    def unique(self, names: Sequence[str], what: str) -> None:
        for k, name in enumerate(names):
            if name in names[:k]:
                self.fail(f"two {what} are called `{name}`")

    def define(self, values: Iterable[Value], node: Node | None) -> None:
        for value in values:
            if value in self.known:
                self.fail(f"{value!r} is assigned twice", node)
            labels = value.type.labels
            if len(set(labels)) != len(labels):
                self.fail(f"{value!r} has an axis twice: {value.type!r}", node)
            self.known.add(value)

    def read(self, value: Value, node: Node | None) -> None:
        if value not in self.known:
            self.fail(f"{value!r} is read where it is not defined", node)

    def node(self, node: Node) -> None:
        for region in ir.regions(node):
            self.region(region, node)
        for value in ir.operands(node):
            self.read(value, node)
        self.types(node)
        self.define(node.outs, node)

    def region(self, region: Region, node: Node | None) -> None:
        outside = set(self.known)
        self.define(region.params, node)
        for inner in region.body:
            self.node(inner)
        self.read(region.result, node)
        self.known = outside

    # ------------------------------------------------ types

    def types(self, node: Node) -> None:
        match node:
            case ir.ChildParam():
                own = self.param_type(node)  # the reader has labels of its own for the same axes
                axes = tuple(ir.Axis(f.label, a.size) for f, a in zip(node.out.type.axes, own.axes, strict=False))
                self.same_type(ir.Type(axes, own.dtype), node.out.type, node, "the child's parameter")
            case ir.Call():
                target = node.target if isinstance(node.target, Module) else self.child(node.target, ir.Child, node).module
                if isinstance(node.target, Module) and not target.is_function:
                    self.fail(f"`{target.name}` owns something and is no child", node)
                self.call(node, target, node.args, node.outs)
            case ir.Scan():
                self.scan(node)
            case ir.Fold():
                self.fold(node)
            case ir.Route():
                self.route(node)
            case ir.Keep():
                keys = ir.Axis(node.label, node.out.type.axis(node.label).size)
                kept = tuple(keys if a.label is node.over else a for a in node.x.type.axes)
                self.same_type(Type(kept, node.x.type.dtype), node.out.type, node, "what is kept")
            case ir.Once():
                self.same_type(node.x.type, node.out.type, node, "what is kept")
            case ir.Pairwise():
                bank = self.child(node.target, Bank, node)
                label = bank.axis.label
                self.call(node, bank.module, [_without(v, label) for v in node.args], [_without(v, label) for v in node.outs])
            case _:
                self.retyped(node)

    def retyped(self, node: Node) -> None:
        node = self.at_one_length(node)
        body = Body([], Diagnostics(), [])
        try:
            outs = apply_rule(body, node)
        except Poison:
            self.fail(body.diagnostics.found[-1].message, node)
        if len(outs) != len(node.outs):
            self.fail(f"has {len(node.outs)} results instead of {len(outs)}", node)
        for new, old in zip(outs, node.outs, strict=True):
            self.same_type(new.type, old.type, node, "the type rule's result")

    def at_one_length(self, node: Node) -> Node:
        """A node that runs without a cache alone, with the types it has then."""
        if self.decoding is None or self.running is None or any(v in self.running for v in node.outs):
            return node
        length = {self.decoding.length: sym(self.decoding.rows)}

        def plain(value: Value) -> Value:
            return Value(Type(tuple(Axis(a.label, a.size.substitute(length)) for a in value.type.axes), value.type.dtype), value.hint)

        return replace(ir.replace_values(node, {v: plain(v) for v in ir.operands(node)}), outs=tuple(map(plain, node.outs)))

    def same_type(self, rule: Type, found: Type, node: Node, what: str) -> None:
        same = rule.dtype == found.dtype and rule.labels == found.labels
        if not same or not all(_agree(a, b) for a, b in zip(rule.axes, found.axes, strict=True)):
            self.fail(f"has the type {found!r}; {what} is {rule!r}", node)

    def child(self, name: str, kind: type[_Kind], node: Node) -> _Kind:
        for child in self.module.children:
            if child.name == name and isinstance(child, kind):
                return child
        return self.fail(f"there is no {kind.__name__.lower()} `{name}`", node)

    def param_type(self, node: ir.ChildParam) -> Type:
        module, axes = self.module, []
        for name in node.path[:-1]:
            child = next((c for c in module.children if c.name == name), None)
            if child is None or isinstance(child, Stack):
                raise IRError(f"module {self.module.name}: no child at {'.'.join(node.path)}")
            if isinstance(child, Bank):
                axes.append(child.axis)
            module = child.module
        for param in module.params:
            if param.name == node.path[-1]:
                return Type((*axes, *param.type.axes), param.type.dtype)
        raise IRError(f"module {self.module.name}: no parameter at {'.'.join(node.path)}")

    def call(self, node: Node, target: Module, args: Sequence[Value], outs: Sequence[Value]) -> None:
        if len(args) != len(target.inputs) or len(outs) != len(target.outputs):
            self.fail(
                f"`{target.name}` has {len(target.inputs)} inputs and {len(target.outputs)} outputs, not {len(args)} and {len(outs)}", node
            )
        for inner, outer in (*zip(target.inputs, args, strict=True), *zip(target.outputs, outs, strict=True)):
            if not _fits(inner.type, outer.type):
                self.fail(f"{outer!r} {outer.type!r} does not fit {inner!r} {inner.type!r} of `{target.name}`", node)

    def fold(self, node: ir.Fold) -> None:
        stack = self.child(node.target, Stack, node)
        if len(node.inputs) != len(stack.slots) or len(node.outs) != node.carried + len(node.collected):
            self.fail("its slots or carried values differ from the stack's", node)
        for slot, ((module, _), positions) in enumerate(zip(stack.slots, node.inputs, strict=True)):
            if any(not 0 <= p < len(node.args) for p in positions):
                self.fail("an input's position is out of range", node)
            further = [(c.outputs[slot], c, out) for c, out in zip(node.collected, node.outs[node.carried :], strict=True)]
            outs = dict(enumerate(node.outs[: node.carried]))
            for place, collect, out in further:
                if place is not None:
                    kind = out.type if collect.sum else Type(out.type.axes[1:], out.type.dtype)
                    outs[place] = Value(kind, out.hint, out.span)
            if sorted(outs) != list(range(len(module.outputs))):
                self.fail("a result of a layer is neither carried nor collected", node)
            self.call(node, module, [node.args[p] for p in positions], [outs[k] for k in sorted(outs)])

    def scan(self, node: ir.Scan) -> None:
        target = node.target if isinstance(node.target, Module) else self.child(node.target, ir.Child, node).module
        parts = [Value(v.type.without(node.over), v.hint, v.span) if k < node.given else v for k, v in enumerate(node.args)]
        outs = [*node.outs[: node.carried], *(Value(v.type.without(node.over), v.hint, v.span) for v in node.outs[node.carried :])]
        self.call(node, target, parts, outs)

    def route(self, node: ir.Route) -> None:
        bank = self.child(node.target, Bank, node)
        if not node.index.type.has(node.choice) or not node.weight.type.has(node.choice) or node.index.type.dtype != "int":
            self.fail("index (int) and weight have the axis of choices", node)
        self.call(node, bank.module, (node.x, *node.args), node.outs)


def apply_rule(body: Body, node: Node) -> tuple[Value, ...]:
    """Add a node again through its type rule (everything but calls and ChildParam)."""
    span: Span = node.span
    match node:
        case ir.Index():
            return (body.index(node.out.type.axes[0], span, node.slot),)
        case ir.Full():
            return (body.full(node.out.type.axes, node.value, node.out.type.dtype, span),)
        case ir.Elementwise():
            return (body.elementwise(node.function, node.args, span),)
        case ir.Cast():
            return (body.cast(node.x, node.out.type.dtype, span),)
        case ir.Reduce():
            return (body.reduce(node.function, node.x, node.over, span),)
        case ir.Along():
            return (body.along(node.function, node.x, node.over, span),)
        case ir.Roll():
            return (body.roll(node.x, node.shift, node.over, span),)
        case ir.Top():
            return body.top(node.x, node.k, node.over, node.label, span)
        case ir.Einsum():
            return (body.einsum(node.args, node.over, span),)
        case ir.LinearRecurrence():
            return (body.linear_recurrence(node.a, node.b, node.over, span),)
        case ir.Dropout():
            return (body.dropout(node.x, node.rate, span),)
        case ir.StopGradient():
            return (body.stop_gradient(node.x, span),)
        case ir.Training():
            return (body.training(span),)
        case ir.CrossEntropy():
            return (body.cross_entropy(node.logits, node.target, node.over, span),)
        case _:
            return _apply_shape_rule(body, node)


def _apply_shape_rule(body: Body, node: Node) -> tuple[Value, ...]:
    span = node.span
    match node:
        case ir.Split():
            return body.split(node.x, node.over, node.sizes, node.labels, span)
        case ir.Unflatten():
            return (body.unflatten(node.x, node.over, node.axes, span),)
        case ir.Flatten():
            return (body.flatten(node.x, node.over, node.label, span),)
        case ir.Rename():
            return (body.rename(node.x, node.old, node.new, span),)
        case ir.Transpose():
            return (body.transpose(node.x, node.out.type.labels, span),)
        case ir.Expand():
            return (body.expand(node.x, node.axes, span),)
        case ir.Squeeze():
            return (body.squeeze(node.x, node.over, span),)
        case ir.StackTensors():
            return (body.stack(node.args, node.label, span),)
        case ir.Unstack():
            return body.unstack(node.x, node.over, span)
        case ir.Concat():
            return (body.concat(node.args, node.over, span),)
        case ir.Pad():
            return (body.pad(node.x, node.over, node.before, node.after, node.value, span),)
        case ir.Slice():
            return (body.slice(node.x, node.over, node.start, node.stop, span),)
        case ir.Take():
            return (body.take(node.x, node.over, node.indices, span),)
        case ir.ScatterAdd():
            return (body.scatter_add(node.base, node.index, node.x, node.over, span),)
        case ir.OneHot():
            return (body.one_hot(node.x, node.axis, span),)
        case ir.Unfold():
            return (body.unfold(node.x, node.over, node.window, node.stride, node.dilation, span),)
        case ir.Attend():
            return (
                body.attend(
                    node.q, node.k, node.v, node.query, node.k_axis, node.key, node.scale, node.mask, node.score, node.weights, span,
                    feature=node.feature,
                ),
            )  # fmt: skip
        case _:
            raise IRError(f"{type(node).__name__} has no type rule")


def _without(value: Value, label: ir.Label) -> Value:
    return Value(value.type.without(label), value.hint, value.span)


def _agree(a: Axis, b: Axis) -> bool:
    return a.label is REST or a.size == b.size or agree(a.size, b.size)


def _fits(inner: Type, outer: Type) -> bool:
    """Whether an argument fits an input: by position, `...` taking the rest. Dynamic sizes may differ: one module may serve two lengths."""
    if inner.dtype != outer.dtype:
        return False
    left, right = list(inner.axes), list(outer.axes)
    at = next((k for k, a in enumerate(left) if a.label is REST), None)
    if at is not None:
        extra = len(right) - (len(left) - 1)
        if extra < 0:
            return False
        left, right = left[:at] + left[at + 1 :], right[:at] + right[at + extra :]
    return len(left) == len(right) and all(a.size.is_dynamic or b.size.is_dynamic or _agree(a, b) for a, b in zip(left, right, strict=True))
