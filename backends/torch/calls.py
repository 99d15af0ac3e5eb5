"""Applying children, functions, and stacks of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.dims import ONE, Expr
from ...compiler.ir import Label
from ..python.attention_axes import attend_axes
from ..python.bind_calls import apart_from, bind, out_layout, renamed
from ..python.choose_slots import slot_conditions
from ..python.code import Assign, Attribute, Call, Code, Items, Text, Var, call, method, number
from ..python.layouts import Dim, Layout, Tensor, flat, sizes_of
from ..python.name_parameters import native_of
from ..python.natives import Embedding, Fused, Linear, Norm
from ..python.write_body import BodyWriter
from .bank_inputs import BANK_INPUTS, state_inputs, training_inputs
from .cache.parts import counts, handed_on, keeps
from .pointwise import training_mode


def lower_call(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Call, node)
    module = node.target if isinstance(node.target, ir.Module) else _child_module(w, node.target)
    if isinstance(node.target, str) and _call_native(w, node, node.target, module):
        return
    bound = bind(w, module, node.args)
    plan = w.numbers.plans.of(module)
    if plan.is_function:
        numbers = [*(w.number(e, n) for n, e in w.numbers.plans.arguments(module)), *(training_mode(w) for _ in training_inputs(module))]
        function: Code = Text(plan.name)
    else:
        assert isinstance(node.target, str)
        numbers, function = [], Attribute(Text("self"), node.target)
        if plan.of.bank is not None:
            numbers = [Text(v) for v in BANK_INPUTS]
        numbers += [Text(v) for v in state_inputs(module)]
        numbers += cache_arguments(w, node, module)
    args = (w.numbers.plans.given(module, k, a) for k, a in enumerate(bound.args))
    code = Call(function, (*args, *numbers))
    kind = node.target if isinstance(node.target, str) else module.name
    layouts = [out_layout(w, f, a, bound) for f, a in zip(module.outputs, node.outs, strict=True)]
    if len(node.outs) == 1:
        w.define(node.out, code, layouts[0], kind=kind)
    else:
        w.define_several(node.outs, code, layouts, [f.hint or kind for f in module.outputs])


def cache_arguments(w: BodyWriter, node: ir.Call | ir.Fold, module: ir.Module, index: Code | None = None) -> list[Code]:
    """The part of the cache that a module is given, and where the tokens of the call stand."""
    part = [handed_on(w.module, w.numbers.is_root, node, index)] if keeps(module) else []
    return [*part, *([w.slots] if counts(module, w.numbers.plans.program) else [])]


def _child_module(w: BodyWriter, name: str) -> ir.Module:
    child = w.module.child(name)
    assert isinstance(child, ir.Child)
    return child.module


def _call_native(w: BodyWriter, node: ir.Call, name: str, module: ir.Module) -> bool:
    """Native modules act on the last dimension and leave the others as they lie."""
    fused = w.numbers.plans.fused_of(module)
    if fused is not None:
        _call_fused(w, node, name, fused)
        return True
    native = native_of(module)
    if native is None or not w.numbers.plans.of(module).is_native:
        return False
    t = w.read(node.args[0])
    labels, outs = node.args[0].type.labels, node.out.type.labels
    grouped_by = tuple(Text(v) for v in BANK_INPUTS) if w.numbers.plans.of(module).of.bank is not None else ()
    match native:
        case Linear():
            rest, code = _rows(w, t, labels[len(labels) - len(native.inside) :])
            outside = outs[len(outs) - len(native.outside) :]
            layout = (*renamed(rest, labels, outs), outside)
            if len(outside) > 1:
                made = Tensor(call(Attribute(Text("self"), name), code, *grouped_by), layout, sizes_of(node.out.type))
                layout = (*layout[:-1], *_head_dims(w, node.out, outside))
                w.define(node.out, w.arranged(made, layout), layout, kind=name)
                return True
        case Embedding():
            code, layout = t.code, (*renamed(t.layout, labels, outs), outs[len(outs) - len(native.outside) :])
        case Norm():
            rest = tuple(d for d in apart_from(t.layout, {labels[-1]}) if labels[-1] not in d)
            code = w.arranged(t, (*rest, labels[-1:]))
            layout = renamed((*rest, labels[-1:]), labels, outs)
    w.define(node.out, call(Attribute(Text("self"), name), code, *grouped_by), layout, kind=name)
    return True


def _rows(w: BodyWriter, t: Tensor, inside: tuple[Label, ...]) -> tuple[Layout, Code]:
    """What a linear map reads, the axes `inside` last and as one; and how the others lie."""
    rest = tuple(d for d in apart_from(t.layout, set(inside)) if not set(d) & set(inside))
    return rest, w.arranged(t, (*rest, inside))


def _call_fused(w: BodyWriter, node: ir.Call, name: str, fused: Fused) -> None:
    """One product, of which each part takes its columns; where all have heads of one size, its heads."""
    labels = node.args[0].type.labels
    rest, code = _rows(w, w.read(node.args[0]), labels[len(labels) - len(fused.whole.inside) :])
    grouped_by = tuple(Text(v) for v in BANK_INPUTS) if w.numbers.plan.of.bank is not None else ()
    rest = renamed(rest, labels, node.out.type.labels)
    made: Code = call(Attribute(Text("self"), name), code, *grouped_by)
    axes = [out.type.axes[len(out.type.axes) - len(part.outside) :] for out, part in zip(node.outs, fused.parts.values(), strict=True)]
    labels_of = [tuple(a.label for a in each) for each in axes]
    dims = [_head_dims(w, out, each) if len(each) > 1 else (each,) for out, each in zip(node.outs, labels_of, strict=True)]
    widths = {_size(each, d[-1]) for each, d in zip(axes, dims, strict=True)}
    by_heads = len(widths) == 1 and all(len(d) > 1 for d in dims)
    sizes = [_size(each, flat(d[:-1] if by_heads else d)) for each, d in zip(axes, dims, strict=True)]
    if by_heads:
        made = method(made, "unflatten", number(-1), Items((number(-1), w.number(widths.pop()))))
    axis = number(-2 if by_heads else -1)
    if len(set(sizes)) == 1:
        made = method(made, "chunk", number(len(sizes)), axis)
    else:
        made = w.temporary(made, "y", hint=fused.joined) if by_heads else made
        made = method(made, "split", Items(tuple(map(w.number, sizes))), axis)
    taken: list[Layout] = [(*rest, flat(d[:-1]), d[-1]) if by_heads else (*rest, flat(d)) for d in dims]
    wanted: list[Layout] = [(*rest, *d) for d in dims]
    if taken == wanted:
        w.define_several(node.outs, made, wanted, fused.short)
        return
    pieces = tuple(Var(kind=short) for short in fused.short)
    w.statements.append(Assign(pieces, made))
    for out, piece, lies, layout, short in zip(node.outs, pieces, taken, wanted, fused.short, strict=True):
        w.define(out, w.arranged(Tensor(piece, lies, sizes_of(out.type)), layout), layout, kind=short)


def _size(axes: Sequence[ir.Axis], labels: Sequence[Label]) -> Expr:
    size = ONE
    for axis in axes:
        size = size * axis.size if axis.label in labels else size
    return size


def _head_dims(w: BodyWriter, out: ir.Value, outside: tuple[Label, ...]) -> Layout:
    """The axes that a projection gives, those apart that a reader takes apart: head axes that attention reads as one stay one, and so do
    all of them where nothing reads them otherwise."""
    readers = [n for n in w.module.body if out in ir.operands(n)]
    if out not in ir.results(w.module) and readers and all(isinstance(n, ir.Flatten) and n.over == outside for n in readers):
        return (outside,)
    dims: list[Dim] = []
    left = outside
    runs = sorted(dict.fromkeys(attend_axes(n).heads for n in w.module.body if isinstance(n, ir.Attend)), key=len, reverse=True)
    while left:
        run = next((r for r in runs if r and left[: len(r)] == r), left[:1])
        dims.append(run)
        left = left[len(run) :]
    return tuple(dims)


_renamed = renamed
__all__ = ["_renamed", "bind", "lower_call", "out_layout", "slot_conditions"]
