"""Runs the LALR(1) tables over tokens: shifts, and hands each reduction to a builder. Holds no grammar and builds nothing itself.

Iterative, so no nesting can exhaust Python's stack; the depth of what is built is counted and bounded here, for all that walk the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .frozen import frozen
from .tables import Tables

DEEPEST = 64

Value = object
Action = Callable[..., Value]


@frozen
class Unexpected:
    """The parser could not go on at the `order`-th token given to it (their number: at the end)."""

    order: int


@frozen
class TooDeep:
    """What was built nests deeper than `DEEPEST`, at the `order`-th token."""

    order: int


class Automaton:
    """`actions` are functions by rule number, called with the builder, the range in the text and the values of the rule's symbols;
    none passes its one value on. `flat` names the actions that collect and do not nest."""

    def __init__(self, tables: Tables, actions: Sequence[Action | None], flat: frozenset[str]) -> None:
        self.tables = tables
        self.steps = [
            (rule.target, rule.length, action, 0 if rule.action in flat else 1) for rule, action in zip(tables.rules, actions, strict=True)
        ]
        self.passed: dict[tuple[int, int, int], int] = {}

    def _pass_on(self, below: int, state: int, terminal: int) -> int:
        """The state after all the reductions at `terminal` that let one symbol stand for another; `below` is the state under it."""
        actions, gotos, rules = self.tables.actions, self.tables.gotos, self.tables.rules
        first = state
        while True:
            step = actions[state].get(terminal)
            if step is None or step >= 0 or rules[-step - 1].action or rules[-step - 1].target not in gotos[below]:
                self.passed[below, first, terminal] = state
                return state
            state = gotos[below][rules[-step - 1].target]

    def run(
        self, start: str, builder: object, tokens: Sequence[int], types: list[int], starts: list[int], ends: list[int]
    ) -> Value | Unexpected | TooDeep:
        """Parses `tokens` (indices into the three lists) as the start symbol. A token's value is its index."""
        actions, gotos, steps, passed = self.tables.actions, self.tables.gotos, self.steps, self.passed
        state, final = self.tables.starts[start]
        end_terminal = len(self.tables.terminals) - 1
        states: list[int] = [state]
        values: list[Value] = []
        opens: list[int] = [0]
        closes: list[int] = [starts[tokens[0]] if tokens else 0]
        depths: list[int] = [0]
        for order in range(len(tokens) + 1):
            at = tokens[order] if order < len(tokens) else -1
            terminal = types[at] if at >= 0 else end_terminal
            while True:
                step = actions[state].get(terminal)
                if step is None:
                    return Unexpected(order)
                if step >= 0:
                    state = step
                    states.append(state)
                    values.append(at)
                    opens.append(starts[at])
                    closes.append(ends[at])
                    depths.append(0)
                    break
                target, length, action, nests = steps[-step - 1]
                if action is None:  # one symbol stands for another: nothing to build
                    below = states[-2]
                    state = passed.get((below, state, terminal)) or self._pass_on(below, state, terminal)
                    states[-1] = state
                    if terminal == end_terminal and state == final:
                        return values[-1]
                    continue
                if length:
                    children = values[-length:]
                    opened, closed, depth = opens[-length], closes[-1], max(depths[-length:]) + nests
                    del values[-length:], states[-length:], opens[-length:], closes[-length:], depths[-length:]
                    if depth > DEEPEST:
                        return TooDeep(order)
                    values.append(action(builder, opened, closed, *children))
                    opens.append(opened)
                    closes.append(closed)
                    depths.append(depth)
                else:
                    closed = closes[-1]
                    values.append(action(builder, closed, closed))
                    opens.append(closed)
                    closes.append(closed)
                    depths.append(0)
                state = gotos[states[-1]][target]
                states.append(state)
                if terminal == end_terminal and state == final:
                    return values[-1]
        raise AssertionError("the end is either accepted or unexpected")

    def states_before(self, start: str, terminals: Sequence[int]) -> tuple[int, ...]:
        """The stack after the terminals, all of which can be shifted, before any reduction that the next one causes.

        At a mistake this says more than the stack where the parser stopped: its tables merge the contexts of a symbol, so that some
        reductions happen before the mistake is noticed."""
        stack = [self.tables.starts[start][0]]
        for terminal in terminals:
            while (step := self.tables.actions[stack[-1]][terminal]) < 0:
                self._reduce(stack, step)
            stack.append(step)
        return tuple(stack)

    def _reduce(self, stack: list[int], step: int) -> bool:
        """Makes a reduction on a stack of states; false if it completes the start symbol."""
        rule = self.tables.rules[-step - 1]
        if rule.length:
            del stack[-rule.length :]
        goto = self.tables.gotos[stack[-1]].get(rule.target)
        if goto is not None:
            stack.append(goto)
        return goto is not None

    def accepts(self, states: tuple[int, ...], terminal: int) -> bool:
        """Whether the terminal can be shifted after `states`, once the reductions it causes are made."""
        stack = list(states)
        while (step := self.tables.actions[stack[-1]].get(terminal)) is not None:
            if step >= 0 or not self._reduce(stack, step):
                return True
        return False

    def expected(self, states: tuple[int, ...]) -> list[str]:
        """The names of the terminals that could come after `states`."""
        names = self.tables.terminals
        return [name for number, name in enumerate(names) if self.accepts(states, number)]
