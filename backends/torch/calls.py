"""Applying children, functions, and stacks of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from ...compiler import ir
from ...compiler.dims import ONE, ZERO, Expr
from ...compiler.ir import REST, Label, Value
from ..python.attention_axes import attend_axes
from ..python.code import Assign, Attribute, Binary, Block, Call, Choice, Code, Statement, Text, Var, call
from ..python.layouts import Dim, Layout, Tensor, flat, relabel, sizes_of
from ..python.write_body import BodyWriter
from .contractions import apart_from
from .bank_inputs import BANK_INPUTS
from .natives import Embedding, Linear, Norm, match_native


@dataclass(frozen=True, slots=True)
class Bound:
    """Code of the arguments, and what `...` stands for: the labels, in the declared order, and their dimensions."""

    args: tuple[Code, ...]
    rest: tuple[Label, ...]
    rest_dims: Layout


def bind(w: BodyWriter, callee: ir.Module, args: Sequence[Value]) -> Bound:
    """Arguments in the callee's declared order of axes; the axes behind `...` stay as they lie."""
    codes: list[Code] = []
    rest: tuple[Label, ...] = ()
    rest_dims: Layout = ()
    for value, formal in zip(args, callee.inputs, strict=True):
        t = w.read(value)
        labels, wanted = value.type.labels, formal.type.labels
        if REST not in wanted:
            codes.append(w.arranged(t, grouped(w, formal, labels)))
            continue
        at = wanted.index(REST)
        tail = len(wanted) - at - 1
        middle = labels[at : len(labels) - tail]
        dims = tuple(d for d in apart_from(t.layout, set(middle)) if set(d) <= set(middle))
        if rest_dims:
            dims = relabel(rest_dims, rest, middle)
        rest, rest_dims = middle, dims
        target = (*((x,) for x in labels[:at]), *dims, *((x,) for x in labels[len(labels) - tail :]))
        codes.append(w.arranged(t, target))
    return Bound(tuple(codes), rest, rest_dims)


def out_layout(w: BodyWriter, formal: Value, actual: Value, bound: Bound) -> Layout:
    """The layout of a result: declared, with the dimensions that `...` stood for."""
    labels, wanted = actual.type.labels, formal.type.labels
    if REST not in wanted:
        return grouped(w, formal, labels)
    at = wanted.index(REST)
    tail = len(wanted) - at - 1
    middle = labels[at : len(labels) - tail]
    return (*((x,) for x in labels[:at]), *relabel(bound.rest_dims, bound.rest, middle), *((x,) for x in labels[len(labels) - tail :]))


def grouped(w: BodyWriter, formal: Value, labels: tuple[Label, ...]) -> Layout:
    """One dimension an axis of the formal, which may stand for several axes of the actual."""
    sizes = w.numbers.plans.merged.groups.get(formal)
    if sizes is None or len(labels) == len(formal.type.labels):
        return tuple((label,) for label in labels)
    dims: list[Dim] = []
    at = 0
    for count in sizes:
        dims.append(labels[at : at + count])
        at += count
    return tuple(dims)


def lower_call(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Call, node)
    module = node.target if isinstance(node.target, ir.Module) else _child_module(w, node.target)
    if isinstance(node.target, str) and _call_native(w, node, node.target, module):
        return
    bound = bind(w, module, node.args)
    plan = w.numbers.plans.of(module)
    if plan.is_function:
        numbers = [w.number(e) for _, e in w.numbers.plans.arguments(module)]
        function: Code = Text(plan.name)
    else:
        assert isinstance(node.target, str)
        numbers, function = [], Attribute(Text("self"), node.target)
        if plan.of.bank is not None:
            numbers = [Text(v) for v in BANK_INPUTS]
    code = Call(function, (*bound.args, *numbers))
    kind = node.target if isinstance(node.target, str) else module.name
    layouts = [out_layout(w, f, a, bound) for f, a in zip(module.outputs, node.outs, strict=True)]
    if len(node.outs) == 1:
        w.define(node.out, code, layouts[0], kind=kind)
    else:
        w.define_several(node.outs, code, layouts, [f.hint or kind for f in module.outputs])


def _child_module(w: BodyWriter, name: str) -> ir.Module:
    child = w.module.child(name)
    assert isinstance(child, ir.Child)
    return child.module


def _call_native(w: BodyWriter, node: ir.Call, name: str, module: ir.Module) -> bool:
    """Native modules act on the last dimension and leave the others as they lie."""
    native = match_native(module)
    if native is None or not w.numbers.plans.of(module).is_native:
        return False
    t = w.read(node.args[0])
    labels, outs = node.args[0].type.labels, node.out.type.labels
    grouped_by = tuple(Text(v) for v in BANK_INPUTS) if w.numbers.plans.of(module).of.bank is not None else ()
    match native:
        case Linear():
            inside = labels[len(labels) - len(native.inside) :]
            rest = tuple(d for d in apart_from(t.layout, set(inside)) if not set(d) & set(inside))
            code = w.arranged(t, (*rest, inside))
            outside = outs[len(outs) - len(native.outside) :]
            layout = (*_renamed(rest, labels, outs), outside)
            if len(outside) > 1:
                made = Tensor(call(Attribute(Text("self"), name), code, *grouped_by), layout, sizes_of(node.out.type))
                layout = (*layout[:-1], *_head_dims(w, outside))
                w.define(node.out, w.arranged(made, layout), layout, kind=name)
                return True
        case Embedding():
            code, layout = t.code, (*_renamed(t.layout, labels, outs), outs[len(outs) - len(native.outside) :])
        case Norm():
            rest = tuple(d for d in apart_from(t.layout, {labels[-1]}) if labels[-1] not in d)
            code = w.arranged(t, (*rest, labels[-1:]))
            layout = _renamed((*rest, labels[-1:]), labels, outs)
    w.define(node.out, call(Attribute(Text("self"), name), code, *grouped_by), layout, kind=name)
    return True


