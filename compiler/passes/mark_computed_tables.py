"""Tables that no checkpoint holds are computed where they stand, and not saved."""

from __future__ import annotations

from dataclasses import replace

from ..checkpoint import computed_tables
from ..ir import ChildParam, Module, Program, rewrite, walk


def mark_computed_tables(program: Program) -> Program:
    """Set `stored` to false for the fixed tables that no row of the checkpoint map fills.

    Requires: a verified program. Ensures: nothing else changes. Leaves alone: tables that another module reads as a parameter of its child."""
    read = {node.path[-1] for m in walk(program.root) for node in m.body if isinstance(node, ChildParam)}
    computed = {p for p in computed_tables(program) if p.name not in read}
    if not computed:
        return program

    def change(module: Module) -> Module:
        return replace(module, params=tuple(replace(p, stored=False) if p in computed else p for p in module.params))

    return replace(program, root=rewrite(program.root, change))
