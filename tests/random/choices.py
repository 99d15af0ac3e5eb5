"""Where a generator's choices come from: a seed, Hypothesis, or a list of choices made before (to shrink what fails)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices:
    """`below(n)` is a number from 0 to n - 1; everything else is made of it. 0 is the plainest choice everywhere, so that shrinking finds it."""

    def __init__(self, below: Callable[[int], int]) -> None:
        self._below = below
        self.made: list[int] = []

    @staticmethod
    def seeded(seed: int) -> Choices:
        return Choices(Random(seed).randrange)

    @staticmethod
    def drawn(draw: Callable[[st.SearchStrategy[int]], int]) -> Choices:
        return Choices(lambda n: draw(st.integers(0, n - 1)) if n > 1 else 0)

    @staticmethod
    def replayed(made: Sequence[int]) -> Choices:
        rest = iter(made)
        return Choices(lambda n: min(next(rest, 0), n - 1))

    def below(self, n: int) -> int:
        found = self._below(n)
        self.made.append(found)
        return found

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def chance(self, one_in: int) -> bool:
        """True once in `one_in` times."""
        return self.below(one_in) == one_in - 1

    def some(self, items: Sequence[T]) -> list[T]:
        """A few of the items, in their order."""
        return [item for item in items if self.below(2)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(len(left))]


def shrink(made: Sequence[int], fails: Callable[[Sequence[int]], bool], tries: int = 400) -> list[int]:
    """A shorter, smaller list of choices that still fails: runs are deleted, then numbers lowered, while any of that helps."""
    best = list(made)
    left = tries

    def better(candidate: list[int]) -> bool:
        nonlocal best, left
        if left <= 0 or candidate == best:
            return False
        left -= 1
        if fails(candidate):
            best = candidate
            return True
        return False

    size = max(len(best) // 2, 1)
    while size and left > 0:
        at = 0
        while at < len(best) and left > 0:
            if not (
                better(best[:at] + best[at + size :])
                or (any(best[at : at + size]) and better(best[:at] + [0] * min(size, len(best) - at) + best[at + size :]))
            ):
                at += size
        size //= 2
    for at in range(len(best)):
        if at < len(best) and best[at] > 1:
            better([*best[:at], 1, *best[at + 1 :]])
    return best
