"""A folder of weights held against a spec: what is missing, surplus, of another shape or no number, each with the line that asks for it.

The loaders of generated files refuse the same folders by the same names; they do not know the lines of the spec."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatch
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.diagnostics import Diagnostics, Note
from ..compiler.library import suggest
from ..grammar.frozen import frozen, mutable
from ..grammar.tree import Span
from .interpreter import places
from .python.name_parameters import generated_names

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@frozen(kw_only=True)
class Wanted:
    """A stored tensor: the names it may have, the shape it has here (transposed if it is stored so), what it holds, and the line that says so."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    transposed: bool
    own: str
    span: Span
    declared: Span


def check_checkpoint(program: ir.Program, read: Callable[[Path], Arrays], folder: Path) -> Diagnostics:
    """Requires: a program after the passes, and a reader of folders. Ensures: an error for everything that keeps the folder from being loaded."""
    found = Diagnostics()
    try:
        stored = read(folder)
    except (OSError, ValueError) as error:
        found.error(
            "E523", str(error), program.span, help="name a folder with model.safetensors, or with an index and all files that it lists"
        )
        return found
    own = list(_own_names(program))
    names = {w.names[0] for w in own}
    as_here = not program.checkpoint or names <= stored.keys() or stored.keys() <= names
    _Check(program, folder, dict(stored), found).run(own if as_here else list(_published(program)), as_here)
    return found


@mutable
class _Check:
    program: ir.Program
    folder: Path
    stored: dict[str, Array]
    diagnostics: Diagnostics
    told: dict[tuple[str, Span], int] = field(default_factory=dict)
    used: dict[str, tuple[Array, Wanted]] = field(default_factory=dict)

    def run(self, wanted: Sequence[Wanted], as_here: bool) -> None:
        names = list(self.stored)
        for tensor in wanted:
            name = next((n for n in tensor.names if n in self.stored), None)
            if name is None:
                help = suggest(tensor.names[0], [n for n in names if n not in self.used])
                self.error("E520", f"{self.folder} has no tensor `{tensor.names[0]}`", tensor, help)
                continue
            array = self.stored.pop(name)
            self.used[name] = array, tensor
            self.fits(name, array, tensor)
        if not as_here:
            self.copies()
        ignored = [p for row in self.program.checkpoint if not row.own for p in row.published]
        for name in self.stored:
            if not any(fnmatch(name, pattern) for pattern in ignored):
                self.surplus(name)

    def fits(self, name: str, array: Array, tensor: Wanted) -> None:
        if array.dtype.kind != "f":
            self.error("E522", f"`{name}` has the type {array.dtype}, which is no float", tensor)
            return
        shape = array.shape[:-2] + array.shape[:-3:-1] if tensor.transposed else array.shape
        if not same_order(shape, tensor.shape):
            turned = " (as it lies here, transposed)" if tensor.transposed else ""
            self.error("E522", f"`{name}` has the shape {shape}{turned}, and `{tensor.own}` needs {tensor.shape}", tensor)
        elif np.isnan(array).any():
            self.error("E522", f"`{name}` holds NaN, {int(np.isnan(array).sum())} of {array.size} numbers", tensor)

    def copies(self) -> None:
        """Tensors of a second name must equal those of the first."""
        first = {tensor.own: (name, array) for name, (array, tensor) in self.used.items()}
        for row in (r for r in self.program.checkpoint if r.copy):
            for name in row.published:
                again = self.stored.pop(name, None)
                if again is None or row.own[0] not in first:
                    continue
                original, array = first[row.own[0]]
                if not np.array_equal(array, again):
                    message = f"`{name}` differs from `{original}`, and this model has one tensor for both"
                    self.diagnostics.error("E522", message, row.span, help="a model whose two are apart needs a weight of its own for each")

    def error(self, code: str, message: str, tensor: Wanted, help: str | None = None) -> None:
        """Once for each row: what is wrong with one layer is wrong with others."""
        seen = self.told.get((code, tensor.span), 0)
        self.told[code, tensor.span] = seen + 1
        if seen < 3:
            self.diagnostics.error(code, message, tensor.span, Note(f"`{tensor.own}` is declared here", tensor.declared), help=help)

    def surplus(self, name: str) -> None:
        near = suggest(name, [n for n in self.used if n != name])
        help = f'add a row for it, or, if nothing reads it, `ignore "{name}"`' + (f" ({near})" if near else "")
        seen = self.told.get(("E521", self.program.span), 0)
        self.told["E521", self.program.span] = seen + 1
        if seen < 10:
            self.diagnostics.error("E521", f"{self.folder} has a tensor `{name}`, and the model has not", self.program.span, help=help)


def _own_names(program: ir.Program) -> Iterator[Wanted]:
    """The tensors under the names that they have in generated files."""
    for here, there in zip(places(program), places(generated_names(program)), strict=True):
        span = here.param.span
        yield Wanted(names=(there.name,), shape=here.shape(), transposed=False, own=here.name, span=span, declared=span)


def _published(program: ir.Program) -> Iterator[Wanted]:
    """The tensors that the rows of a map ask for, one for every layer and expert."""
    tensors = {p.name: p for p in places(program)}
    for row in program.checkpoint:
        if not row.own or row.copy:
            continue
        pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(row.own[0])))
        for match in filter(None, map(pattern.fullmatch, tensors)):
            numbers = match.groupdict()
            parts = [tensors[own.format(**numbers)] for own in row.own]
            banked = int(row.each is not None)
            shapes = [p.shape()[banked:] for p in parts]
            total, last = sum(map(math.prod, shapes)), math.prod(shapes[0][1:][-1:])
            shape = shapes[0] if len(parts) == 1 else (total,) if row.groups.value() != 1 else (total // last, last)
            for expert in range(parts[0].shape()[0]) if banked else (0,):
                given = numbers | ({row.each: str(expert)} if row.each is not None else {})
                yield Wanted(
                    names=tuple(name.format(**given) for name in row.published),
                    shape=shape,
                    transposed=row.transposed,
                    own=" + ".join(p.name for p in parts),
                    span=row.span,
                    declared=parts[0].param.span,
                )


def same_order(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether one shape is the other with neighbouring axes merged."""
    a, b = (set(accumulate(sizes, mul, initial=1)) for sizes in (shape, wanted))
    return math.prod(shape) == math.prod(wanted) and (a <= b or b <= a)
