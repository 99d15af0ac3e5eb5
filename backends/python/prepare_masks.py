"""Masks that layers share are made once, by the model: where a mask reads nothing that a layer makes, it becomes a tensor of the root."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Literal

from ...compiler import ir
from ...compiler.decoding.read_window import Band, read_band
from ...compiler.dims import ONE, ZERO, Expr, Sym, sym
from ...compiler.ir import REST, Axis, Label, Type, Value
from ...grammar.frozen import frozen, mutable
from .attention_axes import Causal, Predicate, attend_axes, has_score, is_native, mask_kind
from .blocks import BLOCK
from .copy_nodes import Copier
from .find_sites import Sites, find_sites
from .mask_blocks import in_blocks, is_whole, lies_in_order
from .mask_terms import conjunction, constant_of, is_causal, made_in, reads
from .sinks import has_kernel_with_sink

Absent = Literal["all", "causal", "tensor"]
Extent = tuple[Band, Expr | None, Expr]
"""Of a window by blocks: its band, the window of the ring that keys lie in after a first call, and how many queries there are."""


@frozen(kw_only=True, eq=False)
class MaskPlan:
    """A conjunction. `always`: terms that are always there; `given`: those that read the optional `inputs`, true where these are left out.

    `absent`: what is left without the optional inputs: every key, exactly causal, or a tensor. `nodes` compute the terms."""

    always: tuple[Value, ...]
    given: tuple[Value, ...]
    inputs: frozenset[Value]
    absent: Absent
    nodes: tuple[ir.Node, ...]
    optional_nodes: frozenset[ir.Node]


@frozen(kw_only=True, eq=False)
class Window:
    """Slots of queries and of keys by blocks, for a mask that hides all keys outside a band; `ring`: the window of the ring that keys lie in
    after a first call, `rows`: how many queries there are."""

    query: Value
    key: Value
    band: Band
    ring: Expr | None
    rows: Expr

    @property
    def extent(self) -> Extent:
        return self.band, self.ring, self.rows


@mutable
class Masks:
    """`made`: the masks of the root; `inputs`: inputs of modules that are masks, ready to broadcast; `maybe_none`: those that may be none;
    `only_for_masks`: nodes that nothing else reads; `rings`: indices that count the slots of keys in a ring, and its window; `windows`: by
    indices of queries and of keys by blocks; `blocked`: masks that are made over these; `by_index`: masks that a kernel may be given as
    functions of indices, and over what, [batch, rows]."""

    made: dict[Value, MaskPlan] = field(default_factory=dict)
    rings: dict[Value, Expr] = field(default_factory=dict)
    windows: dict[Value, Window] = field(default_factory=dict)
    blocked: set[Value] = field(default_factory=set)
    inputs: set[Value] = field(default_factory=set)
    maybe_none: set[Value] = field(default_factory=set)
    only_for_masks: set[ir.Node] = field(default_factory=set)
    by_index: dict[Value, Type] = field(default_factory=dict)


@frozen(kw_only=True, eq=False)
class _Recipe:
    """A mask to be made further out. `terms` of the conjunction, over the inputs of the module where it stands now; `form` is its type there:
    batch axes, ones for heads, query, key."""

    query: Value
    key: Value
    body: tuple[ir.Node, ...]
    terms: tuple[Value, ...]
    given: frozenset[int]
    absent: Absent
    causal: bool  # one of the terms is exactly causal, and a kernel reads the mask; or it is over blocks, and no later key is seen
    form: Type
    hint: str
    window: Expr | None  # of the ring that the keys lie in
    band: Band | None  # that the mask hides all keys outside of, where it is made by blocks
    rows: Expr  # how many queries there are
    by_index: Type | None = None  # [batch, rows], where a kernel takes the mask as a function of indices


def can_hoist(program: ir.Program) -> Callable[[ir.Attend, ir.Module], bool]:
    """Whether the mask of an Attend, in its module, can be made by the model."""
    preparation = _Preparation(program, find_sites(program.root))
    return lambda node, module: node.mask is not None and preparation.recipe(node, module) is not None


def read_blocks(program: ir.Program, sites: Sites) -> Callable[[ir.Attend, ir.Module], Extent | None]:
    """Over which blocks the mask of an Attend, in its module, will be made; none if it will not."""
    preparation = _Preparation(program, sites, for_kernels=True)

    def read(node: ir.Attend, module: ir.Module) -> Extent | None:
        recipe = preparation.recipe(node, module) if node.mask is not None and preparation.is_made_outside(node) else None
        return None if recipe is None or recipe.band is None else (recipe.band, recipe.window, recipe.rows)

    return read


Choose = Callable[[ir.Attend, ir.Module], bool]


def prepare_masks(
    program: ir.Program, for_kernels: bool = False, by_index: Choose | None = None, windows: Sequence[Window] = ()
) -> tuple[ir.Program, Masks]:
    """Move masks out to the model.

    Requires: a verified program. Ensures: each Attend has no mask, exactly the causal one, a tensor from outside (which may be none where
    `maybe_none` says so), or a predicate that reads what its layer makes. `for_kernels`: a mask that hides what is outside a
    band is made over blocks of queries and the keys around each (`blocked`), and one beside a bias may be none too.
    `by_index`: whether a mask and a score can be functions of indices; `windows`: slots by blocks that something else than masks reads.
    Leaves alone: what the masks mean."""
    return _Preparation(program, find_sites(program.root), for_kernels, by_index, {w.extent: w for w in windows}).run()


@mutable
class _Preparation:
    program: ir.Program
    sites: Sites
    for_kernels: bool = False
    by_index: Choose | None = None
    windows: Mapping[Extent, Window] = field(default_factory=dict)
    masks: Masks = field(default_factory=Masks)
    wanted: dict[int, list[tuple[Value, _Recipe]]] = field(default_factory=dict)  # by id of a rewritten module: its new inputs
    done: dict[int, ir.Module] = field(default_factory=dict)

    def run(self) -> tuple[ir.Program, Masks]:
        root = self.visit(self.program.root)
        counted = [n for window in self.windows.values() for n in self.count(window)]
        root = replace(root, body=(*counted, *root.body)) if counted else root
        self._collect_exclusive(root)
        return replace(self.program, root=root), self.masks

    def visit(self, original: ir.Module) -> ir.Module:
        """Rebuild from the leaves; shared modules stay shared."""
        if id(original) not in self.done:
            children = ir.changed_children(original, self.visit)
            body = tuple(
                replace(n, target=self.visit(n.target)) if isinstance(n, ir.Call) and isinstance(n.target, ir.Module) else n
                for n in original.body
            )
            self.done[id(original)] = self.module(replace(original, children=children, body=body), original)
        return self.done[id(original)]

    # ------------------------------------------------ modules

    def module(self, module: ir.Module, original: ir.Module) -> ir.Module:
        is_root = original is self.program.root
        body: list[ir.Node] = []
        fresh: list[tuple[Value, _Recipe]] = []  # inputs this module gets
        made: list[tuple[Value, _Recipe]] = []
        for node in module.body:
            if isinstance(node, ir.Attend) and self.is_made_outside(node):
                recipe = self.recipe(node, original)
                if recipe is not None:
                    value = self.place(recipe, is_root, fresh, made, body)
                    node = replace(node, mask=_region(node, value, recipe))
            elif isinstance(node, ir.Call | ir.Fold):
                node = self.pass_down(node, module, is_root, fresh, made, body)
            body.append(node)
        if len(fresh) == 1:
            object.__setattr__(fresh[0][0], "hint", "mask")
        inputs = (*module.inputs, *(v for v, _ in fresh))
        new = replace(module, body=tuple(body), inputs=inputs, captured=module.captured + len(fresh))
        self.wanted[id(new)] = fresh
        return new

    def pass_down(
        self, node: ir.Call | ir.Fold, module: ir.Module, is_root: bool, fresh: list[tuple[Value, _Recipe]], made: list[tuple[Value, _Recipe]],
        body: list[ir.Node],
    ) -> ir.Node:  # fmt: skip
        """Give a callee the masks that it wants."""
        if isinstance(node, ir.Call):
            target = node.target if isinstance(node.target, ir.Module) else module.child(node.target).module  # type: ignore[union-attr]
            args = list(node.args)
            for _, recipe in self.wanted.get(id(target), []):
                args.append(self.place(self.mapped(recipe, target.inputs, node.args), is_root, fresh, made, body))
            return replace(node, args=tuple(args))
        stack = module.child(node.target)
        assert isinstance(stack, ir.Stack)
        args, inputs = list(node.args), []
        for (target, _), positions in zip(stack.slots, node.inputs, strict=True):
            places = list(positions)
            for _, recipe in self.wanted.get(id(target), []):
                actual = [node.args[p] for p in positions]
                value = self.place(self.mapped(recipe, target.inputs, actual), is_root, fresh, made, body)
                if value not in args:
                    args.append(value)
                places.append(args.index(value))
            inputs.append(tuple(places))
        return replace(node, args=tuple(args), inputs=tuple(inputs))

    def place(
        self, recipe: _Recipe, is_root: bool, fresh: list[tuple[Value, _Recipe]], made: list[tuple[Value, _Recipe]], body: list[ir.Node]
    ) -> Value:
        """The tensor that the recipe makes, here: an input to be, or in the root the nodes themselves."""
        if is_root:
            return self.place_at_root(recipe, made, body)
        known = next((v for v, r in fresh if _alike(r, recipe)), None)
        if known is not None:
            return known
        value = Value(recipe.form, recipe.hint, recipe.query.span)
        fresh.append((value, recipe))
        self.masks.inputs.add(value)
        self.note_form(value, recipe)
        if recipe.absent != "tensor":
            self.masks.maybe_none.add(value)
        return value

    def place_at_root(self, recipe: _Recipe, made: list[tuple[Value, _Recipe]], body: list[ir.Node]) -> Value:
        """One tensor for all masks that say the same; always there, if one reader needs it so."""
        for value, other in made:
            if _signature(other) == _signature(recipe):
                if recipe.absent == "tensor" != other.absent:
                    self.masks.made[value] = _always_there(self.masks.made[value])
                return value
        value = Value(recipe.form, recipe.hint, recipe.query.span)
        made.append((value, recipe))
        self.note_form(value, recipe)
        body += self.make(value, recipe)
        return value

    def note_form(self, value: Value, recipe: _Recipe) -> None:
        if recipe.band is not None:
            self.masks.blocked.add(value)
        if recipe.by_index is not None:
            self.masks.by_index[value] = recipe.by_index

    # ------------------------------------------------ recipes

    def recipe(self, node: ir.Attend, original: ir.Module) -> _Recipe | None:
        """What the mask of an Attend is, if all that it reads comes from the model."""
        region = node.mask
        assert region is not None
        axes = attend_axes(node)
        labels = set(region.result.type.labels)
        free = list(dict.fromkeys(ir.free_values(region)))
        if labels & set(axes.heads) or any(v.type.has(REST) for v in free) or not self.sites.reaches_root(original):
            return None
        is_root = original is self.program.root
        if not is_root and any(v not in original.inputs or self.sites.origin(original, v) is None for v in free):
            return None
        if not self.shown_sizes(free) >= {s for a in region.result.type.axes for s in a.size.symbols if s.value is None}:
            return None
        window = ring_of(node, original)
        body, terms = conjunction(region, window is not None)
        defaults = {v: d for v in free if (d := self.default(original, v)) is not None}
        given = frozenset(k for k, t in enumerate(terms) if reads(t, body, defaults) and constant_of(t, body, defaults) is True)
        always = [t for k, t in enumerate(terms) if k not in given]
        absent: Absent = "tensor"
        free_of_score = not has_score(node) or (self.for_kernels and not always)
        native = is_native(node) or has_kernel_with_sink(node)
        if native and free_of_score and (given or self.grows(node)) and not any(reads(t, body, defaults) for t in always):
            causal = len(always) == 1 and is_causal(always[0], body, region) and self.ends_at_the_keys(node)
            absent = "all" if not always else "causal" if causal else "tensor"
        if absent == "tensor" and not always:
            given = frozenset()
        recipe = _Recipe(
            query=region.params[0], key=region.params[1], body=body, terms=terms, given=given, absent=absent,
            causal=native and not has_score(node) and any(is_causal(t, body, region) for t in terms),
            form=_form(node, labels, native), hint=_hint(labels, node, body, terms, region), window=window, band=None, rows=node.q.type.axis(node.query).size,
        )  # fmt: skip
        if absent == "tensor" and self.by_index is not None and self.by_index(node, original):
            recipe = replace(recipe, by_index=Type((node.q.type.axis(attend_axes(node).batch[0]), node.q.type.axis(node.query)), "int"))
        return _blocked(recipe, node) if self.for_kernels and absent == "tensor" and lies_in_order(node, original, self.program) else recipe

    def is_made_outside(self, node: ir.Attend) -> bool:
        """Whether the mask should be a tensor: no kernel has it built in."""
        kind = mask_kind(node.mask)
        beside_a_bias = self.for_kernels and isinstance(kind, Causal) and is_native(node) and has_score(node)
        return isinstance(kind, Predicate) or beside_a_bias or self.grows(node)

    def shown_sizes(self, read: Sequence[Value]) -> set[Sym]:
        """The dynamic sizes that the model knows in every call: of what all calls are given, and of what its masks read. With a cache, those of
        inputs that later calls leave out are seen in the layers alone, by what these keep."""
        decoding = self.program.decoding
        dynamic = {*self.program.dynamic} if decoding is None else {decoding.rows, decoding.length}
        given = [
            i.value for i in self.program.inputs if decoding is not None and any(decoding.rows in a.size.symbols for a in i.value.type.axes)
        ]
        return dynamic | {s for v in (*given, *read) for a in v.type.axes if a.label is not REST for s in a.size.symbols}

    def grows(self, node: ir.Attend) -> bool:
        """Whether the keys are those of all calls so far, so that what is exactly causal in one call is not in the next."""
        decoding = self.program.decoding
        return node.mask is not None and decoding is not None and decoding.length in node.k.type.axis(node.k_axis).size.symbols

    def ends_at_the_keys(self, node: ir.Attend) -> bool:
        """Whether a causal mask hides nothing from a query that is alone in a later call: its own slot is the last one of the keys."""
        decoding = self.program.decoding
        if decoding is None or not self.grows(node):
            return True
        return (node.q.type.axis(node.query).size, node.k.type.axis(node.k_axis).size) == (sym(decoding.rows), sym(decoding.length))

    def default(self, module: ir.Module, value: Value) -> Expr | None:
        """The number that an optional input of the model is full of where it is left out."""
        origin = self.sites.origin(module, value)
        given = next((i for i in self.program.inputs if i.value is origin), None)
        if given is None or given.default is None or not given.default.body:
            return None
        last = given.default.body[-1]
        return last.value if isinstance(last, ir.Full) and last.out is given.default.result else None

    def mapped(self, recipe: _Recipe, formals: Sequence[Value], actuals: Sequence[Value]) -> _Recipe:
        """The recipe in the caller's values and labels."""
        copier = Copier()
        for formal, actual in zip(formals, actuals, strict=False):
            copier.bind(formal.type, actual.type)
            copier.values[formal] = actual
        query, key = copier.result(recipe.query), copier.result(recipe.key)
        body = tuple(copier.nodes(recipe.body))
        return replace(
            recipe, query=query, key=key, body=body, terms=tuple(map(copier.value, recipe.terms)), form=copier.type(recipe.form),
            by_index=None if recipe.by_index is None else copier.type(recipe.by_index),
        )  # fmt: skip

    def make(self, value: Value, recipe: _Recipe) -> list[ir.Node]:
        span = recipe.query.span
        assert span is not None
        slots: list[ir.Node] = [ir.Index(outs=(v,), span=span, slot=True) for v in (recipe.query, recipe.key)]
        if recipe.band is not None:
            own = Window(query=recipe.query, key=recipe.key, band=recipe.band, ring=recipe.window, rows=recipe.rows)
            window = self.windows.get(own.extent, own)
            slots = self.count(window)
            if window is not own:
                pairs = ((window.query, own.query), (window.key, own.key))
                slots += [ir.Rename(outs=(b,), span=span, x=a, old=a.type.labels[1:], new=b.type.labels[1:]) for a, b in pairs]
        elif recipe.window is not None:
            self.masks.rings[recipe.key] = recipe.window
        nodes = (*slots, *recipe.body)
        optional = {i.value for i in self.program.inputs if i.default is not None}
        tainted: set[Value] = set(optional)
        for node in nodes:
            if any(v in tainted for v in ir.operands(node)):
                tainted |= set(node.outs)
        given = tuple(t for k, t in enumerate(recipe.terms) if k in recipe.given)
        read = {v for n in nodes for v in ir.operands(n) if v in optional and any(o in tainted for o in n.outs)}
        read |= {t for t in given if t in optional}
        self.masks.made[value] = MaskPlan(
            always=tuple(t for k, t in enumerate(recipe.terms) if k not in recipe.given), given=given, inputs=frozenset(read) if given else frozenset(),
            absent=recipe.absent, nodes=nodes, optional_nodes=frozenset(n for n in nodes if n.outs[0] in tainted) if given else frozenset(),
        )  # fmt: skip
        last = ir.Elementwise(outs=(value,), span=span, function="and", args=recipe.terms)
        return [*nodes, last]

    def count(self, window: Window) -> list[ir.Node]:
        """The slots of a window, for the writer to make."""
        self.masks.windows |= {window.query: window, window.key: window}
        span = window.query.span
        assert span is not None
        return [ir.Index(outs=(v,), span=span, slot=True) for v in (window.query, window.key)]

    def _collect_exclusive(self, root: ir.Module) -> None:
        inside = {n for plan in self.masks.made.values() for n in plan.nodes} | {n for n in root.body if n.outs[0] in self.masks.made}
        read = {v for n in root.body if n not in inside for v in ir.operands(n)} | set(root.outputs)
        self.masks.only_for_masks = {n for n in inside if not any(o in read and o not in self.masks.made for o in n.outs)}


