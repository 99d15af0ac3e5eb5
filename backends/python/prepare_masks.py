"""Masks that layers share are made once, by the model: where a mask reads nothing that a layer makes, it becomes a tensor of the root."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ...compiler import ir
from ...compiler.ir import Value

Absent = Literal["all", "causal", "tensor"]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class MaskPlan:
    """A conjunction. `always`: terms that are always there; `given`: those that read the optional `inputs`, true where these are left out.

    `absent`: what is left without the optional inputs: every key, exactly causal, or a tensor. `nodes` compute the terms."""

    always: tuple[Value, ...]
    given: tuple[Value, ...]
    inputs: frozenset[Value]
    absent: Absent
    nodes: tuple[ir.Node, ...]
    optional_nodes: frozenset[ir.Node]


@dataclass
class Masks:
    """`made`: the masks of the root; `maybe_none`: inputs of modules that may be none; `only_for_masks`: nodes that nothing else reads."""

    made: dict[Value, MaskPlan] = field(default_factory=dict)
    maybe_none: set[Value] = field(default_factory=set)
    only_for_masks: set[ir.Node] = field(default_factory=set)


def prepare_masks(program: ir.Program) -> tuple[ir.Program, Masks]:
    return replace(program), Masks()
