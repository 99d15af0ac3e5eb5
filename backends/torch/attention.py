"""Attend in torch: `F.scaled_dot_product_attention` where it is legal, else products and a softmax written out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import Label, Value
from ..python.attention_axes import (
    AttendAxes,
    Causal,
    Given,
    NoMask,
    additive_bias,
    attend_axes,
    dropout_rate,
    has_score,
    is_default_scale,
    is_native,
    mask_kind,
)  # fmt: skip
from ..python.blocks import BLOCK, beside_scores, is_by_blocks
from ..python.code import Assign, Attribute, Binary, Block, Choice, Code, Subscript, Text, Unary, Var, call, method, number
from ..python.layouts import Dim, Layout, Tensor, flat, has, sizes_of
from ..python.sinks import has_kernel_with_sink, sink_of
from ..python.write_body import BodyWriter
from .cache.parts import counts
from .chosen_tokens import chosen_queries, near_and_chosen, write_near_and_chosen
from .flex import write_score
from .pointwise import on_device, to_dtype, training_mode
from .sinks import lower_with_sink
from .windows import cut_by_blocks, window_attention

NONE = Text("None")


def lower_attend(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Attend, node)
    axes = attend_axes(node)
    plain = lower_native if is_native(node) else lower_with_sink if has_kernel_with_sink(node) else lower_written
    kind = mask_kind(node.mask)
    if isinstance(kind, Given) and kind.value in w.by_index and not w.few:
        lower_by_index(w, node, axes, kind.value, partial(plain, w, node, axes))
    else:
        plain(w, node, axes)


def _dims(*dims: Dim) -> Layout:
    return tuple(dim for dim in dims if dim)


# ---------------------------------------------------------------- the kernels


def lower_by_index(w: BodyWriter, node: ir.Attend, axes: AttendAxes, mask: Value, plain: Callable[[], None]) -> None:
    """By the kernel that takes functions of indices, where the model has made such a mask; else as `plain` writes it."""
    for value, role in ((node.q, "q"), (node.k, "k"), (node.v, "v")):
        w.suggest(value, role)
    batch = tuple((label,) for label in axes.batch)
    layout = (*batch, axes.heads, (node.query,), axes.features)
    q = w.arranged(w.read(node.q), (*batch, axes.heads, (node.query,), (node.feature,)))
    k, v = (keys(w, x, axes, batch, node.k_axis, last) for x, last in ((node.k, (node.feature,)), (node.v, axes.features)))
    q, k = (to_dtype(w, x, value.type.dtype, node.v.type.dtype) for x, value in ((q, node.q), (k, node.k)))
    outer, w.statements = w.statements, []
    plain()
    var = Var(hint=node.out.hint)
    otherwise = (*w.statements, Assign((var,), w.arranged(w.read(node.out), layout)))
    written, score = write_score(w, node, axes)
    made = w.read(mask).code
    named: dict[str, Code] = {"score_mod": score} if score != NONE else {}
    if not is_default_scale(node):
        assert isinstance(node.scale, Expr)
        named["scale"] = number(1.0) if node.scale.constant == 1 else w.number(node.scale)
    if axes.grouped:
        named["enable_gqa"] = Text("True")
    by_index = (*written, Assign((var,), call("flex", q, k, v, block_mask=made, **named)))
    condition = call("isinstance", made, Text("BlockMask"))
    w.statements = [*outer, Block(condition, "if", by_index), Block(Text(""), "else", otherwise)]
    w.env[node.out] = Tensor(var, layout, sizes_of(node.out.type))


def lower_native(w: BodyWriter, node: ir.Attend, axes: AttendAxes) -> None:
    """q [batch.., heads, t, e]; heads of a group stand together, as the kernel's grouped-query mode wants them."""
    for value, role in ((node.q, "q"), (node.k, "k"), (node.v, "v")):
        w.suggest(value, role)
    batch = batch_dims(w, node, axes)
    rate = dropout_rate(node.weights)
    drops = rate is not None and rate.constant != 0
    kind = mask_kind(node.mask)
    blocked = isinstance(kind, Given) and kind.value in w.blocked
    sparse = near_and_chosen(node, axes)
    condition = None if sparse is not None else chosen_queries(w, node, axes)
    shared = not axes.key_heads and bool(axes.heads) and len(batch) == 1 and _grows(w, node)
    biased = has_score(node) or (isinstance(kind, Given) and kind.value.type.dtype != "bool")
    shared = shared and not (blocked and biased) and (_plain_bias(node) or (w.few and _is_plain(node)))
    grouped = axes.grouped and _grows(w, node) and not drops and not biased
    grouped = grouped and not shared and sparse is None and condition is None and (blocked or len(batch) == 1)
    before = (*batch, (node.query,), *_dims(axes.heads)) if grouped else (*batch, *_dims(axes.heads), (node.query,))
    rows, layout = (*before, (node.feature,)), (*before, axes.features)
    early = scales_early(node, rows)
    q = w.arranged(scaled_query(w, node) if early else w.read(node.q), rows)
    k, v = (keys(w, x, axes, batch, node.k_axis, last) for x, last in ((node.k, (node.feature,)), (node.v, axes.features)))
    q, k = (to_dtype(w, x, value.type.dtype, node.v.type.dtype) for x, value in ((q, node.q), (k, node.k)))
    if isinstance(node.scale, Value) and not early:
        q = Binary("*", q, w.spread(w.read(node.scale), rows))
    if shared:
        lower_shared(w, node, axes, (q, k, v), layout)
        return
    named: dict[str, Code] = {} if sparse is not None else mask_arguments(w, node, axes, batch)
    if not is_default_scale(node):
        named["scale"] = number(1.0) if not isinstance(node.scale, Expr) or node.scale.constant == 1 else w.number(node.scale)
    if rate is not None and drops:
        named["dropout_p"] = Choice(training_mode(w), w.number(rate), number(0.0))
    if sparse is not None:
        chosen, keep, near = write_near_and_chosen(w, sparse, axes.batch[0], node.key)
        code = call("near_and_chosen_attention", q, k, v, near, chosen, NONE if keep is None else keep, **named)
    elif condition is not None:
        w.helpers.add("attention_of_chosen")
        rows_read = w.arranged(w.read(condition), ((axes.batch[0],), (node.query,)))
        code = call("attention_of_chosen", q, k, v, named.pop("attn_mask", NONE), rows_read, **named)
    elif isinstance(kind, Given) and blocked:
        named.pop("is_causal", None)
        mask = named.pop("attn_mask")
        code = call(window_attention(w, grouped, not kind.causal_if_none), q, k, v, mask, **named)
    elif grouped:
        w.helpers.add("grouped_attention")
        scale = {n: c for n, c in named.items() if n == "scale"}
        code = call("grouped_attention", q, k, v, named.get("attn_mask", NONE), **scale)
    else:
        if axes.grouped:
            named["enable_gqa"] = Text("True")
        code = call("F.scaled_dot_product_attention", q, k, v, **named)
    w.define(node.out, code, layout)


