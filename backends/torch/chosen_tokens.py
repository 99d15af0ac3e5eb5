"""Attention where tensors choose tokens: keys that all see besides those nearby, and queries that alone are read."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import Label, Value
from ...grammar.frozen import frozen
from ..python.attention_axes import AttendAxes, Given, NoMask, Predicate, has_score, mask_kind
from ..python.code import Binary, Code
from ..python.layouts import Layout
from ..python.mask_terms import conjunction
from ..python.write_body import BodyWriter


@frozen(kw_only=True, eq=False)
class NearAndChosen:
    """A mask `(abs(i - j) <= near or chosen[j]) and keep[j] and ...`; `body` computes `chosen` and `keep` along the keys."""

    near: Expr
    chosen: Value
    keep: tuple[Value, ...]
    body: tuple[ir.Node, ...]


def near_and_chosen(node: ir.Attend, axes: AttendAxes) -> NearAndChosen | None:
    """What the mask says, if it says that of one sequence."""
    kind = mask_kind(node.mask)
    if not isinstance(kind, Predicate) or has_score(node) or len(axes.batch) != 1 or not axes.heads or axes.grouped:
        return None
    if node.q.type.axis(node.query).size != node.k.type.axis(node.k_axis).size or len(axes.features) != 1:
        return None
    body, terms = conjunction(kind.region, ring=False)
    i, j = kind.region.params
    made = {out: n for n in body for out in n.outs}
    found: tuple[Expr, Value] | None = None
    keep: list[Value] = []
    for term in terms:
        either = made.get(term)
        if found is None and isinstance(either, ir.Elementwise) and either.function == "or":
            found = _either(either, made, i, j)
            if found is not None:
                continue
        keep.append(term)
    allowed = {axes.batch[0], node.key}
    if found is None or not all(set(v.type.labels) <= allowed for v in (*keep, found[1])):
        return None
    needed = _needed(body, [*keep, found[1]])
    if any(i in ir.operands(n) or j in ir.operands(n) for n in needed):
        return None
    return NearAndChosen(near=found[0], chosen=found[1], keep=tuple(keep), body=needed)


def _either(node: ir.Elementwise, made: dict[Value, ir.Node], i: Value, j: Value) -> tuple[Expr, Value] | None:
    """`abs(i - j) <= near or chosen`: near and chosen."""
    for one, other in (node.args, node.args[::-1]):
        match made.get(one) if isinstance(one, Value) else None:
            case ir.Elementwise(function="le", args=(Value() as distance, Expr() as near)) if isinstance(other, Value):
                match made.get(distance):
                    case ir.Elementwise(function="abs", args=(Value() as difference,)):
                        match made.get(difference):
                            case ir.Elementwise(function="sub", args=args) if args in ((i, j), (j, i)):
                                return near, other
    return None


def _needed(body: tuple[ir.Node, ...], values: list[Value]) -> tuple[ir.Node, ...]:
    live, found = set(values), list[ir.Node]()
    for node in reversed(body):
        if live & set(node.outs):
            live.update(ir.operands(node))
            found.append(node)
    return tuple(reversed(found))


def write_near_and_chosen(w: BodyWriter, found: NearAndChosen, batch: Label, key: Label) -> tuple[Code, Code | None, Code]:
    """`chosen` and `keep` as [b, t], and the distance."""
    w.order = (batch, key)
    w.write(found.body)
    layout: Layout = ((batch,), (key,))
    keep: Code | None = None
    for term in found.keep:
        code = w.spread(w.read(term), layout)
        keep = code if keep is None else Binary("&", keep, code)
    w.helpers |= {"near_and_chosen_attention", "window_blocks"}
    return w.spread(w.read(found.chosen), layout), keep, w.number(found.near)


def chosen_queries(w: BodyWriter, node: ir.Attend, axes: AttendAxes) -> Value | None:
    """The condition under which alone the result of a query is read, if there is one and the mask is the same for all queries."""
    kind = mask_kind(node.mask)
    if has_score(node) or len(axes.batch) != 1 or not axes.heads or axes.grouped or not isinstance(kind, NoMask | Given):
        return None
    if isinstance(kind, Given) and (kind.causal_if_none or kind.value in w.blocked or kind.value.type.has(node.query)):
        return None
    readers = [n for n in w.module.body if node.out in ir.operands(n)]
    if len(readers) != 1 or node.out in ir.results(w.module):
        return None
    match readers[0]:
        case ir.Elementwise(function="where", args=(Value() as condition, Value() as read, other)) if (
            read is node.out and other is not read
        ):
            seen = condition in w.env and set(condition.type.labels) == {axes.batch[0], node.query}
            return condition if seen else None
        case _:
            return None


NEAR_AND_CHOSEN = '''def near_and_chosen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    near: int,
    chosen: Tensor,
    keep: Tensor | None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """q, k, v [b, heads, t, e]: each query on the keys at most `near` away and on all `chosen` ones [b, t], of those that `keep`
    has. Blocks of queries on the keys around each and on what some sequence has chosen elsewhere."""
    batch, heads, length, _ = q.shape
    chosen, keep = chosen.expand(batch, -1), torch.ones_like(chosen) if keep is None else keep
    if torch.compiler.is_compiling():  # how many are chosen is not known
        i = torch.arange(length, device=q.device)
        mask = (((i[:, None] - i).abs() <= near) | chosen[:, None]) & keep[:, None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], dropout_p=dropout_p, scale=scale)
    rows, keys = window_blocks(torch.arange(length, device=q.device), near, near)
    n, size = rows.shape
    there, few = keys >= 0, chosen.any(0).nonzero()[:, 0]
    start = size * torch.arange(n, device=q.device)[:, None]
    outside = (few < start - near) | (few >= start + size + near)
    keys, there = torch.cat((keys.clamp(min=0), few.expand(n, -1)), 1), torch.cat((there, outside), 1)
    seen = (keys[:, None] >= rows[..., None] - near) & (keys[:, None] <= rows[..., None] + near)
    seen = seen | chosen[:, keys][:, :, None]
    mask = (seen & (there & keep.expand(batch, -1)[:, keys])[:, :, None]).flatten(0, 1)[:, None]
    q = F.pad(q, (0, 0, 0, n * size - length)).unflatten(2, (n, size)).transpose(1, 2).flatten(0, 1)
    k, v = (x[:, :, keys].transpose(1, 2).flatten(0, 1) for x in (k, v))  # [b * n, heads, keys, e]
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p, scale=scale)
    return y.transpose(1, 2).reshape(batch, n * size, heads, -1)[:, :length].transpose(1, 2)'''

CHOSEN_QUERIES = '''def attention_of_chosen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    chosen: Tensor,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attention for the queries that some sequence has `chosen` [b, t]; 0 for the others."""
    if torch.compiler.is_compiling():  # how many are chosen is not known
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p, scale=scale)
    few = chosen.any(0).nonzero()[:, 0]
    y = q.new_zeros(*q.shape[:3], v.shape[-1])
    if len(few) == 0:
        return y
    some = F.scaled_dot_product_attention(q[:, :, few], k, v, attn_mask=mask, dropout_p=dropout_p, scale=scale)
    return y.index_copy(2, few, some)'''
