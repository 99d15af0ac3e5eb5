"""Remove results of modules that no caller reads: a tensor that a layer emits and no model asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace

from ...grammar.frozen import mutable
from .. import ir
from ..ir import Call, Fold, Module, Node, Pairwise, Program, Route, Scan, Stack, Value


def remove_unread_results(program: Program) -> Program:
    """Drop outputs of modules that are read nowhere, with the results of the nodes that apply them.

    Requires: a verified program. Ensures: the same outputs, losses, states and updates; what fed the dropped outputs is dead and stays for
    remove_dead_nodes. Leaves alone: the root's outputs, what stacks and scans carry, results of banks, the first output of a module."""
    reader = _Reader(program)
    return replace(program, root=reader.rewritten(program.root))


@mutable
class _Reader:
    """`read`: by module, the numbers of its outputs that some caller reads."""

    program: Program
    read: dict[int, set[int]] = field(default_factory=dict)
    done: dict[int, Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        root = self.program.root
        self.read[id(root)] = set(range(len(root.outputs)))
        for module in reversed(list(_from_the_leaves(root))):
            self.mark(module)

    def mark(self, module: Module) -> None:
        """Note which results of its nodes a module reads, once its callers have been asked."""
        wanted = self.read.setdefault(id(module), {0})
        live = {v for k, v in enumerate(module.outputs) if k in wanted}
        live |= {s.next for s in module.states} | {u.next for u in module.updates}
        if module is self.program.root:
            live |= {loss.value for loss in self.program.losses}
        for node in reversed(module.body):
            applied = list(_applied(node, module))
            if any(v in live for v in node.outs) or any(ir.has_effects(m) for m, _ in applied):
                live.update(ir.operands(node))
            for target, places in applied:
                read = self.read.setdefault(id(target), {0})
                read |= {place for place, out in places.items() if out is None or out in live}

    def rewritten(self, module: Module) -> Module:
        if id(module) not in self.done:
            children = tuple(
                replace(c, slots=tuple((self.rewritten(m), n) for m, n in c.slots))
                if isinstance(c, Stack)
                else replace(c, module=self.rewritten(c.module))
                for c in module.children
            )
            kept = sorted(self.read[id(module)]) if module.outputs else []
            self.done[id(module)] = replace(
                module,
                children=children,
                body=tuple(self.node(n, module) for n in module.body),
                outputs=tuple(module.outputs[k] for k in kept),
                output_names=tuple(module.output_names[k] for k in kept) if module.output_names else (),
            )
        return self.done[id(module)]

    def node(self, node: Node, module: Module) -> Node:
        match node:
            case Call():
                target = _target(node, module)
                outs = tuple(v for k, v in enumerate(node.outs) if k in self.read[id(target)])
                return replace(node, outs=outs, target=self.rewritten(target) if isinstance(node.target, Module) else node.target)
            case Scan():
                target = _target(node, module)
                outs = tuple(v for k, v in enumerate(node.outs) if k in self.read[id(target)])
                return replace(node, outs=outs, target=self.rewritten(target) if isinstance(node.target, Module) else node.target)
            case Fold():
                return self.fold(node, module)
            case _:
                return node

    def fold(self, node: Fold, module: Module) -> Fold:
        slots = _stack(node, module).slots
        new = [{old: k for k, old in enumerate(sorted(self.read[id(m)]))} for m, _ in slots]
        kept: list[tuple[Value, ir.Collect]] = []
        for out, collect in zip(node.outs[node.carried :], node.collected, strict=True):
            places = tuple(None if place is None else new[slot].get(place) for slot, place in enumerate(collect.outputs))
            if any(place is not None for place in places):
                kept.append((out, replace(collect, outputs=places)))
        return replace(node, outs=(*node.outs[: node.carried], *(v for v, _ in kept)), collected=tuple(c for _, c in kept))


def _applied(node: Node, module: Module) -> Iterator[tuple[Module, dict[int, Value | None]]]:
    """The modules that a node applies; for each of their outputs the node's result (none: needed in any case)."""
    match node:
        case Call():
            yield _target(node, module), dict(enumerate(node.outs))
        case Scan():
            yield _target(node, module), {k: None if k < node.carried else out for k, out in enumerate(node.outs)}
        case Fold():
            for slot, (target, _) in enumerate(_stack(node, module).slots):
                places: dict[int, Value | None] = dict.fromkeys(range(node.carried))
                for collect, out in zip(node.collected, node.outs[node.carried :], strict=True):
                    place = collect.outputs[slot]
                    if place is not None:
                        places[place] = out
                yield target, places
        case Route() | Pairwise():
            bank = module.child(node.target)
            assert isinstance(bank, ir.Bank)
            yield bank.module, dict.fromkeys(range(len(bank.module.outputs)))
        case _:
            return


def _target(node: Call | Scan, module: Module) -> Module:
    if isinstance(node.target, Module):
        return node.target
    child = module.child(node.target)
    assert isinstance(child, ir.Child)
    return child.module


def _stack(node: Fold, module: Module) -> Stack:
    stack = module.child(node.target)
    assert isinstance(stack, Stack)
    return stack


def _from_the_leaves(root: Module) -> Iterator[Module]:
    """A module and all below it, each once, after what it is made of."""
    seen: set[int] = set()

    def visit(module: Module) -> Iterator[Module]:
        if id(module) not in seen:
            seen.add(id(module))
            for _, below in ir.children_of(module):
                yield from visit(below)
            yield module

    return visit(root)
