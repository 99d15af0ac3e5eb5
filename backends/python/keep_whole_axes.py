"""`table[bucket, h]` with h all heads in order is `table[bucket]`: an axis that is taken whole stays."""

from __future__ import annotations

from dataclasses import replace

from ...compiler import ir
from ...compiler.ir import Label, Value


def keep_whole_axes(program: ir.Program) -> ir.Program:
    """Ensures: the same results; no Take has, for an axis, an index that counts 0, 1, ... over all of it, unless another index aligns with it.

    Leaves alone: regions of attention, whose slots are shifted when decoding."""
    return replace(program, root=ir.rewrite(program.root, _change))


def _change(module: ir.Module) -> ir.Module:
    counts = {n.outs[0] for n in module.body if isinstance(n, ir.Index) and not n.slot}
    if not counts:
        return module
    body: list[ir.Node] = []
    for node in module.body:
        body += _kept(node, counts) if isinstance(node, ir.Take) else [node]
    return replace(module, body=tuple(body))


def _kept(node: ir.Take, counts: set[Value]) -> list[ir.Node]:
    whole: dict[Label, Label] = {}
    for label, index in zip(node.over, node.indices, strict=True):
        if not isinstance(index, Value) or index not in counts:
            continue
        axis = index.type.axes[0]
        others = [i for i in node.indices if isinstance(i, Value) and i is not index]
        free = axis.label is label or not node.x.type.has(axis.label)
        if axis.size == node.x.type.axis(label).size and free and not any(i.type.has(axis.label) for i in others):
            whole[label] = axis.label
    if not whole:
        return [node]
    old, new = tuple(whole), tuple(whole.values())
    axes = tuple(ir.Axis(whole.get(a.label, a.label), a.size) for a in node.x.type.axes)
    renamed = Value(ir.Type(axes, node.x.type.dtype), node.x.hint, node.span)
    rename = ir.Rename(outs=(renamed,), span=node.span, x=node.x, old=old, new=new)
    left = [(label, i) for label, i in zip(node.over, node.indices, strict=True) if label not in whole]
    if left:
        return [rename, replace(node, x=renamed, over=tuple(label for label, _ in left), indices=tuple(i for _, i in left))]
    return [rename, ir.Transpose(outs=node.outs, span=node.span, x=renamed)]
