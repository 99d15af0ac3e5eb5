"""Attend in NumPy: scores, score, mask, weights, and the sum of the values, written out."""

from __future__ import annotations

from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import Label, Value
from ..python.attention_axes import Given, attend_axes, mask_kind
from ..python.code import Binary, Code, Subscript, Text, Unary, Var, call, number
from ..python.layouts import Layout, Tensor, has, note_of
from ..python.write_body import BodyWriter
from .pointwise import FunctionWriter, counted, to_dtype


def lower_attend(w: BodyWriter, node: ir.Node) -> None:
    """Head axes stay apart, so that keys without the query's group broadcast."""
    node = cast(ir.Attend, node)
    axes = attend_axes(node)
    batch: Layout = tuple((label,) for label in (*axes.batch, *axes.heads))
    layout = (*batch, (node.query,), (node.key,))
    if isinstance(w, FunctionWriter):
        w.order = (*w.order, *(label for (label,) in layout if label not in w.order))
    if not axes.features:
        w.refuse("values without an axis of their own")
    q = w.arranged(w.read(node.q), (*batch, (node.query,), (node.feature,)))
    k = w.spread(w.read(node.k), (*batch, (node.feature,), (node.k_axis,)))
    v = w.spread(w.read(node.v), (*batch, (node.k_axis,), axes.features))
    product: Code = Binary("@", q, k)
    if not isinstance(node.scale, Expr):
        product = Binary("*", product, w.spread(w.read(node.scale), layout))
    elif node.scale.constant != 1:
        product = Binary("*", product, w.number(node.scale))
    scores = Tensor(w.temporary(product, "scores", note_of(layout)), layout)
    if node.score is not None:
        scores = _scored(w, node, node.score, scores)
    weights = _weights(w, node, scores)
    w.define(node.out, Binary("@", weights, v), (*batch, (node.query,), axes.features))


def _slots(w: BodyWriter, region: ir.Region, i: Value, j: Value, node: ir.Attend) -> None:
    used = {v for n in region.body for v in ir.operands(n)} | {region.result}
    for value, size in ((i, node.q.type.axis(node.query).size), (j, node.k.type.axis(node.k_axis).size)):
        w.see(value)
        if value in used and value not in w.env:
            w.define(value, counted(w, value, size), ((value.type.axes[0].label,),))


def _scored(w: BodyWriter, node: ir.Attend, score: ir.Region, scores: Tensor) -> Tensor:
    s, h, i, j = score.params
    w.see(s)
    w.env[s] = scores
    _slots(w, score, i, j, node)
    used = {v for n in score.body for v in ir.operands(n)} | {score.result}
    if h in used:
        w.see(h)
        labels = h.type.labels
        w.define(h, call("np.arange", w.size(labels)), (labels,) if labels else ())
    w.write(score.body)
    return Tensor(w.spread(w.read(score.result), scores.layout), scores.layout)


def _weights(w: BodyWriter, node: ir.Attend, scores: Tensor) -> Code:
    """-inf where masked; then softmax, or the node's own weights, those of masked keys being 0."""
    layout, code = scores.layout, scores.code
    mask: Code | None = None
    if node.mask is not None:
        mask = _mask(w, node, node.mask, layout)
        if node.weights is not None and not isinstance(mask, Var):
            mask = w.temporary(mask, "mask")
        code = call("np.where", mask, code, Unary("-", Text("np.inf")))
    if node.weights is None:
        return w.temporary(call("softmax", code, number(-1)), "weights")
    param = node.weights.params[0]
    w.see(param)
    w.env[param] = Tensor(w.temporary(code, "scores"), layout)
    w.write(node.weights.body)
    result = w.read(node.weights.result)
    order = (*(dim for dim in layout[:-1] if has(result.layout, dim[0])), (node.key,))
    weights = w.arranged(Tensor(to_dtype(w, result.code, node.weights.result.type.dtype, "float32"), result.layout), order)
    if mask is not None and not _is_softmax(node.weights, node.key):
        weights = call("np.where", mask, weights, number(0))
    return w.temporary(weights, "weights")


def _is_softmax(region: ir.Region, key: Label) -> bool:
    """Whether the weights are a softmax over the keys, perhaps dropped out: those of masked keys are 0 as they are."""
    made = {out: n for n in region.body for out in n.outs}
    node = made.get(region.result)
    while isinstance(node, ir.Cast | ir.Dropout | ir.Transpose):
        node = made.get(node.x)
    return isinstance(node, ir.Along) and node.function == "softmax" and node.over is key


def _mask(w: BodyWriter, node: ir.Attend, region: ir.Region, layout: Layout) -> Code:
    """The mask, ready to broadcast against the scores. One made by the model ends with queries and keys, of other calls of a function too, and has an
    axis of size one in the place of all heads."""
    match mask_kind(region):
        case Given(value, _) if any(not has(layout, label) for label in w.read(value).labels):
            t = w.read(value)
            first = min(next(k for k, dim in enumerate(t.layout) if not has(layout, dim[0])), len(t.layout) - 2)
            items = [*[Text(":")] * first, *[Text("None")] * (len(layout) - len(t.layout))]
            return Subscript(t.code, tuple(items)) if first and len(layout) > len(t.layout) else t.code
        case Given(value, _):
            return w.spread(w.read(value), layout)
        case _:
            _slots(w, region, region.params[0], region.params[1], node)
            w.write(region.body)
            return w.spread(w.read(region.result), layout)
