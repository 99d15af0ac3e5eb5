"""Where two executions part first: an emitted module against the interpreter, by recomputation.

The values of a body are made outputs of the model, in both; the first that differs names the operation. If that operation applies a module,
the search goes on inside it. Asking for values changes the code that is emitted; a difference that goes away then is told as one of its call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.diagnostics import SpecError
from ..compiler.dims import Sym, const
from ..compiler.ir import REST, Axis, Label, Module, Node, Program, Type, Value
from ..grammar.frozen import frozen
from .interpreter import layer_slots

Array = NDArray[Any]
Outputs = Mapping[str, Array]
Runs = Callable[[Program], tuple[Outputs, Outputs]]
"""The outputs of a program: of the emitted module, and of the interpreter."""
Difference = Callable[[Array | None, Array], float]


@frozen(kw_only=True)
class Step:
    """A node on the way down, by its number in a body, and the slot of a stack."""

    node: int
    slot: int


@frozen(kw_only=True)
class Divergence:
    """The first operation whose result differs: `where` is the path of modules, `layer` the number of the layer, if it stands in a stack;
    `gradient`: what it hands back in the backward pass."""

    backend: str
    operation: str
    where: str
    source: str
    line: int
    text: str
    error: float
    gradient: bool = False

    def __str__(self) -> str:
        inside = f" in {self.where}" if self.where else ""
        if math.isnan(self.error):
            return f"the definition gives NaN from `{self.operation}`{inside}, {self.source}:{self.line}: {self.text}"
        equals = " (of equal values any may come first)" if self.operation == "top" else ""
        what = f"{self.backend}'s gradient" if self.gradient else self.backend
        return f"{what} parts at `{self.operation}`{inside}, {self.source}:{self.line}, by {self.error:.1e}{equals}: {self.text}"


def find_divergence(
    program: Program, backend: str, runs: Runs, difference: Difference, tolerance: float, under: Mapping[Sym, int | float]
) -> Divergence | None:
    """The first operation where an emitted module parts from the interpreter; none if no value of the model's body differs."""
    path: tuple[Step, ...] = ()
    names: list[str] = []
    found: Divergence | None = None
    numbers: list[int] = []
    while True:
        module = module_at(program.root, path)
        first = _first(program, path, runs, difference, tolerance, under)
        if first is None:
            return found
        number, layer, error = first
        node = module.body[number]
        if layer is not None and numbers:
            names[-1] = f"{names[-1]}.{numbers[layer]}"
        found = told(node, backend, ".".join(names), error)
        slots = modules_below(node, module)
        if not slots:
            return found
        inside = [(s, _first(program, (*path, Step(node=number, slot=s)), runs, difference, tolerance, under)) for s in range(len(slots))]
        wrong = [(_layer_number(node, module, s, at[1] or 0, under), s) for s, at in inside if at is not None]
        if not wrong:
            return found
        _, deeper = min(wrong)
        path, numbers = (*path, Step(node=number, slot=deeper)), _layer_numbers(node, module, deeper, under)
        names.append(node.target if isinstance(node, ir.Call | ir.Fold | ir.Scan) and isinstance(node.target, str) else slots[deeper].name)


def _layer_numbers(node: Node, module: Module, slot: int, under: Mapping[Sym, int | float]) -> list[int]:
    """Of the layers that a slot of a stack makes, from the bottom; none for what is no stack."""
    stack = module.child(node.target) if isinstance(node, ir.Fold) else None
    return [k for k, s in enumerate(layer_slots(stack, under)) if s == slot] if isinstance(stack, ir.Stack) else []


def _layer_number(node: Node, module: Module, slot: int, layer: int, under: Mapping[Sym, int | float]) -> int:
    numbers = _layer_numbers(node, module, slot, under)
    return numbers[layer] if layer < len(numbers) else layer


def with_losses_shown(program: Program) -> Program:
    """The losses as outputs, so that what they are made of can be shown."""
    root = program.root
    names = root.output_names or tuple(f"output{k}" if k else "output" for k in range(len(root.outputs)))
    losses = {f"loss_{k}": loss.value for k, loss in enumerate(program.losses)}
    root = replace(root, outputs=(*root.outputs, *losses.values()), output_names=(*names, *losses))
    return replace(program, root=root, losses=(), inputs=tuple(replace(i, training=False) for i in program.inputs))