def batch_dims(w: BodyWriter, node: ir.Attend, axes: AttendAxes) -> Layout:
    """Several batch axes are one dimension where queries, keys and values have them all: the fused kernels take tensors of four."""
    apart = tuple((label,) for label in axes.batch)
    kind = mask_kind(node.mask)
    whole = all(value.type.has(label) for value in (node.q, node.k, node.v) for label in axes.batch)
    if len(apart) == 1 or not axes.heads or not whole or ir.REST in axes.batch or not isinstance(node.scale, Expr):
        return apart
    if isinstance(kind, Given):
        scores = {*axes.batch, *axes.heads, node.query, node.key}
        if kind.value in w.blocked or not set(w.read(kind.value).labels) <= scores:
            return apart
    return (axes.batch,)


def _plain_bias(node: ir.Attend) -> bool:
    """Whether the score adds a tensor, and nothing is dropped."""
    return has_score(node) and _drops_nothing(node)


def _is_plain(node: ir.Attend) -> bool:
    """Whether there is no score, and nothing is dropped."""
    return node.score is None and _drops_nothing(node)


def _drops_nothing(node: ir.Attend) -> bool:
    rate = dropout_rate(node.weights)
    return isinstance(node.scale, Expr) and (node.weights is None or (rate is not None and rate.constant == 0))


