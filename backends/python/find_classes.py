"""Which modules share a class of generated code: those whose bodies are equal up to labels, names, places and sizes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import field

from ...compiler import ir
from ...compiler.dims import Expr, Sym
from ...grammar.frozen import field_names, frozen, mutable


@frozen(kw_only=True, eq=False)
class Class:
    """`uses` are the modules that share it, in the order of a walk from the leaves; `holes[h][u]` is number h in use u.

    `bank`: the axis of the bank that its first use stands in. `in_list`: its uses are layers of stacks."""

    key: int
    in_list: bool
    bank: ir.Axis | None
    uses: tuple[ir.Module, ...]
    holes: tuple[tuple[Expr, ...], ...]

    @property
    def first(self) -> ir.Module:
        return self.uses[0]


@mutable
class _Form:
    """Writes a module without its labels, names and sizes; collects the sizes in the order in which they come."""

    class_of: dict[int, int]
    banked: dict[int, ir.Axis]
    layers: Collection[int]
    opaque: Collection[ir.Value]
    numbers: dict[object, int] = field(default_factory=dict)
    dynamic: dict[Sym, int] = field(default_factory=dict)
    holes: list[Expr] = field(default_factory=list)

    def count(self, thing: object) -> int:
        return self.numbers.setdefault(thing, len(self.numbers))

    def of(self, thing: object) -> Hashable:
        match thing:
            case ir.Value():
                return ("value", self.count(thing))
            case ir.Label():
                return ("rest",) if thing is ir.REST else ("label", self.count(thing))
            case Expr():
                return self.number(thing)
            case ir.Axis(label, size):
                return (self.of(label), self.of(size))
            case ir.Type(axes, dtype):
                return (tuple(self.of(a.label) for a in axes), dtype)
            case ir.Collect(outputs, is_sum):
                return ("collect", outputs, is_sum)
            case ir.Region():
                sizes = tuple("dynamic" if a.size.is_dynamic else self.of(a.size) for v in thing.params for a in v.type.axes)
                return ("region", self.types(thing.params), sizes, tuple(map(self.node, thing.body)), self.of(thing.result))
            case ir.Module():
                return ("module", self.class_of[id(thing)])
            case tuple():
                return tuple(map(self.of, thing))
            case str() | bool() | int() | None:
                return thing
        raise TypeError(thing)

    def number(self, expr: Expr) -> Hashable:
        if expr.constant is not None:
            return ("constant", repr(expr.constant))
        if expr.is_dynamic:
            for s in sorted((s for s in expr.symbols if s.value is None), key=lambda s: s.order):
                self.dynamic.setdefault(s, len(self.dynamic))
            return ("dynamic", expr.substitute({s: _stand_in(k) for s, k in self.dynamic.items()}))
        self.holes.append(expr)
        return ("number",)

    def types(self, values: tuple[ir.Value, ...]) -> Hashable:
        return tuple((self.of(v), "opaque" if v in self.opaque else self.of(v.type)) for v in values)

    def node(self, node: ir.Node) -> Hashable:
        apart = ("outs", "span", "window") if isinstance(node, ir.Keep) else ("outs", "span")  # how long a ring is, its cache knows
        own = tuple((name, self.of(getattr(node, name))) for name in field_names(type(node)) if name not in apart)
        made = isinstance(node, ir.Index | ir.Full | ir.Expand) or bool(getattr(node, "entry", ""))
        sizes = tuple(self.of(a.size) for v in node.outs for a in v.type.axes if made or a.label in _repeated(node))
        return (type(node).__name__, own, self.types(node.outs), sizes)

    def param(self, param: ir.Param) -> Hashable:
        init = (param.init.kind, self.of(param.init.numbers), self.of(param.init.table))
        return (param.name, self.types((param.value,)), tuple(self.of(a) for a in param.type.axes), init, param.trainable)

    def state(self, state: ir.State) -> Hashable:
        """Its first value takes its sizes."""
        sizes = tuple(self.of(a) for a in state.value.type.axes)
        return (state.name, self.of(state.value), self.of(state.value.type), sizes, self.of(state.initial), self.of(state.next))

    def child(self, child: ir.Child | ir.Stack | ir.Bank) -> Hashable:
        match child:
            case ir.Child(name=name, module=module):
                return ("child", name, self.of(module))
            case ir.Stack(name=name, slots=slots, count=count, cycle=cycle):
                return ("stack", name, tuple((self.of(m), self.of(n)) for m, n in slots), self.of(count), cycle)
            case ir.Bank(name=name, module=module, axis=axis):
                return ("bank", name, self.of(module), self.of(axis))

    def module(self, module: ir.Module) -> Hashable:
        for value in module.inputs:
            if value in self.opaque:
                continue
            for axis in value.type.axes:
                if axis.size.is_dynamic:
                    self.number(axis.size)
        bank = self.banked.get(id(module))
        return (
            module.is_function and id(module) in self.layers,
            bank is not None and self.of(bank.size),
            self.types(module.inputs),
            tuple(map(self.param, module.params)),
            tuple(map(self.child, module.children)),
            tuple(map(self.node, module.body)),
            self.of(module.outputs),
            tuple(map(self.state, module.states)),
            tuple((u.buffer, self.of(u.next)) for u in module.updates),
            module.output_names if len(module.outputs) > 1 else (),
        )


_STAND_INS: dict[int, Expr] = {}


def _stand_in(k: int) -> Expr:
    from ...compiler.dims import sym

    return _STAND_INS.setdefault(k, sym(Sym(name=f"${k}")))


def find_classes(root: ir.Module, opaque: Collection[ir.Value] = ()) -> list[Class]:
    """Every class, those it is made of before it. Modules of one class have equal bodies, parameters and children up to sizes.

    `opaque`: inputs whose axes nothing looks at (masks that are ready to broadcast)."""
    class_of: dict[int, int] = {}
    alike: dict[Hashable, list[int]] = {}
    uses: dict[int, list[ir.Module]] = {}
    holes: dict[int, list[list[Expr]]] = {}
    banked = bank_axes(root)
    layers = {id(m) for owner in ir.walk(root) for c in owner.children if isinstance(c, ir.Stack) for m, _ in c.slots}
    for module in from_the_leaves(root):
        form = _Form(class_of, banked, layers, opaque)
        key = form.module(module)
        number = next((n for n in alike.get(key, ()) if _follows(holes[n][0], form.holes)), None)
        if number is None:
            number = len(uses)
            alike.setdefault(key, []).append(number)
        class_of[id(module)] = number
        uses.setdefault(number, []).append(module)
        holes.setdefault(number, []).append(form.holes)
    return [
        Class(
            key=k,
            in_list=id(uses[k][0]) in layers,
            bank=banked.get(id(uses[k][0])),
            uses=tuple(uses[k]),
            holes=tuple(dict.fromkeys(zip(*holes[k], strict=True))),
        )
        for k in uses
    ]


def _follows(first: Sequence[Expr], other: Sequence[Expr]) -> bool:
    """Whether numbers that are one in the first use are one in the other: the class is written in those of the first."""
    seen: dict[Expr, Expr] = {}
    return all(seen.setdefault(a, b) == b for a, b in zip(first, other, strict=True))


def from_the_leaves(root: ir.Module) -> list[ir.Module]:
    """A module and all below it, each once, children first."""
    seen: set[int] = set()
    found: list[ir.Module] = []

    def visit(m: ir.Module) -> None:
        if id(m) in seen:
            return
        seen.add(id(m))
        for _, below in ir.children_of(m):
            visit(below)
        found.append(m)

    visit(root)
    return found


def bank_axes(root: ir.Module) -> dict[int, ir.Axis]:
    """The axis of the bank in which a module stands, by the module's id; of banks whose modules look at single rows."""
    found: dict[int, ir.Axis] = {}
    for module in ir.walk(root):
        for child in module.children:
            if isinstance(child, ir.Bank) and sees_rows(child.module):
                found.update({id(m): child.axis for m in ir.walk(child.module)})
    return found


def sees_rows(module: ir.Module) -> bool:
    """Whether a module has one result of one input, and looks at no other axes of it than the last: rows of several may come in any order."""
    if len(module.inputs) != 1 or len(module.outputs) != 1:
        return False
    return all(v.type.labels[:1] == (ir.REST,) for m in ir.walk(module) for v in m.inputs)


def _repeated(node: ir.Node) -> set[ir.Label]:
    """Axes along which an operand is repeated, since it lacks them, or counted, since an index of another axis runs along them too."""
    match node:
        case ir.Take():
            along = {a.label for i in node.indices if isinstance(i, ir.Value) for a in i.type.axes}
            return {a.label for a in node.x.type.axes if a.label in along and a.label not in node.over}
        case ir.ScatterAdd():
            return {a.label for a in node.base.type.axes if a.label is not node.over}
        case ir.Concat(over=over) | ir.StackTensors(label=over):
            return {a.label for a in node.out.type.axes if a.label is not over and any(not v.type.has(a.label) for v in node.args)}
        case ir.LinearRecurrence():
            return {node.over} if not (node.a.type.has(node.over) and node.b.type.has(node.over)) else set()
        case _:
            return set()
