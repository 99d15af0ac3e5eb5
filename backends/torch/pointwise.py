"""Elementwise functions, casts, reductions and what acts along one axis, in torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import Value
from ..python.code import Attribute, Binary, Choice, Code, Items, Subscript, Text, Unary, Var, call, method, number
from ..python.layouts import Tensor, axis_number, declared, place, without
from ..python.shapes import along
from ..python.write_body import BodyWriter

OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floor_div": "//", "mod": "%", "pow": "**",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&", "or": "|",
}  # fmt: skip
METHODS = {"exp", "log", "log1p", "sqrt", "rsqrt", "abs", "sign", "floor", "sin", "cos", "tanh", "sigmoid", "relu", "erf"}
FUNCTIONS: dict[str, Callable[[Code], Code]] = {
    "silu": lambda x: call("F.silu", x),
    "relu": lambda x: call("F.relu", x),
    "gelu": lambda x: call("F.gelu", x),
    "gelu_tanh": lambda x: call("F.gelu", x, approximate=Text('"tanh"')),
    "softplus": lambda x: call("F.softplus", x),
    "neg": lambda x: Unary("-", x),
    "not": lambda x: Unary("~", x),
}
REDUCTIONS = {"max": "amax", "min": "amin"}


# ---------------------------------------------------------------- references for dtype and device


def reference(w: BodyWriter, floating: bool) -> Code:
    """A tensor in scope that has the model's device, and its dtype if `floating`."""
    for value in w.module.inputs:
        if value in w.inputs and value not in w.optional and (not floating or value.type.dtype == "float"):
            return w.inputs[value]
    for value in w.module.inputs:
        if floating and value in w.inputs and value.type.dtype == "float32":
            return w.inputs[value]  # as good where at least float32 is wanted
    found = first_parameter(w.module)
    if found is not None and not w.numbers.plan.is_function:
        return Text("self." + ".".join(found))
    for value, tensor in w.env.items():
        if isinstance(tensor.code, Var) and (not floating or value.type.dtype == "float"):
            return tensor.code
    return w.refuse("nothing here says of which dtype and on which device it is")


def first_parameter(module: ir.Module) -> tuple[str, ...] | None:
    for param in module.params:
        if param.type.dtype == "float":
            return (param.name,)
    for child in module.children:
        if isinstance(child, ir.Stack):
            below = first_parameter(child.slots[0][0])
            if below is not None:
                return (f"{child.name}[0]", *below)
            continue
        below = first_parameter(child.module)
        if below is not None:
            return (child.name, *below)
    return None


DEFAULT = Text("torch.get_default_dtype()")
"""What a constructor makes floats of, tables as well as weights."""


def device(w: BodyWriter) -> Code:
    return Attribute(reference(w, floating=False), "device")


def on_device(w: BodyWriter) -> dict[str, Code]:
    """`device=...`, which a constructor leaves to the context."""
    return {} if w.constructing else {"device": device(w)}


def dtype_code(w: BodyWriter, dtype: ir.DType) -> Code:
    if w.constructing and dtype in ("float", "float32"):
        return DEFAULT
    if dtype in ("int", "bool"):
        return Text({"int": "torch.long", "bool": "torch.bool"}[dtype])
    own = Attribute(reference(w, floating=True), "dtype")
    return own if dtype == "float" else call("torch.promote_types", own, Text("torch.float32"))


def to_dtype(w: BodyWriter, x: Code, old: ir.DType, new: ir.DType) -> Code:
    """A conversion, none where the dtypes are the same."""
    if old == new:
        return x
    if new == "int":
        return method(x, "long")
    if new == "bool":
        return method(x, "bool")
    if w.constructing:
        return method(x, "to", DEFAULT)
    if new == "float32":
        if old in ("int", "bool"):
            w.helpers.add("float32_like")
            return call("float32", x, reference(w, floating=True))
        w.helpers.add("float32")
        return call("float32", x)
    return method(x, "to", Attribute(reference(w, floating=True), "dtype"))


# ---------------------------------------------------------------- elementwise


def lower_elementwise(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Elementwise, node)
    if _triangle(w, node):
        return
    if node.function == "not" and isinstance(node.args[0], Value) and w.read(node.args[0]).code in TRAINING:
        w.env[node.out] = Tensor(Unary("not", w.read(node.args[0]).code), ())
        return
    values = list(dict.fromkeys(a for a in node.args if isinstance(a, Value)))
    layout, codes = w.aligned(values, node.out.type.labels)
    code = elementwise_code(w, node, dict(zip(values, codes, strict=True)))
    w.define(node.out, code, layout, kind=_kind(node.function))


