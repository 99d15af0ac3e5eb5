"""What a program with a decoding remembers from call to call: plainly, everything, by the place where it is read.

A place is the path of calls that leads to it, by their numbers in the bodies: a child that is applied twice has two."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np

from ...compiler import ir
from ...compiler.decoding.find_running_values import find_running_values
from ...compiler.dims import Sym, sym
from ...compiler.ir import Program
from ...grammar.frozen import mutable
from . import functions, operations
from .tensors import Array, InterpreterError, Tensor

if TYPE_CHECKING:
    from .execute import Frame


@mutable(slots=True)
class Cache:
    """`running` is what is computed with a cache; `position` the number of tokens so far; `entries` what nodes remember, by place and name;
    `sizes` the other dynamic axes."""

    running: frozenset[ir.Value]
    position: int = 0
    entries: dict[str, Array] = field(default_factory=dict)
    sizes: dict[Sym, int | float] = field(default_factory=dict)


def init_cache(program: Program) -> Cache:
    """An empty cache for a derived program."""
    if program.decoding is None:
        raise InterpreterError(f"{program.name} has no decoding")
    return Cache(find_running_values(program))


def place_of(frame: Frame, entry: str) -> str:
    return f"{frame.site}{':'.join(map(str, ('', *frame.experts)))}.{entry}"


def keep(frame: Frame, node: ir.Keep) -> Tensor:
    x = frame[node.x]
    array = x.array
    cache = frame.run.cache
    if cache is not None:
        place = place_of(frame, node.entry)
        if place in cache.entries:
            array = np.concatenate([cache.entries[place], array], axis=x.position(node.over))
        cache.entries[place] = array
    return Tensor(array, x.labels).renamed((node.over,), (node.label,))


def once(frame: Frame, node: ir.Once) -> Tensor | None:
    """None if neither this call nor the first gives it."""
    cache = frame.run.cache
    place = place_of(frame, node.entry)
    if cache is not None and place in cache.entries:
        return Tensor(cache.entries[place], frame.labels(node.out.type))
    x = frame.values.get(node.x)
    if cache is not None and x is not None:
        cache.entries[place] = x.array
    return x


def is_continued(frame: Frame, node: ir.Node) -> bool:
    return frame.run.cache is not None and isinstance(node, ir.Pad | ir.Concat | ir.LinearRecurrence | ir.Along) and bool(node.entry)


def continued(frame: Frame, node: ir.Node) -> Tensor:
    """A node with an entry, going on from the call before."""
    cache = frame.run.cache
    assert cache is not None
    match node:
        case ir.Pad():
            return _preceded(frame, cache, node, operations.pad(frame, node), frame.whole(node.before))
        case ir.Concat():
            return _preceded(frame, cache, node, operations.concat(frame, node), frame[node.args[0]].size(node.over))
        case ir.LinearRecurrence():
            return _recurrence(frame, cache, node)
        case ir.Along():
            found = operations.along(frame, node)
            at, place = found.position(node.over), place_of(frame, node.entry)
            array = found.array + cache.entries[place] if place in cache.entries else found.array
            cache.entries[place] = np.take(array, [_last(frame)], axis=at)
            return Tensor(array, found.labels)
        case _:
            raise AssertionError(node)


def _last(frame: Frame) -> int:
    """Where the last token of this call stands: what is longer than the tokens comes to the rest again."""
    assert frame.run.decoding is not None
    return frame.whole(sym(frame.run.decoding.rows)) - 1


def _preceded(frame: Frame, cache: Cache, node: ir.Pad | ir.Concat, found: Tensor, count: int) -> Tensor:
    """The first `count` entries are those that came before."""
    assert frame.run.decoding is not None
    at, place = found.position(node.over), place_of(frame, node.entry)
    array = found.array
    if place in cache.entries:
        array = np.concatenate([cache.entries[place], np.delete(array, np.s_[:count], axis=at)], axis=at)
    rows = frame.whole(sym(frame.run.decoding.rows))
    cache.entries[place] = np.take(array, range(rows, rows + count), axis=at)
    return Tensor(array, found.labels)


def _recurrence(frame: Frame, cache: Cache, node: ir.LinearRecurrence) -> Tensor:
    labels, place = frame.labels(node.out.type), place_of(frame, node.entry)
    at = labels.index(node.over)
    a, b = np.broadcast_arrays(frame[node.a].aligned(labels), frame[node.b].aligned(labels))
    kind = frame.dtype(node.out.type.dtype)
    a, b = np.array(a, kind), np.array(b, kind)
    if place in cache.entries:
        first = np.moveaxis(b, at, 0)
        first[0] += np.moveaxis(a, at, 0)[0] * cache.entries[place]
    array = functions.linear_recurrence(a, b, at)
    cache.entries[place] = np.take(array, _last(frame), axis=at)
    return Tensor(array, labels)
