"""The functions of single numbers and of one axis, in NumPy. Arguments are arrays already cast to the dtype to compute in."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .tensors import Array

_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    found: Array = np.asarray(_erf(x)) if x.size else x
    return found.astype(x.dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def gelu(x: Array) -> Array:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016)."""
    return np.asarray(0.5 * x * (1 + erf(x * x.dtype.type(math.sqrt(0.5)))))


def gelu_tanh(x: Array) -> Array:
    """The approximation of gelu by tanh, from the same paper."""
    return np.asarray(0.5 * x * (1 + np.tanh(x.dtype.type(math.sqrt(2 / math.pi)) * (x + 0.044715 * x**3))))


def clamp(x: Array, low: Array, high: Array) -> Array:
    return np.minimum(np.maximum(x, low), high)


ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floor_div": np.floor_divide,
    "mod": np.mod,
    "pow": np.power,
    "neg": np.negative,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "clamp": clamp,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * sigmoid(x),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "softplus": softplus,
    "erf": erf,
}
"""Arguments come in the dtype of the result."""

COMPARISONS: dict[str, Callable[..., Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
"""Arguments come in the widest of their own dtypes."""

LOGIC: dict[str, Callable[..., Array]] = {"and": np.logical_and, "or": np.logical_or, "not": np.logical_not}


def logsumexp(x: Array, axis: tuple[int, ...]) -> Array:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    return np.asarray(np.squeeze(np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top, axis=axis))


REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "sum": lambda x, axis: np.sum(x, axis=axis, dtype=x.dtype),
    "mean": lambda x, axis: np.mean(x, axis=axis, dtype=x.dtype),
    "max": lambda x, axis: np.max(x, axis=axis),
    "min": lambda x, axis: np.min(x, axis=axis),
    "prod": lambda x, axis: np.prod(x, axis=axis, dtype=x.dtype),
    "any": lambda x, axis: np.any(x, axis=axis),
    "all": lambda x, axis: np.all(x, axis=axis),
    "logsumexp": logsumexp,
    "argmax": lambda x, axis: np.argmax(x, axis=axis[0]),
    "argmin": lambda x, axis: np.argmin(x, axis=axis[0]),
}


def softmax(x: Array, axis: int) -> Array:
    """A row that is all -inf gives 0."""
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    e = np.exp(x - np.where(np.isfinite(top), top, 0).astype(x.dtype))
    total = np.sum(e, axis=axis, keepdims=True)
    return np.asarray(e / np.where(total == 0, 1, total).astype(x.dtype))


def log_softmax(x: Array, axis: int) -> Array:
    return np.asarray(x - np.expand_dims(logsumexp(x, (axis,)), axis))


ALONG: dict[str, Callable[[Array, int], Array]] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "cumsum": lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype),
    "sort": lambda x, axis: np.sort(x, axis=axis, kind="stable"),
    "argsort": lambda x, axis: np.argsort(x, axis=axis, kind="stable"),
    "flip": lambda x, axis: np.flip(x, axis=axis),
}


def linear_recurrence(a: Array, b: Array, axis: int) -> Array:
    """h[t] = a[t] * h[t - 1] + b[t] along an axis that both have."""
    out = np.empty_like(b)
    a, b, view = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0), np.moveaxis(out, axis, 0)
    state = np.zeros_like(view[0]) if len(view) else None
    for t in range(len(view)):
        state = a[t] * state + b[t]
        view[t] = state
    return out
