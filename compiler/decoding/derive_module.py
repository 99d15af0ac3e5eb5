"""One module, rewritten to run on the tokens of one call.

Every axis of the tokens is one of two kinds: *rows*, which have the tokens of the call, or *whole*, which have all so far. An operation that
works token by token stays what it is. One that looks across gets what it looks at as a whole axis: a `Keep` where rows become keys, or a
further input where the caller can keep it for all who read it. Shifts, windows and recurrences get an entry of the cache instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

from .. import ir
from ..dims import ZERO, Expr, sym
from ..ir import REST, Axis, Label, Module, Node, Region, Type, Value
from .choose_kept import choose_kept
from .common import Cause, Kind, Length, Refused, paired
from .find_whole_axes import find_whole_axes, keys_of
from .read_window import read_window


@dataclass(frozen=True, slots=True)
class Given:
    """How an input comes: what it depends on; which of its axes come whole; whether the caller can give a further one beside it."""

    kind: Kind
    whole: tuple[bool, ...]
    open: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A further input: the input number `input`, whole along its axis number `axis`; nothing looks back further than `window`.

    `hint` names what it is to its readers."""

    input: int
    axis: int
    window: Expr | None
    hint: str


@dataclass(frozen=True, slots=True)
class Derived:
    """`module` has the inputs `wanted` after those it had. `needed` are the inputs that do not change from call to call and that every
    call reads. Axes of inputs and outputs that are whole are marked."""

    module: Module
    wanted: tuple[Wanted, ...]
    needed: frozenset[int]
    kinds: tuple[Kind, ...]
    whole_inputs: tuple[tuple[bool, ...], ...]
    whole_outputs: tuple[tuple[bool, ...], ...]
    causes: tuple[Cause | None, ...]


Key = tuple[int, tuple[Given, ...]]


@dataclass
class Deriver:
    """Derives each module once for each way in which its inputs come."""

    length: Length
    done: dict[Key, tuple[Module, Derived]] = field(default_factory=dict)

    def module(self, module: Module, given: tuple[Given, ...]) -> Derived:
        key = id(module), given
        if key not in self.done:
            self.done[key] = module, self.derived(module, given)
        return self.done[key][1]

    def derived(self, module: Module, given: tuple[Given, ...]) -> Derived:
        if module.states:
            raise Refused(f"the state `{module.states[0].name}`, carried from call to call", module.states[0].span)
        if all(g.kind is not Kind.ROWS and not any(g.whole) for g in given) and not self.indexes_rows(module):
            return self.unchanged(module, given)
        return ModuleDeriver(self, module, given).derive()

    def indexes_rows(self, module: Module) -> bool:
        return any(self.length.runs(a) for m in ir.walk(module) for n in m.body for v in n.outs for a in v.type.axes)

    def unchanged(self, module: Module, given: tuple[Given, ...]) -> Derived:
        kind = max((g.kind for g in given), default=Kind.FIXED)
        outs = module.outputs
        needed = frozenset(k for k, g in enumerate(given) if g.kind is Kind.ONCE)
        no = tuple(tuple(False for _ in v.type.axes) for v in (*module.inputs, *outs))
        cut = len(module.inputs)
        return Derived(module, (), needed, tuple(kind for _ in outs), no[:cut], no[cut:], tuple(None for _ in outs))


@dataclass
class _Request:
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


