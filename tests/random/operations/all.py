"""Random operations: each takes tensors of a body that fit and makes new ones. `OPERATIONS` is the list, more likely ones more often."""

from __future__ import annotations

from collections.abc import Callable

from ..body import Body, Unfit
from .along import along, arg_reduce, recurrence, reduce, roll, shift, top, unfold
from .parts import branches, configured, einsum, function, linear, loop, normed, own
from .pointwise import binary, compare, filled, forms, logic, rare, unary, where, whole, with_number
from .reading import entries, gather, index, one_hot, scatter
from .shapes import alike, concat, expand, halves, merge, pad, pairs, regroup, rename, slice_, split, squeeze, stack, transpose, unstack

Operation = Callable[[Body], None]

OPERATIONS: tuple[Operation, ...] = (
    unary, unary, rare, rare, forms, forms, forms, with_number, binary, binary, binary, compare, logic, where, where, reduce, reduce, arg_reduce, along, along, roll, top, einsum, einsum,
    split, halves, regroup, merge, alike, unstack, stack, concat, rename, rename, transpose, expand, squeeze, pad, slice_, shift, index, whole, filled, one_hot,
    gather, gather, scatter, unfold, recurrence, own, linear, linear, function, branches, loop, normed, normed, configured, entries, pairs,
)  # fmt: skip


def random_operations(body: Body, count: int) -> None:
    for _ in range(count):
        chosen = body.choices.pick((None, *OPERATIONS))
        if chosen is None:
            continue
        marks = len(body.lines), dict(body.hyper), set(body.unused), list(body.pool), dict(body.axes)
        try:
            chosen(body)
        except Unfit:
            del body.lines[marks[0] :]
            body.hyper, body.unused, body.pool, body.axes = marks[1:]
