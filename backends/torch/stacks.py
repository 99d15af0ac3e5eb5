"""Loops: over the layers of a stack, over the positions of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.ir import Value
from ..python.bind_calls import bind
from ..python.choose_slots import choose_by_slot, none_gives
from ..python.code import (
    Assign,
    Attribute,
    Block,
    Call,
    Choice,
    Code,
    Do,
    Items,
    Range,
    Statement,
    Subscript,
    Text,
    Var,
    call,
    method,
    number,
)
from ..python.fold_values import reads_of
from ..python.layouts import Layout, Tensor, sizes_of
from ..python.write_body import BodyWriter
from .bank_inputs import state_inputs, training_inputs
from .cache.nodes import end_scan, start_scan
from .calls import cache_arguments
from .computed_once import join_tables
from .pointwise import dtype_code, on_device, training_mode
from .recurrent_kernels import kernel_of, write_kernel


def _apart(value: Value) -> Layout:
    return tuple((label,) for label in value.type.labels)


def _carried(w: BodyWriter, node: ir.Fold | ir.Scan) -> list[Var]:
    """A variable for each carried value, with its start."""
    found: list[Var] = []
    for k in range(node.carried):
        var = Var(hint=node.outs[k].hint or node.args[k].hint, kind="x")
        w.statements.append(Assign((var,), w.arranged(w.read(node.args[k]), _apart(node.args[k]))))
        found.append(var)
    return found


def lower_fold(w: BodyWriter, node: ir.Node) -> None:
    """A loop over the layers; where the slots of the pattern differ in what they are given or give, the layer's number chooses."""
    node = cast(ir.Fold, node)
    stack = w.module.child(node.target)
    assert isinstance(stack, ir.Stack)
    join_tables(w, node)
    carried = _carried(w, node)
    lists = [Var(hint=f"{out.hint or 'result'}s") for out in node.outs[node.carried :]]
    for var in lists:
        w.statements.append(Assign((var,), Items((), square=True), pure=False))
    named = {t.hint for s in w.statements if isinstance(s, Assign) for t in s.targets if t is not None}
    layer, i = Var(hint="layer"), Var(hint="k" if "i" in named else "i")
    slots: list[tuple[Code, ...]] = []
    for s, (module, _) in enumerate(stack.slots):
        args = _slot_arguments(w, node, s, module, carried)
        slots.append((*args, *(Text(n) for n in state_inputs(module)), *cache_arguments(w, node, module, i)))
    gives = [tuple(c.outputs[s] for c in node.collected) for s in range(len(stack.slots))]
    body = _layer_calls(w, node, stack, layer, i, slots, gives, carried, lists)
    layers: Code = Attribute(Text("self"), node.target)
    head, binds = (call("enumerate", layers), (i, layer)) if any(i in reads_of(s) for s in body) else (layers, (layer,))
    w.statements.append(Block(head, "for", body, loop=True, binds=binds))
    for out, var in zip(node.outs, carried, strict=False):
        w.env[out] = Tensor(var, _apart(out), sizes_of(out.type))
    for out, var, how in zip(node.outs[node.carried :], lists, node.collected, strict=True):
        found: Code = call("torch.stack", var)
        found = method(found, "sum", *([number(0)] if out.type.axes else [])) if how.sum else found
        if none_gives(stack, how):  # there are fewer layers than the pattern has
            sizes = [number(0) if not k and not how.sum else w.number(a.size) for k, a in enumerate(out.type.axes)]
            nothing = call("torch.zeros", Items(tuple(sizes)), dtype=dtype_code(w, out.type.dtype), **on_device(w))
            found = Choice(var, found, nothing)
        w.define(out, found, _apart(out))


def _slot_arguments(w: BodyWriter, node: ir.Fold, slot: int, module: ir.Module, carried: list[Var]) -> tuple[Code, ...]:
    found: list[Code] = []
    for k, (place, formal) in enumerate(zip(node.inputs[slot], module.inputs, strict=True)):
        if place < node.carried:
            found.append(carried[place])
        else:
            code = w.arranged(w.read(node.args[place]), _apart(node.args[place]))
            code = code if isinstance(code, Var | Attribute | Text) else w.temporary(code, "y", hint=formal.hint)
            found.append(w.numbers.plans.given(module, k, code))
    return tuple(found)


