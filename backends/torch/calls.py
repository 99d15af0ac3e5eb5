"""Applying children, functions, and stacks of layers."""

from __future__ import annotations

from typing import cast

from ...compiler import ir
from ...compiler.ir import Label
from ..python.attention_axes import attend_axes
from ..python.bind_calls import apart_from, bind, out_layout, renamed
from ..python.choose_slots import choose_by_slot, slot_conditions
from ..python.code import Assign, Attribute, Block, Call, Choice, Code, Statement, Text, Var, call
from ..python.layouts import Dim, Layout, Tensor, sizes_of
from ..python.write_body import BodyWriter
from .bank_inputs import BANK_INPUTS
from .natives import Embedding, Linear, Norm, match_native


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
            layout = (*renamed(rest, labels, outs), outside)
            if len(outside) > 1:
                made = Tensor(call(Attribute(Text("self"), name), code, *grouped_by), layout, sizes_of(node.out.type))
                layout = (*layout[:-1], *_head_dims(w, outside))
                w.define(node.out, w.arranged(made, layout), layout, kind=name)
                return True
        case Embedding():
            code, layout = t.code, (*renamed(t.layout, labels, outs), outs[len(outs) - len(native.outside) :])
        case Norm():
            rest = tuple(d for d in apart_from(t.layout, {labels[-1]}) if labels[-1] not in d)
            code = w.arranged(t, (*rest, labels[-1:]))
            layout = renamed((*rest, labels[-1:]), labels, outs)
    w.define(node.out, call(Attribute(Text("self"), name), code, *grouped_by), layout, kind=name)
    return True


def _head_dims(w: BodyWriter, outside: tuple[Label, ...]) -> Layout:
    """The axes that a projection gives, those apart that a reader takes apart: head axes that attention reads as one stay one."""
    dims: list[Dim] = []
    left = outside
    runs = sorted(dict.fromkeys(attend_axes(n).heads for n in w.module.body if isinstance(n, ir.Attend)), key=len, reverse=True)
    while left:
        run = next((r for r in runs if r and left[: len(r)] == r), left[:1])
        dims.append(run)
        left = left[len(run) :]
    return tuple(dims)


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
    chosen = choose_by_slot(stack, per_slot, number, w.number)
    same_arity = len({len(args) for args in per_slot}) == 1
    if len(chosen) == 2 and same_arity and chosen[0][0] is not None:
        condition = chosen[0][0]
        args = tuple(a if a == b else Choice(condition, a, b) for a, b in zip(per_slot[chosen[0][1]], per_slot[chosen[1][1]], strict=True))
        if sum(isinstance(a, Choice) for a in args) == 1:
            return (Assign(targets, Call(layer, args)),), True
    body: list[Statement] = []
    for k, (test, slot) in enumerate(chosen):
        keyword = "if" if k == 0 else "elif" if test is not None else "else"
        body.append(Block(Text("") if test is None else test, keyword, (Assign(targets, Call(layer, per_slot[slot])),)))
    return tuple(body), True


_renamed = renamed
__all__ = ["_renamed", "bind", "lower_call", "lower_fold", "out_layout", "slot_conditions"]
