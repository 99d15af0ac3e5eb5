"""A file without modules has no place for a table that is computed once: it is computed where it is read."""

from __future__ import annotations

from dataclasses import replace

from ...compiler.ir import Expand, Module, Node, Program, Transpose, Value, replace_results, replace_values, rewrite


def inline_tables(program: Program) -> Program:
    """Put the expressions of tables that are not stored at the start of the bodies that have them.

    Requires: `stored` is false only for tables read by their own module. Ensures: every parameter is stored."""
    return replace(program, root=rewrite(program.root, _change))


def _change(module: Module) -> Module:
    computed = [p for p in module.params if not p.stored]
    if not computed:
        return module
    before: list[Node] = []
    mapping: dict[Value, Value] = {}
    for param in computed:
        table = param.init.table
        assert table is not None
        before += table.body
        result = table.result
        missing = tuple(a for a in param.type.axes if not result.type.has(a.label))
        if missing:
            wider = Value(replace(result.type, axes=(*missing, *result.type.axes)), param.name, param.span)
            before.append(Expand(outs=(wider,), x=result, axes=missing, span=param.span))
            result = wider
        if result.type.labels != param.type.labels:
            ordered = Value(replace(param.type, dtype=result.type.dtype), param.name, param.span)
            before.append(Transpose(outs=(ordered,), x=result, span=param.span))
            result = ordered
        mapping[param.value] = result
    body = (*before, *(replace_values(node, mapping) for node in module.body))
    params = tuple(p for p in module.params if p.stored)
    return replace_results(replace(module, params=params, body=body), mapping)
