"""Elementwise functions, casts, reductions and what acts along one axis, in NumPy.

Python numbers take the dtype of the array beside them; whole-number arrays do not, so they are cast where the result is float. Every
float is of the dtype of the parameters: at least float32, so that a cast to float32 is no code."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import Label, Value
from ...grammar.frozen import mutable
from ..python.code import Attribute, Binary, Call, Code, Items, Subscript, Text, Unary, Var, call, method, number
from ..python.layouts import Layout, axis_number, place, without
from ..python.shapes import along
from ..python.write_body import BodyWriter
from .cache_arguments import CACHE, starts_later

FLOATS = ("float", "float32")
OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floor_div": "//", "mod": "%", "pow": "**",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&", "or": "|",
}  # fmt: skip
PLAIN = {"exp", "log", "log1p", "sqrt", "abs", "sign", "floor", "sin", "cos", "tanh", "maximum", "minimum", "where"}
OWN = {"sigmoid", "silu", "gelu", "gelu_tanh", "softplus", "erf"}
FUNCTIONS: dict[str, Callable[[Code], Code]] = {
    "relu": lambda x: call("np.maximum", x, number(0)),
    "rsqrt": lambda x: Binary("/", number(1), call("np.sqrt", x)),
    "neg": lambda x: Unary("-", x),
    "not": lambda x: Unary("~", x),
}


@mutable
class FunctionWriter(BodyWriter):
    """`order`: labels in the order in which vectors that are combined become dimensions, where it matters to what reads the result."""

    order: tuple[Label, ...] = ()


# ---------------------------------------------------------------- dtypes


def dtype_code(w: BodyWriter, dtype: ir.DType) -> Code:
    """`np.int64`, `bool`, or the dtype of a float in scope."""
    if dtype in ("int", "bool"):
        return Text({"int": "np.int64", "bool": "bool"}[dtype])
    for value in w.module.inputs:
        if value in w.inputs and value not in w.optional and value.type.dtype in FLOATS:
            return Attribute(w.inputs[value], "dtype")
    found = first_parameter(w.module)
    if found is not None:
        return Attribute(Subscript(Text("params"), (Text(f'"{found}"'),)), "dtype")
    known = next((t.code for v, t in w.env.items() if isinstance(t.code, Var) and v.type.dtype in FLOATS), None)
    if known is None:
        w.refuse("nothing here says of which dtype it is")
    return Attribute(known, "dtype")


def first_parameter(module: ir.Module) -> str | None:
    """The path of some float parameter."""
    own = next((p.name for p in module.params if p.type.dtype in FLOATS), None)
    if own is not None:
        return own
    for child in module.children:
        below, step = (child.slots[0][0], f"{child.name}.0") if isinstance(child, ir.Stack) else (child.module, child.name)
        found = first_parameter(below)
        if found is not None:
            return f"{step}.{found}"
    return None


def to_dtype(w: BodyWriter, x: Code, old: ir.DType, new: ir.DType) -> Code:
    if old == new or (old in FLOATS and new in FLOATS):
        return x
    if isinstance(x, Call) and x.function == Text("np.arange") and new in FLOATS:
        return Call(x.function, x.args, (("dtype", dtype_code(w, new)),))
    return method(x, "astype", dtype_code(w, new))


# ---------------------------------------------------------------- elementwise


def lower_elementwise(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Elementwise, node)
    values = list(dict.fromkeys(a for a in node.args if isinstance(a, Value)))
    layout, codes = _aligned(w, values, node.out.type.labels) if values else ((), [])
    dtype = node.out.type.dtype
    by_value = dict(zip(values, codes, strict=True))
    if dtype in FLOATS:
        skip = node.args[0] if node.function == "where" else None
        by_value = {v: c if v is skip else to_dtype(w, c, v.type.dtype, dtype) for v, c in by_value.items()}
    args = [by_value[a] if isinstance(a, Value) else w.number(a) for a in node.args]
    code = apply_function(node.function, args, node.args)
    if node.function == "where" and not any(isinstance(a, Value) for a in node.args[1:]):
        code = method(code, "astype", dtype_code(w, dtype))
    w.define(node.out, code, layout)


def _aligned(w: BodyWriter, values: list[Value], wanted: tuple[Label, ...]) -> tuple[Layout, list[Code]]:
    """Operands ready to broadcast. Vectors along different axes can have them in any order: in the writer's."""
    order = w.order if isinstance(w, FunctionWriter) else ()
    layout, codes = w.aligned(values, wanted)
    if all(dim[0] in order for dim in layout) and all(len(w.read(v).layout) <= 1 for v in values):
        layout = tuple(sorted(layout, key=lambda dim: order.index(dim[0])))
        codes = [w.spread(w.read(v), layout) for v in values]
    return layout, codes


def apply_function(function: str, args: list[Code], operands: tuple[ir.Operand, ...]) -> Code:
    if function in FUNCTIONS:
        return FUNCTIONS[function](args[0])
    if function in OPERATORS:
        return Binary(OPERATORS[function], *args)
    if function in PLAIN:
        return call(f"np.{function}", *args)
    if function in OWN:
        return call(function, *args)
    assert function == "clamp", function
    return _clamp(args, operands)


