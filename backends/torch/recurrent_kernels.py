"""Scans that torch has a kernel for: cells whose arithmetic is that of `torch.lstm` or `torch.gru`, found by what they compute."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from ...compiler import ir
from ...compiler.dims import ONE, Expr
from ...compiler.ir import Module, Node, Value
from ...grammar.frozen import frozen
from ..python.code import Assign, Attribute, Code, Items, Subscript, Text, Var, call, method, number
from ..python.layouts import Tensor, sizes_of
from ..python.name_parameters import native_of
from ..python.natives import Linear
from ..python.write_body import BodyWriter
from .pointwise import training_mode


@frozen(kw_only=True, eq=False)
class Kernel:
    """`lstm` or `gru` over `x`, with the linear maps of the input and of the state, named from the owner of the scan."""

    function: str
    x: Value
    from_x: tuple[str, ...]
    from_h: tuple[str, ...]
    biased: bool


def kernel_of(node: ir.Scan, owner: Module) -> Kernel | None:
    """The kernel that a scan is; none if there is no such."""
    if not isinstance(node.target, str) or len(node.args) != node.carried + 1 or node.given != len(node.args):
        return None
    child = owner.child(node.target)
    if not isinstance(child, ir.Child):
        return None
    made = {out: n for n in owner.body for out in n.outs}
    source = made.get(node.args[-1])
    if not isinstance(source, ir.Call) or not isinstance(source.target, str) or len(source.args) != 1:
        return None
    x = source.args[0]
    outer, inner = _linear(owner, source.target), _cell(child.module, node.carried)
    if outer is None or inner is None or x.type.dtype != "float" or len(x.type.axes) != 3 or x.type.labels[1] is not node.over:
        return None
    readers = sum(node.args[-1] in ir.operands(n) for n in owner.body)
    function, name, own = inner
    if readers != 1 or (outer.bias is None) != (own.bias is None) or len(outer.inside) != 1:
        return None
    if any(len(v.type.axes) != 2 or v.type.labels[0] is not x.type.labels[0] for v in node.args[: node.carried]):
        return None
    return Kernel(function=function, x=x, from_x=(source.target,), from_h=(node.target, name), biased=own.bias is not None)


def _linear(owner: Module, name: str) -> Linear | None:
    child = owner.child(name)
    native = native_of(child.module) if isinstance(child, ir.Child) else None
    return native if isinstance(native, Linear) else None


def _cell(cell: Module, carried: int) -> tuple[str, str, Linear] | None:
    """What a cell is, and its linear map of the state."""
    calls = [n for n in cell.body if isinstance(n, ir.Call)]
    if len(calls) != 1 or not isinstance(calls[0].target, str) or calls[0].args != (cell.inputs[0],) or cell.params:
        return None
    linear = _linear(cell, calls[0].target)
    if linear is None or len(linear.inside) != 1:
        return None
    reading = _Reading(cell, calls[0].out, carried)
    found = tuple(map(reading.tree, cell.outputs))
    function = next((f for f, wanted in KERNELS.items() if found == wanted), None)
    return None if function is None else (function, calls[0].target, linear)


class _Reading:
    """Values of a cell as trees; the operands of sums and products in no order."""

    def __init__(self, cell: Module, from_h: Value, carried: int) -> None:
        self.made: Mapping[Value, Node] = {out: n for n in cell.body for out in n.outs}
        self.leaves: dict[Value, Hashable] = {v: f"state{k}" for k, v in enumerate(cell.inputs[:carried])}
        self.leaves |= {cell.inputs[carried]: "x", from_h: "h"}

    def tree(self, operand: ir.Operand) -> Hashable:
        if isinstance(operand, Expr):
            return operand
        if operand in self.leaves:
            return self.leaves[operand]
        match self.made.get(operand):
            case ir.Elementwise(function="add" | "mul" as function, args=args):
                return function, frozenset(map(self.tree, args))
            case ir.Elementwise(function=function, args=args):
                return function, *map(self.tree, args)
            case ir.Unstack(x=x, outs=outs):
                return self.gate(x, outs.index(operand), len(outs))
            case ir.Rename(x=x) | ir.Transpose(x=x):
                return self.tree(x)
            case _:
                return operand

    def gate(self, x: Value, number_: int, count: int) -> Hashable:
        return "gate", self.tree(x), number_, count


def _sum(*args: Hashable) -> Hashable:
    return "add", frozenset(args)


def _product(*args: Hashable) -> Hashable:
    return "mul", frozenset(args)


def _lstm() -> tuple[Hashable, ...]:
    i, f, g, o = (("gate", _sum("x", "h"), k, 4) for k in range(4))
    c = _sum(_product(("sigmoid", f), "state1"), _product(("sigmoid", i), ("tanh", g)))
    h = _product(("sigmoid", o), ("tanh", c))
    return h, c, h


def _gru() -> tuple[Hashable, ...]:
    r, z, n = (("gate", "x", k, 3) for k in range(3))
    own_r, own_z, own_n = (("gate", "h", k, 3) for k in range(3))
    keep = ("sigmoid", _sum(z, own_z))
    new = ("tanh", _sum(n, _product(("sigmoid", _sum(r, own_r)), own_n)))
    h = _sum(_product(("sub", ONE, keep), new), _product(keep, "state0"))
    return h, h


KERNELS = {"lstm": _lstm(), "gru": _gru()}


def write_kernel(w: BodyWriter, node: ir.Scan, kernel: Kernel, carried: list[Var]) -> None:
    """`ys, h, c = torch.lstm(x, (h[None], c[None]), weights, ...)`."""
    x: Code = w.arranged(w.read(kernel.x), tuple((label,) for label in kernel.x.type.labels))
    kinds = ("weight", "bias") if kernel.biased else ("weight",)
    weights = Items(tuple(_attribute(path, kind) for kind in kinds for path in (kernel.from_x, kernel.from_h)))
    started: list[Code] = [Subscript(var, (Text("None"),)) for var in carried]
    start = Items(tuple(started)) if kernel.function == "lstm" else started[0]
    if node.reverse:
        x = method(x, "flip", number(1))
    ys = Var(hint=node.outs[-1].hint or "y")
    options = (Text(str(kernel.biased)), number(1), number(0.0), training_mode(w), Text("False"), Text("True"))
    w.statements.append(Assign((ys, *carried), call(f"torch.{kernel.function}", x, start, weights, *options), pure=False))
    ends = [Subscript(var, (number(0),)) for var in carried]
    w.statements.append(Assign(tuple(carried), Items(tuple(ends)) if len(ends) > 1 else ends[0]))
    out = node.outs[-1]
    labels = (*kernel.x.type.labels[:2], next(x for x in out.type.labels if x not in kernel.x.type.labels[:2]))
    layout, declared = (tuple((x,) for x in each) for each in (labels, out.type.labels))
    if layout == declared and not node.reverse:
        w.env[out] = Tensor(ys, declared, sizes_of(out.type))
        return
    code: Code = method(ys, "flip", number(1)) if node.reverse else ys
    w.define(out, w.arranged(Tensor(code, layout, sizes_of(out.type)), declared), declared)


def _attribute(path: tuple[str, ...], name: str) -> Code:
    code: Code = Text("self")
    for step in (*path, name):
        code = Attribute(code, step)
    return code
