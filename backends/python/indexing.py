"""Indexing by tensors, and parameters of children: alike in every dialect but for two calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import REST, Label, Value
from ...grammar.frozen import frozen
from .code import Code, Subscript, Text
from .layouts import Layout, Tensor, common_layout, flat, has, relabel
from .name_parameters import native_of
from .natives import Embedding, Linear
from .shapes import ALL, along, subscript
from .write_body import BodyWriter

REST_OF_AXES = Text("...")


@frozen(kw_only=True)
class Indexing:
    """`count(w, n)` is 0, 1, ..., n - 1; `gather(x, axis, index)` takes along one axis where the other axes are those of x;
    `slice(x, axis, index)` takes the slice that a tensor without axes numbers, where indexing does not."""

    count: Callable[[BodyWriter, Code], Code]
    gather: Callable[[Code, Code, Code], Code]
    slice: Callable[[Code, Code, Code], Code] | None = None

    def lower_take(self, w: BodyWriter, node: ir.Node) -> None:
        node = cast(ir.Take, node)
        t = w.apart(w.read(node.x), *node.over)
        fixed = {label: w.number(i) for label, i in zip(node.over, node.indices, strict=True) if isinstance(i, Expr)}
        tensors = {label: i for label, i in zip(node.over, node.indices, strict=True) if isinstance(i, Value)}
        if fixed and not tensors:
            w.define(node.out, subscript(t, fixed), tuple(d for d in t.layout if d[0] not in fixed))
            return
        shared = {label for i in tensors.values() for label in i.type.labels if has(t.layout, label) and label not in tensors}
        if len(tensors) == 1 and not fixed and (self._slice(w, node, t) or self._gather(w, node, t, shared)):
            return
        self._index(w, node, w.apart(t, *shared), fixed, tensors, shared)

    def _slice(self, w: BodyWriter, node: ir.Take, t: Tensor) -> bool:
        label, index = node.over[0], node.indices[0]
        assert isinstance(index, Value)
        if self.slice is None or index.type.labels:
            return False
        w.define(node.out, self.slice(t.code, along(t.layout, label), w.read(index).code), tuple(d for d in t.layout if d[0] is not label))
        return True

    def _gather(self, w: BodyWriter, node: ir.Take, t: Tensor, shared: set[Label]) -> bool:
        """Where the index has every axis of x but the one it replaces by one of its own."""
        label, index = node.over[0], node.indices[0]
        assert isinstance(index, Value)
        new = [x for x in index.type.labels if x not in shared]
        if len(new) != 1 or {x for x in t.labels if x is not label} != shared or not shared:
            return False
        layout = relabel(t.layout, [label], new)
        w.define(node.out, self.gather(t.code, along(t.layout, label), w.arranged(w.read(index), layout)), layout)
        return True

    def _index(
        self, w: BodyWriter, node: ir.Take, t: Tensor, fixed: dict[Label, Code], tensors: dict[Label, Value], shared: set[Label]
    ) -> None:
        """x[:, i, j]: the indices broadcast to one block of dimensions; a shared axis becomes an index 0, 1, ... of its own. What the result
        declares first stands first, so that it is written in that order and not turned afterwards."""
        layouts = [w.read(i).layout for i in tensors.values()]
        block = common_layout(layouts, node.out.type.labels)
        if any(len(dim) > 1 and set(dim) & shared for dim in block):
            block = tuple((label,) for label in flat(block))
        kept_dims = tuple(dim for dim in t.layout if not set(dim) & {*fixed, *tensors, *shared})
        if tensors and node.out.type.labels[: len(flat(kept_dims))] == flat(kept_dims):
            layout = (*kept_dims, *(dim for dim in t.layout if dim not in kept_dims))
            t = Tensor(w.arranged(t, layout), layout, t.sizes)
        items: list[Code] = []
        for dim in t.layout:
            label = dim[0]
            if label in fixed:
                items.append(fixed[label])
            elif label in tensors:
                items.append(w.spread(w.read(tensors[label]), block))
            elif label in shared:
                items.append(w.spread(Tensor(self.count(w, w.size((label,), t.sizes)), ((label,),)), block))
            else:
                items.append(REST_OF_AXES if REST in dim else ALL)
        places = [k for k, c in enumerate(items) if c not in (ALL, REST_OF_AXES)]
        together = places == list(range(places[0], places[-1] + 1))
        kept: list[Layout] = [(dim,) for dim, c in zip(t.layout, items, strict=True) if c in (ALL, REST_OF_AXES)]
        before = places[0] if together else 0
        layout = tuple(d for part in [*kept[:before], block, *kept[before:]] for d in part)
        w.define(node.out, Subscript(t.code, tuple(items[: places[-1] + 1])), layout)


def stored_layout(w: BodyWriter, node: ir.ChildParam) -> Layout:
    """How a parameter of a child is stored: a native linear merges its output axes and its input axes, an embedding its width."""
    module = w.module
    for step in node.path[:-1]:
        child = module.child(step)
        if isinstance(child, ir.Stack):
            w.refuse("a parameter of one layer of a stack")
        module = child.module
    labels = node.out.type.labels
    match native_of(module):
        case Linear(inside=inside) if node.path[-1] == "weight":
            return (labels[: -len(inside)], labels[-len(inside) :])
        case Linear():
            return (labels,)
        case Embedding():
            return (labels[:1], labels[1:])
        case _:
            return tuple((label,) for label in labels)
