"""The order of axes. A tensor of the IR has named axes without order; in code it has dimensions, each an axis or several merged row-major.

layout ::= (dim, ...)        dim ::= (label, ...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType

from ...compiler.dims import Expr
from ...compiler.ir import REST, Label, Type
from ...grammar.frozen import frozen
from .code import Code

Dim = tuple[Label, ...]
Layout = tuple[Dim, ...]


Sizes = Mapping[Label, Expr]
UNKNOWN: Sizes = MappingProxyType({})  # nothing is known


@frozen
class Tensor:
    """Code of a tensor and the layout it has; `sizes` of its axes (one label may have different sizes in different tensors)."""

    code: Code
    layout: Layout
    sizes: Sizes = field(default_factory=lambda: UNKNOWN, compare=False)

    @property
    def labels(self) -> tuple[Label, ...]:
        return flat(self.layout)


def sizes_of(type_: Type) -> Sizes:
    return {a.label: a.size for a in type_.axes}


def flat(layout: Layout) -> tuple[Label, ...]:
    return tuple(label for dim in layout for label in dim)


def declared(type_: Type) -> Layout:
    """One dimension an axis, in the declared order."""
    return tuple((label,) for label in type_.labels)


def place(layout: Layout, label: Label) -> int:
    """The dimension that holds an axis."""
    return next(k for k, dim in enumerate(layout) if label in dim)


def has(layout: Layout, label: Label) -> bool:
    return any(label in dim for dim in layout)


def axis_number(layout: Layout, k: int) -> int:
    """How code names dimension k: the last is -1, and what stands after the rest of the axes counts from the end."""
    counts_from_end = k == len(layout) - 1 or any(REST in dim for dim in layout[:k])
    return k - len(layout) if counts_from_end else k


def without(layout: Layout, labels: Iterable[Label]) -> Layout:
    gone = set(labels)
    kept = (tuple(label for label in dim if label not in gone) for dim in layout)
    return tuple(dim for dim in kept if dim)


def relabel(layout: Layout, old: Sequence[Label], new: Sequence[Label]) -> Layout:
    table = dict(zip(old, new, strict=True))
    return tuple(tuple(table.get(label, label) for label in dim) for dim in layout)


def common_layout(layouts: Sequence[Layout], wanted: Sequence[Label]) -> Layout:
    """A layout of `wanted` for an elementwise operation: follows the operand with most axes, keeping a merged dimension only where every
    operand has it whole or not at all; what it lacks goes before the axis it precedes in `wanted`."""
    lead = max(layouts, key=lambda lay: len(flat(lay)))
    dims: list[Dim] = []
    for dim in lead:
        whole = all(dim in lay or not any(has(lay, label) for label in dim) for lay in layouts)
        dims += [dim] if whole else [(label,) for label in dim]
    for lay in layouts:
        for dim in lay:
            lacking = tuple(label for label in dim if not has(tuple(dims), label))
            whole = lacking == dim and all(dim in other or not any(has(other, label) for label in dim) for other in layouts)
            for piece in [dim] if whole else [(label,) for label in lacking]:
                dims.insert(_position(dims, piece, wanted), piece)
    return tuple(dims)


def _position(dims: Sequence[Dim], dim: Dim, wanted: Sequence[Label]) -> int:
    order = list(wanted)
    if dim[0] not in order:
        return len(dims)
    later = set(order[order.index(dim[0]) + 1 :])
    for k, other in enumerate(dims):
        if other[0] in later:
            return k
    return len(dims)


def _names(dim: Dim) -> str:
    return " * ".join(label.name for label in dim)


def note_of(layout: Layout, show: Callable[[Dim], str] = _names) -> str:
    """`[b, heads, t, head_dim]`: the shape comment."""
    return f"[{', '.join(map(show, layout))}]"
