"""A bias and a mask that are the same for all layers are one tensor, made before the layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import cast

from ...compiler import ir
from ...compiler.dims import ONE
from ...compiler.ir import REST, Axis, Label, Module, Node, Program, Type, Value
from ...compiler.operations_base import product
from ...grammar.frozen import frozen
from ..python.attention_axes import AttendAxes, Given, additive_bias, attend_axes, has_score, is_native, mask_kind
from ..python.blocks import BLOCK, is_by_blocks
from ..python.code import Binary, Choice, Code, Subscript, Text, Unary, Var, method, number
from ..python.copy_nodes import Copier
from ..python.layouts import Layout, declared
from ..python.prepare_masks import Masks
from ..python.write_body import BodyWriter
from .pointwise import to_dtype


@frozen(kw_only=True, eq=False)
class MaskedBias(ir.Op):
    """`bias`, or minus that, where `mask` (made outside, ready to broadcast) is true, else minus infinity; `heads` are one dimension."""

    bias: Value
    negative: bool
    mask: Value
    heads: tuple[Label, ...]


@frozen(kw_only=True, eq=False)
class _Wanted:
    """What a module is to be given: the result of nodes over its other inputs."""

    nodes: tuple[Node, ...]
    result: Value

    def key(self) -> object:
        """Equal for what is surely the same: the sum of one bias and one mask."""
        last = self.nodes[-1]
        assert isinstance(last, MaskedBias)
        return (last.bias, last.mask, last.negative) if len(self.nodes) == 1 else self


def join_biases(program: Program, masks: Masks) -> Program:
    """Requires: masks that the model can make are made. Ensures: where a kernel's score adds a tensor and its mask is a tensor, both the same
    for all layers of a stack, the layers are given the sum of both; by blocks it is a mask (`masks`) of numbers, and there is no score. Leaves
    alone: everything else, masks that may be functions of indices, and inputs that nothing reads any more."""
    if not any(isinstance(n, ir.Attend) and n.score is not None for m in ir.walk(program.root) for n in m.body):
        return program
    return replace(program, root=_Joining(program.root, masks).visit(program.root))


class _Joining:
    def __init__(self, root: Module, masks: Masks) -> None:
        self.root, self.masks = root, masks
        self.sites: dict[int, list[tuple[Module, Node, int]]] = {}  # where a module is applied: by whom, how, as which slot
        for owner in ir.walk(root):
            for node in owner.body:
                for slot, module in enumerate(_applied(owner, node)):
                    self.sites.setdefault(id(module), []).append((owner, node, slot))
        self.known: dict[tuple[int, int], bool] = {}
        self.done: dict[int, Module] = {}
        self.wanted: dict[int, list[_Wanted]] = {}  # by id of a new module, one for each of its new inputs

    def is_invariant(self, module: Module, value: Value) -> bool:
        """Whether an input is the same for all layers of the stacks that a module stands in, and it stands in one."""
        if value not in module.inputs or module is self.root:
            return False
        place = module.inputs.index(value)
        key = (id(module), place)
        if key not in self.known:
            self.known[key] = False
            found = self.sites.get(id(module), [])
            self.known[key] = bool(found) and all(self._given_alike(site, place) for site in found)
        return self.known[key]

    def _given_alike(self, site: tuple[Module, Node, int], place: int) -> bool:
        owner, node, slot = site
        match node:
            case ir.Fold():
                return node.inputs[slot][place] >= node.carried
            case ir.Call():
                return self.is_invariant(owner, node.args[place])
            case _:
                return False

    # ------------------------------------------------ rewriting

    def visit(self, original: Module) -> Module:
        if id(original) not in self.done:
            children = ir.changed_children(original, self.visit)
            body = tuple(
                replace(n, target=self.visit(n.target)) if isinstance(n, ir.Call | ir.Scan) and isinstance(n.target, Module) else n
                for n in original.body
            )
            self.done[id(original)] = self.module(replace(original, children=children, body=body), original)
        return self.done[id(original)]

    def module(self, module: Module, original: Module) -> Module:
        body: list[Node] = []
        wanted: dict[object, tuple[_Wanted, Value]] = {}

        def given(want: _Wanted) -> Value:
            """The input for this; the same for what is the same."""
            _, value = wanted.setdefault(want.key(), (want, Value(want.result.type, "bias", want.result.span)))
            self.masks.blocked |= {want.result, value} if is_by_blocks(value) else set()
            return value

        for node in module.body:
            match node:
                case ir.Attend() if (found := self.joined(node, original)) is not None:
                    node = _with_bias(node, given(found))
                case ir.Call():
                    target = node.target if isinstance(node.target, Module) else module.child(node.target).module  # type: ignore[union-attr]
                    below = [_mapped(want, target.inputs, node.args) for want in self.wanted.get(id(target), ())]
                    node = replace(node, args=(*node.args, *map(given, below)))
                case ir.Fold():
                    node = self.fold(node, module, body)
            body.append(node)
        if not wanted:
            return replace(module, body=tuple(body))
        inputs = [value for _, value in wanted.values()]
        new = replace(module, body=tuple(body), inputs=(*module.inputs, *inputs), captured=module.captured + len(inputs))
        self.wanted[id(new)] = [want for want, _ in wanted.values()]
        return new

    def fold(self, node: ir.Fold, module: Module, body: list[Node]) -> ir.Fold:
        """What the layers want is made before them, once for all that want the same."""
        stack = module.child(node.target)
        assert isinstance(stack, ir.Stack)
        args, inputs = list(node.args), []
        made: dict[object, int] = {}
        for (target, _), positions in zip(stack.slots, node.inputs, strict=True):
            places = list(positions)
            for want in self.wanted.get(id(target), ()):
                found = _mapped(want, target.inputs, [node.args[p] for p in positions])
                if found.key() not in made:
                    made[found.key()] = len(args)
                    body += found.nodes
                    args.append(found.result)
                places.append(made[found.key()])
            inputs.append(tuple(places))
        return replace(node, args=tuple(args), inputs=tuple(inputs))

    def joined(self, node: ir.Attend, module: Module) -> _Wanted | None:
        """The nodes that make one tensor of bias and mask, if these are the same for all layers."""
        kind, score = mask_kind(node.mask), node.score
        if not isinstance(kind, Given) or kind.value in self.masks.by_index or score is None or not has_score(node) or not is_native(node):
            return None
        found = additive_bias(score)
        axes = attend_axes(node)
        if (
            found is None
            or (not axes.key_heads and not is_by_blocks(found[0]))
            or not {*axes.heads} & {*found[0].type.labels}
            or not self.is_invariant(module, kind.value)
        ):
            return None
        inside = {v for n in score.body for v in n.outs}
        nodes = [n for n in score.body if n.out is not score.result]
        if any(not self.is_invariant(module, v) for n in nodes for v in ir.operands(n) if v not in inside):
            return None
        if found[0] not in inside and not self.is_invariant(module, found[0]):
            return None
        made = _masked(node, found, kind.value)
        return _Wanted(nodes=(*nodes, cast(Node, made)), result=made.out)


def _applied(owner: Module, node: Node) -> list[Module]:
    match node:
        case ir.Call() | ir.Scan() | ir.Route() | ir.Pairwise():
            if not isinstance(node.target, str):
                return [node.target]
            child = owner.child(node.target)
            return [m for m, _ in child.slots] if isinstance(child, ir.Stack) else [child.module]
        case ir.Fold():
            stack = owner.child(node.target)
            assert isinstance(stack, ir.Stack)
            return [m for m, _ in stack.slots]
        case _:
            return []


def _masked(node: ir.Attend, found: tuple[Value, bool], mask: Value) -> MaskedBias:
    bias, negative = found
    axes = attend_axes(node)
    there = {*bias.type.labels, *mask.type.labels}
    sizes = {a.label: a.size for v in (node.q, node.k) for a in v.type.axes}
    sizes[node.key] = node.k.type.axis(node.k_axis).size
    if is_by_blocks(bias):
        heads = Axis(Label("heads"), product(a for a in node.q.type.axes if a.label in axes.heads))
        batch = tuple(Axis(x, sizes[x] if x in there else ONE) for x in axes.batch)
        kind = Type((*batch, heads, *mask.type.axes[mask.type.labels.index(BLOCK.label) :]), node.q.type.dtype)
        return MaskedBias(outs=(Value(kind, "bias", node.span),), span=node.span, bias=bias, negative=negative, mask=mask, heads=axes.heads)
    order = (*axes.batch, *axes.heads, node.query, node.key)
    always = (*whole_batch(axes, there), node.query, node.key)
    kind = Type(tuple(Axis(x, sizes[x] if x in there else ONE) for x in order if x in there or x in always), node.q.type.dtype)
    return MaskedBias(outs=(Value(kind, "bias", node.span),), span=node.span, bias=bias, negative=negative, mask=mask, heads=axes.heads)


def whole_batch(axes: AttendAxes, there: Collection[Label]) -> tuple[Label, ...]:
    """The batch axis, where a bias has heads: the fused kernels take biases of two axes or of four."""
    return axes.batch if len(axes.batch) == 1 and axes.batch[0] is not REST and any(x in there for x in axes.heads) else ()


def _with_bias(node: ir.Attend, bias: Value) -> ir.Attend:
    """The same attention, whose score adds the bias alone; by blocks, whose mask is the bias."""
    assert node.score is not None
    if is_by_blocks(bias) and node.mask is not None:
        kind = mask_kind(node.mask)
        assert isinstance(kind, Given)
        return replace(node, mask=ir.replace_region(node.mask, {kind.value: bias}), score=None)
    s, last = node.score.params[0], node.score.result
    add = ir.Elementwise(outs=(Value(last.type, "", node.span),), span=node.span, function="add", args=(s, bias))
    return replace(node, mask=None, score=ir.Region(params=node.score.params, body=(add,), result=add.out))


def _mapped(wanted: _Wanted, formals: Sequence[Value], actuals: Sequence[Value]) -> _Wanted:
    """The same over the caller's values and labels."""
    copier = Copier()
    for formal, actual in zip(formals, actuals, strict=False):
        copier.bind(formal.type, actual.type)
        copier.values[formal] = actual
    return _Wanted(nodes=tuple(copier.nodes(wanted.nodes)), result=copier.value(wanted.result))


