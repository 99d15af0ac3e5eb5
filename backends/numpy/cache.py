"""Decoding in NumPy, plainly: everything that came before is concatenated, and what does not run along the tokens is computed in every call."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr, sym
from ...compiler.ir import Label, Module, Node, Program, Value
from ..python.code import Binary, Code, Do, Text, call, number
from ..python.shapes import along
from ..python.write_body import BodyWriter
from .cache_arguments import CACHE, NONE
from .contractions import lower_linear_recurrence
from .pointwise import lower_along
from .shapes import lower_concat, lower_pad


def without_onces(program: Program) -> Program:
    """Requires: a derived program. Ensures: what is the same in every call is computed in every call. Leaves alone: the rest."""

    def change(module: Module) -> Module:
        mapping: dict[Value, Value] = {}
        body: list[Node] = []
        for node in module.body:
            if isinstance(node, ir.Once):
                mapping[node.out] = mapping.get(node.x, node.x)
            else:
                node = ir.replace_values(node, mapping)
                body.append(replace(node, window=None) if isinstance(node, ir.Keep) else node)
        return ir.replace_results(replace(module, body=tuple(body)), mapping)

    return program if program.decoding is None else replace(program, root=ir.rewrite(program.root, change))


# ---------------------------------------------------------------- nodes


def key(w: BodyWriter, entry: str) -> Code:
    return Text(f'"{entry}"' if w.numbers.is_root else f'f"{{path}}.{entry}"')


def lower_keep(w: BodyWriter, node: Node) -> None:
    node = cast(ir.Keep, node)
    t = w.apart(w.read(node.x), node.over)
    layout = tuple((node.label,) if dim == (node.over,) else dim for dim in t.layout)
    code = call("keep", CACHE, key(w, node.entry), t.code, along(t.layout, node.over))
    w.define(node.out, code, layout, kind=node.entry, pure=False)


def lower_cached_pad(w: BodyWriter, node: Node) -> None:
    lower_pad(w, node)
    node = cast(ir.Pad, node)
    if node.entry:
        _follow(w, node, node.over, w.number(node.before), _lead(w, node.x, node.over))


def lower_cached_concat(w: BodyWriter, node: Node) -> None:
    lower_concat(w, node)
    node = cast(ir.Concat, node)
    if node.entry:
        _follow(w, node, node.over, w.number(node.args[0].type.axis(node.over).size), _lead(w, node.args[1], node.over))


def _lead(w: BodyWriter, value: Value, over: Label) -> Expr:
    """How much longer than the tokens of this call it is."""
    decoding = w.numbers.plans.program.decoding
    assert decoding is not None
    return value.type.axis(over).size - sym(decoding.rows)


def _follow(w: BodyWriter, node: ir.Pad | ir.Concat, over: Label, count: Code, lead: Expr) -> None:
    t = w.read(node.out)
    beyond = [] if lead.constant == 0 else [w.number(lead)]
    code = call("follow", CACHE, key(w, node.entry), t.code, count, along(t.layout, over), *beyond)
    w.define(node.out, code, t.layout, kind=node.entry, pure=False)


def lower_cached_along(w: BodyWriter, node: Node) -> None:
    lower_along(w, node)
    node = cast(ir.Along, node)
    if node.entry:
        t = w.read(node.out)
        lead = _lead(w, node.out, node.over)
        beyond = [] if lead.constant == 0 else [w.number(lead)]
        code = call("go_on", CACHE, key(w, node.entry), t.code, along(t.layout, node.over), *beyond)
        w.define(node.out, code, t.layout, kind=node.entry, pure=False)


def lower_cached_recurrence(w: BodyWriter, node: Node) -> None:
    node = cast(ir.LinearRecurrence, node)
    if not node.entry:
        lower_linear_recurrence(w, node)
        return
    where = key(w, node.entry)
    lower_linear_recurrence(w, node, call("recall", CACHE, where, NONE))
    t = w.read(node.out)
    lead = _lead(w, node.out, node.over)
    at = number(-1) if lead.constant == 0 else Binary("-", number(-1), w.number(lead))
    last = call("np.take", t.code, at, along(t.layout, node.over))
    w.statements.append(Do(call("remember", CACHE, where, last)))


def carried_start(w: BodyWriter, node: ir.Scan, k: int, start: Code) -> Code:
    """What a scan carries at its beginning."""
    return call("recall", CACHE, key(w, f"{node.entry}.{k}"), start) if node.entry else start


def carried_end(w: BodyWriter, node: ir.Scan, k: int, end: Code) -> list[Do]:
    return [Do(call("remember", CACHE, key(w, f"{node.entry}.{k}"), end))] if node.entry else []
