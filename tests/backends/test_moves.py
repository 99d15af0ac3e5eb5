"""How dimensions are moved: the shortest call there is, and the one that does it, in both dialects."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from xfc.backends.numpy.moves import NumpyMoves
from xfc.backends.python.arrange import Moves
from xfc.backends.python.code import Text, render
from xfc.backends.torch.moves import TorchMoves


def written(moves: Moves, order: tuple[int, ...], rest: int | None) -> str:
    return render(moves.permute(Text("x"), order, rest), lambda v: v.hint)


@pytest.mark.parametrize(
    ("order", "rest", "torch_text", "numpy_text"),
    [
        ((1, 0), None, "x.t()", "x.swapaxes(-2, -1)"),
        ((0, 2, 1), None, "x.transpose(-2, -1)", "x.swapaxes(-2, -1)"),
        ((1, 0, 2), None, "x.transpose(0, 1)", "x.swapaxes(0, 1)"),
        ((1, 2, 0), None, "x.permute(1, 2, 0)", "x.transpose(1, 2, 0)"),
        ((0, 2, 1), 0, "x.transpose(-2, -1)", "x.swapaxes(-2, -1)"),
        ((0, 2, 1, 3), 0, "x.transpose(-3, -2)", "x.swapaxes(-3, -2)"),
        ((2, 1, 0), 1, "x.transpose(0, -1)", "x.swapaxes(0, -1)"),
        ((1, 0, 2), 2, "x.transpose(0, 1)", "x.swapaxes(0, 1)"),
        ((0, 2, 3, 1), 0, "x.movedim((-2, -1, -3), (-3, -2, -1))", "np.moveaxis(x, (-2, -1, -3), (-3, -2, -1))"),
        ((1, 0), 0, "x.movedim((-1,), (0,))", "np.moveaxis(x, (-1,), (0,))"),
    ],
)
def test_the_shortest_call(order: tuple[int, ...], rest: int | None, torch_text: str, numpy_text: str) -> None:
    assert (written(TorchMoves(), order, rest), written(NumpyMoves(), order, rest)) == (torch_text, numpy_text)


@pytest.mark.parametrize(("moves", "made"), [(TorchMoves(), torch.from_numpy), (NumpyMoves(), np.asarray)], ids=["torch", "numpy"])
def test_every_order(moves: Moves, made: Callable[[Any], Any]) -> None:
    for rank in (2, 3, 4):
        x = np.arange(np.prod(range(2, rank + 2))).reshape(*range(2, rank + 2))
        for order in list(permutations(range(rank)))[1:]:
            found = eval(written(moves, order, None), {"x": made(x), "np": np})
            assert np.array_equal(np.asarray(found), x.transpose(order)), order


@pytest.mark.parametrize(("moves", "made"), [(TorchMoves(), torch.from_numpy), (NumpyMoves(), np.asarray)], ids=["torch", "numpy"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_every_order_beside_any_axes(moves: Moves, made: Callable[[Any], Any], place: int) -> None:
    """Where a dimension stands for none, one or two."""
    for many in range(3):
        sizes = [2, 3, 4]
        sizes[place:place] = [5, 6][:many]
        x = np.arange(np.prod(sizes)).reshape(sizes)
        axes = [[k + (k > place) * (many - 1)] for k in range(4)]
        axes[place] = list(range(place, place + many))
        for order in list(permutations(range(4)))[1:]:
            found = eval(written(moves, order, place), {"x": made(x), "np": np})
            assert np.array_equal(np.asarray(found), x.transpose([a for k in order for a in axes[k]])), order
