"""The typed intermediate representation.

    program ::= Program(name, root, config, facts, losses, ...)
    module  ::= Module(name, inputs, outputs, params, children, body)        a component elaborated at one place
    child   ::= Child(name, module) | Stack(name, slots, count) | Bank(name, module, axis)
    body    ::= node*                                                       a straight line; every value is assigned once
    node    ::= outs = operation(operands)                                  the closed union `Node` below
    operand ::= Value | Expr                                                a tensor, or a static number
    type    ::= dtype [label: size, ...]
    region  ::= (params) -> body, result                                    a mask or a score; may read values around it

Axes are named. The order in a type is the order in which it was written: it is meaningful at interfaces (inputs, outputs, parameters)
and nowhere else; a backend chooses its own layouts. Labels are objects: two labels are the same axis only if they are one object. The
label `REST` stands for any number of leading axes of a module that is applied at several ranks.

Sizes are `Expr`s over the Config symbols and dynamic symbols of the whole program (not per module), so an expression means the same
everywhere. Modules of one class of generated code are found later, by comparing modules up to their labels and sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from itertools import count
from typing import Literal

from ..grammar.frozen import field_names, frozen
from ..grammar.tree import Span
from .dims import Expr, Sym

# ---------------------------------------------------------------- types

DType = Literal["float", "float32", "int", "bool"]
"""`float` is the model's own dtype; `float32` is at least float32 (float64 stays float64)."""

_serial = count()


@frozen(eq=False)
class Label:
    """The name of an axis, with an identity."""

    name: str

    def __repr__(self) -> str:
        return self.name


REST = Label("...")


@frozen
class Axis:
    """`label: size`. The size of REST is meaningless (one)."""

    label: Label
    size: Expr

    def __repr__(self) -> str:
        return self.label.name if str(self.size) == self.label.name or self.label is REST else f"{self.label.name}: {self.size}"


@frozen
class Type:
    axes: tuple[Axis, ...]
    dtype: DType = "float"

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(a.label for a in self.axes)

    def axis(self, label: Label) -> Axis:
        return next(a for a in self.axes if a.label is label)

    def has(self, label: Label) -> bool:
        return any(a.label is label for a in self.axes)

    def without(self, *labels: Label) -> Type:
        return Type(tuple(a for a in self.axes if not any(a.label is x for x in labels)), self.dtype)

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(repr, self.axes))}]"


@frozen(eq=False)
class Value:
    """The result of a node, an input or a parameter. Identity is the object; `hint` is the name it had in the spec, if any."""

    type: Type
    hint: str = ""
    span: Span | None = None
    serial: int = field(default_factory=lambda: next(_serial))

    def __repr__(self) -> str:
        return f"%{self.hint or 'v'}.{self.serial}"


Operand = Value | Expr


@frozen(kw_only=True, eq=False)
class Region:
    """A function inside a node: a mask or a score of an `Attend`. `body` may read values of the enclosing bodies."""

    params: tuple[Value, ...]
    body: tuple[Node, ...]
    result: Value


# ---------------------------------------------------------------- nodes


@frozen(kw_only=True, eq=False)
class Op:
    """What every node has. `span` is the place in the spec; diagnostics found late point there."""

    outs: tuple[Value, ...]
    span: Span

    @property
    def out(self) -> Value:
        return self.outs[0]


@frozen(kw_only=True, eq=False)
class ChildParam(Op):
    """A parameter of a child (or of a child's child), read by its owner: `embed.weight`. `path` ends with the parameter's name."""

    path: tuple[str, ...]


@frozen(kw_only=True, eq=False)
class Index(Op):
    """0, 1, ... along one axis: out is int[axis]. `slot` is true for the sequence slots that decoding shifts."""

    slot: bool = False


@frozen(kw_only=True, eq=False)
class Full(Op):
    """A tensor of one number; its type is the out's."""

    value: Expr


@frozen(kw_only=True, eq=False)
class Elementwise(Op):
    """A pointwise function; operands align by label and broadcast.

    Functions: add sub mul div floor_div mod pow neg minimum maximum where clamp not and or eq ne lt le gt ge exp log log1p sqrt rsqrt abs sign
    floor sin cos tanh sigmoid relu silu gelu gelu_tanh softplus erf. `clamp(x, lo, hi)` with infinite Exprs for a missing bound."""

    function: str
    args: tuple[Operand, ...]