def lower_masked_bias(w: BodyWriter, node: ir.Node) -> None:
    from .attention import across, given_mask

    joined = cast(MaskedBias, node)
    labels = joined.out.type.labels
    if is_by_blocks(joined.out):
        order = (labels[:1], joined.heads, *((label,) for label in labels[2:]))
        bias = across(w, w.read(joined.bias), order)
        bias = to_dtype(w, Unary("-", bias) if joined.negative else bias, joined.bias.type.dtype, joined.out.type.dtype)
        if not joined.bias.type.has(labels[0]):
            bias = Subscript(bias, (Text("None"),))
        code: Code = method(bias, "masked_fill", Unary("~", w.read(joined.mask).code), number(float("-inf")))
        w.define(joined.out, code, declared(joined.out.type), kind="bias")
        return
    heads = tuple(x for x in labels if x in joined.heads)
    at = labels.index(heads[0])
    layout: Layout = (*((x,) for x in labels[:at]), heads, *((x,) for x in labels[at + len(heads) :]))
    bias = across(w, w.read(joined.bias), layout)
    bias = to_dtype(w, Unary("-", bias) if joined.negative else bias, joined.bias.type.dtype, joined.out.type.dtype)
    mask = given_mask(w, joined.mask, layout)
    if lead := at - sum(x in joined.bias.type.labels for x in labels[:at]):
        bias = Subscript(bias, (Text("None"),) * lead)  # heads are told apart by their place, and the fused kernels want all four
    bias = w.temporary(bias, "bias", hint="bias") if joined.mask in w.maybe_none and not isinstance(bias, Var) else bias
    code = method(bias, "masked_fill", Unary("~", mask), number(float("-inf")))
    if joined.mask in w.maybe_none:
        code = Choice(Binary("is", mask, Text("None")), bias, code)
    w.define(joined.out, code, layout, kind="bias")