# ---------------------------------------------------------------- reading a predicate


def _blocked(recipe: _Recipe, node: ir.Attend) -> _Recipe:
    """The recipe over blocks of a band that is open to no side, or to both sides alike; as it is, if there is no such."""
    assert node.mask is not None
    band = read_band(node)
    if band is None or not is_whole(band.before) or band.after not in (ZERO, band.before):
        return recipe
    body, terms = conjunction(node.mask, ring=True)
    found = in_blocks((recipe.query, recipe.key), body, terms)
    if found is None:
        return recipe
    batch = tuple(a for a in node.q.type.axes if a.label in attend_axes(node).batch and any(v.type.has(a.label) for v in found.terms))
    form = Type((*batch, *(_ones(node, is_native(node) or has_kernel_with_sink(node)) if batch else ()), BLOCK, *found.slots), "bool")
    query, key = found.params
    one_side = band.after == ZERO  # said in the module as well: the keys around a block depend on it
    return replace(recipe, query=query, key=key, body=found.body, terms=found.terms, form=form, band=band, causal=one_side)


def ring_of(node: ir.Attend, module: ir.Module) -> Expr | None:
    """The window of the ring that keys lie in, if they do: keys are made of what is kept, one for one."""
    made = made_in(module.body)
    value: Value | None = node.k
    while value is not None:
        match made.get(value):
            case ir.Keep(window=window):
                return window
            case None:
                return None
            case other:
                value = next((v for v in ir.operands(other) if v.type.has(node.k_axis)), None)
    return None


