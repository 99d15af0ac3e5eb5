"""The values of a module that is being derived: what each depends on, which axes of it are whole, and what stands for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields, replace

from ...grammar.frozen import mutable
from .. import ir
from ..dims import ZERO, Expr, sym
from ..ir import Axis, Label, Module, Node, Type, Value
from .common import Cause, Kind, Length, Refused
from .ways import Given

_SAME = (
    ir.Rename, ir.Transpose, ir.Expand, ir.Squeeze, ir.Unflatten, ir.Flatten, ir.Slice, ir.Cast, ir.Dropout, ir.StopGradient,
)  # fmt: skip
"""What leaves a value what it is called."""


@mutable
class Request:
    """A whole version of a value along an axis: its value, and the windows of those who read it."""

    source: Value
    label: Label
    value: Value
    hint: str
    windows: list[Expr | None] = field(default_factory=list)

    @property
    def window(self) -> Expr | None:
        """The window of all readers; none if some look further back than can be told."""
        first = self.windows[0]
        return first if all(w == first for w in self.windows) else None


class ModuleValues:
    def __init__(self, module: Module, given: tuple[Given, ...], length: Length, running: frozenset[Value], outermost: bool) -> None:
        self.module, self.given, self.length, self.running, self.outermost = module, given, length, running, outermost
        self.steps = tuple(n for n in module.body if any(v in running for v in n.outs))
        self.kinds: dict[Value, Kind] = {p.value: Kind.FIXED for p in module.params}
        self.whole: dict[Label, Cause] = {}
        self.new: dict[Value, Value] = {}
        self.body: list[Node] = []
        self.children = {c.name: c for c in module.children}
        self.versions: dict[str, Module | ir.Stack] = {}
        self.keys: dict[Label, Label] = {}
        self.requests: dict[tuple[Value, Label], Request] = {}
        self.onces: dict[Value, Value] = {}
        self.needed: set[int] = set()
        self.entries: set[str] = set()
        self.made = {v: n for n in module.body for v in n.outs}
        self.slices: dict[tuple[Value, Label], Value] = {}

    def is_whole(self, axis: Axis) -> bool:
        return axis.label in self.whole and self.length.runs(axis)

    def is_row(self, value: Value, label: Label) -> bool:
        return value.type.has(label) and self.length.runs(value.type.axis(label)) and label not in self.whole

    def further_sources(self) -> set[Value]:
        """Inputs of which the caller can give a whole version."""
        return {v for v, g in zip(self.module.inputs, self.given, strict=True) if g.open and g.kind is Kind.ROWS}

    def is_short(self, axis: Axis) -> bool:
        """Whether an axis of rows lacks the last tokens of a call: it gets them, since a later call does not come back to them."""
        lead = self.length.lead(axis.size).value() if self.length.runs(axis) and not self.is_whole(axis) else None
        return lead is not None and lead < 0

    def renew(self, value: Value) -> Value:
        """The value that stands for one that runs: itself, unless an axis of it is whole, or short."""
        if value in self.running and any(self.is_whole(a) or self.is_short(a) for a in value.type.axes):
            self.new[value] = Value(self.type(value.type), value.hint, value.span)
        return self.new.get(value, value)

    def type(self, kind: Type) -> Type:
        return Type(tuple(map(self.axis, kind.axes)), kind.dtype)

    def axis(self, axis: Axis) -> Axis:
        if self.is_short(axis):
            return Axis(axis.label, sym(self.length.rows))
        return Axis(axis.label, self.length.whole(axis.size)) if self.is_whole(axis) else axis

    def name_of(self, value: Value, hint: str = "") -> str:
        """What to call a value that is kept: its name in the spec, or that of what it is a view of; else what it is to its reader, or the
        child that makes it."""
        while not value.hint and isinstance(node := self.made.get(value), _SAME):
            value = next(iter(ir.operands(node)))
        node = self.made.get(value)
        child = node.target if isinstance(node, ir.Call) and isinstance(node.target, str) and len(node.outs) == 1 else ""
        return value.hint or hint or child or "kept"

    def read(self, value: Value, hint: str = "") -> Value:
        """An operand of what runs in every call: what is the same in all is computed once."""
        if self.kinds.get(value) is not Kind.ONCE:
            return self.new.get(value, value)
        if value in self.module.inputs and not self.outermost:
            self.needed.add(self.module.inputs.index(value))
            return value
        if value not in self.onces:
            out = Value(value.type, value.hint, value.span)
            name = self.entry(self.name_of(value, hint))
            self.body.append(ir.Once(outs=(out,), span=value.span or self.module.span, x=value, entry=name))
            self.onces[value] = out
        return self.onces[value]

    def entry(self, name: str) -> str:
        """A name among the module's entries of the cache."""
        found, number = name, 2
        while found in self.entries:
            found, number = f"{name}_{number}", number + 1
        self.entries.add(found)
        return found

    def kept(self, value: Value, label: Label, hint: str, window: Expr | None) -> Value:
        """A value with all tokens so far along an axis, under the label `keys[label]`; itself if it has them."""
        axis = value.type.axis(label)
        if self.is_whole(axis):
            return self.new.get(value, value)
        if self.kinds.get(value) is not Kind.ROWS:
            return self.read(value)
        if sum(self.length.runs(a) and not self.is_whole(a) for a in value.type.axes) > 1:
            raise Refused(f"`{self.name_of(value, hint)}`, which has the tokens twice", value.span or self.module.span)
        if self.length.lead(axis.size) != ZERO:
            raise Refused(f"`{label.name}` is {axis.size} long, not as long as the tokens", value.span or self.module.span)
        if (value, label) not in self.requests:
            keys = self.key_label(label)
            kind = Type(tuple(Axis(keys, sym(self.length.length)) if a.label is label else a for a in value.type.axes), value.type.dtype)
            out = Value(kind, value.hint or self.name_of(value, hint), value.span)
            self.requests[value, label] = Request(value, label, out, hint)
            if value not in self.further_sources():
                source, span = self.new.get(value, value), value.span or self.module.span
                name = self.entry(self.name_of(value, hint))
                self.body.append(ir.Keep(outs=(out,), span=span, x=source, over=label, label=keys, window=None, entry=name))
        request = self.requests[value, label]
        request.windows.append(window)
        return request.value

    def key_label(self, label: Label) -> Label:
        if label not in self.keys:
            self.keys[label] = Label("keys")
        return self.keys[label]

    def copied(self, node: Node, reads: Callable[[Value], Value] | None = None) -> Node:
        """The node on what its operands have become, with results of their own types."""
        read = reads or self.read
        whole = any(
            isinstance(label, Label) and label in self.whole for name in ("over", "k_axis") for label in _as_tuple(getattr(node, name, ()))
        )

        def item(value: object) -> object:
            match value:
                case Value():
                    return read(value)
                case Axis():
                    return self.axis(value)
                case Expr():
                    return self.length.whole(value) if whole else value
                case tuple():
                    return tuple(item(v) for v in value)
                case _:
                    return value

        changes = {f.name: item(getattr(node, f.name)) for f in fields(node) if f.name not in ("outs", "span")}
        return replace(node, outs=tuple(map(self.renew, node.outs)), **changes)  # type: ignore[arg-type]

    def version(self, name: str, module: Module | ir.Stack, node: Node) -> None:
        """A child has one version, however often it is applied."""
        found = self.versions.setdefault(name, module)
        if found is not module and not (isinstance(found, ir.Stack) and isinstance(module, ir.Stack) and found.slots == module.slots):
            raise Refused(f"`{name}`, applied in two ways", node.span)

    def below(self, name: str) -> Module:
        child = self.module.child(name)
        assert not isinstance(child, ir.Stack)
        return child.module

    def children_module(self, name: str) -> Module | ir.Stack:
        child = self.module.child(name)
        return child if isinstance(child, ir.Stack) else child.module


def _as_tuple(item: object) -> tuple[object, ...]:
    return item if isinstance(item, tuple) else (item,)
