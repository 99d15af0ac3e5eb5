"""Conditions on a layer's number that tell the slots of a stack apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from ...compiler import ir
from ...compiler.dims import ONE, ZERO, Expr
from .code import Binary, Code, Items, Text


def choose_by_slot(stack: ir.Stack, choices: Sequence[Hashable], i: Code, number: Callable[[Expr], Code]) -> list[tuple[Code | None, int]]:
    """For each distinct choice, in order, the condition on layer i under which it is made (none for the last), and the first slot that makes it."""
    groups: dict[Hashable, list[int]] = {}
    for slot, choice in enumerate(choices):
        groups.setdefault(choice, []).append(slot)
    return [
        (None if k == len(groups) - 1 else _in_slots(stack, slots, i, number), slots[0]) for k, slots in enumerate(groups.values())
    ]  # fmt: skip


def _in_slots(stack: ir.Stack, slots: Sequence[int], i: Code, number: Callable[[Expr], Code]) -> Code:
    """Whether layer i stands in one of the slots: `i < 3`, `i % 6 == 5`, `i % 5 in (0, 1, 3)`."""
    starts = [ZERO]
    for _, count in stack.slots:
        starts.append(starts[-1] + count)
    at: Code = Binary("%", i, number(starts[-1])) if stack.cycle else i
    whole = [(starts[s].constant, starts[s + 1].constant) for s in slots]
    places = [n for a, b in whole if isinstance(a, int) and isinstance(b, int) for n in range(a, b)]
    if all(isinstance(b, int) for _, b in whole) and len(slots) > 1 and len(places) <= 12:
        return Binary("in", at, Items(tuple(Text(str(n)) for n in places)))
    conditions = [_in_slot(at, starts[s], starts[s + 1], last=s == len(stack.slots) - 1, number=number) for s in slots]
    result = conditions[0]
    for condition in conditions[1:]:
        result = Binary("or", result, condition)
    return result


def _in_slot(at: Code, start: Expr, stop: Expr, last: bool, number: Callable[[Expr], Code]) -> Code:
    if stop - start == ONE:
        return Binary("==", at, number(start))
    if start == ZERO:
        return Binary("<", at, number(stop))
    if last:
        return Binary(">=", at, number(start))
    return Binary("and", Binary("<=", number(start), at), Binary("<", at, number(stop)))


def slot_conditions(stack: ir.Stack, i: Code, number: Callable[[Expr], Code]) -> list[Code]:
    """For each slot, whether layer i stands in it."""
    return [_in_slots(stack, [s], i, number) for s in range(len(stack.slots))]


def none_gives(stack: ir.Stack, collect: ir.Collect) -> bool:
    """Whether, by the spec's own numbers, no layer has a result that some slot of the pattern has."""
    count, before = stack.count.value(), 0
    for (_, n), place in zip(stack.slots, collect.outputs, strict=True):
        if place is not None and (count is None or before < count):
            return False
        before += int(n.value() or 0)
    return True