def lower_shared(w: BodyWriter, node: ir.Attend, axes: AttendAxes, operands: tuple[Code, Code, Code], layout: Layout) -> None:
    """Keys and values that all heads share: no key is repeated."""
    assert isinstance(node.scale, Expr)
    scores = (*((label,) for label in axes.batch), *_dims(axes.heads), (node.query,), (node.key,))
    bias: Code = NONE if node.score is None else added_bias(w, node, node.score, scores)
    mask = mask_tensor(w, node, scores)
    w.helpers.add("shared_attention")
    scale = number(1.0) if node.scale.constant == 1 else w.number(node.scale)
    w.define(node.out, call("shared_attention", *operands, NONE if mask is None else mask, bias, scale), layout)


def added_bias(w: BodyWriter, node: ir.Attend, score: ir.Region, layout: Layout) -> Code:
    """What a score adds."""
    added = additive_bias(score)
    assert added is not None
    score_inputs(w, node, score)
    for n in score.body:
        if n.outs[0] is not score.result:
            w.write([n])
            if isinstance(n, ir.Transpose):
                turn(w, n.out, layout)
    value, negative = added
    t = w.read(value)
    bias = across(w, t, layout)
    by_blocks = has(layout, BLOCK.label)
    if (by_blocks or len(layout) == 4) and not has(t.layout, layout[0][0]) and any(has(t.layout, x) for x in layout[1]):
        bias = Subscript(bias, (Text("None"),))  # the fused kernels take two axes or four
    return to_dtype(w, Unary("-", bias) if negative else bias, value.type.dtype, node.q.type.dtype)


def turn(w: BodyWriter, value: Value, layout: Layout) -> None:
    """Let a tensor lie in the order of the scores: so will what is computed from it, which is larger."""
    t = w.read(value)
    at = {label: k for k, dim in enumerate(layout) for label in dim}
    if all(label in at for label in t.labels):
        order = tuple(sorted(t.layout, key=lambda dim: at[dim[0]]))
        if order != t.layout:
            w.env[value] = Tensor(method(w.arranged(t, order), "contiguous"), order, t.sizes)


def scales_early(node: ir.Attend, layout: Layout) -> bool:
    """Whether the scale has some axes of a merged dimension and not others: then queries are scaled before their heads are merged."""
    if not isinstance(node.scale, Value):
        return False
    own = node.scale.type.labels
    return any(any(label in own for label in dim) and not all(label in own for label in dim) for dim in layout)


def scaled_query(w: BodyWriter, node: ir.Attend) -> Tensor:
    assert isinstance(node.scale, Value)
    layout, (q, scale) = w.aligned([node.q, node.scale], node.q.type.labels)
    return Tensor(Binary("*", q, scale), layout, w.read(node.q).sizes)


def _grows(w: BodyWriter, node: ir.Attend) -> bool:
    """Whether the keys are those of all calls so far, of which later ones may bring one query."""
    decoding = w.numbers.plans.program.decoding
    return decoding is not None and decoding.length in node.k.type.axis(node.k_axis).size.symbols


def _starts(w: BodyWriter, node: ir.Attend) -> Code:
    """Whether no calls went before, if there is no mask: one token that goes on from others sees all of them."""
    if counts(w.module, w.numbers.plans.program):
        return Binary("is", w.slots, Text("None"))
    return call("bool", Binary(">", w.number(node.q.type.axis(node.query).size), number(1)))


def keys(w: BodyWriter, value: Value, axes: AttendAxes, batch: Layout, k_axis: Label, last: Dim) -> Code:
    """Keys or values as [batch.., key heads, s, e]; batch or head axes that they lack have size one, or are repeated where the kernel wants it."""
    t = w.read(value)
    own = [label for label in axes.key_heads if has(t.layout, label)]
    if len(own) < len(axes.key_heads):
        return repeated(w, t, axes, batch, (k_axis,), last)
    target = (*batch, *_dims(tuple(own)), (k_axis,), last)
    code = w.spread(t, target)
    if axes.heads and not own:
        code = Subscript(code, (*(Text(":"),) * len(batch), Text("None")))
    return code


