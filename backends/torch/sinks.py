"""Attention with a sink: by a kernel, on one more key, or as a softmax written out."""

from __future__ import annotations

from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ..python.attention_axes import AttendAxes, Causal, Given, mask_kind
from ..python.code import Binary, Code, Text, call, number
from ..python.layouts import Layout
from ..python.sinks import SinkSoftmax, sink_of
from ..python.write_body import BodyWriter
from .pointwise import to_dtype


def lower_sink_softmax(w: BodyWriter, node: ir.Node) -> None:
    softmax = cast(SinkSoftmax, node)
    scores = w.read(softmax.s)
    assert scores.layout[-1] == (softmax.over,)
    w.helpers |= {"softmax_with_sink", "float32"}
    sink = w.spread(w.read(softmax.sink), scores.layout[:-1])
    w.define(softmax.out, call("softmax_with_sink", scores.code, sink), scores.layout)


def lower_with_sink(w: BodyWriter, node: ir.Attend, axes: AttendAxes) -> None:
    """q [b, heads, t, e], by blocks where the mask is; heads of a group stand together, as the kernel's grouped-query mode wants them."""
    from .attention import across, keys, mask_arguments

    for value, role in ((node.q, "q"), (node.k, "k"), (node.v, "v")):
        w.suggest(value, role)
    sink = sink_of(node)
    assert sink is not None and isinstance(node.scale, Expr)
    batch: Layout = tuple((label,) for label in axes.batch)
    before: Layout = (*batch, axes.heads, (node.query,))
    q: Code = w.arranged(w.read(node.q), (*before, (node.feature,)))
    k, v = (keys(w, x, axes, batch, node.k_axis, last) for x, last in ((node.k, (node.feature,)), (node.v, axes.features)))
    q, k = (to_dtype(w, x, value.type.dtype, node.v.type.dtype) for x, value in ((q, node.q), (k, node.k)))
    kind = mask_kind(node.mask)
    blocked = isinstance(kind, Given) and kind.value in w.blocked
    mask: Code = Text("None")
    if isinstance(kind, Given) and blocked:
        mask = w.read(kind.value).code
    elif not isinstance(kind, Causal):
        mask = mask_arguments(w, node, axes, batch).get("attn_mask", mask)
    named: dict[str, Code] = {}
    if isinstance(kind, Causal):
        named["is_causal"] = Text("True")
    elif isinstance(kind, Given) and kind.causal_if_none and kind.value in w.maybe_none:
        named["is_causal"] = Binary("is", mask, Text("None"))
    if isinstance(kind, Given) and blocked and not kind.causal_if_none:
        named["both_sides"] = Text("True")
    w.helpers |= {"blocked_attention_with_sink", "cut_by_blocks", "join_blocks"} if blocked else {"attention_with_sink"}
    w.helpers |= {"softmax_with_sink", "float32"}
    scale = number(1.0) if node.scale.constant == 1 else w.number(node.scale)
    code = call("attention_with_sink", q, k, v, across(w, w.read(sink), before), mask, scale, **named)
    w.define(node.out, code, (*before, axes.features))


SOFTMAX_WITH_SINK = '''def softmax_with_sink(scores: Tensor, sink: Tensor) -> Tensor:
    """The softmax of scores [.., t, s] and of one more logit, `sink` [.., t], whose own weight is dropped (arXiv:2309.17453)."""
    sink = sink.to(scores.dtype).expand(scores.shape[:-1])[..., None]
    return torch.cat((scores, sink), -1).softmax(-1)[..., :-1]'''


def attention_with_sink(blocks: bool) -> str:
    """Its source; `blocks`: where masks may be made by blocks."""
    given = ["q: Tensor", "k: Tensor", "v: Tensor", "sink: Tensor", "mask: Tensor | None", "scale: float", "is_causal: bool = False"]
    options = ",\n    ".join([*given, "both_sides: bool = False,"]) if blocks else ", ".join(given)
    by_blocks = """
    if mask is not None and mask.dim() % 2:  # by blocks
        length = q.shape[2]
        q, k, v, mask = cut_by_blocks(q, k, v, mask, both_sides)
        return join_blocks(attention_with_sink(q, k, v, sink, mask, scale), length)"""
    return f'''def attention_with_sink(
    {options}
) -> Tensor:
    """q [b, heads, t, e] on k [b, kv_heads, s, e] and, in front of them, on one more key, which has the logit `sink` and no value:
    queries hold the logit as a feature that no other key has. Where the kernel is causal, a query stands in front as well."""{by_blocks if blocks else ""}
    if q.shape[2] == 1:  # for one query no keys are copied
        rows = q.reshape(len(q), k.shape[1], -1, q.shape[3])  # the heads of a group
        scores = float32(rows @ k.mT) * scale
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        weights = softmax_with_sink(scores, sink.expand(q.shape[:3]).reshape(rows.shape[:3]))
        return (weights.to(v.dtype) @ v).reshape(*q.shape[:3], -1)
    size, features, first = q.shape[3], v.shape[3], int(is_causal)
    width = max(size + 8 - size % 8, features)  # kernels want one width for all, in eights
    q, k = F.pad(q, (0, width - size, first, 0)), F.pad(k, (0, width - size, 1, 0))
    q[:, :, first:, size], k[:, :, 0, size] = sink / scale, 1
    v = F.pad(v, (0, width - features, 1, 0))
    mask = None if mask is None else F.pad(mask, (1, 0), value=True)
    gqa = q.shape[1] != k.shape[1]
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=gqa)
    return y[:, :, first:, :features]'''
