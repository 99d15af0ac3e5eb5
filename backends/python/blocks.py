"""The axes of what is computed over blocks of queries and the keys around each."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.dims import Sym, sym
from ...compiler.ir import Axis, Label, Region, Type, Value

BLOCK = Axis(Label("block"), sym(Sym(name="blocks")))
SIZE, SPAN = sym(Sym(name="size")), sym(Sym(name="span"))


def over_blocks(kind: Type, query: Label | None, key: Label | None) -> Type:
    """The same over the queries of a block and the keys around it, with the axis of blocks in front of these."""
    axes: list[Axis] = []
    for axis in kind.axes:
        slots = axis.label is query or axis.label is key
        if slots and BLOCK not in axes:
            axes.append(BLOCK)
        axes.append(Axis(axis.label, SIZE if axis.label is query else SPAN) if slots else axis)
    return Type(tuple(axes), kind.dtype)


def is_by_blocks(value: Value) -> bool:
    return value.type.has(BLOCK.label)


def beside_scores(score: Region) -> tuple[Value, ...]:
    """What a score reads together with the scores themselves."""
    scores = {score.params[0]}
    found: list[Value] = []
    for node in score.body:
        read = list(ir.operands(node))
        if any(v in scores for v in read):
            scores.update(node.outs)
            found += [v for v in read if v not in scores]
    return tuple(dict.fromkeys(found))
