"""Tensors at run time: an array, and the label of each of its axes. Operands meet by label, never by position."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ...compiler.ir import Label
from ...grammar.frozen import frozen
from ...grammar.tree import Span

Array = NDArray[Any]


class InterpreterError(Exception):
    """The IR or what it was given is wrong: a shape that is not what the type says, a missing parameter, a size without a value."""


class OutOfRangeError(InterpreterError):
    """A spec reads an axis where it has no entry; `span` is where it says so, once a node has been blamed."""

    span: Span | None = None


@frozen
class Tensor:
    """`labels[k]` names axis k; the labels are concrete (no REST) and distinct."""

    array: Array
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        if self.array.ndim != len(self.labels):
            raise InterpreterError(f"an array of shape {self.array.shape} for the axes {list(self.labels)}")

    def position(self, label: Label) -> int:
        return self.labels.index(label)

    def has(self, label: Label) -> bool:
        return label in self.labels

    def size(self, label: Label) -> int:
        return int(self.array.shape[self.position(label)])

    def ordered(self, labels: tuple[Label, ...]) -> Array:
        """The array with its axes in the order of `labels`, which must be the same set."""
        if set(labels) != set(self.labels):
            raise InterpreterError(f"axes {list(self.labels)} where {list(labels)} are expected")
        return self.array.transpose([self.position(label) for label in labels])

    def aligned(self, labels: tuple[Label, ...]) -> Array:
        """The array with one axis for each of `labels`, of size one where the tensor lacks it: ready to broadcast."""
        kept = tuple(label for label in labels if self.has(label))
        array = self.ordered(kept)
        return array.reshape([self.size(label) if self.has(label) else 1 for label in labels])

    def renamed(self, old: tuple[Label, ...], new: tuple[Label, ...]) -> Tensor:
        mapping = dict(zip(old, new, strict=True))
        return Tensor(self.array, tuple(mapping.get(label, label) for label in self.labels))


def union(*groups: tuple[Label, ...]) -> tuple[Label, ...]:
    """All labels, each once, in order of appearance."""
    return tuple(dict.fromkeys(label for group in groups for label in group))


def sizes(*tensors: Tensor) -> dict[Label, int]:
    """The size of every label of some tensors."""
    return {label: n for t in tensors for label, n in zip(t.labels, t.array.shape, strict=True)}
