"""Splitting, joining, slicing and indexing in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.dims import ZERO, Expr
from ...compiler.ir import REST, Label, Value
from ..python.code import Binary, Code, Items, Subscript, Text, call, method, number
from ..python.layouts import Layout, Tensor, common_layout, flat, has, relabel, sizes_of
from ..python.name_parameters import native_of
from ..python.natives import Embedding, Linear
from ..python.write_body import BodyWriter
from ..torch.shapes import ALL, lower_flatten, lower_rename, lower_transpose, lower_unflatten, slice_code
from ..torch.shapes import _subscript as subscript
from .pointwise import along, to_dtype

__all__ = ["lower_flatten", "lower_rename", "lower_transpose", "lower_unflatten"]


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


def lower_squeeze(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Squeeze, node)
    t = w.apart(w.read(node.x), node.over)
    w.define(node.out, method(t.code, "squeeze", along(t.layout, node.over)), tuple(d for d in t.layout if d != (node.over,)))


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


def lower_slice(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Slice, node)
    t = w.apart(w.read(node.x), node.over)
    size = node.x.type.axis(node.over).size
    w.define(node.out, subscript(t, {node.over: slice_code(w, node.start, node.stop, size)}), t.layout)


# ---------------------------------------------------------------- indexing by tensors


def lower_take(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Take, node)
    t = w.apart(w.read(node.x), *node.over)
    fixed = {label: w.number(i) for label, i in zip(node.over, node.indices, strict=True) if isinstance(i, Expr)}
    tensors = {label: i for label, i in zip(node.over, node.indices, strict=True) if isinstance(i, Value)}
    if fixed and not tensors:
        w.define(node.out, subscript(t, fixed), tuple(d for d in t.layout if d[0] not in fixed))
        return
    shared = {label for i in tensors.values() for label in i.type.labels if has(t.layout, label) and label not in tensors}
    if len(tensors) == 1 and not fixed and _along_axis(w, node, t, shared):
        return
    _index(w, node, w.apart(t, *shared), fixed, tensors, shared)


def _along_axis(w: BodyWriter, node: ir.Take, t: Tensor, shared: set[Label]) -> bool:
    """`np.take_along_axis`, where the index has every axis of x but the one it replaces by one of its own."""
    label, index = node.over[0], node.indices[0]
    assert isinstance(index, Value)
    new = [x for x in index.type.labels if x not in shared]
    if len(new) != 1 or {x for x in t.labels if x is not label} != shared or not shared:
        return False
    layout = relabel(t.layout, [label], new)
    code = w.arranged(w.read(index), layout)
    w.define(node.out, call("np.take_along_axis", t.code, code, along(t.layout, label)), layout)
    return True


def _index(w: BodyWriter, node: ir.Take, t: Tensor, fixed: dict[Label, Code], tensors: dict[Label, Value], shared: set[Label]) -> None:
    """x[:, i, j]: the indices broadcast to one block of dimensions; a shared axis becomes an index 0, 1, ... of its own."""
    layouts = [w.read(i).layout for i in tensors.values()]
    block = common_layout(layouts, [x for i in tensors.values() for x in i.type.labels])
    if any(len(dim) > 1 and set(dim) & shared for dim in block):
        block = tuple((label,) for label in flat(block))
    items: list[Code] = []
    for dim in t.layout:
        label = dim[0]
        if label in fixed:
            items.append(fixed[label])
        elif label in tensors:
            items.append(w.spread(w.read(tensors[label]), block))
        elif label in shared:
            items.append(w.spread(Tensor(call("np.arange", w.size((label,), t.sizes)), ((label,),)), block))
        else:
            items.append(ALL)
    if any(REST in dim for dim in t.layout):
        w.refuse("an index into a tensor of any rank")
    places = [k for k, c in enumerate(items) if c is not ALL]
    together = places == list(range(places[0], places[-1] + 1))
    kept: list[Layout] = [(dim,) for dim, c in zip(t.layout, items, strict=True) if c is ALL]
    before = places[0] if together else 0
    layout = tuple(d for part in [*kept[:before], block, *kept[before:]] for d in part)
    w.define(node.out, Subscript(t.code, tuple(items[: places[-1] + 1])), layout)


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
    """A parameter of a child, as it is stored: a linear merges its output axes and its input axes, an embedding its width."""
    node = cast(ir.ChildParam, node)
    module = w.module
    for step in node.path[:-1]:
        child = module.child(step)
        if isinstance(child, ir.Stack):
            w.refuse("a parameter of one layer of a stack")
        module = child.module
    labels = node.out.type.labels
    layout: Layout = tuple((label,) for label in labels)
    match native_of(module):
        case Linear(inside=inside) if node.path[-1] == "weight":
            layout = (labels[: -len(inside)], labels[-len(inside) :])
        case Linear():
            layout = (labels,)
        case Embedding():
            layout = (labels[:1], labels[1:])
    name = ".".join(node.path)
    w.env[node.out] = Tensor(Subscript(Text("params"), (Text(f'"{name}"'),)), layout, sizes_of(node.out.type))