def repeated(w: BodyWriter, t: Tensor, axes: AttendAxes, batch: Layout, keys_dim: Dim, last: Dim) -> Code:
    """Values that lack some head axes of the keys, repeated along them."""
    heads = tuple((label,) for label in axes.key_heads)
    target = (*batch, *heads, keys_dim, last)
    sizes = [number(-1) if has(t.layout, dim[0]) else w.size(dim) for dim in target]
    code = method(w.spread(t, target), "expand", *sizes)
    return method(code, "flatten", number(len(batch)), number(len(batch) + len(heads) - 1)) if len(heads) > 1 else code


def across(w: BodyWriter, t: Tensor, layout: Layout) -> Code:
    """The tensor so that it broadcasts against `layout`; where it has some axes of a merged dimension and not all, it is repeated along the others."""
    there = [[has(t.layout, label) for label in dim] for dim in layout]
    k = next((k for k, found in enumerate(there) if any(found) and not all(found)), None)
    if k is None:
        return w.spread(t, layout)
    first = next(n for n, found in enumerate(there) if any(found))
    heads = tuple((label,) for label in layout[k])
    target = (*layout[first:k], *heads, *layout[k + 1 :])
    sizes = [w.size(dim) if dim in heads and not has(t.layout, dim[0]) else number(-1) for dim in target]
    code = method(w.spread(t, target), "expand", *sizes)
    return method(code, "flatten", number(k - first), number(k - first + len(heads) - 1))


def mask_arguments(w: BodyWriter, node: ir.Attend, axes: AttendAxes, batch: Layout) -> dict[str, Code]:
    kind = mask_kind(node.mask)
    blocks = ((BLOCK.label,),) if isinstance(kind, Given) and kind.value in w.blocked else ()
    layout = (*batch, *_dims(axes.heads), *blocks, (node.query,), (node.key,))
    if node.score is not None and has_score(node) and additive_bias(node.score) is not None:
        return {"attn_mask": bias_with_mask(w, node, node.score, layout)}
    match kind:
        case NoMask():
            return {}
        case Causal():
            return {"is_causal": Text("True")}
        case Given(value, causal_if_none):
            mask = given_mask(w, value, layout)
            if causal_if_none:
                none = Binary("is", mask, Text("None"))
                return {"attn_mask": mask, "is_causal": Binary("and", none, _starts(w, node)) if _grows(w, node) else none}
            return {"attn_mask": mask}
    assert node.mask is not None
    return {"attn_mask": of_two_axes(w, predicate(w, node, node.mask), layout)}


def of_two_axes(w: BodyWriter, mask: Tensor, layout: Layout) -> Code:
    """Spread over the scores; kernels want a mask of queries and keys, though it be the same for all queries."""
    code = across(w, mask, layout)
    missing = 2 if not mask.labels else 1 if all(label in layout[-1] for label in mask.labels) else 0
    return Subscript(code, (Text("None"),) * missing) if missing else code


def given_mask(w: BodyWriter, value: Value, layout: Layout) -> Code:
    """A mask made outside comes ready to broadcast, with axes of size one; one made here is spread."""
    t = w.read(value)
    if all(has(layout, label) for label in t.labels):
        return of_two_axes(w, t, layout)
    first = next((k for k, dim in enumerate(layout) if dim == t.layout[0]), None)
    if first is None or value in w.blocked:
        return t.code
    code, surplus = t.code, len(t.layout) - (len(layout) - first)
    for _ in range(abs(surplus)):  # the heads that it was made for in two axes are one here, or the other way round
        code = method(code, "squeeze" if surplus > 0 else "unsqueeze", number(-3))
    # one of queries and keys alone, where optional inputs are left out, has no heads to join
    return Choice(Binary("<", method(t.code, "dim"), number(3)), t.code, code) if surplus > 0 else code


def predicate(w: BodyWriter, node: ir.Attend, mask: ir.Region) -> Tensor:
    """A mask written here, over slots 0, 1, ..."""
    slots(w, mask.params[0], mask.params[1], node)
    w.order = (*node.q.type.without(node.query, node.feature).labels, node.query, node.key)
    w.write(mask.body)
    return w.read(mask.result)


