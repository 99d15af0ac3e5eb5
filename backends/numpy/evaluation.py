"""The NumPy file computes what a model means after training: the branches of training go."""

from __future__ import annotations

from dataclasses import replace

from ...compiler import ir
from ...compiler.dims import ZERO
from ...compiler.ir import Module, Node, Program, Value


def without_training(program: Program) -> Program:
    """Decide what asks for the mode of training.

    Requires: a verified program. Ensures: no Training node and no update of a buffer. Leaves alone: what only training reads, which is dead."""
    return replace(program, root=ir.rewrite(program.root, _change))


def _change(module: Module) -> Module:
    asked = {n.out for n in module.body if isinstance(n, ir.Training)}
    if not asked and not module.updates:
        return module
    body: list[Node] = []
    for node in module.body:
        if isinstance(node, ir.Training):
            node = ir.Full(outs=node.outs, span=node.span, value=ZERO)
        elif isinstance(node, ir.Elementwise) and node.function == "where" and node.args[0] in asked:
            body += _otherwise(node)
            continue
        body.append(node)
    return replace(module, body=tuple(body), updates=())


def _otherwise(node: ir.Elementwise) -> list[Node]:
    """The last operand, in the type of the result."""
    found, wanted = node.args[2], node.out.type
    if not isinstance(found, Value):
        return [ir.Full(outs=node.outs, span=node.span, value=found)]
    steps: list[Node] = []
    missing = tuple(a for a in wanted.axes if not found.type.has(a.label))
    if missing:
        wider = Value(replace(found.type, axes=(*missing, *found.type.axes)), "", node.span)
        steps.append(ir.Expand(outs=(wider,), span=node.span, x=found, axes=missing))
        found = wider
    if found.type.labels != wanted.labels:
        turned = Value(replace(wanted, dtype=found.type.dtype), "", node.span)
        steps.append(ir.Transpose(outs=(turned,), span=node.span, x=found))
        found = turned
    return [*steps, ir.Cast(outs=node.outs, span=node.span, x=found)]
