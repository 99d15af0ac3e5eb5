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
FUNCTIONS: dict[str, str] = {
    **dict.fromkeys(("matmul", "bmm", "mm", "dot", "outer", "tensordot"), "`einsum(a, b, over = axis)` multiplies and sums over an axis"),
    **dict.fromkeys(("cat", "concatenate"), "write `concat(a, b, over = t)`"),
    **dict.fromkeys(("arange", "linspace"), "`index(t)` counts along an axis"),
    **dict.fromkeys(("tril", "triu"), "`where(index(s) <= index(t), x, 0)` keeps one side; in `attend` the mask `causal` does"),
    **dict.fromkeys(("gather", "take", "index_select"), "`x[t = index]` reads entries by an int tensor"),
    **dict.fromkeys(("var", "std", "variance"), "`mean((x - mean(x, d)) ^ 2, d)` is the variance over an axis"),
    **dict.fromkeys(("logsigmoid", "log_sigmoid"), "write `-softplus(-x)`"),
    **dict.fromkeys(("randn", "rand", "randint", "bernoulli"), "noise is an input of the model; `dropout(x, rate)` draws its own"),
    **dict.fromkeys(("fft", "rfft", "ifft", "irfft"), "an `einsum` with cosines and sines of `index(t)` is a Fourier transform"),
    **dict.fromkeys(("amax", "amin"), "`max(x, t)` and `min(x, t)` reduce over an axis, `maximum(a, b)` compares"),
    **dict.fromkeys(("logical_and", "logical_or", "logical_not"), "write `a and b`, `a or b`, `not a`"),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like"), "`zeros([b, t, d])`, `ones(...)` and `full([...], value)` name their axes"),
    **dict.fromkeys(("inf", "infinity"), "write a large number, `-1e30`; a mask of `attend` hides keys entirely"),
    "eye": "write `float(index(n) == index(m: n))`",
    "normalize": "`x * rsqrt(sum(x ^ 2, d))` is of length one along an axis",
    "elu": "write `where(x > 0, x, exp(minimum(x, 0)) - 1)`",
    "leaky_relu": "write `where(x > 0, x, 0.01 * x)`",
    "mish": "write `x * tanh(softplus(x))`",
    "swish": "write `silu(x)`",
    "square": "write `x ^ 2`",
    "round": "write `floor(x + 0.5)`",
    "clip": "write `clamp(x, low, high)`",
    "topk": "`top(x, k, t)` gives `.values` and `.index`",
    "cumprod": "write `exp(cumsum(log(x), t))`, or `scan` a component that multiplies",
}


def of_name(name: str) -> str | None:
    """For a name that nothing has."""
    return NAMES.get(name) or FUNCTIONS.get(name) or ATTRIBUTES.get(name)


def of_attribute(name: str, operations: Container[str]) -> str | None:
    """For an attribute or a method of a tensor."""
    return ATTRIBUTES.get(name) or (f"operations are functions: `{name}(x)`" if name in operations else None)
