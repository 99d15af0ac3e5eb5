"""Llama, GPT-2 and Mixtral as somebody would write them for speed: fused projections, the kernel's own causal mask and grouped queries,
a cache that is written in place, experts sorted and multiplied in groups, or a few chosen ones alone. The other side of the comparison, with
Hugging Face. Where a step starts is a number, which slices the cache, or for torch.compile a tensor, under which no shape depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Start = int | Tensor


@dataclass(frozen=True)
class Shape:
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    experts: int
    chosen: int
    theta: float
    learned: bool
    tied: bool
    eps: float

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From a config of Hugging Face."""
        if config.model_type == "gpt2":
            head_dim = config.n_embd // config.n_head
            return cls(config.vocab_size, config.n_embd, config.n_layer, config.n_head, config.n_head, head_dim, 4 * config.n_embd, 0, 0, 0.0, True,
                       True, config.layer_norm_epsilon)  # fmt: skip
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        experts, chosen = getattr(config, "num_local_experts", 0), getattr(config, "num_experts_per_tok", 0)
        return cls(config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads, head_dim,
                   config.intermediate_size, experts, chosen, config.rope_parameters["rope_theta"], False, False, config.rms_norm_eps)  # fmt: skip


class Attention(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        self.qkv = nn.Linear(s.width, (s.heads + 2 * s.kv_heads) * s.head_dim, bias=s.learned)
        self.out = nn.Linear(s.heads * s.head_dim, s.width, bias=s.learned)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor] | None, cache: tuple[Tensor, Tensor] | None, start: Start) -> Tensor:
        s, (batch, rows, _), mask = self.s, x.shape, None
        q, k, v = self.qkv(x).view(batch, rows, -1, s.head_dim).transpose(1, 2).split((s.heads, s.kv_heads, s.kv_heads), 1)
        if table is not None:
            q, k = turned(q, *table), turned(k, *table)
        if cache is not None and isinstance(start, int):
            for whole, new in zip(cache, (k, v), strict=True):
                whole[:, :, start : start + rows] = new
            k, v = (whole[:, :, : start + rows] for whole in cache)
        elif cache is not None:
            k, v = (whole.index_copy_(2, start.view(1), new) for whole, new in zip(cache, (k, v), strict=True))
            mask = (torch.arange(k.shape[2], device=x.device) <= start)[None, None, None]
        if rows == 1:
            y = F.scaled_dot_product_attention(q.view(batch, s.kv_heads, -1, s.head_dim), k, v, attn_mask=mask).view(
                batch, s.heads, 1, s.head_dim
            )
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=s.heads != s.kv_heads)
        return self.out(y.transpose(1, 2).flatten(2))


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1)


