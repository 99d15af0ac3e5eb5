"""Residual topologies, routings, recurrences, graphs and stems once more, in plain torch, from their papers' formulas or with torch.nn's own modules.

Each function takes the model's weights and its inputs, and gives the model's output and what its losses add up to before the cross entropy."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ..backends.papers import (
    Inputs,
    Weights,
    dense,
    glu,
    joined,
    layer_norm,
    lower,
    mlp,
    plain_attention,
    pre_norm,
    qkv,
    rms,
    turn_halves,
)

Witness = Callable[[Weights, Inputs], tuple[Tensor, Tensor]]


def embedded(w: Weights, inputs: Inputs) -> Tensor:
    x = w["embed.weight"][inputs["input_ids"]]
    return x + w["position.weight"][: x.shape[1]] if "position.weight" in w else x


def nothing(x: Tensor) -> Tensor:
    return torch.zeros((), dtype=x.dtype)


def relu_mlp(w: Weights, x: Tensor) -> Tensor:
    return dense(w.at("down_proj"), F.relu(dense(w.at("up_proj"), x)))


# ---------------------------------------------------------------- residual topologies


def rezero(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """x <- x + alpha F(x), one alpha a layer."""
    x = embedded(w, inputs)
    for layer in w.at("decoder").layers():
        x = x + layer["share"] * plain_attention(4, causal=True)(layer.at("attention"), x)
        x = x + layer["share"] * relu_mlp(layer.at("ffn"), x)
    return dense(w.at("head"), x), nothing(x)


def deep_norm(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """x <- LN(alpha x + F(x)) with alpha = (2 M)^(1/4) for a decoder of M layers."""
    x = embedded(w, inputs)
    alpha = (2 * 3) ** 0.25
    for layer in w.at("decoder").layers():
        x = layer_norm(layer.at("attention_norm"), alpha * x + plain_attention(4, causal=True)(layer.at("attention"), x))
        x = layer_norm(layer.at("ffn_norm"), alpha * x + mlp(layer.at("ffn"), x))
    return dense(w.at("head"), x), nothing(x)


def u_shaped(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Long skips from layer n to layer L - n: concatenated, and mapped to the width."""

    def block(w: Weights, x: Tensor) -> Tensor:
        return pre_norm(w, x, plain_attention(4, causal=True), mlp, layer_norm)

    x, skips, decoder = embedded(w, inputs), [], w.at("decoder")
    for layer in decoder.layers("down"):
        x = block(layer.at("block"), x)
        skips.append(x)
    x = block(decoder.at("middle"), x)
    for layer in decoder.layers("up"):
        x = block(layer.at("block"), dense(layer.at("join"), torch.cat([x, skips.pop()], -1)))
    return dense(w.at("head"), layer_norm(decoder.at("norm"), x)), nothing(x)


