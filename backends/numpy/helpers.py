"""Functions that a generated file brings along, each only where it is used. One may use those before it."""

from __future__ import annotations

import re

HELPERS = {
    "part": '''def part(params: Params, name: str) -> Params:
    """The parameters below `name`, under the names they have there."""
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in params.items() if key.startswith(start)}''',
    "member": '''def member(params: Params, k: int) -> Params:
    """The parameters of one of the experts that are stacked along the first axis."""
    return {key: value[k] for key, value in params.items()}''',
    "linear": """def linear(params: Params, x: Array) -> Array:
    return x @ params["weight"].T""",
    "affine": """def affine(params: Params, x: Array) -> Array:
    return x @ params["weight"].T + params["bias"]""",
    "unflatten": '''def unflatten(x: Array, axis: int, *sizes: int) -> Array:
    """One axis as several, the last of which varies fastest."""
    axis %= x.ndim
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])''',
    "flatten": '''def flatten(x: Array, first: int, last: int) -> Array:
    """Neighbouring axes as one."""
    first, last = first % x.ndim, last % x.ndim
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])''',
    "expand": '''def expand(x: Array, axis: int, size: int) -> Array:
    """A new axis along which x repeats."""
    return np.repeat(np.expand_dims(x, axis), size, axis)''',
    "erf": """def erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[x.dtype])(x)""",
    "sigmoid": """def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1, small) / (1 + small)""",
    "silu": """def silu(x: Array) -> Array:
    return x * sigmoid(x)""",
    "gelu": """def gelu(x: Array) -> Array:
    return x * (0.5 + 0.5 * erf(x * 0.5**0.5))""",
    "gelu_tanh": """def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))""",
    "softplus": """def softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)""",
    "logsumexp": """def logsumexp(x: Array, axis: int | tuple[int, ...]) -> Array:
    top = x.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.squeeze(np.log(np.exp(x - top).sum(axis, keepdims=True)) + top, axis)""",
    "softmax": '''def softmax(x: Array, axis: int) -> Array:
    """A row of nothing but -inf gives 0."""
    top = x.max(axis, keepdims=True)
    x = np.exp(x - np.where(np.isfinite(top), top, 0))
    total = x.sum(axis, keepdims=True)
    return x / np.where(total == 0, 1, total)''',
    "log_softmax": """def log_softmax(x: Array, axis: int) -> Array:
    return x - np.expand_dims(logsumexp(x, axis), axis)""",
    "cross_entropy": '''def cross_entropy(logits: Array, target: Array) -> Array:
    """Mean of -log softmax(logits)[target] over the targets that are not -100; 0 where there are none."""
    kept = target != -100
    picked = np.take_along_axis(log_softmax(logits, -1), np.where(kept, target, 0)[..., None], -1)[..., 0]
    return -picked[kept].sum() / max(int(kept.sum()), 1)''',
    "top": '''def top(x: Array, k: int, axis: int) -> tuple[Array, Array]:
    """The k largest, descending, and their places."""
    index = np.take(np.argsort(-x, axis, kind="stable"), np.arange(k), axis)
    return np.take_along_axis(x, index, axis), index''',
    "pad": """def pad(x: Array, axis: int, before: int, after: int, value: float = 0) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return np.pad(x, widths, constant_values=value)""",
    "windows": '''def windows(x: Array, axis: int, size: int, stride: int, dilation: int) -> Array:
    """[..., t, ...] to [..., window, ..., size]: entry k of window t is x[t * stride + k * dilation]."""
    place = axis if axis >= 0 else axis - 1
    x = np.moveaxis(np.lib.stride_tricks.sliding_window_view(x, (size - 1) * dilation + 1, axis), place, 0)
    return np.moveaxis(x[::stride], 0, place)[..., ::dilation]''',
    "scatter_add": """def scatter_add(base: Array, index: tuple[Array | slice, ...], values: Array) -> Array:
    base = base.copy()
    np.add.at(base, index, values)
    return base""",
    "linear_recurrence": '''def linear_recurrence(a: Array, b: Array, axis: int, start: Array | None = None) -> Array:
    """h[t] = a[t] * h[t - 1] + b[t], from 0 or `start`."""
    a, b = np.broadcast_arrays(a, b)
    h, a, b = np.zeros_like(np.moveaxis(b, axis, 0)), np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    state = np.zeros(h.shape[1:], h.dtype) if start is None else start
    for t in range(len(h)):
        h[t] = state = a[t] * state + b[t]
    return np.moveaxis(h, 0, axis)''',
    "before": '''def before(cache: Cache | None) -> int:
    """The number of tokens before this call."""
    return 0 if cache is None else cache.position''',
    "keep": '''def keep(cache: Cache | None, name: str, x: Array, axis: int) -> Array:
    """x after what the calls before have kept under a name."""
    if cache is None:
        return x
    if name in cache.kept:
        x = np.concatenate([cache.kept[name], x], axis)
    cache.kept[name] = x
    return x''',
    "follow": '''def follow(cache: Cache | None, name: str, x: Array, count: int, axis: int, beyond: int = 0) -> Array:
    """x, whose first entries, `count` of them, are in later calls those that came before its tokens."""
    if cache is None:
        return x
    if name in cache.kept:
        x = np.concatenate([cache.kept[name], np.take(x, range(count, x.shape[axis]), axis)], axis)
    last = x.shape[axis] - beyond
    cache.kept[name] = np.take(x, range(last - count, last), axis)
    return x''',
    "go_on": '''def go_on(cache: Cache | None, name: str, x: Array, axis: int, lead: int = 0) -> Array:
    """A running total, from where the call before ended; `lead`: how much longer than the tokens it is."""
    if cache is None:
        return x
    if name in cache.kept:
        x = x + cache.kept[name]
    cache.kept[name] = np.take(x, [-1 - lead], axis)
    return x''',
    "recall": '''def recall(cache: Cache | None, name: str, start: Array | None) -> Array | None:
    """How the call before ended; `start` if there was none."""
    return start if cache is None else cache.kept.get(name, start)''',
    "remember": """def remember(cache: Cache | None, name: str, x: Array) -> None:
    if cache is not None:
        cache.kept[name] = x""",
}


def used_helpers(text: str) -> list[str]:
    """Sources of the helpers that a text uses, and of those that these use, in order."""
    wanted: set[str] = set()
    pending = [text]
    while pending:
        source = pending.pop()
        for name in HELPERS:
            if name not in wanted and re.search(rf"(?<![\w.\"]){name}\(", source):
                wanted.add(name)
                pending.append(HELPERS[name])
    return [source for name, source in HELPERS.items() if name in wanted]
