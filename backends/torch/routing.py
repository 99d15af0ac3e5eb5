"""Experts: rows are sorted by expert, each expert's rows are computed together, and put back. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.ir import REST, Value
from ..python.bind_calls import bind, out_layout
from ..python.code import Attribute, Binary, Call, Code, Each, Items, Subscript, Text, Var, call, method, number
from ..python.find_classes import sees_rows
from ..python.layouts import Layout, Tensor, sizes_of
from ..python.write_body import BodyWriter
from .bank_inputs import BANK_INPUTS

__all__ = ["BANK_INPUTS", "lower_pairwise", "lower_route", "start_bank"]


def start_bank(w: BodyWriter) -> None:
    """In a module of a bank, a parameter is read row by row: `self.weight[expert]`."""
    for param in w.module.params:
        code = Subscript(Attribute(Text("self"), param.name), (Text("expert"),))
        layout: Layout = ((REST,), *((label,) for label in param.type.labels))
        w.env[param.value] = Tensor(code, layout, sizes_of(param.type))


def lower_route(w: BodyWriter, node: ir.Node) -> None:
    """`route(self.experts, x, index, weight)`."""
    node = cast(ir.Route, node)
    bank = w.module.child(node.target)
    assert isinstance(bank, ir.Bank)
    if not sees_rows(bank.module):
        _route_whole(w, node, bank)
        return
    kind = node.x.type
    last = kind.labels[len(kind.labels) - (len(bank.module.inputs[0].type.labels) - 1) :]
    rest = tuple(label for label in kind.labels if label not in last)
    rows: Layout = tuple((label,) for label in rest)
    x = w.arranged(w.read(node.x), (*rows, *((label,) for label in last)))
    index = w.arranged(w.read(node.index), (*rows, (node.choice,)))
    weight = w.arranged(w.read(node.weight), (*rows, (node.choice,)))
    w.helpers |= {"route"}
    outs = tuple((label,) for label in node.out.type.labels if label not in rest)
    experts = w.number(bank.axis.size)
    code = call("route", Attribute(Text("self"), node.target), x, index, weight, experts)
    w.define(node.out, code, (*rows, *outs))


def lower_pairwise(w: BodyWriter, node: ir.Node) -> None:
    """Rows of expert 0, then of expert 1, ...: already sorted."""
    node = cast(ir.Pairwise, node)
    bank = w.module.child(node.target)
    assert isinstance(bank, ir.Bank)
    if not sees_rows(bank.module):
        _apply_whole(w, node, bank)
        return
    value = node.args[0]
    feature = value.type.labels[-1]
    label = next(
        a.label
        for a in value.type.axes
        if a.label is bank.axis.label or (a.size == bank.axis.size and a.label.name == bank.axis.label.name)
    )
    rest = tuple(x for x in value.type.labels if x not in (label, feature))
    x = w.arranged(w.read(value), ((label,), *((r,) for r in rest), (feature,)))
    w.helpers |= {"pairwise"}
    code = call("pairwise", Attribute(Text("self"), node.target), x)
    outs = tuple(x for x in node.out.type.labels if x not in (label, *rest))
    w.define(node.out, code, ((label,), *((r,) for r in rest), *((o,) for o in outs)))


# ---------------------------------------------------------------- experts that see more than rows


def _member(w: BodyWriter, bank: ir.Bank, args: Sequence[Value], out: Value) -> tuple[Code, Layout]:
    """One of a bank, `expert`, applied to what stands for it."""
    if len(bank.module.outputs) != 1 or w.numbers.plans.of(bank.module).is_function or ir.has_effects(bank.module):
        w.refuse("experts with several results, with a memory, or without parameters")
    w.helpers |= {"member"}
    bound = bind(w, bank.module, args)
    layout = out_layout(w, bank.module.outputs[0], out, bound)
    return Call(call("member", Attribute(Text("self"), bank.name), Text("expert")), bound.args), layout


def _apply_whole(w: BodyWriter, node: ir.Pairwise, bank: ir.Bank) -> None:
    """`torch.stack([member(self.heads, expert)(x[expert], angle) for expert in range(heads)])`."""
    label = bank.axis.label
    args: list[Value] = []
    for value in node.args:
        if not value.type.has(label):
            args.append(value)
            continue
        rest = tuple((x,) for x in value.type.labels if x is not label)
        whole = w.arranged(w.read(value), ((label,), *rest))
        whole = whole if isinstance(whole, Var) else w.temporary(whole, "x")
        own = Value(type=value.type.without(label), hint=value.hint)
        w.env[own] = Tensor(Subscript(whole, (Text("expert"),)), rest, sizes_of(own.type))
        args.append(own)
    code, layout = _member(w, bank, args, Value(type=node.out.type.without(label)))
    made = Each(code, "expert", call("range", w.number(bank.axis.size)))
    w.define(node.out, call("torch.stack", Items((made,), square=True)), ((label,), *layout))


def _route_whole(w: BodyWriter, node: ir.Route, bank: ir.Bank) -> None:
    """Every expert on everything, weighed by what chose it: what one gives for a row depends on other rows."""
    code, layout = _member(w, bank, (node.x, *node.args), node.out)
    index, weight = (w.apart(w.read(v), node.choice) for v in (node.index, node.weight))
    kept = tuple(dim for dim in layout if any(label in (*index.labels, *weight.labels) for label in dim))
    chosen, weights = (w.spread(t, (*kept, (node.choice,))) for t in (index, weight))
    gate = method(Binary("*", weights, Binary("==", chosen, Text("expert"))), "sum", number(-1))
    term = Binary("*", w.spread(Tensor(gate, kept), layout), code)
    total = Call(Text("sum"), (Each(term, "expert", call("range", w.number(bank.axis.size))),))
    w.define(node.out, total, layout)
