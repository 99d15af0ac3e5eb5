"""Parameters and FLOPs as formulas of the Config, for any size, with nothing allocated.

A stack counts its layers, a bank its copies. An active parameter is one that a token meets: of a bank that tokens are routed to, as many
copies as each token chooses. FLOPs are those of contractions (two for each product that is summed), attention over all keys included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import assert_never

from ..grammar.frozen import frozen, mutable
from . import ir
from .dims import ONE, ZERO, Expr, apply, const
from .ir import REST, Axis, Bank, Child, Module, Node, Program, Stack, Value
from .operations_base import product


@frozen
class Row:
    """One module of the tree: how many copies of it there are in the model, and the parameters of all of them together."""

    path: str
    component: str
    depth: int
    copies: Expr
    parameters: Expr
    active: Expr


@frozen
class Counts:
    """`flops` are for one forward pass over all of `tokens`; formulas may keep dynamic sizes."""

    parameters: Expr
    active_parameters: Expr
    buffers: Expr
    flops: Expr
    tokens: Expr
    rows: tuple[Row, ...]

    @property
    def flops_per_token(self) -> Expr:
        return self.flops.divide(self.tokens)

    def json(self, length: int) -> dict[str, object]:
        """Numbers, with FLOPs at one length for every dynamic axis, and the formulas beside them."""
        return {
            "parameters": whole(self.parameters),
            "active_parameters": whole(self.active_parameters),
            "buffers": whole(self.buffers),
            "flops_per_token": at_length(self.flops_per_token, length),
            "length": length,
            "formulas": {
                "parameters": str(self.parameters),
                "active_parameters": str(self.active_parameters),
                "flops_per_token": str(self.flops_per_token),
            },
            "modules": [
                {"path": r.path, "component": r.component, "copies": whole(r.copies), "parameters": whole(r.parameters)} for r in self.rows
            ],
        }


def count(program: Program) -> Counts:
    """Count a program, before or after the passes."""
    total = _parameters(program.root)
    tokens = _tokens(program)
    rows = tuple(_rows(program.root, "", 0, ONE, ONE))
    return Counts(total.all, total.active, total.buffers, _Flops().module(program.root, ONE), tokens, rows)


def whole(number: Expr) -> int:
    """The value of a formula without dynamic sizes."""
    value = number.value()
    assert value is not None, f"{number} depends on dynamic sizes"
    return round(value)


def at_length(number: Expr, length: int) -> int:
    """The value with every dynamic size set to one length."""
    return round(number.value({s: length for s in number.symbols if s.value is None}) or 0)


def layers_of(stack: Stack) -> Iterator[tuple[Module, Expr]]:
    """Each slot with the number of layers that it makes in all."""
    if not stack.cycle or len(stack.slots) == 1:
        yield from ((m, stack.count if len(stack.slots) == 1 else n) for m, n in stack.slots)
        return
    period = ZERO
    for _, n in stack.slots:
        period = period + n
    start = ZERO
    rounds, rest = apply("floor_div", stack.count, period), apply("mod", stack.count, period)
    for module, n in stack.slots:
        over = apply("minimum", apply("maximum", rest - start, ZERO), n)
        yield module, rounds * n + over
        start = start + n


# ---------------------------------------------------------------- parameters


@frozen
class _Total:
    all: Expr = ZERO
    active: Expr = ZERO
    buffers: Expr = ZERO

    def __add__(self, other: _Total) -> _Total:
        return _Total(self.all + other.all, self.active + other.active, self.buffers + other.buffers)

    def times(self, copies: Expr, active: Expr) -> _Total:
        return _Total(self.all * copies, self.active * active, self.buffers * copies)


def _parameters(module: Module) -> _Total:
    total = _own(module)
    for _, below, copies, active in _below(module):
        total = total + _parameters(below).times(copies, active)
    return total


def _own(module: Module) -> _Total:
    total = _Total()
    for param in module.params:
        size = product(param.type.axes)
        total = total + (_Total(size, size) if param.trainable else _Total(buffers=size))
    return total


def _below(module: Module) -> Iterator[tuple[str, Module, Expr, Expr]]:
    """(name, module, copies, copies that one token meets) of everything directly below."""
    for child in module.children:
        match child:
            case Child():
                yield child.name, child.module, ONE, ONE
            case Bank():
                yield child.name, child.module, child.axis.size, _chosen(module, child)
            case Stack():
                several = len(child.slots) > 1
                for k, (slot, copies) in enumerate(layers_of(child)):
                    yield f"{child.name}[{k}]" if several else child.name, slot, copies, copies
            case _:
                assert_never(child)


def _chosen(module: Module, bank: Bank) -> Expr:
    """How many experts of a bank a token meets: all, unless tokens are only routed to it."""
    if any(isinstance(n, ir.Pairwise) and n.target == bank.name for n in module.body):
        return bank.axis.size
    chosen = ZERO
    for node in module.body:
        if isinstance(node, ir.Route) and node.target == bank.name:
            chosen = chosen + node.index.type.axis(node.choice).size
    return bank.axis.size if chosen == ZERO else chosen


def _rows(module: Module, path: str, depth: int, copies: Expr, active: Expr) -> Iterator[Row]:
    total = _parameters(module).times(copies, active)
    yield Row(path, module.name, depth, copies, total.all, total.active)
    for name, below, times, met in _below(module):
        if below.params or below.children:
            yield from _rows(below, f"{path}.{name}" if path else name, depth + 1, copies * times, active * met)


# ---------------------------------------------------------------- FLOPs


def _tokens(program: Program) -> Expr:
    """The dynamic axes of what is decoded: of the integer input that shares an axis with the first output, else of the first input."""
    shown = [a.size for a in program.root.outputs[0].type.axes]
    bounded = [i.value for i in program.inputs if i.bound is not None]
    shared = [v for v in bounded if all(a.size in shown for a in v.type.axes if a.size.is_dynamic)]
    first = shared[0] if shared else program.inputs[0].value
    return product(a for a in first.type.axes if a.size.is_dynamic)


@mutable
class _Flops:
    """Each module once for each number that its `...` stands for."""

    known: dict[tuple[int, Expr], Expr] = field(default_factory=dict)

    def module(self, module: Module, rest: Expr) -> Expr:
        key = id(module), rest
        if key not in self.known:
            total = ZERO
            for node in module.body:
                total = total + self.node(node, module, rest)
            self.known[key] = total
        return self.known[key]

    def node(self, node: Node, module: Module, rest: Expr) -> Expr:
        match node:
            case ir.Einsum():
                axes = {a.label: a for v in node.args for a in v.type.axes}
                return const(2) * _volume(axes.values(), rest) if node.over else ZERO
            case ir.LinearRecurrence():
                return const(2) * _volume(node.out.type.axes, rest)
            case ir.Attend():
                return self.attend(node, rest)
            case ir.Call():
                target = node.target if isinstance(node.target, Module) else module.child(node.target)
                below = target.module if isinstance(target, Child) else target
                assert isinstance(below, Module)
                return self.module(below, _rest_of(below, node.args, rest))
            case ir.Scan():
                below = node.target if isinstance(node.target, Module) else module.child(node.target).module  # type: ignore[union-attr]
                length = next(v.type.axis(node.over).size for v in node.args[: node.given] if v.type.has(node.over))
                parts = [Value(v.type.without(node.over), v.hint, v.span) if k < node.given else v for k, v in enumerate(node.args)]
                return length * self.module(below, _rest_of(below, parts, rest))
            case ir.Fold():
                stack = module.child(node.target)
                assert isinstance(stack, Stack)
                total = ZERO
                for (slot, copies), positions in zip(layers_of(stack), node.inputs, strict=True):
                    total = total + copies * self.module(slot, _rest_of(slot, [node.args[p] for p in positions], rest))
                return total
            case ir.Route():
                bank = module.child(node.target)
                assert isinstance(bank, Bank)
                once = self.module(bank.module, _rest_of(bank.module, (node.x, *node.args), rest))
                return once * node.index.type.axis(node.choice).size
            case ir.Pairwise():
                bank = module.child(node.target)
                assert isinstance(bank, Bank)
                slices = [Value(v.type.without(bank.axis.label), v.hint, v.span) for v in node.args]
                return bank.axis.size * self.module(bank.module, _rest_of(bank.module, slices, rest))
            case _:
                return ZERO

    def attend(self, node: ir.Attend, rest: Expr) -> Expr:
        """Scores and weighted sum, over all keys, and what score and weights contract."""
        key = node.k.type.axis(node.k_axis).size
        scores = _volume(node.q.type.axes, rest) * key
        total = const(2) * scores + const(2) * _volume(node.out.type.axes, rest) * key
        for region in ir.regions(node):
            for inner in region.body:
                if isinstance(inner, ir.Einsum):
                    axes = {a.label: a for v in inner.args for a in v.type.axes}
                    total = total + (const(2) * _volume(axes.values(), rest) if inner.over else ZERO)
        return total


def _volume(axes: Iterable[Axis], rest: Expr) -> Expr:
    total = ONE
    for axis in axes:
        total = total * (rest if axis.label is REST else axis.size)
    return total


def _rest_of(module: Module, args: tuple[Value, ...] | list[Value], rest: Expr) -> Expr:
    """How many entries the `...` of a module stands for in a call; `rest` is what it stands for in the caller."""
    for inner, arg in zip(module.inputs, args, strict=True):
        labels = inner.type.labels
        if REST in labels:
            at, after = labels.index(REST), len(labels) - labels.index(REST) - 1
            return _volume(arg.type.axes[at : len(arg.type.axes) - after], rest)
    return ONE