def reversible(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """y1 = x1 + F(x2), y2 = x2 + G(y1)."""
    one = two = embedded(w, inputs)
    for layer in w.at("decoder").layers():
        one = one + plain_attention(4, causal=True)(layer.at("attention"), layer_norm(layer.at("attention_norm"), two))
        two = two + mlp(layer.at("ffn"), layer_norm(layer.at("ffn_norm"), one))
    return dense(w.at("head"), layer_norm(w.at("decoder.norm"), torch.cat([one, two], -1))), nothing(one)


def layer_scale(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    x = embedded(w, inputs)
    for layer in w.at("decoder").layers():
        x = x + layer["attention_scale"] * plain_attention(4, causal=True)(layer.at("attention"), layer_norm(layer.at("attention_norm"), x))
        x = x + layer["ffn_scale"] * mlp(layer.at("ffn"), layer_norm(layer.at("ffn_norm"), x))
    return dense(w.at("head"), layer_norm(w.at("decoder.norm"), x)), nothing(x)


# ---------------------------------------------------------------- training terms


def scaled_init(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """A tied GPT-2 with PaLM's loss: 1e-4 log^2 Z."""

    def block_mlp(w: Weights, x: Tensor) -> Tensor:
        return dense(w.at("down_proj"), F.gelu(dense(w.at("up_proj"), x), approximate="tanh"))

    x = embedded(w, inputs)
    for layer in w.at("decoder").layers():
        x = pre_norm(layer, x, plain_attention(4, causal=True), block_mlp, layer_norm)
    logits = layer_norm(w.at("decoder.norm"), x) @ w["embed.weight"].T
    return logits, 1e-4 * logits.exp().sum(-1).log().pow(2).mean()


def mup(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Hidden maps and logits by 1 / 4 (the width, 32, over the base, 8), scores by 8 / 8."""

    def attention(w: Weights, x: Tensor) -> Tensor:
        q, k, v = (z / 4 for z in qkv(w, x, 4))
        s = (q @ k.transpose(-1, -2)).masked_fill(~lower(x.shape[1]), float("-inf"))
        return joined(w.at("o_proj"), torch.softmax(s, -1) @ v) / 4

    def wide_mlp(w: Weights, x: Tensor) -> Tensor:
        return dense(w.at("down_proj"), F.gelu(dense(w.at("up_proj"), x) / 4)) / 4

    x = embedded(w, inputs)
    for layer in w.at("decoder").layers():
        x = pre_norm(layer, x, attention, wide_mlp, layer_norm)
    return dense(w.at("head"), layer_norm(w.at("decoder.norm"), x)) / 4, nothing(x)


# ---------------------------------------------------------------- routing


def experts_of(w: Weights, count: int) -> list[Weights]:
    """The experts of a bank, each with its slice of the weights."""
    return [Weights({n.removeprefix(w.path): t[e] for n, t in w.tensors.items() if n.startswith(w.path)}) for e in range(count)]


def language_model(w: Weights, inputs: Inputs, block: Callable[[int, Weights, Tensor], Tensor]) -> Tensor:
    x = embedded(w, inputs)
    for n, layer in enumerate(w.at("decoder").layers()):
        x = block(n, layer, x)
    return dense(w.at("head"), rms(w.at("decoder.norm"), x))


def dense_mixture(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """y = sum over experts of p_e(x) E_e(x)."""

    def mixture(w: Weights, x: Tensor) -> Tensor:
        share = torch.softmax(dense(w.at("gate"), x), -1)
        return sum(share[..., e, None] * glu(expert, x) for e, expert in enumerate(experts_of(w.at("experts"), 5)))  # type: ignore[return-value]

    attention = plain_attention(4, causal=True, rotate=True)
    logits = language_model(w, inputs, lambda n, layer, x: pre_norm(layer, x, attention, mixture, rms))
    return logits, nothing(logits)


def expert_choice(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """G, I = TopK(S^T, k), k = n c / e; y = sum of P G X_e."""

    def mixture(w: Weights, x: Tensor) -> Tensor:
        scores, y = torch.softmax(dense(w.at("gate"), x), -1), torch.zeros_like(x)
        for row in range(x.shape[0]):
            for e, expert in enumerate(experts_of(w.at("experts"), 5)):
                for t in scores[row, :, e].topk(math.ceil(x.shape[1] * 2 / 5)).indices:
                    y[row, t] += scores[row, t, e] * mlp(expert, x[row, t])
        return y

    attention = plain_attention(4, causal=True, rotate=True)
    logits = language_model(w, inputs, lambda n, layer, x: pre_norm(layer, x, attention, mixture if n % 2 else mlp, rms))
    return logits, nothing(logits)


def mixture_of_depths(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """x_i + r_i f(X~)_i for the tokens of the highest r; binary cross entropy teaches r whether it is one of them."""
    losses: list[Tensor] = []

    def block(n: int, layer: Weights, x: Tensor) -> Tensor:
        if n % 2 == 0:
            return pre_norm(layer, x, plain_attention(4, causal=True, rotate=True), glu, rms)
        rows, targets, score = [], [], dense(layer.at("gate"), x)[..., 0]
        for row, r in zip(x, score, strict=True):
            at = r.topk(math.ceil(len(row) / 3)).indices.sort().values

            def attention(w: Weights, z: Tensor, at: Tensor = at) -> Tensor:
                q, k, v = qkv(w, z, 4)
                return joined(w.at("o_proj"), F.scaled_dot_product_attention(turn_halves(q, at), turn_halves(k, at), v, is_causal=True))

            f = pre_norm(layer.at("block"), row[at][None], attention, glu, rms)[0] - row[at]
            rows.append(row.index_add(0, at, r[at, None] * f))
            targets.append(torch.zeros_like(r).index_fill(0, at, 1.0))
        losses.append(0.01 * F.binary_cross_entropy_with_logits(score, torch.stack(targets)))
        return torch.stack(rows)

    return language_model(w, inputs, block), sum(losses, torch.zeros(()))


def sparsely_gated(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """H(x) = x W_g + noise softplus(x W_noise); softmax of the k largest; importance and load, appendix A."""

    def cv2(x: Tensor) -> Tensor:
        return x.var(unbiased=False) / (x.mean() ** 2 + 1e-10)

    k, experts = 2, 5
    x = w["embed.weight"][inputs["input_ids"]]
    x = x + lstm(w.at("below.recurrence"), x)
    clean, spread = x @ w["sparse.router.weight"].T, F.softplus(x @ w["sparse.router.noise_weight"].T)
    scores = clean + inputs["router_noise"] * spread
    gates, chance = torch.zeros_like(scores), torch.zeros_like(scores)
    for place in torch.cartesian_prod(*map(torch.arange, scores.shape[:2])):
        row = scores[*place]
        best = row.topk(k)
        gates[*place, best.indices] = torch.softmax(best.values, 0)
        for e in range(experts):
            others = torch.cat([row[:e], row[e + 1 :]])
            z = (clean[*place, e] - others.topk(k).values[-1]) / spread[*place, e]
            chance[*place, e] = torch.distributions.Normal(0.0, 1.0).cdf(z)
    loss = 0.1 * cv2(gates.sum((0, 1))) + 0.1 * cv2(chance.sum((0, 1)))
    mixed = sum(gates[..., e, None] * relu_mlp(expert, x) for e, expert in enumerate(experts_of(w.at("sparse.experts"), experts)))
    assert isinstance(mixed, Tensor)
    x = x + torch.sigmoid(mixed)
    x = x + lstm(w.at("above.recurrence"), x)
    return dense(w.at("head"), x), loss


# ---------------------------------------------------------------- recurrences


def recurrent(kind: type[nn.RNNBase], w: Weights, x: Tensor) -> Tensor:
    width = x.shape[-1]
    module = kind(width, width, batch_first=True).to(x.dtype)
    own = {"weight_ih": "from_x.weight", "bias_ih": "from_x.bias", "weight_hh": "cell.from_h.weight", "bias_hh": "cell.from_h.bias"}
    module.load_state_dict({f"{n}_l0": w[o].reshape(-1, *w[o].shape[2:]) for n, o in own.items()})
    y: Tensor = module(x)[0]
    return y


def lstm(w: Weights, x: Tensor) -> Tensor:
    return recurrent(nn.LSTM, w, x)


def recurrent_lm(kind: type[nn.RNNBase]) -> Witness:
    def run(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
        x = w["embed.weight"][inputs["input_ids"]]
        for layer in w.layers():
            x = recurrent(kind, layer.at("recurrence"), x)
        return dense(w.at("head"), x), nothing(x)

    return run


def rnn_search(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Appendix A.1 and A.2, a word at a time; what is padded is not there."""

    def step(cell: Weights, h: Tensor, from_x: Tensor) -> Tensor:
        z, r = (from_x[:2] + cell["from_h.weight"] @ h).sigmoid()
        return (1 - z) * h + z * torch.tanh(from_x[2] + cell["from_reset.weight"] @ (r * h))

    def states(from_x: Weights, cell: Weights, words: Tensor) -> list[Tensor]:
        h, found = torch.zeros(cell["from_reset.weight"].shape[0], dtype=words.dtype), []
        for word in words:
            h = step(cell, h, from_x["weight"] @ word + from_x["bias"])
            found.append(h)
        return found

    rows = []
    e, c = w.at("encoder"), w.at("cell")
    for ids, mask, target in zip(inputs["input_ids"], inputs["attention_mask"], inputs["decoder_input_ids"], strict=True):
        words = w["source_embed.weight"][ids[mask == 1]]
        ahead, back = states(e.at("from_x"), e.at("ahead"), words), states(e.at("from_x_back"), e.at("back"), words.flip(0))[::-1]
        memory = torch.stack([torch.cat(pair) for pair in zip(ahead, back, strict=True)])
        s, logits = torch.tanh(dense(w.at("start"), back[0])), []
        for word in w["target_embed.weight"][target]:
            scores = torch.tanh(c["query.weight"] @ s + memory @ w["key.weight"].T) @ c["energy"]
            context = torch.softmax(scores, 0) @ memory
            out = w["state_out.weight"] @ s + w["state_out.bias"] + w["word_out.weight"] @ word + w["context_out.weight"] @ context
            logits.append(dense(w.at("head"), out.max(1).values))
            s = step(c.at("cell"), s, w["from_y.weight"] @ word + w["from_y.bias"] + c["from_context.weight"] @ context)
        rows.append(torch.stack(logits))
    return torch.stack(rows), torch.zeros(())


def conv_attention(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Q and K by causal convolutions of width 3."""

    def attention(w: Weights, x: Tensor) -> Tensor:
        def conv(name: str) -> Tensor:
            kernel, bias = w[f"{name}.weight"].flatten(0, 1), w[f"{name}.bias"].flatten()
            return F.conv1d(F.pad(x.transpose(1, 2), (2, 0)), kernel, bias).unflatten(1, (4, -1)).transpose(2, 3)

        v = dense(w.at("v_proj"), x).unflatten(-1, (4, -1)).transpose(1, 2)
        return joined(w.at("o_proj"), F.scaled_dot_product_attention(conv("q_conv"), conv("k_conv"), v, is_causal=True))

    x = embedded(w, inputs)
    for layer in w.at("decoder").layers():
        x = pre_norm(layer, x, attention, mlp, layer_norm)
    return dense(w.at("head"), layer_norm(w.at("decoder.norm"), x)), nothing(x)


# ---------------------------------------------------------------- graphs and images


def graphormer(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Equations 5 to 7: centrality added to the nodes; b of the distance, and the mean over a shortest path of bond times hop, added to scores."""
    heads, reach, far = 4, 3, 16
    out = []
    for b in range(2):
        kept = int(inputs["node_mask"][b].sum())
        x = w["atom.weight"][inputs["input_nodes"][b, :kept]].sum(1)
        x = x + w["entering.weight"][inputs["in_degree"][b, :kept]] + w["leaving.weight"][inputs["out_degree"][b, :kept]]
        bias = w["virtual_near"].expand(kept + 1, kept + 1, heads).clone()
        for i in range(kept):
            for j in range(kept):
                distance = int(inputs["distance"][b, i, j])
                bias[i + 1, j + 1] = w["near.weight"][distance]
                steps = 0 if distance == far else min(distance, reach)
                for n in range(steps):
                    bond = w["bond.weight"][inputs["path"][b, i, j, n]].mean(0)
                    bias[i + 1, j + 1] += bond @ w["hop"][n] / steps

        def attention(w: Weights, x: Tensor, bias: Tensor = bias) -> Tensor:
            q, k, v = qkv(w, x, heads)
            return joined(w.at("o_proj"), F.scaled_dot_product_attention(q, k, v, attn_mask=bias.permute(2, 0, 1)))

        x = torch.cat([w["virtual"][None], x])[None]
        for layer in w.at("encoder").layers():
            x = pre_norm(layer, x, attention, mlp, layer_norm)
        out.append(dense(w.at("head"), layer_norm(w.at("encoder.norm"), x)[0, 0]))
    return torch.stack(out), torch.zeros(())


def gps(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """X = MLP(MPNN(X, E) + GlobalAttn(X)), each with its residual and norm; an edge at a time, for one graph at a time."""
    out = []
    for b in range(2):
        kept = int(inputs["attention_mask"][b].sum())
        edges = [n for n in range(inputs["source"].shape[1]) if inputs["edge_mask"][b, n]]
        source, target = inputs["source"][b], inputs["target"][b]
        x = w["atom.weight"][inputs["input_nodes"][b, :kept]] + inputs["positions"][b, :kept] @ w["place.weight"].T
        for layer in w.layers():
            c = layer.at("local")
            q, k, v = (dense(c.at(f"{n}_proj"), x, 4, -1) for n in "qkv")
            bond = dense(c.at("edge_proj"), w["bond.weight"][inputs["edge_type"][b]], 4, -1)
            y = torch.zeros_like(q)
            for node in range(kept):
                into = [n for n in edges if target[n] == node]
                if into:
                    s = torch.stack([(q[node] * (k[source[n]] + bond[n])).sum(-1) / math.sqrt(q.shape[-1]) for n in into])
                    y[node] = sum(p[:, None] * (v[source[n]] + bond[n]) for n, p in zip(into, torch.softmax(s, 0), strict=True))  # type: ignore[assignment]
            local = layer_norm(layer.at("local_norm"), x + y.flatten(1))
            whole = layer_norm(layer.at("attention_norm"), x + plain_attention(4)(layer.at("attention"), x[None])[0])
            x = local + whole
            x = layer_norm(layer.at("ffn_norm"), x + relu_mlp(layer.at("ffn"), x))
        out.append(dense(w.at("head"), x.mean(0)))
    return torch.stack(out), torch.zeros(())


def vit_c(w: Weights, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """nn.Conv2d, nn.BatchNorm2d and ReLU four times, a 1 x 1 convolution, nn.TransformerEncoderLayer."""
    x = inputs["pixel_values"]
    n = 0
    while f"stage_{n}.conv.weight" in w:
        stage = w.at(f"stage_{n}")
        weight = stage["conv.weight"]
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride=2, padding=1, bias=False).to(x.dtype)
        conv.load_state_dict({"weight": weight})
        norm = nn.BatchNorm2d(weight.shape[0]).to(x.dtype).eval()
        norm.load_state_dict({k: stage[f"norm.{k}"] for k in ("weight", "bias", "running_mean", "running_var")}, strict=False)
        x, n = F.relu(norm(conv(x))), n + 1
    stage = w.at(f"stage_{n}")
    x = F.conv2d(x, stage["patches.weight"], stage["patches.bias"]).flatten(2).transpose(1, 2)
    x = torch.cat([stage["cls.weight"].expand(x.shape[0], 1, -1), x], 1) + stage["position.weight"]
    for layer in stage.layers("encoder"):
        x = encoder_layer(layer, x, 4)(x)
    return dense(w.at("classifier"), layer_norm_6(w.at("norm"), x)[:, 0]), nothing(x)


def layer_norm_6(w: Weights, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w["weight"], w["bias"], 1e-6)


def encoder_layer(w: Weights, x: Tensor, heads: int) -> nn.TransformerEncoderLayer:
    width = x.shape[-1]
    made = nn.TransformerEncoderLayer(
        width, heads, w["ffn.up_proj.bias"].numel(), activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    own = {"linear1": "ffn.up_proj", "linear2": "ffn.down_proj", "norm1": "attention_norm", "norm2": "ffn_norm"}
    own["self_attn.out_proj"] = "attention.o_proj"
    state = {f"{there}.{kind}": w[f"{name}.{kind}"] for there, name in own.items() for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
        state[f"self_attn.in_proj_{kind}"] = torch.cat([w[f"attention.{p}_proj.{kind}"].flatten(0, 1) for p in "qkv"])
    made.to(x.dtype).load_state_dict({n: state[n].reshape(v.shape) for n, v in made.state_dict().items()})
    return made.eval()
