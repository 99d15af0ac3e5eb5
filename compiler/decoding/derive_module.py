"""One module, rewritten to run on the tokens of one call.

Every axis of the tokens is one of two kinds: *rows*, which have the tokens of the call, or *whole*, which have all so far. An operation that
works token by token stays what it is. One that looks across gets what it looks at as a whole axis: a `Keep` where rows become keys, or a
further input where the caller can keep it for all who read it. Shifts, windows and recurrences get an entry of the cache instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace

from ...grammar.frozen import mutable
from .. import ir
from ..dims import ZERO, Expr, sym
from ..ir import REST, Axis, Label, Module, Node, Type, Value
from .common import Cause, Kind, Length, Refused, paired
from .derive_nodes import NodeDeriver
from .find_whole_axes import find_whole_axes, keys_of
from .ways import Derived, Given, Wanted

Key = tuple[int, tuple[Given, ...]]


@mutable
class Deriver:
    """Derives each module once for each way in which its inputs come."""

    length: Length
    running: frozenset[Value]
    done: dict[Key, tuple[Module, Derived]] = field(default_factory=dict)

    def module(self, module: Module, given: tuple[Given, ...]) -> Derived:
        key = id(module), given
        if key not in self.done:
            self.done[key] = module, self.derived(module, given)
        return self.done[key][1]

    def derived(self, module: Module, given: tuple[Given, ...]) -> Derived:
        if all(g.kind is not Kind.ROWS and not any(g.whole) for g in given) and not self.indexes_rows(module):
            return self.unchanged(module, given)
        return ModuleDeriver(self, module, given).derive()

    def indexes_rows(self, module: Module) -> bool:
        values = (v for m in ir.walk(module) for n in m.body for v in n.outs if v in self.running)
        return any(self.length.runs(a) for v in values for a in v.type.axes)

    def unchanged(self, module: Module, given: tuple[Given, ...]) -> Derived:
        kind = max((g.kind for g in given), default=Kind.FIXED)
        outs = module.outputs
        needed = frozenset(k for k, g in enumerate(given) if g.kind is Kind.ONCE and module.inputs[k] in self.running)
        no = tuple(tuple(False for _ in v.type.axes) for v in (*module.inputs, *outs))
        none = tuple(None for _ in no)
        cut = len(module.inputs)
        return Derived(module, (), needed, tuple(kind for _ in outs), no[:cut], no[cut:], none[:cut], none[cut:])


class ModuleDeriver(NodeDeriver):
    def __init__(self, owner: Deriver, module: Module, given: tuple[Given, ...], *, outermost: bool = False) -> None:
        super().__init__(module, given, owner.length, owner.running, outermost)
        self.owner = owner

    # ------------------------------------------------ the whole module

    def derive(self) -> Derived:
        module = self.module
        for value, given in zip(module.inputs, self.given, strict=True):
            self.kinds[value] = given.kind
            for at, (axis, whole) in enumerate(zip(value.type.axes, given.whole, strict=True)):
                if whole and axis.label is not REST:
                    cause = given.causes[at] if given.causes else None
                    self.whole[axis.label] = cause or Cause(f"the whole of `{axis.label.name}`", module.span)
        for node in self.steps:
            self.classify(node)
        self.spread()
        for value in module.inputs:
            self.renew(value)
        for node in module.body:
            if node in self.steps:
                self.node(node)
            else:
                self.aside(node)
        return self.result()

    def result(self) -> Derived:
        module = self.module
        functions = {id(n.target) for n in module.body if isinstance(n, ir.Call) and isinstance(n.target, Module)}
        other = any(isinstance(n, ir.Call) and isinstance(n.target, Module) and id(n.target) not in functions for n in self.body)
        if not (self.new or self.requests or self.onces or self.entries or other) and tuple(self.children.values()) == module.children:
            return self.described(module, ())
        outputs = tuple(self.as_it_was(v) if self.outermost else self.new.get(v, v) for v in module.outputs)
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
        kinds = tuple(self.kinds.get(v, Kind.FIXED) for v in module.outputs)
        ins, outs = module.inputs, module.outputs
        return Derived(made, wanted, frozenset(self.needed), kinds, self.marks(ins), self.marks(outs), self.causes(ins), self.causes(outs))

    def marks(self, values: Sequence[Value]) -> tuple[tuple[bool, ...], ...]:
        return tuple(tuple(v in self.running and self.is_whole(a) for a in v.type.axes) for v in values)

    def causes(self, values: Sequence[Value]) -> tuple[Cause | None, ...]:
        """What made a whole axis of each of them whole."""
        return tuple(next((self.whole[a.label] for a in v.type.axes if self.is_whole(a)), None) for v in values)

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
        for node in self.steps:
            if isinstance(node, ir.Attend) and self.kinds[node.out] is Kind.ROWS and keys_of(node, self.length):
                self.whole.setdefault(node.key, Cause("`attend`", node.span))
        while True:
            before = len(self.whole)
            for node in self.steps:
                if self.kinds[node.out] is Kind.ROWS and isinstance(node, ir.Call | ir.Fold | ir.Pairwise | ir.Route | ir.Scan):
                    for target, args, outs, open_ in self.applications(node):
                        found = self.owner.module(target, self.givens(target, args, open_))
                        self.spread_to(args, found)
                        for out, inner, marks, cause in zip(outs, target.outputs, found.whole_outputs, found.causes, strict=True):
                            for at, there in paired(inner.type, out.type) if out is not None else ():
                                if marks[at] and cause is not None and out is not None and out in self.running:
                                    self.whole.setdefault(out.type.axes[there].label, cause)
            if len(self.whole) == before:
                return

    def spread_to(self, args: Sequence[Value], found: Derived) -> None:
        """Of an argument that has the tokens twice (a mask of rows by keys), the axis that is wanted whole must be made whole."""
        for arg, inner, marks, cause in zip(args, found.module.inputs, found.whole_inputs, found.input_causes, strict=False):
            if sum(map(self.length.runs, arg.type.axes)) < 2:
                continue
            for at, there in paired(inner.type, arg.type):
                if marks[at] and self.length.runs(arg.type.axes[there]):
                    own = Cause(f"the whole of `{inner.type.labels[at].name}`", found.module.span)
                    self.whole.setdefault(arg.type.axes[there].label, cause or own)

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
                return [(target, self.at_one_position(node), tuple(None for _ in node.outs), tuple(False for _ in node.args))]
            case _:
                return []

    def at_one_position(self, node: ir.Scan) -> tuple[Value, ...]:
        """The arguments as a scan's module sees them."""
        found: list[Value] = []
        for k, value in enumerate(node.args):
            if k < node.given and value.type.has(node.over):
                if (value, node.over) not in self.slices:
                    self.slices[value, node.over] = Value(value.type.without(node.over), value.hint, value.span)
                kind, value = self.kinds.get(value, Kind.FIXED), self.slices[value, node.over]
                self.kinds[value] = kind
            found.append(value)
        return tuple(found)

    def original_slots(self, name: str) -> tuple[tuple[Module, Expr], ...]:
        stack = self.module.child(name)
        assert isinstance(stack, ir.Stack)
        return stack.slots

    def givens(self, target: Module, args: Sequence[Value], open_: Sequence[bool]) -> tuple[Given, ...]:
        found: list[Given] = []
        for inner, arg, may in zip(target.inputs, args, open_, strict=True):
            places = dict(paired(inner.type, arg.type)) if len(arg.type.axes) >= len(inner.type.axes) - 1 else {}
            kind = self.kinds.get(arg, Kind.FIXED)
            marks: list[bool] = []
            causes: list[Cause | None] = []
            for at, axis in enumerate(inner.type.axes):
                outer = arg.type.axes[places[at]] if at in places and places[at] < len(arg.type.axes) else None
                marks.append(outer is not None and self.is_whole(outer))
                causes.append(self.whole[outer.label] if outer is not None and self.is_whole(outer) else None)
                if outer is not None and kind is Kind.ROWS and self.length.runs(outer) and not self.length.runs(axis):
                    raise Refused(f"`{target.name}`, which serves another length as well", target.span)
            found.append(Given(kind, tuple(marks), may, tuple(causes)))
        return tuple(found)

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

    # ------------------------------------------------ what does not run with a cache

    def aside(self, node: Node) -> None:
        """A node that runs without a cache alone, where all tokens so far are those of the call: it takes what came of its operands."""
        made = ir.replace_values(node, {v: self.as_it_was(v) for v in ir.operands(node)})
        twin = next((n for n in self.steps if type(n) is type(node) and getattr(n, "target", None) == getattr(node, "target", "")), None)
        if isinstance(made, ir.Call | ir.Fold) and isinstance(made.target, str) and twin is not None:
            applied = self.applications(twin)
            wanted = [self.owner.module(target, self.givens(target, args, open_)).wanted for target, args, _, open_ in applied]
            made = _given_more(made, wanted)
        self.body.append(made)

    def as_it_was(self, value: Value) -> Value:
        """What came of a value, without the tokens that it got where it is short."""
        new = self.new.get(value, value)
        for axis in value.type.axes if new is not value else ():
            if self.is_short(axis):
                out = Value(
                    Type(tuple(axis if a.label is axis.label else a for a in new.type.axes), new.type.dtype), value.hint, value.span
                )
                span = value.span or self.module.span
                self.body.append(ir.Slice(outs=(out,), span=span, x=new, over=axis.label, start=ZERO, stop=axis.size))
                new = out
        return new

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

    def arguments(self, found: Derived, args: Sequence[Value], node: Node) -> tuple[Value, ...]:
        """The arguments, whole where the module below wants them so, and those further ones that it wants."""
        given: list[Value] = []
        for k, (arg, marks) in enumerate(zip(args, found.whole_inputs, strict=True)):
            value = self.read(arg) if self.kinds.get(arg) is not Kind.ONCE or k in found.needed else arg
            for at, there in paired(found.module.inputs[k].type, arg.type):
                if marks[at] and not self.is_whole(arg.type.axes[there]) and self.length.runs(arg.type.axes[there]):
                    value = self.kept(arg, arg.type.axes[there].label, "", None)
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
            if out not in self.running and any(self.is_short(a) for a in out.type.axes):
                raise Refused(f"a result of `{target.name}` that is shorter than the tokens", node.span)
            if not rows or out not in self.running:
                outs.append(self.renew(out))
                continue
            if len(rows) > 1:
                raise Refused(f"two axes of the tokens in a result of `{target.name}`", node.span)
            raw = Value(
                Type(tuple(Axis(Label(a.label.name), a.size) if a is rows[0] else a for a in out.type.axes), out.type.dtype), out.hint
            )
            label = raw.type.axes[out.type.axes.index(rows[0])].label
            outs.append(raw)
            name = self.entry(self.name_of(out))
            after.append(ir.Keep(outs=(self.renew(out),), span=node.span, x=raw, over=label, label=rows[0].label, window=None, entry=name))
        return tuple(outs), after

    def fold(self, node: ir.Fold) -> None:
        args: list[Value] = list(node.args)
        given: dict[int, Value] = {}
        inputs: list[tuple[int, ...]] = []
        slots: list[tuple[Module, Expr]] = []
        stack = self.children[node.target]
        assert isinstance(stack, ir.Stack)
        further = [(c, v in self.running) for c, v in zip(node.collected, node.outs[node.carried :], strict=True)]
        for at, ((target, own, _, open_), places, (_, copies)) in enumerate(
            zip(self.applications(node), node.inputs, self.original_slots(node.target), strict=True)
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
            read = {*range(node.carried), *(c.outputs[at] for c, runs in further if runs)}
            whole = [c for k, c in enumerate(found.causes) if k in read and c is not None]
            if whole:
                raise Refused(whole[0].what, whole[0].span)
            inputs.append((*places, *more))
            slots.append((found.module, copies))
        final = tuple(given.get(k, v) for k, v in enumerate(args))
        made = stack if all(a is b for (a, _), (b, _) in zip(stack.slots, slots, strict=True)) else replace(stack, slots=tuple(slots))
        self.version(node.target, made, node)
        self.children[node.target] = made
        self.body.append(replace(node, outs=tuple(map(self.renew, node.outs)), args=final, inputs=tuple(inputs)))

    def closed(self, node: ir.Route | ir.Pairwise | ir.Scan) -> None:
        """Modules applied to each choice or position: token by token inside. What is the same in every call is kept out here, not in there."""
        self.check(node)
        ((target, args, _, open_),) = self.applications(node)
        given = tuple(replace(g, kind=max(g.kind, Kind.ROWS)) for g in self.givens(target, args, open_))
        found = self.inert(target, node) if isinstance(node, ir.Pairwise) else self.owner.module(target, given)
        if found.module is not target or any(any(m) for m in found.whole_inputs):
            inside = [c.span for c, g in zip(found.input_causes, given, strict=True) if c is not None and not any(g.whole)]
            inside += [] if any(any(g.whole) for g in given) else [n.span for n in _remembering(found.module)]
            raise Refused(f"`{target.name}`, applied to parts of the tokens", (*inside, node.span)[0])
        if isinstance(node.target, str):
            self.version(node.target, target, node)
        starts = set(node.args[: node.carried]) if isinstance(node, ir.Scan) else set()
        made = self.copied(node, lambda value: self.read(value, "start" if value in starts else ""))
        if isinstance(made, ir.Scan) and made.carried and any(self.is_row(v, made.over) for v in made.args[made.carried : made.given]):
            made = replace(made, entry=self.entry("state"))
            if self.length.lead(self.axis_of_scan(made).size) != ZERO:
                self.scan_in_two(made)
                return
        self.body.append(made)

    def axis_of_scan(self, node: ir.Scan) -> Axis:
        return next(v.type.axis(node.over) for v in node.args[node.carried : node.given] if v.type.has(node.over))

    def scan_in_two(self, node: ir.Scan) -> None:
        """Over the tokens of this call, which leave what is kept, and on over what is beyond them, which a later call comes to again."""
        size, rows = self.axis_of_scan(node).size, sym(self.length.rows)
        parts: list[ir.Scan] = []
        for start, stop in ((ZERO, rows), (rows, size)):
            args = list(node.args) if not parts else [*parts[0].outs[: node.carried], *node.args[node.carried :]]
            for k in range(node.carried, node.given):
                if args[k].type.has(node.over):
                    args[k] = self.sliced(args[k], node, start, stop)
            outs = [*(Value(v.type, v.hint, v.span) for v in node.outs[: node.carried])]
            outs += [Value(_resized(v.type, node.over, stop - start), v.hint, v.span) for v in node.outs[node.carried :]]
            parts.append(replace(node, outs=tuple(outs), args=tuple(args), entry="" if parts else node.entry))
            self.body.append(parts[-1])
        for k, out in enumerate(node.outs):
            if k < node.carried:
                self.body.append(ir.Transpose(outs=(out,), span=node.span, x=parts[1].outs[k]))
            else:
                self.body.append(ir.Concat(outs=(out,), span=node.span, args=(parts[0].outs[k], parts[1].outs[k]), over=node.over))

    def sliced(self, value: Value, node: ir.Scan, start: Expr, stop: Expr) -> Value:
        out = Value(_resized(value.type, node.over, stop - start), value.hint, value.span)
        self.body.append(ir.Slice(outs=(out,), span=node.span, x=value, over=node.over, start=start, stop=stop))
        return out

    def inert(self, target: Module, node: Node) -> Derived:
        """A bank applied to a tensor of its own axis: what it does to the tokens is not followed, so it may not look across them."""
        if self.owner.indexes_rows(target):
            raise Refused(f"`{target.name}`, applied to parts of the tokens", node.span)
        return self.owner.unchanged(target, tuple(Given(Kind.ROWS, tuple(False for _ in v.type.axes), False) for v in target.inputs))


def _resized(kind: Type, over: Label, size: Expr) -> Type:
    return Type(tuple(Axis(a.label, size) if a.label is over else a for a in kind.axes), kind.dtype)


def _remembering(module: Module) -> Iterator[Node]:
    """What looks at other tokens than its own, in a module and those below it."""
    for part in ir.walk(module):
        for node in part.body:
            goes_on = isinstance(node, ir.Pad | ir.Concat | ir.Along | ir.LinearRecurrence | ir.Scan) and node.entry
            if goes_on or isinstance(node, ir.Keep | ir.Once):
                yield node


def _given_more(node: ir.Call | ir.Fold, wanted: Sequence[tuple[Wanted, ...]]) -> Node:
    """A call with the further inputs that its modules now take: what they are whole versions of, which are whole without a cache."""
    if isinstance(node, ir.Call):
        return replace(node, args=(*node.args, *(node.args[w.input] for w in wanted[0])))
    inputs = zip(node.inputs, wanted, strict=True)
    return replace(node, inputs=tuple((*places, *(places[w.input] for w in more)) for places, more in inputs))
