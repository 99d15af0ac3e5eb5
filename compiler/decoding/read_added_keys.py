"""Whether attention's own weights stay what they are when hidden keys are added behind those that are there.

Decoding rests on it: a query sees the keys so far in one call, and in the other hidden ones behind them. Along the keys, each value of the
region stands in one of three ways: added keys come at its *end*, or (once sorted or turned round) at its *front*, or it does not have them.
Of the entries that they add it is known whether they are minus infinity, zero, positive, finite or none of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ...grammar.frozen import frozen
from .. import ir
from ..dims import Expr, Sym
from ..ir import Attend, Label, Node, Value

Entry = Literal["-inf", "inf", "0", "+", "finite", "true", "false", "?"]


@frozen
class Row:
    """`label`: the axis of keys, if there is one; `front`: what is added comes first there; `entry`: what it is. `before` and `behind`: how many
    entries that are no keys stand in front of them, and behind what is added."""

    label: Label | None
    front: bool
    entry: Entry
    before: int = 0
    behind: int = 0


_FINITE = ("0", "+", "finite")


class _Moves(Exception):  # noqa: N818 -- not a failure of the compiler
    """Added keys move or change what was there."""


def moved_by_added_keys(node: Attend, body: Sequence[Node]) -> Node | None:
    """The operation of the weights that tells how many keys there are, if one does; `body` is what the node stands in."""
    region = node.weights
    if region is None:
        return None
    dynamic = frozenset(s for s in region.params[0].type.axis(node.key).size.symbols if s.value is None)
    reader = _Reader(dynamic, node.query, {out: n for n in body for out in n.outs})
    known = {region.params[0]: Row(node.key, False, "-inf")}
    last: Node | None = None
    for last in region.body:
        try:
            made = reader.row(last, [known.get(v) or reader.given(v) for v in ir.operands(last)])
            known.update((out, made if k == 0 else reader.of(out, made.front, "?")) for k, out in enumerate(last.outs))
        except _Moves:
            return last
    result = known.get(region.result)
    return last if result is not None and (result.front or result.before or result.behind) else None


@frozen
class _Reader:
    dynamic: frozenset[Sym]
    query: Label
    made: Mapping[Value, Node]

    def given(self, value: Value) -> Row:
        """A tensor from outside has an entry for each key at the key's place, if it has keys; what is made of numbers of keys is known."""
        node = self.made.get(value)
        if isinstance(node, ir.Index | ir.Full) or (isinstance(node, ir.Elementwise | ir.Rename | ir.Cast) and value.type.dtype == "int"):
            return self.row(node, [self.given(v) for v in ir.operands(node)])
        return self.of(value, False, "?" if value.type.dtype == "bool" else "finite")

    def of(self, value: Value, front: bool, entry: Entry, before: int = 0, behind: int = 0) -> Row:
        found = [a.label for a in value.type.axes if a.label is not self.query and self.dynamic & set(a.size.symbols)]
        if len(found) > 1:
            raise _Moves
        return Row(found[0], front, entry, before, behind) if found else Row(None, False, entry)

    def row(self, node: Node, given: Sequence[Row]) -> Row:
        """Of a node's first result."""
        out = node.outs[0]
        rows = [row for row in given if row.label is not None]
        if isinstance(node, ir.Concat) and _goes_along(node, rows):
            return self.joined(node, given)
        places = {(row.front, row.before, row.behind) for row in rows}
        if len(places) > 1 or (isinstance(node, ir.Index) and len(node.out.type.axes) != 1):
            raise _Moves
        (place,) = places or {(False, 0, 0)}

        def made(entry: Entry) -> Row:
            return self.of(out, place[0], entry, *place[1:])

        match node:
            case ir.Index():
                return made("+")
            case ir.Full():
                return made(_number(node.value))
            case ir.Elementwise():
                values = iter(given)
                return made(entry_of(node.function, [_number(a) if isinstance(a, Expr) else next(values).entry for a in node.args]))
            case ir.Einsum():
                entry = given[0].entry
                for other in given[1:]:
                    entry = entry_of("mul", [entry, other.entry])
                if _goes_along(node, rows) and entry != "0":
                    raise _Moves
                return self.of(out, False, "finite") if _goes_along(node, rows) else made(entry)
            case ir.Cast() if node.x.type.dtype == "bool":
                return made(entry_of("where", [given[0].entry, "+", "0"]))
            case ir.Cast() | ir.Rename() | ir.Transpose() | ir.Expand() | ir.StopGradient() | ir.Dropout():
                return made(given[0].entry)
            case ir.Slice() | ir.Pad() if _goes_along(node, rows):
                return self.cut(node, rows[0])
            case _ if not _goes_along(node, rows):
                return made("?" if rows or out.type.dtype == "bool" else "finite")
            case _:
                return self.along(node, given)

    def joined(self, node: ir.Concat, given: Sequence[Row]) -> Row:
        """Further entries before the keys, or behind them."""
        at = [k for k, row in enumerate(given) if row.label is node.over]
        sizes = [_whole(a.type.axis(node.over).size) for k, a in enumerate(node.args) if k not in at[:1]]
        if len(at) != 1 or given[at[0]].front:
            raise _Moves
        keys = given[at[0]]
        return self.of(node.out, False, keys.entry, keys.before + sum(sizes[: at[0]]), keys.behind + sum(sizes[at[0] :]))

    def cut(self, node: ir.Slice | ir.Pad, keys: Row) -> Row:
        """Fewer entries at the ends, or more."""
        if isinstance(node, ir.Slice):
            first, last = -_whole(node.start), -_whole(node.x.type.axis(node.over).size - node.stop)
        else:
            first, last = _whole(node.before), _whole(node.after)
        if keys.front or keys.behind + last < 0:
            raise _Moves
        return self.of(node.outs[0], False, keys.entry, keys.before + first, keys.behind + last)

    def along(self, node: Node, given: Sequence[Row]) -> Row:
        """What goes along the keys and is as it was, or added entries come first in it."""
        out, row = node.outs[0], given[0]
        match node:
            case ir.Along(function="softmax" | "log_softmax") if row.entry == "-inf":
                return self.of(out, row.front, "0" if node.function == "softmax" else "-inf", row.before, row.behind)
            case ir.Along(function="sort") if row.entry in ("-inf", "inf"):
                return self.of(out, row.entry == "-inf", row.entry)
            case ir.Along(function="flip") if not row.before and not row.behind:
                return self.of(out, not row.front, row.entry)
            case ir.Along(function="cumsum") if row.entry in ("0", "false") or not (row.front or row.behind):
                return self.of(out, row.front, row.entry if row.entry in ("-inf", "inf") or row.front else "finite", row.before, row.behind)
            case ir.Reduce() if row.entry in _NEUTRAL.get(node.function, ()):
                return self.of(out, False, "?" if out.type.dtype == "bool" else "finite")
            case ir.Top() if row.entry == "-inf" and not row.front:
                return self.of(out, False, "finite")
            case ir.Take() if not row.front and all(other.label is None for other in given[1:]):
                if all(isinstance(i, Value) or (i.value() or 0) >= 0 for i in node.indices):
                    return self.of(out, False, "?" if out.type.dtype == "bool" else "finite")
        raise _Moves