class Gated(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(s.width, 2 * s.hidden, bias=False)
        self.down = nn.Linear(s.hidden, s.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class Plain(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(s.width, s.hidden), nn.Linear(s.hidden, s.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


@torch.library.custom_op("by_hand::by_expert", mutates_args=())
def by_expert(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Rows sorted by expert [n, in] by weights [experts, out, in]; torch.compile traces torch's own in bfloat16 alone, and does not look inside."""
    return F.grouped_mm(rows, weight.transpose(1, 2), offs=ends).contiguous()


@torch.library.custom_op("by_hand::weights_by_expert", mutates_args=())
def weights_by_expert(grad: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    return F.grouped_mm(grad.t(), rows, offs=ends).contiguous()


def back_by_expert(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, weight, ends = ctx.saved_tensors
    grad = grad.contiguous()
    return by_expert(grad, weight.transpose(1, 2), ends), weights_by_expert(grad, rows, ends), None


by_expert.register_fake(lambda rows, weight, ends: rows.new_empty(rows.shape[0], weight.shape[1]))
weights_by_expert.register_fake(lambda grad, rows, ends: rows.new_empty(ends.shape[0], grad.shape[1], rows.shape[1]))
by_expert.register_autograd(back_by_expert, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


def grouped(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return by_expert(rows, weight, ends)
    return F.grouped_mm(rows, weight.transpose(1, 2), offs=ends)


class Experts(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        self.router = nn.Linear(s.width, s.experts, bias=False)
        self.up = nn.Parameter(torch.empty(s.experts, 2 * s.hidden, s.width))
        self.down = nn.Parameter(torch.empty(s.experts, s.width, s.hidden))

    def forward(self, x: Tensor) -> Tensor:
        s, rows = self.s, x.flatten(0, 1)
        weight, expert = self.router(rows).softmax(-1).topk(s.chosen)
        weight = weight / weight.sum(-1, keepdim=True)
        if expert.numel() <= s.experts:
            return (self.few(rows, expert) * weight[..., None]).sum(1).view_as(x)
        expert, order = expert.flatten().sort(stable=True)
        ends = torch.searchsorted(expert, torch.arange(s.experts, device=x.device), right=True).int()
        gate, up = grouped(rows[order // s.chosen], self.up, ends).chunk(2, -1)
        y = grouped(F.silu(gate) * up, self.down, ends)
        y = torch.empty_like(y).index_copy(0, order, y).view(*weight.shape, -1)
        return (y * weight[..., None]).sum(1).view_as(x)

    def few(self, rows: Tensor, expert: Tensor) -> Tensor:
        """What the chosen experts give for a handful of tokens [tokens, chosen, width]."""
        if torch.compiler.is_compiling():
            gate, up = torch.einsum("td,tkfd->tkf", rows, self.up[expert]).chunk(2, -1)
            return torch.einsum("tkf,tkdf->tkd", F.silu(gate) * up, self.down[expert])
        found: list[Tensor] = []
        for row, chosen in zip(rows, expert.tolist(), strict=True):
            for e in chosen:
                gate, up = F.linear(row, self.up[e]).chunk(2)
                found.append(F.linear(F.silu(gate) * up, self.down[e]))
        return torch.stack(found).view(*expert.shape, -1)


class Block(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        norm = nn.LayerNorm if s.learned else nn.RMSNorm
        self.first, self.second = norm(s.width, eps=s.eps), norm(s.width, eps=s.eps)
        self.attention = Attention(s)
        self.ffn = Plain(s) if s.learned else Experts(s) if s.experts else Gated(s)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor] | None, cache: tuple[Tensor, Tensor] | None, start: Start) -> Tensor:
        x = x + self.attention(self.first(x), table, cache, start)
        return x + self.ffn(self.second(x))


class ByHand(nn.Module):
    def __init__(self, s: Shape, longest: int = 4096) -> None:
        super().__init__()
        self.s = s
        self.embed = nn.Embedding(s.vocab, s.width)
        self.places = nn.Embedding(longest, s.width) if s.learned else None
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.norm = (nn.LayerNorm if s.learned else nn.RMSNorm)(s.width, eps=s.eps)
        self.head = nn.Linear(s.width, s.vocab, bias=False)
        if s.tied:
            self.head.weight = self.embed.weight
        if not s.learned:
            angle = torch.outer(torch.arange(longest), s.theta ** (-torch.arange(0, s.head_dim, 2) / s.head_dim))
            self.register_buffer("cosine", angle.cos(), persistent=False)
            self.register_buffer("sine", angle.sin(), persistent=False)

    def hidden(self, ids: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None, start: Start = 0) -> Tensor:
        rows = slice(start, start + ids.shape[1]) if isinstance(start, int) else start.view(1)
        x, table = self.embed(ids), None
        if self.places is not None:
            x = x + self.places.weight[rows]
        else:
            table = (self.cosine[rows], self.sine[rows])
        for k, block in enumerate(self.blocks):
            x = block(x, table, None if cache is None else cache[k], start)
        return self.norm(x)

    def last(self, ids: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None, start: Start = 0) -> Tensor:
        return self.head(self.hidden(ids, cache, start)[:, -1])

    def loss(self, ids: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.hidden(ids)[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    def new_cache(self, batch: int, longest: int) -> list[tuple[Tensor, Tensor]]:
        size = (batch, self.s.kv_heads, longest, self.s.head_dim)
        return [(self.head.weight.new_zeros(size), self.head.weight.new_zeros(size)) for _ in self.blocks]

    @torch.no_grad()
    def take(self, stored: dict[str, Tensor]) -> ByHand:
        """The weights of the same model of Hugging Face."""
        if self.s.learned:
            return self._take_gpt2(stored)
        self.embed.weight.copy_(stored["model.embed_tokens.weight"])
        self.norm.weight.copy_(stored["model.norm.weight"])
        self.head.weight.copy_(stored["lm_head.weight"])
        for k, block in enumerate(self.blocks):
            at = f"model.layers.{k}."
            block.attention.qkv.weight.copy_(torch.cat([stored[f"{at}self_attn.{n}_proj.weight"] for n in "qkv"]))
            block.attention.out.weight.copy_(stored[f"{at}self_attn.o_proj.weight"])
            block.first.weight.copy_(stored[f"{at}input_layernorm.weight"])
            block.second.weight.copy_(stored[f"{at}post_attention_layernorm.weight"])
            if self.s.experts:
                block.ffn.router.weight.copy_(stored[f"{at}mlp.gate.weight"])
                block.ffn.up.copy_(stored[f"{at}mlp.experts.gate_up_proj"])
                block.ffn.down.copy_(stored[f"{at}mlp.experts.down_proj"])
            else:
                block.ffn.up.weight.copy_(torch.cat([stored[f"{at}mlp.{n}_proj.weight"] for n in ("gate", "up")]))
                block.ffn.down.weight.copy_(stored[f"{at}mlp.down_proj.weight"])
        return self

    def _take_gpt2(self, stored: dict[str, Tensor]) -> ByHand:
        assert self.places is not None
        self.embed.weight.copy_(stored["transformer.wte.weight"])
        self.places.weight.copy_(stored["transformer.wpe.weight"])
        pairs: list[tuple[nn.Module, str, bool]] = [(self.norm, "transformer.ln_f", False)]
        for k, block in enumerate(self.blocks):
            at = f"transformer.h.{k}."
            pairs += [(block.first, at + "ln_1", False), (block.second, at + "ln_2", False), (block.attention.qkv, at + "attn.c_attn", True),
                      (block.attention.out, at + "attn.c_proj", True), (block.ffn.up, at + "mlp.c_fc", True),
                      (block.ffn.down, at + "mlp.c_proj", True)]  # fmt: skip
        for module, name, turned_over in pairs:
            weight = stored[name + ".weight"]
            module.weight.copy_(weight.t() if turned_over else weight)
            module.bias.copy_(stored[name + ".bias"])
        return self
