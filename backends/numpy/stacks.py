"""Loops: over the layers of a stack, over the positions of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.ir import Value
from ..python.bind_calls import bind
from ..python.choose_slots import choose_by_slot, none_gives
from ..python.code import Assign, Attribute, Block, Choice, Code, Do, Items, Range, Statement, Subscript, Text, Var, call, method, number
from ..python.layouts import Layout, Tensor, sizes_of
from ..python.write_body import BodyWriter
from .cache import carried_end, carried_start
from .calls import PARAMS, applied
from .pointwise import dtype_code


def _apart(value: Value) -> Layout:
    return tuple((label,) for label in value.type.labels)


def _carried(w: BodyWriter, node: ir.Fold | ir.Scan) -> list[Var]:
    """A variable for each carried value, with its start."""
    found: list[Var] = []
    for out, arg in zip(node.outs[: node.carried], node.args, strict=False):
        var = Var(hint=out.hint or arg.hint, kind="x")
        start = w.arranged(w.read(arg), _apart(arg))
        w.statements.append(Assign((var,), carried_start(w, node, len(found), start) if isinstance(node, ir.Scan) else start))
        found.append(var)
    return found


def _lists(w: BodyWriter, outs: Sequence[Value], names: Sequence[str]) -> list[Var]:
    """An empty list for each further result: `losses = []`."""
    found = [Var(hint=f"{out.hint or name}s") for out, name in zip(outs, names, strict=True)]
    w.statements += [Assign((var,), Items((), square=True), pure=False) for var in found]
    return found


# ---------------------------------------------------------------- layers


def lower_fold(w: BodyWriter, node: ir.Node) -> None:
    """A loop over the layers' numbers; where the slots of the pattern differ, the number chooses."""
    node = cast(ir.Fold, node)
    stack = w.module.child(node.target)
    assert isinstance(stack, ir.Stack)
    carried = _carried(w, node)
    lists = _lists(w, node.outs[node.carried :], [_name(stack, c) for c in node.collected])
    params = call("part", PARAMS, Text(f'f"{node.target}.{{i}}"'))
    choices: list[tuple[Code, tuple[int | None, ...]]] = []
    for slot, (module, _) in enumerate(stack.slots):
        args = [_argument(w, node, at, formal, carried) for at, formal in zip(node.inputs[slot], module.inputs, strict=True)]
        choices.append((applied(w, module, params, args, node), tuple(c.outputs[slot] for c in node.collected)))
    chosen = choose_by_slot(stack, choices, Text("i"), w.number)
    body: list[Statement] = []
    for k, (test, slot) in enumerate(chosen):
        statements = _one_layer(node, stack.slots[slot][0], *choices[slot], carried, lists)
        if len(chosen) == 1:
            body += statements
            continue
        keyword = "if" if k == 0 else "else" if test is None else "elif"
        body.append(Block(Text("") if test is None else test, keyword, statements))
    w.statements.append(Block(call("range", w.number(stack.count)), "for i in", tuple(body), loop=True))
    for out, var in zip(node.outs, carried, strict=False):
        w.env[out] = Tensor(var, _apart(out), sizes_of(out.type))
    for out, var, collect in zip(node.outs[node.carried :], lists, node.collected, strict=True):
        code: Code = (
            call("np.sum", var, axis=number(0)) if collect.sum and out.type.axes else call("np.sum" if collect.sum else "np.stack", var)
        )
        if none_gives(stack, collect):  # there are fewer layers than the pattern has
            sizes = [number(0) if not k and not collect.sum else w.number(a.size) for k, a in enumerate(out.type.axes)]
            code = Choice(var, code, call("np.zeros", Items(tuple(sizes)), dtype_code(w, out.type.dtype)))
        w.define(out, code, _apart(out))


def _name(stack: ir.Stack, collect: ir.Collect) -> str:
    """What the layers call a result that is collected."""
    for (module, _), place in zip(stack.slots, collect.outputs, strict=True):
        if place is not None:
            return module.outputs[place].hint or "result"
    return "result"


