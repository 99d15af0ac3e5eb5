"""How torch moves dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from ...grammar.frozen import frozen
from ..python.arrange import beside_rest
from ..python.code import Code, Items, method, number
from ..python.layouts import Layout


@frozen
class TorchMoves:
    def permute(self, x: Code, order: Sequence[int], rest: int | None) -> Code:
        """`.transpose(1, 2)` where two dimensions change places (`.t()` where there are no others), else `.permute(...)`, or beside `...`
        `.movedim(...)`."""
        moved = [k for k, o in enumerate(order) if k != o]
        rank = len(order)
        if rest is not None:
            sources, targets = beside_rest(order, rest)
            if len(moved) == 2 and rest not in moved:
                return method(x, "transpose", number(targets[0]), number(targets[1]))
            return method(x, "movedim", Items(tuple(map(number, sources))), Items(tuple(map(number, targets))))
        if len(moved) == rank == 2:
            return method(x, "t")
        if len(moved) == 2:
            last = moved[1] == rank - 1
            first, second = (moved[0] - rank, moved[1] - rank) if last and moved[0] == rank - 2 else (moved[0], moved[1])
            return method(x, "transpose", number(first), number(second - rank if last and second > 0 else second))
        return method(x, "permute", *(number(o) for o in order))

    def unflatten(self, x: Code, axis: int, sizes: Sequence[Code]) -> Code:
        return method(x, "unflatten", number(axis), Items(tuple(sizes)))

    def flatten(self, x: Code, first: int, last: int, layout: Layout) -> Code:
        return method(x, "flatten", number(first)) if last == -1 else method(x, "flatten", number(first), number(last))