_NEUTRAL: dict[str, tuple[Entry, ...]] = {
    "sum": ("0", "false"), "max": ("-inf",), "logsumexp": ("-inf",), "any": ("false",), "all": ("true",), "argmax": ("-inf",),
}  # fmt: skip


def _goes_along(node: Node, rows: Sequence[Row]) -> bool:
    over = getattr(node, "over", ())
    keys = [row.label for row in rows]
    return any(label in keys for label in (over if isinstance(over, tuple) else (over,)))


def _whole(size: Expr) -> int:
    found = size.value()
    if found is None:
        raise _Moves
    return int(found)


_LOW = -1e3  # no score that counts is below


def _number(value: Expr) -> Entry:
    found = value.value()
    if found is None:
        return "finite"
    if abs(found) >= -_LOW and (found < 0 or found == float("inf")):
        return "-inf" if found < 0 else "inf"
    return "0" if found == 0 else "+" if found > 0 else "finite"


# ---------------------------------------------------------------- entries


def entry_of(function: str, args: Sequence[Entry]) -> Entry:
    """What a pointwise function makes of entries."""
    if function == "where":
        return _chosen(args)
    if function in ("not", "and", "or"):
        return _logic(function, args)
    if "?" in args:
        return "?"
    if function in ("lt", "le", "gt", "ge", "eq", "ne"):
        return _compared(function, args[0], args[1])
    if len(args) == 1:
        return _ONE.get(function, {}).get(args[0], "finite" if args[0] in _FINITE else "?")
    a, b = args[0], args[1]
    low = args.count("-inf")
    if "inf" in args and function != "clamp":
        return "?"
    match function:
        case "maximum" if low:
            return b if a == "-inf" else a
        case "minimum" if low:
            return "-inf"
        case "add" if low:
            return "-inf"
        case "sub" if low:
            return "-inf" if b != "-inf" else "?"
        case "mul" | "div" if low:
            return "-inf" if (a, b) == ("-inf", "+") or (a, b, function) == ("+", "-inf", "mul") else "?"
        case "clamp":
            above = a if b == "-inf" else entry_of("maximum", [a, b])
            return above if args[2] == "inf" else entry_of("minimum", [above, args[2]])
        case _ if low:
            return "?"
        case "mul":
            return "0" if "0" in args else "+" if a == b == "+" else "finite"
        case "div" | "pow" if a in ("0", "+") and b == "+":
            return a
        case "add" if a == "0" or b == "0":
            return b if a == "0" else a
        case "add" | "minimum" | "maximum" if a == b:
            return a
        case _:
            return "finite"


