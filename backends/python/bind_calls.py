"""Arguments and results of calls: in which layout they are passed."""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler import ir
from ...compiler.ir import REST, Label, Value
from ...grammar.frozen import frozen
from .code import Code
from .layouts import Dim, Layout, flat, relabel
from .write_body import BodyWriter


@frozen
class Bound:
    """Code of the arguments, and what `...` stands for: the labels, in the declared order, and their dimensions."""

    args: tuple[Code, ...]
    rest: tuple[Label, ...]
    rest_dims: Layout


def bind(w: BodyWriter, callee: ir.Module, args: Sequence[Value]) -> Bound:
    """Arguments in the callee's declared order of axes; the axes behind `...` stay as they lie."""
    codes: list[Code] = []
    rest: tuple[Label, ...] = ()
    rest_dims: Layout = ()
    for value, formal in zip(args, callee.inputs, strict=True):
        t = w.read(value)
        labels, wanted = value.type.labels, formal.type.labels
        if REST not in wanted:
            codes.append(w.arranged(t, grouped(w, formal, labels)))
            continue
        at = wanted.index(REST)
        tail = len(wanted) - at - 1
        middle = labels[at : len(labels) - tail]
        dims = tuple(d for d in apart_from(t.layout, set(middle)) if set(d) <= set(middle))
        if rest_dims:
            dims = relabel(rest_dims, rest, middle)
        rest, rest_dims = middle, dims
        target = (*((x,) for x in labels[:at]), *dims, *((x,) for x in labels[len(labels) - tail :]))
        codes.append(w.arranged(t, target))
    return Bound(tuple(codes), rest, rest_dims)


def out_layout(w: BodyWriter, formal: Value, actual: Value, bound: Bound) -> Layout:
    """The layout of a result: declared, with the dimensions that `...` stood for."""
    labels, wanted = actual.type.labels, formal.type.labels
    if REST not in wanted:
        return grouped(w, formal, labels)
    at = wanted.index(REST)
    tail = len(wanted) - at - 1
    middle = labels[at : len(labels) - tail]
    return (*((x,) for x in labels[:at]), *relabel(bound.rest_dims, bound.rest, middle), *((x,) for x in labels[len(labels) - tail :]))


def grouped(w: BodyWriter, formal: Value, labels: tuple[Label, ...]) -> Layout:
    """One dimension an axis of the formal, which may stand for several axes of the actual."""
    sizes = w.numbers.plans.merged.groups.get(formal)
    if sizes is None or len(labels) == len(formal.type.labels):
        return tuple((label,) for label in labels)
    dims: list[Dim] = []
    at = 0
    for count in sizes:
        dims.append(labels[at : at + count])
        at += count
    return tuple(dims)


def renamed(layout: Layout, old: tuple[Label, ...], new: tuple[Label, ...]) -> Layout:
    """A layout with the labels of one type as those of another, by position."""
    count = min(len(old), len(new))
    table = dict(zip(old[:count], new[:count], strict=True))
    present = set(flat(layout))
    return relabel(layout, [k for k in table if k in present], [v for k, v in table.items() if k in present])


def apart_from(layout: Layout, over: set[Label]) -> Layout:
    """The layout with dimensions split where some of their axes are in `over` and some are not."""
    dims: list[Dim] = []
    for dim in layout:
        run: list[Label] = []
        for label in dim:
            if run and (label in over) != (run[-1] in over):
                dims.append(tuple(run))
                run = []
            run.append(label)
        dims.append(tuple(run))
    return tuple(dims)
