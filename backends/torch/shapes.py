"""Splitting, joining, slicing and indexing in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.dims import ONE, Expr
from ...compiler.ir import REST, Label, Value
from ..python.code import Attribute, Binary, Call, Code, Items, Range, Subscript, Text, Unary, call, method, number
from ..python.layouts import Dim, Layout, Tensor, axis_number, common_layout, flat, has, place, relabel, sizes_of
from ..python.name_parameters import native_of
from ..python.natives import Embedding, Linear
from ..python.write_body import BodyWriter
from .pointwise import along, on_device, to_dtype

ALL = Range()


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


def lower_expand(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Expand, node)
    t = w.read(node.x)
    layout = (*((a.label,) for a in node.axes), *t.layout)
    sizes = [w.number(a.size) for a in node.axes]
    if REST in t.labels:
        w.refuse("an expansion of a tensor of any rank")
    w.define(node.out, method(t.code, "expand", *sizes, *(number(-1) for _ in t.layout)), layout)


def lower_squeeze(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Squeeze, node)
    t = w.apart(w.read(node.x), node.over)
    w.define(node.out, method(t.code, "squeeze", along(t.layout, node.over)), tuple(d for d in t.layout if d != (node.over,)))


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


def lower_slice(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Slice, node)
    t = w.apart(w.read(node.x), node.over)
    size = node.x.type.axis(node.over).size
    w.define(node.out, _subscript(t, {node.over: slice_code(w, node.start, node.stop, size)}), t.layout)


def slice_code(w: BodyWriter, start: Expr, stop: Expr, size: Expr) -> Range:
    """`a:b`, counting from the end where the distance to it does not depend on the size."""
    return Range(None if start.constant == 0 else _bound(w, start, size), None if stop == size else _bound(w, stop, size))


def _bound(w: BodyWriter, at: Expr, size: Expr) -> Code:
    left = size - at
    if at.is_dynamic and not left.is_dynamic:
        return Unary("-", w.number(left)) if len(left.terms) == 1 else w.number(-left)
    return w.number(at)


def _subscript(t: Tensor, items: dict[Label, Code]) -> Code:
    """`x[:, a:b]` or `x[..., i]`: whichever is shorter."""
    codes = [items.get(dim[0], ALL) if len(dim) == 1 else ALL for dim in t.layout]
    touched = [k for k, c in enumerate(codes) if c is not ALL]
    if touched[0] == len(codes) - 1 and (len(codes) > 2 or any(REST in dim for dim in t.layout)):
        return Subscript(t.code, (Text("..."), codes[-1]))
    if any(REST in dim for dim in t.layout[: touched[-1]]):
        start = next(k for k, dim in enumerate(t.layout) if REST in dim)
        return Subscript(t.code, (*codes[:start], Text("..."), *codes[start + 1 :]))
    return Subscript(t.code, tuple(codes[: touched[-1] + 1]))


# ---------------------------------------------------------------- indexing by tensors


def lower_take(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Take, node)
    t = w.apart(w.read(node.x), *node.over)
    fixed = {label: w.number(i) for label, i in zip(node.over, node.indices, strict=True) if isinstance(i, Expr)}
    tensors = {label: i for label, i in zip(node.over, node.indices, strict=True) if isinstance(i, Value)}
    if fixed and not tensors:
        w.define(node.out, _subscript(t, fixed), tuple(d for d in t.layout if d[0] not in fixed))
        return
    shared = {label for i in tensors.values() for label in i.type.labels if has(t.layout, label) and label not in tensors}
    if len(tensors) == 1 and not fixed and _along_dim(w, node, t, shared):
        return
    _index(w, node, w.apart(t, *shared), fixed, tensors, shared)


def _along_dim(w: BodyWriter, node: ir.Take, t: Tensor, shared: set[Label]) -> bool:
    """`take_along_dim`, where the index has every axis of x but the one it replaces by one of its own."""
    label, index = node.over[0], node.indices[0]
    assert isinstance(index, Value)
    new = [x for x in index.type.labels if x not in shared]
    others = [x for x in t.labels if x is not label]
    if len(new) != 1 or set(others) != shared or len(others) == 0:
        return False
    layout = relabel(t.layout, [label], new)
    code = w.arranged(w.read(index), layout)
    w.define(node.out, method(t.code, "gather", along(t.layout, label), code), layout)
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
            count = call("torch.arange", w.size((label,), t.sizes), **on_device(w))
            items.append(w.spread(Tensor(count, ((label,),)), block))
        else:
            items.append(ALL)
    places = [k for k, c in enumerate(items) if c is not ALL]
    together = places == list(range(places[0], places[-1] + 1))
    kept: list[Layout] = [(dim,) for dim, c in zip(t.layout, items, strict=True) if c is ALL]
    before = places[0] if together else 0
    layout = tuple(d for part in [*kept[:before], block, *kept[before:]] for d in part)
    w.define(node.out, Subscript(t.code, tuple(items[: places[-1] + 1])), layout)


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


def stored_layout(w: BodyWriter, node: ir.ChildParam) -> Layout:
    """How the child stores it: a native linear merges its output axes, and its input axes."""
    module = w.module
    for step in node.path[:-1]:
        child = module.child(step)
        assert not isinstance(child, ir.Stack)
        module = child.module
    labels = node.outs[0].type.labels
    match native_of(module):
        case Linear(inside=inside) if node.path[-1] == "weight":
            return (labels[: -len(inside)], labels[-len(inside) :])
        case Linear():
            return (labels,)
        case Embedding():
            return (labels[:1], labels[1:])
        case _:
            return tuple((label,) for label in labels)


def axis_of(layout: Layout, label: Label) -> int:
    return axis_number(layout, place(layout, label))
