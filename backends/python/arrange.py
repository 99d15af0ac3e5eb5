"""Code that brings a tensor into a layout: split merged dimensions, permute, merge, insert dimensions of size one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ...compiler.ir import REST
from .code import Code, Subscript, Text
from .layouts import Dim, Layout, Tensor, axis_number, flat


class Moves(Protocol):
    """How a dialect writes the movements of dimensions; axes are numbers as code names them. `rest`: which of them is `...`, if one is."""

    def permute(self, x: Code, order: Sequence[int], rest: int | None) -> Code: ...

    def unflatten(self, x: Code, axis: int, sizes: Sequence[Code]) -> Code: ...

    def flatten(self, x: Code, first: int, last: int, layout: Layout) -> Code: ...


Size = Callable[[Dim], Code]


def beside_rest(order: Sequence[int], rest: int) -> tuple[list[int], list[int]]:
    """Which dimensions move and where to, as numbers that hold however many `...` are: those behind it count from the end."""
    rank, after = len(order), order.index(rest)
    places = [k for k, o in enumerate(order) if o != rest and (k != o or after != rest)]
    return [order[k] - rank * (order[k] > rest) for k in places], [k - rank * (k > after) for k in places]


def arrange(t: Tensor, target: Layout, moves: Moves, size: Size) -> Code:
    """Code of the same tensor in the layout `target` (which has the same labels)."""
    if t.layout == target:
        return t.code
    code, layout = _split(t, target, moves, size)
    order = sorted(range(len(layout)), key=lambda k: flat(target).index(layout[k][0]))
    if order != list(range(len(layout))):
        rest = next((k for k, dim in enumerate(layout) if REST in dim), None)
        code = moves.permute(code, order, rest)
        layout = tuple(layout[k] for k in order)
    for k, dim in enumerate(target):
        if layout[k] != dim:
            last = k
            while flat(layout[k : last + 1]) != dim:
                last += 1
                if last == len(layout):
                    raise ValueError(f"{layout} cannot be arranged as {target}")
            merged = (*layout[:k], dim, *layout[last + 1 :])
            code = moves.flatten(code, axis_number(layout, k), axis_number(layout, last), merged)
            layout = merged
    return code


def _split(t: Tensor, target: Layout, moves: Moves, size: Size) -> tuple[Code, Layout]:
    """Split merged dimensions into runs that stay together in the target."""
    code, layout = t.code, list(t.layout)
    for k in range(len(layout) - 1, -1, -1):
        runs = _runs(layout[k], target)
        if len(runs) > 1:
            code = moves.unflatten(code, axis_number(tuple(layout), k), [size(run) for run in runs])
            layout[k : k + 1] = runs
    return code, tuple(layout)


def _runs(dim: Dim, target: Layout) -> list[Dim]:
    runs: list[Dim] = []
    for label in dim:
        home = next(d for d in target if label in d)
        if runs:
            last = runs[-1][-1]
            if last in home and home.index(label) == home.index(last) + 1:
                runs[-1] = (*runs[-1], label)
                continue
        runs.append((label,))
    return runs


def spread(t: Tensor, target: Layout, moves: Moves, size: Size) -> Code:
    """Code of the tensor so that it broadcasts against one of the layout `target`."""
    own = set(t.labels)
    present = [any(label in own for label in dim) for dim in target]
    code = arrange(t, tuple(dim for dim, p in zip(target, present, strict=True) if p), moves, size)
    return insert_dimensions(code, target, present)


def insert_dimensions(code: Code, target: Layout, present: Sequence[bool]) -> Code:
    """Index with None where a dimension is missing after the first that is there."""
    first = next((k for k, p in enumerate(present) if p), len(present))
    flags, dims = list(present[first:]), target[first:]
    if all(flags):
        return code
    last = max(k for k, p in enumerate(flags) if not p)
    if not any(flags[flags.index(False) :]):
        plain = flags.index(False) == 1 and not any(REST in dim for dim in dims)
        items = [":" if plain else "...", *["None"] * flags.count(False)]
    else:
        has_rest = any(REST in dim for dim in dims)
        stop = len(flags) if has_rest else last + 1
        items = ["None" if not p else "..." if REST in dim else ":" for p, dim in zip(flags[:stop], dims, strict=False)]
    return Subscript(code, tuple(Text(i) for i in items))
