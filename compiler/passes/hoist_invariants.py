"""Compute once, before a stack, what every layer would compute again.

A value inside a layer is *invariant* if it depends only on inputs of the stack that are not carried, on index tensors and on numbers: no
parameter of the layer, nothing carried, nothing drawn. The pass finds the largest invariant values that something variable reads, writes
their computation before the fold, in the module that owns it, and threads the results down as captured inputs. A label inside a layer
corresponds to one label at the owner; labels that layers make for themselves correspond, by size, to labels from a common pool, so that
two layers that want the same table get the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import field, fields, replace

from ...grammar.frozen import mutable
from .. import ir
from ..dims import Expr
from ..ir import REST, Attend, Axis, Call, Child, Fold, Label, Module, Node, Program, Region, Stack, Type, Value
from ..operations_base import product
from ..operations_pointwise import COMPARISONS, LOGIC
from ..print_ir import print_module
from .merge_common_nodes import structure


def hoist_invariants(program: Program) -> Program:
    """Move invariant computations out of stacks, however deep in the layers they stand.

    Requires: a verified program. Ensures: the same results; layers read what they share from captured inputs. Leaves alone: masks (only a
    reduction or a scan of invariants inside one is moved: backends decide how masks are made), what is as cheap as an index tensor, a
    number or a renaming, children applied at two places, and the nodes whose results moved, which are dead."""

    def change(module: Module) -> Module:
        return _Site(module).rewritten() if any(isinstance(n, Fold) for n in module.body) else module

    return replace(program, root=ir.rewrite(program.root, change))


# ---------------------------------------------------------------- what is worth moving

_VIEWS = (
    ir.Index, ir.Full, ir.Rename, ir.Transpose, ir.Expand, ir.Squeeze, ir.Cast, ir.Slice, ir.Split, ir.Flatten, ir.Unflatten, ir.Unstack,
)  # fmt: skip
_HEAVY = (ir.Along, ir.Reduce, ir.Einsum, ir.ScatterAdd, ir.LinearRecurrence, ir.Top, ir.Call)
_CHEAP_FUNCTIONS = frozenset((*COMPARISONS, *LOGIC, "add", "sub", "neg", "mul", "minimum", "maximum", "where", "clamp", "abs"))
_FIXED = (ir.Dropout, ir.Training, ir.Attend, ir.ChildParam, ir.CrossEntropy, ir.Fold, ir.Scan, ir.Route, ir.Pairwise)

# The least weight at which a value is moved out of a body, a score and a mask.
_FROM_BODY, _FROM_SCORE, _FROM_MASK = 1, 2, 3


def is_cheap(node: Node) -> bool:
    """Whether it is no more than views and simple arithmetic."""
    return _weight(node) < 2


def _weight(node: Node) -> int:
    """0: as cheap as reading it; 1: simple arithmetic; 2: functions and lookups; 3: reductions, scans, contractions."""
    if isinstance(node, _HEAVY):
        return 3
    if isinstance(node, _VIEWS) or (isinstance(node, ir.Take) and all(isinstance(i, Expr) for i in node.indices)):
        return 0
    if isinstance(node, ir.Elementwise):
        return 1 if node.function in _CHEAP_FUNCTIONS else 2
    return 1 if isinstance(node, ir.Concat | ir.StackTensors | ir.Pad) else 2


def _movable(node: Node) -> bool:
    if isinstance(node, Call):
        pure = isinstance(node.target, Module) and not any(
            isinstance(n, ir.Dropout | ir.Training) for m in ir.walk(node.target) for n in m.body
        )
        return pure and not _has_rest(node)
    return not isinstance(node, _FIXED) and not _has_rest(node)


def _has_rest(node: Node) -> bool:
    return any(v.type.has(REST) for v in (*node.outs, *ir.operands(node)))


def _direct(node: Node) -> Iterator[Value]:
    """The values a node reads itself, not through its regions."""
    inside = {v for region in ir.regions(node) for v in ir.free_values(region)}
    read = [getattr(node, f.name) for f in fields(node) if f.name != "outs"]
    for item in read:
        for value in item if isinstance(item, tuple) else (item,):
            if isinstance(value, Value):
                inside.discard(value)
                yield value


# ---------------------------------------------------------------- where things land


class _Site:
    """The module that owns a fold: receives the moved nodes."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.pending: list[Node] = []
        self.memo: dict[Hashable, tuple[Value, ...]] = {}
        self.pool: dict[Expr, list[Label]] = {}
        self.flat: dict[Expr, Label] = {}

    def rewritten(self) -> Module:
        body: list[Node] = []
        children = {c.name: c for c in self.module.children}
        for node in self.module.body:
            if isinstance(node, Fold):
                stack = children[node.target]
                assert isinstance(stack, Stack)
                node, children[node.target] = self.fold(node, stack)
                body += self.pending
                self.pending = []
            elif not isinstance(node, _FIXED):
                self.memo.setdefault(_key(node), node.outs)
            body.append(node)
        return replace(self.module, body=tuple(body), children=tuple(children.values()))

    def fold(self, node: Fold, stack: Stack) -> tuple[Fold, Stack]:
        args = list(node.args)
        inputs: list[tuple[int, ...]] = []
        slots: list[tuple[Module, Expr]] = []
        for (module, count), positions in zip(stack.slots, node.inputs, strict=True):
            given = {v: _constant(node.args[p]) for v, p in zip(module.inputs, positions, strict=True) if p >= node.carried}
            scope = _Scope(self, module, given)
            if scope.match([node.args[p].type for p in positions], lambda axis: axis.label):
                scope.run()
            args += [v for v in scope.captured if v not in args]
            inputs.append((*positions, *(args.index(v) for v in scope.captured)))
            slots.append((scope.module, count))
        return replace(node, args=tuple(args), inputs=tuple(inputs)), replace(stack, slots=tuple(slots))

    def add(self, node: Node) -> tuple[Value, ...]:
        """The results of a node, which is written only if there is none like it."""
        key = _key(node)
        if key not in self.memo:
            self.memo[key] = node.outs
            self.pending.append(node)
        return self.memo[key]

    def label(self, axis: Axis, taken: set[Label]) -> Label:
        """A label for an axis that a layer made itself: the first of its size that the layer does not use yet."""
        labels = self.pool.setdefault(axis.size, [])
        for label in labels:
            if label not in taken:
                return label
        labels.append(Label(axis.label.name))
        return labels[-1]


