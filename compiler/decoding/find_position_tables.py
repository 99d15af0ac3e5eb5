"""Tables that are read at the place of each token: a sequence cannot be longer than they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...grammar.frozen import frozen, mutable
from .. import ir
from ..dims import ZERO, Expr
from ..ir import Module, Program, Value

_SAME = (ir.Rename, ir.Expand, ir.Transpose, ir.Cast, ir.Slice, ir.Flatten, ir.Unflatten, ir.Squeeze)


@frozen
class PositionTable:
    """The parameter `name` has rows for the positions below `limit`: those that the input `positions` gives, or (none) slots."""

    name: str
    limit: Expr
    positions: Value | None


@frozen
class _Place:
    """A tensor of positions, each `offset` further than the input's, or than slots."""

    offset: Expr
    positions: Value | None


def find_position_tables(program: Program, positions: Value | None) -> tuple[PositionTable, ...]:
    """Those of a derived program that are read at `positions`, an input, or at slots; the shortest of those that one thing reads."""
    decoding = program.decoding
    assert decoding is not None
    env = {} if positions is None else {positions: _Place(ZERO, positions)}
    walker = _Walker(decoding)
    shortest: dict[Value | None, PositionTable] = {}
    for table in walker.module(program.root, (), env):
        other = shortest.setdefault(table.positions, table)
        if (table.limit.value() or 0) < (other.limit.value() or 0):
            shortest[table.positions] = table
    return tuple(shortest.values())


@mutable
class _Walker:
    decoding: ir.Decoding

    def module(self, module: Module, path: tuple[str, ...], known: Mapping[Value, _Place]) -> Iterator[PositionTable]:
        places = dict(known)
        params: dict[Value, tuple[str, ...]] = {p.value: (*path, p.name) for p in module.params}
        for node in module.body:
            match node:
                case ir.ChildParam():
                    params[node.out] = (*path, *node.path)
                case ir.Index() if self.decoding.rows in node.out.type.axes[0].size.symbols:
                    places[node.out] = _Place(ZERO, None)
                case ir.Take() if node.x in params:
                    yield from self.read(node, params[node.x], places)
                case ir.Elementwise(function="add" | "sub"):
                    places.update(self.moved(node, places))
                case ir.Call() | ir.Fold():
                    for target, inner in self.applied(node, module, path):
                        args = node.args if isinstance(node, ir.Call) else _of_slot(node, module, target)
                        given = {v: places[a] for v, a in zip(target.inputs, args, strict=True) if a in places}
                        yield from self.module(target, inner, given)
                case _ if isinstance(node, _SAME) and (x := next(iter(ir.operands(node)))) in places:
                    places.update(dict.fromkeys(node.outs, places[x]))
                case _:
                    pass

    def read(self, node: ir.Take, name: tuple[str, ...], places: Mapping[Value, _Place]) -> Iterator[PositionTable]:
        for label, index in zip(node.over, node.indices, strict=True):
            if isinstance(index, Value) and index in places:
                limit = node.x.type.axis(label).size - places[index].offset
                if not limit.is_dynamic:
                    yield PositionTable(".".join(name), limit, places[index].positions)

    def moved(self, node: ir.Elementwise, places: Mapping[Value, _Place]) -> dict[Value, _Place]:
        a, b = node.args
        if node.function == "add" and isinstance(b, Value):
            a, b = b, a
        if not isinstance(a, Value) or a not in places or not isinstance(b, Expr):
            return {}
        place = places[a]
        return {node.out: _Place(place.offset + b if node.function == "add" else place.offset - b, place.positions)}

    def applied(self, node: ir.Call | ir.Fold, module: Module, path: tuple[str, ...]) -> Iterator[tuple[Module, tuple[str, ...]]]:
        if isinstance(node.target, Module):
            yield node.target, path
            return
        child = module.child(node.target)
        if isinstance(child, ir.Stack):
            yield from ((slot, (*path, node.target, "i")) for slot, _ in child.slots)
        else:
            yield child.module, (*path, node.target)


def _of_slot(node: ir.Fold, module: Module, target: Module) -> tuple[Value, ...]:
    stack = module.child(node.target)
    assert isinstance(stack, ir.Stack)
    at = next(k for k, (slot, _) in enumerate(stack.slots) if slot is target)
    return tuple(node.args[p] for p in node.inputs[at])
