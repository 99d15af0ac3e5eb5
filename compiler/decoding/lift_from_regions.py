"""What masks, scores and weights compute of the tokens alone, computed outside of them."""

from __future__ import annotations

from dataclasses import fields, replace

from .. import ir
from ..ir import Module, Node, Program, Region, Value
from .common import Length


def lift_from_regions(program: Program, length: Length) -> Program:
    """Before an attend, what its regions compute of values that have the tokens' axis, and of nothing of their own: there it can be kept.

    Requires: a verified program. Ensures: the same results. Leaves alone: what depends on slots or scores, or on no token."""

    def lifted(module: Module) -> Module:
        body: list[Node] = []
        for node in module.body:
            body += _lifted(node, length) if isinstance(node, ir.Attend) else [node]
        return module if len(body) == len(module.body) else replace(module, body=tuple(body))

    attends = [n for m in ir.walk(program.root) for n in m.body if isinstance(n, ir.Attend)]
    return replace(program, root=ir.rewrite(program.root, lifted)) if any(len(_lifted(n, length)) > 1 for n in attends) else program


def _lifted(node: ir.Attend, length: Length) -> list[Node]:
    """What comes out of an attend's regions, and the attend."""
    out: list[Node] = []
    changes: dict[str, Region] = {}
    for name, region in ((f.name, getattr(node, f.name)) for f in fields(node)):
        if isinstance(region, Region):
            moved = _of_tokens_alone(region, length)
            if moved:
                out += moved
                changes[name] = replace(region, body=tuple(n for n in region.body if n not in moved))
    return [*out, replace(node, **changes) if changes else node]  # type: ignore[arg-type]


def _of_tokens_alone(region: Region, length: Length) -> list[Node]:
    own = set(region.params)
    free: list[Node] = []
    wanted: list[Value] = []
    for node in region.body:
        running = [v for v in ir.operands(node) if any(map(length.runs, v.type.axes))]
        if any(v in own for v in ir.operands(node)):
            own.update(node.outs)
            if isinstance(node, ir.Take) and node.x in running and node.x not in own:
                wanted.append(node.x)
        else:
            free.append(node)
            wanted += node.outs if running else ()
    made = ir.made_by(free, wanted)
    return [n for n in free if n in made]
