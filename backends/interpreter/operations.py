"""What each operation does to tensors: one function an operation of the IR, taking the node's operands as tensors aligned by label.

`Frame` supplies what a node needs from around it: values of operands and sizes, concrete labels, dtypes. Results may have their axes in
any order; the frame puts them in the declared one and casts them to the declared dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import REST, Label, Operand, Value
from . import functions
from .tensors import Array, InterpreterError, OutOfRangeError, Tensor, sizes, union

if TYPE_CHECKING:
    from .execute import Frame


def elementwise(frame: Frame, node: ir.Elementwise) -> Tensor:
    labels = frame.labels(node.out.type)
    kind = frame.dtype(node.out.type.dtype)
    arrays = [_number_or_array(frame, a, labels) for a in node.args]
    name = node.function
    if name in functions.COMPARISONS:
        return Tensor(np.asarray(functions.COMPARISONS[name](*arrays)), labels)
    if name in functions.LOGIC:
        return Tensor(np.asarray(functions.LOGIC[name](*arrays)), labels)
    if name == "where":
        condition, yes, no = arrays
        return Tensor(np.where(condition, _cast(yes, kind), _cast(no, kind)), labels)
    if name == "clamp":
        arrays = [arrays[0], *(_bound(a, kind) for a in arrays[1:])]
    return Tensor(np.asarray(functions.ELEMENTWISE[name](*(_cast(a, kind) for a in arrays))), labels)


def _number_or_array(frame: Frame, operand: Operand, labels: tuple[Label, ...]) -> Array | int | float:
    return frame.number(operand) if isinstance(operand, Expr) else frame[operand].aligned(labels)


def _cast(x: Array | int | float, kind: np.dtype) -> Array:
    return np.asarray(x).astype(kind, copy=False)


def _bound(x: Array | int | float, kind: np.dtype) -> Array:
    """A bound of `clamp`; an infinite one stands for none."""
    if np.issubdtype(kind, np.integer) and np.ndim(x) == 0 and np.isinf(x):
        return np.asarray(np.iinfo(kind).max if x > 0 else np.iinfo(kind).min)
    return _cast(x, kind)


def cast(frame: Frame, node: ir.Cast) -> Tensor:
    x = frame[node.x]
    return Tensor(x.array != 0, x.labels) if node.out.type.dtype == "bool" else x


def reduce(frame: Frame, node: ir.Reduce) -> Tensor:
    x = frame[node.x]
    over = frame.concrete(node.over)
    axes = tuple(x.position(label) for label in over)
    array = x.array
    if node.function not in ("any", "all", "argmax", "argmin"):
        array = _cast(array, frame.dtype(node.out.type.dtype))
    return Tensor(np.asarray(functions.REDUCTIONS[node.function](array, axes)), tuple(label for label in x.labels if label not in over))


def along(frame: Frame, node: ir.Along) -> Tensor:
    x = frame[node.x]
    array = x.array if node.function == "argsort" else _cast(x.array, frame.dtype(node.out.type.dtype))
    return Tensor(functions.ALONG[node.function](array, x.position(node.over)), x.labels)


def roll(frame: Frame, node: ir.Roll) -> Tensor:
    x = frame[node.x]
    return Tensor(np.roll(x.array, frame.whole(node.shift), axis=x.position(node.over)), x.labels)


def top(frame: Frame, node: ir.Top) -> tuple[Tensor, Tensor]:
    x = frame[node.x]
    axis = x.position(node.over)
    order = np.argsort(-x.array, axis=axis, kind="stable")
    index = np.take(order, np.arange(frame.whole(node.k)), axis=axis)
    values = np.take_along_axis(x.array, index, axis=axis)
    labels = x.renamed((node.over,), (node.label,)).labels
    return Tensor(values, labels), Tensor(index, labels)


def einsum(frame: Frame, node: ir.Einsum) -> Tensor:
    kind = frame.dtype(node.out.type.dtype)
    out = frame.labels(node.out.type)
    tensors = [frame[a] for a in node.args]
    return Tensor(contract([Tensor(_cast(t.array, kind), t.labels) for t in tensors], out), out)


def contract(tensors: Sequence[Tensor], out: tuple[Label, ...]) -> Array:
    """The product by label, summed over what `out` lacks."""
    number = {label: k for k, label in enumerate(union(*(t.labels for t in tensors), out))}
    arguments: list[object] = []
    for tensor in tensors:
        arguments += [tensor.array, [number[label] for label in tensor.labels]]
    return np.asarray(np.einsum(*arguments, [number[label] for label in out], optimize=True))  # type: ignore[call-overload]


def split(frame: Frame, node: ir.Split) -> list[Tensor]:
    x = frame[node.x]
    found: list[Tensor] = []
    start = 0
    for size, label in zip(node.sizes, node.labels, strict=True):
        stop = start + frame.whole(size)
        found.append(_part(x, node.over, start, stop).renamed((node.over,), (label,)))
        start = stop
    if start != x.size(node.over):
        raise InterpreterError(f"pieces of {start} entries for the axis {node.over} of {x.size(node.over)}")
    return found


def _part(x: Tensor, over: Label, start: int, stop: int) -> Tensor:
    if not 0 <= start <= stop <= x.size(over):
        raise OutOfRangeError(f"the range {start} .. {stop} lies outside the axis `{over}`, which has {x.size(over)} entries")
    return Tensor(x.array[(slice(None),) * x.position(over) + (slice(start, stop),)], x.labels)


def slice_(frame: Frame, node: ir.Slice) -> Tensor:
    return _part(frame[node.x], node.over, frame.whole(node.start), frame.whole(node.stop))


def unflatten(frame: Frame, node: ir.Unflatten) -> Tensor:
    x = frame[node.x]
    at = x.position(node.over)
    shape = (*x.array.shape[:at], *(frame.whole(a.size) for a in node.axes), *x.array.shape[at + 1 :])
    return Tensor(x.array.reshape(shape), (*x.labels[:at], *(a.label for a in node.axes), *x.labels[at + 1 :]))


def flatten(frame: Frame, node: ir.Flatten) -> Tensor:
    x = frame[node.x]
    over = frame.concrete(node.over)
    rest = tuple(label for label in x.labels if label not in over)
    array = x.ordered((*rest, *over))
    return Tensor(array.reshape(*array.shape[: len(rest)], int(np.prod(array.shape[len(rest) :], dtype=np.int64))), (*rest, node.label))


def expand(frame: Frame, node: ir.Expand) -> Tensor:
    x = frame[node.x]
    shape = tuple(frame.whole(a.size) for a in node.axes)
    return Tensor(np.broadcast_to(x.array, (*shape, *x.array.shape)), (*(a.label for a in node.axes), *x.labels))


def squeeze(frame: Frame, node: ir.Squeeze) -> Tensor:
    x = frame[node.x]
    return Tensor(np.squeeze(x.array, axis=x.position(node.over)), tuple(label for label in x.labels if label is not node.over))


def stack_tensors(frame: Frame, node: ir.StackTensors) -> Tensor:
    tensors = [frame[a] for a in node.args]
    labels = union(*(t.labels for t in tensors))
    arrays = np.broadcast_arrays(*(t.aligned(labels) for t in tensors))
    return Tensor(np.stack(arrays, axis=-1), (*labels, node.label))


def unstack(frame: Frame, node: ir.Unstack) -> list[Tensor]:
    x = frame[node.x]
    at = x.position(node.over)
    if len(node.outs) != x.size(node.over):
        raise InterpreterError(f"{len(node.outs)} slices of the axis {node.over} of {x.size(node.over)}")
    return [Tensor(np.take(x.array, k, axis=at), (*x.labels[:at], *x.labels[at + 1 :])) for k in range(len(node.outs))]


def concat(frame: Frame, node: ir.Concat) -> Tensor:
    tensors = [frame[a] for a in node.args]
    labels = union(*(t.labels for t in tensors))
    at = labels.index(node.over)
    full = sizes(*tensors)
    shapes = [[t.size(label) if label is node.over else full[label] for label in labels] for t in tensors]
    return Tensor(np.concatenate([np.broadcast_to(t.aligned(labels), s) for t, s in zip(tensors, shapes, strict=True)], axis=at), labels)


def pad(frame: Frame, node: ir.Pad) -> Tensor:
    x = frame[node.x]
    at = x.position(node.over)

    def block(count: Expr) -> Array:
        return np.full((*x.array.shape[:at], frame.whole(count), *x.array.shape[at + 1 :]), frame.number(node.value)).astype(x.array.dtype)

    return Tensor(np.concatenate([block(node.before), x.array, block(node.after)], axis=at), x.labels)


def take(frame: Frame, node: ir.Take) -> Tensor:
    x = frame[node.x]
    out = frame.labels(node.out.type)
    by_label = dict(zip(node.over, node.indices, strict=True))
    index: list[Array | int] = []
    for label in x.labels:
        chosen = by_label.get(label)
        if isinstance(chosen, Value):
            index.append(_within(frame[chosen].aligned(out), x.size(label), label))
        elif chosen is not None:
            number = frame.whole(chosen)
            index.append(_within(np.full([1] * len(out), number), x.size(label), label))
        else:
            index.append(Tensor(np.arange(x.size(label)), (label,)).aligned(out))
    return Tensor(np.asarray(x.array[tuple(index)]), out)


def _within(index: Array, size: int, label: Label) -> Array:
    """The index, counted from the end where it is negative."""
    if index.size and (index.min() < -size or index.max() >= size):
        raise OutOfRangeError(f"the index runs from {index.min()} to {index.max()}, and the axis `{label}` has {size} entries")
    return np.where(index < 0, index + size, index)


def scatter_add(frame: Frame, node: ir.ScatterAdd) -> Tensor:
    base, index, x = frame[node.base], frame[node.index], frame[node.x]
    kept = tuple(label for label in base.labels if label is not node.over)
    labels = union(kept, index.labels, x.labels)
    full = sizes(base, index, x)
    kind = frame.dtype(node.out.type.dtype)
    out = np.array(_cast(base.array, kind))
    places = [
        _within(index.aligned(labels), base.size(label), label)
        if label is node.over
        else Tensor(np.arange(base.size(label)), (label,)).aligned(labels)
        for label in base.labels
    ]
    shape = [full[label] for label in labels]
    np.add.at(out, tuple(np.broadcast_to(p, shape) for p in places), np.broadcast_to(_cast(x.aligned(labels), kind), shape))
    return Tensor(out, base.labels)


def one_hot(frame: Frame, node: ir.OneHot) -> Tensor:
    x = frame[node.x]
    return Tensor(x.array[..., None] == np.arange(frame.whole(node.axis.size)), (*x.labels, node.axis.label))


def unfold(frame: Frame, node: ir.Unfold) -> Tensor:
    x = frame[node.x]
    at = x.position(node.over)
    width, stride, dilation = (frame.whole(n) for n in (node.window.size, node.stride, node.dilation))
    count = (x.size(node.over) - (width - 1) * dilation - 1) // stride + 1
    index = np.arange(count)[:, None] * stride + np.arange(width)[None, :] * dilation
    windows = np.moveaxis(np.take(x.array, index, axis=at), at + 1, -1)
    return Tensor(windows, (*x.labels, node.window.label))


def linear_recurrence(frame: Frame, node: ir.LinearRecurrence) -> Tensor:
    a, b = frame[node.a], frame[node.b]
    labels = frame.labels(node.out.type)
    kind = frame.dtype(node.out.type.dtype)
    pair = np.broadcast_arrays(_cast(a.aligned(labels), kind), _cast(b.aligned(labels), kind))
    return Tensor(functions.linear_recurrence(pair[0], pair[1], labels.index(node.over)), labels)


def attend(frame: Frame, node: ir.Attend) -> Tensor:
    q, k, v = frame[node.q], *(frame[x].renamed((node.k_axis,), (node.key,)) for x in (node.k, node.v))
    wide = frame.dtype("float32")
    labels = (*(label for label in q.labels if label is not node.feature), node.key)
    scale = frame[node.scale].aligned(labels) if isinstance(node.scale, Value) else frame.number(node.scale)
    s = Tensor(_cast(contract([q, k], labels), wide) * _cast(scale, wide), labels)
    start = frame.first(node.q.type.axis(node.query).size)
    i = Tensor(np.arange(q.size(node.query)) + start, (node.query,))
    j = Tensor(np.arange(k.size(node.key)), (node.key,))
    if node.score is not None:
        heads = node.score.params[1].type.labels
        shape = [q.size(label) for label in heads]
        h = Tensor(np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape), heads)
        scored = frame.region(node.score, (s, h, i, j))
        s = Tensor(np.broadcast_to(_cast(scored.aligned(labels), wide), s.array.shape), labels)
    allowed = np.ones(s.array.shape, np.bool_)
    if node.mask is not None:
        allowed = np.broadcast_to(frame.region(node.mask, (i, j)).aligned(labels), s.array.shape)
        s = Tensor(np.where(allowed, s.array, wide.type(-np.inf)), labels)
    if node.weights is not None:
        w = frame.region(node.weights, (s,)).ordered(labels)
    else:
        w = functions.softmax(s.array, labels.index(node.key))
    w = np.where(allowed, w, 0)
    out = frame.labels(node.out.type)
    return Tensor(contract([Tensor(_cast(w, wide), labels), Tensor(_cast(v.array, wide), v.labels)], out), out)


def dropout(frame: Frame, node: ir.Dropout) -> Tensor:
    x, rate = frame[node.x], frame.number(node.rate)
    if not frame.run.training or rate == 0:
        return x
    if rate == 1:
        return Tensor(np.zeros_like(x.array), x.labels)
    kept = frame.run.rng.random(x.array.shape) >= rate
    return Tensor(np.where(kept, x.array / (1 - rate), 0), x.labels)


def cross_entropy(frame: Frame, node: ir.CrossEntropy) -> Tensor:
    logits, target = frame[node.logits], frame[node.target]
    scores = functions.log_softmax(_cast(logits.ordered((*target.labels, node.over)), frame.dtype("float32")), -1)
    counted = target.array != -100
    _within(np.where(counted, target.array, 0), scores.shape[-1], node.over)
    picked = np.take_along_axis(scores, np.where(counted, target.array, 0)[..., None], axis=-1)[..., 0]
    return Tensor(np.asarray(-np.sum(np.where(counted, picked, 0)) / max(int(counted.sum()), 1)), ())


def index(frame: Frame, node: ir.Index) -> Tensor:
    (axis,) = node.out.type.axes
    return Tensor(np.arange(frame.whole(axis.size)) + frame.first(axis.size), (axis.label,))


def full(frame: Frame, node: ir.Full) -> Tensor:
    axes = node.out.type.axes
    if any(a.label is REST for a in axes):
        raise InterpreterError("the size of `...` is not known where a tensor is made")
    shape = [frame.whole(a.size) for a in axes]
    return Tensor(np.full(shape, frame.number(node.value)).astype(frame.dtype(node.out.type.dtype)), frame.labels(node.out.type))
