"""Which axes of a module must have all tokens so far, not only those of one call: the axes that some operation looks across."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .. import ir
from ..dims import ZERO
from ..ir import REST, Label, Module, Node, Value
from .common import Cause, Kind, Length, Refused

_PER_TOKEN = ("cumsum",)


def find_whole_axes(module: Module, kinds: Mapping[Value, Kind], length: Length) -> dict[Label, Cause]:
    """Labels that operations of a body (calls apart) look across, with the operation. The keys of an attend are found by `keys_of`."""
    found: dict[Label, Cause] = {}
    for node in _nodes(module, kinds):
        for label, what in across(node):
            sized = [a for v in (*ir.operands(node), *node.outs) for a in v.type.axes if a.label is label]
            if label is REST:
                raise Refused(f"{what} over all leading axes", node.span)
            if any(length.runs(a) for a in sized):
                found.setdefault(label, Cause(f"{what} `{label.name}`", node.span))
    return found


def keys_of(node: ir.Attend, length: Length) -> bool:
    """Whether the keys of an attend are tokens of the decoded sequence."""
    return length.runs(node.k.type.axis(node.k_axis))


def _nodes(module: Module, kinds: Mapping[Value, Kind]) -> Iterator[Node]:
    for node in module.body:
        if kinds.get(node.out) is Kind.ROWS:
            yield node
            for region in ir.regions(node):
                yield from region.body


def across(node: Node) -> Iterator[tuple[Label, str]]:
    """The labels that an operation looks across, each with words that its name follows."""
    match node:
        case ir.Reduce():
            yield from ((label, f"`{node.function}` over") for label in node.over)
        case ir.Einsum():
            yield from ((label, "the sum over") for label in node.over)
        case ir.Along() if node.function not in _PER_TOKEN:
            yield node.over, f"`{node.function}` along"
        case ir.Top():
            yield node.over, "`top` over"
        case ir.Roll():
            yield node.over, "`roll` along"
        case ir.OneHot():
            yield node.axis.label, "`one_hot` over"
        case ir.ScatterAdd():
            yield node.over, "`scatter_add` over"
            yield from ((a.label, "`scatter_add` over") for a in node.x.type.axes if not node.base.type.has(a.label))
        case ir.Split() | ir.Unstack() | ir.Unflatten() | ir.Squeeze():
            yield node.over, f"`{type(node).__name__.lower()}` of"
        case ir.Flatten():
            yield from ((label, "`flatten` of") for label in node.over)
        case ir.Unfold() if node.stride.constant != 1:
            yield node.over, "windows with a stride along"
        case ir.Pad() if node.after != ZERO:
            yield node.over, "padding after the end of"
        case ir.Scan() if node.reverse:
            yield node.over, "a reversed `scan` along"
        case _:
            return
