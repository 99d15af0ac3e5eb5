"""Remove what reaches no output and no loss."""

from __future__ import annotations

from dataclasses import replace

from ..ir import (
    Attend,
    Bank,
    Call,
    Child,
    Fold,
    Module,
    Node,
    Pairwise,
    Program,
    Region,
    Route,
    Scan,
    Stack,
    Value,
    has_effects,
    operands,
    results,
    rewrite,
)


def remove_dead_nodes(program: Program) -> Program:
    """Drop nodes whose results nobody reads, then inputs that no longer reach anything, with the arguments that fed them.

    Requires: a verified program. Ensures: every node reaches an output, a loss, a state or a buffer of the program; every input of a module
    below the root is read, unless it is carried by a stack or a scan or routed to a bank. Leaves alone: parameters, children, and the root's inputs."""
    kept_at_root = tuple(loss.value for loss in program.losses)
    cleaner = _Cleaner(program.root, kept_at_root)
    return replace(program, root=rewrite(program.root, cleaner.clean))


class _Cleaner:
    def __init__(self, root: Module, losses: tuple[Value, ...]) -> None:
        self.root_inputs = root.inputs
        self.losses = losses
        self.pinned = _pinned(root)
        self.kept: dict[int, tuple[Module, tuple[int, ...]]] = {}

    def clean(self, module: Module) -> Module:
        at_root = module.inputs is self.root_inputs
        live: set[Value] = {*results(module), *(self.losses if at_root else ())}
        body: list[Node] = []
        for node in reversed(module.body):
            if any(v in live for v in node.outs) or any(has_effects(m) for m in _applied(node, module)):
                node = self.node(node, module)
                live.update(operands(node))
                body.append(node)
        pinned = range(len(module.inputs)) if at_root else self.pinned.get(module.inputs, frozenset())
        kept = tuple(k for k, v in enumerate(module.inputs) if v in live or k in pinned)
        first_captured = len(module.inputs) - module.captured
        new = replace(
            module,
            inputs=tuple(module.inputs[k] for k in kept),
            captured=sum(k >= first_captured for k in kept),
            body=tuple(reversed(body)),
        )
        self.kept[id(new)] = (new, kept)
        return new

    def node(self, node: Node, module: Module) -> Node:
        """The node without the arguments that its target no longer takes; regions without dead nodes."""
        match node:
            case Call():
                target = node.target if isinstance(node.target, Module) else _module_of(module.child(node.target))
                return replace(node, args=tuple(node.args[k] for k in self.kept_of(target)))
            case Pairwise():
                kept = self.kept_of(_module_of(module.child(node.target)))
                return replace(node, args=tuple(node.args[k] for k in kept))
            case Route():
                kept = self.kept_of(_module_of(module.child(node.target)))
                return replace(node, args=tuple(node.args[k - 1] for k in kept if k > 0))
            case Fold():
                return self.fold(node, module)
            case Scan():
                target = node.target if isinstance(node.target, Module) else _module_of(module.child(node.target))
                kept = self.kept_of(target)
                return replace(node, args=tuple(node.args[k] for k in kept), given=sum(k < node.given for k in kept))
            case Attend():
                return replace(node, mask=_prune(node.mask), score=_prune(node.score), weights=_prune(node.weights))
            case _:
                return node

    def kept_of(self, module: Module) -> tuple[int, ...]:
        return self.kept[id(module)][1]

    def fold(self, node: Fold, module: Module) -> Fold:
        stack = module.child(node.target)
        assert isinstance(stack, Stack)
        inputs = [tuple(positions[k] for k in self.kept_of(slot)) for (slot, _), positions in zip(stack.slots, node.inputs, strict=True)]
        used = {*range(node.carried), *(p for positions in inputs for p in positions)}
        order = sorted(used)
        place = {p: k for k, p in enumerate(order)}
        return replace(node, args=tuple(node.args[p] for p in order), inputs=tuple(tuple(place[p] for p in ps) for ps in inputs))


def _applied(node: Node, module: Module) -> list[Module]:
    """The modules that a node applies, but those that own nothing."""
    match node:
        case Call() | Scan() if isinstance(node.target, str):
            return [_module_of(module.child(node.target))]
        case Fold():
            stack = module.child(node.target)
            assert isinstance(stack, Stack)
            return [slot for slot, _ in stack.slots]
        case _:
            return []


def _module_of(child: Child | Stack | Bank) -> Module:
    assert not isinstance(child, Stack)
    return child.module


def _pinned(root: Module) -> dict[tuple[Value, ...], frozenset[int]]:
    """Inputs that stay even if nobody reads them, by the tuple of a module's inputs: what stacks and scans carry, what these
    run along, what banks are applied to."""
    found: dict[tuple[Value, ...], frozenset[int]] = {}

    def visit(module: Module) -> None:
        for node in module.body:
            if isinstance(node, Fold):
                stack = module.child(node.target)
                assert isinstance(stack, Stack)
                for (slot, _), positions in zip(stack.slots, node.inputs, strict=True):
                    found[slot.inputs] = frozenset(k for k, p in enumerate(positions) if p < node.carried)
            elif isinstance(node, Scan):
                target = node.target if isinstance(node.target, Module) else _module_of(module.child(node.target))
                along = next(k for k, v in enumerate(node.args[: node.given]) if v.type.has(node.over))
                found[target.inputs] = frozenset((*range(node.carried), along))
            elif isinstance(node, Route | Pairwise):
                found[_module_of(module.child(node.target)).inputs] = frozenset((0,))
        for child in module.children:
            for below in [m for m, _ in child.slots] if isinstance(child, Stack) else [child.module]:
                visit(below)
        for node in module.body:
            if isinstance(node, Call | Scan) and isinstance(node.target, Module):
                visit(node.target)

    visit(root)
    return found


def _prune(region: Region | None) -> Region | None:
    if region is None:
        return None
    live = {region.result}
    body: list[Node] = []
    for node in reversed(region.body):
        if any(v in live for v in node.outs):
            live.update(operands(node))
            body.append(node)
    return replace(region, body=tuple(reversed(body)))
