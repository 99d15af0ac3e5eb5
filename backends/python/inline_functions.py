"""Functions of a few operations go where they are called; a person would not have given them a name."""

from __future__ import annotations

from dataclasses import replace

from ...compiler import ir
from ...compiler.ir import Value
from .copy_nodes import Copier

SMALL = 3
_FREE = (ir.Rename, ir.Transpose, ir.Cast, ir.Expand, ir.Unflatten, ir.Squeeze)


def inline_functions(program: ir.Program) -> ir.Program:
    """Replace calls of modules that own nothing by their bodies, where these are at most three operations.

    Ensures: the same results. Leaves alone: longer functions, and labels and names of what it moves (a result takes the caller's name)."""
    inputs = tuple(i if i.default is None else replace(i, default=_flat(i.default)) for i in program.inputs)
    return replace(program, root=ir.rewrite(program.root, _inlined), inputs=inputs)


def _flat(region: ir.Region) -> ir.Region:
    """A region without calls."""
    mapping: dict[Value, Value] = {}
    body: list[ir.Node] = []
    todo = list(region.body)
    while todo:
        node = ir.replace_values(todo.pop(0), mapping)
        found = inlined_call(node)
        if found is None:
            body.append(node)
            continue
        nodes, results = found
        todo = [*nodes, *todo]
        mapping.update(zip(node.outs, results, strict=True))
    return ir.Region(params=region.params, body=tuple(body), result=mapping.get(region.result, region.result))


def _inlined(module: ir.Module) -> ir.Module:
    body: list[ir.Node] = []
    mapping: dict[Value, Value] = {}
    for node in module.body:
        node = ir.replace_values(node, mapping)
        small = isinstance(node, ir.Call) and isinstance(node.target, ir.Module) and _is_small(node.target)
        found = inlined_call(node) if small else None
        if found is None:
            body.append(node)
            continue
        nodes, results = found
        body += _apart(nodes, body)
        mapping.update(zip(node.outs, results, strict=True))
    return ir.replace_results(replace(module, body=tuple(body)), mapping)


def _apart(nodes: list[ir.Node], body: list[ir.Node]) -> list[ir.Node]:
    """The nodes with names of their own for what they keep."""
    taken = {name for n in body if (name := getattr(n, "entry", ""))}
    found: list[ir.Node] = []
    for node in nodes:
        name, number = getattr(node, "entry", ""), 2
        if name:
            base = name
            while name in taken:
                name, number = f"{base}_{number}", number + 1
            taken.add(name)
            node = replace(node, entry=name)  # type: ignore[arg-type]
        found.append(node)
    return found


def inlined_call(node: ir.Node) -> tuple[list[ir.Node], list[Value]] | None:
    """The nodes of one application of a module that owns nothing, and its results; none of a child, which owns something."""
    return _inline(node, node.target) if isinstance(node, ir.Call) and isinstance(node.target, ir.Module) else None


def _is_small(target: ir.Module) -> bool:
    work = [n for n in target.body if not isinstance(n, _FREE)]
    if any(getattr(n, "entry", "") for m in ir.walk(target) for n in m.body):
        return True  # what it keeps, its caller keeps
    return len(work) <= SMALL and not any(isinstance(n, ir.Attend | ir.Call) for n in work)


def _inline(node: ir.Call, target: ir.Module) -> tuple[list[ir.Node], list[Value]] | None:
    copier = Copier()
    for formal, actual in zip(target.inputs, node.args, strict=True):
        if not copier.bind(formal.type, actual.type):
            return None
        copier.values[formal] = actual
    nodes = copier.nodes(target.body)
    results: list[Value] = []
    for out, formal in zip(node.outs, target.outputs, strict=True):
        result = copier.value(formal)
        have, want = result.type.labels, out.type.labels
        if set(have) != set(want):
            if len(have) != len(want):
                return None
            new = Value(out.type, out.hint, out.span)
            nodes.append(ir.Rename(outs=(new,), span=node.span, x=result, old=have, new=want))
            result = new
        elif have != want:
            new = Value(out.type, out.hint, out.span)
            nodes.append(ir.Transpose(outs=(new,), span=node.span, x=result))
            result = new
        elif out.hint and not result.hint and any(result in n.outs for n in nodes):
            nodes, result = _named(nodes, result, out.hint)
        results.append(result)
    return nodes, results


def _named(nodes: list[ir.Node], value: Value, hint: str) -> tuple[list[ir.Node], Value]:
    """The value under the name that the caller gives it."""
    new = Value(value.type, hint, value.span)
    mapping = {value: new}
    made = [replace(n, outs=tuple(mapping.get(o, o) for o in n.outs)) for n in nodes]
    return [ir.replace_values(n, mapping) for n in made], new