def _hint(labels: set[Label], node: ir.Attend, body: Sequence[ir.Node], terms: Sequence[Value], region: ir.Region) -> str:
    if node.query not in labels:
        return "key_mask"
    if any(is_causal(t, body, region) for t in terms):
        compared = sum(isinstance(n, ir.Elementwise) and n.function in ("lt", "le", "gt", "ge") for n in body)
        return "causal_mask" if compared == 1 else "window_mask"
    return "mask"


def _form(node: ir.Attend, labels: set[Label], native: bool) -> Type:
    """Batch axes, one for heads, query and key, those that the mask lacks being of size one; none before the first that it has."""
    axes = attend_axes(node)
    order = [*axes.batch, *(a.label for a in _ones(node, native)), node.query, node.key]
    sizes = {a.label: a.size for v in (node.q, node.k) for a in v.type.axes}
    sizes[node.key] = node.k.type.axis(node.k_axis).size
    found = [Axis(x, sizes[x]) if x in labels else Axis(Label("1"), ONE) for x in order]
    while found and found[0].label.name == "1":
        found.pop(0)
    return Type(tuple(found), "bool")


def _ones(node: ir.Attend, native: bool) -> tuple[Axis, ...]:
    """An axis of size one for all heads, or for those that keys have and for the others."""
    axes = attend_axes(node)
    count = min(1, len(axes.heads)) if native else bool(axes.key_heads) + (len(axes.heads) > len(axes.key_heads))
    return tuple(Axis(Label("1"), ONE) for _ in range(count))