class ModuleDeriver:
    def __init__(self, owner: Deriver, module: Module, given: tuple[Given, ...], *, outermost: bool = False) -> None:
        self.owner, self.module, self.given, self.length, self.outermost = owner, module, given, owner.length, outermost
        self.kinds: dict[Value, Kind] = {p.value: Kind.FIXED for p in module.params}
        self.whole: dict[Label, Cause] = {}
        self.new: dict[Value, Value] = {}
        self.body: list[Node] = []
        self.children = {c.name: c for c in module.children}
        self.versions: dict[str, Module | ir.Stack] = {}
        self.keys: dict[Label, Label] = {}
        self.requests: dict[tuple[Value, Label], _Request] = {}
        self.onces: dict[Value, Value] = {}
        self.needed: set[int] = set()
        self.entries: set[str] = set()

    # ------------------------------------------------ the whole module

    def derive(self) -> Derived:
        module = self.module
        for value, given in zip(module.inputs, self.given, strict=True):
            self.kinds[value] = given.kind
            for axis, whole in zip(value.type.axes, given.whole, strict=True):
                if whole and axis.label is not REST:
                    self.whole[axis.label] = Cause(f"the whole of `{axis.label.name}`", module.span)
        for node in module.body:
            self.classify(node)
        self.spread()
        for value in module.inputs:
            self.renew(value)
        for node in module.body:
            self.node(node)
        return self.result()

    def result(self) -> Derived:
        module = self.module
        if not (self.new or self.requests or self.onces or self.entries) and tuple(self.children.values()) == module.children:
            return self.described(module, ())
        outputs = tuple(self.new.get(v, v) for v in module.outputs)
        kept = [r for r in self.requests.values() if r.source not in self.further_sources()]
        windows = {r.value: r.window for r in kept}
        body = tuple(replace(n, window=windows[n.out]) if isinstance(n, ir.Keep) and n.out in windows else n for n in self.body)
        further = [r for r in self.requests.values() if r.source in self.further_sources()]
        inputs = (*(self.new.get(v, v) for v in module.inputs), *(r.value for r in further))
        made = replace(
            module,
            inputs=inputs,
            outputs=outputs,
            children=tuple(self.children.values()),
            body=body,
            captured=module.captured + len(further),
        )
        wanted = tuple(Wanted(module.inputs.index(r.source), r.source.type.labels.index(r.label), r.window, r.hint) for r in further)
        return self.described(made, wanted)

    def described(self, made: Module, wanted: tuple[Wanted, ...]) -> Derived:
        module = self.module
        causes = tuple(next((self.whole[a.label] for a in v.type.axes if self.is_whole(a)), None) for v in module.outputs)
        kinds = tuple(self.kinds.get(v, Kind.FIXED) for v in module.outputs)
        return Derived(made, wanted, frozenset(self.needed), kinds, self.marks(module.inputs), self.marks(module.outputs), causes)

    def further_sources(self) -> set[Value]:
        """Inputs of which the caller can give a whole version."""
        return {v for v, g in zip(self.module.inputs, self.given, strict=True) if g.open and g.kind is Kind.ROWS}

    def marks(self, values: Sequence[Value]) -> tuple[tuple[bool, ...], ...]:
        return tuple(tuple(self.is_whole(a) for a in v.type.axes) for v in values)

    def is_whole(self, axis: Axis) -> bool:
        return axis.label in self.whole and self.length.runs(axis)

    # ------------------------------------------------ what depends on what

    def classify(self, node: Node) -> None:
        kind = max((self.kinds.get(v, Kind.FIXED) for v in ir.operands(node)), default=Kind.FIXED)
        if any(self.length.runs(a) for v in node.outs for a in v.type.axes):
            kind = Kind.ROWS
        for value in node.outs:
            self.kinds[value] = kind
        for region in ir.regions(node):
            for param in region.params:
                self.kinds[param] = kind
            for inner in region.body:
                self.classify(inner)

    def spread(self) -> None:
        """Find the whole axes; what modules below take or give whole is whole here."""
        self.whole.update({k: v for k, v in find_whole_axes(self.module, self.kinds, self.length).items() if k not in self.whole})
        for node in self.module.body:
            if isinstance(node, ir.Attend) and self.kinds[node.out] is Kind.ROWS and keys_of(node, self.length):
                self.whole.setdefault(node.key, Cause("`attend`", node.span))
        while True:
            before = len(self.whole)
            for node in self.module.body:
                if self.kinds[node.out] is Kind.ROWS and isinstance(node, ir.Call | ir.Fold | ir.Pairwise | ir.Route | ir.Scan):
                    for target, args, outs, open_ in self.applications(node):
                        found = self.owner.module(target, self.givens(target, args, open_))
                        for out, inner, marks, cause in zip(outs, target.outputs, found.whole_outputs, found.causes, strict=True):
                            for at, there in paired(inner.type, out.type) if out is not None else ():
                                if marks[at] and cause is not None and out is not None:
                                    self.whole.setdefault(out.type.axes[there].label, cause)
            if len(self.whole) == before:
                return

    def applications(self, node: Node) -> list[tuple[Module, tuple[Value, ...], tuple[Value | None, ...], tuple[bool, ...]]]:
        """The modules that a node applies, with arguments and results (none: collected), and whether an argument can have one beside it."""
        match node:
            case ir.Call():
                target = node.target if isinstance(node.target, Module) else self.below(node.target)
                return [(target, node.args, node.outs, tuple(True for _ in node.args))]
            case ir.Fold():
                stack = self.children[node.target]
                assert isinstance(stack, ir.Stack)
                found = []
                for at, ((slot, _), places) in enumerate(zip(self.original_slots(node.target), node.inputs, strict=True)):
                    further = {c.outputs[at]: out for c, out in zip(node.collected, node.outs[node.carried :], strict=True) if c.sum}
                    outs = (*node.outs[: node.carried], *(further.get(k) for k in range(node.carried, len(slot.outputs))))
                    found.append((slot, tuple(node.args[p] for p in places), outs, tuple(p >= node.carried for p in places)))
                return found
            case ir.Route():
                args = (node.x, *node.args)
                return [(self.below(node.target), args, node.outs, tuple(False for _ in args))]
            case ir.Pairwise():
                return [(self.below(node.target), node.args, tuple(None for _ in node.outs), tuple(False for _ in node.args))]
            case ir.Scan():
                target = node.target if isinstance(node.target, Module) else self.below(node.target)
                return [(target, node.args, tuple(None for _ in node.outs), tuple(False for _ in node.args))]
            case _:
                return []

    def original_slots(self, name: str) -> tuple[tuple[Module, Expr], ...]:
        stack = self.module.child(name)
        assert isinstance(stack, ir.Stack)
        return stack.slots

    def below(self, name: str) -> Module:
        child = self.module.child(name)
        assert not isinstance(child, ir.Stack)
        return child.module

    def givens(self, target: Module, args: Sequence[Value], open_: Sequence[bool]) -> tuple[Given, ...]:
        found: list[Given] = []
        for inner, arg, may in zip(target.inputs, args, open_, strict=True):
            places = dict(paired(inner.type, arg.type)) if len(arg.type.axes) >= len(inner.type.axes) - 1 else {}
            kind = self.kinds.get(arg, Kind.FIXED)
            marks: list[bool] = []
            for at, axis in enumerate(inner.type.axes):
                outer = arg.type.axes[places[at]] if at in places and places[at] < len(arg.type.axes) else None
                marks.append(outer is not None and self.is_whole(outer))
                if outer is not None and kind is Kind.ROWS and self.length.runs(outer) and not self.length.runs(axis):
                    raise Refused(f"`{target.name}`, which serves another length as well", target.span)
            found.append(Given(kind, tuple(marks), may))
        return tuple(found)

    # ------------------------------------------------ values

    def renew(self, value: Value) -> Value:
        """The value that stands for one: itself, unless an axis of it is whole."""
        if any(self.is_whole(a) for a in value.type.axes):
            self.new[value] = Value(self.type(value.type), value.hint, value.span)
        return self.new.get(value, value)

    def type(self, kind: Type) -> Type:
        return Type(tuple(map(self.axis, kind.axes)), kind.dtype)

    def axis(self, axis: Axis) -> Axis:
        return Axis(axis.label, self.length.whole(axis.size)) if self.is_whole(axis) else axis

    def read(self, value: Value, hint: str = "fixed") -> Value:
        """An operand of what runs in every call: what is the same in all is computed once."""
        if self.kinds.get(value) is not Kind.ONCE:
            return self.new.get(value, value)
        if value in self.module.inputs and not self.outermost:
            self.needed.add(self.module.inputs.index(value))
            return value
        if value not in self.onces:
            out = Value(value.type, value.hint, value.span)
            self.body.append(ir.Once(outs=(out,), span=value.span or self.module.span, x=value, entry=self.entry(value.hint or hint)))
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
        if self.length.lead(axis.size) != ZERO:
            raise Refused(f"`{label.name}` is {axis.size} long, longer than the tokens", value.span or self.module.span)
        if (value, label) not in self.requests:
            keys = self.key_label(label)
            kind = Type(tuple(Axis(keys, sym(self.length.length)) if a.label is label else a for a in value.type.axes), value.type.dtype)
            out = Value(kind, value.hint or hint, value.span)
            self.requests[value, label] = _Request(value, label, out, hint)
            if value not in self.further_sources():
                source, span = self.new.get(value, value), value.span or self.module.span
                name = self.entry(value.hint or hint)
                self.body.append(ir.Keep(outs=(out,), span=span, x=source, over=label, label=keys, window=None, entry=name))
        request = self.requests[value, label]
        request.windows.append(window)
        return request.value

    def key_label(self, label: Label) -> Label:
        if label not in self.keys:
            self.keys[label] = Label("keys")
        return self.keys[label]

    # ------------------------------------------------ nodes

    def node(self, node: Node) -> None:
        if self.kinds[node.out] is not Kind.ROWS:
            if isinstance(node, ir.Call | ir.Fold | ir.Route | ir.Pairwise | ir.Scan) and isinstance(node.target, str):
                self.version(node.target, self.children_module(node.target), node)
            self.body.append(node)
            return
        match node:
            case ir.Attend():
                self.attend(node)
            case ir.Call():
                self.call(node)
            case ir.Fold():
                self.fold(node)
            case ir.Route() | ir.Pairwise() | ir.Scan():
                self.closed(node)
            case ir.Rename():
                self.rename(node)
            case ir.Take():
                self.take(node, self.body.append)
            case _:
                self.plain(node, self.body.append)

    def plain(self, node: Node, emit: Callable[[Node], None]) -> None:
        """A node that works token by token, or along whole axes; what goes on from the call before gets an entry."""
        self.check(node)
        match node:
            case ir.Pad() if self.is_row(node.x, node.over) and node.before != ZERO:
                emit(self.shifted(node, emit))
            case ir.Concat() if self.is_row(node.out, node.over):
                self.prefixed(node, emit)
            case ir.LinearRecurrence() if self.is_row(node.out, node.over):
                emit(replace(self.copied(node), entry=self.entry(node.out.hint or "state")))  # type: ignore[arg-type]
            case ir.Along() if self.is_row(node.x, node.over):
                emit(replace(self.copied(node), entry=self.entry(node.out.hint or "total")))  # type: ignore[arg-type]
            case _:
                emit(self.copied(node))

    def is_row(self, value: Value, label: Label) -> bool:
        return value.type.has(label) and self.length.runs(value.type.axis(label)) and label not in self.whole

    def check(self, node: Node) -> None:
        """Refuse what cannot be done a call at a time."""
        rows = self.length.rows
        numbers = [a for a in node.args if isinstance(a, Expr)] if isinstance(node, ir.Elementwise) else []
        numbers += [node.value] if isinstance(node, ir.Full | ir.Pad) else []
        numbers += [i for i in node.indices if isinstance(i, Expr)] if isinstance(node, ir.Take) else []
        if any(rows in n.symbols for n in numbers):
            raise Refused(f"the number of tokens, `{rows.name}`, in a formula", node.span)
        for value in node.outs:
            for axis in value.type.axes:
                if self.length.runs(axis) and not self.is_whole(axis) and rows in self.length.lead(axis.size).symbols:
                    raise Refused(f"an axis `{axis.label.name}` of {axis.size}, which depends on the number of tokens", node.span)
        fixed = isinstance(node, ir.Slice) and (rows in node.start.symbols or rows not in node.stop.symbols)
        if isinstance(node, ir.Slice) and fixed and self.is_row(node.x, node.over):
            raise Refused(f"the range {node.start} .. {node.stop} of `{node.over.name}`", node.span)
        summed = isinstance(node, ir.Reduce | ir.Einsum | ir.ScatterAdd | ir.Top | ir.Squeeze)
        looked = [a for v in ir.operands(node) for a in v.type.axes if self.is_whole(a)] if summed else []
        gone = [a for a in looked if not any(v.type.has(a.label) for v in node.outs)]
        if gone and not any(self.length.runs(a) and not self.is_whole(a) for v in node.outs for a in v.type.axes):
            cause = self.whole[gone[0].label]
            raise Refused(cause.what, node.span)

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

    def shifted(self, node: ir.Pad, emit: Callable[[Node], None]) -> Node:
        """Padding in front: in its place stand the tokens before. What was cut off at the end first is cut off after."""
        made = self.cut_before(node.x)
        if made is None:
            return replace(self.copied(node), entry=self.entry(node.x.hint or "before"))  # type: ignore[arg-type]
        cut = node.x.type.axis(node.over).size
        long = self.longer(node.out, node.over, made.x.type.axis(node.over).size - cut)
        pad = replace(node, outs=(long,), x=self.read(made.x), entry=self.entry(made.x.hint or "before"))
        emit(pad)
        return ir.Slice(outs=node.outs, span=node.span, x=long, over=node.over, start=ZERO, stop=cut + node.before)

    def cut_before(self, value: Value) -> ir.Slice | None:
        """The node that cut the end off a value along the decoded axis."""
        node = next((n for n in self.module.body if value in n.outs), None)
        return node if isinstance(node, ir.Slice) and node.start == ZERO and self.is_row(node.x, node.over) else None

    def longer(self, value: Value, label: Label, more: Expr) -> Value:
        axes = tuple(Axis(a.label, a.size + more) if a.label is label else a for a in value.type.axes)
        return Value(Type(axes, value.type.dtype), value.hint, value.span)

    def prefixed(self, node: ir.Concat, emit: Callable[[Node], None]) -> None:
        """Constants in front of the tokens: in later calls, the tokens before."""
        front = [a for a in node.args if not self.length.runs(a.type.axis(node.over))]
        if len(node.args) != 2 or front != [node.args[0]]:
            raise Refused(f"joining along `{node.over.name}`", node.span)
        x = node.args[1]
        made = self.cut_before(x)
        if made is None:
            emit(replace(self.copied(node), entry=self.entry(x.hint or "before")))  # type: ignore[arg-type]
            return
        size = node.out.type.axis(node.over).size
        long = self.longer(node.out, node.over, made.x.type.axis(node.over).size - x.type.axis(node.over).size)
        args = (self.read(node.args[0]), self.read(made.x))
        emit(replace(node, outs=(long,), args=args, entry=self.entry(made.x.hint or "before")))
        emit(ir.Slice(outs=node.outs, span=node.span, x=long, over=node.over, start=ZERO, stop=size))

    def rename(self, node: ir.Rename) -> None:
        """Where a second axis of the tokens begins, all of them are kept."""
        x, old = node.x, list(node.old)
        source = self.read(x)
        for k, (before, after) in enumerate(zip(node.old, node.new, strict=True)):
            axis = x.type.axis(before)
            if after in self.whole and self.length.runs(axis) and not self.is_whole(axis):
                if source is not self.new.get(x, x):
                    raise Refused(f"two names for `{before.name}` at once", node.span)
                source = self.kept(x, before, "kept", None)
                old[k] = self.key_label(before)
        self.body.append(replace(node, outs=tuple(map(self.renew, node.outs)), x=source, old=tuple(old)))

    def take(self, node: ir.Take, emit: Callable[[Node], None]) -> None:
        """Indexing along the tokens reads all so far."""
        self.check(node)
        over, source = list(node.over), self.read(node.x)
        for k, label in enumerate(node.over):
            axis = node.x.type.axis(label)
            if self.length.runs(axis) and self.kinds.get(node.x) is Kind.ROWS and not self.is_whole(axis):
                if node.x not in self.kinds or source is not self.new.get(node.x, node.x):
                    raise Refused(f"indexing along `{label.name}`", node.span)
                source = self.kept(node.x, label, "kept", None)
                over[k] = self.key_label(label)
        changed = self.copied(node)
        emit(replace(changed, x=source, over=tuple(over)))  # type: ignore[arg-type]

    # ------------------------------------------------ attention

    def attend(self, node: ir.Attend) -> None:
        self.check(node)
        k_axis = node.k_axis
        k, v = self.read(node.k, "k"), self.read(node.v, "v")
        axis = node.k.type.axis(k_axis)
        if self.length.runs(axis) and not self.is_whole(axis):
            k, v = self.keys_and_values(node)
            k_axis = self.key_label(node.k_axis)
        regions = {f.name: self.region(r) for f in fields(node) if isinstance(r := getattr(node, f.name), Region)}
        scale = self.read(node.scale) if isinstance(node.scale, Value) else node.scale
        made = replace(node, outs=tuple(map(self.renew, node.outs)), q=self.read(node.q), k=k, v=v, k_axis=k_axis, scale=scale, **regions)  # type: ignore[arg-type]
        self.body.append(made)

    def keys_and_values(self, node: ir.Attend) -> tuple[Value, Value]:
        """Keys and values of all tokens so far, made of what the cut keeps."""
        window = read_window(node)
        cut = choose_kept(node, self.module, self.kinds, self.length)
        there: dict[Value, Value] = {}
        for value in cut.values:
            hint = {node.k: "k", node.v: "v"}.get(value, "latent")
            there[value] = self.kept(value, node.k_axis, hint, window) if value.type.has(node.k_axis) else self.read(value)
        keys = Axis(self.key_label(node.k_axis), sym(self.length.length))
        for part in cut.path:
            for out in part.outs:
                axes = tuple(keys if a.label is node.k_axis else a for a in out.type.axes)
                there[out] = Value(Type(axes, out.type.dtype), out.hint, out.span)
            moved = ir.replace_values(part, {v: there[v] for v in ir.operands(part) if v in there})
            self.body.append(replace(moved, outs=tuple(there[v] for v in part.outs)))
            if isinstance(part, ir.Call) and isinstance(part.target, str):
                self.version(part.target, self.below(part.target), part)
        return there[node.k], there[node.v]

    def region(self, region: Region) -> Region:
        body: list[Node] = []
        params = tuple(map(self.renew, region.params))
        inside: set[Value] = set(region.params)
        for node in region.body:
            if isinstance(node, ir.Take) and node.x not in inside:
                self.take(node, body.append)
            else:
                self.plain(node, body.append)
            inside.update(node.outs)
        return Region(params=params, body=tuple(body), result=self.new.get(region.result, region.result))

    # ------------------------------------------------ modules below

    def call(self, node: ir.Call) -> None:
        ((target, args, _, open_),) = self.applications(node)
        found = self.owner.module(target, self.givens(target, args, open_))
        given = self.arguments(found, args, node)
        outs, after = self.results(node, target, found)
        target_ = found.module if isinstance(node.target, Module) else node.target
        if isinstance(node.target, str):
            self.put(node.target, found.module, node)
        self.body.append(replace(node, outs=outs, target=target_, args=given))
        self.body += after

    def put(self, name: str, module: Module, node: Node) -> None:
        """The child as it is after the derivation: one and the same at all its places."""
        child = self.children[name]
        assert not isinstance(child, ir.Stack)
        self.version(name, module, node)
        if child.module is not module:
            self.children[name] = replace(child, module=module)

    def version(self, name: str, module: Module | ir.Stack, node: Node) -> None:
        """A child has one version, however often it is applied."""
        found = self.versions.setdefault(name, module)
        if found is not module and not (isinstance(found, ir.Stack) and isinstance(module, ir.Stack) and found.slots == module.slots):
            raise Refused(f"`{name}`, applied in two ways", node.span)

    def children_module(self, name: str) -> Module | ir.Stack:
        child = self.module.child(name)
        return child if isinstance(child, ir.Stack) else child.module

    def arguments(self, found: Derived, args: Sequence[Value], node: Node) -> tuple[Value, ...]:
        """The arguments, whole where the module below wants them so, and those further ones that it wants."""
        given: list[Value] = []
        for k, (arg, marks) in enumerate(zip(args, found.whole_inputs, strict=True)):
            value = self.read(arg) if self.kinds.get(arg) is not Kind.ONCE or k in found.needed else arg
            for at, there in paired(found.module.inputs[k].type, arg.type):
                if marks[at] and not self.is_whole(arg.type.axes[there]) and self.length.runs(arg.type.axes[there]):
                    value = self.kept(arg, arg.type.axes[there].label, "kept", None)
            given.append(value)
        for want in found.wanted:
            arg = args[want.input]
            there = dict(paired(found.module.inputs[want.input].type, arg.type))[want.axis]
            given.append(self.kept(arg, arg.type.axes[there].label, want.hint, want.window))
        return tuple(given)

    def results(self, node: ir.Call, target: Module, found: Derived) -> tuple[tuple[Value, ...], list[Node]]:
        """The results; those that come as rows where a whole axis is wanted are kept."""
        outs: list[Value] = []
        after: list[Node] = []
        for out, inner, marks in zip(node.outs, target.outputs, found.whole_outputs, strict=True):
            rows = [
                out.type.axes[there]
                for at, there in paired(inner.type, out.type)
                if self.is_whole(out.type.axes[there]) and not marks[at] and inner.type.axes[at].label is not REST
            ]
            if not rows:
                outs.append(self.renew(out))
                continue
            if len(rows) > 1:
                raise Refused(f"two axes of the tokens in a result of `{target.name}`", node.span)
            raw = Value(
                Type(tuple(Axis(Label(a.label.name), a.size) if a is rows[0] else a for a in out.type.axes), out.type.dtype), out.hint
            )
            label = raw.type.axes[out.type.axes.index(rows[0])].label
            outs.append(raw)
            name = self.entry(out.hint or "kept")
            after.append(ir.Keep(outs=(self.renew(out),), span=node.span, x=raw, over=label, label=rows[0].label, window=None, entry=name))
        return tuple(outs), after

    def fold(self, node: ir.Fold) -> None:
        args: list[Value] = list(node.args)
        given: dict[int, Value] = {}
        inputs: list[tuple[int, ...]] = []
        slots: list[tuple[Module, Expr]] = []
        stack = self.children[node.target]
        assert isinstance(stack, ir.Stack)
        for (target, own, _, open_), places, (_, copies) in zip(
            self.applications(node), node.inputs, self.original_slots(node.target), strict=True
        ):
            found = self.owner.module(target, self.givens(target, own, open_))
            values = self.arguments(found, own, node)
            for place, value in zip(places, values, strict=False):
                if given.setdefault(place, value) is not value and self.kinds.get(node.args[place]) is Kind.ROWS:
                    raise Refused(f"the layers of `{node.target}`, which take an input in two ways", node.span)
                if value is not node.args[place]:
                    given[place] = value
            more: list[int] = []
            for value in values[len(places) :]:
                if value not in args:
                    args.append(value)
                more.append(args.index(value))
            if any(any(m) for m in found.whole_outputs):
                raise Refused(next(c for c in found.causes if c is not None).what, node.span)
            inputs.append((*places, *more))
            slots.append((found.module, copies))
        final = tuple(given.get(k, v) for k, v in enumerate(args))
        made = stack if all(a is b for (a, _), (b, _) in zip(stack.slots, slots, strict=True)) else replace(stack, slots=tuple(slots))
        self.version(node.target, made, node)
        self.children[node.target] = made
        self.body.append(replace(node, outs=tuple(map(self.renew, node.outs)), args=final, inputs=tuple(inputs)))

    def closed(self, node: ir.Route | ir.Pairwise | ir.Scan) -> None:
        """Modules applied to each choice or position: token by token inside."""
        self.check(node)
        ((target, args, _, open_),) = self.applications(node)
        found = (
            self.owner.module(target, self.givens(target, args, open_)) if not isinstance(node, ir.Pairwise) else self.inert(target, node)
        )
        if any(_has_entry(n) for m in ir.walk(found.module) for n in m.body) or any(any(m) for m in found.whole_inputs):
            raise Refused(f"`{target.name}`, applied to parts of the tokens", node.span)
        made = self.copied(node)
        if isinstance(made, ir.Scan) and any(self.is_row(v, made.over) for v in made.args[made.carried : made.given]):
            made = replace(made, entry=self.entry("state"))
        self.body.append(made)

    def inert(self, target: Module, node: Node) -> Derived:
        """A bank applied to a tensor of its own axis: what it does to the tokens is not followed, so it may not look across them."""
        if self.owner.indexes_rows(target):
            raise Refused(f"`{target.name}`, applied to parts of the tokens", node.span)
        return self.owner.unchanged(target, tuple(Given(Kind.ROWS, tuple(False for _ in v.type.axes), False) for v in target.inputs))


def _has_entry(node: Node) -> bool:
    return bool(getattr(node, "entry", ""))


def _as_tuple(item: object) -> tuple[object, ...]:
    return item if isinstance(item, tuple) else (item,)