def _one_layer(
    node: ir.Fold, module: ir.Module, code: Code, gives: tuple[int | None, ...], carried: Sequence[Var], lists: Sequence[Var]
) -> tuple[Statement, ...]:
    further = zip(gives, node.outs[node.carried :], strict=True)
    found = {place: Var(hint=out.hint or module.outputs[place].hint or "result") for place, out in further if place is not None}
    targets = tuple(carried[k] if k < len(carried) else found.get(k) for k in range(len(module.outputs)))
    appends = [Do(method(var, "append", found[place])) for var, place in zip(lists, gives, strict=True) if place is not None]
    return Assign(targets, code, pure=False), *appends


def _argument(w: BodyWriter, node: ir.Fold, at: int, formal: Value, carried: Sequence[Var]) -> Code:
    if at < node.carried:
        return carried[at]
    code = w.arranged(w.read(node.args[at]), _apart(node.args[at]))
    return code if isinstance(code, Var) else w.temporary(code, "y", hint=formal.hint)


# ---------------------------------------------------------------- positions


def lower_scan(w: BodyWriter, node: ir.Node) -> None:
    """A loop over the positions of an axis, with one set of weights."""
    node = cast(ir.Scan, node)
    module = node.target if isinstance(node.target, ir.Module) else w.module.child(node.target).module  # type: ignore[union-attr]
    length = next(v.type.axis(node.over).size for v in node.args[: node.given] if v.type.has(node.over))
    carried = _carried(w, node)
    params = None if isinstance(node.target, ir.Module) else w.temporary(call("part", PARAMS, Text(f'"{node.target}"')), node.target)
    known = length.is_dynamic or w.numbers.plans.can_say(w.numbers.plan, length)
    steps = w.number(length) if known else None
    position = Var(hint=node.over.name if node.over.name.isidentifier() else "i")
    args: list[Code] = list(bind(w, module, _unsliced(w, node)).args)
    for k, value in enumerate(node.args):
        if k < node.carried:
            args[k] = carried[k]
        elif k < node.given and value.type.has(node.over):
            code = w.arranged(w.read(value), _apart(value))
            code = code if isinstance(code, Var) else w.temporary(code, module.inputs[k].hint or "x")
            place = value.type.labels.index(node.over)
            args[k] = Subscript(code, (*(Range(),) * place, position))
            steps = steps or Subscript(Attribute(code, "shape"), (number(place),))
    further = module.outputs[node.carried :]
    names = [n or v.hint or "y" for n, v in zip(module.output_names[node.carried :] or [""] * len(further), further, strict=True)]
    lists = _lists(w, node.outs[node.carried :], names)
    new = [Var(hint=name) for name in names]
    body: tuple[Statement, ...] = (
        Assign((*carried, *new), applied(w, module, params, args, node), pure=False),
        *(Do(method(var, "append", one)) for var, one in zip(lists, new, strict=True)),
    )
    assert steps is not None
    turns = call("range", steps)
    w.statements.append(Block(call("reversed", turns) if node.reverse else turns, "for", body, loop=True, binds=(position,)))
    for out, var in zip(node.outs, carried, strict=False):
        w.env[out] = Tensor(var, _apart(out), sizes_of(out.type))
    w.statements += [end for k, var in enumerate(carried) for end in carried_end(w, node, k, var)]
    for out, var in zip(node.outs[node.carried :], lists, strict=True):
        in_order: Code = Subscript(var, (Text("::-1"),)) if node.reverse else var
        w.define(out, call("np.stack", in_order, number(out.type.labels.index(node.over))), _apart(out))


def _unsliced(w: BodyWriter, node: ir.Scan) -> list[Value]:
    """The arguments as the component sees them: what is sliced without the axis."""
    found: list[Value] = []
    for k, value in enumerate(node.args):
        if k < node.given and value.type.has(node.over):
            value = Value(value.type.without(node.over), value.hint, value.span)
            w.env[value] = Tensor(Text("None"), _apart(value), sizes_of(value.type))
        found.append(value)
    return found