def _key(node: Node) -> Hashable:
    if isinstance(node, Call) and isinstance(node.target, Module):
        return print_module(node.target), node.args, tuple(v.type for v in node.outs)
    return structure(node)


def _constant(value: Value) -> Callable[[], Value]:
    return lambda: value


# ---------------------------------------------------------------- what moves


@mutable(eq=False)
class _Scope:
    """One module on the way from a stack down. `given`: invariant inputs, with how to get them at the site.

    After `run`, `module` is the new module, `captured` the site's values that its new inputs want, in order, and `raw` the given
    inputs that something variable still reads."""

    site: _Site
    module: Module
    given: dict[Value, Callable[[], Value]]
    labels: dict[Label, Label] = field(default_factory=dict)
    nodes: dict[Value, Node] = field(default_factory=dict)
    weights: dict[Value, int] = field(default_factory=dict)
    least: dict[Value, int] = field(default_factory=dict)
    asked: set[Value] = field(default_factory=set)
    moving: dict[Value, None] = field(default_factory=dict)
    lifted: dict[Value, Value] = field(default_factory=dict)
    captured: dict[Value, Value] = field(default_factory=dict)
    raw: set[Value] = field(default_factory=set)

    def match(self, types: Sequence[Type], outer: Callable[[Axis], Label]) -> bool:
        """Set up labels from the arguments' types; false if they do not correspond one to one."""
        for value, type_ in zip(self.module.inputs, types, strict=True):
            for inner, axis in _positions(value.type.axes, type_.axes):
                if self.labels.setdefault(inner.label, outer(axis)) is not outer(axis):
                    return False
        return len(set(self.labels.values())) == len(self.labels)

    def run(self) -> None:
        for value in self.module.inputs:
            if value in self.given:
                self.weights[value] = 0
        for node in self.module.body:
            self.classify(node, _FROM_BODY)
            if isinstance(node, Attend):
                self.classify_regions(node)
        below = self.demand()
        mapping = {value: self.capture(self.lift(value)) for value in self.moving}
        self.rebuild(mapping, below)

    # ------------------------------------------------ finding invariants

    def classify(self, node: Node, least: int) -> None:
        if _movable(node) and all(v in self.weights for v in ir.operands(node)):
            weight = max((_weight(node), *(self.weights[v] for v in ir.operands(node))))
            for value in node.outs:
                self.weights[value], self.least[value], self.nodes[value] = weight, least, node

    def classify_regions(self, node: Attend) -> None:
        if node.score is not None:
            _, head, query, key = node.score.params
            for value, slot in ((query, True), (key, True), (head, False)):
                self.weights[value] = 0
                self.given[value] = self.head(value) if value is head else self.index(value, slot)
            for inner in node.score.body:
                self.classify(inner, _FROM_SCORE)
        for region, least in ((node.mask, _FROM_MASK), (node.weights, _FROM_SCORE)):
            for inner in region.body if region is not None else ():
                self.classify(inner, least)

    def index(self, value: Value, slot: bool) -> Callable[[], Value]:
        """The index tensor that a score's parameter stands for, at the site."""

        def make() -> Value:
            out = Value(self.outer_type(value.type), value.hint, value.span)
            assert value.span is not None
            return self.site.add(ir.Index(outs=(out,), span=value.span, slot=slot))[0]

        return make

    def head(self, value: Value) -> Callable[[], Value]:
        """The number of the head over all head axes, the last fastest."""

        def make() -> Value:
            type_, span = self.outer_type(value.type), value.span
            assert span is not None
            if not type_.axes:
                return self.site.add(ir.Full(outs=(Value(type_, value.hint, span),), span=span, value=Expr(())))[0]
            if len(type_.axes) == 1:
                return self.index(value, False)()
            size = product(type_.axes)
            label = self.site.flat.setdefault(size, Label(value.hint or "heads"))
            out = Value(Type((Axis(label, size),), "int"), value.hint, span)
            numbers = self.site.add(ir.Index(outs=(out,), span=span))[0]
            whole = Value(type_, value.hint, span)
            return self.site.add(ir.Unflatten(outs=(whole,), span=span, x=numbers, over=label, axes=type_.axes))[0]

        return make

    # ------------------------------------------------ finding what variable nodes read

    def demand(self) -> dict[Node, _Scope]:
        """Ask for what variable nodes read; returns the scopes of the calls that were looked into."""
        below: dict[Node, _Scope] = {}
        for node in self.module.body:
            if all(v in self.weights for v in node.outs):
                continue
            scope = self.enter(node) if isinstance(node, Call) else None
            if scope is not None and isinstance(node, Call):
                below[node] = scope
                for inner, arg in zip(node_target(node, self.module).inputs, node.args, strict=True):
                    if inner in scope.raw or inner not in scope.given:
                        self.need(arg)
                continue
            for value in _direct(node):
                self.need(value)
            for region in ir.regions(node):
                self.demand_region(region)
        for value in ir.results(self.module):
            self.need(value)
        return below

    def demand_region(self, region: Region) -> None:
        for node in region.body:
            if not all(v in self.weights for v in node.outs):
                for value in ir.operands(node):
                    self.need(value)
        self.need(region.result)

    def need(self, value: Value) -> None:
        if value not in self.weights or value in self.asked:
            return
        self.asked.add(value)
        if value in self.given:
            self.raw.add(value)
        elif self.weights[value] >= self.least[value] and not isinstance(self.nodes[value], ir.Expand):
            self.moving[value] = None
        else:
            for operand in ir.operands(self.nodes[value]):
                self.need(operand)

    def enter(self, node: Call) -> _Scope | None:
        """Look into a call, unless its module serves two places."""
        if isinstance(node.target, str) and sum(isinstance(n, Call) and n.target == node.target for n in self.module.body) > 1:
            return None
        target = node_target(node, self.module)
        given = {inner: self.lifting(arg) for inner, arg in zip(target.inputs, node.args, strict=True) if arg in self.weights}
        scope = _Scope(self.site, target, given)
        if not scope.match([a.type for a in node.args], self.outer):
            return None
        scope.run()
        return scope

    # ------------------------------------------------ moving

    def lifting(self, value: Value) -> Callable[[], Value]:
        return lambda: self.lift(value)

    def outer(self, axis: Axis) -> Label:
        """The label at the site that corresponds to one here."""
        if axis.label is REST:
            return REST
        if axis.label not in self.labels:
            self.labels[axis.label] = self.site.label(axis, set(self.labels.values()))
        return self.labels[axis.label]

    def outer_type(self, type_: Type) -> Type:
        return Type(tuple(Axis(self.outer(a), a.size) for a in type_.axes), type_.dtype)

    def lift(self, value: Value) -> Value:
        """An invariant value, computed at the site."""
        if value not in self.lifted:
            if value in self.given:
                self.lifted[value] = self.given[value]()
            else:
                node = self.nodes[value]
                operands = {v: self.lift(v) for v in ir.operands(node)}
                outs = tuple(Value(self.outer_type(v.type), self.hint(v), v.span) for v in node.outs)
                moved = replace(self.relabelled(ir.replace_values(node, operands)), outs=outs)
                self.lifted.update(zip(node.outs, self.site.add(moved), strict=True))
        return self.lifted[value]

    def hint(self, value: Value) -> str:
        """A name for what moves, if the spec has none: what a score adds is a bias, what says yes or no a condition."""
        if value.hint or value not in self.moving:
            return value.hint
        return "bias" if self.least[value] == _FROM_SCORE else "condition" if value.type.dtype == "bool" else ""

    def relabelled(self, node: Node) -> Node:
        """The node with the site's labels in its attributes; all of them stand in the types of its operands or results."""
        changes: dict[str, object] = {}
        for f in fields(node):
            item = getattr(node, f.name)
            if isinstance(item, Label | Axis):
                changes[f.name] = self.relabel(item)
            elif isinstance(item, tuple) and item and isinstance(item[0], Label | Axis):
                changes[f.name] = tuple(self.relabel(i) for i in item)
        return replace(node, **changes) if changes else node  # type: ignore[arg-type]

    def relabel(self, item: Label | Axis) -> Label | Axis:
        return self.labels[item] if isinstance(item, Label) else Axis(self.outer(item), item.size)

    def capture(self, value: Value) -> Value:
        """The new input of this module that brings a value of the site."""
        if value not in self.captured:
            back = {outer: inner for inner, outer in self.labels.items()}
            for axis in value.type.axes:
                if axis.label not in back:
                    back[axis.label] = self.labels[axis.label] = axis.label
            axes = tuple(Axis(back[a.label], a.size) for a in value.type.axes)
            self.captured[value] = Value(Type(axes, value.type.dtype), value.hint, value.span)
        return self.captured[value]

    def rebuild(self, mapping: dict[Value, Value], below: dict[Node, _Scope]) -> None:
        children: dict[str, ir.Child | Stack | ir.Bank] = {c.name: c for c in self.module.children}
        body: list[Node] = []
        for node in self.module.body:
            new = _replaced(node, mapping)
            if node in below and isinstance(new, Call):
                scope = below[node]
                new = replace(new, args=(*new.args, *(self.capture(v) for v in scope.captured)))
                if isinstance(new.target, Module):
                    new = replace(new, target=scope.module)
                else:
                    children[new.target] = Child(name=new.target, module=scope.module)
            body.append(new)
        if self.captured:
            self.module = replace(
                self.module,
                inputs=(*self.module.inputs, *self.captured.values()),
                captured=self.module.captured + len(self.captured),
                children=tuple(children.values()),
                body=tuple(body),
            )
            self.module = ir.replace_results(self.module, mapping)


def _replaced(node: Node, mapping: dict[Value, Value]) -> Node:
    """The node with values replaced, those that its own regions compute included."""
    new = ir.replace_values(node, mapping)
    if isinstance(new, Attend):
        mask, score, weights = (r if r is None else ir.replace_region(r, mapping) for r in (new.mask, new.score, new.weights))
        return replace(new, mask=mask, score=score, weights=weights)
    return new


def node_target(node: Call, module: Module) -> Module:
    """The module that a call applies."""
    if isinstance(node.target, Module):
        return node.target
    child = module.child(node.target)
    assert isinstance(child, Child)
    return child.module


def _positions(inner: tuple[Axis, ...], outer: tuple[Axis, ...]) -> list[tuple[Axis, Axis]]:
    """Axes of an input and of its argument that correspond; what `...` takes is left out."""
    at = next((k for k, a in enumerate(inner) if a.label is REST), None)
    if at is None:
        return list(zip(inner, outer, strict=True))
    after = len(inner) - at - 1
    return [*zip(inner[:at], outer, strict=False), *(zip(inner[at + 1 :], outer[len(outer) - after :], strict=True) if after else ())]