def _layer_calls(
    w: BodyWriter, node: ir.Fold, stack: ir.Stack, layer: Var, i: Var, slots: Sequence[tuple[Code, ...]],
    gives: Sequence[tuple[int | None, ...]], carried: list[Var], lists: list[Var],
) -> tuple[Statement, ...]:  # fmt: skip
    def one(slot: int, args: tuple[Code, ...]) -> tuple[Statement, ...]:
        return _one_call(node, stack.slots[slot][0].outputs, layer, args, gives[slot], carried, lists)

    if all(args == slots[0] for args in slots) and len(set(gives)) == 1:
        return one(0, slots[0])
    chosen = choose_by_slot(stack, list(zip(slots, gives, strict=True)), i, w.number)
    if len(chosen) == 2 and len(slots[chosen[0][1]]) == len(slots[chosen[1][1]]) and chosen[0][0] is not None and len(set(gives)) == 1:
        condition = chosen[0][0]
        args = tuple(a if a == b else Choice(condition, a, b) for a, b in zip(slots[chosen[0][1]], slots[chosen[1][1]], strict=True))
        if sum(isinstance(a, Choice) for a in args) == 1:
            return one(0, args)
    body: list[Statement] = []
    for k, (test, slot) in enumerate(chosen):
        keyword = "if" if k == 0 else "elif" if test is not None else "else"
        body.append(Block(Text("") if test is None else test, keyword, one(slot, slots[slot])))
    return tuple(body)


def _one_call(
    node: ir.Fold, results: Sequence[Value], layer: Var, args: tuple[Code, ...], gives: tuple[int | None, ...], carried: list[Var], lists: list[Var]
) -> tuple[Statement, ...]:  # fmt: skip
    """`x, loss = layer(x)` and `losses.append(loss)`."""
    further = zip(gives, node.outs[node.carried :], strict=True)
    found = {place: Var(hint=out.hint or results[place].hint or "result") for place, out in further if place is not None}
    targets = tuple(carried[k] if k < len(carried) else found.get(k) for k in range(len(results)))
    appends = [Do(method(var, "append", found[place])) for var, place in zip(lists, gives, strict=True) if place is not None]
    return (Assign(targets, Call(layer, args), pure=False), *appends)


def lower_scan(w: BodyWriter, node: ir.Node) -> None:
    """A loop over the positions of an axis, with one set of weights."""
    node = cast(ir.Scan, node)
    module = node.target if isinstance(node.target, ir.Module) else w.module.child(node.target).module  # type: ignore[union-attr]
    size = next(v.type.axis(node.over).size for v in node.args[node.carried :] if v.type.has(node.over))
    carried = _carried(w, node)
    if (kernel := kernel_of(node, w.module)) is not None:
        if node.entry:
            start_scan(w, node, module, carried)
        write_kernel(w, node, kernel, carried)
        if node.entry:
            end_scan(w, node, carried)
        for out, var in zip(node.outs, carried, strict=False):
            w.env[out] = Tensor(var, _apart(out), sizes_of(out.type))
        return
    further = module.outputs[node.carried :]
    names = [n or v.hint or "y" for n, v in zip(module.output_names[node.carried :] or [""] * len(further), further, strict=True)]
    lists = [Var(hint=f"{out.hint or name}s") for out, name in zip(node.outs[node.carried :], names, strict=True)]
    for var in lists:
        w.statements.append(Assign((var,), Items((), square=True), pure=False))
    if node.entry:
        start_scan(w, node, module, carried)
    at = Var(hint=node.over.name if node.over.name.isidentifier() else "i")
    outer, w.statements = w.statements, []
    args: list[Code] = list(carried)
    for k, (value, formal) in enumerate(zip(node.args, module.inputs, strict=True)):
        if k < node.carried:
            continue
        if k < node.given and value.type.has(node.over):
            place = value.type.labels.index(node.over)
            args.append(Subscript(w.arranged(w.read(value), _apart(value)), (*(Range(),) * place, at)))
        else:
            args.append(bind(w, replace_inputs(module, formal), [value]).args[0])
    plan = w.numbers.plans.of(module)
    function: Code = Text(plan.name) if plan.is_function else Attribute(Text("self"), str(node.target))
    if plan.is_function:
        args += [*(w.number(e, n) for n, e in w.numbers.plans.arguments(module)), *(training_mode(w) for _ in training_inputs(module))]
    new = [Var(hint=name) for name in names]
    w.statements.append(Assign((*carried, *new), Call(function, tuple(args)), pure=False))
    w.statements += [Do(method(var, "append", one)) for var, one in zip(lists, new, strict=True)]
    body, w.statements = tuple(w.statements), outer
    steps = call("reversed", call("range", w.number(size))) if node.reverse else call("range", w.number(size))
    w.statements.append(Block(steps, "for", body, loop=True, binds=(at,)))
    if node.entry:
        end_scan(w, node, carried)
    for out, var in zip(node.outs, carried, strict=False):
        w.env[out] = Tensor(var, _apart(out), sizes_of(out.type))
    for out, var in zip(node.outs[node.carried :], lists, strict=True):
        place = out.type.labels.index(node.over)
        several: Code = Subscript(var, (Text("::-1"),)) if node.reverse else var
        w.define(out, call("torch.stack", several, number(place)), _apart(out))


def replace_inputs(module: ir.Module, formal: Value) -> ir.Module:
    """The module as if it had this one input."""
    from dataclasses import replace

    return replace(module, inputs=(formal,))
