"""Linear maps of one value as one map, in a file that is compiled so: one product instead of several (`q`, `k` and `v` of the same `x`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace

from ...compiler import ir
from ...compiler.decoding.absorb_maps import find_absorbed
from ...compiler.decoding.common import Length
from ...compiler.diagnostics import Diagnostics
from ...compiler.dims import ZERO
from ...compiler.ir import Axis, Label, Type, Value
from ...compiler.operations import Body
from ...grammar.frozen import frozen
from ..python.name_attributes import is_taken
from ..python.name_parameters import modules_at, native_of
from ..python.natives import Fused, Linear
from .cache.parts import first_of
from .recurrent_kernels import kernel_of

ARGUMENTS = frozenset(("self", "experts", "size_in", "bias", "std"))
"""What the class of fused maps is told besides the sizes of its parts."""


@frozen(eq=False)
class _Map:
    """A child that is a linear map, and its one use."""

    node: ir.Call
    name: str
    module: ir.Module
    linear: Linear


def fuse_linear_maps(program: ir.Program) -> tuple[ir.Program, dict[Value, Fused]]:
    """Requires: parameters have the names of generated code. Ensures: linear maps of one value in one module that start alike, all with a bias or
    all without, are one child with several results; what it stands for is told by its weight. Rows of the checkpoint still name the parts.

    Leaves alone: the model's own body (of its maps, some are for losses alone), maps that are applied several times, whose weights somebody else
    reads, that have another form for a few tokens, or that a kernel takes."""
    read = _read_from_outside(program.root)
    decoding = program.decoding
    length = None if decoding is None else Length(decoding.rows, decoding.length)
    fused: dict[Value, Fused] = {}

    def change(module: ir.Module) -> ir.Module:
        if module.inputs is program.root.inputs:
            return module
        kept = {n for a in find_absorbed(module, length).values() for n in a.path} if length is not None else set[ir.Node]()
        groups = [g for g in _groups(module, kept, read) if len(g) > 1]
        for group in groups:
            module = _with_fused(module, group, fused)
        return module

    return replace(program, root=ir.rewrite(program.root, change)), fused


def _read_from_outside(root: ir.Module) -> set[Value]:
    """Parameters that an owner reads by their path."""
    found: set[Value] = set()
    for module in ir.walk(root):
        for node in module.body:
            if isinstance(node, ir.ChildParam):
                found |= {p.value for m in modules_at(module, node.path[:-1]) for p in m.params if p.name == node.path[-1]}
    return found


def _groups(module: ir.Module, kept: Collection[ir.Node], read: Collection[Value]) -> list[list[_Map]]:
    """The linear maps of a module that can be one."""
    kernels = [k for n in module.body if isinstance(n, ir.Scan) and (k := kernel_of(n, module)) is not None]
    alone = {name for k in kernels for name in (k.from_x[0], k.from_h[0])}
    uses = Counter(n.target for n in module.body if isinstance(n, ir.Call | ir.Fold | ir.Scan | ir.Route | ir.Pairwise))
    shared = Counter(c.module.params[0].value for c in module.children if isinstance(c, ir.Child) and c.module.params)
    first = first_of(module).nodes
    lasting = ir.made_by(module.body, [*module.outputs, *(s.next for s in module.states)])
    groups: dict[Hashable, list[_Map]] = {}
    for node in module.body:
        found = _linear_map(node, module)
        if found is None or node in kept or found.name in alone | ARGUMENTS or uses[found.name] > 1:
            continue
        linear = found.linear
        if shared[linear.weight.value] > 1 or any(p.value in read for p in found.module.params):
            continue
        key = (
            found.node.args[0], len(linear.inside), linear.size_in, linear.weight.type.dtype, node in first, node in lasting,
            _start(linear.weight), None if linear.bias is None else _start(linear.bias),
        )  # fmt: skip
        groups.setdefault(key, []).append(found)
    return list(groups.values())


def _linear_map(node: ir.Node, module: ir.Module) -> _Map | None:
    if not isinstance(node, ir.Call) or not isinstance(node.target, str):
        return None
    child = module.child(node.target)
    native = native_of(child.module) if isinstance(child, ir.Child) else None
    return _Map(node, node.target, child.module, native) if isinstance(child, ir.Child) and isinstance(native, Linear) else None


def _start(param: ir.Param) -> Hashable:
    return param.init.kind, param.init.numbers


def _with_fused(module: ir.Module, group: Sequence[_Map], fused: dict[Value, Fused]) -> ir.Module:
    """The module with one child in the place of several, and one use of it in the place of the first."""
    names = [m.name for m in group]
    name, short = joined_name(names)
    taken = {*(c.name for c in module.children), *(p.name for p in module.params)}
    while name in taken or is_taken(name):
        name += "_"
    joint = _joint_module(group, short, fused)
    first, gone = group[0], {m.node for m in group}
    call = ir.Call(outs=tuple(m.node.out for m in group), span=first.node.span, target=name, args=first.node.args)
    children = [ir.Child(name=name, module=joint) if c.name == first.name else c for c in module.children if c.name not in names[1:]]
    body = [call if n is first.node else n for n in module.body if n is first.node or n not in gone]
    return replace(module, children=tuple(children), body=tuple(body))


def _joint_module(group: Sequence[_Map], short: Sequence[str], fused: dict[Value, Fused]) -> ir.Module:
    """The maps of a group one below another: one contraction, taken apart."""
    first, span = group[0], group[0].module.span
    body = Body([], Diagnostics(), [])
    x = Value(first.module.inputs[0].type, "x")
    inside = x.type.labels[len(x.type.labels) - len(first.linear.inside) :]
    summed = tuple(Label(label.name) for label in inside)
    total = sum((m.linear.size_out for m in group), ZERO)
    rows = Axis(Label("joint"), total)
    columns = (Axis(new, x.type.axis(old).size) for old, new in zip(inside, summed, strict=True))
    weight = replace(first.linear.weight, value=Value(Type((rows, *columns)), "weight"))
    y = body.einsum((body.rename(x, inside, summed, span), weight.value), summed, span)
    bias = None if first.linear.bias is None else replace(first.linear.bias, value=Value(Type((rows,)), "bias"))
    if bias is not None:
        y = body.elementwise("add", (y, bias.value), span)
    labels = [Label(m.name) for m in group]
    pieces = body.split(y, rows.label, [m.linear.size_out for m in group], labels, span)
    outs: list[Value] = []
    for m, label, piece in zip(group, labels, pieces, strict=True):
        axes = m.linear.weight.type.axes[: len(m.linear.outside)]
        outs.append(body.unflatten(piece, label, axes, span) if len(axes) > 1 else piece)
    whole = Linear(
        inside=summed, outside=(rows.label,), size_in=first.linear.size_in, size_out=total, weight=weight, bias=bias,
    )  # fmt: skip
    fused[weight.value] = Fused(whole=whole, parts={m.name: m.linear for m in group}, short=tuple(short), joined=_together(short))
    return ir.Module(
        name="fused_linear", inputs=(x,), outputs=tuple(outs), output_names=tuple(m.name for m in group), children=(), body=tuple(body.nodes),
        params=(weight,) if bias is None else (weight, bias), locals=(), captured=0, doc="", span=span,
    )  # fmt: skip


def joined_name(names: Sequence[str]) -> tuple[str, list[str]]:
    """`qkv_proj` for `q_proj`, `k_proj`, `v_proj`, `gate_up` for `gate` and `up`: words that all begin or end with are said once; and what each has of its own."""
    words = [name.split("_") for name in names]
    front = _common(words)
    back = _common([w[::-1] for w in words])
    shortest = min(map(len, words))
    front = min(front, shortest - 1)
    back = min(back, shortest - 1 - front)
    own = ["_".join(w[front : len(w) - back]) for w in words]
    return "_".join((*words[0][:front], _together(own), *words[0][len(words[0]) - back :])), own


def _together(words: Sequence[str]) -> str:
    return ("" if all(len(w) == 1 for w in words) else "_").join(words)


def _common(words: Sequence[Sequence[str]]) -> int:
    """How many first words are the same in all."""
    count = 0
    for each in zip(*words, strict=False):
        if len(set(each)) > 1:
            break
        count += 1
    return count
