"""What a call with a cache computes: the values that decoded outputs are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import field

from ...grammar.frozen import mutable
from .. import ir
from ..ir import Module, Node, Program, Stack, Value


def find_running_values(program: Program, outputs: Collection[int] | None = None) -> frozenset[Value]:
    """Inputs and results of nodes, everywhere below the root, that some of the root's `outputs` read (those of the program's decoding, if none
    are named).

    A node runs with a cache if one of its results is among them. The others, which only losses, undecoded outputs and updates of buffers
    read, are *aside*: they are computed without a cache alone."""
    if outputs is None:
        assert program.decoding is not None
        outputs = program.decoding.outputs
    found = _Reader({id(m): set() for m in ir.walk(program.root)})
    found.read_by[id(program.root)] = {program.root.outputs[k] for k in outputs}
    modules = list(ir.walk(program.root))
    while True:
        before = found.size()
        for module in modules:
            found.module(module)
        for item in program.inputs:
            if item.default is not None and item.value in found.running:
                defaults = [v for n in item.default.body for v in (*n.outs, *ir.operands(n))]
                found.read_by[id(program.root)].update(v for v in defaults if v in program.root.inputs)
                found.running.update(defaults)
        if found.size() == before:
            return frozenset(found.running)


@mutable
class _Reader:
    """`read_by`: by module, the outputs that some node that runs reads."""

    read_by: dict[int, set[Value]]
    running: set[Value] = field(default_factory=set)

    def size(self) -> int:
        return len(self.running) + sum(map(len, self.read_by.values()))

    def module(self, module: Module) -> None:
        live = set(self.read_by[id(module)])
        for node in reversed(module.body):
            if any(v in live for v in node.outs):
                live.update(ir.operands(node))
                for region in ir.regions(node):
                    live.update((*region.params, *(v for inner in region.body for v in inner.outs)))
                self.node(node, module, live)
        self.running |= live

    def node(self, node: Node, module: Module, live: set[Value]) -> None:
        match node:
            case ir.Call():
                (target,) = applied(node, module)
                self.read_by[id(target)].update(inner for inner, out in zip(target.outputs, node.outs, strict=True) if out in live)
            case ir.Fold():
                for at, target in enumerate(applied(node, module)):
                    self.read_by[id(target)].update(target.outputs[: node.carried])
                    for collect, out in zip(node.collected, node.outs[node.carried :], strict=True):
                        place = collect.outputs[at]
                        if out in live and place is not None:
                            self.read_by[id(target)].add(target.outputs[place])
            case _:
                for target in applied(node, module):
                    self.read_by[id(target)].update(target.outputs)


def applied(node: Node, module: Module) -> Iterator[Module]:
    """The modules that a node of a module's body applies."""
    match node:
        case ir.Call() | ir.Scan() if isinstance(node.target, Module):
            yield node.target
        case ir.Call() | ir.Scan() | ir.Route() | ir.Pairwise() | ir.Fold():
            assert isinstance(node.target, str)
            child = module.child(node.target)
            yield from (m for m, _ in child.slots) if isinstance(child, Stack) else (child.module,)
        case _:
            return
