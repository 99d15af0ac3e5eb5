"""What index functions say: linear bounds of int tensors, and the bound on the keys that a mask implies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product

from ...grammar.frozen import frozen
from .. import ir
from ..dims import ONE, ZERO, Expr, const
from ..ir import Axis, Elementwise, Label, Node, Operand, Region, Value
from .position_forms import Form, above_both, at_most, number, position, positive

_LIMIT = 6


@frozen
class Range:
    """Forms that a tensor's entries never exceed, and forms that they never fall below. `loose`: no entry may come as far as `upper` says;
    `loose_below`: as `lower` says."""

    upper: tuple[Form, ...] = ()
    lower: tuple[Form, ...] = ()
    loose: bool = False
    loose_below: bool = False

    def relabel(self, mapping: Mapping[Label, Label]) -> Range:
        upper, lower = (tuple(f.relabel(mapping) for f in forms) for forms in (self.upper, self.lower))
        return replace(self, upper=upper, lower=lower)

    def never_negative(self, axes: Iterable[Axis]) -> bool:
        """Whether no entry of a tensor of these axes is below zero."""
        axes = tuple(axes)
        return any(at_most(number(ZERO), low, axes) for low in self.lower)


UNKNOWN = Range()


def exactly(form: Form) -> Range:
    return Range((form,), (form,))


def counted(size: Expr) -> Range:
    """Of what numbers the entries of an axis: which of them depends on data."""
    return Range((number(size - ONE),), (number(ZERO),), loose=True, loose_below=True)


def range_of(node: Node, ranges: Mapping[Value, Range]) -> Range:
    """The range of a node's result, from those of its operands."""
    match node:
        case ir.Index():
            return exactly(position(node.out.type.labels[0]))
        case ir.Full():
            return exactly(number(node.value))
        case ir.Rename():
            return ranges.get(node.x, UNKNOWN).relabel(dict(zip(node.old, node.new, strict=True)))
        case ir.Expand() | ir.Transpose() | ir.StopGradient():
            return ranges.get(node.x, UNKNOWN)
        case ir.Cast() if node.x.type.dtype == "int":
            return ranges.get(node.x, UNKNOWN)
        case ir.Reduce(function="argmax" | "argmin") if node.over[0] is not ir.REST:
            return counted(node.x.type.axis(node.over[0]).size)
        case ir.Along(function="argsort"):
            return counted(node.x.type.axis(node.over).size)
        case Elementwise():
            args = [_operand(a, ranges) for a in node.args]
            return _loosened(node, _arithmetic(node, args), args)
        case _:
            return UNKNOWN


def _loosened(node: Elementwise, found: Range, args: Sequence[Range]) -> Range:
    """With a word on whether entries come as far as a range says: they may not where an operand is not known, or a bound was moved to be one of both."""
    above, below = any(a.loose for a in args), any(a.loose_below for a in args)
    if node.function not in ("add", "minimum", "maximum", "clamp"):
        above = below = above or below or node.function in ("mod", "where")
    if any(not (a.upper and a.lower) for a in args):
        above = below = True
    if node.function in ("minimum", "maximum", "clamp"):
        above = above or not {f for a in args for f in a.upper}.issuperset(found.upper)
        below = below or not {f for a in args for f in a.lower}.issuperset(found.lower)
    return replace(found, loose=above, loose_below=below)


def _operand(operand: Operand, ranges: Mapping[Value, Range]) -> Range:
    return exactly(number(operand)) if isinstance(operand, Expr) else ranges.get(operand, UNKNOWN)


def _arithmetic(node: Elementwise, args: Sequence[Range]) -> Range:
    axes = node.out.type.axes
    match node.function:
        case "add":
            return _sum(args[0], args[1])
        case "sub":
            return _sum(args[0], _scaled(args[1], const(-1)))
        case "neg":
            return _scaled(args[0], const(-1))
        case "abs":
            return Range((), _few(args[0].lower + _scaled(args[0], const(-1)).lower))
        case "mul":
            for factor, other in ((node.args[0], args[1]), (node.args[1], args[0])):
                if isinstance(factor, Expr):
                    return _scaled(other, factor)
            return UNKNOWN
        case "floor_div" if isinstance(node.args[1], Expr) and positive(node.args[1]):
            inverse = ONE.divide(node.args[1])
            whole = _scaled(args[0], inverse)
            counted = args[0].never_negative(axes)
            return Range(whole.upper, _few((*(f.shifted(inverse - ONE) for f in whole.lower), *((number(ZERO),) if counted else ()))))
        case "mod" if isinstance(node.args[1], Expr) and positive(node.args[1]):
            counted = args[0].never_negative(axes)  # no remainder exceeds what it is of
            return Range(_few((number(node.args[1] - ONE), *(args[0].upper if counted else ()))), (number(ZERO),))
        case "minimum":
            return Range(_few(args[0].upper + args[1].upper), _below(args[0], args[1], axes))
        case "maximum":
            return Range(_above(args[0], args[1], axes), _few(args[0].lower + args[1].lower))
        case "where":
            return Range(_above(args[1], args[2], axes), _below(args[1], args[2], axes))
        case "clamp":
            return _clamp(node, args)
        case _:
            return UNKNOWN


def _clamp(node: Elementwise, args: Sequence[Range]) -> Range:
    axes, result = node.out.type.axes, args[0]
    low, high = node.args[1], node.args[2]
    if not (isinstance(low, Expr) and low.constant == float("-inf")):
        result = Range(_above(result, args[1], axes), _few(result.lower + args[1].lower))
    if not (isinstance(high, Expr) and high.constant == float("inf")):
        result = Range(_few(result.upper + args[2].upper), _below(result, args[2], axes))
    return result