@frozen(kw_only=True, eq=False)
class Cast(Op):
    """To the dtype of out. To `float32`: at least float32. To `float`: the model's dtype."""

    x: Value


@frozen(kw_only=True, eq=False)
class Reduce(Op):
    """sum mean max min prod any all logsumexp argmax argmin over labels (which may include REST)."""

    function: str
    x: Value
    over: tuple[Label, ...]


@frozen(kw_only=True, eq=False)
class Along(Op):
    """softmax log_softmax cumsum sort argsort flip along one axis; the type stays (argsort: int). Sorts are stable.

    A cumsum with an `entry` goes on from its last result in the call before, if there is a cache."""

    function: str
    x: Value
    over: Label
    entry: str = ""


@frozen(kw_only=True, eq=False)
class Roll(Op):
    """Circular shift: out[i] = x[i - shift]."""

    x: Value
    shift: Expr
    over: Label


@frozen(kw_only=True, eq=False)
class Top(Op):
    """The k largest along an axis, descending; outs are (values, index), with the axis `label: k` in place of `over`."""

    x: Value
    k: Expr
    over: Label
    label: Label


@frozen(kw_only=True, eq=False)
class Einsum(Op):
    """Product of the operands by label, summed over `over`."""

    args: tuple[Value, ...]
    over: tuple[Label, ...]


@frozen(kw_only=True, eq=False)
class Split(Op):
    """Consecutive pieces of one axis; out k has the axis `labels[k]: sizes[k]` in its place."""

    x: Value
    over: Label
    sizes: tuple[Expr, ...]
    labels: tuple[Label, ...]


@frozen(kw_only=True, eq=False)
class Unflatten(Op):
    """One axis becomes several, row-major; the last of `axes` varies fastest."""

    x: Value
    over: Label
    axes: tuple[Axis, ...]


@frozen(kw_only=True, eq=False)
class Flatten(Op):
    """Several axes become one, row-major in the order of `over`; it stands where the first of them stood."""

    x: Value
    over: tuple[Label, ...]
    label: Label


@frozen(kw_only=True, eq=False)
class Rename(Op):
    """The same tensor with other labels, in order."""

    x: Value
    old: tuple[Label, ...]
    new: tuple[Label, ...]


@frozen(kw_only=True, eq=False)
class Transpose(Op):
    """The same tensor with its axes declared in the order of out."""

    x: Value


@frozen(kw_only=True, eq=False)
class Expand(Op):
    """Repeat along new axes; out has them first."""

    x: Value
    axes: tuple[Axis, ...]


@frozen(kw_only=True, eq=False)
class Squeeze(Op):
    """Drop an axis of size one."""

    x: Value
    over: Label


@frozen(kw_only=True, eq=False)
class StackTensors(Op):
    """Join tensors along a new axis, placed last."""

    args: tuple[Value, ...]
    label: Label


@frozen(kw_only=True, eq=False)
class Unstack(Op):
    """The slices along an axis, each without it; its size is static."""

    x: Value
    over: Label


@frozen(kw_only=True, eq=False)
class Concat(Op):
    """Join along an axis that all operands have; other axes broadcast by label.

    With an `entry`, the place of the first operand is taken, in later calls with a cache, by as many entries of what came before."""

    args: tuple[Value, ...]
    over: Label
    entry: str = ""


@frozen(kw_only=True, eq=False)
class Pad(Op):
    """Add `before` and `after` entries of one number along an axis.

    With an `entry`, the entries in front are, in later calls with a cache, the last ones of what came before."""

    x: Value
    over: Label
    before: Expr
    after: Expr
    value: Expr
    entry: str = ""


@frozen(kw_only=True, eq=False)
class Slice(Op):
    """`x[start:stop]` along an axis; bounds are non-negative Exprs, negative ones having been resolved (`size - n`)."""

    x: Value
    over: Label
    start: Expr
    stop: Expr


@frozen(kw_only=True, eq=False)
class Take(Op):
    """Indexing: for each (label, index) the axis is replaced by the index's axes (none for an Expr, which may be negative).

    Labels that an index tensor shares with x or with another index align."""

    x: Value
    over: tuple[Label, ...]
    indices: tuple[Operand, ...]


