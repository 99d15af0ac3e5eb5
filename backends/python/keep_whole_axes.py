"""`table[bucket, h]` with h all heads in order is `table[bucket]`: an axis that is taken whole stays."""

from __future__ import annotations

from dataclasses import replace

from ...compiler import ir
from ...compiler.ir import Label, Value
from .prepare_masks import ring_of


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


def keep_whole_scores(program: ir.Program) -> ir.Program:
    """Requires: windows are rings or none. Ensures: the same results; no Take in a score has, for an axis, all slots in order or all heads; what is
    kept of all calls is at the slots of this call's tokens what they brought. Leaves alone: keys in the order of a ring."""
    return replace(program, root=ir.rewrite(program.root, _whole_scores))


def _whole_scores(module: ir.Module) -> ir.Module:
    keeps = {n.out: n for n in module.body if isinstance(n, ir.Keep) and n.window is None}
    body = []
    for node in module.body:
        if isinstance(node, ir.Attend) and node.score is not None and len(node.score.params) == 4:
            _, h, i, j = node.score.params
            counts = {v for v in (h, i, j) if len(v.type.axes) == 1 and (v is not j or ring_of(node, module) is None)}
            takes = (_of_new_rows(n, i, keeps) if isinstance(n, ir.Take) else n for n in node.score.body)
            inside = tuple(new for n in takes for new in (_kept(n, counts) if isinstance(n, ir.Take) else [n]))
            node = replace(node, score=replace(node.score, body=inside))
        body.append(node)
    return replace(module, body=tuple(body))


def _of_new_rows(node: ir.Take, i: Value, keeps: dict[Value, ir.Keep]) -> ir.Take:
    """Indexed by the slots of the queries, what is kept is what the queries' own tokens brought, if there are as many."""
    keep = keeps.get(node.x)
    if keep is None or i not in node.indices:
        return node
    at = node.indices.index(i)
    if node.over[at] is not keep.label or keep.x.type.axis(keep.over).size != i.type.axes[0].size:
        return node
    return replace(node, x=keep.x, over=(*node.over[:at], keep.over, *node.over[at + 1 :]))


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
