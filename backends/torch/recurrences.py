"""Linear recurrences whose states are all read: step by step in parts of 4 tokens, in all of them at once, and what enters each part likewise.

Without gradients a long sequence is taken 1,024 tokens after the other: what is between is freed before the next, and the states alone stay."""

from __future__ import annotations

RECURRENCE_BY_PARTS = '''def recurrence_by_parts(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """h[t] = a[t] * h[t - 1] + b[t]: step by step in parts of 4, in all of them at once, and what enters each part likewise."""
    length = len(b)
    if start is not None:
        b = torch.cat((b[:1] + a[:1] * start, b[1:]))
    if length <= 1:
        return b
    size = min(4, length)
    rest = -length % size
    if rest:
        a, b = (F.pad(x, (0, 0) * (x.ndim - 1) + (0, rest)) for x in (a, b))
    each_a, each_b = (x.unflatten(0, (-1, size)).unbind(1) for x in (a, b))
    kept, h = [each_a[0]], [each_b[0]]  # of what enters, and what is there without it
    for factor, new in zip(each_a[1:], each_b[1:], strict=True):
        h.append(factor * h[-1] + new)
        kept.append(factor * kept[-1])
    if length > size:
        before = recurrence_by_parts(kept[-1], h[-1])[:-1]
        before = F.pad(before, (0, 0) * (before.ndim - 1) + (1, 0))
        h = [own + factor * before for own, factor in zip(h, kept, strict=True)]
    return torch.stack(h, 1).flatten(0, 1)[:length]'''


def linear_recurrence(*, starts: bool) -> str:
    """The function of both operands in one shape; `starts`: it takes a state to go on from."""
    given, what = (", start: Tensor | None", " from h[-1] = start") if starts else ("", "")
    first = "start" if starts else "start: Tensor | None"
    begin = "" if starts else f"        {first} = None\n"
    return f'''def linear_recurrence(a: Tensor, b: Tensor, dim: int{given}) -> Tensor:
    """h[t] = a[t] * h[t - 1] + b[t] along `dim`{what}; without gradients 1,024 steps after the other."""
    b = b.expand(torch.broadcast_shapes(a.shape, b.shape)).movedim(dim, 0)
    a = a.movedim(dim, 0)
    if not torch.is_grad_enabled() and not torch.compiler.is_compiling() and len(b) > 1024:
        h = torch.empty_like(b, dtype=torch.result_type(a, b))
{begin}        for part, factor, new in zip(*(x.split(1024) for x in (h, a, b)), strict=True):
            part.copy_(recurrence_by_parts(factor, new, start))
            start = part[-1:]
        return h.movedim(0, dim)
    return recurrence_by_parts(a, b{", start" if starts else ""}).movedim(0, dim)'''