@frozen(kw_only=True, eq=False)
class ScatterAdd(Op):
    """base with x added at index along `over`; the index's axes that base lacks are summed, shared labels align."""

    base: Value
    index: Value
    x: Value
    over: Label


@frozen(kw_only=True, eq=False)
class OneHot(Op):
    """bool: index == 0, 1, ... along the new last axis."""

    x: Value
    axis: Axis


@frozen(kw_only=True, eq=False)
class Unfold(Op):
    """Sliding windows along `over`: out[.., t, .., k] = x[.., t * stride + k * dilation, ..]; the new axis `window` is last."""

    x: Value
    over: Label
    window: Axis
    stride: Expr
    dilation: Expr


@frozen(kw_only=True, eq=False)
class LinearRecurrence(Op):
    """h[t] = a[t] * h[t - 1] + b[t], h[-1] = 0, along `over`; a and b broadcast by label.

    With an `entry`, h[-1] is the last h of the call before, if there is a cache."""

    a: Value
    b: Value
    over: Label
    entry: str = ""


@frozen(kw_only=True, eq=False)
class Attend(Op):
    """s = scale * sum(q * k over feature); score; mask; weights over key; times v summed over key. A row with no key gives 0.

    `key` is the key axis of the scores. In self attention k and v carry the query's label: `k_axis` is their label and `key` a fresh one.
    `mask` has params (i: int[query], j: int[key]); `score` has params (s, h, i, j), h being int over the head axes; results align by label.
    `weights`, if any, is a region with one param (the scores) and replaces the softmax over `key`. The scores' type is q's axes without
    `feature` and `query`, then `query`, then `key`, in at least float32."""

    q: Value
    k: Value
    v: Value
    query: Label
    k_axis: Label
    key: Label
    feature: Label
    scale: Operand
    mask: Region | None
    score: Region | None
    weights: Region | None


@frozen(kw_only=True, eq=False)
class Dropout(Op):
    """In training, zero with probability `rate` and scale the rest by 1 / (1 - rate); else x."""

    x: Value
    rate: Expr


@frozen(kw_only=True, eq=False)
class StopGradient(Op):
    x: Value


@frozen(kw_only=True, eq=False)
class CrossEntropy(Op):
    """Mean of -log softmax(logits)[target] over the targets that are not -100; out is a float32 scalar."""

    logits: Value
    target: Value
    over: Label


@frozen(kw_only=True, eq=False)
class Call(Op):
    """Apply a child (by name) or a module without parameters (`target` is the Module); outs are its outputs."""

    target: str | Module
    args: tuple[Value, ...]


@frozen
class Collect:
    """A further result of the layers: `outputs[s]` is its place among the outputs of slot s's module (none if that slot has no such
    result). Over the layers that have it, in order, it is summed, or stacked on a leading axis."""

    outputs: tuple[int | None, ...]
    sum: bool


@frozen(kw_only=True, eq=False)
class Fold(Op):
    """Apply a Stack child: the first `carried` args are carried from layer to layer, the others are the same for every layer.

    outs are the final carried values, then one for each of `collected`. `inputs[s]` gives, for slot s, the position in args of each input of
    its module."""

    target: str
    args: tuple[Value, ...]
    carried: int
    inputs: tuple[tuple[int, ...], ...]
    collected: tuple[Collect, ...] = ()


@frozen(kw_only=True, eq=False)
class Scan(Op):
    """Apply one child (or a module without parameters) at every position of `over` in turn, with the same weights.

    The first `carried` args are carried from position to position; of the others, those among the first `given` args that have `over` are
    sliced at the position, and the rest are the same everywhere. outs are the final carried values, then the further results of every position, stacked along `over`. `reverse`
    goes from the last position to the first (results keep their positions). With an `entry`, what is carried starts as it ended in the call
    before, if there is a cache."""

    target: str | Module
    args: tuple[Value, ...]
    carried: int
    given: int
    over: Label
    reverse: bool
    entry: str = ""


@frozen(kw_only=True, eq=False)
class Keep(Op):
    """What x has been along `over` since a cache was empty, its own entries last, along `label` instead; without a cache, x itself.

    `window`: nothing reads more than so many entries back, a row's own included (a ring buffer will do). `entry` names what is kept among
    the module's entries of the cache."""

    x: Value
    over: Label
    label: Label
    window: Expr | None
    entry: str