def slots(w: BodyWriter, i: Value, j: Value, node: ir.Attend) -> None:
    for value, size in ((i, node.q.type.axis(node.query).size), (j, node.k.type.axis(node.k_axis).size)):
        w.see(value)
        if value not in w.env:
            label = value.type.axes[0].label
            w.define(value, call("torch.arange", w.number(size), **on_device(w)), ((label,),))


def bias_with_mask(w: BodyWriter, node: ir.Attend, score: ir.Region, layout: Layout) -> Code:
    code = added_bias(w, node, score, layout)
    keep = mask_tensor(w, node, layout)
    if keep is None:
        return code
    masked = method(code, "masked_fill", Unary("~", keep), number(float("-inf")))
    kind = mask_kind(node.mask)
    return Choice(Binary("is", keep, Text("None")), code, masked) if isinstance(kind, Given) and kind.value in w.maybe_none else masked


def score_inputs(w: BodyWriter, node: ir.Attend, score: ir.Region) -> None:
    """i, j and h as numbers; heads are counted over all head axes, row-major."""
    if len(score.params) < 4:
        return
    _, h, i, j = score.params
    used = {v for n in score.body for v in ir.operands(n)} | {score.result}
    if i in used or j in used:
        slots(w, i, j, node)
    if h in used:
        w.see(h)
        labels = h.type.labels
        if not labels:  # one head, which no axis counts
            w.define(h, call("torch.tensor", number(0), **on_device(w)), ())
            return
        w.define(h, call("torch.arange", w.size(labels), **on_device(w)), (labels,))


def mask_tensor(w: BodyWriter, node: ir.Attend, layout: Layout) -> Code | None:
    match mask_kind(node.mask):
        case NoMask():
            return None
        case Given(value, _):
            return given_mask(w, value, layout)
        case _:
            assert node.mask is not None
            return across(w, predicate(w, node, node.mask), layout)


# ---------------------------------------------------------------- written out


def lower_written(w: BodyWriter, node: ir.Attend, axes: AttendAxes) -> None:
    """Scores and softmax in at least float32; a row that may see no key gives 0."""
    for value, role in ((node.q, "q"), (node.k, "k"), (node.v, "v")):
        w.suggest(value, role)
    batch = (*((label,) for label in axes.batch), *_heads_apart(node, axes))
    layout = (*batch, (node.query,), (node.key,))
    rows = (*batch, (node.query,), (node.feature,))
    early = scales_early(node, rows)
    q = w.arranged(scaled_query(w, node) if early else w.read(node.q), rows)
    own_k, own_v, keep = w.read(node.k), w.read(node.v), None
    kind = mask_kind(node.mask)
    if isinstance(kind, Given) and kind.value in w.blocked:
        q, own_k, own_v, keep = by_blocks(w, node, kind, q, axes)
    k = w.spread(own_k, (*batch, (node.feature,), (node.k_axis,)))
    v = w.spread(own_v, (*batch, (node.k_axis,), axes.features))
    product = to_dtype(w, Binary("@", q, k), node.q.type.dtype, "float32")
    if isinstance(node.scale, Expr):
        product = product if node.scale.constant == 1 else Binary("*", product, w.number(node.scale))
    elif not early:
        product = Binary("*", product, w.spread(w.read(node.scale), layout))
    from ..python.layouts import note_of

    scores = Tensor(w.temporary(product, "scores", note_of(layout)), layout)
    if node.score is not None and has_score(node):
        score_inputs(w, node, node.score)
        w.see(node.score.params[0])
        w.env[node.score.params[0]] = scores
        write_score_body(w, node.score, layout, q)
        scores = Tensor(w.spread(w.read(node.score.result), layout), layout)
    weights = _weights(w, node, layout, scores, mask_tensor(w, node, layout) if keep is None else keep)
    code: Code = Binary("@", to_dtype(w, weights, "float32", node.v.type.dtype), v)
    if keep is not None:
        code = call("join_blocks", code, w.number(node.q.type.axis(node.query).size))
    w.define(node.out, code, (*batch, (node.query,), axes.features))


