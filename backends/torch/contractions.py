"""Einsum and recurrences in torch."""

from __future__ import annotations

from typing import cast

from ...compiler import ir
from ...compiler.ir import REST, Label, Value
from ..python.bind_calls import apart_from
from ..python.code import Assign, Attribute, Binary, Block, Call, Code, Subscript, Text, call, method, number
from ..python.layouts import Dim, Layout, Tensor, common_layout, flat, has
from ..python.write_body import BodyWriter
from .cache.nodes import continue_recurrence, recurrence_start
from .convolutions import lower_convolution
from .pointwise import reference, to_dtype


def lower_einsum(w: BodyWriter, node: ir.Node) -> None:
    """A contraction; one of float32 stands outside autocast."""
    node = cast(ir.Einsum, node)
    outer, w.statements = w.statements, []
    _lower(w, node)
    inner = w.statements
    w.statements = outer
    if node.out.type.dtype == "float32" and node.over and all(isinstance(s, Assign) for s in inner):
        w.helpers.add("without_autocast")
        inner = [Block(call("without_autocast", reference(w, floating=False)), "with", tuple(inner))]
    w.statements += inner


def _lower(w: BodyWriter, node: ir.Einsum) -> None:
    """A convolution; a product where nothing is summed; `F.linear` for activations by a weight; `@` for plain matrix products; else `torch.einsum`."""
    if lower_convolution(w, node):
        return
    dtype = node.out.type.dtype
    tensors = []
    for v in node.args:
        t = w.read(v)
        tensors.append(Tensor(to_dtype(w, t.code, v.type.dtype, dtype), t.layout, t.sizes))
    if not node.over:
        layout = common_layout([t.layout for t in tensors], node.out.type.labels)
        code: Code = w.spread(tensors[0], layout)
        for t in tensors[1:]:
            code = Binary("*", code, w.spread(t, layout))
        w.define(node.out, code, layout)
        return
    if len(tensors) == 2 and (_as_linear(w, node, tensors[0], tensors[1]) or _as_linear(w, node, tensors[1], tensors[0])):
        return
    _as_einsum(w, node, tensors)


def is_weight(w: BodyWriter, t: Tensor) -> bool:
    code = t.code
    if isinstance(code, Call) and code.function == Text("float32"):
        code = code.args[0]
    while isinstance(code, Attribute):
        code = code.value
    return isinstance(code, Text) and code.text.startswith("self")


def _as_linear(w: BodyWriter, node: ir.Einsum, x: Tensor, weight: Tensor) -> bool:
    """F.linear(x, weight), the weight [out, in] or, as `x @ weight`, [in, out]."""
    over = set(node.over)
    if is_weight(w, x) or not is_weight(w, weight) or not over <= set(x.labels):
        return False
    outside = [label for label in weight.labels if label not in over]
    inside = tuple(label for label in weight.labels if label in over)
    if set(inside) != over or not outside or any(label in x.labels for label in outside):
        return False
    rest = tuple(dim for dim in apart_from(x.layout, over) if not set(dim) & over)
    merged = (tuple(outside), inside)
    if weight.layout == (inside, tuple(outside)) and len(weight.layout) == 2:
        w.define(node.out, Binary("@", w.arranged(x, (*rest, inside)), weight.code), (*rest, tuple(outside)))
        return True
    if flat(weight.layout) != flat(merged):
        return False
    w.define(node.out, call("F.linear", w.arranged(x, (*rest, inside)), w.arranged(weight, merged)), (*rest, tuple(outside)))
    return True


def _as_einsum(w: BodyWriter, node: ir.Einsum, tensors: list[Tensor]) -> None:
    """Letters for dimensions; merged dimensions stay merged where all operands merge them alike."""
    layouts = [apart_from(t.layout, set(node.over)) for t in tensors]
    groups: dict[Label, Dim] = {}
    for layout in layouts:
        for dim in layout:
            shared = all(dim in other or not set(dim) & set(flat(other)) for other in layouts)
            for label in dim:
                groups[label] = dim if shared else (label,)
    ready: list[Tensor] = []
    for t in tensors:
        target = tuple(dict.fromkeys(groups[label] for label in t.labels))
        ready.append(Tensor(w.arranged(t, target), target, t.sizes))
    letters: dict[Dim, str] = {}
    for t in ready:
        for dim in t.layout:
            if dim not in letters:
                letters[dim] = "..." if REST in dim else _letter(dim, set(letters.values()))
    lead = ready[0].layout
    out: list[Dim] = [d for d in lead if d[0] not in node.over]
    for t in ready[1:]:
        out += [d for d in t.layout if d[0] not in node.over and d not in out]
    wanted = list(node.out.type.labels)
    out.sort(key=lambda d: (REST not in d, wanted.index(d[0])))
    spec = ",".join("".join(letters[d] for d in t.layout) for t in ready) + "->" + "".join(letters[d] for d in out)
    w.define(node.out, call("torch.einsum", Text(f'"{spec}"'), *(t.code for t in ready)), tuple(out))


def _letter(dim: Dim, taken: set[str]) -> str:
    name = "".join(c for c in dim[0].name.lower() if "a" <= c <= "z")
    return next(c for c in name + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in taken)


def with_time(w: BodyWriter, t: Tensor, layout: Layout, over: ir.Axis) -> Code:
    """The operand with every dimension there, of size one where it has none, but all of the time."""
    code = w.spread(t, layout)
    missing = [not any(has(t.layout, label) for label in dim) for dim in layout]
    lead = missing.index(False) if False in missing else len(missing)
    if lead:
        code = Subscript(code, (Text("None"),) * lead + (() if lead == len(layout) else (Text("..."),)))
    if not has(t.layout, over.label):
        code = method(code, "expand", *(w.number(over.size) if dim == (over.label,) else number(-1) for dim in layout))
    return code


def lower_linear_recurrence(w: BodyWriter, node: ir.Node) -> None:
    """Calls the helper, which takes both operands in one shape with the axis of time second."""
    node = cast(ir.LinearRecurrence, node)
    values: list[Value] = [node.a, node.b]
    tensors = [w.apart(w.read(v), node.over) for v in values]
    layout = common_layout([t.layout for t in tensors], node.out.type.labels)
    at = layout.index((node.over,))
    codes = [with_time(w, t, layout, node.out.type.axis(node.over)) for t in tensors]
    if not node.entry:
        w.helpers.add("linear_recurrence")
        start = (Text("None"),) if _continues(w.numbers.plans.program) else ()
        w.define(node.out, call("linear_recurrence", *codes, number(at), *start), layout, kind="h")
        return
    w.helpers.add("linear_recurrence_from")
    code = call("linear_recurrence", *codes, number(at), recurrence_start(w, node, layout))
    w.define(node.out, code, layout, kind="h")
    continue_recurrence(w, node)


def _continues(program: ir.Program) -> bool:
    """Whether some recurrence goes on from the call before, so that the helper takes where it starts."""
    return any(isinstance(n, ir.LinearRecurrence) and n.entry for m in ir.walk(program.root) for n in m.body)