def find_nan(program: Program, run: Callable[[Program], Outputs], under: Mapping[Sym, int | float]) -> Divergence | None:
    """The first operation of the definition itself whose result is not a number."""

    def runs(probed: Program) -> tuple[Outputs, Outputs]:
        found = run(probed)
        return found, found

    def undefined(_: Array | None, want: Array) -> float:
        return math.nan if want.dtype.kind == "f" and bool(np.isnan(want).any()) else 0.0

    return find_divergence(program, "interpreter", runs, undefined, 0.0, under)


def told(node: Node, backend: str, where: str, error: float, *, gradient: bool = False) -> Divergence:
    """What there is to say of a node that parts."""
    line, _ = node.span.line_column()
    text = node.span.source.text.splitlines()[line - 1].strip() if node.span.source.text else ""
    operation = str(getattr(node, "function", "") or type(node).__name__.lower())
    if isinstance(node, ir.Call | ir.Fold):
        operation = node.target if isinstance(node.target, str) else node.target.name
    source = node.span.source.path
    return Divergence(
        backend=backend, operation=operation, where=where, source=source, line=line, text=text, error=error, gradient=gradient
    )


def _first(
    program: Program, path: tuple[Step, ...], runs: Runs, difference: Difference, tolerance: float, under: Mapping[Sym, int | float]
) -> tuple[int, int | None, float] | None:
    """The first node of a body whose result differs, with the layer (none: not in a stack) and the difference."""
    probe = _probed(program, path, under)
    try:
        got, want = runs(probe.program)
    except (SpecError, ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # what is asked for cannot be written
    parted: list[tuple[tuple[int, ...], int, float]] = []
    depth = len(probe.backwards)
    for name, number in probe.nodes.items():
        if name not in want:
            continue
        mine, wanted = got.get(name), want[name]
        if mine is None or mine.shape != wanted.shape:
            parted.append(((0,) * depth, number, difference(mine, wanted)))
            continue
        for turn in np.ndindex(wanted.shape[:depth]):
            at = tuple(n - 1 - k if back else k for k, n, back in zip(turn, wanted.shape, probe.backwards, strict=False))
            error = difference(np.asarray(mine[at]), np.asarray(wanted[at]))
            if not error <= tolerance:
                parted.append((turn, number, error))
                break
    if not parted:
        return None
    turn, number, error = min(parted)
    return number, turn[-1] if turn else None, error


# ---------------------------------------------------------------- programs that show more


@frozen
class _Probe:
    """`nodes`: names of further outputs, with the numbers of their nodes. `backwards`: for each axis in front, of layers and of the positions
    of scans around, whether it runs from the last one."""

    program: Program
    nodes: Mapping[str, int]
    backwards: tuple[bool, ...]


def _probed(program: Program, path: tuple[Step, ...], under: Mapping[Sym, int | float]) -> _Probe:
    module = module_at(program.root, path)
    hidden = set() if path else _for_losses(program)
    shown = [
        (k, v) for k, node in enumerate(module.body) for v in node.outs if not isinstance(node, ir.Full | ir.Training) and v not in hidden
    ]
    root, values = _exposed(program.root, path, [v for _, v in shown], under)
    names = root.output_names or tuple(f"output{k}" if k else "output" for k in range(len(root.outputs)))
    probes = tuple(f"probe_{k}" for k in range(len(values)))
    root = replace(root, outputs=(*root.outputs, *values), output_names=(*names, *probes))
    above = [module_at(program.root, path[:k]).body[step.node] for k, step in enumerate(path)]
    backwards = tuple(isinstance(node, ir.Scan) and node.reverse for node in above if isinstance(node, ir.Fold | ir.Scan))
    nodes = {name: number for name, (number, _) in zip(probes, shown, strict=True)}
    return _Probe(replace(program, root=root, checkpoint=()), nodes, backwards)


def _for_losses(program: Program) -> set[Value]:
    """What reads an input that only losses have: it is none where outputs are computed."""
    found = {i.value for i in program.inputs if i.training}
    for node in program.root.body:
        if any(v in found for v in ir.operands(node)):
            found.update(node.outs)
    return found


def modules_below(node: Node, module: Module) -> list[Module]:
    """The modules that a node applies, where their values can be shown."""
    match node:
        case ir.Call() | ir.Scan():
            target = module.child(node.target) if isinstance(node.target, str) else node.target
            return [target.module if isinstance(target, ir.Child) else target] if isinstance(target, ir.Child | Module) else []
        case ir.Fold():
            stack = module.child(node.target)
            return [m for m, _ in stack.slots] if isinstance(stack, ir.Stack) else []
        case _:
            return []


def module_at(root: Module, path: Sequence[Step]) -> Module:
    for step in path:
        root = modules_below(root.body[step.node], root)[step.slot]
    return root


def _exposed(
    module: Module, path: tuple[Step, ...], values: list[Value], under: Mapping[Sym, int | float]
) -> tuple[Module, tuple[Value, ...]]:
    """The module with nodes that give the values from below, as values of its own."""
    if not path:
        return module, tuple(values)
    step, node = path[0], module.body[path[0].node]
    inner, below = _exposed(modules_below(node, module)[step.slot], path[1:], values, under)
    names = (*inner.output_names, *(f"probe_{k}" for k in range(len(below)))) if inner.output_names else ()
    grown = replace(inner, outputs=(*inner.outputs, *below), output_names=names)
    if isinstance(node, ir.Fold):
        return _through_stack(module, node, step, grown, below, under)
    assert isinstance(node, ir.Call | ir.Scan)
    if isinstance(node, ir.Scan):
        return _through_scan(module, node, grown, below)
    outs = tuple(Value(_seen(v.type, inner, node.args), v.hint, v.span) for v in below)
    if isinstance(node.target, Module):
        changed = replace(node, outs=(*node.outs, *outs), target=grown)
        return replace(module, body=tuple(changed if n is node else n for n in module.body)), outs
    body: list[Node] = []
    for other in module.body:  # a child that is applied at several places gives more at all of them
        if isinstance(other, ir.Call) and other.target == node.target:
            more = outs if other is node else tuple(Value(_seen(v.type, inner, other.args), v.hint, v.span) for v in below)
            other = replace(other, outs=(*other.outs, *more))
        body.append(other)
    children = tuple(replace(c, module=grown) if isinstance(c, ir.Child) and c.name == node.target else c for c in module.children)
    return replace(module, body=tuple(body), children=children), outs


def _through_stack(
    module: Module, node: ir.Fold, step: Step, grown: Module, below: tuple[Value, ...], under: Mapping[Sym, int | float]
) -> tuple[Module, tuple[Value, ...]]:
    """Collected over the layers of one slot."""
    stack = module.child(node.target)
    assert isinstance(stack, ir.Stack)
    before = len(grown.outputs) - len(below)
    layers = const(layer_slots(stack, under).count(step.slot))
    args = [node.args[p] for p in node.inputs[step.slot]]
    kinds = [_seen(v.type, grown, args) for v in below]
    outs = tuple(
        Value(Type((Axis(Label("layer"), layers), *kind.axes), kind.dtype), v.hint, v.span) for v, kind in zip(below, kinds, strict=True)
    )
    mine = range(len(stack.slots))
    collected = tuple(ir.Collect(tuple(before + k if s == step.slot else None for s in mine), False) for k in range(len(below)))
    changed = replace(node, outs=(*node.outs, *outs), collected=(*node.collected, *collected))
    slots = tuple((grown if s == step.slot else m, n) for s, (m, n) in enumerate(stack.slots))
    children = tuple(replace(stack, slots=slots) if c is stack else c for c in module.children)
    return replace(module, body=tuple(changed if n is node else n for n in module.body), children=children), outs


def _through_scan(module: Module, node: ir.Scan, grown: Module, below: tuple[Value, ...]) -> tuple[Module, tuple[Value, ...]]:
    """Of every position, along an axis in front."""
    over = next(v.type.axis(node.over) for v in node.args[node.carried :] if v.type.has(node.over))
    outs = tuple(Value(Type((over, *_seen(v.type, grown, node.args).axes), v.type.dtype), v.hint, v.span) for v in below)
    target = grown if isinstance(node.target, Module) else node.target
    changed = replace(node, outs=(*node.outs, *outs), target=target)
    children = tuple(replace(c, module=grown) if isinstance(c, ir.Child) and c.name == node.target else c for c in module.children)
    return replace(module, body=tuple(changed if n is node else n for n in module.body), children=children), outs


def _seen(kind: Type, inner: Module, args: Sequence[Value]) -> Type:
    """A type of a module as its caller sees it: `...` is what the arguments have there."""
    return Type(tuple(_axes(kind, inner, args)), kind.dtype)


def _axes(kind: Type, inner: Module, args: Sequence[Value]) -> Iterator[Axis]:
    for axis in kind.axes:
        if axis.label is not REST:
            yield axis
            continue
        for formal, actual in zip(inner.inputs, args, strict=True):
            if formal.type.has(REST):
                at = formal.type.labels.index(REST)
                yield from actual.type.axes[at : at + len(actual.type.axes) - len(formal.type.axes) + 1]
                break