def _head_dims(w: BodyWriter, outside: tuple[Label, ...]) -> Layout:
    """The axes that a projection gives, those apart that a reader takes apart: head axes that attention reads as one stay one."""
    dims: list[Dim] = []
    left = outside
    runs = sorted({attend_axes(n).heads for n in w.module.body if isinstance(n, ir.Attend)}, key=len, reverse=True)
    while left:
        run = next((r for r in runs if r and left[: len(r)] == r), left[:1])
        dims.append(run)
        left = left[len(run) :]
    return tuple(dims)


def _renamed(layout: Layout, old: tuple[Label, ...], new: tuple[Label, ...]) -> Layout:
    count = min(len(old), len(new))
    table = dict(zip(old[:count], new[:count], strict=True))
    present = set(flat(layout))
    return relabel(layout, [k for k in table if k in present], [v for k, v in table.items() if k in present])


# ---------------------------------------------------------------- stacks


def lower_fold(w: BodyWriter, node: ir.Node) -> None:
    """A loop over the layers; where the slots of the pattern differ in what they are given, the layer's number chooses."""
    node = cast(ir.Fold, node)
    stack = w.module.child(node.target)
    assert isinstance(stack, ir.Stack)
    carried: list[Var] = []
    for k in range(node.carried):
        var = Var(hint=node.outs[k].hint or node.args[k].hint or "x")
        t = w.read(node.args[k])
        layout = tuple((label,) for label in node.args[k].type.labels)
        w.statements.append(Assign((var,), w.arranged(t, layout)))
        carried.append(var)
    layer = Var(hint="layer")
    number = Var(hint="i")
    per_slot = [_slot_arguments(w, node, s, module, carried) for s, (module, _) in enumerate(stack.slots)]
    body, counts = _layer_calls(w, stack, layer, number, per_slot, carried)
    layers: Code = Attribute(Text("self"), node.target)
    if counts:
        w.statements.append(Block(call("enumerate", layers), "for", body, loop=True, binds=(number, layer)))
    else:
        w.statements.append(Block(layers, "for", body, loop=True, binds=(layer,)))
    for out, var in zip(node.outs, carried, strict=True):
        w.env[out] = Tensor(var, tuple((label,) for label in out.type.labels), sizes_of(out.type))


def _slot_arguments(w: BodyWriter, node: ir.Fold, slot: int, module: ir.Module, carried: list[Var]) -> tuple[Code, ...]:
    found: list[Code] = []
    for place, formal in zip(node.inputs[slot], module.inputs, strict=True):
        if place < node.carried:
            found.append(carried[place])
        else:
            value = node.args[place]
            code = w.arranged(w.read(value), tuple((label,) for label in value.type.labels))
            found.append(code if isinstance(code, Var | Attribute | Text) else w.temporary(code, formal.hint or "y"))
    return tuple(found)


def _layer_calls(
    w: BodyWriter, stack: ir.Stack, layer: Var, number: Var, per_slot: list[tuple[Code, ...]], carried: list[Var]
) -> tuple[tuple[Statement, ...], bool]:
    targets = tuple(carried)
    if all(args == per_slot[0] for args in per_slot):
        return (Assign(targets, Call(layer, per_slot[0])),), False
    conditions = slot_conditions(stack, number, w.number)
    if all(len(args) == len(per_slot[0]) for args in per_slot) and len(per_slot) == 2:
        args = tuple(a if a == b else Choice(conditions[0], a, b) for a, b in zip(*per_slot, strict=True))
        if sum(isinstance(a, Choice) for a in args) == 1:
            return (Assign(targets, Call(layer, args)),), True
    groups: dict[tuple[Code, ...], Code] = {}
    for args, condition in zip(per_slot, conditions, strict=True):
        groups[args] = Binary("or", groups[args], condition) if args in groups else condition
    body: list[Statement] = []
    for k, (args, condition) in enumerate(groups.items()):
        last = k == len(groups) - 1
        keyword = "if" if k == 0 else "else" if last else "elif"
        body.append(Block(Text("") if last and k else condition, keyword, (Assign(targets, Call(layer, args)),)))
    return tuple(body), True


def slot_conditions(stack: ir.Stack, i: Code, number: object) -> list[Code]:
    """For each slot, whether layer i stands in it (the last: a condition too, though `else` says it)."""
    from collections.abc import Callable

    write = cast(Callable[[Expr], Code], number)
    total = ZERO
    for _, count in stack.slots:
        total = total + count
    at: Code = Binary("%", i, write(total)) if stack.cycle else i
    found: list[Code] = []
    start = ZERO
    for k, (_, count) in enumerate(stack.slots):
        stop = start + count
        last = k == len(stack.slots) - 1
        if count == ONE:
            found.append(Binary("==", at, write(start)))
        elif start == ZERO:
            found.append(Binary("<", at, write(stop)))
        elif last:
            found.append(Binary(">=", at, write(start)))
        else:
            found.append(Binary("<", Binary("<=", write(start), at), write(stop)))
        start = stop
    return found


def dims_of(labels: Sequence[Label]) -> tuple[Dim, ...]:
    return tuple((label,) for label in labels)