def _clamp(args: list[Code], operands: tuple[ir.Operand, ...]) -> Code:
    infinite = [isinstance(o, Expr) and o.constant in (float("inf"), float("-inf")) for o in operands[1:]]
    if infinite[0] and infinite[1]:
        return args[0]
    if infinite[0]:
        return call("np.minimum", args[0], args[2])
    if infinite[1]:
        return call("np.maximum", args[0], args[1])
    return call("np.clip", *args)


def lower_cast(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Cast, node)
    t = w.read(node.x)
    old, new = node.x.type.dtype, node.out.type.dtype
    if old == new or (old in FLOATS and new in FLOATS):
        w.alias(node.out, t)
    else:
        w.define(node.out, to_dtype(w, t.code, old, new), t.layout)


# ---------------------------------------------------------------- reductions, along one axis


def lower_reduce(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Reduce, node)
    t = w.apart(w.read(node.x), *node.over)
    layout = without(t.layout, node.over)
    code = to_dtype(w, t.code, node.x.type.dtype, node.out.type.dtype) if node.function in ("mean", "logsumexp", "prod") else t.code
    if ir.REST in node.over:
        if layout:
            w.refuse("a reduction over the rest of the axes")
        axes: tuple[Code, ...] = ()
    else:
        dims = sorted(axis_number(t.layout, place(t.layout, label)) for label in node.over)
        axes = (number(dims[0]) if len(dims) == 1 else Items(tuple(map(number, dims))),)
    if node.function == "logsumexp":
        if not axes:
            axes = (call("tuple", call("range", Attribute(code, "ndim"))),)
        w.define(node.out, call("logsumexp", code, *axes), layout)
    else:
        w.define(node.out, method(code, node.function, *axes), layout, kind=node.function)


def lower_along(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Along, node)
    t = w.apart(w.read(node.x), node.over)
    axis = along(t.layout, node.over)
    match node.function:
        case "softmax" | "log_softmax":
            code: Code = call(node.function, to_dtype(w, t.code, node.x.type.dtype, node.out.type.dtype), axis)
        case "sort" | "argsort":
            code = call(f"np.{node.function}", t.code, axis, kind=Text('"stable"'))
        case _:
            code = call(f"np.{node.function}", t.code, axis)
    w.define(node.out, code, t.layout, kind="order" if node.function == "argsort" else "y")


def lower_roll(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Roll, node)
    t = w.apart(w.read(node.x), node.over)
    w.define(node.out, call("np.roll", t.code, w.number(node.shift), along(t.layout, node.over)), t.layout)


def lower_top(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Top, node)
    t = w.apart(w.read(node.x), node.over)
    layout = tuple((node.label,) if dim == (node.over,) else dim for dim in t.layout)
    code = call("top", t.code, w.number(node.k), along(t.layout, node.over))
    w.define_several(node.outs, code, (layout, layout), ("values", "index"))


def lower_unchanged(w: BodyWriter, node: ir.Node) -> None:
    """Dropout and stopped gradients: nothing, where nothing is trained."""
    node = cast(ir.Dropout | ir.StopGradient, node)
    w.alias(node.out, w.read(node.x))


def counted(w: BodyWriter, value: Value, size: Expr) -> Code:
    """0, 1, ... along an axis; along the tokens of a call, from the number of those before."""
    code = call("np.arange", w.number(size))
    return Binary("+", call("before", CACHE), code) if starts_later(w, value) else code


def lower_index(w: BodyWriter, node: ir.Node) -> None:
    axis = node.outs[0].type.axes[0]
    w.define(node.outs[0], counted(w, node.outs[0], axis.size), ((axis.label,),), kind="index")


def lower_full(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Full, node)
    kind = node.out.type
    w.define(
        node.out, full(w, [w.number(a.size) for a in kind.axes], node.value, kind.dtype), tuple((a.label,) for a in kind.axes), kind="full"
    )


def full(w: BodyWriter, sizes: list[Code], value: Expr, dtype: ir.DType) -> Code:
    """`np.ones((B, T), np.int64)`."""
    shape = Items(tuple(sizes)) if len(sizes) != 1 else sizes[0]
    if dtype == "bool":
        return call("np.full", shape, Text(str(bool(value.constant))))
    if value.constant in (0, 1):
        return call("np.zeros" if value.constant == 0 else "np.ones", shape, dtype_code(w, dtype))
    return call("np.full", shape, w.number(value), dtype_code(w, dtype))


def lower_cross_entropy(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.CrossEntropy, node)
    t = w.apart(w.read(node.logits), node.over)
    rows = without(t.layout, [node.over])
    logits = w.arranged(t, (*rows, (node.over,)))
    w.define(node.out, call("cross_entropy", logits, w.arranged(w.read(node.target), rows)), (), kind="loss")
