"""Runs a program node by node, as it is written: no rewriting, no layouts, no kernels. This is the meaning of the IR.

Every value is checked when it is made: it must have the axes, the sizes and the dtype of its type. A value that depends on a training input
that was not given is absent, and so is all that depends on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TypeVar, assert_never

import numpy as np
from numpy.typing import DTypeLike

from ...compiler import ir
from ...compiler.dims import Expr, Sym
from ...compiler.ir import REST, Label, Module, Node, Program, Region, Type, Value
from ...grammar.frozen import frozen, mutable
from . import decode, operations
from .decode import Cache
from .parameters import Assignment, layer_slots, places, whole
from .tensors import Array, InterpreterError, OutOfRangeError, Tensor

_Kind = TypeVar("_Kind", ir.Child, ir.Stack, ir.Bank)

Trace = Callable[[str, Node, tuple[Array, ...]], None]
"""Called after each node with the path of its module (`decoder.layers.0`), the node and its results in their declared axes."""


@frozen(kw_only=True)
class Run:
    """What is the same everywhere in one run. `wide` is at least float32.

    `state`: what was carried here from the call before, by path; `next_state` and `next_buffers`: what this call leaves. `cache`: what nodes
    with an entry remember."""

    dtype: np.dtype
    wide: np.dtype
    weights: Mapping[str, Array]
    training: bool
    rng: np.random.Generator
    trace: Trace | None
    state: Mapping[str, Array]
    next_state: dict[str, Array] = field(default_factory=dict)
    next_buffers: dict[str, Array] = field(default_factory=dict)
    cache: Cache | None = None
    decoding: ir.Decoding | None = None


@mutable(kw_only=True, slots=True)
class Frame:
    """One application of a module (none: a region alone): its values, what `...` stands for, dynamic sizes, the expert of each bank.

    `site` is the path of calls that led here, by their numbers in the bodies."""

    run: Run
    module: Module | None
    path: str
    site: str = ""
    experts: tuple[int, ...]
    under: dict[Sym, int | float]
    rest: tuple[Label, ...] = ()
    values: dict[Value, Tensor] = field(default_factory=dict)

    # ------------------------------------------------ what nodes ask for

    def __getitem__(self, value: Value) -> Tensor:
        return self.values[value]

    def concrete(self, labels: Sequence[Label]) -> tuple[Label, ...]:
        return tuple(x for label in labels for x in (self.rest if label is REST else (label,)))

    def labels(self, type_: Type) -> tuple[Label, ...]:
        return self.concrete(type_.labels)

    def number(self, size: Expr) -> int | float:
        found = size.value(self.under)
        if found is None:
            raise InterpreterError(f"the number {size} has no value")
        return found

    def whole(self, size: Expr) -> int:
        return whole(size, self.under)

    def first(self, size: Expr) -> int:
        """The position of the first entry along an axis of that size."""
        cache, decoding = self.run.cache, self.run.decoding
        return cache.position if cache is not None and decoding is not None and decoding.rows in size.symbols else 0

    def dtype(self, kind: ir.DType) -> np.dtype:
        match kind:
            case "float":
                return self.run.dtype
            case "float32":
                return self.run.wide
            case "int":
                return np.dtype(np.int64)
            case "bool":
                return np.dtype(np.bool_)
            case _:
                assert_never(kind)

    def region(self, region: Region, args: Sequence[Tensor]) -> Tensor:
        for param, arg in zip(region.params, args, strict=True):
            self.bind(param, arg)
        self.body(region.body)
        return self[region.result]

    # ------------------------------------------------ values

    def bind(self, value: Value, found: Tensor) -> None:
        """Give a value, in the order and dtype of its type; sizes must be the type's. With a cache, what does not run stays absent."""
        if self.run.cache is not None and value not in self.run.cache.running:
            return
        array = found.ordered(self.labels(value.type)).astype(self.dtype(value.type.dtype), copy=False)
        have = dict(zip(self.labels(value.type), array.shape, strict=True))
        for axis in value.type.axes:
            if axis.label is not REST and (size := self.whole(axis.size)) != have[axis.label]:
                raise InterpreterError(f"{value!r} should be {value.type!r}, and its axis {axis.label} is {have[axis.label]}, not {size}")
        self.values[value] = Tensor(array, self.labels(value.type))

    def bind_by_position(self, value: Value, array: Array) -> None:
        """Give a value whose axes, in declared order, are those of an array from another module."""
        self.bind(value, Tensor(array, self.labels(value.type)))

    # ------------------------------------------------ nodes

    def body(self, nodes: Sequence[Node]) -> None:
        running = self.run.cache.running if self.run.cache is not None else None
        for node in nodes:
            if running is not None and not any(v in running for v in node.outs):
                continue
            needed = () if isinstance(node, ir.Call | ir.Fold | ir.Scan | ir.Pairwise | ir.Once) else tuple(ir.operands(node))
            if any(v not in self.values for v in needed):
                continue
            try:
                self.node(node)
            except OutOfRangeError as error:
                error.span = error.span or node.span
                raise
            except (InterpreterError, ValueError, IndexError, KeyError) as error:
                if isinstance(error, InterpreterError) and " at line " in str(error):
                    raise
                place = f"{self.path or 'the model'}, {type(node).__name__} of {node.outs[0]!r} at line {node.span.line_column()[0]}"
                raise InterpreterError(f"{place}: {error}") from error
            if self.run.trace is not None and all(v in self.values for v in node.outs):
                self.run.trace(self.path, node, tuple(self[v].array for v in node.outs))

    def node(self, node: Node) -> None:
        match node:
            case ir.Call():
                self.call(node)
            case ir.Fold():
                self.fold(node)
            case ir.Scan():
                self.scan(node)
            case ir.Pairwise():
                self.pairwise(node)
            case ir.Route():
                self.bind(node.out, self.route(node))
            case ir.Once():
                if (held := decode.once(self, node)) is not None:
                    self.bind(node.out, held)
            case ir.ChildParam():
                self.bind_by_position(node.out, self.weight(".".join(node.path)))
            case ir.Top():
                for value, found in zip(node.outs, operations.top(self, node), strict=True):
                    self.bind(value, found)
            case ir.Split():
                for value, found in zip(node.outs, operations.split(self, node), strict=True):
                    self.bind(value, found)
            case ir.Unstack():
                for value, found in zip(node.outs, operations.unstack(self, node), strict=True):
                    self.bind(value, found)
            case _:
                self.bind(node.out, self.single(node))

    def single(self, node: Node) -> Tensor:
        """The result of a node that has one."""
        if decode.is_continued(self, node):
            return decode.continued(self, node)
        match node:
            case ir.Keep():
                return decode.keep(self, node)
            case ir.Index():
                return operations.index(self, node)
            case ir.Full():
                return operations.full(self, node)
            case ir.Elementwise():
                return operations.elementwise(self, node)
            case ir.Cast():
                return operations.cast(self, node)
            case ir.Reduce():
                return operations.reduce(self, node)
            case ir.Along():
                return operations.along(self, node)
            case ir.Roll():
                return operations.roll(self, node)
            case ir.Einsum():
                return operations.einsum(self, node)
            case ir.Unflatten():
                return operations.unflatten(self, node)
            case ir.Flatten():
                return operations.flatten(self, node)
            case ir.Rename():
                return self[node.x].renamed(node.old, node.new)
            case ir.Transpose() | ir.StopGradient():
                return self[node.x]
            case ir.Expand():
                return operations.expand(self, node)
            case ir.Squeeze():
                return operations.squeeze(self, node)
            case ir.StackTensors():
                return operations.stack_tensors(self, node)
            case ir.Concat():
                return operations.concat(self, node)
            case ir.Pad():
                return operations.pad(self, node)
            case ir.Slice():
                return operations.slice_(self, node)
            case ir.Take():
                return operations.take(self, node)
            case ir.ScatterAdd():
                return operations.scatter_add(self, node)
            case ir.OneHot():
                return operations.one_hot(self, node)
            case ir.Unfold():
                return operations.unfold(self, node)
            case ir.LinearRecurrence():
                return operations.linear_recurrence(self, node)
            case ir.Attend():
                return operations.attend(self, node)
            case ir.Dropout():
                return operations.dropout(self, node)
            case ir.CrossEntropy():
                return operations.cross_entropy(self, node)
            case ir.Training():
                return Tensor(np.asarray(self.run.training), ())
            case (
                ir.Call()
                | ir.Once()
                | ir.Fold()
                | ir.Scan()
                | ir.Pairwise()
                | ir.Route()
                | ir.ChildParam()
                | ir.Top()
                | ir.Split()
                | ir.Unstack()
            ):
                raise AssertionError(node)
            case _:
                assert_never(node)

    # ------------------------------------------------ modules

    def weight(self, name: str) -> Array:
        """The parameter of this module, or of a child of it, that these experts have."""
        whole_name = f"{self.path}.{name}" if self.path else name
        if whole_name not in self.run.weights:
            raise InterpreterError(f"the parameter {whole_name} is missing")
        found: Array = np.asarray(self.run.weights[whole_name])[self.experts]
        return found

    def below(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def inputs(self, args: Sequence[Value]) -> list[Array | None]:
        return [self[v].array if v in self.values else None for v in args]

    def call(self, node: ir.Call) -> None:
        if isinstance(node.target, Module):
            module, path = node.target, self.path
        else:
            module, path = self.child(node.target, ir.Child).module, self.below(node.target)
        found = self.apply(module, path, self.experts, self.inputs(node.args), self.site_of(node))
        for value, array in zip(node.outs, found, strict=True):
            if array is not None:
                self.bind_by_position(value, array)

    def child(self, name: str, kind: type[_Kind]) -> _Kind:
        children = self.module.children if self.module is not None else ()
        found = next((c for c in children if c.name == name), None)
        if not isinstance(found, kind):
            raise InterpreterError(f"there is no {kind.__name__.lower()} called {name}")
        return found

    def site_of(self, node: Node) -> str:
        assert self.module is not None
        return f"{self.site}/{self.module.body.index(node)}"

    def apply(
        self, module: Module, path: str, experts: tuple[int, ...], args: Sequence[Array | None], site: str = ""
    ) -> list[Array | None]:
        """A module on arrays in its declared order; a result that depends on an absent input is none."""
        frame = Frame(run=self.run, module=module, path=path, site=site, experts=experts, under=dict(self.under))
        if len(args) != len(module.inputs):
            raise InterpreterError(f"{module.name} takes {len(module.inputs)} inputs and is given {len(args)}")
        frame.open_rest(module.inputs, args)
        solve_sizes(module.inputs, args, frame.under)
        for value, array in zip(module.inputs, args, strict=True):
            if array is not None:
                frame.bind_by_position(value, array)
        frame.execute()
        return [frame[v].array if v in frame.values else None for v in module.outputs]

    def open_rest(self, inputs: Sequence[Value], args: Sequence[Array | None]) -> None:
        """Let `...` stand for as many axes as the arguments have more than declared."""
        for value, array in zip(inputs, args, strict=True):
            if array is not None and value.type.has(REST):
                count = array.ndim - len(value.type.axes) + 1
                self.rest = tuple(Label(f"rest{k}") for k in range(count))
                return

    def execute(self) -> None:
        """Parameters and states, the body, then what states and buffers become."""
        assert self.module is not None
        for param in self.module.params:
            self.bind_by_position(param.value, self.weight(param.name))
        for state in self.module.states:
            self.bind(state.value, self.start(state))
        self.body(self.module.body)
        for state in self.module.states:
            if state.next in self.values:
                self.run.next_state[self.below(state.name)] = self[state.next].array
        for update in self.module.updates if self.run.training and self.run.cache is None else ():
            if update.next in self.values:
                self.run.next_buffers[self.below(update.buffer)] = self[update.next].array

    def start(self, state: ir.State) -> Tensor:
        """What a state is at the beginning of a call."""
        labels = self.labels(state.value.type)
        path = self.below(state.name)
        if path in self.run.state:
            return Tensor(np.asarray(self.run.state[path]), labels)
        found = self.region(state.initial, ())
        return Tensor(np.broadcast_to(found.aligned(labels), [self.whole(a.size) for a in state.value.type.axes]), labels)

    def fold(self, node: ir.Fold) -> None:
        stack = self.child(node.target, ir.Stack)
        args = self.inputs(node.args)
        collected: list[list[Array]] = [[] for _ in node.collected]
        slots = layer_slots(stack, self.under)
        for number, slot in enumerate(slots):
            chosen = [args[k] for k in node.inputs[slot]]
            path, site = f"{self.below(node.target)}.{number}", f"{self.site_of(node)}.{number}"
            found = self.apply(stack.slots[slot][0], path, self.experts, chosen, site)
            args[: node.carried] = found[: node.carried]
            for collect, arrays in zip(node.collected, collected, strict=True):
                place = collect.outputs[slot]
                if place is not None and (array := found[place]) is not None:
                    arrays.append(array)
        for value, array in zip(node.outs[: node.carried], args, strict=False):
            if array is not None:
                self.bind_by_position(value, array)
        for value, collect, arrays in zip(node.outs[node.carried :], node.collected, collected, strict=True):
            if all(collect.outputs[slot] is None for slot in slots):  # no layer has such a result
                labels = self.labels(value.type)
                self.bind(value, Tensor(np.zeros([self.whole(a.size) for a in value.type.axes]), labels))
            elif arrays:
                self.bind_by_position(value, np.sum(arrays, axis=0) if collect.sum else np.stack(arrays))

    def scan(self, node: ir.Scan) -> None:
        """The component at each position in turn; what is carried goes on to the next."""
        target = node.target if isinstance(node.target, Module) else self.child(node.target, ir.Child).module
        path = self.path if isinstance(node.target, Module) else self.below(node.target)
        args = self.inputs(node.args)
        places = [v.type.labels.index(node.over) if k < node.given and v.type.has(node.over) else None for k, v in enumerate(node.args)]
        length = next((a.shape[p] for a, p in zip(args, places, strict=True) if a is not None and p is not None), None)
        if length is None:
            return
        cache, place = self.run.cache if node.entry else None, decode.place_of(self, node.entry)
        for k in range(node.carried if cache is not None else 0):
            args[k] = cache.entries.get(f"{place}.{k}", args[k]) if cache is not None else args[k]
        stacked: list[list[Array]] = [[] for _ in node.outs[node.carried :]]
        for position in reversed(range(length)) if node.reverse else range(length):
            parts = [a if a is None or p is None else a.take(position, axis=p) for a, p in zip(args, places, strict=True)]
            found = self.apply(target, path, self.experts, parts)
            args[: node.carried] = found[: node.carried]
            for arrays, array in zip(stacked, found[node.carried :], strict=True):
                arrays += [] if array is None else [array]
        if cache is not None:
            cache.entries |= {f"{place}.{k}": a for k, a in enumerate(args[: node.carried]) if a is not None}
        for value, array in zip(node.outs[: node.carried], args, strict=False):
            if array is not None:
                self.bind_by_position(value, array)
        for value, arrays in zip(node.outs[node.carried :], stacked, strict=True):
            if len(arrays) == length:
                in_order = arrays[::-1] if node.reverse else arrays
                self.bind_by_position(value, np.stack(in_order, axis=self.labels(value.type).index(node.over)))

    def route(self, node: ir.Route) -> Tensor:
        """Every expert on everything, then the chosen ones weighed: slow, and plainly the definition."""
        bank = self.child(node.target, ir.Bank)
        index, weight = self[node.index], self[node.weight]
        labels = self.labels(node.out.type)
        total: Array | None = None
        for expert in range(self.whole(bank.axis.size)):
            found = self.apply(bank.module, self.below(node.target), (*self.experts, expert), self.inputs((node.x, *node.args)))[0]
            gate_labels = (*(x for x in labels if index.has(x) or weight.has(x)), node.choice)
            chosen = np.where(index.aligned(gate_labels) == expert, weight.aligned(gate_labels), 0).sum(axis=-1)
            if found is None:
                raise InterpreterError("an expert's result is absent")
            part = found * Tensor(chosen, gate_labels[:-1]).aligned(labels)
            total = part if total is None else total + part
        if total is None:
            raise InterpreterError(f"the bank {node.target} is empty")
        return Tensor(total, labels)

    def pairwise(self, node: ir.Pairwise) -> None:
        bank = self.child(node.target, ir.Bank)
        label = bank.axis.label
        results: list[list[Array | None]] = []
        for expert in range(self.whole(bank.axis.size)):
            args: list[Array | None] = []
            for value in node.args:
                found = self.values.get(value)
                if found is not None and found.has(label):
                    args.append(np.take(found.array, expert, axis=found.position(label)))
                else:
                    args.append(None if found is None else found.array)
            results.append(self.apply(bank.module, self.below(node.target), (*self.experts, expert), args))
        for k, value in enumerate(node.outs):
            arrays = [r[k] for r in results]
            if all(a is not None for a in arrays):
                rest = tuple(x for x in self.labels(value.type) if x is not label)
                self.bind(value, Tensor(np.stack([a for a in arrays if a is not None]), (label, *rest)))


def solve_sizes(inputs: Sequence[Value], args: Sequence[Array | None], under: dict[Sym, int | float]) -> None:
    """Give the dynamic symbols the values that the shapes of the inputs ask for; plain ones first, then formulas in one unknown."""
    formulas: list[tuple[Expr, int]] = []
    for value, array in zip(inputs, args, strict=True):
        if array is None:
            continue
        axes = value.type.axes
        rest = next((k for k, a in enumerate(axes) if a.label is REST), None)
        for k, axis in enumerate(axes):
            if axis.label is REST:
                continue
            actual = array.shape[k if rest is None or k < rest else k - len(axes)]
            if axis.size.is_dynamic and axis.size.value(under) != actual:
                plain = _plain_symbol(axis.size)
                if plain is not None and plain not in under:
                    under[plain] = actual
                else:
                    formulas.append((axis.size, actual))
    for size, actual in formulas:
        if size.value(under) != actual:
            unknown = [s for s in size.symbols if s.value is None and (s not in under or _plain_symbol(size) is s)]
            if len(unknown) != 1:
                continue
            found = next((n for n in range(1, 1 << 16) if size.value({**under, unknown[0]: n}) == actual), None)
            if found is None:
                raise InterpreterError(f"no value of {unknown[0]} makes {size} equal to {actual}")
            under[unknown[0]] = found


def _plain_symbol(size: Expr) -> Sym | None:
    return next((s for s in size.symbols if size == Expr((((((s, 1),)), 1),))), None)


def evaluate_region(region: Region, *, dtype: DTypeLike, under: Assignment | None = None) -> Tensor:
    """A region without params that reads nothing around it: a table, a default."""
    frame = Frame(run=_run(dtype, {}, False, 0, None), module=None, path="", experts=(), under=dict(under or {}))
    with np.errstate(all="ignore"):
        return frame.region(region, ())


def _run(
    dtype: DTypeLike,
    weights: Mapping[str, Array],
    training: bool,
    seed: int,
    trace: Trace | None,
    state: Mapping[str, Array] | None = None,
    cache: Cache | None = None,
    decoding: ir.Decoding | None = None,
) -> Run:
    kind = np.dtype(dtype)
    return Run(
        dtype=kind,
        wide=np.promote_types(kind, np.float32),
        weights=weights,
        training=training,
        rng=np.random.default_rng(seed),
        trace=trace,
        state=state or {},
        cache=cache,
        decoding=decoding,
    )


def run(
    program: Program,
    params: Mapping[str, Array],
    inputs: Mapping[str, Array],
    *,
    dtype: DTypeLike = np.float64,
    under: Assignment | None = None,
    training: bool = False,
    seed: int = 0,
    trace: Trace | None = None,
    state: dict[str, Array] | None = None,
    buffers: dict[str, Array] | None = None,
    cache: Cache | None = None,
) -> dict[str, Array]:
    """The outputs by name, in their declared axes. `under` gives other values to Config's symbols; a missing input takes its default.

    If every loss can be computed, its value is under `loss.<name>` and their sum under `loss`. `seed` is for dropout in training. `state` holds
    what was carried here from the call before, by path (`decoder.layers.0.memory.past`), and is brought up to date; what it lacks starts anew.
    In training, `buffers` receives what buffers become. With a `cache` (of a derived program: `init_cache`), the inputs are those of the next
    tokens, what does not run along them is given in the first call only, and the outputs are those that are decoded."""
    unknown = set(inputs) - {i.name for i in program.inputs}
    if unknown:
        raise InterpreterError(f"{program.name} has no input {', '.join(sorted(unknown))}")
    expected = {p.name for p in places(program, under)}
    if missing := expected - set(params):
        raise InterpreterError(f"missing parameters: {', '.join(sorted(missing)[:5])}")
    shared = _run(dtype, params, training, seed, trace, state, cache, program.decoding)
    frame = Frame(
        run=shared, module=program.root, path="", experts=(), under={**(under or {}), **(cache.sizes if cache is not None else {})}
    )
    given = [np.asarray(inputs[i.name]) if i.name in inputs else None for i in program.inputs]
    for item, array in zip(program.inputs, given, strict=True):
        if array is not None and array.ndim != len(item.value.type.axes):
            raise InterpreterError(f"the input {item.name} is {item.value.type!r}, and has the shape {array.shape}")
    solve_sizes(program.root.inputs, given, frame.under)
    if program.decoding is not None:
        frame.under[program.decoding.length] = frame.under[program.decoding.rows] + (cache.position if cache is not None else 0)
    with np.errstate(all="ignore"):
        _bind_inputs(frame, program, given)
        frame.execute()
    if cache is not None and program.decoding is not None:
        cache.sizes = {s: n for s, n in frame.under.items() if s not in (program.decoding.rows, program.decoding.length)}
        cache.position += int(frame.under[program.decoding.rows])
    if state is not None:
        state |= frame.run.next_state
    if buffers is not None:
        buffers |= frame.run.next_buffers
    return _results(frame, program)


def _bind_inputs(frame: Frame, program: Program, given: Sequence[Array | None]) -> None:
    cache, decoding = frame.run.cache, frame.run.decoding
    later = cache is not None and cache.position > 0
    for item, array in zip(program.inputs, given, strict=True):
        if cache is not None and item.value not in cache.running:
            continue  # nor is its default computed
        if array is None and later and decoding is not None and all(decoding.rows not in a.size.symbols for a in item.value.type.axes):
            continue  # what does not run along the tokens came in the first call
        if array is not None:
            if (
                item.bound is not None
                and not item.training
                and array.size
                and not 0 <= array.min() <= array.max() < frame.whole(item.bound)
            ):
                raise InterpreterError(f"{item.name} must lie in 0 .. {frame.whole(item.bound)}; it has {array.min()} .. {array.max()}")
            frame.bind_by_position(item.value, array)
        elif item.default is not None:
            found, axes = frame.region(item.default, ()), item.value.type.axes
            labels = frame.labels(item.value.type)
            frame.bind(item.value, Tensor(np.broadcast_to(found.aligned(labels), [frame.whole(a.size) for a in axes]), labels))
        elif not item.training:
            raise InterpreterError(f"the input {item.name} is missing")


def _results(frame: Frame, program: Program) -> dict[str, Array]:
    root = program.root
    names = root.output_names or tuple(f"output{k}" if k else "output" for k in range(len(root.outputs)))
    decoded = program.decoding.outputs if program.decoding is not None and frame.run.cache is not None else range(len(names))
    found = {names[k]: frame[root.outputs[k]].array for k in decoded if root.outputs[k] in frame.values}
    if program.losses and all(loss.value in frame.values for loss in program.losses):
        terms = {f"loss.{loss.name}": frame[loss.value].array for loss in program.losses}
        found |= terms
        found["loss"] = np.asarray(sum(terms.values()))
    return found
