"""Which words of a spec gave a tensor an axis, and what is said of a result that has not the axes which were declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..grammar import tree
from ..grammar.frozen import frozen
from ..grammar.tree import Span
from . import ir
from .builder import Builder
from .diagnostics import Diagnostics, Note
from .operations_base import show, show_axis


@frozen
class Made:
    """What made an axis: `name` is a component or an operation's result, `span` its words, `result` its type; `inside` names the axes where
    these words stand."""

    name: str
    span: Span
    result: ir.Type
    inside: tuple[tuple[ir.Label, str], ...]


def trace_axis(value: ir.Value, label: ir.Label, builder: Builder, is_shipped: Callable[[Span], bool]) -> Made | None:
    """The innermost words of the spec itself, not of the library, that gave `value` its axis; none if it came in as an argument.

    Follows the operands that have the axis back to the first operation that makes it, and into the component that this operation applies."""
    modules = {n: c.module for n, c in builder.real.children.items() if isinstance(c, ir.Child | ir.Bank)}
    names = () if is_shipped(builder.real.span) else tuple(builder.real.axis_names.items())
    return _trace(value, label, builder.body.nodes, modules, names, is_shipped)


def _trace(
    value: ir.Value,
    label: ir.Label,
    nodes: Sequence[ir.Node],
    modules: dict[str, ir.Module],
    names: tuple[tuple[ir.Label, str], ...],
    is_shipped: Callable[[Span], bool],
) -> Made | None:
    makers = {v: n for n in nodes for v in n.outs}
    node = makers.get(value)
    while node is not None:
        if isinstance(node, ir.Rename) and label in node.new:
            label = node.old[node.new.index(label)]
        before = next((o for o in ir.operands(node) if o.type.has(label) and o in makers), None)
        if before is None:
            break
        value, node = before, makers[before]
    if node is None or not value.type.has(label):
        return None
    here = None if is_shipped(node.span) else Made(value.hint, node.span, value.type, names)
    target = getattr(node, "target", None)
    module = modules.get(target) if isinstance(target, str) else target
    if not isinstance(module, ir.Module):
        return here
    if module.named is not None and not is_shipped(module.named):
        here = Made(module.name, module.named, value.type, names)
    inner = module.outputs[node.outs.index(value)] if isinstance(node, ir.Call) else None
    if inner is None:
        return here
    below = {c.name: c.module for c in module.children if isinstance(c, ir.Child | ir.Bank)}
    inside = () if module.span is None or is_shipped(module.span) else module.axis_names
    return _trace(inner, label, module.body, below, inside, is_shipped) or here


def report_result(
    component: tree.Component,
    axes: tree.List,
    declared: Sequence[ir.Axis | None],
    value: ir.Value,
    builder: Builder,
    diagnostics: Diagnostics,
) -> None:
    """E349. Where the library declares the result, it is said of the words of the spec that gave the result the axis it should not have."""
    wanted = [a for a in declared if a is not None]
    surplus = [a for a in value.type.axes if all(a.label is not w.label for w in wanted) and a.label is not ir.REST]
    traced = [(a, found) for a in surplus if (found := trace_axis(value, a.label, builder, diagnostics.is_shipped)) is not None]
    extra, made = traced[-1] if traced else (surplus[-1] if surplus and len(value.type.axes) > len(declared) else None, None)
    missing = [w for w in wanted if not value.type.has(w.label)]
    must = f"[{', '.join('...' if a is None else show_axis(a) for a in declared)}]"
    if extra is None or made is None or not diagnostics.is_shipped(axes.span):
        notes = [Note("the result is made here", value.span)] if value.span is not None else []
        notes += [Note(f"its axis `{extra.label.name}` comes from here", made.span)] if extra is not None and made is not None else []
        help = "return what is declared, or declare what is returned: `-> [...]`"
        if extra is not None:
            help = _by_name(extra, missing, made, diagnostics) if missing and made is not None else _left_over(extra)
        diagnostics.error("E349", f"`{component.name.id}` declares {must} and returns {show(value.type)}", axes.span, *notes, help=help)
        return
    message = f"`{made.name or 'this'}` gives {show(made.result)}, and `{component.name.id}` must return {must}"
    notes = [Note(f"there the result is {show(value.type)}", axes.span)]
    diagnostics.error("E349", message, made.span, *notes, help=_by_name(extra, wanted, made, diagnostics))


def _left_over(extra: ir.Axis) -> str:
    name = extra.label.name
    return f"`{name}` is left over: contract it (`over = [{name}, ...]`), reduce it (`mean(x, {name})`), flatten it, or declare it"


def _by_name(extra: ir.Axis, wanted: Sequence[ir.Axis], made: Made, diagnostics: Diagnostics) -> str:
    """Axes meet by name: which name to write instead of a number."""
    place = next((diagnostics.places[s] for s in extra.size.symbols if s in diagnostics.places and str(extra.size) == s.name), None)
    target = next((a for a in wanted if a.size.value() == extra.size.value()), None) or next(
        (a for a in wanted if not a.size.is_dynamic), None
    )
    if target is None:
        return _left_over(extra)
    name = dict(made.inside).get(target.label, str(target.size))
    back = f"map `{extra.label.name}` back with a `linear({name})`"
    if place is None:
        return f"axes meet by name: {back}, or reduce it"
    instead = f"write `{name}` instead of `{place.source.text[place.start : place.end]}`"
    if target.size.value() == extra.size.value():
        return f"axes meet by name and not by size: {instead}, or {back}"
    return f"axes meet by name: {back}, or {instead}"
