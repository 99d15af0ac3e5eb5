"""Products, matrix products and einsum in NumPy, and recurrences."""

from __future__ import annotations

from typing import cast

from ...compiler import ir
from ...compiler.ir import REST, Label
from ..python.bind_calls import apart_from
from ..python.code import Attribute, Binary, Call, Code, Subscript, Text, call
from ..python.layouts import Dim, Tensor, common_layout, flat
from ..python.shapes import along
from ..python.write_body import BodyWriter
from .pointwise import to_dtype


def lower_einsum(w: BodyWriter, node: ir.Node) -> None:
    """A product where nothing is summed; `x @ weight.T` for a parameter; else `np.einsum`."""
    node = cast(ir.Einsum, node)
    tensors = []
    for value in node.args:
        t = w.read(value)
        tensors.append(Tensor(to_dtype(w, t.code, value.type.dtype, node.out.type.dtype), t.layout, t.sizes))
    if not node.over:
        layout = common_layout([t.layout for t in tensors], node.out.type.labels)
        code: Code = w.spread(tensors[0], layout)
        for t in tensors[1:]:
            code = Binary("*", code, w.spread(t, layout))
        w.define(node.out, code, layout)
        return
    if len(tensors) == 2 and (_by_weight(w, node, tensors[0], tensors[1]) or _by_weight(w, node, tensors[1], tensors[0])):
        return
    _as_einsum(w, node, tensors)


def is_weight(t: Tensor) -> bool:
    code = t.code
    return isinstance(code, Subscript) and code.value == Text("params")


def _by_weight(w: BodyWriter, node: ir.Einsum, x: Tensor, weight: Tensor) -> bool:
    """`x @ weight.T` with a weight [out, in], `x @ weight` with one [in, out]."""
    over = set(node.over)
    outside = tuple(label for label in weight.labels if label not in over)
    inside = tuple(label for label in weight.labels if label in over)
    if is_weight(x) or not is_weight(weight) or not over <= set(x.labels):
        return False
    if set(inside) != over or not outside or any(label in x.labels for label in outside):
        return False
    rest = tuple(dim for dim in apart_from(x.layout, over) if not set(dim) & over)
    if weight.layout == (inside, outside):
        matrix = weight.code
    elif flat(weight.layout) == (*outside, *inside):
        matrix = Attribute(w.arranged(weight, (outside, inside)), "T")
    else:
        return False
    w.define(node.out, Binary("@", w.arranged(x, (*rest, inside)), matrix), (*rest, outside))
    return True


def _as_einsum(w: BodyWriter, node: ir.Einsum, tensors: list[Tensor]) -> None:
    """A letter for each dimension; merged dimensions stay merged where all operands merge them alike."""
    layouts = [apart_from(t.layout, set(node.over)) for t in tensors]
    groups: dict[Label, Dim] = {}
    for layout in layouts:
        for dim in layout:
            alike = all(dim in other or not set(dim) & set(flat(other)) for other in layouts)
            groups |= {label: dim if alike else (label,) for label in dim}
    ready: list[Tensor] = []
    for t in tensors:
        target = tuple(dict.fromkeys(groups[label] for label in t.labels))
        ready.append(Tensor(w.arranged(t, target), target, t.sizes))
    letters: dict[Dim, str] = {}
    for t in ready:
        for dim in t.layout:
            if dim not in letters:
                letters[dim] = "..." if REST in dim else _letter(dim, set(letters.values()))
    out = list(dict.fromkeys(d for t in ready for d in t.layout if d[0] not in node.over))
    wanted = list(node.out.type.labels)
    out.sort(key=lambda d: (REST not in d, wanted.index(d[0])))
    spec = ",".join("".join(letters[d] for d in t.layout) for t in ready) + "->" + "".join(letters[d] for d in out)
    code = Call(Text("np.einsum"), (Text(f'"{spec}"'), *(t.code for t in ready)), (("optimize", Text("True")),))
    w.define(node.out, code, tuple(out))


def _letter(dim: Dim, taken: set[str]) -> str:
    name = "".join(c for c in dim[0].name.lower() if "a" <= c <= "z")
    return next(c for c in name + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in taken)


def lower_linear_recurrence(w: BodyWriter, node: ir.Node, *start: Code) -> None:
    """`start`: the state before the first step, if it is not 0."""
    node = cast(ir.LinearRecurrence, node)
    for value in (node.a, node.b):
        if node.over in w.read(value).labels:
            w.env[value] = w.apart(w.read(value), node.over)
    layout, codes = w.aligned([node.a, node.b], node.out.type.labels)
    if not any(dim == (node.over,) for dim in layout):
        layout = apart_from(layout, {node.over})
        codes = [w.spread(w.read(v), layout) for v in (node.a, node.b)]
    code = call("linear_recurrence", *codes, along(layout, node.over), *start)
    w.define(node.out, code, layout, kind="h", pure=not start)
