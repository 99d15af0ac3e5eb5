"""What tensors share by label."""

from __future__ import annotations

from ..body import Axis, Tensor


def shared(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors align: an axis of one label has one size."""
    sizes = {x.label: x.size for x in a.axes}
    return all(sizes.get(x.label, x.size) == x.size for x in b.axes)


def union(*tensors: Tensor) -> tuple[Axis, ...]:
    found: dict[str, Axis] = {}
    for tensor in sorted(tensors, key=lambda t: -len(t.axes)):
        for axis in tensor.axes:
            found.setdefault(axis.label, axis)
    return tuple(found.values())


def sized(axis: Axis, size: str, more: int) -> Axis:
    count = None if axis.count is None else axis.count + more
    return Axis(axis.label, f"({size})" if count is None else str(count), count)


def axes_(axes: list[Axis]) -> tuple[Axis, ...]:
    return tuple(axes)


def factor(n: int) -> int:
    return next((k for k in (2, 3, 5) if n % k == 0 and n > k), 0)
