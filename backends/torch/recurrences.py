"""Linear recurrences whose states are all read: step by step in parts of 4 tokens, in all of them at once, and what enters each part likewise.

Without gradients a long sequence is taken 1,024 tokens after the other: what is between is freed before the next, and the states alone stay.
On a CPU, where an operation costs little once it has a thousand numbers to do, each step is written in its place, and gradients come back
step by step as well: factors and states are all that is remembered."""

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


RECURRENCE_BY_STEPS = '''class RecurrenceBySteps(torch.autograd.Function):
    """h[t] = a[t] * h[t - 1] + b[t] from h[-1] = start, each step written in its place; gradients likewise."""

    @staticmethod
    def forward(ctx, a, b, start):  # type: ignore[no-untyped-def]
        h = torch.empty_like(b)
        write_steps(a.unbind(), b.unbind(), h.unbind(), start)
        ctx.save_for_backward(a, h, start)
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        a, h, start = ctx.saved_tensors
        factors, back = a.unbind(), torch.empty_like(grad)
        write_steps((factors[-1], *factors[:0:-1]), grad.unbind()[::-1], back.unbind()[::-1], torch.zeros_like(start))
        grad_a = torch.empty_like(h)
        torch.mul(back[0], start, out=grad_a[0])
        torch.mul(back[1:], h[:-1], out=grad_a[1:])
        return grad_a, back, back[0] * a[0]


def write_steps(a: Sequence[Tensor], b: Sequence[Tensor], h: Sequence[Tensor], state: Tensor) -> None:
    for factor, new, place in zip(a, b, h, strict=True):
        state = torch.addcmul(new, factor, state, out=place)'''


def linear_recurrence(*, starts: bool) -> str:
    """The function of both operands in one shape; `starts`: it takes a state to go on from."""
    given, what = (", start: Tensor | None = None", " from h[-1] = start") if starts else ("", "")
    first = "start" if starts else "start: Tensor | None"
    begin = "" if starts else f"        {first} = None\n"
    zeros = "torch.zeros_like(b[0])"
    state = f"        start = {zeros} if start is None else start.expand_as(b[:1])[0].to(b.dtype)\n" if starts else ""
    return f'''def linear_recurrence(a: Tensor, b: Tensor, dim: int{given}) -> Tensor:
    """h[t] = a[t] * h[t - 1] + b[t] along `dim`{what}: on the CPU step by step, where a step has
    1,024 numbers or more; else in parts, without gradients 1,024 steps after the other."""
    b = b.expand(torch.broadcast_shapes(a.shape, b.shape)).movedim(dim, 0)
    a = a.movedim(dim, 0)
    if torch.compiler.is_compiling():
        return recurrence_by_parts(a, b{", start" if starts else ""}).movedim(0, dim)
    if b.is_cpu and len(b) > 1 and b[0].numel() >= 1024:
        a, b = (x.expand_as(b).to(torch.result_type(a, b)) for x in (a, b))
{state}        return RecurrenceBySteps.apply(a, b, {"start" if starts else zeros}).movedim(0, dim)
    if not torch.is_grad_enabled() and len(b) > 1024:
        h = torch.empty_like(b, dtype=torch.result_type(a, b))
{begin}        for part, factor, new in zip(*(x.split(1024) for x in (h, a, b)), strict=True):
            part.copy_(recurrence_by_parts(factor, new, start))
            start = part[-1:]
        return h.movedim(0, dim)
    return recurrence_by_parts(a, b{", start" if starts else ""}).movedim(0, dim)'''
