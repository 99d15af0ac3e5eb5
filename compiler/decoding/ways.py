"""How a module's inputs come, and what its derivation gives its callers."""

from __future__ import annotations

from dataclasses import field

from ...grammar.frozen import frozen
from ..dims import Expr
from ..ir import Module
from .common import Cause, Kind


@frozen
class Given:
    """How an input comes: what it depends on; which of its axes come whole; whether the caller can give a further one beside it; what made
    those axes whole, which changes nothing but what a refusal says."""

    kind: Kind
    whole: tuple[bool, ...]
    open: bool
    causes: tuple[Cause | None, ...] = field(default=(), compare=False)


@frozen
class Wanted:
    """A further input: the input number `input`, whole along its axis number `axis`; nothing looks back further than `window`.

    `hint` names what it is to its readers."""

    input: int
    axis: int
    window: Expr | None
    hint: str


@frozen
class Derived:
    """`module` has the inputs `wanted` after those it had. `needed` are the inputs that do not change from call to call and that every
    call reads. Axes of inputs and outputs that are whole are marked; the causes say what made them so, the first of each input and output."""

    module: Module
    wanted: tuple[Wanted, ...]
    needed: frozenset[int]
    kinds: tuple[Kind, ...]
    whole_inputs: tuple[tuple[bool, ...], ...]
    whole_outputs: tuple[tuple[bool, ...], ...]
    input_causes: tuple[Cause | None, ...]
    causes: tuple[Cause | None, ...]
