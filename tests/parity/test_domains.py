"""Memory, cross-layer sharing, decisions, proteins, text with images: against Hugging Face's classes, or against the papers' formulas written out here.

Every model is small and random, its tensors drawn away from 0 and 1. Outputs agree within 1e-4 at float32."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import transformers as hf
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.esm import modeling_esmfold as folding
from transformers.models.esm.configuration_esm import TrunkConfig

from xfc.compiler.command_line import xfc as command

TOLERANCE = 1e-4
Arrays = dict[str, Tensor]


def xfc(*words: object) -> str:
    done = CliRunner().invoke(command, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    return done.output


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Pair:
    """A spec compiled for both targets."""

    torch: ModuleType
    numpy: ModuleType


def compiled(spec: Path) -> Pair:
    xfc("check", spec)
    for target in ("torch", "numpy"):
        xfc("compile", spec, "--target", target, "-o", spec.with_name(f"{spec.stem}_{target}.py"))
    return Pair(*(load_module(spec.with_name(f"{spec.stem}_{target}.py")) for target in ("torch", "numpy")))


def variant(folder: Path, base: str, **settings: object) -> Pair:
    """A small variant of a shipped model; `__` in a name is a dot of its path."""
    lines = [f"    {name.replace('__', '.')} = {value}" for name, value in settings.items()]
    spec = folder / f"small_{base}.xf"
    spec.write_text("\n".join([f"model small_{base} extends {base}:", *lines, ""]))
    return compiled(spec)


def redraw(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(1.1 + 0.3 * drawn if "norm" in name.lower() or "ln" in name else drawn * (0.25 if value.dim() > 1 else 0.3))


def random_model(pair: Pair, folder: Path) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """The PyTorch module with random weights, and the same for NumPy."""
    model: nn.Module = pair.torch.Model().eval()
    redraw(model)
    model.save_pretrained(folder)  # type: ignore[operator]
    return model, pair.numpy.load(folder)


def check(got: object, want: Tensor, mask: Tensor | None = None) -> None:
    gap = (torch.as_tensor(np.asarray(got)).double() - want.double()).abs()
    assert gap.shape == want.shape
    assert float((gap if mask is None else gap[mask]).max()) < TOLERANCE


def ids(*shape: int, high: int, seed: int = 3) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def draws(*shape: int, seed: int = 4) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run_both(pair: Pair, folder: Path, reference: nn.Module, inputs: Arrays, outputs: dict[str, Callable[[object], Tensor]]) -> None:
    """The checkpoint that lies in the folder, on both targets, against what the reference says."""
    model = pair.torch.Model.from_pretrained(folder).eval()
    with torch.no_grad():
        want, got = reference(**inputs), model(**inputs)
    other = pair.numpy.forward(pair.numpy.load(folder), **{k: v.numpy() for k, v in inputs.items()})
    mask = inputs["attention_mask"].bool() if "attention_mask" in inputs else None
    for name, find in outputs.items():
        for result in (got, other):
            check(getattr(result, name, result), find(want), mask)


# ------------------------------------------------ Hugging Face's classes


def saved(model: nn.Module, folder: Path) -> Path:
    redraw(model)
    model.save_pretrained(folder)  # type: ignore[operator]
    spec = folder / f"{folder.name}_imported.yaml"
    xfc("import", folder / "config.json", "-o", spec)
    return spec


def padded(rows: int, length: int) -> Tensor:
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[1, length - 3 :] = 0
    return mask


def test_decision_transformer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.DecisionTransformerConfig(
        state_dim=5,
        act_dim=3,
        hidden_size=28,
        max_ep_len=41,
        n_positions=37,
        n_layer=2,
        n_head=4,
        n_inner=53,
        bos_token_id=0,
        eos_token_id=0,
    )
    config._attn_implementation = "eager"
    reference = hf.DecisionTransformerModel(config).eval()
    pair = compiled(saved(reference, tmp_path))
    inputs = {
        "states": draws(2, 7, 5),
        "actions": draws(2, 7, 3, seed=5),
        "returns_to_go": draws(2, 7, 1, seed=6),
        "timesteps": ids(2, 7, high=41),
    }
    names = ("state_preds", "action_preds", "return_preds")
    outputs: dict[str, Callable[[object], Tensor]] = {n: lambda want, n=n: getattr(want, n) for n in names}  # type: ignore[misc]
    run_both(pair, tmp_path, reference, inputs, outputs)
    run_both(pair, tmp_path, reference, inputs | {"attention_mask": padded(2, 7)}, outputs)
    labels = draws(2, 7, 3, seed=7)
    model = pair.torch.Model.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        want = (reference(**inputs).action_preds - labels).square().mean()
        check(model(**inputs, labels=labels), want)


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_esm(tmp_path: Path, positions: str) -> None:
    """ESM-2 and ESM-1b, with masked residues, which are zero."""
    torch.manual_seed(0)
    config = hf.EsmConfig(
        vocab_size=29, mask_token_id=28, pad_token_id=1, hidden_size=28, num_hidden_layers=2, num_attention_heads=7, intermediate_size=53,
        max_position_embeddings=31, position_embedding_type=positions, token_dropout=True, emb_layer_norm_before=positions == "absolute", layer_norm_eps=1e-5,
    )  # fmt: skip
    config._attn_implementation = "eager"
    reference = hf.EsmForMaskedLM(config).eval()
    pair = compiled(saved(reference, tmp_path))
    tokens = ids(2, 13, high=28)
    tokens[:, 4] = 28
    tokens[tokens == 1] = 7
    run_both(pair, tmp_path, reference, {"input_ids": tokens}, {"logits": lambda want: want.logits})  # type: ignore[attr-defined]
    mask = padded(2, 13)
    tokens = torch.where(mask == 1, tokens, 1)
    run_both(pair, tmp_path, reference, {"input_ids": tokens, "attention_mask": mask}, {"logits": lambda want: want.logits})  # type: ignore[attr-defined]


class FoldingTrunk(nn.Module):
    """Hugging Face's blocks of ESMFold, under the names that they have in its checkpoint."""

    def __init__(self, config: object, blocks: int) -> None:
        super().__init__()
        self.trunk = nn.Module()
        self.trunk.pairwise_positional_embedding = folding.EsmFoldRelativePosition(config)
        self.trunk.blocks = nn.ModuleList(folding.EsmFoldTriangularSelfAttentionBlock(config) for _ in range(blocks))

    def forward(self, sequence_state: Tensor, pair_state: Tensor, attention_mask: Tensor, residue_index: Tensor) -> tuple[Tensor, Tensor]:
        kept = attention_mask.bool()
        pair_state = pair_state + self.trunk.pairwise_positional_embedding(residue_index, mask=kept)
        for block in self.trunk.blocks:
            sequence_state, pair_state = block(sequence_state, pair_state, mask=kept.float())
        return sequence_state, pair_state