def write_score_body(w: BodyWriter, score: ir.Region, layout: Layout, q: Code) -> None:
    """What a score does; what it reads beside the scores, where that is counted by blocks, is first cut as the scores are."""
    counted = [v for v in beside_scores(score) if is_by_blocks(v)]
    first = ir.made_by(score.body, counted)
    w.write([n for n in score.body if n in first])
    for value in counted:
        w.helpers.add("blocks_of_bias")
        whole = (*layout[:-2], (BLOCK.label,), *layout[-2:])
        t = w.read(value)
        code = across(w, t, whole)
        missing = next(k for k, dim in enumerate(whole) if any(has(t.layout, label) for label in dim))
        code = Subscript(code, (NONE,) * missing) if missing else code
        w.env[value] = Tensor(w.temporary(call("blocks_of_bias", code, call("len", q)), "bias", hint=value.hint), layout)
    w.write([n for n in score.body if n not in first])


def by_blocks(w: BodyWriter, node: ir.Attend, mask: Given, q: Code, axes: AttendAxes) -> tuple[Code, Tensor, Tensor, Code]:
    """Queries, keys, values and mask cut by the blocks of a mask: what stands between is written as for one block."""
    heads = tuple((label,) for label in axes.key_heads)
    k_layout, v_layout = ((*((label,) for label in axes.batch), *heads, (node.k_axis,), last) for last in ((node.feature,), axes.features))
    k, v = w.arranged(w.read(node.k), k_layout), w.arranged(w.read(node.v), v_layout)
    operands = ((node.q, q), (node.k, k), (node.v, v), (mask.value, w.read(mask.value).code))
    q, k, v, keep = cut_by_blocks(w, operands, not mask.causal_if_none)
    return q, Tensor(k, k_layout), Tensor(v, v_layout), keep


def _heads_apart(node: ir.Attend, axes: AttendAxes) -> Layout:
    """A dimension for the heads that keys and values have, for those that one of them has, and for those of the queries alone."""
    groups: dict[tuple[bool, bool], list[Label]] = {(k, v): [] for k in (True, False) for v in (True, False)}
    for label in axes.heads:
        groups[node.k.type.has(label), node.v.type.has(label)].append(label)
    return _dims(*map(tuple, groups.values()))


def _weights(w: BodyWriter, node: ir.Attend, layout: Layout, scores: Tensor, keep: Code | None) -> Code:
    """Masked scores are lowest, masked weights 0, whatever the weights are; a softmax over rows that surely see a key makes them so itself."""
    with_sink = sink_of(node) is not None  # it takes what no key does
    never_empty = with_sink or isinstance(mask_kind(node.mask), Causal)
    softmax = node.weights is None or _reads_softmax(node.weights, node.key)
    code = scores.code
    if keep is not None:
        if not isinstance(keep, Text) and isinstance(keep, Binary):
            keep = w.temporary(keep, "mask")
        if not never_empty:
            code = w.temporary(code, "scores")
        hidden: Code = Unary("~", keep)
        if softmax and not never_empty:  # no NaN comes back from rows that see no key
            lowest: Code = Attribute(call("torch.finfo", Attribute(code, "dtype")), "min")
        else:
            lowest = number(float("-inf"))
            hidden = hidden if never_empty else Binary("&", hidden, method(keep, "any", number(-1), keepdim=Text("True")))
        code = method(code, "masked_fill", hidden, lowest)
    if node.weights is None:
        weights: Code = method(code, "softmax", number(-1))
    else:
        param = node.weights.params[0]
        w.see(param)
        w.env[param] = Tensor(w.temporary(code, "scores"), layout)
        w.write(node.weights.body)
        result = w.read(node.weights.result)
        weights = w.arranged(result, tuple(dim for dim in layout if any(label in flat(result.layout) for label in dim)))
    zero_where_lowest = node.weights is None or with_sink or dropout_rate(node.weights) is not None
    if keep is not None and not (never_empty and zero_where_lowest):
        weights = method(weights, "masked_fill", Unary("~", keep), number(0))
    return w.temporary(weights, "weights")


def _reads_softmax(weights: ir.Region, key: Label) -> bool:
    """Whether weights read the scores through their softmax over the keys alone."""
    (scores,) = weights.params
    readers = [n for n in weights.body if scores in ir.operands(n)]
    return all(isinstance(n, ir.Along) and n.function == "softmax" and n.over is key for n in readers) and weights.result is not scores


__all__ = ["lower_attend"]
