"""Results of modules that nobody reads: what layers give to losses, once there are no losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .. import ir
from ..ir import Collect, Module, Node, Program, Stack, Value


def drop_unread_outputs(program: Program) -> Program:
    """Drop outputs of modules that no call of them reads, and what folds collect for nobody.

    Requires: a verified program. Ensures: the same outputs and losses. Leaves alone: banks and scans, and nodes that are now dead."""
    reader = _Reader(tuple(loss.value for loss in program.losses))
    reader.read(program.root)
    done: dict[int, Module] = {}
    return replace(program, root=_rewritten(program.root, reader.live, done))


@dataclass
class _Reader:
    losses: tuple[Value, ...]
    live: dict[int, set[int]] = field(default_factory=dict)

    def read(self, root: Module) -> None:
        """Find, for each module, the outputs that some call of it reads."""
        self.live = {id(m): set() for m in ir.walk(root)}
        self.live[id(root)] = set(range(len(root.outputs)))
        while True:
            before = sum(map(len, self.live.values()))
            for module in ir.walk(root):
                self.module(module, self.losses if module is root else ())
            if sum(map(len, self.live.values())) == before:
                return

    def module(self, module: Module, losses: tuple[Value, ...]) -> None:
        wanted = {module.outputs[k] for k in self.live[id(module)]} | {*(s.next for s in module.states), *(u.next for u in module.updates)}
        wanted.update(losses)
        for node in reversed(module.body):
            applied = list(_applied(node, module))
            if any(v in wanted for v in node.outs) or any(ir.has_effects(m) for m in applied):
                wanted.update(ir.operands(node))
                self.node(node, module, wanted)

    def node(self, node: Node, module: Module, wanted: set[Value]) -> None:
        match node:
            case ir.Call():
                (target,) = _applied(node, module)
                self.live[id(target)].update(k for k, v in enumerate(node.outs) if v in wanted)
            case ir.Fold():
                for at, target in enumerate(_applied(node, module)):
                    read = {c.outputs[at] for c, v in zip(node.collected, node.outs[node.carried :], strict=True) if v in wanted}
                    self.live[id(target)].update(range(node.carried), (k for k in read if k is not None))
            case _:
                for target in _applied(node, module):
                    self.live[id(target)].update(range(len(target.outputs)))


def _applied(node: Node, module: Module) -> Iterator[Module]:
    match node:
        case ir.Call() | ir.Scan() if isinstance(node.target, Module):
            yield node.target
        case ir.Call() | ir.Scan() | ir.Route() | ir.Pairwise() | ir.Fold():
            assert isinstance(node.target, str)
            child = module.child(node.target)
            yield from (m for m, _ in child.slots) if isinstance(child, Stack) else (child.module,)
        case _:
            return


def _rewritten(module: Module, live: dict[int, set[int]], done: dict[int, Module]) -> Module:
    if id(module) in done:
        return done[id(module)]
    body: list[Node] = []
    for node in module.body:
        targets = list(_applied(node, module))
        if isinstance(node, ir.Call) and len(live[id(targets[0])]) < len(node.outs):
            node = replace(node, outs=tuple(node.outs[k] for k in sorted(live[id(targets[0])])))
        elif isinstance(node, ir.Fold):
            node = _fold(node, [live[id(t)] for t in targets])
        if isinstance(node, ir.Call | ir.Scan) and isinstance(node.target, Module):
            node = replace(node, target=_rewritten(node.target, live, done))
        if node.outs:
            body.append(node)
    children = tuple(
        replace(c, slots=tuple((_rewritten(m, live, done), n) for m, n in c.slots))
        if isinstance(c, Stack)
        else replace(c, module=_rewritten(c.module, live, done))
        for c in module.children
    )
    kept = sorted(live[id(module)])
    names = tuple(module.output_names[k] for k in kept) if module.output_names else ()
    outputs = tuple(module.outputs[k] for k in kept)
    done[id(module)] = replace(module, outputs=outputs, output_names=names, body=tuple(body), children=children)
    return done[id(module)]


def _fold(node: ir.Fold, live: list[set[int]]) -> ir.Fold:
    """Without what is collected for nobody; the outputs that are left are numbered anew."""
    places = [{old: new for new, old in enumerate(sorted(kept))} for kept in live]
    outs, collected = list(node.outs[: node.carried]), []
    for collect, out in zip(node.collected, node.outs[node.carried :], strict=True):
        new = tuple(None if k is None else place.get(k) for k, place in zip(collect.outputs, places, strict=True))
        if any(k is not None for k in new):
            collected.append(Collect(new, collect.sum))
            outs.append(out)
    return replace(node, outs=tuple(outs), collected=tuple(collected))
