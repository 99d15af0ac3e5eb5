"""Names of a model that its users and the generated modules need as names of Python."""

from __future__ import annotations

import keyword
from collections.abc import Iterator

from ...grammar.tree import Span
from .. import ir
from ..diagnostics import Diagnostics

HELD = ("self", "config", "cache", "state", "params", "logits_to_keep", "return_loss")
"""Arguments that a generated module has beside the model's inputs."""


def check_names(program: ir.Program, diagnostics: Diagnostics) -> None:
    """Report names that cannot be arguments, fields or attributes (E392): words of Python, underscores alone or two in front.

    Requires a program as elaborated. Leaves it alone, and local names too: those of tensors are changed where they are in the way."""
    told: set[tuple[str, int]] = set()
    for what, name, span in _names(program, diagnostics):
        if not (keyword.iskeyword(name) or name.startswith("__") or not name.strip("_") or (what == "input" and name in HELD)):
            continue
        place = (span.source.path, span.start) if span is not None else ("", 0)
        if place in told:
            continue
        told.add(place)
        reason = "generated modules have an argument of that name" if name in HELD else "it cannot be a name in Python"
        diagnostics.error(
            "E392", f"the {what} `{name}` needs another name: {reason}", span, help=f"write `{name.strip('_') or 'part'}_`, for example"
        )


def _names(program: ir.Program, diagnostics: Diagnostics) -> Iterator[tuple[str, str, Span | None]]:
    yield "model", program.name, program.span
    for item in program.inputs:
        yield "input", item.name, item.value.span
    for name, value in zip(program.root.output_names, program.root.outputs, strict=False):
        yield "output", name or "output", value.span or program.span
    for name, symbol in program.config:
        yield "hyperparameter", name, diagnostics.places.get(symbol, program.span)
    for module in ir.walk(program.root):
        if module is not program.root:
            yield "component", module.name, module.span
        yield from (("parameter", p.name, p.span) for p in module.params)
        yield from (("state", s.name, s.span) for s in module.states)
        for child in module.children:
            below = child.slots[0][0] if isinstance(child, ir.Stack) else child.module
            yield "instance", child.name, below.named or below.span
