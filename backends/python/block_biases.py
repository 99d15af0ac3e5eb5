"""What scores add is counted by blocks where their masks are: for the queries of a block and the keys around it, not for all pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Literal

from ...compiler import ir
from ...compiler.decoding.read_window import read_band
from ...compiler.dims import ZERO, Expr, sym
from ...compiler.ir import REST, Axis, Label, Module, Node, Program, Region, Type, Value
from ...grammar.frozen import frozen, mutable
from .attention_axes import attend_axes, has_score
from .blocks import BLOCK, SIZE, SPAN, beside_scores, over_blocks
from .find_sites import Sites, find_sites
from .prepare_masks import Extent, Window, read_blocks, ring_of

Which = Literal["query", "key"]

_ALIKE = (ir.Elementwise, ir.Cast, ir.Transpose, ir.StopGradient, ir.StackTensors, ir.OneHot)
"""What does the same with every entry along the axes of slots."""


@frozen
class _Place:
    """Which axes of a value are the queries and the keys of a window."""

    query: Label | None
    key: Label | None
    extent: Extent

    def moves(self, value: Value) -> bool:
        return any(label is self.query or label is self.key for label in value.type.labels)

    def as_in(self, formal: Type, actual: Type) -> _Place | None:
        """The same for the caller's value; none where axes do not stand for one another."""
        if formal.has(REST) or actual.has(REST) or len(formal.axes) != len(actual.axes):
            return None
        named: dict[Label | None, Label] = dict(zip(formal.labels, actual.labels, strict=True))
        return _Place(named.get(self.query), named.get(self.key), self.extent)

    def before(self, node: ir.Rename) -> _Place:
        """The same before axes got other names."""
        named: dict[Label | None, Label] = dict(zip(node.new, node.old, strict=True))
        return _Place(named.get(self.query, self.query), named.get(self.key, self.key), self.extent)


@frozen
class _Slots:
    """The slots of a window's queries or keys, by blocks."""

    which: Which
    extent: Extent


@frozen
class _Counted:
    """A value by blocks."""

    value: Value
    place: _Place


_Wanted = _Slots | _Counted


def can_count(program: Program) -> Callable[[ir.Attend, Module], bool]:
    """Whether the score of an Attend, in its module, reads slots and can be counted by the blocks of its mask."""
    blocks = _blocks(program)
    return lambda node, module: blocks.place(node, module) is not None


def block_biases(program: Program) -> tuple[Program, tuple[Window, ...]]:
    """Requires: rings are chosen, and no masks are made. Ensures: where a mask can be made by blocks if its score is, what stands beside the scores
    has the axes [.., block, query, key], made of the slots of the `windows`, which the model is to count; layers are given what is made
    further out. No slot is read that is not there: any pair of a query and a key is one of all pairs. Leaves alone: masks, scores
    that read something else of all queries or keys, and what nothing reads any more."""
    blocks = _blocks(program)
    if not any(isinstance(n, ir.Attend) and n.score is not None for m in ir.walk(program.root) for n in m.body):
        return program, ()
    root = blocks.visit(program.root)
    return replace(program, root=root), tuple(blocks.windows.values())


def _blocks(program: Program) -> _Blocks:
    sites = find_sites(program.root)
    return _Blocks(program, sites, read_blocks(program, sites))


