"""What a derived program remembers of one sequence, as formulas of the Config.

An entry *grows* with each token (keys and values, or what they are made of; those behind a window are dropped), or is *fixed* (the tokens
before a shift, the state of a recurrence), or has the length of another input (*once*: keys and values of a memory). The rows of masks and
positions that are kept beside, whole numbers, are not counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ..grammar.frozen import frozen
from . import ir
from .count import at_length, layers_of
from .dims import ONE, ZERO, Expr, Sym
from .ir import Module, Node, Program, Type


@frozen
class Entry:
    """`elements` of one place: of a token, or in all if it is not one that grows. `copies`: the layers that have it. `wide`: float32."""

    path: str
    kind: Literal["grows", "fixed", "once"]
    elements: Expr
    window: Expr | None
    copies: Expr
    wide: bool

    def total(self, length: int) -> int:
        """Elements in all copies after `length` tokens (and that many of a memory)."""
        held = length if self.kind == "grows" else 1
        if self.window is not None:
            held = min(held, at_length(self.window, length))
        return at_length(self.elements, length) * held * at_length(self.copies, length)


@frozen
class CacheCounts:
    """Of one sequence. Bytes are those of a bfloat16 model; what is computed in float32 is kept in it."""

    entries: tuple[Entry, ...]

    @property
    def elements_per_token(self) -> Expr:
        """Of a token that all windows hold, over all layers."""
        total = ZERO
        for entry in self.entries:
            if entry.kind == "grows":
                total = total + entry.elements * entry.copies
        return total

    @property
    def bytes_per_token(self) -> int:
        return sum(_bytes(e) * at_length(e.elements * e.copies, 0) for e in self.entries if e.kind == "grows")

    def bytes(self, length: int) -> int:
        return sum(_bytes(e) * e.total(length) for e in self.entries)

    def json(self, length: int) -> dict[str, object]:
        return {
            "cache_elements_per_token": at_length(self.elements_per_token, 0),
            "cache_bytes_per_token": self.bytes_per_token,
            "cache_bytes": self.bytes(length),
            "cache": [
                {
                    "path": e.path,
                    "kind": e.kind,
                    "elements": str(e.elements),
                    "window": None if e.window is None else str(e.window),
                    "copies": at_length(e.copies, 0),
                }
                for e in self.entries
            ],
        }


def _bytes(entry: Entry) -> int:
    return 4 if entry.wide else 2


def count_cache(program: Program) -> CacheCounts:
    """Count a derived program, before or after the passes."""
    decoding = program.decoding
    assert decoding is not None
    decoded = next(i.value.type for i in program.inputs if any(decoding.rows in a.size.symbols for a in i.value.type.axes))
    batch = frozenset(s for a in decoded.axes for s in a.size.symbols if s.value is None and s is not decoding.rows)
    return CacheCounts(tuple(_Walk(decoding.rows, batch).module(program.root, "", ONE)))


@frozen
class _Walk:
    rows: Sym
    batch: frozenset[Sym]

    def module(self, module: Module, path: str, copies: Expr) -> Iterator[Entry]:
        for node in module.body:
            match node:
                case ir.Call() if isinstance(node.target, Module):
                    yield from self.module(node.target, path, copies)
                case ir.Call() if isinstance(node.target, str):
                    child = module.child(node.target)
                    assert isinstance(child, ir.Child)
                    yield from self.module(child.module, _join(path, node.target), copies)
                case ir.Fold():
                    stack = module.child(node.target)
                    assert isinstance(stack, ir.Stack)
                    several = len(stack.slots) > 1
                    for k, (slot, count) in enumerate(layers_of(stack)):
                        below = _join(path, f"{node.target}[{k}]" if several else node.target)
                        yield from self.module(slot, below, copies * count)
                case _ if getattr(node, "entry", ""):
                    yield from self.entry(node, path, copies)
                case _:
                    pass

    def entry(self, node: Node, path: str, copies: Expr) -> Iterator[Entry]:
        match node:
            case ir.Keep():
                yield from self.of(node.x.type.without(node.over), ONE, "grows", node.window, path, node.entry, copies)
            case ir.Once():
                yield from self.of(node.x.type, ONE, "once", None, path, node.entry, copies)
            case ir.Pad():
                yield from self.of(node.x.type.without(node.over), node.before, "fixed", None, path, node.entry, copies)
            case ir.Concat():
                many = node.args[0].type.axis(node.over).size
                yield from self.of(node.out.type.without(node.over), many, "fixed", None, path, node.entry, copies)
            case ir.LinearRecurrence() | ir.Along():
                yield from self.of(node.out.type.without(node.over), ONE, "fixed", None, path, node.entry, copies)
            case ir.Scan():
                for k, value in enumerate(node.args[: node.carried], 1):
                    name = node.entry if node.carried == 1 else f"{node.entry}_{k}"
                    yield from self.of(value.type, ONE, "fixed", None, path, name, copies)
            case _:
                raise AssertionError(node)

    def of(
        self, kind: Type, many: Expr, how: Literal["grows", "fixed", "once"], window: Expr | None, path: str, name: str, copies: Expr
    ) -> Iterator[Entry]:
        if kind.dtype in ("int", "bool"):
            return
        elements = many
        for axis in kind.axes:
            if not axis.size.symbols & self.batch:
                elements = elements * axis.size
        yield Entry(_join(path, name), how, elements, window, copies, kind.dtype == "float32")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
