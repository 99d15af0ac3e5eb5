"""When a call asks for the loss: the inputs that only losses read."""

from __future__ import annotations

from collections.abc import Sequence

from .code import Binary, Block, Code, Do, Statement, Text, Var


def ask_loss(inputs: Sequence[tuple[str, Var]]) -> tuple[Code, tuple[Statement, ...]]:
    """The condition, and what is said first under it where one of several inputs (name and variable) is left out."""
    if not inputs:
        return Text("return_loss"), ()
    asked = _either([Binary("is not", var, Text("None")) for _, var in inputs])
    if len(inputs) == 1:
        return asked, ()
    names = ", ".join(f"`{name}`" for name, _ in inputs[:-1]) + f" and `{inputs[-1][0]}`"
    missing = _either([Binary("is", var, Text("None")) for _, var in inputs])
    return asked, (Block(missing, "if", (Do(Text(f'raise ValueError("the loss needs {names}")')),)),)


def _either(tests: Sequence[Code]) -> Code:
    found = tests[0]
    for test in tests[1:]:
        found = Binary("or", found, test)
    return found
