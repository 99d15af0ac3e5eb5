"""What forward methods are given besides the spec's inputs.

`BANK_INPUTS`: what a module in a bank is given besides its rows: the expert of each row, rows being sorted by expert, and where each expert's rows end.
`STATE_INPUTS`: what a module with a memory is given, its own or one inside: the memory of the whole model, by path."""

from __future__ import annotations

from ...compiler import ir

BANK_INPUTS = ("expert", "ends")

STATE_INPUTS = ("state",)


def state_inputs(module: ir.Module) -> tuple[str, ...]:
    return STATE_INPUTS if any(m.states for m in ir.walk(module)) else ()
