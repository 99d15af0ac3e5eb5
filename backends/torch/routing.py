"""Experts: rows are sorted by expert, each expert's rows are computed together, and put back. Nothing waits for the device."""

from __future__ import annotations

from typing import cast

from ...compiler import ir
from ...compiler.ir import REST
from ..python.code import Attribute, Subscript, Text, call
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


def _check(w: BodyWriter, module: ir.Module) -> None:
    if len(module.inputs) != 1 or len(module.outputs) != 1:
        w.refuse("experts with several inputs or results")
    for m in ir.walk(module):
        if any(not v.type.has(REST) or v.type.labels[0] is not REST for v in m.inputs):
            w.refuse(f"experts that look at other axes than the last, as `{m.name}` does")


def lower_route(w: BodyWriter, node: ir.Node) -> None:
    """`route(self.experts, x, index, weight)`."""
    node = cast(ir.Route, node)
    bank = w.module.child(node.target)
    assert isinstance(bank, ir.Bank)
    _check(w, bank.module)
    if node.args:
        w.refuse("experts with further inputs")
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
    _check(w, bank.module)
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
