"""What every dialect does alike with shapes: most of it is no code, only another layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import REST, Label
from .code import Call, Code, Range, Subscript, Text, Unary, method, number
from .layouts import Dim, Layout, Tensor, axis_number, place, relabel, sizes_of
from .write_body import BodyWriter

ALL = Range()


def along(layout: Layout, label: Label) -> Code:
    """The number of the dimension that an axis is."""
    return number(axis_number(layout, place(layout, label)))


def lower_unflatten(w: BodyWriter, node: ir.Node) -> None:
    """If one place reads it, no code: the dimension counts as merged until its parts are needed."""
    node = cast(ir.Unflatten, node)
    t = w.read(node.x)
    parts = tuple(a.label for a in node.axes)
    layout = tuple(tuple(x for label in dim for x in (parts if label is node.over else (label,))) for dim in t.layout)
    whole = Tensor(t.code, layout, sizes_of(node.out.type))
    if node.out.hint or w.is_read_often(node.out):
        apart = w.apart(whole, *parts)
        w.define(node.out, apart.code, apart.layout)
    else:
        w.alias(node.out, whole)


def lower_flatten(w: BodyWriter, node: ir.Node) -> None:
    """Brings the axes together in one dimension, if they are not."""
    node = cast(ir.Flatten, node)
    t = w.read(node.x)
    if node.over not in t.layout and not any(_inside(node.over, dim) for dim in t.layout):
        rest = [label for label in t.labels if label not in node.over]
        at = min(k for k, label in enumerate(t.labels) if label in node.over)
        before = [label for label in rest if t.labels.index(label) < at]
        target: Layout = (*((x,) for x in before), node.over, *((x,) for x in rest if x not in before))
        t = Tensor(w.arranged(t, _keep_merged(t.layout, target)), _keep_merged(t.layout, target), t.sizes)
    dims: list[Dim] = []
    for dim in t.layout:
        start = _inside(node.over, dim)
        dims.append(dim if start is None else (*dim[:start], node.label, *dim[start + len(node.over) :]))
    if isinstance(t.code, Call) or node.out.hint:
        w.define(node.out, t.code, tuple(dims))
    else:
        w.alias(node.out, Tensor(t.code, tuple(dims)))


def _inside(run: Sequence[Label], dim: Dim) -> int | None:
    return next((k for k in range(len(dim) - len(run) + 1) if dim[k : k + len(run)] == tuple(run)), None)


def _keep_merged(source: Layout, target: Layout) -> Layout:
    """The target with dimensions merged that the source has merged and that stand together."""
    dims: list[Dim] = []
    for dim in target:
        if dims and any(_inside((*dims[-1], *dim), d) is not None for d in source) and len(dim) == 1:
            dims[-1] = (*dims[-1], *dim)
        else:
            dims.append(dim)
    return tuple(dims)


def lower_rename(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Rename, node)
    t = w.read(node.x)
    w.alias(node.out, Tensor(t.code, relabel(t.layout, node.old, node.new)))


def lower_transpose(w: BodyWriter, node: ir.Node) -> None:
    """No code: an order is declared, and orders are chosen elsewhere."""
    node = cast(ir.Transpose, node)
    w.alias(node.out, w.read(node.x))


def lower_squeeze(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Squeeze, node)
    t = w.apart(w.read(node.x), node.over)
    w.define(node.out, method(t.code, "squeeze", along(t.layout, node.over)), tuple(d for d in t.layout if d != (node.over,)))


def lower_slice(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Slice, node)
    t = w.apart(w.read(node.x), node.over)
    size = node.x.type.axis(node.over).size
    w.define(node.out, subscript(t, {node.over: slice_code(w, node.start, node.stop, size)}), t.layout)


def slice_code(w: BodyWriter, start: Expr, stop: Expr, size: Expr) -> Range:
    """`a:b`, counting from the end where the distance to it does not depend on the size."""
    return Range(None if start.constant == 0 else _bound(w, start, size), None if stop == size else _bound(w, stop, size))


def _bound(w: BodyWriter, at: Expr, size: Expr) -> Code:
    left = size - at
    if at.is_dynamic and not left.is_dynamic:
        return Unary("-", w.number(left)) if len(left.terms) == 1 else w.number(-left)
    return w.number(at)


def subscript(t: Tensor, items: dict[Label, Code]) -> Code:
    """`x[:, a:b]` or `x[..., i]`: whichever is shorter."""
    codes = [items.get(dim[0], ALL) if len(dim) == 1 else ALL for dim in t.layout]
    touched = [k for k, c in enumerate(codes) if c is not ALL]
    if touched[0] == len(codes) - 1 and (len(codes) > 2 or any(REST in dim for dim in t.layout)):
        return Subscript(t.code, (Text("..."), codes[-1]))
    if any(REST in dim for dim in t.layout[: touched[-1]]):
        start = next(k for k, dim in enumerate(t.layout) if REST in dim)
        return Subscript(t.code, (*codes[:start], Text("..."), *codes[start + 1 :]))
    return Subscript(t.code, tuple(codes[: touched[-1] + 1]))
