"""Whether keys that a mask hides may as well be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import Label, Value
from .attention_axes import attend_axes
from .blocks import is_by_blocks
from .sinks import SinkSoftmax

Hidden = Literal["lowest", "zero", "any"]
"""What a value is at keys that are hidden: minus infinity, 0, or not known (or it has no keys)."""


def may_leave_out(node: ir.Attend) -> bool:
    """Whether scores and weights of a query are the same without the keys that it does not see, and with other queries beside it: each score is
    changed by itself, and what weights put together over the keys are scores at minus infinity and what is 0 there."""
    return _is_alike(node, node.score, "any") and _is_alike(node, node.weights, "lowest")


def _is_alike(node: ir.Attend, region: ir.Region | None, hidden: Hidden) -> bool:
    if region is None:
        return True
    outer = {*attend_axes(node).batch, node.query, node.key}
    found: dict[Value, Hidden] = {region.params[0]: hidden}
    for inner in region.body:
        read = list(ir.operands(inner))
        moves = any(v in found for v in read)
        if any(outer & set(v.type.labels) and not is_by_blocks(v) for v in (read if moves else inner.outs) if v not in found):
            return False
        if not moves:
            continue
        kind = _kind(inner, found, outer, node.key)
        if kind is None:
            return False
        found[inner.out] = kind
    return region.result in found and region.result.type.has(node.key)


def _kind(node: ir.Node, found: Mapping[Value, Hidden], outer: set[Label], key: Label) -> Hidden | None:
    """What a result is at hidden keys; none where it may be another one without them, or mixes queries."""
    match node:
        case ir.Cast(x=x) | ir.Transpose(x=x):
            return found[x]
        case ir.Rename(x=x, old=old) if not outer & set(old):
            return found[x]
        case ir.Dropout(x=x):
            return "zero" if found[x] == "zero" else "any"
        case ir.Elementwise():
            return _pointwise(node.function, node.args, found, key)
        case ir.Einsum(args=args, over=over) if not outer & set(over):
            return "zero" if any(found.get(v) == "zero" for v in args) else "any"
        case ir.Reduce(function=function, x=x, over=over) if not outer & set(over) - {key}:
            if key in over:
                return "any" if (function, found[x]) in (("max", "lowest"), ("logsumexp", "lowest"), ("sum", "zero")) else None
            return "zero" if (function, found[x]) == ("sum", "zero") else "any"
        case ir.Along(function="softmax", x=x, over=over) if over is key:
            return "zero" if found[x] == "lowest" else None
        case SinkSoftmax(s=s):
            return "zero" if found[s] == "lowest" else None
        case ir.Along(over=over) if over not in outer:
            return "any"
        case _:
            return None


def _pointwise(function: str, args: Sequence[ir.Operand], found: Mapping[Value, Hidden], key: Label) -> Hidden:
    kinds = [found.get(a, "any") if isinstance(a, Value) else "any" for a in args]
    rows = [isinstance(a, Expr) or not a.type.has(key) for a in args]
    match function, kinds:
        case (("exp" | "sigmoid" | "relu"), ["lowest"]):
            return "zero"
        case (("add" | "sub"), ["lowest", _]) if rows[1]:
            return "lowest"
        case "add", [_, "lowest"] if rows[0]:
            return "lowest"
        case (("mul" | "div"), ["zero", _]) if rows[1]:
            return "zero"
        case "mul", [_, "zero"] if rows[0] or kinds[0] == "zero":
            return "zero"
        case _:
            return "any"
