"""Attention on what is kept itself, for a few tokens that go on from others; else keys and values are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ....compiler import ir
from ....compiler.decoding.absorb_maps import Absorbed, find_absorbed
from ....compiler.decoding.common import Length
from ....compiler.dims import sym
from ...python.code import Assign, Binary, Block, Statement, Text, Var
from ...python.layouts import Layout, Tensor, sizes_of
from ...python.write_body import BodyWriter
from .parts import NONE


def absorbed_of(w: BodyWriter) -> Mapping[ir.Node, Absorbed]:
    """The attends of a module that have two forms."""
    decoding = w.numbers.plans.program.decoding
    return {} if decoding is None else find_absorbed(w.module, Length(decoding.rows, decoding.length))


def both_forms(w: BodyWriter, node: ir.Attend, found: Absorbed, plain: list[ir.Node]) -> None:
    """`if` few tokens go on from others, the absorbed form, `else` the nodes of the plain one."""
    decoding = w.numbers.plans.program.decoding
    assert decoding is not None
    layout: Layout = tuple((label,) for label in node.out.type.labels)
    result = Var(hint=node.out.hint, kind="y")
    tokens = w.number(sym(decoding.rows))
    cost = Binary("*", tokens, w.numbers.kept_as("absorbed_cost", found.more))
    cheaper = Binary("<", cost, w.numbers.kept_as("plain_cost", found.once))
    few = Var(hint="few")
    w.statements.append(Assign((few,), Binary("and", Binary("is not", w.slots, NONE), cheaper)))
    outer, ranges, known = w.statements, dict(w.ranges), w.known
    branches: list[tuple[Statement, ...]] = []
    for nodes, out in ((found.absorbed, found.out), (plain, node.out)):
        w.statements, w.ranges, w.known, w.few = [], dict(ranges), None, nodes is found.absorbed
        w.write(nodes)
        branches.append((*w.statements, Assign((result,), w.arranged(w.read(out), layout))))
    w.statements = [*outer, Block(few, "if", branches[0]), Block(Text(""), "else", branches[1])]
    w.ranges, w.known, w.few = ranges, known, False
    w.env[node.out] = Tensor(result, layout, sizes_of(node.out.type))


def take_apart(w: BodyWriter) -> None:
    """Write both forms where the attend stands, and before it nothing of either."""
    for node, found in absorbed_of(w).items():
        assert isinstance(node, ir.Attend)
        twin = _copy(node)
        w.instead.update(dict.fromkeys(found.path, _nothing))
        w.instead[node] = partial(both_forms, w, node, found, [*map(_copy, found.path), twin])


def _copy(node: ir.Node) -> ir.Node:
    """The same node, which is written as it is."""
    return replace(node, outs=node.outs)


def _nothing() -> None:
    return None
