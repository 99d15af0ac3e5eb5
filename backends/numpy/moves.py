"""How NumPy moves dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from ...grammar.frozen import frozen
from ..python.code import Code, Items, call, method, number
from ..python.layouts import Layout


@frozen
class NumpyMoves:
    def permute(self, x: Code, order: Sequence[int], rest: bool) -> Code:
        """`.swapaxes(1, 2)` where two dimensions change places, else `.transpose(...)`; beside `...`, dimensions count from the end."""
        rank = len(order)
        moved = [k for k, o in enumerate(order) if k != o]
        if len(moved) == 2:
            first, second = (k - rank if rest or moved[1] == rank - 1 else k for k in moved)
            return method(x, "swapaxes", number(first), number(second))
        if rest:
            places = list(moved)
            sources, targets = (Items(tuple(number(k - rank) for k in group)) for group in ([order[k] for k in places], places))
            return call("np.moveaxis", x, sources, targets)
        return method(x, "transpose", *(number(o) for o in order))

    def unflatten(self, x: Code, axis: int, sizes: Sequence[Code]) -> Code:
        return call("unflatten", x, number(axis), *sizes)

    def flatten(self, x: Code, first: int, last: int, layout: Layout) -> Code:
        return call("flatten", x, number(first), number(last))