def test_triangles(tmp_path: Path) -> None:
    """Triangle multiplication and attention, both ways, in ESMFold's block."""
    from safetensors.torch import save_file

    config = TrunkConfig(sequence_state_dim=35, pairwise_state_dim=24, sequence_head_width=5, pairwise_head_width=8, position_bins=3)
    reference = FoldingTrunk(config, 2).eval()
    redraw(reference)
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, tmp_path / "model.safetensors")
    pair = variant(tmp_path, "esmfold_trunk", d_model=35, pair_width=24, bins=3, layers=2, block__heads=7, block__pair_heads=3)
    model, params = pair.torch.Model.from_pretrained(tmp_path).eval(), pair.numpy.load(tmp_path)
    for mask in (torch.ones(2, 9, dtype=torch.long), padded(2, 9)):
        inputs = {
            "sequence_state": draws(2, 9, 35),
            "pair_state": draws(2, 9, 9, 24, seed=5),
            "attention_mask": mask,
            "residue_index": torch.arange(9).repeat(2, 1) * 2,
        }
        with torch.no_grad():
            want, got = reference(**inputs), model(**inputs)
        other = pair.numpy.forward(params, **{k: v.numpy() for k, v in inputs.items()})
        kept = mask.bool()
        for result in (got, other):
            check(result.sequence_state, want[0], kept)
            check(result.pair_state, want[1], kept[:, :, None] & kept[:, None])


