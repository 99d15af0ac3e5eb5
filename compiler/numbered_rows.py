"""Rows of a checkpoint map about weights that a `for` made: `stage.{s}.x` is a row for each of `stage_0.x`, `stage_1.x`, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..grammar import tree

_ROUND = re.compile(r"(\w+)\.\{(\w+)\}")


def unrolled(row: tree.Row, paths: Iterable[tuple[str, ...]]) -> Iterator[tree.Row]:
    """The row with each numbered part of its own tensors written out; the row itself if it names none. `paths` are the model's own tensors."""
    parts = {part for path in paths for part in path}
    for name in _names(row.right):
        for found in _ROUND.finditer(name):
            base, slot = found.groups()
            if f"{base}_0" not in parts or base in parts:
                continue
            number = 0
            while f"{base}_{number}" in parts:
                yield from unrolled(_with_number(row, base, slot, number), [tuple(parts)])
                number += 1
            return
    yield row


def _with_number(row: tree.Row, base: str, slot: str, number: int) -> tree.Row:
    left = _replaced(row.left, f"{{{slot}}}", str(number))
    return replace(row, left=left, right=_replaced(row.right, f"{base}.{{{slot}}}", f"{base}_{number}"))


def _names(node: tree.Expr) -> Iterator[str]:
    match node:
        case tree.Name(id=name):
            yield name
        case tree.Call(arguments=arguments):
            for argument in arguments:
                yield from _names(argument.value)
        case tree.Index(value=value):
            yield from _names(value)
        case tree.Binary(left=left, right=right):
            yield from _names(left)
            yield from _names(right)
        case _:
            return


def _replaced(node: tree.Expr, old: str, new: str) -> tree.Expr:
    """The expression with a piece of its names and strings replaced."""
    match node:
        case tree.Name(id=name):
            return replace(node, id=name.replace(old, new))
        case tree.String(value=value):
            return replace(node, value=value.replace(old, new))
        case tree.Call(arguments=arguments):
            return replace(node, arguments=tuple(replace(a, value=_replaced(a.value, old, new)) for a in arguments))
        case tree.Index(value=value):
            return replace(node, value=_replaced(value, old, new))
        case tree.Binary(left=left, right=right):
            return replace(node, left=_replaced(left, old, new), right=_replaced(right, old, new))
        case _:
            return node
