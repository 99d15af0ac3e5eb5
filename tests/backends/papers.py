"""The mechanisms of tests/open once more, in plain torch, from their papers' formulas: loops over tokens, heads, experts where that is plainest.

Each function takes the model's weights and its inputs and gives its first output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Inputs = Mapping[str, Tensor]
Map = Callable[["Weights", Tensor], Tensor]


@dataclass(frozen=True)
class Weights:
    """Weights by name below a path."""

    tensors: Mapping[str, Tensor]
    path: str = ""

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.path + name]

    def __contains__(self, name: str) -> bool:
        return self.path + name in self.tensors

    def at(self, path: str) -> Weights:
        return Weights(self.tensors, f"{self.path}{path}.")

    def layers(self, name: str = "layers") -> Iterator[Weights]:
        n = 0
        while any(k.startswith(f"{self.path}{name}.{n}.") for k in self.tensors):
            yield self.at(f"{name}.{n}")
            n += 1


# ---------------------------------------------------------------- parts that papers take for granted


def dense(w: Weights, x: Tensor, *shape: int) -> Tensor:
    y = x @ w["weight"].reshape(-1, x.shape[-1]).T
    y = y + w["bias"].reshape(-1) if "bias" in w else y
    return y.unflatten(-1, shape) if shape else y


def rms(w: Weights, x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * w["weight"]


def layer_norm(w: Weights, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w["weight"], w["bias"], 1e-5)


def glu(w: Weights, x: Tensor) -> Tensor:
    return dense(w.at("down_proj"), F.silu(dense(w.at("gate_proj"), x)) * dense(w.at("up_proj"), x))


def mlp(w: Weights, x: Tensor) -> Tensor:
    return dense(w.at("down_proj"), F.gelu(dense(w.at("up_proj"), x)))


def pre_norm(w: Weights, x: Tensor, attention: Map, ffn: Map, norm: Map) -> Tensor:
    x = x + attention(w.at("attention"), norm(w.at("attention_norm"), x))
    return x + ffn(w.at("ffn"), norm(w.at("ffn_norm"), x))


def language_model(w: Weights, ids: Tensor, attention: Map, ffn: Map = glu) -> Tensor:
    x = w["embed.weight"][ids]
    if "position.weight" in w:
        x = x + w["position.weight"][: ids.shape[1]]
    for layer in w.at("decoder").layers():
        x = pre_norm(layer, x, attention, ffn, rms)
    return dense(w.at("head"), rms(w.at("decoder.norm"), x))


def encoder(w: Weights, ids: Tensor, attention: Map, ffn: Map = mlp) -> Tensor:
    x = w["embed.weight"][ids]
    for layer in w.layers():
        x = pre_norm(layer, x, attention, ffn, layer_norm)
    return x


def qkv(w: Weights, x: Tensor, heads: int, kv_heads: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """[b, heads, t, e] each; a key head serves consecutive query heads."""
    e = w["q_proj.weight"].numel() // x.shape[-1] // heads
    kv_heads = kv_heads or heads
    q, k, v = (dense(w.at(f"{n}_proj"), x, -1, e).transpose(1, 2) for n in "qkv")
    return q, k.repeat_interleave(heads // kv_heads, 1), v.repeat_interleave(heads // kv_heads, 1)


def lower(t: int) -> Tensor:
    return torch.ones(t, t, dtype=torch.bool).tril()


def joined(w: Weights, y: Tensor) -> Tensor:
    """[b, heads, t, e] through the output projection."""
    return dense(w, y.transpose(1, 2).flatten(2))


def plain_attention(heads: int, kv_heads: int | None = None, *, causal: bool = False, rotate: bool = False) -> Map:
    def run(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, heads, kv_heads)
        if rotate:
            q, k = (turn_halves(z, torch.arange(x.shape[1])) for z in (q, k))
        return joined(w.at("o_proj"), F.scaled_dot_product_attention(q, k, v, is_causal=causal))

    return run


def turn_halves(x: Tensor, at: Tensor, theta: float = 10000.0) -> Tensor:
    """Rotary positions: features n and n + e / 2 are one complex number."""
    e = x.shape[-1]
    angle = at[..., None] * theta ** (-torch.arange(0, e, 2, dtype=x.dtype) / e)
    z = torch.complex(x[..., : e // 2], x[..., e // 2 :]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


# ---------------------------------------------------------------- the mechanisms


def gated_linear(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v, gate = (dense(w.at(n), x, 5, 7) for n in ("q_proj", "k_proj", "v_proj", "gate"))
        keep = torch.sigmoid(dense(w.at("forget"), dense(w.at("down"), x), 5, 7)) ** (1 / 16)
        state, rows = torch.zeros(x.shape[0], 5, 7, 7, dtype=x.dtype), []
        for t in range(x.shape[1]):
            state = keep[:, t, :, :, None] * state + k[:, t, :, :, None] * v[:, t, :, None, :]
            rows.append((q[:, t, :, None, :] @ state).squeeze(-2) / math.sqrt(7))
        y = rms(w.at("norm"), torch.stack(rows, 1)) * F.silu(gate)
        return dense(w.at("o_proj"), y.flatten(2))

    return language_model(w, inputs["input_ids"], attention)


def delta_net(w: Weights, inputs: Inputs) -> Tensor:
    """The parallel form: u = (I + tril(diag(rate) K K^T, -1))^-1 diag(rate) V, then y = tril(Q K^T) u."""

    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        q, k = F.normalize(F.silu(q), dim=-1), F.normalize(F.silu(k), dim=-1)
        rate = torch.sigmoid(dense(w.at("rate_proj"), x)).transpose(1, 2)[..., None]
        seen = (rate * (k @ k.transpose(-1, -2))).tril(-1) + torch.eye(x.shape[1], dtype=x.dtype)
        y = (q @ k.transpose(-1, -2)).tril() @ torch.linalg.solve_triangular(seen, rate * v, upper=False)
        return joined(w.at("o_proj"), rms(w.at("norm"), y))

    return language_model(w, inputs["input_ids"], attention)


def retention(w: Weights, inputs: Inputs) -> Tensor:
    """The parallel form: (Q K^T * D) V with D[n, m] = gamma^(n - m)."""

    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v, gate = (dense(w.at(n), x, 5, 7).transpose(1, 2) for n in ("q", "k", "v", "gate"))
        gamma = 1 - 2.0 ** (-5 - torch.arange(5, dtype=x.dtype))
        n = torch.arange(x.shape[1])
        d = torch.where(lower(len(n)), gamma[:, None, None] ** (n[:, None] - n).clamp(min=0), 0)
        y = (q @ k.transpose(-1, -2) / math.sqrt(7) * d) @ v
        y = y / (y.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return joined(w.at("o"), F.silu(gate) * y)

    return language_model(w, inputs["input_ids"], attention)


def relative_positions(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        n = torch.arange(x.shape[1])
        distance = (n - n[:, None]).clamp(-3, 3) + 3
        keys, values = w["key_table"][distance], w["value_table"][distance]  # [t, s, e]
        a = torch.softmax((q @ k.transpose(-1, -2) + (q[..., None, :] * keys).sum(-1)) / math.sqrt(7), -1)
        return joined(w.at("o_proj"), a @ v + (a[..., None] * values).sum(-2))

    return encoder(w, inputs["input_ids"], attention)


def disentangled(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor, table: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        q_r, k_r = (dense(w.at(n), table, 5, 7).transpose(0, 1) for n in ("q_proj", "k_proj"))
        s = q @ k.transpose(-1, -2)
        for i in range(x.shape[1]):
            for j in range(x.shape[1]):
                near, far = (min(max(d + 4, 0), 7) for d in (i - j, j - i))
                s[:, :, i, j] += (q[:, :, i] * k_r[:, near]).sum(-1) + (k[:, :, j] * q_r[:, far]).sum(-1)
        return joined(w.at("o_proj"), torch.softmax(s / math.sqrt(3 * 7), -1) @ v)

    x = w["embed.weight"][inputs["input_ids"]]
    for layer in w.layers():
        x = layer_norm(layer.at("attention_norm"), x + attention(layer.at("attention"), x, w["table"]))
        x = layer_norm(layer.at("ffn_norm"), x + mlp(layer.at("ffn"), x))
    return x


def xpos(w: Weights, inputs: Inputs) -> Tensor:
    """Pair n of the query at t is multiplied by zeta^t e^(i t theta_n), of the key by its inverse magnitude."""

    def turned(x: Tensor, sign: int) -> Tensor:
        t, e = torch.arange(x.shape[-2]), x.shape[-1]
        n = torch.arange(0, e, 2, dtype=x.dtype)
        size = ((n / e + 0.4) / 1.4) ** (sign * t[:, None] / 16)
        z = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.polar(size, t[:, None] * 10000 ** (-n / e))
        return torch.view_as_real(z).flatten(-2)

    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 3, 1)
        return joined(w.at("o_proj"), F.scaled_dot_product_attention(turned(q, 1), turned(k, -1), v, is_causal=True))

    return language_model(w, inputs["input_ids"], attention)


def rope_2d(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        at = torch.arange(9)
        q, k = (
            torch.cat([turn_halves(half, n, 100.0) for half, n in zip(z.chunk(2, -1), (at // 3, at % 3), strict=True)], -1) for z in (q, k)
        )
        return joined(w.at("o_proj"), F.scaled_dot_product_attention(q, k, v))

    weight = w["patches.weight"].reshape(40, 3, 6, 6)
    x = F.conv2d(inputs["pixel_values"], weight, w["patches.bias"], stride=6).flatten(2).transpose(1, 2)
    for layer in w.layers():
        x = pre_norm(layer, x, attention, mlp, layer_norm)
    return dense(w.at("head"), x.mean(1))


def cosine_attention(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        s = F.cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1)
        n = torch.arange(x.shape[1], dtype=x.dtype)
        delta = n - n[:, None]
        delta = torch.sign(delta) * torch.log(1 + delta.abs())
        bias = 16 * torch.sigmoid(dense(w.at("bias.down"), F.relu(dense(w.at("bias.up"), delta[..., None]))))
        s = s * w["log_scale"].clamp(max=math.log(100)).exp()[:, None, None] + bias.permute(2, 0, 1)
        return joined(w.at("o_proj"), torch.softmax(s, -1) @ v)

    x = w["embed.weight"][inputs["input_ids"]]
    for layer in w.layers():
        x = layer_norm(layer.at("attention_norm"), x + attention(layer.at("attention"), x))
        x = layer_norm(layer.at("ffn_norm"), x + mlp(layer.at("ffn"), x))
    return x


def top_k_attention(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 6, 2)
        y = torch.zeros_like(q)
        for t in range(x.shape[1]):
            s = (q[:, :, t, None] * k[:, :, : t + 1]).sum(-1) / math.sqrt(q.shape[-1])
            best = s.topk(min(4, t + 1))
            rows = torch.gather(v, 2, best.indices[..., None].expand(*best.indices.shape, v.shape[-1]))
            y[:, :, t] = (torch.softmax(best.values, -1)[..., None] * rows).sum(2)
        return joined(w.at("o_proj"), y)

    return language_model(w, inputs["input_ids"], attention)


def sigmoid_sinks(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = (dense(w.at(n), x, 5, 7).transpose(1, 2) for n in "qkv")
        sink, y = w["weights.sink"], torch.zeros_like(q)
        for t in range(x.shape[1]):
            near = slice(max(0, t - 6), t + 1)
            s = ((q[:, :, t, None] * k[:, :, near]).sum(-1) / math.sqrt(7)).exp()
            y[:, :, t] = (s[..., None] * v[:, :, near]).sum(2) / (s.sum(-1) + sink.exp())[..., None]
        return joined(w.at("o"), y)

    return language_model(w, inputs["input_ids"], attention)


def differential(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k = (dense(w.at(n), x, 2, 3, 6).permute(2, 0, 3, 1, 4) for n in "qk")  # [two, b, heads, t, e]
        v = dense(w.at("v"), x, 3, 12).transpose(1, 2)
        s = (q @ k.transpose(-1, -2) / math.sqrt(6)).masked_fill(~lower(x.shape[1]), float("-inf"))
        one, two = torch.softmax(s, -1)
        share = (w["lambda_q"][0] @ w["lambda_k"][0]).exp() - (w["lambda_q"][1] @ w["lambda_k"][1]).exp() + 0.8
        return joined(w.at("o"), rms(w.at("norm"), (one - share * two) @ v) * 0.2)

    return language_model(w, inputs["input_ids"], attention)


def talking_heads(w: Weights, inputs: Inputs) -> Tensor:
    x = w["embed.weight"][inputs["input_ids"]]
    a = w.at("attention")
    q, k, v = (dense(a.at(n), x, 5, 7) for n in "qkv")
    s = torch.einsum("bthe,bshe,oh->bots", q, k, a["before.mix"]) / math.sqrt(7)
    p = torch.einsum("bhts,oh->bots", torch.softmax(s, -1), a["after.mix"])
    return x + dense(a.at("o"), torch.einsum("bhts,bshe->bthe", p, v).flatten(2))


def contextual_positions(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        table = w["table"]  # [positions, e]
        y = torch.zeros_like(q)
        for i in range(x.shape[1]):
            s = (q[:, :, i, None] * k[:, :, : i + 1]).sum(-1) / math.sqrt(7)
            passed = torch.sigmoid(s)
            count = torch.stack([passed[..., j:].sum(-1) for j in range(i + 1)], -1).clamp(max=10.0)
            low = count.floor().long()
            at = [(q[:, :, i, None] * table[n]).sum(-1) / math.sqrt(7) for n in (low, (low + 1).clamp(max=10))]
            y[:, :, i] = (torch.softmax(s + torch.lerp(at[0], at[1], count - low), -1)[..., None] * v[:, :, : i + 1]).sum(2)
        return joined(w.at("o_proj"), y)

    return language_model(w, inputs["input_ids"], attention)


def performer(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        q, k = ((z @ w["directions"].T - z.pow(2).sum(-1, keepdim=True) / 2).exp() / math.sqrt(13) for z in (q / 7**0.25, k / 7**0.25))
        weight = (q @ k.transpose(-1, -2)).tril()
        return joined(w.at("o_proj"), weight @ v / (weight.sum(-1, keepdim=True) + 1e-9))

    return language_model(w, inputs["input_ids"], attention, mlp)


def linformer(w: Weights, inputs: Inputs) -> Tensor:
    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        return joined(w.at("o_proj"), F.scaled_dot_product_attention(q, w["k_short"] @ k, w["v_short"] @ v))

    x = w["embed.weight"][inputs["input_ids"]] + w["position.weight"]
    for layer in w.layers():
        x = pre_norm(layer, x, attention, mlp, layer_norm)
    return x


def memory_tokens(w: Weights, inputs: Inputs) -> Tensor:
    x = w["embed.weight"][inputs["input_ids"]]
    x = torch.cat([w["encoder.tokens"].expand(x.shape[0], -1, -1), x], 1)
    inner = w.at("encoder.inner")
    for layer in inner.layers():
        x = pre_norm(layer, x, plain_attention(5), mlp, layer_norm)
    return layer_norm(inner.at("norm"), x)[:, 4:]


def hyper_connections(w: Weights, inputs: Inputs) -> Tensor:
    streams = [w["embed.weight"][inputs["input_ids"]]] * 3
    sublayers = {"attention": plain_attention(6, 2, causal=True, rotate=True), "ffn": glu}
    for layer in w.at("decoder").layers():
        for name, mixer in sublayers.items():
            u = layer.at(name)
            y = sum(u["read"][n] * streams[n] for n in range(3))
            assert isinstance(y, Tensor)
            y = mixer(u.at("inner.mixer"), rms(u.at("inner.norm"), y))
            streams = [sum((u["mix"][m, n] * streams[n] for n in range(3)), u["write"][m] * y) for m in range(3)]
    return dense(w.at("head"), rms(w.at("decoder.norm"), sum(streams[1:], streams[0])))


def soft_moe(w: Weights, inputs: Inputs) -> Tensor:
    def unit(x: Tensor, dim: int) -> Tensor:
        return x / (x.pow(2).sum(dim, keepdim=True) + 1e-6).sqrt()

    def mixture(w: Weights, x: Tensor) -> Tensor:
        logits = torch.einsum("btd,dp->btp", unit(x, -1), unit(w["keys"].reshape(28, 6), 0) * w["scale"])
        slots = torch.softmax(logits, 1).transpose(1, 2) @ x  # [b, experts * slots, d]
        up, down = w["experts.up_proj.weight"], w["experts.down_proj.weight"]
        out = torch.cat([F.gelu(slots[:, 2 * e : 2 * e + 2] @ up[e].T) @ down[e].T for e in range(3)], 1)
        return torch.softmax(logits, 2) @ out

    return encoder(w, inputs["input_ids"], plain_attention(4), mixture)


def expert_choice(w: Weights, inputs: Inputs) -> Tensor:
    def mixture(w: Weights, x: Tensor) -> Tensor:
        scores = torch.softmax(dense(w.at("gate"), x), -1)
        gate, up, down = (w[f"experts.{n}_proj.weight"] for n in ("gate", "up", "down"))
        y = torch.zeros_like(x)
        for b in range(x.shape[0]):
            for e in range(3):
                for t in scores[b, :, e].topk(2).indices:
                    y[b, t] += scores[b, t, e] * (down[e] @ (F.silu(gate[e] @ x[b, t]) * (up[e] @ x[b, t])))
        return y

    return encoder(w, inputs["input_ids"], plain_attention(4), mixture)


def mixture_of_depths(w: Weights, inputs: Inputs) -> Tensor:
    ids = inputs["input_ids"]
    x = w["embed.weight"][ids]
    for n, layer in enumerate(w.at("decoder").layers()):
        if n % 2 == 0:
            x = pre_norm(layer, x, plain_attention(6, 3, causal=True, rotate=True), glu, rms)
            continue
        rows = []
        for row in x:
            score = row @ layer["gate"]
            at = score.topk(3).indices.sort().values

            def attention(w: Weights, z: Tensor, at: Tensor = at) -> Tensor:
                q, k, v = qkv(w, z, 6, 3)
                return joined(w.at("o_proj"), F.scaled_dot_product_attention(turn_halves(q, at), turn_halves(k, at), v, is_causal=True))

            chosen = row[at][None]
            change = (pre_norm(layer.at("block"), chosen, attention, glu, rms) - chosen)[0]
            rows.append(row.index_add(0, at, change * score[at, None]))
        x = torch.stack(rows)
    return dense(w.at("head"), rms(w.at("decoder.norm"), x))


def value_residual(w: Weights, inputs: Inputs) -> Tensor:
    first: Tensor | None = None
    x = w["embed.weight"][inputs["input_ids"]]
    at = torch.arange(x.shape[1])
    decoder = w.at("decoder")
    for layer in [decoder.at("first"), *decoder.layers()]:
        a = layer.at("attention")
        q, k, v = qkv(a, rms(layer.at("attention_norm"), x), 6)
        first, v = (v, v) if first is None else (first, a["mix"] * v + (1 - a["mix"]) * first)
        x = x + joined(a.at("o_proj"), F.scaled_dot_product_attention(turn_halves(q, at), turn_halves(k, at), v, is_causal=True))
        x = x + glu(layer.at("ffn"), rms(layer.at("ffn_norm"), x))
    return dense(w.at("head"), rms(decoder.at("norm"), x))


def conv_stem(w: Weights, inputs: Inputs) -> Tensor:
    x = inputs["wave"].transpose(1, 2)
    for stem in (w.at("stem1"), w.at("stem2")):
        weight = stem["weight"].permute(0, 2, 1)
        x = F.gelu(F.conv1d(x, weight, stem["bias"], stride=2, padding=weight.shape[-1] // 2))
    x = x.transpose(1, 2)
    for layer in w.layers():
        x = pre_norm(layer, x, plain_attention(5), mlp, layer_norm)
    return dense(w.at("head"), x.mean(1))


def attention_free(w: Weights, inputs: Inputs) -> Tensor:
    """AFT-local: a row's weights are exp(w[i, j] + k[j]) / sum, w being learned for near pairs and 0 for others."""

    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = (dense(w.at(f"{n}_proj"), x) for n in "qkv")
        y = torch.zeros_like(v)
        for i in range(x.shape[1]):
            bias = torch.stack([w["bias"][i, j] if i - j < 3 else torch.zeros((), dtype=x.dtype) for j in range(i + 1)])
            e = torch.exp(k[:, : i + 1] + bias[:, None])
            y[:, i] = (e * v[:, : i + 1]).sum(1) / e.sum(1)
        return dense(w.at("o_proj"), torch.sigmoid(q) * y)

    return language_model(w, inputs["input_ids"], attention)


