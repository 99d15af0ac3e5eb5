"""Head axes that attention reads as one are one in the functions between: what rotates queries need not know of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields, replace

from ...compiler import ir
from ...compiler.dims import ONE
from ...compiler.ir import REST, Axis, Label, Type, Value
from ...grammar.frozen import mutable
from .attention_axes import attend_axes

Groups = tuple[int, ...]
"""For each axis of a formal, how many axes of the argument it stands for."""


@mutable
class Merged:
    """`groups` of the inputs and outputs of functions whose axes were merged."""

    groups: dict[Value, Groups] = field(default_factory=dict)


def merge_heads(program: ir.Program) -> tuple[ir.Program, Merged]:
    """In modules with an Attend over several head axes, call functions with these axes merged, where the function treats them as one.

    Ensures: functions called so have one axis in the place of several; `Merged` says which. Leaves alone: types in the callers."""
    merged = Merged()

    def change(module: ir.Module) -> ir.Module:
        runs = list(dict.fromkeys(attend_axes(n).heads for n in module.body if isinstance(n, ir.Attend)))
        runs = [r for r in runs if len(r) > 1]
        if not runs:
            return module
        return replace(module, body=tuple(_call(n, module, runs, merged) if isinstance(n, ir.Call) else n for n in module.body))

    return replace(program, root=ir.rewrite(program.root, change)), merged


def _call(node: ir.Call, module: ir.Module, runs: Sequence[tuple[Label, ...]], merged: Merged) -> ir.Call:
    target = node.target if isinstance(node.target, ir.Module) else module.child(node.target).module  # type: ignore[union-attr]
    if not target.is_function or not node.args:
        return node
    groups = [_groups(a.type, runs) for a in node.args]
    if all(g is None for g in groups) or any(v.type.has(REST) for v in target.inputs):
        return node
    new = _Merge(target, merged).run(groups)
    return node if new is None else replace(node, target=new)


def _groups(kind: Type, runs: Sequence[tuple[Label, ...]]) -> Groups | None:
    labels = kind.labels
    for run in runs:
        for at in range(len(labels) - len(run) + 1):
            if labels[at : at + len(run)] == run:
                return (*(1,) * at, len(run), *(1,) * (len(labels) - at - len(run)))
    return None


class _Merge:
    """One function, rewritten so that some runs of axes of its inputs are single axes."""

    def __init__(self, module: ir.Module, merged: Merged) -> None:
        self.module = module
        self.merged = merged
        self.runs: list[tuple[Label, ...]] = []
        self.labels: dict[tuple[Label, ...], Label] = {}
        self.values: dict[Value, Value] = {}

    def run(self, groups: Sequence[Groups | None]) -> ir.Module | None:
        for value, group in zip(self.module.inputs, groups, strict=True):
            at = 0
            for count in group or ():
                if count > 1:
                    run = value.type.labels[at : at + count]
                    self.labels.setdefault(run, Label("heads"))
                at += count
        self.runs = list(self.labels)
        found: dict[Value, Groups] = {}
        for value in self.module.inputs:
            self.value(value, found)
        body: list[ir.Node] = []
        for node in self.module.body:
            new = self.node(node, found)
            if new is None:
                return None
            body.append(new)
        outs = tuple(self.values[v] for v in self.module.outputs)
        self.merged.groups.update(found)
        return replace(self.module, inputs=tuple(self.values[v] for v in self.module.inputs), outputs=outs, body=tuple(body))

    def value(self, value: Value, found: dict[Value, Groups]) -> None:
        """Make its merged twin: itself if it has only part of a run, or not in order."""
        axes: list[Axis] = []
        group: list[int] = []
        left = list(value.type.axes)
        while left:
            run = next((r for r in self.runs if tuple(a.label for a in left[: len(r)]) == r), None)
            if run is None:
                axes.append(left.pop(0))
                group.append(1)
                continue
            size = ONE
            for axis in left[: len(run)]:
                size = size * axis.size
            axes.append(Axis(self.labels[run], size))
            group.append(len(run))
            del left[: len(run)]
        new = value if len(axes) == len(value.type.axes) else Value(Type(tuple(axes), value.type.dtype), value.hint, value.span)
        self.values[value] = new
        if new is not value:
            found[new] = tuple(group)

    def node(self, node: ir.Node, found: dict[Value, Groups]) -> ir.Node | None:
        gone = {label for run in self.runs for label in run}
        named = [getattr(node, f.name) for f in fields(node)]
        flat = [x for item in named for x in (item if isinstance(item, tuple) else (item,))]
        if any((isinstance(x, Label) and x in gone) or (isinstance(x, Axis) and x.label in gone) for x in flat) or any(
            True for _ in ir.regions(node)
        ):
            return None
        for out in node.outs:
            self.value(out, found)
        around = [*ir.operands(node), *node.outs]
        merged = any(self.values[v] is not v for v in around)
        partial = any(label in gone for v in around for label in self.values[v].type.labels)
        if merged and partial and not isinstance(node, ir.Call):
            return None
        new = replace(ir.replace_values(node, self.values), outs=tuple(self.values[v] for v in node.outs))
        if isinstance(new, ir.Call):
            if not isinstance(new.target, ir.Module):
                return None
            if any(v.type.has(REST) for v in new.target.inputs):
                return new
            assert isinstance(node, ir.Call)
            groups = [found.get(self.values[a]) for a in node.args]
            inner = _Merge(new.target, self.merged).run(groups) if any(groups) else new.target
            return None if inner is None else replace(new, target=inner)
        return new
