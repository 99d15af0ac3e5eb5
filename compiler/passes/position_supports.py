"""Where a value is not zero, and where it is not minus infinity: what a mask that a spec writes out says of positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...grammar.frozen import mutable
from .. import ir
from ..dims import ZERO, Expr
from ..ir import Label, Node, Value
from .position_bounds import NOTHING, Bounds, Info, Support, relabel, support_without
from .position_forms import at_most, number, position
from .read_indices import Range, implied


@mutable
class Supports:
    """`nodes` and `ranges` are those that a trace has come across."""

    nodes: dict[Value, Node]
    ranges: dict[Value, Range]

    def loses(self, node: Node, bounds: Bounds, env: Mapping[Value, Info]) -> bool:
        """Whether a result of which no support is known may be zero or minus infinity at some positions all the same."""
        known = [env.get(v, NOTHING) for v in dict.fromkeys(ir.operands(node))]
        sparse = [bool(info.support or info.shown or info.lost) for info in known]
        match node:
            case ir.OneHot():
                return True
            case ir.Elementwise() if node.out.type.dtype == "bool" and not bounds:
                return True
            case ir.Elementwise(function="add" | "sub"):
                return any(info.lost or info.shown for info in known) or (bool(sparse) and all(sparse))
            case ir.Reduce() | ir.Einsum() | ir.CrossEntropy() | ir.Top():
                return any(info.lost for info in known)
            case _:
                return any(sparse)

    def of(self, node: Node, env: Mapping[Value, Info]) -> tuple[Support, Support]:
        """Where the result is not zero (or false), and where it is not minus infinity."""
        known = [env.get(v, NOTHING) for v in ir.operands(node)]
        match node:
            case ir.Elementwise(function="where"):
                return self.where(node, env)
            case ir.Elementwise() if node.out.type.dtype == "bool":
                return self.truth(node.out, True), ()
            case ir.Elementwise(function="mul"):
                return tuple(dict.fromkeys(s for info in known for s in info.support)), ()
            case ir.Elementwise(function="neg" | "div") if known:
                return (known[0].support if isinstance(node.args[0], Value) else ()), ()
            case ir.Elementwise(function="add"):
                return (), tuple(dict.fromkeys(s for info in known for s in info.shown))
            case ir.Elementwise(function="sub"):
                return (), known[0].shown if isinstance(node.args[0], Value) else ()
            case ir.Along(function="softmax"):
                return _with_some(known[0].shown, node), ()
            case ir.OneHot():
                index = env.get(node.x, NOTHING).range
                return tuple((node.axis.label, f) for f in index.upper if f.terms), ()
            case ir.Einsum():
                return support_without(tuple(dict.fromkeys(s for info in known for s in info.support)), node.over), ()
            case ir.Reduce(function="sum" | "any"):
                return support_without(known[0].support, node.over), ()
            case ir.Rename():
                moved = relabel(known[0], dict(zip(node.old, node.new, strict=True)))
                return moved.support, moved.shown
            case ir.Cast() | ir.Expand() | ir.Transpose() | ir.Dropout() | ir.StopGradient():
                return known[0].support, known[0].shown
            case _:
                return self.moved(node, known, env)

    def moved(self, node: Node, known: Sequence[Info], env: Mapping[Value, Info]) -> tuple[Support, Support]:
        """What is left of supports where entries move along some axes."""
        match node:
            case ir.Slice():
                return _shifted(known[0].support, node.over, ZERO - node.start), _shifted(known[0].shown, node.over, ZERO - node.start)
            case ir.Pad():
                support, shown = (_shifted(s, node.over, node.before) for s in (known[0].support, known[0].shown))
                return support if node.value == ZERO else (), shown if (node.value.value() or 0) < -1e8 else ()
            case ir.Split() | ir.Unstack() | ir.Unflatten() | ir.Roll() | ir.Unfold() | ir.Squeeze() | ir.Along(function="cumsum" | "flip"):
                return elsewhere(known[0].support, (node.over,)), elsewhere(known[0].shown, (node.over,))
            case ir.Flatten():
                return elsewhere(known[0].support, node.over), elsewhere(known[0].shown, node.over)
            case ir.Take():
                moved = (*node.over, *(label for v in node.indices if isinstance(v, Value) for label in v.type.labels))
                x = env.get(node.x, NOTHING)
                return elsewhere(x.support, moved), elsewhere(x.shown, moved)
            case ir.Concat():
                first, *others = known
                support = tuple(s for s in first.support if all(s in o.support for o in others))
                shown = tuple(s for s in first.shown if all(s in o.shown for o in others))
                return elsewhere(support, (node.over,)), elsewhere(shown, (node.over,))
            case _:
                return (), ()

    def where(self, node: ir.Elementwise, env: Mapping[Value, Info]) -> tuple[Support, Support]:
        condition, yes, no = node.args
        assert isinstance(condition, Value)
        true = self.truth(condition, True) or env.get(condition, NOTHING).support
        if isinstance(no, Expr):
            inside = env.get(yes, NOTHING) if isinstance(yes, Value) else NOTHING
            if no.value() == 0:
                return tuple(dict.fromkeys((*true, *inside.support))), ()
            if (no.value() or 0) < -1e8:
                return (), tuple(dict.fromkeys((*true, *inside.shown)))
        if isinstance(yes, Expr) and yes.value() == 0:
            return self.truth(condition, False), ()
        if isinstance(yes, Expr) and (yes.value() or 0) < -1e8:
            return (), self.truth(condition, False)
        return (), ()

    def truth(self, value: Value, truth: bool) -> Support:
        """What a bool being true, or false, says of positions."""
        found = [(a.label, f) for a in value.type.axes for f in implied(value, truth, a.label, self.nodes, self.ranges)]
        return tuple((label, form) for label, form in found if form.terms)


def _with_some(shown: Support, node: ir.Along) -> Support:
    """Where a softmax is not zero, if each row surely shows something: of one that shows nothing, all entries are alike."""
    axes, over = node.x.type.axes, node.x.type.axis(node.over)
    last = [f for label, f in shown if label is over.label]
    some = [at_most(number(ZERO), f, axes) for f in last]
    for label, f in shown:
        if label is not over.label:
            reached = [f.substitute(over.label, at) for at in last] or [f.highest_along(over)]
            some += [f.has(over.label) and at_most(position(label), r, axes) for r in reached]
    return shown if all(some) else ()


def _shifted(support: Support, over: Label, by: Expr) -> Support:
    """Of a tensor that is shifted along an axis, entries that come in being zero."""
    here = position(over).shifted(ZERO - by)
    return tuple((label, f.shifted(by) if label is over else f.substitute(over, here)) for label, f in support)


def elsewhere(support: Support, over: Iterable[Label]) -> Support:
    """What is said of positions along other axes by positions along other axes."""
    gone = tuple(over)
    return tuple((label, f) for label, f in support if not any(g is label or f.has(g) for g in gone))
