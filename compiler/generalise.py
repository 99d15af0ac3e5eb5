"""Modules that never look at the axes behind `...` are kept once for all ranks."""

from __future__ import annotations

from dataclasses import replace

from . import ir


def generalise_rest(module: ir.Module, rests: tuple[tuple[ir.Axis, ...], ...]) -> ir.Module:
    """Replace the axes that `...` stood for by REST, when the body treats them as one.

    Requires: all `...` of the signature stood for the same axes. Ensures: the module means the same, and fits arguments of any rank.
    Leaves alone a module in which some value has only part of them, a node names one of them, or a captured value has one."""
    if not rests or not rests[0] or any(r != rests[0] for r in rests) or module.captured:
        return module
    pack = tuple(a.label for a in rests[0])
    mapping: dict[ir.Value, ir.Value] = {}

    def change(value: ir.Value) -> bool:
        kind = pack_type(value.type, pack)
        if kind is None:
            return False
        mapping[value] = value if kind is value.type else ir.Value(kind, value.hint, value.span)
        return True

    if not all(change(v) for v in module.inputs):
        return module
    body: list[ir.Node] = []
    for node in module.body:
        if any(True for _ in ir.regions(node)) or isinstance(node, ir.Index | ir.Full | ir.Expand) or _names_one(node, pack):
            return module
        if not all(change(v) for v in node.outs) or (isinstance(node, ir.Call) and not _fits(node, module, mapping)):
            return module
        body.append(replace(ir.replace_values(node, mapping), outs=tuple(mapping[v] for v in node.outs)))
    if any(v not in mapping for v in module.outputs):
        return module
    return replace(
        module, inputs=tuple(mapping[v] for v in module.inputs), outputs=tuple(mapping[v] for v in module.outputs), body=tuple(body)
    )


def _fits(node: ir.Call, module: ir.Module, mapping: dict[ir.Value, ir.Value]) -> bool:
    """Whether what is called is as general as what it would be given."""
    target = node.target if isinstance(node.target, ir.Module) else module.child(node.target).module  # type: ignore[union-attr]
    pairs = zip((*target.inputs, *target.outputs), (*node.args, *node.outs), strict=True)
    return all(formal.type.has(ir.REST) or mapping.get(v, v) is v for formal, v in pairs)


def pack_type(kind: ir.Type, pack: tuple[ir.Label, ...]) -> ir.Type | None:
    """The type with REST in place of all of `pack`, which stand first; itself if it has none of them, none else: behind other axes, a tensor
    that lacks them would have to be told how many they are."""
    labels = kind.labels
    present = [label in pack for label in labels]
    if not any(present):
        return kind
    if labels[: len(pack)] != pack or sum(present) != len(pack):
        return None
    return ir.Type((ir.Axis(ir.REST, kind.axes[0].size), *kind.axes[len(pack) :]), kind.dtype)


def _names_one(node: ir.Op, pack: tuple[ir.Label, ...]) -> bool:
    for name in ("over", "old", "new", "labels", "label", "choice"):
        found = getattr(node, name, ())
        labels = found if isinstance(found, tuple) else (found,)
        if any(x in pack for x in labels if isinstance(x, ir.Label)):
            return True
    return False
