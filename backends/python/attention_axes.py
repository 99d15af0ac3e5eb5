"""What the parts of an `Attend` are, read from its structure: batch and head axes, the kind of its score, the kind of its mask."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.dims import ONE, ZERO, Expr
from ...compiler.ir import Label, Value
from ...grammar.frozen import frozen


@frozen(kw_only=True, eq=False)
class AttendAxes:
    """`batch`: axes of dynamic size besides the query; `heads`: those of static size, those that the keys have first; `grouped`: whether
    several query heads share a key head; `features`: what v brings. Where masks or scores concern some of the heads' axes alone (windows
    of a grid), all of them but the last are batch."""

    batch: tuple[Label, ...]
    heads: tuple[Label, ...]
    key_heads: tuple[Label, ...]
    grouped: bool
    features: tuple[Label, ...]


def attend_axes(node: ir.Attend) -> AttendAxes:
    others = [a for a in node.q.type.axes if a.label not in (node.query, node.feature)]
    batch = tuple(a.label for a in others if a.size.is_dynamic or a.label is ir.REST)
    static = [a for a in others if a.label not in batch]
    key_heads = tuple(a.label for a in static if node.k.type.has(a.label))
    extra = [a for a in static if a.label not in key_heads]
    if not extra and len(key_heads) > 1 and all(node.v.type.has(label) for label in key_heads) and _tells_apart(node, key_heads):
        batch, key_heads = (*batch, *key_heads[:-1]), key_heads[-1:]
        static = [a for a in static if a.label in key_heads]
    features = tuple(x for x in node.v.type.labels if x is not node.k_axis and x not in batch and all(x is not a.label for a in static))
    return AttendAxes(
        batch=batch,
        heads=(*key_heads, *(a.label for a in extra)),
        key_heads=key_heads,
        grouped=any(a.size != ONE for a in extra),
        features=features,
    )


def _tells_apart(node: ir.Attend, heads: tuple[Label, ...]) -> bool:
    """Whether a mask or a score holds a tensor with some of these axes and not the others."""
    regions = [r for r in (node.mask, node.score) if r is not None]
    own = {v for r in regions for v in r.params}
    seen = [v for r in regions for n in r.body for v in (*n.outs, *ir.operands(n)) if v not in own] + [r.result for r in regions]
    return any(0 < sum(v.type.has(label) for label in heads) < len(heads) for v in seen)


def depends_on(value: Value, target: Value, nodes: dict[Value, ir.Node]) -> bool:
    """Whether a value is computed from another, inside the given nodes."""
    if value is target:
        return True
    node = nodes.get(value)
    return node is not None and any(depends_on(v, target, nodes) for v in ir.operands(node))


def additive_bias(score: ir.Region) -> tuple[Value, bool] | None:
    """`s + B` or `s - B` with B free of s: B, and whether it is subtracted."""
    nodes = {out: n for n in score.body for out in n.outs}
    s = score.params[0]
    last = nodes.get(score.result)
    if not isinstance(last, ir.Elementwise) or last.function not in ("add", "sub") or len(last.args) != 2:
        return None
    a, b = last.args
    if last.function == "add" and b is s:
        a, b = b, a
    if a is s and isinstance(b, Value) and not depends_on(b, s, nodes):
        return b, last.function == "sub"
    return None


def is_native(node: ir.Attend) -> bool:
    """Whether a fused kernel computes it: softmax weights, and no score but an additive one."""
    plain = node.weights is None or dropout_rate(node.weights) is not None
    heads = {a.label for a in node.q.type.axes if a.label not in (node.query, node.feature) and not a.size.is_dynamic}
    if any(label in heads and not node.k.type.has(label) for label in node.v.type.labels):
        return False
    return plain and (not has_score(node) or (node.score is not None and additive_bias(node.score) is not None))


def dropout_rate(weights: ir.Region | None) -> Expr | None:
    """The rate, if the weights are a softmax over the keys, dropped out or not (rate 0)."""
    if weights is None:
        return ZERO
    nodes = {out: n for n in weights.body for out in n.outs}
    value, rate = weights.result, ZERO
    last = nodes.get(value)
    if isinstance(last, ir.Dropout):
        value, rate = last.x, last.rate
        last = nodes.get(value)
    while isinstance(last, ir.Transpose | ir.Cast):
        value = last.x
        last = nodes.get(value)
    key = weights.params[0].type.labels[-1]
    softmax = isinstance(last, ir.Along) and last.function == "softmax" and last.over is key and last.x is weights.params[0]
    return rate if softmax else None


def has_score(node: ir.Attend) -> bool:
    """Whether the score changes the scores."""
    return node.score is not None and node.score.result is not node.score.params[0]


@frozen(eq=False)
class NoMask:
    """Every query sees every key."""


@frozen(eq=False)
class Causal:
    """Exactly j <= i."""


@frozen(eq=False)
class Given:
    """A bool tensor made outside; `causal_if_none`: where it may be left out, that means causal (else: every key)."""

    value: Value
    causal_if_none: bool


@frozen(eq=False)
class Predicate:
    """Anything else."""

    region: ir.Region


MaskKind = NoMask | Causal | Given | Predicate


def mask_kind(mask: ir.Region | None) -> MaskKind:
    if mask is None:
        return NoMask()
    if not mask.body and mask.result not in mask.params:
        return Given(mask.result, causal_if_none=False)
    if len(mask.body) == 1 and is_causal_term(mask.body[0], mask):
        return Causal()
    if len(mask.body) == 2 and is_causal_term(mask.body[0], mask):
        last = mask.body[1]
        if (
            isinstance(last, ir.Elementwise)
            and last.function == "and"
            and last.args[0] is mask.body[0].outs[0]
            and isinstance(last.args[1], Value)
        ):
            return Given(last.args[1], causal_if_none=True)
    return Predicate(mask)


def is_causal_term(node: ir.Node, mask: ir.Region) -> bool:
    i, j = mask.params
    return isinstance(node, ir.Elementwise) and (
        (node.function == "le" and node.args == (j, i)) or (node.function == "ge" and node.args == (i, j))
    )


def is_default_scale(node: ir.Attend) -> bool:
    """Whether the scale is the feature's size to the power -1/2, which kernels take by default."""
    if not isinstance(node.scale, Expr):
        return False
    from ...compiler.dims import apply, const

    return node.scale == apply("pow", node.q.type.axis(node.feature).size, const(-0.5))
