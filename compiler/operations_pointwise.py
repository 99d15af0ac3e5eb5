"""Type rules of what keeps, aligns or reduces axes: elementwise functions, reductions, contractions, recurrences, losses."""

from __future__ import annotations

from collections.abc import Sequence

from ..grammar.frozen import mutable
from ..grammar.tree import Span
from . import ir
from .dims import Expr, const
from .ir import REST, Axis, DType, Label, Operand, Value
from .operations_base import BodyBase, name_of, show, show_size

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGIC = ("and", "or", "not")
FLOATING = ("div", "exp", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh", "softplus", "erf")
ARITHMETIC = ("add", "sub", "mul", "floor_div", "mod", "pow", "neg", "minimum", "maximum", "clamp", "abs", "sign", "floor", "relu")
FUNCTIONS = (*COMPARISONS, *LOGIC, *FLOATING, *ARITHMETIC, "where")
_FLOAT_REDUCTIONS = ("mean", "logsumexp")


def _floating(dtype: DType) -> DType:
    return dtype if dtype in ("float", "float32") else "float"


def _counting(dtype: DType) -> DType:
    return "int" if dtype == "bool" else dtype


@mutable
class Pointwise(BodyBase):
    def index(self, axis: Axis, span: Span, slot: bool = False, hint: str = "") -> Value:
        """int[axis]: 0, 1, ..."""
        return self.add(ir.Index(outs=(self.value((axis,), "int", span, hint),), span=span, slot=slot))

    def full(self, axes: Sequence[Axis], value: Expr, dtype: DType, span: Span, hint: str = "") -> Value:
        out = self.value(self.distinct(axes, span), dtype, span, hint)
        return self.add(ir.Full(outs=(out,), span=span, value=value))

    def elementwise(self, function: str, args: Sequence[Operand], span: Span, hint: str = "") -> Value:
        """Operands align by label and broadcast. Comparisons and logic give bool; `div` and the transcendental functions give floats."""
        assert function in FUNCTIONS, function
        values = [a for a in args if isinstance(a, Value)]
        dtype = self._elementwise_dtype(function, args, span)
        axes = self.align(values, span)
        self._no_namesakes(axes, values, span)
        out = self.value(axes, dtype, span, hint)
        return self.add(ir.Elementwise(outs=(out,), span=span, function=function, args=tuple(args)))

    def _no_namesakes(self, axes: Sequence[Axis], values: Sequence[Value], span: Span) -> None:
        """E222 where two operands bring axes of one name that are not one axis: a product of all pairs, which nobody means."""
        for k, axis in enumerate(axes):
            namesakes = (a for a in axes[:k] if a.label.name == axis.label.name)
            other = next((a for a in namesakes if self.name_of_axis(a.label) == self.name_of_axis(axis.label)), None)
            if other is not None and not any(v.type.has(axis.label) and v.type.has(other.label) for v in values):
                sizes = " and ".join(show_size(a.size) for a in (other, axis))
                message = f"two axes called `{axis.label.name}`, of sizes {sizes}, meet here"
                help_ = "they align if they are one axis: name them where the tensors are bound (`y: [..., n] = ...`)"
                self.fail("E222", message, span, *(v for v in values if v.type.has(axis.label) or v.type.has(other.label)), help=help_)

    def _elementwise_dtype(self, function: str, args: Sequence[Operand], span: Span) -> DType:
        if function in COMPARISONS:
            return "bool"
        if function in LOGIC:
            for arg in args:
                self.need_bool(arg, f"what `{function}` combines", span)
            return "bool"
        if function == "where":
            self.need_bool(args[0], "the condition of `where`", span)
            if all(isinstance(a, Value) and a.type.dtype == "bool" for a in args[1:]):
                return "bool"
            return self.numeric(args[1:])
        dtype = self.numeric(args)
        if function in FLOATING:
            return _floating(dtype)
        if function == "pow" and isinstance(args[1], Expr) and (args[1].value() or 0) < 0:
            return _floating(dtype)
        if function == "clamp" and dtype != "int":
            return self._clamp_dtype(args, dtype)
        return dtype

    def _clamp_dtype(self, args: Sequence[Operand], dtype: DType) -> DType:
        """Infinite bounds stand for missing ones and do not make an int a float."""
        infinities = (float("inf"), float("-inf"))
        return self.numeric([a for a in args if not (isinstance(a, Expr) and a.constant in infinities)])

    def cast(self, x: Value, dtype: DType, span: Span, hint: str = "") -> Value:
        return self.add(ir.Cast(outs=(self.value(x.type.axes, dtype, span, hint),), span=span, x=x))

    def reduce(self, function: str, x: Value, over: Sequence[Label], span: Span, hint: str = "") -> Value:
        """Drop axes. `sum` of bools counts; `mean` and `logsumexp` give floats; `argmax` and `argmin` (one axis) give ints."""
        for label in over:
            self.axis(x, label, span)
        dtype = x.type.dtype
        if function in ("any", "all"):
            self.need_bool(x, f"what `{function}` reduces", span)
        elif function in ("argmax", "argmin"):
            if len(over) != 1 or over[0] is REST:
                self.fail("E217", f"`{function}` reduces exactly one axis", span, x, help="`flatten` the axes first")
            dtype = "int"
        else:
            dtype = _floating(dtype) if function in _FLOAT_REDUCTIONS else _counting(dtype)
        out = self.value(x.type.without(*over).axes, dtype, span, hint)
        return self.add(ir.Reduce(outs=(out,), span=span, function=function, x=x, over=tuple(over)))

    def along(self, function: str, x: Value, over: Label, span: Span, hint: str = "") -> Value:
        """softmax, log_softmax, cumsum, sort, argsort, flip: the axes stay."""
        self.one(x, over, function, span)
        match function:
            case "softmax" | "log_softmax":
                dtype = _floating(x.type.dtype)
            case "argsort":
                dtype = "int"
            case "cumsum":
                dtype = _counting(x.type.dtype)
            case _:
                dtype = x.type.dtype
        out = self.value(x.type.axes, dtype, span, hint)
        return self.add(ir.Along(outs=(out,), span=span, function=function, x=x, over=over))

    def one(self, x: Value, label: Label, operation: str, span: Span) -> Axis:
        """The axis of that label, which must be a single one."""
        if label is REST:
            self.fail("E217", f"`{operation}` works along one axis, not along `...`", span, x)
        return self.axis(x, label, span)

    def roll(self, x: Value, shift: Expr, over: Label, span: Span, hint: str = "") -> Value:
        self.one(x, over, "roll", span)
        self.whole(shift, "a shift", span)
        out = self.value(x.type.axes, x.type.dtype, span, hint)
        return self.add(ir.Roll(outs=(out,), span=span, x=x, shift=shift, over=over))

    def top(self, x: Value, k: Expr, over: Label, label: Label, span: Span, hint: str = "") -> tuple[Value, Value]:
        """(values, index), with `label: k` in place of `over`."""
        axis = self.one(x, over, "top", span)
        self.whole(k, "the count of `top`", span)
        if not self.at_least(axis.size, k, span):
            self.fail("E209", f"the {show_size(k)} largest of the axis `{over.name}`, which has {show_size(axis.size)}", span, x)
        axes = self.distinct([Axis(label, k) if a.label is over else a for a in x.type.axes], span, x)
        values, index = self.value(axes, x.type.dtype, span, hint), self.value(axes, "int", span, "")
        self.add(ir.Top(outs=(values, index), span=span, x=x, k=k, over=over, label=label))
        return values, index

    def einsum(self, args: Sequence[Value], over: Sequence[Label], span: Span, hint: str = "") -> Value:
        """Product by label, summed over `over`; axes in the order of the operands."""
        axes = self.align(args, span, in_order=True)
        for label in over:
            if not any(a.label is label for a in axes):
                shapes = " and ".join(name_of(a) for a in args)
                self.fail("E202", f"{shapes}: no operand has the axis `{label.name}` to sum over", span, *args)
        kept = [a for a in axes if not any(a.label is label for label in over)]
        out = self.value(kept, self.numeric(args), span, hint)
        return self.add(ir.Einsum(outs=(out,), span=span, args=tuple(args), over=tuple(over)))

    def linear_recurrence(self, a: Value, b: Value, over: Label, span: Span, hint: str = "") -> Value:
        axes = self.align((b, a), span)
        if over is REST or not any(axis.label is over for axis in axes):
            self.axis(b, over, span)
            self.fail("E217", "`linear_recurrence` works along one axis, not along `...`", span, b)
        out = self.value(axes, _floating(self.numeric((a, b))), span, hint)
        return self.add(ir.LinearRecurrence(outs=(out,), span=span, a=a, b=b, over=over))

    def training(self, span: Span) -> Value:
        """Whether the model is in training mode."""
        out = self.value((), "bool", span, "training")
        return self.add(ir.Training(outs=(out,), span=span))

    def dropout(self, x: Value, rate: Expr, span: Span, hint: str = "") -> Value:
        number = rate.value()
        if number is None or not 0 <= number <= 1:
            self.fail("E207", f"a dropout rate lies between 0 and 1; this is {show_size(rate)}", span)
        if x.type.dtype in ("int", "bool"):
            self.fail("E204", f"`dropout` needs a float; {name_of(x)} is {x.type.dtype}", span, x)
        out = self.value(x.type.axes, x.type.dtype, span, hint)
        return self.add(ir.Dropout(outs=(out,), span=span, x=x, rate=rate))

    def stop_gradient(self, x: Value, span: Span, hint: str = "") -> Value:
        return self.add(ir.StopGradient(outs=(self.value(x.type.axes, x.type.dtype, span, hint),), span=span, x=x))

    def cross_entropy(self, logits: Value, target: Value, over: Label, span: Span, hint: str = "") -> Value:
        """float32 scalar. The targets have the logits' axes but `over`."""
        self.one(logits, over, "cross_entropy", span)
        self.need_int(target, "the target of `cross_entropy`", span)
        self.align((logits, target), span)
        rest = logits.type.without(over)
        if set(target.type.labels) != set(rest.labels):
            message = f"targets of {name_of(logits)} over `{over.name}` must have the axes {show(rest)}; {name_of(target)} has others"
            self.fail("E218", message, span, logits, target)
        if logits.type.dtype in ("int", "bool"):
            self.fail("E204", f"logits must be float; {name_of(logits)} is {logits.type.dtype}", span, logits)
        out = self.value((), "float32", span, hint)
        return self.add(ir.CrossEntropy(outs=(out,), span=span, logits=logits, target=target, over=over))


def infinity(sign: int = 1) -> Expr:
    """The bound of `clamp` that is absent."""
    return const(float("inf") * sign)
