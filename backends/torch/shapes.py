"""Splitting, joining, slicing and indexing in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.dims import ONE
from ...compiler.ir import REST, Label, Value
from ..python.code import Attribute, Binary, Code, Items, Subscript, Text, call, method, number
from ..python.indexing import Indexing, stored_layout
from ..python.layouts import Layout, Tensor, common_layout, has, place, sizes_of
from ..python.shapes import along
from ..python.write_body import BodyWriter
from .pointwise import on_device, to_dtype


def lower_split(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Split, node)
    t = w.apart(w.read(node.x), node.over)
    layouts = [tuple((label,) if dim == (node.over,) else dim for dim in t.layout) for label in node.labels]
    dim = along(t.layout, node.over)
    if len(set(node.sizes)) == 1:
        code = method(t.code, "chunk", number(len(node.sizes)), dim)
    else:
        code = method(t.code, "split", Items(tuple(w.number(s) for s in node.sizes)), dim)
    w.define_several(node.outs, code, layouts, [out.type.axis(label).label.name for out, label in zip(node.outs, node.labels, strict=True)])


def lower_expand(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Expand, node)
    t = w.read(node.x)
    layout = (*((a.label,) for a in node.axes), *t.layout)
    sizes = [w.number(a.size) for a in node.axes]
    if REST in t.labels:
        w.refuse("an expansion of a tensor of any rank")
    w.define(node.out, method(t.code, "expand", *sizes, *(number(-1) for _ in t.layout)), layout)


def full_operands(w: BodyWriter, values: Sequence[Value], layout: Layout, but: Label | None = None) -> list[Code]:
    """Each operand with every dimension of the layout there in full size (the axis `but` as it is)."""
    found: list[Code] = []
    whole = {label: size for value in values for label, size in w.read(value).sizes.items()}
    for value in values:
        t = w.read(value)
        code = w.spread(t, layout)
        missing = [not any(has(t.layout, label) for label in dim) for dim in layout]
        if any(missing):
            lead = next(k for k, m in enumerate(missing) if not m) if not all(missing) else len(missing)
            sizes = [w.size(dim, whole) if m else number(-1) for dim, m in zip(layout, missing, strict=True)]
            if lead:
                code = Subscript(code, (*(Text("None"),) * lead,))
            code = method(code, "expand", *sizes)
        found.append(code)
    return found


def lower_stack(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.StackTensors, node)
    layout = common_layout([w.read(v).layout for v in node.args], node.out.type.labels)
    codes = full_operands(w, node.args, layout)
    codes = [to_dtype(w, c, v.type.dtype, node.out.type.dtype) for c, v in zip(codes, node.args, strict=True)]
    w.define(node.out, call("torch.stack", Items(tuple(codes)), number(-1)), (*layout, (node.label,)))


def lower_unstack(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Unstack, node)
    t = w.apart(w.read(node.x), node.over)
    layout = tuple(d for d in t.layout if d != (node.over,))
    w.define_several(node.outs, method(t.code, "unbind", along(t.layout, node.over)), [layout] * len(node.outs), ["y"] * len(node.outs))


def lower_concat(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Concat, node)
    tensors = [w.apart(w.read(v), node.over) for v in node.args]
    layout = common_layout([t.layout for t in tensors], node.out.type.labels)
    pieces = {v: v for v in node.args}
    for value, t in zip(node.args, tensors, strict=True):
        w.env[value] = t
    codes = full_operands(w, tuple(pieces[v] for v in node.args), layout, node.over)
    codes = [to_dtype(w, c, v.type.dtype, node.out.type.dtype) for c, v in zip(codes, node.args, strict=True)]
    w.define(node.out, call("torch.cat", Items(tuple(codes)), along(layout, node.over)), layout)


def lower_pad(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Pad, node)
    t = w.apart(w.read(node.x), node.over)
    after = len(t.layout) - 1 - place(t.layout, node.over)
    pairs = [number(0)] * (2 * after) + [w.number(node.before), w.number(node.after)]
    named = {} if node.value.constant == 0 else {"value": w.number(node.value)}
    w.define(node.out, call("F.pad", t.code, Items(tuple(pairs)), **named), t.layout)


# ---------------------------------------------------------------- indexing by tensors

lower_take = Indexing(
    count=lambda w, size: call("torch.arange", size, **on_device(w)),
    gather=lambda x, axis, index: method(x, "gather", axis, index),
    slice=lambda x, axis, index: method(method(x, "index_select", axis, index), "squeeze", axis),  # torch.compile would ask for the number
).lower_take


def lower_scatter_add(w: BodyWriter, node: ir.Node) -> None:
    """index_put with every axis indexed that the index or the scattered one needs."""
    node = cast(ir.ScatterAdd, node)
    index = w.read(node.index)
    base = w.apart(w.read(node.base), *w.read(node.base).labels)
    base_shared = [x for x in base.labels if x in index.labels]
    free = [x for x in base.labels if x is not node.over and x not in base_shared]
    block: Layout = tuple((x,) for x in (*index.labels, *free))
    items: list[Code] = []
    for (label,) in base.layout:
        if label is node.over:
            items.append(w.spread(index, block))
        else:
            items.append(w.spread(Tensor(call("torch.arange", w.size((label,), base.sizes), **on_device(w)), ((label,),)), block))
    if free and not base_shared and base.layout[0] == (node.over,) and base.layout[1:] == tuple((x,) for x in free):
        items = [index.code]
        block = index.layout + tuple((x,) for x in free)
    values = w.spread(w.read(node.x), block)
    values = to_dtype(w, values, node.x.type.dtype, node.base.type.dtype)
    code = method(base.code, "index_put", Items(tuple(items)), values, accumulate=Text("True"))
    w.define(node.out, code, base.layout)


def lower_one_hot(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.OneHot, node)
    t = w.read(node.x)
    count = call("torch.arange", w.number(node.axis.size), **on_device(w))
    w.define(node.out, Binary("==", Subscript(t.code, (Text("..."), Text("None"))), count), (*t.layout, (node.axis.label,)), kind="one_hot")


def lower_unfold(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Unfold, node)
    t = w.apart(w.read(node.x), node.over)
    dilated = node.dilation != ONE
    width = (node.window.size - ONE) * node.dilation + ONE if dilated else node.window.size
    code: Code = method(t.code, "unfold", along(t.layout, node.over), w.number(width), w.number(node.stride))
    if dilated:
        code = Subscript(code, (Text("..."), Text(f"::{node.dilation.value()}")))
    w.define(node.out, code, (*t.layout, (node.window.label,)), kind="windows")


def lower_child_param(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.ChildParam, node)
    code: Code = Text("self")
    for step in node.path:
        code = Attribute(code, step)
    layout = stored_layout(w, node)
    w.env[node.outs[0]] = Tensor(code, layout, sizes_of(node.outs[0].type))
