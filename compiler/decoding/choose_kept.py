"""What an attend keeps of each token: keys and values, or what both are made of, if that is much cheaper.

The candidates are cuts between the attend and what its module is given: sets of values from which keys and values are reached by free
operations (views) and linear maps that the query, or the result, can absorb. A cut costs, for each cached token and step, its bytes and a
hundredth of the FLOPs that scores and weighted sums then take; keys and values are left only for a cut of at most half their cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...grammar.frozen import frozen
from .. import ir
from ..dims import ONE, Expr
from ..ir import REST, Label, Module, Node, Value
from .common import Kind, Length

BYTES = 2
"""Of an element, as it is served."""
MOST_CUTS = 256

_VIEWS = (
    ir.Rename,
    ir.Expand,
    ir.Transpose,
    ir.Unflatten,
    ir.Flatten,
    ir.Squeeze,
    ir.Concat,
    ir.Split,
    ir.Slice,
    ir.Unstack,
    ir.StackTensors,
)


@frozen
class Cut:
    """`values` are kept; `path` are the nodes between them and keys and values, in order; `linear` says whether a map is absorbed."""

    values: tuple[Value, ...]
    path: tuple[Node, ...]
    absorbs: bool


def choose_kept(node: ir.Attend, module: Module, kinds: Mapping[Value, Kind], length: Length) -> Cut:
    """The cheapest cut by the rule above; of equal ones that nearest the attend."""
    made = {v: n for n in module.body for v in n.outs}
    search = _Search(node, module, made, {n: k for k, n in enumerate(module.body)}, kinds, length)
    first = search.cut(tuple(dict.fromkeys((node.k, node.v))), ())
    best, least = first, search.cost(first) / 2
    for cut in search.further(first):
        cost = search.cost(cut)
        if cost < least or (cost == least and best is first):
            best, least = cut, cost
    if not best.absorbs:
        return first
    return best


@frozen
class _Search:
    node: ir.Attend
    module: Module
    made: Mapping[Value, Node]
    order: Mapping[Node, int]
    kinds: Mapping[Value, Kind]
    length: Length

    def cut(self, values: tuple[Value, ...], path: tuple[Node, ...]) -> Cut:
        return Cut(values, path, any(_is_linear(n, self.module) for n in path))

    def further(self, first: Cut) -> Iterator[Cut]:
        """All cuts above one, those nearest the attend first; of very many, so many."""
        seen, pending = {frozenset(first.values)}, [first]
        while pending:
            cut = pending.pop(0)
            for node in dict.fromkeys(self.made[v] for v in cut.values if v in self.made):
                rest = tuple(v for v in cut.values if v not in node.outs)
                if not self.passes(node) or any(self.is_made_of(v, node) for v in rest):
                    continue
                values = (*rest, *(v for v in self.running(node) if v not in rest))
                if frozenset(values) not in seen and len(seen) < MOST_CUTS:
                    seen.add(frozenset(values))
                    pending.append(self.cut(values, tuple(sorted((node, *cut.path), key=self.order.__getitem__))))
                    yield pending[-1]

    def is_made_of(self, value: Value, node: Node) -> bool:
        seen: set[Value] = set()
        pending = [value]
        while pending:
            found = self.made.get(pending.pop())
            if found is not None and self.order[found] > self.order[node]:
                operands = set(ir.operands(found)) - seen
                if any(v in node.outs for v in operands):
                    return True
                seen |= operands
                pending += operands
        return False

    def running(self, node: Node) -> list[Value]:
        """The operands that have the tokens' axis."""
        return [v for v in dict.fromkeys(ir.operands(node)) if self.kinds.get(v, Kind.FIXED) is Kind.ROWS]

    def passes(self, node: Node) -> bool:
        """Whether a cut may move above a node: a view that leaves the tokens' axis alone, or a linear map of one operand."""
        if any(self.length.runs(a) for label in _named(node) for v in ir.operands(node) for a in v.type.axes if a.label is label):
            return False
        if isinstance(node, ir.Expand) and any(a.size.is_dynamic for a in node.axes):
            return False
        if isinstance(node, _VIEWS):
            return all(v in self.running(node) for v in ir.operands(node))
        return _is_linear(node, self.module) and len(self.running(node)) == 1

    def cost(self, cut: Cut) -> float:
        return BYTES * sum(_number(self.elements(v)) for v in cut.values) + self.flops(cut) / 100

    def elements(self, value: Value) -> Expr:
        """Of one token of one sequence."""
        total = ONE
        for axis in value.type.axes:
            if not axis.size.is_dynamic:
                total = total * axis.size
        return total

    def flops(self, cut: Cut) -> float:
        """Of scores and weighted sums, over one cached token."""
        heads = 1.0
        for axis in self.node.q.type.axes:
            if axis.label is not self.node.feature and not axis.size.is_dynamic:
                heads *= _number(axis.size)
        total = 0.0
        for side in (self.node.k, self.node.v):
            for value, mapped in self.reaching(side, cut).items():
                shared = 1.0
                for axis in () if mapped else value.type.axes:
                    if axis.label is not self.node.feature and not axis.size.is_dynamic and self.node.q.type.has(axis.label):
                        shared *= _number(axis.size)
                total += 2 * _number(self.elements(value)) * heads / shared
        return total

    def reaching(self, side: Value, cut: Cut) -> dict[Value, bool]:
        """The values of a cut that keys (or values) are made of, and whether through a linear map."""
        found: dict[Value, bool] = {}

        def visit(value: Value, mapped: bool) -> None:
            if value in cut.values:
                found[value] = found.get(value, False) or mapped
                return
            node = self.made[value]
            for operand in self.running(node):
                visit(operand, mapped or _is_linear(node, self.module))

        visit(side, False)
        return found


def _number(size: Expr) -> float:
    return float(size.value() or 1)


def _named(node: Node) -> Sequence[Label]:
    """The axes that a view works on."""
    match node:
        case ir.Rename():
            return node.old
        case ir.Flatten():
            return node.over
        case ir.Unflatten() | ir.Squeeze() | ir.Concat() | ir.Split() | ir.Slice() | ir.Unstack():
            return (node.over,)
        case _:
            return ()


def _is_linear(node: Node, module: Module) -> bool:
    """A contraction of one operand with parameters, by itself or as the whole body of a child."""
    if isinstance(node, ir.Einsum):
        return _contracts(node, {p.value for p in module.params})
    if not isinstance(node, ir.Call) or not isinstance(node.target, str) or len(node.args) != 1:
        return False
    child = module.child(node.target)
    if not isinstance(child, ir.Child) or len(node.outs) != 1:
        return False
    inner = child.module
    own = {p.value for p in inner.params}
    maps = [n for n in inner.body if not isinstance(n, _VIEWS)]
    return (
        bool(own) and len(maps) == 1 and isinstance(maps[0], ir.Einsum) and len(maps[0].args) == 2 and bool(own & set(ir.operands(maps[0])))
    )


def _contracts(node: ir.Einsum, own: set[Value]) -> bool:
    return len(node.args) == 2 and sum(v in own for v in node.args) == 1 and REST not in node.over
