"""The type rules: `Body` collects the nodes of one straight-line body, checking each operation as it is added.

Every operation is a method that checks its operands, appends the node and returns its new value (or values). On a mistake it reports a
diagnostic (codes E201 to E249) and raises `Poison`; the caller marks what depends on it, so that one mistake is reported once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..grammar.frozen import mutable
from ..grammar.tree import Span
from . import ir
from .dims import ONE, ZERO, Expr
from .ir import REST, Axis, Label, Operand, Region, Type, Value
from .operations_base import Poison, agree, name_of, show, show_axis, show_size
from .operations_pointwise import FUNCTIONS, infinity
from .operations_shape import Shapes

__all__ = ["FUNCTIONS", "Body", "Poison", "agree", "infinity", "name_of", "scores_type", "show", "show_axis", "show_size"]


def scores_type(q: Type, k: Type, query: Label, k_axis: Label, key: Label, feature: Label) -> Type:
    """q's axes without the feature, the query axis after the others, then the key axis; at least float32."""
    return Type((*q.without(feature, query).axes, q.axis(query), Axis(key, k.axis(k_axis).size)), "float32")


@mutable
class Body(Shapes):
    """The nodes of one body, with a method for each operation."""

    def inner(self) -> Body:
        """A body for a region inside this one: same diagnostics and facts, nodes of its own."""
        return Body([], self.diagnostics, self.facts)

    # ------------------------------------------------ indexing

    def take(self, x: Value, over: Sequence[Label], indices: Sequence[Operand], span: Span, hint: str = "") -> Value:
        """Each indexed axis is replaced by the index's axes that are new; labels shared with x's other axes align."""
        self.distinct([self.one(x, label, "an index", span) for label in over], span, x)
        kept = Value(x.type.without(*over), x.hint, x.span)
        tensors = [i for i in indices if isinstance(i, Value)]
        for tensor in tensors:
            self.need_int(tensor, "an index", span)
        for label, index in zip(over, indices, strict=True):
            if isinstance(index, Expr):
                self._check_number_index(x, x.type.axis(label), index, span)
        self.align([kept, *tensors], span)
        by_label = dict(zip(over, indices, strict=True))
        axes: list[Axis] = []
        for axis in x.type.axes:
            index_ = by_label.get(axis.label)
            if index_ is None:
                axes.append(axis)
            elif isinstance(index_, Value):
                axes += [a for a in index_.type.axes if not kept.type.has(a.label) and not any(a.label is b.label for b in axes)]
        out = self.value(axes, x.type.dtype, span, hint)
        return self.add(ir.Take(outs=(out,), span=span, x=x, over=tuple(over), indices=tuple(indices)))

    def _check_number_index(self, x: Value, axis: Axis, index: Expr, span: Span) -> None:
        self.whole(index, "an index", span)
        number, size = index.value(), axis.size.value()
        if number is not None and size is not None and not -size <= number < size:
            self.fail("E207", f"index {number} lies outside `{axis.label.name}`, which is {size} in {name_of(x)}", span, x)
        if number is not None and (size is None or number not in (0, -1)):
            self.at_least(axis.size, index + ONE if number >= 0 else ZERO - index, span)

    def scatter_add(self, base: Value, index: Value, x: Value, over: Label, span: Span, hint: str = "") -> Value:
        """base with x added at index along `over`; the result has base's axes."""
        self.one(base, over, "scatter_add", span)
        self.need_int(index, "the index of `scatter_add`", span)
        for value, what in ((index, "the index"), (x, "what is added")):
            if value.type.has(over):
                message = f"{what} of `scatter_add` has the axis `{over.name}` that is scattered into"
                self.fail("E203", message, span, value, help=f"rename it: `rename(x, {over.name} = source)`")
        rest = Value(base.type.without(over), base.hint, base.span)
        self.align([rest, index, x], span)
        allowed = {*rest.type.labels, *index.type.labels}
        for label in x.type.labels:
            if label not in allowed:
                message = f"neither {name_of(base)} nor {name_of(index)} has the axis `{label.name}` of {name_of(x)}"
                self.fail("E221", message, span, base, index, x)
        out = self.value(base.type.axes, self.numeric((base, x)), span, hint)
        return self.add(ir.ScatterAdd(outs=(out,), span=span, base=base, index=index, x=x, over=over))

    def one_hot(self, x: Value, axis: Axis, span: Span, hint: str = "") -> Value:
        """bool, with the new last axis."""
        self.need_int(x, "what `one_hot` reads", span)
        out = self.value(self.distinct((*x.type.axes, axis), span, x), "bool", span, hint)
        return self.add(ir.OneHot(outs=(out,), span=span, x=x, axis=axis))

    # ------------------------------------------------ attention

    def attend(
        self,
        q: Value,
        k: Value,
        v: Value,
        query: Label,
        k_axis: Label,
        key: Label,
        scale: Operand,
        mask: Region | None,
        score: Region | None,
        weights: Region | None,
        span: Span,
        hint: str = "",
        feature: Label | None = None,
    ) -> Value:
        """q's axes without the feature (its last axis), then v's own axes but the keys; v's dtype."""
        if feature is None and (not q.type.axes or q.type.axes[-1].label in (REST, query)):
            self.fail("E213", f"the last axis of {name_of(q)} is the one that queries and keys are compared over", span, q)
        feature = feature or q.type.axes[-1].label
        self._check_attend_axes(q, k, v, query, k_axis, feature, span)
        scores = scores_type(q.type, k.type, query, k_axis, key, feature)
        if isinstance(scale, Value):
            self._check_within("the scale", scale, scores, span)
        if mask is not None:
            self.need_bool(mask.result, "a mask", span)
            self._check_within("the mask", mask.result, scores, span)
        if score is not None:
            self._check_within("the score", score.result, scores, span)
        if weights is not None and set(weights.result.type.labels) != set(scores.labels):
            message = f"weights must have the axes of the scores, {show(scores)}, not {show(weights.result.type)}"
            self.fail("E214", message, span, weights.result)
        own = [a for a in v.type.axes if a.label is not k_axis and not any(a.label is b.label for b in scores.axes)]
        out = self.value((*q.type.without(feature).axes, *own), v.type.dtype, span, hint)
        return self.add(
            ir.Attend(
                outs=(out,), span=span, q=q, k=k, v=v, query=query, k_axis=k_axis, key=key, feature=feature,
                scale=scale, mask=mask, score=score, weights=weights,
            )
        )  # fmt: skip

    def _check_attend_axes(self, q: Value, k: Value, v: Value, query: Label, k_axis: Label, feature: Label, span: Span) -> None:
        self.one(q, query, "attend", span)
        for value in (k, v):
            self.one(value, k_axis, "attend", span)
        self.unify(k.type.axis(k_axis), k, v.type.axis(k_axis), v, span)
        self.unify(q.type.axis(feature), q, self.axis(k, feature, span), k, span)
        shared = q.type.without(feature, k_axis)
        for value in (k, v):
            for axis in value.type.axes:
                if shared.has(axis.label):
                    self.unify(shared.axis(axis.label), q, axis, value, span)
        for axis in k.type.axes:
            if axis.label not in (k_axis, feature) and not q.type.has(axis.label):
                message = f"the keys {name_of(k)} have the axis `{axis.label.name}`, which the queries {name_of(q)} lack"
                self.fail("E213", message, span, q, k, help="give the queries that axis, or name the key axis with `over`")
        for value in (q, k, v):
            if value.type.dtype in ("int", "bool"):
                self.fail("E204", f"`attend` needs floats; {name_of(value)} is {value.type.dtype}", span, value)

    def _check_within(self, what: str, result: Value, scores: Type, span: Span) -> None:
        for axis in result.type.axes:
            if not scores.has(axis.label):
                message = f"{what} has the axis `{axis.label.name}`, which the scores {show(scores)} lack"
                self.fail("E214", message, span, result)
            self.unify(scores.axis(axis.label), Value(scores, "scores", span), axis, result, span)
