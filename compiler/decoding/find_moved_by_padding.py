"""Whether tokens that a mask leaves out reach later ones all the same, through what is carried along the tokens."""

from __future__ import annotations

from ...grammar.frozen import frozen, mutable
from ...grammar.tree import Span
from .. import ir
from ..ir import ModelInput, Module, Node, Program, Value
from .find_running_values import applied, find_running_values


@frozen
class Moved:
    """`what` goes on from token to token and does not read the input `mask`."""

    what: str
    mask: str
    span: Span


def find_moved_by_padding(program: Program) -> Moved | None:
    """The first recurrence, shift or sum along the tokens of a derived program that does not read the mask that others read.

    Requires: a derived program. It is read in each layer anew: what an earlier layer did with the mask is not held for this one's doing, nor
    what attention did, whose mask is its own. What the mask does there is not asked."""
    decoding = program.decoding
    assert decoding is not None
    running = find_running_values(program)
    mask = next((i for i in program.inputs if i.value in running and _is_mask(i, decoding)), None)
    if mask is None:
        return None
    walker = _Walker(running)
    walker.module(program.root, {mask.value})
    return None if walker.found is None else Moved(_named(walker.found), mask.name, walker.found.span)


def _is_mask(item: ModelInput, decoding: ir.Decoding) -> bool:
    """An input over the tokens that is 1 where it is left out."""
    last = item.default.body[-1] if item.default is not None and item.default.body else None
    along = any(decoding.rows in a.size.symbols for a in item.value.type.axes)
    return along and item.value.type.dtype == "int" and isinstance(last, ir.Full) and last.value.value() == 1


@mutable
class _Walker:
    running: frozenset[Value]
    found: Node | None = None

    def module(self, module: Module, masked: set[Value]) -> set[Value]:
        """The results of a body that are made with the mask, if these inputs are."""
        masked = set(masked)
        for node in module.body:
            if not any(v in self.running for v in node.outs):
                continue
            reads = any(v in masked for v in ir.operands(node))
            if getattr(node, "entry", "") and not isinstance(node, ir.Keep | ir.Once) and not reads:
                self.found = self.found or node
            masked |= self.results(node, module, masked) if reads else self.below(node, module, masked)
        return masked & set(module.outputs)

    def results(self, node: Node, module: Module, masked: set[Value]) -> set[Value]:
        match node:
            case ir.Call() | ir.Fold():
                return self.below(node, module, masked)
            case ir.Attend() | ir.Take():
                return set()
            case ir.Along() if node.x.type.dtype == "int":  # tokens are counted
                return set()
            case _:
                return set(node.outs)

    def below(self, node: Node, module: Module, masked: set[Value]) -> set[Value]:
        found: set[Value] = set()
        match node:
            case ir.Call():
                (target,) = applied(node, module)
                inner = self.module(target, {v for v, arg in zip(target.inputs, node.args, strict=True) if arg in masked})
                found = {out for out, v in zip(node.outs, target.outputs, strict=True) if v in inner}
            case ir.Fold():
                for at, target in enumerate(applied(node, module)):
                    given = zip(target.inputs, node.inputs[at], strict=True)
                    self.module(target, {v for v, place in given if place >= node.carried and node.args[place] in masked})
            case _:
                pass
        return found


def _named(node: Node) -> str:
    match node:
        case ir.Scan():
            return "`scan`"
        case ir.LinearRecurrence():
            return "`linear_recurrence`"
        case ir.Along():
            return f"`{node.function}`"
        case _:
            return "the token before"