def elementwise_code(w: BodyWriter, node: ir.Elementwise, by_value: Mapping[Value, Code]) -> Code:
    """The function of operands that broadcast."""
    dtype = node.out.type.dtype
    floats = [v for v in by_value if v.type.dtype in ("float", "float32")]
    condition = node.args[0] if node.function == "where" else None
    if dtype in ("float", "float32") and not floats:
        by_value = {v: c if v is condition else to_dtype(w, c, v.type.dtype, dtype) for v, c in by_value.items()}
    args = [by_value[a] if isinstance(a, Value) else w.number(a) for a in node.args]
    if node.function == "floor_div" and dtype in ("float", "float32"):
        code = _floor_divided(args, node.args)
    else:
        code = apply_function(node.function, args, node.args)
    if condition is None or dtype not in ("float", "float32") or list(by_value) != [condition] or w.constructing:
        return code
    if args[0] in DECIDED:
        return _filled(w, code, dtype)
    if all(map(_is_float32, node.args[1:])):  # numbers alone have torch's default dtype
        return to_dtype(w, code, "int", dtype)
    return apply_function("where", [args[0], _filled(w, args[1], dtype), args[2]], node.args)


def _filled(w: BodyWriter, value: Code, dtype: ir.DType) -> Code:
    """A number as a tensor without axes."""
    return call("torch.full", Items(()), value, dtype=dtype_code(w, dtype), **on_device(w))


def _is_float32(operand: ir.Operand) -> bool:
    """Whether a number loses nothing as a float32."""
    constant = operand.constant if isinstance(operand, Expr) else None
    if constant is None or not math.isfinite(constant):
        return constant is not None
    fraction, exponent = math.frexp(constant)
    return (fraction * 2**24).is_integer() and exponent < 128


def _triangle(w: BodyWriter, node: ir.Elementwise) -> bool:
    """`j <= i` over two axes of one size."""
    if node.function not in ("le", "ge") or any(a not in w.indices for a in node.args):
        return False
    low, high = node.args if node.function == "le" else node.args[::-1]
    assert isinstance(low, Value) and isinstance(high, Value)
    size = w.indices[low]
    if size != w.indices[high] or low.type.labels == high.type.labels:
        return False
    n = w.number(size)
    square = call("torch.ones", n, n, dtype=Text("torch.bool"), **on_device(w))
    w.define(node.out, method(square, "tril"), (high.type.labels, low.type.labels), kind="causal")
    return True


def _kind(function: str) -> str:
    return {"exp": "exp", "where": "chosen", "eq": "equal"}.get(function, "y")


def apply_function(function: str, args: list[Code], operands: tuple[ir.Operand, ...]) -> Code:
    if function == "pow" and isinstance(operands[1], Expr) and operands[1].constant == 2:
        return method(args[0], "square")
    if function in FUNCTIONS:
        return FUNCTIONS[function](args[0])
    if function in OPERATORS:
        return Binary(OPERATORS[function], *args)
    if function in METHODS:
        return method(args[0], function)
    if function == "where" and args[0] in DECIDED:
        return Choice(*args)
    if function == "where":
        return call("torch.where", *args)
    if function in ("maximum", "minimum"):
        return _bounded(function, args, operands)
    assert function == "clamp", function
    return _clamp(args, operands)


def _floor_divided(args: list[Code], operands: tuple[ir.Operand, ...]) -> Code:
    """`//` of floats has no derivative in torch; these have that of a step, 0."""
    if isinstance(operands[0], Expr):
        return method(Binary("/", *args), "floor")
    return call("torch.div", *args, rounding_mode=Text('"floor"'))


def _bounded(function: str, args: list[Code], operands: tuple[ir.Operand, ...]) -> Code:
    numbers = [isinstance(o, Expr) for o in operands]
    if any(numbers):
        x, bound = (args[1], args[0]) if numbers[0] else (args[0], args[1])
        return method(x, "clamp", **{"min" if function == "maximum" else "max": bound})
    return call(f"torch.{function}", *args)


def _clamp(args: list[Code], operands: tuple[ir.Operand, ...]) -> Code:
    low, high = (
        None if isinstance(o, Expr) and o.constant in (float("inf"), float("-inf")) else a
        for o, a in zip(operands[1:], args[1:], strict=True)
    )
    if low is not None and high is not None:
        return method(args[0], "clamp", low, high)
    return method(args[0], "clamp", **({"min": low} if low is not None else {"max": high} if high is not None else {}))


def lower_cast(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Cast, node)
    t = w.read(node.x)
    old, new = node.x.type.dtype, node.out.type.dtype
    if t.code in DECIDED:
        w.define(node.out, call("torch.tensor", t.code, dtype=dtype_code(w, new), device=device(w)), t.layout)
        return
    if old == new:
        w.alias(node.out, t)
        return
    w.define(node.out, to_dtype(w, t.code, old, new), t.layout)


# ---------------------------------------------------------------- reductions, along one axis