@frozen(kw_only=True, eq=False)
class Once(Op):
    """What x was in the first call with a cache; later calls need not give what x is made of. Without a cache, x itself.

    `positions`: x depends on these alone, entry by entry, and is kept for every slot, for calls in which positions are slots."""

    x: Value
    entry: str
    positions: Value | None = None


@frozen(kw_only=True, eq=False)
class Training(Op):
    """bool without axes: whether the model is in training mode."""


@frozen(kw_only=True, eq=False)
class Route(Op):
    """out = sum over `choice` of weight * bank[index](x). index and weight have the axis `choice`; x does not.

    `args` are further inputs of the bank's module, the same for every expert."""

    target: str
    x: Value
    index: Value
    weight: Value
    choice: Label
    args: tuple[Value, ...]


@frozen(kw_only=True, eq=False)
class Pairwise(Op):
    """Apply a Bank child to a tensor that has its axis: expert e sees the slice e."""

    target: str
    args: tuple[Value, ...]


Node = (
    ChildParam | Index | Full | Elementwise | Cast | Reduce | Along | Roll | Top | Einsum | Split | Unflatten | Flatten | Rename | Transpose
    | Expand | Squeeze | StackTensors | Unstack | Concat | Pad | Slice | Take | ScatterAdd | OneHot | Unfold | LinearRecurrence | Attend | Dropout
    | StopGradient | CrossEntropy | Call | Fold | Scan | Keep | Once | Training | Route | Pairwise
)  # fmt: skip


# ---------------------------------------------------------------- modules


@frozen(kw_only=True, eq=False)
class Init:
    """How a parameter starts: kind zeros, ones, constant(a), normal(a = std), uniform(a, b), or table (a body over Index nodes)."""

    kind: Literal["zeros", "ones", "constant", "normal", "uniform", "table"]
    numbers: tuple[Expr, ...] = ()
    table: Region | None = None


@frozen(kw_only=True, eq=False)
class Param:
    """A parameter (`trainable`) or a buffer (not trained). Its value can be read in the body like any other.

    What is not `stored` (a fixed table that no checkpoint holds) is computed when the model is built."""

    name: str
    value: Value
    init: Init
    trainable: bool
    span: Span
    stored: bool = True

    @property
    def type(self) -> Type:
        return self.value.type


@frozen(kw_only=True, eq=False)
class State:
    """A tensor carried from one call of the model to the next: read as `value`, replaced by `next` (a value of the body) at the end of a call.

    `initial` is a region without params over the axes of value's type; its batch axis is dynamic."""

    name: str
    value: Value
    initial: Region
    next: Value
    span: Span


@frozen(kw_only=True, eq=False)
class Update:
    """In training, a buffer becomes `next` at the end of a call (running statistics)."""

    buffer: str
    next: Value
    span: Span


@frozen(kw_only=True, eq=False)
class Child:
    name: str
    module: Module


@frozen(kw_only=True, eq=False)
class Stack:
    """Layers. The pattern is `slots`, each (module, how many in a row); `cycle`: the pattern repeats until `count` layers; else it is exact
    and `count` is the sum. Layer numbers run through all slots."""

    name: str
    slots: tuple[tuple[Module, Expr], ...]
    count: Expr
    cycle: bool


@frozen(kw_only=True, eq=False)
class Bank:
    """`axis.size` copies of a module; every parameter has `axis` in front."""

    name: str
    module: Module
    axis: Axis