def parameters(model: str) -> int:
    count: int = json.loads(xfc("info", model, "--format", "json"))["parameters"]
    return count


def test_counts() -> None:
    """At full size: against the classes, and the numbers of table 2 of Transformer-XL and of the abstract of DALL-E."""
    with torch.device("meta"):
        esm = hf.EsmForMaskedLM(
            hf.EsmConfig(
                vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=1280, num_hidden_layers=33, num_attention_heads=20,
                intermediate_size=5120, position_embedding_type="rotary", token_dropout=True, layer_norm_eps=1e-5,
            )
        )  # fmt: skip
        hopper = hf.DecisionTransformerModel(hf.DecisionTransformerConfig(state_dim=11, act_dim=3, bos_token_id=0, eos_token_id=0))
    assert parameters("esm2_t33_650m") == sum(p.numel() for n, p in esm.named_parameters() if "contact_head" not in n)
    assert parameters("decision_transformer_hopper") == sum(p.numel() for n, p in hopper.named_parameters() if not n.endswith("wte.weight"))
    assert round(parameters("transformer_xl_enwik8") / 1e6) == 41
    assert round(parameters("transformer_xl_enwik8_large") / 1e6) == 277
    assert round(parameters("dalle_12b") / 1e9) == 12


# ------------------------------------------------ formulas


def layer_norm(w: Arrays, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def rms_norm(w: Arrays, name: str, x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], w[f"{name}.weight"], 1e-5)


