"""Functions that a generated file brings along, each only where it is used."""

from .chosen_tokens import CHOSEN_QUERIES, NEAR_AND_CHOSEN
from .chunk_losses import linear_cross_entropy
from .computed_once import COMPUTED_ONCE
from .flex import RUNS_FLEX
from .loss_statistics import LINEAR_STATISTICS
from .recurrences import RECURRENCE_BY_PARTS, RECURRENCE_BY_STEPS, linear_recurrence
from .reversible import REVERSED_LAYER
from .rows import BY_ROWS
from .sinks import SOFTMAX_WITH_SINK, attention_with_sink
from .state_space import BY_FEATURE
from .state_space import HELPER as STATE_SPACE
from .state_space import SUMS as OUTER_SUMS
from .states_by_parts import BY_PARTS as STATES_BY_PARTS
from .windows import BLOCKS_OF_BIAS, CUT_BY_BLOCKS, JOIN_BLOCKS, WINDOW_BLOCKS, window_helper

HELPERS = {
    "float32": '''def float32(x: Tensor) -> Tensor:
    """At least float32: float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))''',
    "float32_like": '''def float32(x: Tensor, like: Tensor | None = None) -> Tensor:
    """At least float32: float64 stays, and integers become it where `like` is it."""
    return x.to(torch.promote_types(x.dtype if like is None else like.dtype, torch.float32))''',
    "without_autocast": '''def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Where types stay as they are on x's device, or on meta, for which there is no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)''',
    "cross_entropy": '''def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean over the targets that are not -100; 0 where there are none."""
    return F.cross_entropy(logits, target, reduction="sum") / (target != -100).sum().clamp(min=1)''',
    "linear_cross_entropy": linear_cross_entropy(biased=False),
    "biased_cross_entropy": linear_cross_entropy(biased=True),
    "linear_statistics": LINEAR_STATISTICS,
    "state_space": STATE_SPACE,
    "outer_sums": OUTER_SUMS,
    "by_rows": BY_ROWS,
    "computed_once": COMPUTED_ONCE,
    "feature_state_space": BY_FEATURE,
    "recurrence_by_parts": RECURRENCE_BY_PARTS,
    "recurrence_by_steps": RECURRENCE_BY_STEPS,
    "linear_recurrence": linear_recurrence(starts=False),
    "linear_recurrence_from": linear_recurrence(starts=True),
    "states_by_parts": STATES_BY_PARTS,
    "runs_flex": RUNS_FLEX,
    "grouped_attention": '''def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None = None) -> Tensor:
    """q [b, t, heads, e] on k [b, kv_heads, s, e]; for one token, the heads of a group are as many queries: no key is repeated."""
    if q.shape[1] == 1:
        rows = q.reshape(len(q), k.shape[1], -1, q.shape[3])
        y = F.scaled_dot_product_attention(rows, k, v, attn_mask=mask, scale=scale)
        return y.reshape(*q.shape[:3], -1)
    q = q.transpose(1, 2)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True)
    return y.transpose(1, 2)''',
    "window_blocks": WINDOW_BLOCKS,
    "cut_by_blocks": CUT_BY_BLOCKS,
    "blocks_of_bias": BLOCKS_OF_BIAS,
    "join_blocks": JOIN_BLOCKS,
    "softmax_with_sink": SOFTMAX_WITH_SINK,
    "attention_with_sink": attention_with_sink(blocks=False),
    "blocked_attention_with_sink": attention_with_sink(blocks=True),
    "near_and_chosen_attention": NEAR_AND_CHOSEN,
    "attention_of_chosen": CHOSEN_QUERIES,
    "window_attention": window_helper(grouped=False, both_sides=False),
    "centred_attention": window_helper(grouped=False, both_sides=True),
    "grouped_window_attention": window_helper(grouped=True, both_sides=False),
    "grouped_centred_attention": window_helper(grouped=True, both_sides=True),
    "shared_attention": '''def shared_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, scale: float) -> Tensor:
    """q [b, heads, t, e] on keys and values [b, 1, s, e] that all heads share: the heads are as many queries."""
    if bias is None:
        bias = mask
    elif mask is not None:
        bias = bias.masked_fill(~mask, float("-inf"))
    bias = None if bias is None else bias.expand(*q.shape[:3], -1).flatten(1, 2)[:, None]
    y = F.scaled_dot_product_attention(q.flatten(1, 2)[:, None], k, v, attn_mask=bias, scale=scale)
    return y.squeeze(1).unflatten(1, q.shape[1:3])''',
    "reversed_layer": REVERSED_LAYER,
    "grouped_linear": '''class GroupedLinear(nn.Module):
    """A linear map for each expert; rows come sorted by expert."""

    def __init__(self, experts: int, size_in: int, size_out: int, bias: bool, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, size_out, size_in).normal_(std=std))
        self.bias = nn.Parameter(torch.zeros(experts, size_out)) if bias else None

    def forward(self, x: Tensor, expert: Tensor, ends: Tensor) -> Tensor:
        y = grouped_mm(x, self.weight.to(x.dtype), ends)
        return y if self.bias is None else y + self.bias[expert]''',
    "grouped_or_chosen_linear": '''class GroupedLinear(nn.Module):
    """A linear map for each expert; rows come sorted by expert, or, where they are few, with no `ends`: as they are, or one
    alone, whose expert is a number in a list."""

    def __init__(self, experts: int, size_in: int, size_out: int, bias: bool, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, size_out, size_in).normal_(std=std))
        self.bias = nn.Parameter(torch.zeros(experts, size_out)) if bias else None

    def forward(self, x: Tensor, expert: Tensor | list[int], ends: Tensor | None) -> Tensor:
        if isinstance(expert, list):
            own = expert[0]
            return F.linear(x, self.weight[own], None if self.bias is None else self.bias[own])
        if ends is None and torch.compiler.is_compiling():  # one kernel, which reads the weights where they are
            y = (self.weight[expert].to(x.dtype) * x[:, None]).sum(-1, dtype=x.dtype)
        elif ends is None:
            y = (x[:, None] @ self.weight[expert].to(x.dtype).mT).squeeze(1)
        else:
            y = grouped_mm(x, self.weight.to(x.dtype), ends)
        return y if self.bias is None else y + self.bias[expert]''',
    "fused_linear": '''class FusedLinear(nn.Linear):
    """Several linear maps of one input as one; `sizes` has their names, and how many columns of the result each has."""

    def __init__(self, size_in: int, bias: bool, **sizes: int) -> None:
        super().__init__(size_in, sum(sizes.values()), bias=bias)
        self.sizes = sizes''',
    "fused_grouped_linear": '''class FusedGroupedLinear(GroupedLinear):
    """Several linear maps of one input as one, for each expert; `sizes` has their names, and how many columns each has."""

    def __init__(self, experts: int, size_in: int, bias: bool, std: float = 0.02, **sizes: int) -> None:
        super().__init__(experts, size_in, sum(sizes.values()), bias, std)
        self.sizes = sizes''',
    "grouped_mm": '''def grouped_mm(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """x [n, in] by weight [experts, out, in]: expert e takes the rows before ends[e] that no expert took yet."""
    traced = torch.compiler.is_compiling()
    native = x.dtype == torch.bfloat16 or (x.dtype == torch.float32 and not traced and not x.is_meta)
    if not native or not hasattr(F, "grouped_mm") or weight.shape[1] % 8 or weight.shape[2] % 8:
        return matmul_by_expert(x, weight, ends)
    y = F.grouped_mm(x, weight.transpose(1, 2), offs=ends)
    if y.requires_grad and not traced:
        y.register_hook(Tensor.contiguous)  # an expanded gradient is refused
    return y


@torch.library.custom_op("experts::matmul_by_expert", mutates_args=())
def matmul_by_expert(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """The same for other types and sizes, one expert after the other; torch.compile does not look inside."""
    out = x.new_empty(x.shape[0], weight.shape[1])
    start = 0
    for w, end in zip(weight, ends.tolist(), strict=True):
        torch.mm(x[start:end], w.t(), out=out[start:end])
        start = end
    return out


@torch.library.custom_op("experts::weight_gradient", mutates_args=())
def weight_gradient(grad: Tensor, x: Tensor, ends: Tensor) -> Tensor:
    """For each expert, the product of its rows of grad [n, out] and of x [n, in]."""
    out = x.new_empty(ends.shape[0], grad.shape[1], x.shape[1])
    start = 0
    for e, end in enumerate(ends.tolist()):
        torch.mm(grad[start:end].t(), x[start:end], out=out[e])
        start = end
    return out


def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
    x, weight, ends = ctx.saved_tensors
    grad = grad.contiguous()
    return matmul_by_expert(grad, weight.transpose(1, 2), ends), weight_gradient(grad, x, ends), None


matmul_by_expert.register_fake(lambda x, weight, ends: x.new_empty(x.shape[0], weight.shape[1]))
weight_gradient.register_fake(lambda grad, x, ends: x.new_empty(ends.shape[0], grad.shape[1], x.shape[1]))
matmul_by_expert.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))''',
    "route": '''def route(experts: nn.Module, x: Tensor, index: Tensor, weight: Tensor, count: int) -> Tensor:
    """Sum over the choices of weight * experts[index](x): rows sorted by expert, computed together, put back;
    a few rows stay as they come, on the CPU one by one: no weight is copied."""
    rows, chosen = x.flatten(0, -2), index.shape[-1]
    if 0 < index.numel() <= count and x.is_cpu and not torch.compiler.is_compiling():
        each = rows.split(1)
        y = torch.cat([experts(each[k // chosen], [expert], None) for k, expert in enumerate(index.flatten().tolist())])
    elif 0 < index.numel() <= count:
        y = experts(rows.repeat_interleave(chosen, 0), index.flatten(), None)
    else:
        expert, order = index.flatten().sort(stable=True)
        ends = torch.searchsorted(expert, torch.arange(count, device=x.device), right=True).to(torch.int32)
        y = experts(rows[order // chosen], expert, ends)
        y = torch.empty_like(y).index_copy(0, order, y)
    return (y.unflatten(0, index.shape) * weight[..., None]).sum(-2)''',
    "pairwise": '''def pairwise(experts: nn.Module, x: Tensor) -> Tensor:
    """Each expert applied to its own slice of x [experts, ..., d]."""
    count, each = x.shape[0], math.prod(x.shape[1:-1])
    expert = torch.arange(count, device=x.device).repeat_interleave(each)
    ends = torch.arange(1, count + 1, device=x.device, dtype=torch.int32) * each
    return experts(x.flatten(0, -2), expert, ends).unflatten(0, x.shape[:-1])''',
    "stacked": '''def stacked(members: Sequence[nn.Module]) -> nn.Module:
    """The first of several modules, each of its tensors holding those of all: `member` is one of them again."""
    for name, first in members[0].named_modules():
        owners = [m.get_submodule(name) for m in members]
        for key in [k for k, v in first._parameters.items() if v is not None]:
            first._parameters[key] = nn.Parameter(torch.stack([m._parameters[key].detach() for m in owners]))
        for key in [k for k, v in first._buffers.items() if v is not None]:
            first._buffers[key] = torch.stack([m._buffers[key] for m in owners])
    return members[0]''',
    "member": '''def member(modules: nn.Module, number: int) -> Callable[..., Tensor]:
    """One of the modules that are stacked in one."""
    own = {name: x[number] for name, x in (*modules.named_parameters(), *modules.named_buffers())}
    return lambda *inputs: torch.func.functional_call(modules, own, inputs)''',
}

