"""Components of the library at small sizes, with components of ours inside, as users put them together."""

from __future__ import annotations

from collections.abc import Callable

from ..body import Spec
from .attention import library_attention, rotation
from .experts import ACTS, feed_forward
from .place import Place

NORMS = ("rms_norm", "offset_rms_norm()", "layer_norm()")
"""Of one feature, `layer_norm` says nothing."""


def recurrent(spec: Spec, place: Place) -> str:
    """State spaces and linear attention: recurrences of outer products that only a product reads."""
    c = spec.choices
    heads = c.pick([n for n in (1, 2, 3) if place.d % n == 0])
    return c.pick(
        [
            f"mamba2(heads = {c.pick([1, 2])}, head_dim = {c.pick([1, 2, 3])}, state = {c.pick([1, 2])}, width = {c.pick([1, 2, 3])})",
            f"mamba2(heads = 2, head_dim = 2, state = 3, groups = {c.pick([1, 2])}, width = 2, conv_bias = false, bias = true)",
            f"mamba(inner = {c.pick([1, 3])}, state = 2, rank = {c.pick([1, 2])}, width = {c.pick([1, 2, 3])})",
            f"linear_attention({heads}, causal = {'true' if place.causal else c.pick(['true', 'false'])}, drop = identity)",
            f"retention({heads}, value_ratio = {c.pick([1, 2])}, rotate = keep, drop = identity)",
            f"gated_linear_attention({c.pick([1, 2])}, key_dim = {c.pick([1, 2])}, head_dim = 3, rank = 2, drop = identity, act = {c.pick(ACTS)})",
        ]
    )


def attending(spec: Spec, place: Place) -> str:
    """Attention that keeps what it reads in forms of its own."""
    c = spec.choices
    heads = c.pick([n for n in (1, 2, 3) if place.d % n == 0])
    mask = "causal" if place.causal else c.pick(["causal", "none"])
    if not place.masked:
        return f"conv_attention({heads}, {c.pick([1, 2, 3])}, mask = {mask})"
    match c.below(4):
        case 0:
            spec.givens.add("attention_mask")
            return f"conv_attention({heads}, {c.pick([1, 2, 3])})"
        case 1 if not place.causal:
            return f"low_rank_attention({heads}, length = 16, rank = {c.pick([1, 2])}, head_dim = 2)"
        case _:
            spec.givens |= {"positions", "attention_mask"}
            return (
                f"latent_attention(heads = {c.pick([1, 2])}, q_rank = {c.pick([2, 3])}, kv_rank = {c.pick([1, 2, 5])}, nope_dim = {c.pick([1, 3])}, "
                f"rope_dim = {c.pick([2, 4])}, v_dim = {c.pick([1, 2])}, rotate = {c.pick(['rope()', 'rope(pairing = interleaved)'])})"
            )


def blocks(spec: Spec, place: Place) -> str:
    """A block of the library around attention and a feed-forward."""
    c = spec.choices
    attention = library_attention(spec, place) if c.below(2) or place.depth <= 0 else recurrent(spec, place)
    ffn, norm = feed_forward(spec, place), c.pick(NORMS[: 3 if place.d > 1 else 2])
    block = c.pick([f"pre_norm({attention}, {ffn}, {norm})", f"post_norm({attention}, {ffn}, {norm})", f"sandwich({attention}, {ffn}, {norm})",
                    f"parallel({attention}, {ffn}, {norm})", f"rezero({attention}, {ffn})", f"deep_norm({attention}, {ffn}, {norm}, 2.0)",
                    f"layer_scale({attention}, {ffn}, {norm}, 0.1)"])  # fmt: skip
    if c.chance(4):
        return f"u_shaped({c.pick([1, 2])}, {block}, {norm})"
    return f"transformer(layers = {c.pick([1, 2])}, attention = {attention}, ffn = {ffn}, norm = {norm})" if c.chance(3) else block


def mixtures(spec: Spec, place: Place) -> str:
    c = spec.choices
    n = c.pick([1, 2, 3])
    router = f"softmax_router({n}, {c.between(1, min(n, 2))}{c.pick(['', ', false'])})"
    return f"mixture({n}, {feed_forward(spec, place.inside(effects=False))}, {router})"


def rotated(spec: Spec, place: Place) -> str:
    """Scores and rotations of the library."""
    c = spec.choices
    if not place.masked:
        return blocks(spec, place)
    score = c.pick(
        [
            "alibi(2)",
            f"bucketed_bias(2, buckets = 8, max_distance = 9, bidirectional = {'false' if place.causal else 'true'})",
            "soft_cap(5.0)",
        ]
    )
    if score == "alibi(2)":
        spec.givens.add("positions")
    return f"multi_head(heads = 2, head_dim = 4, mask = {'causal' if place.causal else 'none'}, score = {score}, rotate = {rotation(spec, place, 4)})"


LIBRARY: tuple[Callable[[Spec, Place], str], ...] = (recurrent, recurrent, attending, attending, blocks, mixtures, rotated)


def library(spec: Spec, place: Place) -> str:
    return spec.choices.pick(LIBRARY)(spec, place)
