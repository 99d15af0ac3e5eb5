"""Names while a spec is elaborated: frames, arguments that are evaluated late, and the modules under construction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING

from ..grammar import tree
from ..grammar.frozen import mutable
from . import ir
from .dims import Expr, Sym

if TYPE_CHECKING:
    from .builder import Builder
    from .values import Static


@mutable(eq=False)
class Thunk:
    """An argument: an expression with the frame it is read in, evaluated when its parameter is.

    A bare number becomes a Config symbol named after the parameter. `explicit` ones must be used (nothing is silently ignored).
    `receiver` is the component it was given to."""

    node: tree.Expr
    frame: Frame
    parameter: str
    path: tuple[str, ...]
    explicit: bool
    refines: Thunk | None = None
    value: Static | None = None
    running: bool = False
    used: bool = False
    receiver: tree.Component | None = None


@mutable(eq=False)
class Frame:
    """One scope. `names` are parameters and locals, `labels` the axes in scope; `parent` is the enclosing text."""

    builder: Builder | None
    parent: Frame | None
    title: str
    names: dict[str, Static | Thunk] = field(default_factory=dict)
    labels: dict[str, ir.Axis] = field(default_factory=dict)
    primed: dict[ir.Label, ir.Label] = field(default_factory=dict)
    rest: tuple[ir.Axis, ...] | None = None
    path: tuple[str, ...] = ()
    visible_labels: bool = True
    rounds: tuple[int, ...] = ()

    def numbered(self, name: str) -> str:
        """The name of weights bound here: each round of a `for` has its own, `stage_0`, `stage_1`."""
        return "_".join((name, *map(str, self.rounds)))

    def name_of(self, label: ir.Label) -> str:
        """What an axis is called here: a component has its own words for what its caller gave it."""
        here = (name for frame in self.outward() for name, axis in frame.labels.items() if axis.label is label and "|" not in name)
        return next(here, label.name)

    def outward(self) -> Iterator[Frame]:
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent


@mutable
class Symbols:
    """Config symbols, one for each literal of the spec that measures."""

    by_place: dict[tuple[str, int], Sym] = field(default_factory=dict)
    structural: set[Sym] = field(default_factory=set)

    def at(self, span: tree.Span, name: str, value: int | float, path: tuple[str, ...]) -> Sym:
        key = (span.source.path, span.start)
        if key not in self.by_place:
            self.by_place[key] = Sym(name, value, path)
        return self.by_place[key]

    def choose(self, *numbers: Expr) -> None:
        """These numbers decided something: they are structure."""
        for number in numbers:
            self.structural.update(number.symbols)