def _region(node: ir.Attend, value: Value, recipe: _Recipe) -> ir.Region:
    """The mask as a tensor from outside; if it is causal, `causal and tensor`, which says what none would mean."""
    assert node.mask is not None
    params = node.mask.params
    if not recipe.causal:
        return ir.Region(params=params, body=(), result=value)
    i, j = params
    span = node.span
    le = Value(Type((*i.type.axes, *j.type.axes), "bool"), "", span)
    both = Value(Type((*i.type.axes, *j.type.axes), "bool"), "", span)
    body: tuple[ir.Node, ...] = (
        ir.Elementwise(outs=(le,), span=span, function="le", args=(j, i)),
        ir.Elementwise(outs=(both,), span=span, function="and", args=(le, value)),
    )
    return ir.Region(params=params, body=body, result=both)


def _alike(one: _Recipe, other: _Recipe) -> bool:
    """Whether two recipes at one place make the same tensor."""
    return one.absent == other.absent and _signature(one) == _signature(other)


def _always_there(plan: MaskPlan) -> MaskPlan:
    """Without optional terms there would be nothing: then the inputs that they read get their defaults."""
    if plan.always:
        return replace(plan, absent="tensor")
    return replace(plan, absent="tensor", always=plan.given, given=(), inputs=frozenset(), optional_nodes=frozenset())


def _signature(recipe: _Recipe) -> object:
    numbers: dict[object, int] = {}

    def own(x: object) -> object:
        from dataclasses import fields

        match x:
            case Value():
                return ("own", numbers[x]) if x in numbers else x
            case Label():
                return x if x in outer else "label"
            case Axis(label, size):
                return (own(label), size)
            case tuple():
                return tuple(map(own, x))
            case ir.Op():
                parts = tuple((f.name, own(getattr(x, f.name))) for f in fields(x) if f.name not in ("outs", "span"))
                for o in x.outs:
                    numbers[o] = len(numbers)
                return (type(x).__name__, parts)
            case _:
                return x

    outer = {a.label for a in recipe.form.axes if a.label not in (recipe.key.type.axes[0].label,) and a.label.name != "1"}
    numbers[recipe.query], numbers[recipe.key] = 0, 1
    body = (recipe.window, recipe.band, recipe.by_index is None, *(own(n) for n in recipe.body))
    sizes = tuple((a.label.name == "1", a.size) for a in recipe.form.axes)
    return body, own(recipe.terms), sizes