def project(w: Arrays, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[b, t, heads * e] to [b, heads, t, e]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def segments(pair: Pair, folder: Path, calls: list[Tensor], formula: Callable[[Arrays, list[Tensor]], list[Tensor]]) -> None:
    model, params = random_model(pair, folder)
    want = formula(model.state_dict(), calls)
    state = model.init_state(len(calls[0]))  # type: ignore[operator]
    other = pair.numpy.init_state(params, len(calls[0]))
    for tokens, expected in zip(calls, want, strict=True):
        with torch.no_grad():
            check(model(tokens, state=state), expected)
        check(pair.numpy.forward(params, tokens.numpy(), state=other), expected)


def buckets(distance: Tensor) -> Tensor:
    """T5's, of keys that stand before: 16 exact distances, then 16 that grow to 128."""
    far = 16 + (torch.log(distance.clamp(min=1) / 16) / np.log(128 / 16) * 16).long()
    return torch.where(distance < 16, distance, far.clamp(max=31))


def memorizing(w: Arrays, calls: list[Tensor]) -> list[Tensor]:
    """One head of keys and values; the second of three layers sees the 3 most similar of the last 11 keys of the segments before."""
    past_k, past_v, found = torch.zeros(2, 0, 6), torch.zeros(2, 0, 6), []
    for tokens in calls:
        x = w["embed.weight"][tokens]
        t = tokens.shape[1]
        apart = torch.arange(t)[:, None] - torch.arange(t)
        for n in range(3):
            at = f"decoder.layers.{n}"
            y = layer_norm(w, f"{at}.attention_norm", x)
            q = heads_of(project(w, f"{at}.attention.q_proj", y), 4)
            k, v = (project(w, f"{at}.attention.{name}_proj", y) for name in "kv")
            table = w["decoder.recall_bias.table" if n == 1 else "decoder.bias.table"]
            bias = (24 / 4) ** 0.5 * table[buckets(apart.clamp(min=0))].permute(2, 0, 1)
            if n == 1:
                q, k = (
                    functional.normalize(q, dim=-1) * w[f"{at}.attention.log_scale"].exp()[:, None, None],
                    functional.normalize(k, dim=-1),
                )
            else:
                q = q * 6**-0.5
            scores = (q @ k[:, None].mT + bias).masked_fill(apart < 0, -torch.inf)
            values = v[:, None, None].expand(-1, 4, t, -1, -1)
            if n == 1:
                best = (q @ past_k[:, None].mT).topk(min(3, past_k.shape[1]))
                recalled = past_v[:, None, None].expand(-1, 4, t, -1, -1).gather(3, best.indices[..., None].expand(-1, -1, -1, -1, 6))
                scores, values = torch.cat([best.values, scores], -1), torch.cat([recalled, values], -2)
                past_k, past_v = torch.cat([past_k, k], 1)[:, -11:], torch.cat([past_v, v], 1)[:, -11:]
            x = x + project(w, f"{at}.attention.o_proj", merged((scores.softmax(-1)[..., None, :] @ values).squeeze(-2)))
            y = layer_norm(w, f"{at}.ffn_norm", x)
            x = x + project(w, f"{at}.ffn.down_proj", functional.gelu(project(w, f"{at}.ffn.up_proj", y)))
        found.append(project(w, "head", layer_norm(w, "decoder.norm", x)))
    return found


def test_memorizing_transformer(tmp_path: Path) -> None:
    pair = variant(
        tmp_path, "memorizing_transformer", vocab=37, d_model=24, decoder__heads=4, decoder__before=1, decoder__after=1,
        decoder__recall__memory=11, decoder__recall__retrieved=3,
    )  # fmt: skip
    segments(pair, tmp_path, [ids(2, 5, high=37, seed=n) for n in range(4)], memorizing)


def transformer_xl(w: Arrays, calls: list[Tensor], reach: int = 99, furthest: int = 99) -> list[Tensor]:
    """Section 3.3, entry by entry of the distances; a layer remembers its last 7 inputs."""
    past, found = [torch.zeros(2, 0, 24) for _ in range(2)], []
    frequency = 10000.0 ** (-2 * torch.arange(12) / 24)
    for tokens in calls:
        x = w["embed.weight"][tokens] * 24**0.5
        t = tokens.shape[1]
        for n in range(2):
            at = f"decoder.layers.{n}"
            everything = torch.cat([past[n], x], 1)
            past[n] = everything[:, -7:]
            s = everything.shape[1]
            apart = (torch.arange(t)[:, None] + s - t - torch.arange(s)).float()
            waves = apart.clamp(max=furthest)[..., None] * frequency
            r = project(w, f"{at}.attention.distance_proj", torch.cat([waves.sin(), waves.cos()], -1)).unflatten(-1, (3, 8))
            q = project(w, f"{at}.attention.q_proj", x).unflatten(-1, (3, 8))
            k, v = (project(w, f"{at}.attention.{name}_proj", everything).unflatten(-1, (3, 8)) for name in "kv")
            content = torch.einsum("bihe,bjhe->bhij", q + w[f"{at}.attention.content_bias"], k)
            place = torch.einsum("bihe,ijhe->bhij", q + w[f"{at}.attention.distance_bias"], r)
            weights = ((content + place) * 8**-0.5).masked_fill((apart < 0) | (apart >= reach), -torch.inf).softmax(-1)
            y = project(w, f"{at}.attention.o_proj", torch.einsum("bhij,bjhe->bihe", weights, v).flatten(2))
            x = layer_norm(w, f"{at}.attention_norm", x + y)
            y = project(w, f"{at}.ffn.down_proj", functional.relu(project(w, f"{at}.ffn.up_proj", x)))
            x = layer_norm(w, f"{at}.ffn_norm", x + y)
        found.append(x @ w["embed.weight"].T + w["bias"])
    return found


@pytest.mark.parametrize("limits", [{}, {"reach": 7, "furthest": 4}], ids=["far", "limited"])
def test_transformer_xl(tmp_path: Path, limits: dict[str, int]) -> None:
    """As far as the memory goes; or the same number of keys for each query, the distances cut off."""
    pair = variant(
        tmp_path, "transformer_xl_enwik8", vocab=37, d_model=24, decoder__layers=2, decoder__attention__heads=3, decoder__attention__memory=7,
        decoder__ffn__hidden=53, **{f"decoder__attention__{name}": value for name, value in limits.items()},
    )  # fmt: skip
    segments(pair, tmp_path, [ids(2, 5, high=37, seed=n) for n in range(4)], partial(transformer_xl, **limits))


def rotate(x: Tensor, interleaved: bool) -> Tensor:
    """[b, heads, t, e], by complex numbers."""
    e = x.shape[-1]
    angle = torch.arange(x.shape[-2])[:, None] * 10000.0 ** (-2 * torch.arange(e // 2) / e)
    turn = torch.polar(torch.ones_like(angle), angle)
    parts = x.unflatten(-1, (-1, 2)) if interleaved else x.unflatten(-1, (2, -1)).mT
    turned = torch.view_as_real(torch.view_as_complex(parts.contiguous()) * turn)
    return turned.flatten(-2) if interleaved else turned.mT.flatten(-2)


def looked_up(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return merged((q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf).softmax(-1) @ v)


def gated(w: Arrays, at: str, x: Tensor) -> Tensor:
    y = rms_norm(w, f"{at}.ffn_norm", x)
    return x + project(w, f"{at}.ffn.down_proj", functional.silu(project(w, f"{at}.ffn.gate_proj", y)) * project(w, f"{at}.ffn.up_proj", y))


def test_keys_and_values_made_once(tmp_path: Path) -> None:
    """YOCO: the second half of the layers reads one set of keys and values, of what the first half, with windows, computed."""
    pair = variant(
        tmp_path, "yoco_3b", vocab=37, d_model=48, decoder__layers=4, decoder__heads=6, decoder__kv_heads=2, decoder__attention__mask="sliding(3) and padding",
        decoder__ffn__hidden=53,
    )  # fmt: skip
    model, params = random_model(pair, tmp_path)
    w, tokens = model.state_dict(), ids(2, 9, high=37)
    behind = torch.arange(9)[:, None] - torch.arange(9)
    x = w["embed.weight"][tokens] * 48**0.5
    for n in range(2):
        at = f"decoder.own.{n}"
        y = rms_norm(w, f"{at}.attention_norm", x)
        q, k, v = (heads_of(project(w, f"{at}.attention.{name}_proj", y), 6) for name in "qkv")
        y = looked_up(rotate(q, True), rotate(k, True), v, (behind >= 0) & (behind < 3))
        x = gated(w, at, x + project(w, f"{at}.attention.o_proj", y))
    y = rms_norm(w, "decoder.made.norm", x)
    k, v = (heads_of(project(w, f"decoder.made.{name}_proj", y), 2) for name in "kv")
    for n in range(2):
        at = f"decoder.readers.{n}"
        q = heads_of(project(w, f"{at}.attention.q_proj", rms_norm(w, f"{at}.attention_norm", x)), 6)
        y = looked_up(rotate(q, True), rotate(k, True), v, behind >= 0)
        x = gated(w, at, x + project(w, f"{at}.attention.o_proj", y))
    want = project(w, "head", rms_norm(w, "decoder.norm", x))
    with torch.no_grad():
        check(model(tokens), want)
        cache = model.init_cache(2, 9)  # type: ignore[operator]
        check(torch.cat([model(part, cache=cache) for part in tokens.split((4, 1, 3, 1), 1)], 1), want)
    check(pair.numpy.forward(params, tokens.numpy()), want)


def test_cross_layer_attention(tmp_path: Path) -> None:
    """CLA: each layer that makes keys and values is followed by one that reads them."""
    pair = variant(tmp_path, "cla2_decoder", vocab=37, d_model=24, decoder__layers=2, decoder__heads=3, decoder__ffn__hidden=53)
    model, params = random_model(pair, tmp_path)
    w, tokens = model.state_dict(), ids(2, 9, high=37)
    earlier = torch.ones(9, 9, dtype=torch.bool).tril()
    x = w["embed.weight"][tokens]
    for n in range(2):
        maker = f"decoder.layers.{n}"
        y = rms_norm(w, f"{maker}.attention_norm", x)
        k, v = (heads_of(project(w, f"{maker}.made.{name}_proj", y), 1) for name in "kv")
        for at in (maker, f"{maker}.followers.0"):
            q = heads_of(project(w, f"{at}.attention.q_proj", rms_norm(w, f"{at}.attention_norm", x)), 3)
            y = looked_up(rotate(q, False), rotate(k, False), v, earlier)
            x = gated(w, at, x + project(w, f"{at}.attention.o_proj", y))
    want = project(w, "head", rms_norm(w, "decoder.norm", x))
    with torch.no_grad():
        check(model(tokens), want)
    check(pair.numpy.forward(params, tokens.numpy()), want)


def visible(kind: str, words: int, side: int) -> Tensor:
    """Which place sees which: of the text all that is before, of the image by rows, columns or a 3 x 3 square (arXiv:2102.12092, figure 11)."""
    places = [(None, n) for n in range(words)] + [(r, c) for r in range(side) for c in range(side)]
    seen = torch.zeros(len(places), len(places), dtype=torch.bool)
    for i, (row, column) in enumerate(places):
        for j, (other_row, other) in enumerate(places[: i + 1]):
            if row is None or other_row is None:
                seen[i, j] = True
            elif kind == "row":  # back to the same column of the row above
                seen[i, j] = other_row == row or (other_row == row - 1 and other >= column)
            elif kind == "column":
                seen[i, j] = other == column
            else:
                seen[i, j] = row - other_row <= 1 and abs(column - other) <= 1
    return seen


def test_dalle(tmp_path: Path) -> None:
    words, side, text = 5, 4, 17
    pair = variant(
        tmp_path, "dalle_12b", words=words, side=side, text_vocab=text, codes=13, d_model=24, decoder__layers=4, decoder__heads=3,
        decoder__ffn__hidden=53, decoder__last__attention__mask=f"nearby({words}, {side}, width = 3)",
    )  # fmt: skip
    model, params = random_model(pair, tmp_path)
    w = model.state_dict()
    codes = side * side
    tokens = torch.cat([ids(2, words, high=text), text + ids(2, codes, high=13)], 1)
    grid = (w["position.row"][:, None] + w["position.column"]).flatten(0, 1)
    x = w["embed.weight"][tokens] + torch.cat([w["position.word"], grid])
    names = [*(f"decoder.layers.{n}" for n in range(3)), "decoder.last"]
    for at, kind in zip(names, ("row", "column", "row", "square"), strict=True):
        y = layer_norm(w, f"{at}.attention_norm", x)
        q, k, v = (heads_of(project(w, f"{at}.attention.{name}_proj", y), 3) for name in "qkv")
        x = x + project(w, f"{at}.attention.o_proj", looked_up(q, k, v, visible(kind, words, side)))
        y = layer_norm(w, f"{at}.ffn_norm", x)
        x = x + project(w, f"{at}.ffn.down_proj", functional.gelu(project(w, f"{at}.ffn.up_proj", y)))
    x = layer_norm(w, "decoder.norm", x)
    of_text, of_image = project(w, "text_head", x), project(w, "image_head", x)
    with torch.no_grad():
        got = model(tokens)
        loss = model(tokens, labels=tokens)
    for result in (got, pair.numpy.forward(params, tokens.numpy())):
        check(result.text_logits, of_text)
        check(result.image_logits, of_image)
    text_loss = functional.cross_entropy(of_text[:, : words - 1].flatten(0, 1), tokens[:, 1:words].flatten())
    image_loss = functional.cross_entropy(of_image[:, words - 1 : -1].flatten(0, 1), tokens[:, words:].flatten() - text)
    check(loss, text_loss / 8 + image_loss * 7 / 8)