@frozen(kw_only=True, eq=False)
class Module:
    """A component elaborated at one place.

    `name` is the component's name in the spec. `captured` is how many of the last inputs were threaded here by the compiler (givens, tensors
    closed over). `named` is where the spec names this use of the component. `locals` gives the spec's names of sizes and numbers inside (hyperparameters and axes), for names in generated code;
    `axis_names` are the component's own names of axes, whose labels come from outside."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    params: tuple[Param, ...]
    children: tuple[Child | Stack | Bank, ...]
    body: tuple[Node, ...]
    locals: tuple[tuple[str, Expr], ...]
    captured: int
    doc: str
    span: Span
    named: Span | None = None
    axis_names: tuple[tuple[Label, str], ...] = ()
    states: tuple[State, ...] = ()
    updates: tuple[Update, ...] = ()

    def child(self, name: str) -> Child | Stack | Bank:
        return next(c for c in self.children if c.name == name)

    @property
    def is_function(self) -> bool:
        """Whether it owns nothing, so that it can be a plain function."""
        return not self.params and not self.children and not self.states


@frozen(kw_only=True, eq=False)
class ModelInput:
    """An input of the model; value is also root.inputs[k]. `default`: a region without params that gives its value when left out
    (an int tensor of ones, positions, ...); `required` inputs have none; `training` inputs are read by losses only and may be none."""

    name: str
    value: Value
    bound: Expr | None
    default: Region | None
    training: bool

    @property
    def required(self) -> bool:
        return self.default is None and not self.training


@frozen(kw_only=True, eq=False)
class Fact:
    """What the checker used: `a` divides, equals, or is at least `b` (kind divides: b % a == 0; equal; at_least: a >= b)."""

    kind: Literal["divides", "equal", "at_least"]
    a: Expr
    b: Expr
    span: Span


@frozen(kw_only=True, eq=False)
class Loss:
    """A scalar of root.body, part of the training loss."""

    name: str
    value: Value


@frozen(kw_only=True, eq=False)
class Assumption:
    property: str
    reason: str
    span: Span


@frozen(kw_only=True, eq=False)
class CheckpointRow:
    """A published tensor (`published`: its alternative names) and the own tensors it holds, `{i}` standing for a layer in both.

    `own` stand side by side in each of `groups` equal parts, row-major; the last two axes are swapped if `transposed`. `each` names the
    slot in the published name that numbers the slices of a bank. Without `own`, `published` are patterns of what is not loaded; a `copy`
    says the one own tensor again (tied weights): it is not loaded either, and must equal what is."""

    published: tuple[str, ...]
    own: tuple[str, ...]
    groups: Expr
    transposed: bool
    each: str | None
    span: Span
    copy: bool = False


@frozen
class Decoding:
    """How a program runs with a cache: an axis of size `rows` (or longer by a constant) has the tokens of one call, and an axis of size
    `length` all tokens so far. Without a cache they are equal.

    The cache has a position, the number of tokens before this call: length = position + rows. Entry p along an axis of rows is entry
    position + p of the whole run, so that an `Index` along one starts at the position; along `length` it starts at 0.

    With a cache, only the root's outputs of these numbers exist. What they do not read (losses, other outputs, updates of buffers, inputs for
    those alone) is computed without a cache only, where rows = length: types there may have either (`find_running_values` tells which)."""

    rows: Sym
    length: Sym
    outputs: tuple[int, ...]


@frozen(kw_only=True, eq=False)
class Program:
    """A model. `config` are the symbols that become fields of Config, in order; names are unique.

    With a `decoding`, the program may be run a call at a time, with a cache: what its nodes with an `entry` remember."""

    name: str
    root: Module
    inputs: tuple[ModelInput, ...]
    config: tuple[tuple[str, Sym], ...]
    dynamic: tuple[Sym, ...]
    facts: tuple[Fact, ...]
    losses: tuple[Loss, ...]
    assumptions: tuple[Assumption, ...]
    paper: str | None
    source: str
    span: Span
    checkpoint: tuple[CheckpointRow, ...] = ()
    decoding: Decoding | None = None


# ---------------------------------------------------------------- walking


def regions(node: Op) -> Iterator[Region]:
    for name in _inputs(type(node)):
        value = getattr(node, name)
        if isinstance(value, Region):
            yield value


_INPUTS: dict[type, tuple[str, ...]] = {}


def _inputs(kind: type) -> tuple[str, ...]:
    """The fields of a kind of node that may hold what it reads."""
    if kind not in _INPUTS:
        _INPUTS[kind] = tuple(name for name in field_names(kind) if name not in ("outs", "span"))
    return _INPUTS[kind]


def operands(node: Op) -> Iterator[Value]:
    """The values a node reads, those that its regions read from around them included."""
    for name in _inputs(type(node)):
        value = getattr(node, name)
        if isinstance(value, Value):
            yield value
        elif isinstance(value, tuple):
            yield from (v for v in value if isinstance(v, Value))
        elif isinstance(value, Region):
            yield from free_values(value)


def made_by(body: Iterable[Node], values: Iterable[Value]) -> set[Node]:
    """The nodes of a body that some values are computed by."""
    makers = {out: n for n in body for out in n.outs}
    found: set[Node] = set()
    pending = list(values)
    while pending:
        node = makers.get(pending.pop())
        if node is not None and node not in found:
            found.add(node)
            pending += operands(node)
    return found


def free_values(region: Region) -> Iterator[Value]:
    """Values that a region reads from around it."""
    own = set(region.params)
    for node in region.body:
        for value in operands(node):
            if value not in own:
                yield value
        own.update(node.outs)
    if region.result not in own:
        yield region.result


def replace_values(node: Node, mapping: Mapping[Value, Value]) -> Node:
    """The node with operands replaced (inside its regions too); outs stay."""
    changes: dict[str, object] = {}
    for name in _inputs(type(node)):
        value = getattr(node, name)
        if isinstance(value, Value) and value in mapping:
            changes[name] = mapping[value]
        elif isinstance(value, tuple) and any(isinstance(v, Value) and v in mapping for v in value):
            changes[name] = tuple(mapping.get(v, v) if isinstance(v, Value) else v for v in value)
        elif isinstance(value, Region) and any(v in mapping for v in free_values(value)):
            changes[name] = replace_region(value, mapping)
    return replace(node, **changes) if changes else node  # type: ignore[arg-type]


def replace_region(region: Region, mapping: Mapping[Value, Value]) -> Region:
    return Region(
        params=region.params,
        body=tuple(replace_values(n, mapping) for n in region.body),
        result=mapping.get(region.result, region.result),
    )


def children_of(module: Module) -> Iterator[tuple[str, Module]]:
    """Every module directly below, with its child's name (the slots of a stack in order, then modules called as functions)."""
    for child in module.children:
        if isinstance(child, Stack):
            yield from ((child.name, m) for m, _ in child.slots)
        else:
            yield child.name, child.module
    for node in module.body:
        if isinstance(node, Call | Scan) and isinstance(node.target, Module):
            yield "", node.target


