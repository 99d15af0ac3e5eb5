"""Losses over many classes: the generated code never holds all logits, and gives the loss and the gradients of the plain formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from xfc.backends import torch as torch_backend
from xfc.backends.torch import chunk_losses
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run as run_passes

CLASSES = 4099

DECODER = f"""
model small = causal_lm:
    vocab = {CLASSES}
    d_model = 6
    {{more}}
    decoder.layers = 1
    decoder.attention = multi_head(heads = 2)
    decoder.ffn = gated(hidden = 7)
"""

TAGGER = f"""
model tagger(width = 6)(input_ids: [b, t] int in 11, labels: [b, t] int = none) -> (logits: [b, t, classes: {CLASSES}]):
    embed = embedding(11, width)
    head = linear([classes: {CLASSES}], bias = true)
    logits = head(embed(input_ids))
    loss tags = cross_entropy(logits, labels, over = classes)
    return logits
"""

COPIER = f"""
model copier(vocab = {CLASSES}, width = 6)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, width)
    logits = einsum(embed(input_ids), embed.weight, over = width)
    loss tokens = cross_entropy(logits, labels, over = vocab)
    return logits
"""


def generated(text: str, folder: Path) -> str:
    path = folder / "spec.xf"
    path.write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    return torch_backend.emit(run_passes(program))


def compared(model: nn.Module, ids: Tensor, labels: Tensor, shift: int) -> None:
    """Loss and gradients against those of the whole logits."""
    loss = model(ids, labels=labels)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = model(ids)
    plain = functional.cross_entropy(logits[:, : logits.shape[1] - shift].flatten(0, 1), labels[:, shift:].flatten())
    plain.backward()
    torch.testing.assert_close(loss, plain, rtol=1e-12, atol=0)
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-9, atol=1e-12, msg=name)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, labels=labels), plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("more", ["tied = true", "tied = false", "tied = true\n    head_bias = true", "head_bias = true"])
def test_next_tokens(more: str, tmp_path: Path) -> None:
    code = generated(DECODER.format(more=more), tmp_path)
    assert f"{'biased' if 'head_bias' in more else 'linear'}_cross_entropy(x[:, :-1]" in code
    with loaded(code, "chunked_decoder") as module:
        torch.manual_seed(1)
        ids = torch.randint(0, CLASSES, (3, 200))
        labels = torch.where(torch.rand(3, 200) < 0.2, -100, ids)
        compared(module.Model().double(), ids, labels, 1)


def test_every_token(tmp_path: Path) -> None:
    code = generated(TAGGER, tmp_path)
    assert "return biased_cross_entropy(" in code
    with loaded(code, "chunked_tagger") as module:
        ids = torch.randint(0, 11, (2, 150), generator=torch.Generator().manual_seed(1))
        compared(module.Model().double(), ids, ids * 300, 0)


def test_every_token_by_the_embedding(tmp_path: Path) -> None:
    """Nothing stands between the map and the loss: the loss takes the place of one node."""
    code = generated(COPIER, tmp_path)
    assert "return linear_cross_entropy(" in code
    with loaded(code, "chunked_copier") as module:
        ids = torch.randint(0, CLASSES, (2, 150), generator=torch.Generator().manual_seed(1))
        compared(module.Model().double(), ids, ids, 0)


def test_a_scale_of_the_output_scales_the_gradient(tmp_path: Path) -> None:
    with loaded(generated(TAGGER, tmp_path), "chunked_scaled") as module:
        model = module.Model()
        ids = torch.arange(11)[None]
        model(ids, labels=ids).backward()
        once = model.head.weight.grad.clone()
        (3 * model(ids, labels=ids)).backward()
        torch.testing.assert_close(model.head.weight.grad, 4 * once)


def test_few_classes_stay_plain(tmp_path: Path) -> None:
    code = generated(TAGGER.replace(str(CLASSES), str(chunk_losses.MANY - 1)), tmp_path)
    assert "F.cross_entropy" in code
    assert "linear_cross_entropy" not in code


@pytest.mark.slow
def test_it_compiles_as_one_graph(tmp_path: Path) -> None:
    with loaded(generated(TAGGER, tmp_path), "chunked_compiled") as module:
        model = module.Model()
        ids = torch.randint(0, 11, (2, 300), generator=torch.Generator().manual_seed(1))
        plain = model(ids, labels=ids)
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(ids, labels=ids), plain)


def test_the_last_logits_alone(tmp_path: Path) -> None:
    normed = TAGGER.replace("    head =", "    norm = rms_norm()\n    head =").replace(
        "head(embed(input_ids))", "head(norm(embed(input_ids)))"
    )
    for name, text in (("plain", TAGGER), ("normed", normed)):
        with loaded(generated(text, tmp_path), f"chunked_last_{name}") as module:
            model, ids = module.Model(), torch.arange(11)[None]
            last = model(ids, logits_to_keep=1)
            assert last.shape == (1, 1, CLASSES)
            torch.testing.assert_close(last, model(ids)[:, -1:])