def _few(forms: Iterable[Form]) -> tuple[Form, ...]:
    return tuple(dict.fromkeys(forms))[:_LIMIT]


def _sum(a: Range, b: Range) -> Range:
    return Range(_few(x + y for x, y in product(a.upper, b.upper)), _few(x + y for x, y in product(a.lower, b.lower)))


def _scaled(a: Range, factor: Expr) -> Range:
    upper, lower = tuple(f.scaled(factor) for f in a.upper), tuple(f.scaled(factor) for f in a.lower)
    return Range(upper, lower) if positive(factor) or factor == ZERO else Range(lower, upper)


def _above(a: Range, b: Range, axes: Sequence[Axis]) -> tuple[Form, ...]:
    return _few(f for x, y in product(a.upper, b.upper) for f in above_both(x, y, axes))


def _below(a: Range, b: Range, axes: Sequence[Axis]) -> tuple[Form, ...]:
    down = const(-1)
    pairs = product(a.lower, b.lower)
    return _few(f.scaled(down) for x, y in pairs for f in above_both(x.scaled(down), y.scaled(down), axes))


# ---------------------------------------------------------------- masks


def implied(value: Value, truth: bool, key: Label, nodes: Mapping[Value, Node], ranges: Mapping[Value, Range]) -> tuple[Form, ...]:
    """Forms that the position along `key` never exceeds where a bool is `truth`."""
    node = nodes.get(value)
    if isinstance(node, ir.Expand | ir.Transpose):
        return implied(node.x, truth, key, nodes, ranges)
    if not isinstance(node, Elementwise):
        return ()
    parts = [a for a in node.args if isinstance(a, Value)]
    match node.function:
        case "not":
            return implied(parts[0], not truth, key, nodes, ranges)
        case "and" | "or":
            sides = [implied(p, truth, key, nodes, ranges) for p in parts]
            if (node.function == "and") == truth:
                return _few(f for side in sides for f in side)
            return _few(f for x, y in product(*sides) for f in above_both(x, y, node.out.type.axes)) if len(sides) == 2 else ()
        case "le" | "lt" | "ge" | "gt" | "eq" | "ne":
            return _from_comparison(node, truth, key, [_operand(a, ranges) for a in node.args])
        case _:
            return ()


_NEGATED = {"le": "gt", "lt": "ge", "ge": "lt", "gt": "le", "eq": "ne", "ne": "eq"}


def _from_comparison(node: Elementwise, truth: bool, key: Label, args: Sequence[Range]) -> tuple[Form, ...]:
    function = node.function if truth else _NEGATED[node.function]
    left, right = args
    slacks: list[Form] = []  # forms that are at least zero
    strict = ONE if function in ("lt", "gt") else ZERO
    if function in ("le", "lt", "eq"):
        slacks += [(u - low).shifted(ZERO - strict) for u, low in product(right.upper, left.lower)]
    if function in ("ge", "gt", "eq"):
        slacks += [(u - low).shifted(ZERO - strict) for u, low in product(left.upper, right.lower)]
    found: list[Form] = []
    for slack in slacks:
        coefficient = ZERO - slack.coefficient(key)
        if coefficient != ZERO and positive(coefficient):
            rest = slack + position(key).scaled(coefficient)
            found.append(rest.scaled(ONE.divide(coefficient)))
    return _few(found)


# ---------------------------------------------------------------- counterexamples


def sees_ahead(region: Region) -> tuple[int, int] | None:
    """A query and a later key that the mask lets it see, if trying small slots finds one. What data says of a key alone may be yes."""
    for i, j in chain(product(range(9), range(12)), product(range(9, 40), range(9, 48))):
        if j > i:
            values: dict[Value, int | float | bool | None] = dict(zip(region.params, (i, j), strict=True))
            for node in region.body:
                values[node.out] = _evaluate(node, values, region.params[0].type.labels[0])
            if values.get(region.result) is True:
                return i, j
    return None


def _evaluate(node: Node, values: Mapping[Value, int | float | bool | None], query: Label) -> int | float | bool | None:
    """One entry of a pure function of the slots; none if it depends on anything else."""
    if isinstance(node, ir.Expand | ir.Transpose | ir.Cast):
        return values.get(node.x)
    if isinstance(node, ir.Full):
        return node.value.value()
    if not isinstance(node, Elementwise):
        return None
    args = [a.value() if isinstance(a, Expr) else values.get(a) for a in node.args]
    if node.function in ("and", "or") and None in args:
        known = [a for a in args if a is not None]
        absorbing = node.function == "or"
        return absorbing if absorbing in known else None
    if any(a is None for a in args) or node.function not in _SCALAR:
        return True if node.out.type.dtype == "bool" and not node.out.type.has(query) else None
    try:
        return _SCALAR[node.function](*args)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None


_SCALAR: dict[str, Callable[..., int | float | bool]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a, "abs": lambda a: abs(a),
    "floor_div": lambda a, b: a // b, "mod": lambda a, b: a % b, "div": lambda a, b: a / b,
    "minimum": min, "maximum": max, "where": lambda c, a, b: a if c else b, "clamp": lambda x, lo, hi: min(max(x, lo), hi),
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "and": lambda a, b: a and b, "or": lambda a, b: a or b, "not": lambda a: not a,
}  # fmt: skip