def walk(module: Module) -> Iterator[Module]:
    """A module and all below it, each once, parents first."""
    seen: set[int] = set()
    waiting = [module]
    while waiting:
        found = waiting.pop()
        if id(found) not in seen:
            seen.add(id(found))
            yield found
            waiting += reversed([below for _, below in children_of(found)])


def results(module: Module) -> Iterator[Value]:
    """What a body is for: its outputs, and what its states and buffers become."""
    yield from module.outputs
    yield from (s.next for s in module.states)
    yield from (u.next for u in module.updates)


def replace_results(module: Module, mapping: Mapping[Value, Value]) -> Module:
    """The module with other outputs, next states and next buffers."""
    return replace(
        module,
        outputs=tuple(mapping.get(v, v) for v in module.outputs),
        states=tuple(replace(s, next=mapping.get(s.next, s.next)) for s in module.states),
        updates=tuple(replace(u, next=mapping.get(u.next, u.next)) for u in module.updates),
    )


def has_effects(module: Module) -> bool:
    """Whether applying a module changes a state or a buffer, its own or one below."""
    return any(m.states or m.updates for m in walk(module))


Rewrite = Callable[[Module], Module]


def changed_children(module: Module, change: Rewrite) -> tuple[Child | Stack | Bank, ...]:
    """A module's children with the modules in them changed."""
    return tuple(
        replace(c, slots=tuple((change(m), n) for m, n in c.slots)) if isinstance(c, Stack) else replace(c, module=change(c.module))
        for c in module.children
    )


def counts_of(child: Child | Stack | Bank) -> Iterator[Expr]:
    """How often its modules stand there: of a stack all layers and those of each slot, of a bank its copies."""
    match child:
        case Stack():
            yield child.count
            yield from (n for _, n in child.slots)
        case Bank():
            yield child.axis.size
        case Child():
            pass


def rewrite(module: Module, change: Rewrite) -> Module:
    """Rebuild a tree bottom-up: `change` sees each module with its children already changed. Shared modules stay shared."""
    done: dict[int, Module] = {}

    def visit(m: Module) -> Module:
        if id(m) not in done:
            body = tuple(
                replace(n, target=visit(n.target)) if isinstance(n, Call | Scan) and isinstance(n.target, Module) else n for n in m.body
            )
            done[id(m)] = change(replace(m, children=changed_children(m, visit), body=body))
        return done[id(m)]

    return visit(module)