_ONE: dict[str, dict[Entry, Entry]] = {
    "exp": {"-inf": "0", "inf": "inf", "0": "+", "+": "+", "finite": "+"},
    "sigmoid": {"-inf": "0", "0": "+", "+": "+", "finite": "+"},
    "softplus": {"-inf": "0", "0": "+", "+": "+", "finite": "+"},
    "relu": {"-inf": "0", "0": "0", "+": "+"},
    "tanh": {"-inf": "finite", "0": "0", "+": "+"},
    "sqrt": {"0": "0", "+": "+"}, "abs": {"0": "0", "+": "+"}, "neg": {"0": "0", "-inf": "inf", "inf": "-inf"}, "sign": {"-inf": "finite", "0": "0", "+": "+"},
}  # fmt: skip


def _chosen(args: Sequence[Entry]) -> Entry:
    condition, yes, no = args
    if condition in ("true", "false") or yes == no:
        return no if condition == "false" else yes
    return "finite" if yes in _FINITE and no in _FINITE else "?"


def _logic(function: str, args: Sequence[Entry]) -> Entry:
    if function == "not":
        return {"true": "false", "false": "true"}.get(args[0], "?")  # type: ignore[return-value]
    absorbing: Entry = "true" if function == "or" else "false"
    if absorbing in args:
        return absorbing
    return args[0] if all(a == args[0] for a in args) else "?"


def _compared(function: str, a: Entry, b: Entry) -> Entry:
    order = {"-inf": 0, "0": 1, "+": 2, "inf": 3}
    if "-inf" in (a, b) or "inf" in (a, b) or {a, b} == {"0", "+"} or (a == b == "0"):
        left, right = order.get(a, 1.5), order.get(b, 1.5)
        holds = {"lt": left < right, "le": left <= right, "gt": left > right, "ge": left >= right, "eq": left == right, "ne": left != right}
        return "true" if holds[function] else "false"
    return "?"