def lower_reduce(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Reduce, node)
    t = w.apart(w.read(node.x), *node.over)
    layout = without(t.layout, node.over)
    if ir.REST in node.over:
        if layout:
            w.refuse("a reduction over the rest of the axes")
        w.define(node.out, method(t.code, REDUCTIONS.get(node.function, node.function)), ())
        return
    dims = [axis_number(t.layout, place(t.layout, label)) for label in node.over]
    code = t.code
    if node.function == "mean" and node.x.type.dtype in ("int", "bool"):
        code = to_dtype(w, code, node.x.type.dtype, node.out.type.dtype)
    if node.function == "prod" and len(dims) > 1:  # which torch takes one at a time
        for dim in sorted((d % len(t.layout) for d in dims), reverse=True):
            code = method(code, "prod", number(dim))
        w.define(node.out, code, layout, kind=node.function)
        return
    if not layout and node.function in ("sum", "mean", "max", "min", "any", "all"):
        w.define(node.out, method(code, REDUCTIONS.get(node.function, node.function)), (), kind=node.function)
        return
    where = number(dims[0]) if len(dims) == 1 else Items(tuple(map(number, sorted(dims, key=lambda d: d % len(t.layout)))))
    w.define(node.out, method(code, REDUCTIONS.get(node.function, node.function), where), layout, kind=node.function)


def lower_along(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Along, node)
    t = w.apart(w.read(node.x), node.over)
    dim = along(t.layout, node.over)
    match node.function:
        case "sort":
            code: Code = Attribute(method(t.code, "sort", dim=dim, stable=Text("True")), "values")
        case "argsort":
            code = method(t.code, "argsort", dim=dim, stable=Text("True"))
        case "flip":
            code = method(t.code, "flip", dim)
        case _:
            code = method(t.code, node.function, dim)
    w.define(node.out, code, t.layout, kind="order" if node.function == "argsort" else "y")


def lower_roll(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Roll, node)
    t = w.apart(w.read(node.x), node.over)
    dim = along(t.layout, node.over)
    part = node.x.type.axis(node.over).size.divide(node.shift).constant if node.shift.constant is None else None
    if isinstance(part, int) and part > 1 and isinstance(t.code, Var):
        shift: Code = Binary("//", Subscript(Attribute(t.code, "shape"), (dim,)), number(part))
    else:
        shift = w.number(node.shift)
    w.define(node.out, method(t.code, "roll", shift, dim), t.layout)


def lower_top(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Top, node)
    t = w.apart(w.read(node.x), node.over)
    layout = tuple((node.label,) if dim == (node.over,) else dim for dim in t.layout)
    dim = along(t.layout, node.over)
    k = w.number(node.k)
    args = (k,) if dim == number(-1) else (k, dim)
    w.define_several(node.outs, method(t.code, "topk", *args), (layout, layout), ("values", "index"))


TRAINING: tuple[Code, ...] = (Text("self.training"), Text("training"))
DECIDED = (*TRAINING, *(Unary("not", code) for code in TRAINING))


def training_mode(w: BodyWriter) -> Code:
    """Python's bool: an attribute of every module, an argument of a function."""
    return TRAINING[w.numbers.plan.is_function]


def lower_training(w: BodyWriter, node: ir.Node) -> None:
    """Python's bool: what it chooses between is a branch of an expression."""
    w.env[node.outs[0]] = Tensor(training_mode(w), ())


def lower_dropout(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Dropout, node)
    t = w.read(node.x)
    w.define(node.out, call("F.dropout", t.code, w.number(node.rate), training_mode(w)), t.layout)


def lower_stop_gradient(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.StopGradient, node)
    t = w.read(node.x)
    w.define(node.out, method(t.code, "detach"), t.layout)


def lower_index(w: BodyWriter, node: ir.Node) -> None:
    """One `arange` for each size."""
    out = node.outs[0]
    axis = out.type.axes[0]
    if out in w.places:
        w.env[out] = Tensor(w.places[out], declared(out.type))
        return
    if out in w.by_blocks:
        w.by_blocks[out]()
        return
    w.indices[out] = axis.size
    if axis.size in w.ranges:
        w.alias(out, Tensor(w.ranges[axis.size], ((axis.label,),)))
        return
    w.define(out, call("torch.arange", w.number(axis.size), **on_device(w)), ((axis.label,),), kind="index")
    w.ranges[axis.size] = w.read(out).code


def lower_full(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Full, node)
    kind = node.out.type
    sizes = Items(tuple(w.number(a.size) for a in kind.axes))
    layout = tuple((a.label,) for a in kind.axes)
    options = {"dtype": dtype_code(w, kind.dtype), **on_device(w)}
    constant = node.value.constant
    if kind.dtype == "bool":
        code = call("torch.full", sizes, Text(str(bool(constant))), **options)
    elif constant in (0, 1) and kind.axes:
        code = call("torch.zeros" if constant == 0 else "torch.ones", *sizes.items, **options)
    else:
        code = call("torch.full", sizes, w.number(node.value), **options)
    w.define(node.out, code, layout, kind="full")


def lower_cross_entropy(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.CrossEntropy, node)
    t = w.apart(w.read(node.logits), node.over)
    rows = without(t.layout, [node.over])
    logits = w.arranged(t, (*rows, (node.over,)))
    target = w.arranged(w.read(node.target), rows)
    if node.logits.type.dtype != "float32":
        logits = to_dtype(w, logits, node.logits.type.dtype, "float32")
    if len(rows) != 1:
        logits, target = method(logits, "flatten", number(0), number(len(rows) - 1)), method(target, "flatten")
    w.helpers.add("cross_entropy")
    w.define(node.out, call("cross_entropy", logits, target), (), kind="loss")