def gated_recurrence(w: Weights, inputs: Inputs) -> Tensor:
    """RG-LRU, a step at a time: h[t] = a h[t - 1] + sqrt(1 - a^2) (i u), a = exp(-8 softplus(decay) r)."""

    def attention(w: Weights, x: Tensor) -> Tensor:
        z = dense(w.at("x_proj"), x)
        h, rows = torch.zeros_like(z[:, 0]), list[Tensor]()
        for t in range(x.shape[1]):
            u = torch.stack([w["filter"][:, 3 - n] * z[:, t - n] for n in range(min(4, t + 1))]).sum(0)
            r, i = (torch.sigmoid(dense(w.at(f"{n}_proj"), u)) for n in "ri")
            a = torch.exp(-8 * F.softplus(w["decay"]) * r)
            h = a * h + (1 - a**2).sqrt() * i * u
            rows.append(h)
        return dense(w.at("o_proj"), torch.stack(rows, 1) * F.gelu(dense(w.at("gate_proj"), x)))

    return language_model(w, inputs["input_ids"], attention)


def sparsemax(w: Weights, inputs: Inputs) -> Tensor:
    """The threshold that makes the positive parts sum to one, found by halving an interval."""

    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = qkv(w, x, 5)
        y = torch.zeros_like(v)
        for i in range(x.shape[1]):
            s = (q[:, :, i, None] * k[:, :, : i + 1]).sum(-1) / math.sqrt(7)
            low, high = s.amin(-1, keepdim=True) - 1, s.amax(-1, keepdim=True)
            for _ in range(200):
                middle = (low + high) / 2
                above = (s - middle).clamp(min=0).sum(-1, keepdim=True) > 1
                low, high = torch.where(above, middle, low), torch.where(above, high, middle)
            y[:, :, i] = ((s - low).clamp(min=0)[..., None] * v[:, :, : i + 1]).sum(2)
        return joined(w.at("o_proj"), y)

    return language_model(w, inputs["input_ids"], attention)


PAPERS: dict[str, Callable[[Weights, Inputs], Tensor]] = {
    f.__name__: f
    for f in (
        gated_linear, delta_net, retention, relative_positions, disentangled, xpos, rope_2d, cosine_attention, top_k_attention, sigmoid_sinks, differential,
        talking_heads, contextual_positions, performer, linformer, memory_tokens, hyper_connections, soft_moe, expert_choice, mixture_of_depths,
        value_residual, conv_stem, attention_free, gated_recurrence, sparsemax,
    )
}  # fmt: skip