NEEDS = {
    "route": ("grouped_mm",),
    "pairwise": ("grouped_mm",),
    "grouped_linear": ("grouped_mm",),
    "state_space": ("without_autocast",),
    "outer_sums": ("without_autocast",),
    "feature_state_space": ("without_autocast",),
    "linear_recurrence": ("recurrence_by_parts", "recurrence_by_steps"),
    "linear_recurrence_from": ("recurrence_by_parts", "recurrence_by_steps"),
}

FUSED_CLASSES = (("fused_linear", "FusedLinear"), ("fused_grouped_linear", "FusedGroupedLinear"))
"""Helpers that are several linear maps in one."""

APART = ("cross_entropy", "linear_statistics", "linear_cross_entropy", "biased_cross_entropy")
"""What stands behind the model: how a loss is computed is no part of reading it."""


def chosen_helpers(wanted: set[str], *, apart: bool = False) -> list[str]:
    """Their source, of those that stand before the model or apart from it; of two forms of one function the more general."""
    names = wanted | {n for w in wanted for n in NEEDS.get(w, ())}
    if "float32_like" in names:
        names = names - {"float32"}
    if {"route", "grouped_linear"} <= names:
        names = names - {"grouped_linear"} | {"grouped_or_chosen_linear"}
    if "linear_recurrence_from" in names:
        names = names - {"linear_recurrence"}
    if "blocked_attention_with_sink" in names:
        names = names - {"attention_with_sink"}
    return [HELPERS[n] for n in HELPERS if n in names and (n in APART) == apart]
