"""Attention in a window by blocks of queries, each with the keys around it."""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler.dims import ZERO
from ...compiler.ir import Value
from ..python.code import Assign, Code, Text, Var, call
from ..python.layouts import Tensor, declared
from ..python.prepare_masks import Window
from ..python.write_body import BodyWriter
from .pointwise import on_device


def count_by_blocks(w: BodyWriter, window: Window, slots: Code | None = None) -> tuple[Var, Var]:
    """`q_blocks, k_blocks = window_blocks(slots, before)`; without slots they are 0, 1, ..."""
    if slots is None:
        slots = call("torch.arange", w.number(window.rows), **on_device(w))
    query, key = Var(hint="q_blocks"), Var(hint="k_blocks")
    after = () if window.band.after == ZERO else (w.number(window.band.after),)
    w.helpers.add("window_blocks")
    w.statements.append(Assign((query, key), call("window_blocks", slots, w.number(window.band.before), *after)))
    for value, var in ((window.query, query), (window.key, key)):
        w.places[value] = var
        w.env[value] = Tensor(var, declared(value.type))
    return query, key


def window_attention(w: BodyWriter, grouped: bool, both_sides: bool) -> str:
    """The name of the helper, which is brought along: `grouped` where it can decode."""
    name = "centred_attention" if both_sides else "window_attention"
    w.helpers |= {f"grouped_{name}" if grouped else name, "cut_by_blocks", "join_blocks"} | ({"grouped_attention"} if grouped else set())
    return name


def cut_by_blocks(w: BodyWriter, operands: Sequence[tuple[Value, Code]], both_sides: bool) -> tuple[Var, ...]:
    """`q, k, v, mask = cut_by_blocks(q, k, v, mask)`, blocks and batch in one dimension; each keeps its name."""
    w.helpers |= {"cut_by_blocks", "join_blocks"}
    cut = tuple(Var(hint=value.hint, kind=kind) for (value, _), kind in zip(operands, ("q", "k", "v", "mask"), strict=True))
    named: dict[str, Code] = {"both_sides": Text("True")} if both_sides else {}
    w.statements.append(Assign(cut, call("cut_by_blocks", *(code for _, code in operands), **named)))
    return cut


WINDOW_BLOCKS = '''def window_blocks(slots: Tensor, before: int, after: int = 0) -> tuple[Tensor, Tensor]:
    """Slots of queries by blocks [n, size], and of the keys around each [n, span]: from `before`, to `after`;
    -before - 1, which no query sees, where there is none. A short sequence, or an exported one of any length, is one block
    with all keys."""
    length, size = slots.shape[0], max(64, (before + after) // 8)
    if not isinstance(length, int) or length < before + after + 2 * size:
        return slots[None], slots[None]
    start = torch.arange(0, length, size, device=slots.device)[:, None]
    keys = start + torch.arange(-before, size + after, device=slots.device)
    keys = torch.where((keys < 0) | (keys >= length), -before - 1, keys)
    return (start + torch.arange(size, device=slots.device)).clamp(max=length - 1), keys'''


CUT_BY_BLOCKS = '''def cut_by_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, both_sides: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries [b, .., t, e] by the blocks of a mask, of truths or of numbers to add, [(b, 1 or heads, ..,) n, size, span], as
    [b * n, .., size, e], the keys and values around each, and the mask of each; a single block, or one of all queries and
    keys, [(b, 1 or heads, ..,) t, t], as it is."""
    if mask.dim() in (2, q.dim()):
        return q, k, v, mask
    n, size, span = mask.shape[-3:]
    if n == 1:
        return q, k, v, mask.squeeze(-3)
    batch, length, before = len(q), q.shape[-2], (span - size) // 2 if both_sides else span - size
    rest, heads = n * size - length, mask.shape[1:-3] or (1,) * (q.dim() - 3)
    q = F.pad(q, (0, 0, 0, rest)).unflatten(-2, (n, size)).movedim(-3, 1).flatten(0, 1)
    k, v = (F.pad(x, (0, 0, before, rest + span - size - before)).unfold(-2, span, size) for x in (k, v))
    k, v = (x.movedim(-3, 1).transpose(-2, -1).flatten(0, 1) for x in (k, v))  # [b * n, .., span, e]
    return q, k, v, mask.expand(batch, *heads, n, size, span).movedim(-3, 1).flatten(0, 1)'''


BLOCKS_OF_BIAS = '''def blocks_of_bias(bias: Tensor, batch: int) -> Tensor:
    """What is added to scores [b * n, .., size, span], of a bias [(b,) .., n, size, span]; a single block as it is."""
    if bias.shape[-3] == 1:
        return bias.squeeze(-3)
    return bias.expand(batch // bias.shape[-3], *bias.shape[1:]).movedim(-3, 1).flatten(0, 1)'''


JOIN_BLOCKS = '''def join_blocks(y: Tensor, length: int) -> Tensor:
    """Results of blocks [b * n, .., size, e] as [b, .., t, e]."""
    if y.shape[-2] == length:  # a single block
        return y
    n = -(-length // y.shape[-2])
    return y.unflatten(0, (-1, n)).movedim(1, -3).flatten(-3, -2)[..., :length, :]'''


def window_helper(grouped: bool, both_sides: bool) -> str:
    """Its source. Without a mask, it is causal where the window has one side."""
    name = "centred_attention" if both_sides else "window_attention"
    both = ", both_sides=True" if both_sides else ""
    if grouped:
        plain = "grouped_attention(q, k, v, mask, scale)"
    else:
        causal = "" if both_sides else ", is_causal=mask is None and bool(q.shape[2] > 1)"
        options = f"q, k, v, attn_mask=mask{causal}, dropout_p=dropout_p, scale=scale, enable_gqa=gqa"
        plain = f"F.scaled_dot_product_attention({options})"
        if len(plain) > 105:
            inside = options if len(options) <= 108 else options.replace(", ", ",\n            ") + ","
            plain = f"F.scaled_dot_product_attention(\n            {inside}\n        )"
    more = "" if grouped else "dropout_p: float = 0.0, "
    dropout = "" if grouped else "dropout_p=dropout_p, "
    gqa = "" if grouped else "    gqa = q.shape[1] != k.shape[1]\n"
    start = f"def {name}(", f"q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, {more}scale: float | None = None", ") -> Tensor:"
    signature = "".join(start) if len("".join(start)) <= 120 else "{}\n    {}\n{}".format(*start)
    return f'''{signature}
    """q [b, {"t, heads" if grouped else "heads, t"}, e] on k [b, kv_heads, t, e], by blocks of queries, each on the keys around it, where the
    mask says so: [(b, 1 or heads,) n, size, span], an axis more than one of all queries and keys, [.., t, t]."""
{gqa}    if mask is not None and mask.dim() % 2 and mask.shape[-3] == 1:  # a single block
        mask = mask.squeeze(-3)
    if mask is None or mask.dim() % 2 == 0:
        return {plain}
    length = q.shape[{"1" if grouped else "2"}]
    q, k, v, mask = cut_by_blocks({"q.transpose(1, 2)" if grouped else "q"}, k, v, mask{both})
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, {dropout}scale=scale, enable_gqa={"True" if grouped else "gqa"})
    return join_blocks(y, length){".transpose(1, 2)" if grouped else ""}'''
