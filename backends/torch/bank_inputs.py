"""What forward methods are given besides the spec's inputs.

`BANK_INPUTS`: what a module in a bank is given besides its rows: the expert of each row, rows being sorted by expert, and where each expert's rows end.
`TRAINING_INPUTS`: what a function is given that has no `self.training`.
`STATE_INPUTS`: what a module with a memory is given, its own or one inside: the memory of the whole model, by path."""

from __future__ import annotations

from collections.abc import Iterable

from ...compiler import ir

BANK_INPUTS = ("expert", "ends")

STATE_INPUTS = ("state",)


TRAINING_INPUTS = ("training",)


def bank_types(program: ir.Program) -> tuple[str, str]:
    """Types of `BANK_INPUTS`: where few rows are routed, they are not sorted, and one alone has its expert's number in a list."""
    routed = any(isinstance(n, ir.Route) for m in ir.walk(program.root) for n in m.body)
    return ("Tensor | list[int]", "Tensor | None") if routed else ("Tensor", "Tensor")


def training_inputs(module: ir.Module) -> tuple[str, ...]:
    return TRAINING_INPUTS if any(_asks(m.body) for m in ir.walk(module)) else ()


def _asks(body: Iterable[ir.Node]) -> bool:
    return any(isinstance(n, ir.Dropout | ir.Training) or any(_asks(r.body) for r in ir.regions(n)) for n in body)


def state_inputs(module: ir.Module) -> tuple[str, ...]:
    return STATE_INPUTS if any(m.states for m in ir.walk(module)) else ()