@mutable
class _Blocks:
    program: Program
    sites: Sites
    read: Callable[[ir.Attend, Module], Extent | None]
    windows: dict[Extent, Window] = field(default_factory=dict)
    done: dict[int, Module] = field(default_factory=dict)
    wanted: dict[int, list[_Wanted]] = field(default_factory=dict)  # by id of a new module: its further inputs
    known: dict[tuple[int, Value, _Place], bool] = field(default_factory=dict)

    def place(self, node: ir.Attend, module: Module) -> _Place | None:
        """Where the queries and keys of a score are, if it can be counted by the blocks of its mask."""
        band = None if node.score is None or not has_score(node) else read_band(node)
        if band is None:
            return None
        place = _Place(node.query, node.key, (band, ring_of(node, module), node.q.type.axis(node.query).size))
        score = _Body(self, module).score(node, place)
        if score is None:
            return None
        return place if self.read(replace(node, score=score), module) == place.extent else None

    def is_given(self, module: Module, value: Value, place: _Place) -> bool:
        """Whether every caller can count what it gives for an input."""
        key = (id(module), value, place)
        if key not in self.known:
            self.known[key] = False
            at = module.inputs.index(value)
            self.known[key] = bool(found := self.sites.by_module.get(id(module), [])) and all(
                at >= site.carried
                and (there := place.as_in(value.type, site.args[at].type)) is not None
                and _Body(self, site.caller).whole.counted(site.args[at], there) is not None
                for site in found
            )
        return self.known[key]

    def length(self, rows: Expr) -> Expr:
        """How many keys there are for so many queries."""
        decoding = self.program.decoding
        return sym(decoding.length) if decoding is not None and rows == sym(decoding.rows) else rows

    def slots(self, wanted: _Slots) -> Value:
        """Those of the model."""
        if wanted.extent not in self.windows:
            span = self.program.root.span
            query, key = (
                Value(Type((BLOCK, Axis(Label(name), size)), "int"), f"{name}_blocks", span) for name, size in (("q", SIZE), ("k", SPAN))
            )
            band, ring, rows = wanted.extent
            self.windows[wanted.extent] = Window(query=query, key=key, band=band, ring=ring, rows=rows)
        window = self.windows[wanted.extent]
        return window.query if wanted.which == "query" else window.key

    # ------------------------------------------------ rewriting

    def visit(self, original: Module) -> Module:
        """Rebuild from the leaves; shared modules stay shared."""
        if id(original) not in self.done:
            children = ir.changed_children(original, self.visit)
            body = tuple(
                replace(n, target=self.visit(n.target)) if isinstance(n, ir.Call) and isinstance(n.target, Module) else n
                for n in original.body
            )
            self.done[id(original)] = self.module(replace(original, children=children, body=body), original)
        return self.done[id(original)]

    def module(self, module: Module, original: Module) -> Module:
        own = _Body(self, original)
        body: list[Node] = []
        for node in module.body:
            if isinstance(node, ir.Attend) and (place := self.place(node, original)) is not None:
                score = own.score(node, place)
                assert score is not None
                node = replace(node, score=score)
            elif isinstance(node, ir.Call):
                target = node.target if isinstance(node.target, Module) else module.child(node.target).module  # type: ignore[union-attr]
                more = [own.argument(w, target.inputs, node.args) for w in self.wanted.get(id(target), ())]
                node = replace(node, args=(*node.args, *more)) if more else node
            elif isinstance(node, ir.Fold):
                node = self.fold(node, module, own)
            body += own.whole.nodes
            own.whole.nodes.clear()
            body.append(node)
        given = tuple(own.given.values())
        new = replace(module, body=tuple(body), inputs=(*module.inputs, *given), captured=module.captured + len(given))
        self.wanted[id(new)] = list(own.given)
        return new

    def fold(self, node: ir.Fold, module: Module, own: _Body) -> ir.Fold:
        stack = module.child(node.target)
        assert isinstance(stack, ir.Stack)
        args, inputs = list(node.args), []
        for (target, _), positions in zip(stack.slots, node.inputs, strict=True):
            places = list(positions)
            for wanted in self.wanted.get(id(target), ()):
                value = own.argument(wanted, target.inputs, [node.args[p] for p in positions])
                if value not in args:
                    args.append(value)
                places.append(args.index(value))
            inputs.append(tuple(places))
        return replace(node, args=tuple(args), inputs=tuple(inputs))


class _Body:
    """What one module counts by blocks: `given` are its further inputs."""

    def __init__(self, owner: _Blocks, module: Module) -> None:
        self.owner, self.module = owner, module
        self.given: dict[_Wanted, Value] = {}
        self.whole = _Scope(self, {v: n for n in module.body for v in n.outs})

    def slots(self, wanted: _Slots) -> Value:
        if self.module is self.owner.program.root:
            return self.owner.slots(wanted)
        if wanted not in self.given:
            size = SIZE if wanted.which == "query" else SPAN
            hint = f"{wanted.which[0]}_blocks"
            self.given[wanted] = Value(Type((BLOCK, Axis(Label(hint[0]), size)), "int"), hint, self.module.span)
        return self.given[wanted]

    def given_value(self, value: Value, place: _Place) -> Value | None:
        """An input by blocks, if the callers can count it."""
        wanted = _Counted(value, place)
        if wanted not in self.given:
            if self.module is self.owner.program.root or value not in self.module.inputs:
                return None
            if not self.owner.is_given(self.module, value, place):
                return None
            self.given[wanted] = Value(over_blocks(value.type, place.query, place.key), value.hint, value.span)
        return self.given[wanted]

    def argument(self, wanted: _Wanted, formals: Sequence[Value], actuals: Sequence[Value]) -> Value:
        """What a callee is to be given."""
        if isinstance(wanted, _Slots):
            return self.slots(wanted)
        actual = actuals[formals.index(wanted.value)]
        place = wanted.place.as_in(wanted.value.type, actual.type)
        assert place is not None
        found = self.whole.counted(actual, place)
        assert found is not None
        return found

    def score(self, node: ir.Attend, place: _Place) -> Region | None:
        """The score, with what it reads beside the scores by blocks; none if it reads no slots, or not only what can be counted so."""
        score = node.score
        assert score is not None
        params: dict[Value, Which] = dict(zip(score.params[2:], ("query", "key"), strict=False))
        scope = _Scope(self, {v: n for n in score.body for v in n.outs}, params, self.whole)
        beside = beside_scores(score)
        counted = {v: scope.counted(v, place) for v in beside}
        axes = attend_axes(node)
        fits = {*axes.batch, *axes.heads, BLOCK.label, node.query, node.key}
        if any(v is None or not set(v.type.labels) <= fits for v in counted.values()) or all(v is old for old, v in counted.items()):
            return None
        new = {old: v for old, v in counted.items() if v is not None}
        scores = {score.params[0]}
        changed: list[Node] = []
        for inner in score.body:
            if any(v in scores for v in ir.operands(inner)):
                scores.update(inner.outs)
                changed.append(ir.replace_values(inner, new))
        fixed = [n for n in score.body if not scores & set(n.outs) and not any(place.moves(v) for v in n.outs)]
        if score.result not in scores:
            return None
        return Region(params=score.params, body=(*fixed, *scope.nodes, *changed), result=score.result)


