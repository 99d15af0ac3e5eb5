"""Splitting, joining, slicing and indexing in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.dims import ZERO
from ...compiler.ir import REST, Value
from ..python.code import Binary, Code, Items, Subscript, Text, call, number
from ..python.indexing import Indexing, stored_layout
from ..python.layouts import Layout, Tensor, common_layout, has, sizes_of
from ..python.shapes import along
from ..python.write_body import BodyWriter
from .pointwise import to_dtype


def lower_split(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Split, node)
    t = w.apart(w.read(node.x), node.over)
    layouts = [tuple((label,) if dim == (node.over,) else dim for dim in t.layout) for label in node.labels]
    if len(set(node.sizes)) == 1:
        where: Code = number(len(node.sizes))
    else:
        stops: list[Code] = []
        total = ZERO
        for size in node.sizes[:-1]:
            total = total + size
            stops.append(w.number(total))
        where = Items(tuple(stops), square=True)
    kinds = [label.name for label in node.labels]
    w.define_several(node.outs, call("np.split", t.code, where, along(t.layout, node.over)), layouts, kinds)


def lower_expand(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Expand, node)
    t = w.read(node.x)
    code = t.code
    for axis in reversed(node.axes):
        code = call("expand", code, number(0), w.number(axis.size))
    w.define(node.out, code, (*((a.label,) for a in node.axes), *t.layout))


def full_operands(w: BodyWriter, values: Sequence[Value], layout: Layout, kind: ir.Type) -> list[Code]:
    """Each operand with every dimension of the layout, repeated along those that it lacks."""
    found: list[Code] = []
    for value in values:
        t = w.read(value)
        present = tuple(dim for dim in layout if any(has(t.layout, label) for label in dim))
        code = w.arranged(t, present)
        for k, dim in enumerate(layout):
            if dim not in present:
                after_rest = any(REST in other for other in layout[:k])
                code = call("expand", code, number(k - len(layout) if after_rest else k), w.size(dim, sizes_of(kind)))
        found.append(code)
    return found


def lower_stack(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.StackTensors, node)
    layout = common_layout([w.read(v).layout for v in node.args], node.out.type.labels)
    codes = [
        to_dtype(w, c, v.type.dtype, node.out.type.dtype)
        for c, v in zip(full_operands(w, node.args, layout, node.out.type), node.args, strict=True)
    ]
    w.define(node.out, call("np.stack", Items(tuple(codes)), number(-1)), (*layout, (node.label,)))


def lower_unstack(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Unstack, node)
    t = w.apart(w.read(node.x), node.over)
    layout = tuple(d for d in t.layout if d != (node.over,))
    slices = call("np.moveaxis", t.code, along(t.layout, node.over), number(0))
    if len(node.outs) == 1:
        w.define(node.outs[0], Subscript(slices, (number(0),)), layout)
    else:
        w.define_several(node.outs, slices, [layout] * len(node.outs), ["y"] * len(node.outs))


def lower_concat(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Concat, node)
    for value in node.args:
        w.env[value] = w.apart(w.read(value), node.over)
    layout = common_layout([w.read(v).layout for v in node.args], node.out.type.labels)
    codes = [
        to_dtype(w, c, v.type.dtype, node.out.type.dtype)
        for c, v in zip(full_operands(w, node.args, layout, node.out.type), node.args, strict=True)
    ]
    w.define(node.out, call("np.concatenate", Items(tuple(codes)), along(layout, node.over)), layout)


def lower_pad(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Pad, node)
    t = w.apart(w.read(node.x), node.over)
    value = () if node.value.constant == 0 else (w.number(node.value),)
    code = call("pad", t.code, along(t.layout, node.over), w.number(node.before), w.number(node.after), *value)
    w.define(node.out, code, t.layout)


# ---------------------------------------------------------------- indexing by tensors

lower_take = Indexing(
    count=lambda w, size: call("np.arange", size), gather=lambda x, axis, index: call("np.take_along_axis", x, index, axis)
).lower_take


def lower_scatter_add(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.ScatterAdd, node)
    index, base = w.read(node.index), w.apart(w.read(node.base), *w.read(node.base).labels)
    free = [x for x in base.labels if x is not node.over and x not in index.labels]
    block = tuple((x,) for x in (*index.labels, *free))
    items: list[Code] = []
    for (label,) in base.layout:
        t = index if label is node.over else Tensor(call("np.arange", w.size((label,), base.sizes)), ((label,),))
        items.append(w.spread(t, block))
    values = to_dtype(w, w.spread(w.read(node.x), block), node.x.type.dtype, node.base.type.dtype)
    w.define(node.out, call("scatter_add", base.code, Items(tuple(items)), values), base.layout)


def lower_one_hot(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.OneHot, node)
    t = w.read(node.x)
    code = Binary("==", Subscript(t.code, (Text("..."), Text("None"))), call("np.arange", w.number(node.axis.size)))
    w.define(node.out, code, (*t.layout, (node.axis.label,)), kind="one_hot")


def lower_unfold(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Unfold, node)
    t = w.apart(w.read(node.x), node.over)
    numbers = (w.number(node.window.size), w.number(node.stride), w.number(node.dilation))
    w.define(node.out, call("windows", t.code, along(t.layout, node.over), *numbers), (*t.layout, (node.window.label,)), kind="windows")


def lower_child_param(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.ChildParam, node)
    name = ".".join(node.path)
    w.env[node.out] = Tensor(Subscript(Text("params"), (Text(f'"{name}"'),)), stored_layout(w, node), sizes_of(node.out.type))
