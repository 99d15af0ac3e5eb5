"""Whether attention minds in which order its keys lie, as they do not lie in order in a ring."""

from __future__ import annotations

from ....compiler import ir
from ....compiler.ir import Label, Region
from ...python.attention_axes import dropout_rate
from ...python.sinks import SinkSoftmax

_OF_SEEN_KEYS = ("sum", "max", "logsumexp")
"""Reductions that do not depend on an order, nor on how many keys there are that nobody sees."""
_SHARES = ("softmax", "log_softmax")


def minds_order(node: ir.Attend) -> bool:
    """Whether a score or weights do more with the axis of the keys than what they do with each key alone, and sums over all of them."""
    score, weights, key = node.score, node.weights, node.key
    if score is not None:
        used = {v for n in score.body for v in ir.operands(n)} | {score.result}
        if used & set(score.params[2:]) or _minds(score, key, ()):
            return True
    return weights is not None and dropout_rate(weights) is None and _minds(weights, key, _OF_SEEN_KEYS)


def _minds(region: Region, key: Label, reductions: tuple[str, ...]) -> bool:
    """`reductions`: those over the keys that are fine; before a mask, hidden keys are among what is reduced."""
    if any(v.type.has(key) for v in ir.free_values(region)):
        return True
    return any(not _treats_alike(n, key, reductions) for n in region.body if any(v.type.has(key) for v in (*n.outs, *ir.operands(n))))


def _treats_alike(node: ir.Node, key: Label, reductions: tuple[str, ...]) -> bool:
    match node:
        case ir.Elementwise() | ir.Cast() | ir.StopGradient() | ir.Dropout() | ir.Transpose() | ir.Expand() | ir.Full():
            return True
        case ir.Reduce():
            return key not in node.over or node.function in reductions
        case ir.Along():
            return node.over is not key or (bool(reductions) and node.function in _SHARES)
        case ir.Einsum():
            return key not in node.over or bool(reductions)
        case ir.Rename():
            return key not in node.old
        case ir.Slice() | ir.Split() | ir.Unstack() | ir.Concat() | ir.Unflatten() | ir.Squeeze() | ir.Roll() | ir.Top():
            return node.over is not key
        case ir.Flatten():
            return key not in node.over
        case ir.StackTensors() | SinkSoftmax():
            return True
        case ir.Take():
            return key not in node.over
        case _:
            return False
