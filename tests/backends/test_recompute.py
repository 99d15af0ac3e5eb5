"""Layers computed again on the way back: the same gradients, less remembered, also compiled; not offered where a layer changes something."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache

DECODER = """
model small = causal_lm:
    vocab = 17
    d_model = 8
    decoder:
        layers = 3
        attention = multi_head(heads = 2)
        ffn = gated(hidden = 12)
"""
CHANGING = """
component counted(x: [b, t, d]) -> [b, t, d]:
    centre = buffer([d], init = zeros)
    next centre = 0.9 * centre + 0.1 * mean(x, [b, t])
    return x - where(training, mean(x, [b, t]), centre)

model small(d = 8)(x: [b, t, d]) -> (y):
    layers = 2 of counted
    return layers(x)
"""
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


def generated(text: str, folder: Path) -> str:
    (folder / "spec.xf").write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    return emit_with_cache(program, torch_backend.emit)[0]


def gradients(model: nn.Module, apply: nn.Module, ids: Tensor) -> list[Tensor]:
    model.zero_grad()
    apply(ids, labels=ids).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def remembered(model: nn.Module, ids: Tensor) -> int:
    """Bytes that a training step keeps for the way back."""
    seen: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(ids, labels=ids)
    return sum(seen.values())


def test_equal_gradients_and_less_remembered(tmp_path: Path) -> None:
    with loaded(generated(DECODER, tmp_path), "recomputed") as module:
        model = module.Model().double().train()
        ids = torch.arange(24).reshape(2, 12) % 17
        wanted, all_of_it = gradients(model, model, ids), remembered(model, ids)
        kept = []
        for every, keep in ((1, ()), (2, ()), (1, PRODUCTS), (0, ())):
            model.recompute_layers(every, keep)
            for a, b in zip(gradients(model, model, ids), wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
            kept.append(remembered(model, ids))
        assert kept[0] < kept[1] < all_of_it == kept[-1]
        model.recompute_layers()
        twin = copy.deepcopy(model)
        assert list(twin.state_dict()) == list(model.state_dict())
        for a, b in zip(gradients(twin, twin, ids), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("keep", [(), PRODUCTS], ids=["all", "products"])
def test_compiled(keep: tuple[object, ...], tmp_path: Path) -> None:
    with loaded(generated(DECODER.replace("layers = 3", "layers = 1"), tmp_path), "recomputed_compiled") as module:
        model = module.Model().double().train()
        ids = torch.arange(24).reshape(2, 12) % 17
        wanted = gradients(model, model, ids)
        model.recompute_layers(1, keep)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        for a, b in zip(gradients(model, compiled, ids), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_not_where_a_layer_changes_a_buffer(tmp_path: Path) -> None:
    assert "recompute_layers" not in generated(CHANGING, tmp_path)
