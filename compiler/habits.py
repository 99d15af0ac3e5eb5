"""What to write instead of words that people bring along from Python and from tensor libraries."""

from __future__ import annotations

from collections.abc import Container

NAMES: dict[str, str] = {
    **dict.fromkeys(
        ("torch", "nn", "F", "np", "numpy", "jnp", "jax", "tf", "math"), "names have no module before them: `relu(x)`, `linear(out)`"
    ),
    "range": "lists are written out: `for n in [0, 1, 2]:`; layers are repeated with `n of component`",
    "len": "an axis name is its size; a list is as long as it is written",
    "self": "a body sees its own names: `up = linear(hidden)`, then `up(x)`",
    "print": "`emit name = x` makes a tensor readable from outside",
    "list": "lists are written out: `[a, b]`",
    "super": "a component has no base: write its body, or bind another component in it",
}

_SHAPE = "an axis name is its size: `d`, `t // 2`"
_RESHAPE = "`unflatten(x, t = [a: n, b])` makes several axes of one, `flatten(x, [a, b], t)` one of several"
_ORDER = "operations find axes by name, in any order; `transpose(x, [b, h, t])` gives another declared order"
ATTRIBUTES: dict[str, str] = {
    **dict.fromkeys(("shape", "size", "ndim", "dim", "numel", "length"), _SHAPE),
    **dict.fromkeys(("view", "reshape", "resize"), _RESHAPE),
    **dict.fromkeys(("permute", "T", "mT", "swapaxes", "contiguous", "t"), _ORDER),
    "unsqueeze": "axes align by name, so that none is needed to broadcast; `expand(x, n)` makes one",
    "repeat": "axes align by name, so that none is repeated to broadcast; `expand(x, n)` makes one",
    "chunk": "`split(x, t = [n, m])`, or `unstack(x, t)` for the slices along an axis",
    "matmul": "`einsum(a, b, over = axis)` multiplies and sums over an axis",
    "to": "`float32(x)`, `like(y, x)`, `int(x)` change the dtype; a device is no part of a spec",
    "type": "`float32(x)`, `like(y, x)`, `int(x)` change the dtype",
    "detach": "write `stop_gradient(x)`",
    "pow": "write `x ^ 2`",
    "masked_fill": "write `where(mask, value, x)`",
}


def of_name(name: str) -> str | None:
    """For a name that nothing has."""
    return NAMES.get(name)


def of_attribute(name: str, operations: Container[str]) -> str | None:
    """For an attribute or a method of a tensor."""
    return ATTRIBUTES.get(name) or (f"operations are functions: `{name}(x)`" if name in operations else None)
