"""Whether tokens that a mask leaves out reach later ones all the same, through what is carried along the tokens."""

from __future__ import annotations

from ...grammar.frozen import frozen, mutable
from ...grammar.tree import Span
from .. import ir
from ..dims import ZERO, Sym
from ..ir import ModelInput, Module, Node, Program, Value
from .find_running_values import applied, find_running_values


@frozen
class Moved:
    """`what` goes on from token to token and does not read the input `mask`."""

    what: str
    mask: str
    span: Span


def find_moved_by_padding(program: Program) -> Moved | None:
    """The first recurrence, shift, sum or index along the tokens of a derived program that does not read the mask that others read, or score of
    attention that mixes keys before the mask hides them. A sum of which only differences are read cancels what came before.

    Requires: a derived program. It is read in each layer anew: what an earlier layer did with the mask is not held for this one's doing, nor
    what attention did, whose mask is its own. What the mask does there is not asked."""
    decoding = program.decoding
    assert decoding is not None
    running = find_running_values(program)
    mask = next((i for i in program.inputs if i.value in running and _is_mask(i, decoding)), None)
    if mask is None:
        return None
    walker = _Walker(running, decoding.length)
    walker.module(program.root, {mask.value})
    if walker.mixed is not None and walker.found is None:
        return Moved("a score that mixes keys before they are hidden", mask.name, walker.mixed.span)
    return None if walker.found is None else Moved(_named(walker.found), mask.name, walker.found.span)


def _is_mask(item: ModelInput, decoding: ir.Decoding) -> bool:
    """An input over the tokens that is 1 where it is left out."""
    last = item.default.body[-1] if item.default is not None and item.default.body else None
    along = any(decoding.rows in a.size.symbols for a in item.value.type.axes)
    return along and item.value.type.dtype == "int" and isinstance(last, ir.Full) and last.value.value() == 1


@mutable
class _Walker:
    running: frozenset[Value]
    length: Sym
    found: Node | None = None
    mixed: Node | None = None

    def module(self, module: Module, masked: set[Value]) -> set[Value]:
        """The results of a body that are made with the mask, if these inputs are."""
        masked = set(masked)
        for node in module.body:
            if not any(v in self.running for v in node.outs):
                continue
            reads = any(v in masked for v in ir.operands(node))
            carries = getattr(node, "entry", "") and not isinstance(node, ir.Keep | ir.Once) and not _cancels(node, module)
            if not reads and (carries or (isinstance(node, ir.Take) and self.looks_back(node))):
                self.found = self.found or node
            elif isinstance(node, ir.Attend) and any(v in masked for v in ir.operands(node)):
                self.mixed = self.mixed or _mixes_keys(node)
            masked |= self.results(node, module, masked) if reads else self.below(node, module, masked)
        return masked & set(module.outputs)

    def looks_back(self, node: ir.Take) -> bool:
        """Whether numbers of all tokens so far are read at places that do not come of the mask."""
        axes = (node.x.type.axis(label) for label in node.over)
        return node.x.type.dtype not in ("int", "bool") and any(self.length in a.size.symbols for a in axes)

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


def _cancels(node: Node, module: Module) -> bool:
    """Whether a sum along the tokens is read in differences alone, each of as much as it adds."""
    if not isinstance(node, ir.Along) or node.function != "cumsum":
        return False
    times: dict[Value, int] = {node.out: 1}
    for reader in module.body:
        if reader is not node and not _adds_up(reader, times):
            return False
    return not any(times.get(v) for v in module.outputs)


def _adds_up(node: Node, times: dict[Value, int]) -> bool:
    """Note how often a node's result has the sum in it; whether that can be said."""
    read = [v for v in ir.operands(node) if times.get(v)]
    if not read:
        return True
    match node:
        case ir.Keep() | ir.Rename() | ir.Cast() | ir.Transpose() | ir.Expand() | ir.Slice():
            times[node.out] = times[read[0]]
        case ir.Take() if read == [node.x]:
            times[node.out] = times[node.x]
        case ir.Elementwise(function="neg"):
            times[node.out] = -times[read[0]]
        case ir.Elementwise(function="add" | "sub"):
            first, second = (times.get(a, 0) if isinstance(a, Value) else 0 for a in node.args)
            times[node.out] = first + second if node.function == "add" else first - second
        case ir.Attend(score=ir.Region() as score) if {v for v in ir.free_values(score) if times.get(v)} == set(read):
            inside = dict(times)
            return all(_adds_up(n, inside) for n in score.body) and not inside.get(score.result)
        case _:
            return False
    return True


def _mixes_keys(node: ir.Attend) -> Node | None:
    """The operation of the score that makes one key's score of an earlier one's, which may be hidden."""
    if node.score is None:
        return None
    keys = {node.score.params[0]: (node.key, False)}  # the axis of keys, and whether it is turned round
    for inner in node.score.body:
        x = next((v for v in ir.operands(inner) if v in keys), None)
        if x is None:
            continue
        key, turned = keys[x]
        over = getattr(inner, "over", ())
        if key in (over if isinstance(over, tuple) else (over,)):
            if not _looks_on(inner, turned):
                return inner
            turned ^= isinstance(inner, ir.Along) and inner.function == "flip"
        moved = dict(zip(inner.old, inner.new, strict=True)) if isinstance(inner, ir.Rename) else {}
        keys.update((out, (moved.get(key, key), turned)) for out in inner.outs)
    return None


def _looks_on(node: Node, turned: bool) -> bool:
    """Whether an entry is made of itself and of later keys."""
    match node:
        case ir.Along(function="flip"):
            return True
        case ir.Along(function="cumsum"):
            return turned
        case ir.Slice() | ir.Unfold():
            return not turned
        case ir.Pad():
            return not turned and node.before == ZERO
        case _:
            return False


def _named(node: Node) -> str:
    match node:
        case ir.Scan():
            return "`scan`"
        case ir.LinearRecurrence():
            return "`linear_recurrence`"
        case ir.Along():
            return f"`{node.function}`"
        case ir.Take():
            return "indexing"
        case _:
            return "the token before"