@mutable
class _Scope:
    """The nodes of a module, or of a score in it, whose `params` are slots."""

    body: _Body
    made: Mapping[Value, Node]
    params: Mapping[Value, Which] = field(default_factory=dict)
    outer: _Scope | None = None
    nodes: list[Node] = field(default_factory=list)
    known: dict[tuple[Value, _Place], Value | None] = field(default_factory=dict)

    def counted(self, value: Value, place: _Place) -> Value | None:
        """The value by blocks; itself if it has no axis of slots, none if it cannot be counted so."""
        if not place.moves(value):
            return value
        if self.outer is not None and value not in self.made and value not in self.params:
            return self.outer.counted(value, place)
        if (value, place) not in self.known:
            self.known[value, place] = self.write(value, place)
        return self.known[value, place]

    def write(self, value: Value, place: _Place) -> Value | None:
        if value in self.params:
            return self.slots(self.params[value], place, value.type.labels[0])
        node = self.made.get(value)
        if isinstance(node, ir.Index):
            return self.index(node, place)
        if node is None or not self.is_alike(node, place):
            return self.body.given_value(value, place) or self.taken(value, place)
        before = place.before(node) if isinstance(node, ir.Rename) else place
        read = [v for v in ir.operands(node) if not (isinstance(node, ir.Take) and v is node.x)]
        new = {v: self.counted(v, before) for v in dict.fromkeys(read)}
        if any(v is None for v in new.values()):
            return self.taken(value, place)
        out = Value(over_blocks(value.type, place.query, place.key), value.hint, value.span)
        self.nodes.append(replace(ir.replace_values(node, {old: v for old, v in new.items() if v is not None}), outs=(out,)))
        return out

    def is_alike(self, node: Node, place: _Place) -> bool:
        """Whether each entry along the axes of slots is made of entries at the same slots."""
        slots = {place.query, place.key}
        match node:
            case ir.Take(x=x, over=over):
                return not slots & (set(x.type.labels) - set(over))
            case ir.Rename(old=old):
                return REST not in old
            case ir.Reduce(over=over) | ir.Einsum(over=over) | ir.Flatten(over=over):
                return not slots & {*over, REST}
            case ir.Along(over=axis) | ir.Unflatten(over=axis) | ir.Squeeze(over=axis) | ir.Slice(over=axis) | ir.Roll(over=axis):
                return axis not in slots
            case ir.Concat(over=axis, entry=entry):
                return axis not in slots and not entry
            case ir.Expand(axes=axes):
                return not slots & {a.label for a in axes}
            case _:
                return isinstance(node, _ALIKE)

    def index(self, node: ir.Index, place: _Place) -> Value | None:
        """Slots themselves, if a counted axis is all of them."""
        axis = node.out.type.axes[0]
        which: Which = "query" if axis.label is place.query else "key"
        return self.slots(which, place, axis.label) if axis.size == self.size(which, place) else None

    def size(self, which: Which, place: _Place) -> Expr:
        rows = place.extent[2]
        return rows if which == "query" else self.body.owner.length(rows)

    def slots(self, which: Which, place: _Place, label: Label) -> Value:
        """Slots along an axis; the first one where there is no key."""
        given = self.body.slots(_Slots(which, place.extent))
        span = given.span or self.body.module.span
        kind = Type((BLOCK, Axis(label, given.type.axes[1].size)), "int")
        own = Value(kind, given.hint, span)
        self.nodes.append(ir.Rename(outs=(own,), span=span, x=given, old=given.type.labels[1:], new=(label,)))
        if which == "query":
            return own
        held = Value(kind, "", span)
        self.nodes.append(ir.Elementwise(outs=(held,), span=span, function="maximum", args=(own, ZERO)))
        return held

    def taken(self, value: Value, place: _Place) -> Value | None:
        """What is known of each key, or of each query, read at its slots."""
        there = [label for label in value.type.labels if label is place.query or label is place.key]
        if self.outer is not None or len(there) != 1 or value.type.has(REST):
            return None
        which: Which = "query" if there[0] is place.query else "key"
        if value.type.axis(there[0]).size != self.size(which, place):
            return None
        node, root = self.made.get(value), self.body.owner.program.root
        in_order = isinstance(node, ir.Keep) and node.window is None
        in_order = which == "key" and (in_order or (self.body.module is root and value in root.inputs))
        if place.extent[1] is not None and not in_order:
            return None
        out = Value(over_blocks(value.type, place.query, place.key), value.hint, value.span)
        index = self.slots(which, place, there[0])
        span = value.span or self.body.module.span
        self.nodes.append(ir.Take(outs=(out,), span=span, x=value, over=(there[0],), indices=(index,)))
        return out
