"""Type rules of what only rearranges: split, flatten, rename, expand, concat, pad, slice, unfold."""

from __future__ import annotations

from collections.abc import Sequence

from ..grammar.frozen import mutable
from ..grammar.tree import Span
from . import ir
from .dims import ONE, ZERO, Expr, apply, const
from .ir import REST, Axis, DType, Label, Value
from .operations_base import RANK, name_of, product, show_axis, show_size
from .operations_pointwise import Pointwise


@mutable
class Shapes(Pointwise):
    def split(
        self, x: Value, over: Label, sizes: Sequence[Expr], labels: Sequence[Label], span: Span, hints: Sequence[str] = ()
    ) -> tuple[Value, ...]:
        """Consecutive pieces of one axis."""
        axis = self.one(x, over, "split", span)
        total = ZERO
        for size in sizes:
            self.whole(size, "the size of a piece", span)
            total = total + size
        if not self.same(total, axis.size, span):
            pieces = " = ".join(dict.fromkeys((" + ".join(show_size(s) for s in sizes), show_size(total))))
            message = f"the pieces of `{over.name}` add up to {pieces}, but {name_of(x)} has {show_size(axis.size)}"
            self.fail("E205", message, span, x)
        outs = []
        for k, (size, label) in enumerate(zip(sizes, labels, strict=True)):
            axes = self.distinct([Axis(label, size) if a.label is over else a for a in x.type.axes], span, x)
            outs.append(self.value(axes, x.type.dtype, span, hints[k] if k < len(hints) else ""))
        self.add(ir.Split(outs=tuple(outs), span=span, x=x, over=over, sizes=tuple(sizes), labels=tuple(labels)))
        return tuple(outs)

    def unflatten(self, x: Value, over: Label, axes: Sequence[Axis], span: Span, hint: str = "") -> Value:
        """One axis becomes several, row-major."""
        axis = self.one(x, over, "unflatten", span)
        total = product(axes)
        if not self.same(total, axis.size, span):
            shown = " * ".join(show_size(a.size) for a in axes)
            new = f"[{', '.join(map(show_axis, axes))}]"
            message = f"{new} holds {shown} = {show_size(total)}, but `{over.name}` is {show_size(axis.size)} in {name_of(x)}"
            self.fail("E206", message, span, x)
        spread = [b for a in x.type.axes for b in (axes if a.label is over else (a,))]
        out = self.value(self.distinct(spread, span, x), x.type.dtype, span, hint)
        return self.add(ir.Unflatten(outs=(out,), span=span, x=x, over=over, axes=tuple(axes)))

    def flatten(self, x: Value, over: Sequence[Label], label: Label, span: Span, hint: str = "") -> Value:
        """Several axes become one, row-major in the order of `over`, where the first of them in x stood."""
        merged = [self.one(x, item, "flatten", span) for item in over]
        self.distinct(merged, span, x)
        axes: list[Axis] = []
        placed = False
        for axis in x.type.axes:
            if not any(axis.label is item for item in over):
                axes.append(axis)
            elif not placed:
                axes.append(Axis(label, product(merged)))
                placed = True
        out = self.value(self.distinct(axes, span, x), x.type.dtype, span, hint)
        return self.add(ir.Flatten(outs=(out,), span=span, x=x, over=tuple(over), label=label))

    def rename(self, x: Value, old: Sequence[Label], new: Sequence[Label], span: Span, hint: str = "") -> Value:
        mapping = dict(zip(old, new, strict=True))
        for label in old:
            self.axis(x, label, span)
        axes = self.distinct([Axis(mapping.get(a.label, a.label), a.size) for a in x.type.axes], span, x)
        out = self.value(axes, x.type.dtype, span, hint)
        return self.add(ir.Rename(outs=(out,), span=span, x=x, old=tuple(old), new=tuple(new)))

    def transpose(self, x: Value, labels: Sequence[Label], span: Span, hint: str = "") -> Value:
        """The axes declared in another order."""
        if len(set(labels)) != len(labels) or set(labels) != set(x.type.labels):
            listed = ", ".join(label.name for label in labels)
            self.fail("E215", f"[{listed}] is not an order of the axes of {name_of(x)}", span, x, help="name each axis once")
        out = self.value([x.type.axis(label) for label in labels], x.type.dtype, span, hint)
        return self.add(ir.Transpose(outs=(out,), span=span, x=x))

    def expand(self, x: Value, axes: Sequence[Axis], span: Span, hint: str = "") -> Value:
        out = self.value(self.distinct((*axes, *x.type.axes), span, x), x.type.dtype, span, hint)
        return self.add(ir.Expand(outs=(out,), span=span, x=x, axes=tuple(axes)))

    def squeeze(self, x: Value, over: Label, span: Span, hint: str = "") -> Value:
        axis = self.one(x, over, "squeeze", span)
        if not self.same(axis.size, ONE, span):
            message = f"`{over.name}` is {show_size(axis.size)} in {name_of(x)}, and only an axis of size 1 can be squeezed"
            self.fail("E208", message, span, x)
        out = self.value(x.type.without(over).axes, x.type.dtype, span, hint)
        return self.add(ir.Squeeze(outs=(out,), span=span, x=x, over=over))

    def alike(self, args: Sequence[Value], span: Span) -> list[Value]:
        """The operands cast to one dtype."""
        kinds: list[DType] = [a.type.dtype for a in args]
        dtype = max(kinds, key=RANK.__getitem__)
        return [a if a.type.dtype == dtype else self.cast(a, dtype, span) for a in args]

    def stack(self, args: Sequence[Value], label: Label, span: Span, hint: str = "") -> Value:
        """Join along a new last axis; operands that lack an axis are expanded."""
        axes = self.align(args, span)
        whole: list[Value] = []
        for arg in self.alike(args, span):
            missing = [a for a in axes if not arg.type.has(a.label)]
            whole.append(self.transpose(self.expand(arg, missing, span), [a.label for a in axes], span) if missing else arg)
        size = ZERO
        for _ in args:
            size = size + ONE
        out = self.value(self.distinct((*axes, Axis(label, size)), span, *args), whole[0].type.dtype, span, hint)
        return self.add(ir.StackTensors(outs=(out,), span=span, args=tuple(whole), label=label))

    def unstack(self, x: Value, over: Label, span: Span, hints: Sequence[str] = ()) -> tuple[Value, ...]:
        """The slices along an axis of known size, which must stay what it is: there are as many results."""
        axis = self.one(x, over, "unstack", span)
        count = axis.size.value()
        if count is None or count != int(count):
            self.fail("E216", f"`unstack` needs the size of `{over.name}`, which is {axis.size}", span, x)
        self.same(axis.size, const(int(count)), span)
        axes = x.type.without(over).axes
        outs = tuple(self.value(axes, x.type.dtype, span, hints[k] if k < len(hints) else "") for k in range(int(count)))
        self.add(ir.Unstack(outs=outs, span=span, x=x, over=over))
        return outs

    def concat(self, args: Sequence[Value], over: Label, span: Span, label: Label | None = None, hint: str = "") -> Value:
        """Join along `over`; the other axes broadcast by label. The joined axis takes `label`, if given."""
        size = ZERO
        for arg in args:
            size = size + self.one(arg, over, "concat", span).size
        others = [Value(a.type.without(over), a.hint, a.span) for a in args]
        rest = self.align(others, span)
        widest = max(args, key=lambda v: len(v.type.axes) + v.type.has(REST))
        kept = {a.label: a for a in rest}
        axes = [Axis(over, size) if a.label is over else kept.pop(a.label) for a in widest.type.axes]
        final = hint if label is None or label is over else ""
        operands = self.alike(args, span)
        out = self.value(self.distinct((*axes, *kept.values()), span, *args), operands[0].type.dtype, span, final)
        self.add(ir.Concat(outs=(out,), span=span, args=tuple(operands), over=over))
        return out if label is None or label is over else self.rename(out, (over,), (label,), span, hint)

    def pad(self, x: Value, over: Label, before: Expr, after: Expr, value: Expr, span: Span, hint: str = "") -> Value:
        axis = self.one(x, over, "pad", span)
        for amount in (before, after):
            self.whole(amount, "an amount of padding", span)
            if (number := amount.value()) is not None and number < 0:
                self.fail("E207", f"an amount of padding cannot be negative; this is {number}", span, help="use a range `x[t = a .. b]`")
            elif any(coefficient < 0 for _, coefficient in amount.terms):
                self.at_least(amount, ZERO, span)
        axes = [Axis(over, axis.size + before + after) if a is axis else a for a in x.type.axes]
        out = self.value(axes, x.type.dtype, span, hint)
        return self.add(ir.Pad(outs=(out,), span=span, x=x, over=over, before=before, after=after, value=value))

    def slice(self, x: Value, over: Label, start: Expr, stop: Expr, span: Span, hint: str = "") -> Value:
        """`x[start:stop]`; negative ends have been resolved by the caller."""
        axis = self.one(x, over, "range", span)
        for bound in (start, stop):
            self.whole(bound, "the end of a range", span)
        ends = start.value(), stop.value()
        disordered = None not in ends and not 0 <= ends[0] <= ends[1]  # type: ignore[operator]
        if disordered or not self.at_least(axis.size, stop, span):
            ends_ = f"{show_size(start)} .. {show_size(stop)}"
            message = f"the range {ends_} lies outside `{over.name}`, which is {show_size(axis.size)} in {name_of(x)}"
            self.fail("E207", message, span, x)
        axes = [Axis(over, stop - start) if a is axis else a for a in x.type.axes]
        out = self.value(axes, x.type.dtype, span, hint)
        return self.add(ir.Slice(outs=(out,), span=span, x=x, over=over, start=start, stop=stop))

    def unfold(self, x: Value, over: Label, window: Axis, stride: Expr, dilation: Expr, span: Span, hint: str = "") -> Value:
        """`[..., t, ...]` to `[..., t: (t - (k - 1) * dilation - 1) // stride + 1, ..., k]`."""
        axis = self.one(x, over, "unfold", span)
        for number, what in ((window.size, "the width of a window"), (stride, "a stride"), (dilation, "a dilation")):
            self.whole(number, what, span)
            if (known := number.value()) is not None and known < 1:
                self.fail("E220", f"{what} must be at least 1; this is {known}", span)
        reach = (window.size - ONE) * dilation
        if not self.at_least(axis.size, reach + ONE, span):
            width = show_size(reach + ONE)
            message = f"a window that reaches over {width} does not fit `{over.name}`, which is {show_size(axis.size)} in {name_of(x)}"
            self.fail("E220", message, span, x, help="`pad` the axis first")
        count = axis.size - reach if stride == ONE else apply("floor_div", axis.size - reach - ONE, stride) + ONE
        axes = [*(Axis(over, count) if a is axis else a for a in x.type.axes), window]
        out = self.value(self.distinct(axes, span, x), x.type.dtype, span, hint)
        return self.add(ir.Unfold(outs=(out,), span=span, x=x, over=over, window=window, stride=stride, dilation=dilation))
