"""How NumPy moves dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from ...grammar.frozen import frozen
from ..python.arrange import beside_rest
from ..python.code import Code, Items, call, method, number
from ..python.layouts import Layout


@frozen
class NumpyMoves:
    def permute(self, x: Code, order: Sequence[int], rest: int | None) -> Code:
        """`.swapaxes(1, 2)` where two dimensions change places, else `.transpose(...)`, or beside `...` `np.moveaxis(...)`."""
        rank = len(order)
        moved = [k for k, o in enumerate(order) if k != o]
        if rest is not None:
            sources, targets = beside_rest(order, rest)
            if len(moved) == 2 and rest not in moved:
                return method(x, "swapaxes", number(targets[0]), number(targets[1]))
            return call("np.moveaxis", x, Items(tuple(map(number, sources))), Items(tuple(map(number, targets))))
        if len(moved) == 2:
            first, second = (k - rank if moved[1] == rank - 1 else k for k in moved)
            return method(x, "swapaxes", number(first), number(second))
        return method(x, "transpose", *(number(o) for o in order))

    def unflatten(self, x: Code, axis: int, sizes: Sequence[Code]) -> Code:
        return call("unflatten", x, number(axis), *sizes)

    def flatten(self, x: Code, first: int, last: int, layout: Layout) -> Code:
        return call("flatten", x, number(first), number(last))
