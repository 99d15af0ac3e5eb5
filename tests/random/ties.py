"""Where rounding decides: choices between entries that are nearly equal, which two right executions may make differently.

Equal entries on either side of a comparison are no such thing, nor for sorts, which are stable: all executions see them alike. Which of two
equal entries is the greatest is not said by the language."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfc.backends.interpreter import execute
from xfc.compiler import ir
from xfc.compiler.dims import Expr

Array = NDArray[Any]
NEAR = 1e-9
"""What differs by less, relative to the greatest entry, may come out in another order."""


@contextmanager
def watched(found: list[str]) -> Iterator[None]:
    """Adds the nodes whose result hangs on rounding, while a program is interpreted."""
    plain = execute.Frame.node

    def node(self: execute.Frame, node: ir.Node) -> None:
        plain(self, node)
        if all(v in self.values for v in ir.operands(node)) and _near(self, node):
            found.append(f"{type(node).__name__} at line {node.span.line_column()[0]}")

    execute.Frame.node = node  # type: ignore[method-assign]
    try:
        yield
    finally:
        execute.Frame.node = plain  # type: ignore[method-assign]


def _near(frame: execute.Frame, node: ir.Node) -> bool:
    match node:
        case ir.Top():
            return _crowded(frame, node.x, node.over, frame.whole(node.k), equal=True)
        case ir.Along(function="argsort"):
            return _crowded(frame, node.x, node.over, None, equal=False)
        case ir.Reduce(function="argmax" | "argmin"):
            x = frame[node.x].ordered((*(r for r in frame[node.x].labels if r not in node.over), *node.over))
            flat = x.reshape(*x.shape[: x.ndim - len(node.over)], -1)
            return _close(-flat if node.function == "argmax" else flat, 1, equal=True)
        case ir.Elementwise(function="eq" | "ne" | "lt" | "le" | "gt" | "ge"):
            a, b = (_array(frame, arg, node) for arg in node.args)
            return _apart(a - b, np.maximum(np.abs(a), np.abs(b))) if "f" in (a.dtype.kind, b.dtype.kind) else False
        case ir.Elementwise(function="floor_div" | "mod"):
            a, b = (_array(frame, arg, node) for arg in node.args)
            with np.errstate(all="ignore"):
                return _uneven(a / b) if "f" in (a.dtype.kind, b.dtype.kind) else False
        case ir.Elementwise(function="floor"):
            return _uneven(_array(frame, node.args[0], node))
        case ir.Elementwise(function="sign"):
            a = _array(frame, node.args[0], node)
            return _apart(a, np.ones(()))
        case ir.Cast() if node.out.type.dtype == "int" and frame[node.x].array.dtype.kind == "f":
            return _uneven(frame[node.x].array)
        case _:
            return False


def _array(frame: execute.Frame, arg: ir.Operand, node: ir.Node) -> Array:
    if isinstance(arg, Expr):
        return np.asarray(frame.number(arg))
    return frame[arg].aligned(frame.labels(node.outs[0].type))


def _apart(difference: Array, scale: Array) -> bool:
    """Whether entries differ, but hardly."""
    gap = np.abs(difference)
    with np.errstate(all="ignore"):
        return bool(((gap > 0) & (gap <= NEAR * np.maximum(1.0, scale))).any())


def _uneven(x: Array) -> bool:
    """Whether something lies beside a whole number, or on one to which it was rounded."""
    return _apart(x - np.round(x), np.abs(x))


def _crowded(frame: execute.Frame, x: ir.Value, over: ir.Label, chosen: int | None, *, equal: bool) -> bool:
    array = np.moveaxis(frame[x].array, frame[x].position(over), -1)
    return _close(-array, chosen, equal=equal)


def _close(array: Array, chosen: int | None, *, equal: bool) -> bool:
    """Whether the least entries of the last axis, and the one after them, lie close together."""
    if array.dtype.kind != "f" or not array.size:
        return False
    least = np.sort(array, axis=-1)[..., : None if chosen is None else chosen + 1]
    gaps, scale = np.diff(least, axis=-1), np.maximum(1.0, np.abs(least[..., 1:]))
    with np.errstate(all="ignore"):
        return bool(((gaps <= NEAR * scale) & ((gaps > 0) | equal)).any())
