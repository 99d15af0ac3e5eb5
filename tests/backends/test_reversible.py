"""Layers gone back through: the gradients of autograd with memory that does not grow with depth; only where a layer's inputs follow from what it gives."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from xfc.backends.verify_modules import loaded

from .test_recompute import generated

MODEL = """
component coupled(attention, ffn, norm, rate = 0.0)(y: [b, t, d], x: [b, t, d]) -> (y: [b, t, d], x: [b, t, d]):
    attention_norm = norm
    attention = attention
    ffn_norm = norm
    ffn = ffn
    {body}

component streams(blocks)(x: [b, t, d]) -> [b, t, d]:
    layers = blocks
    y, x = layers(x, x)
    return y + x

model small = causal_lm:
    vocab = 17
    d_model = 8
    decoder = streams(blocks = {layers} of coupled(attention = multi_head(heads = 2, rotate = rope), ffn = gated(hidden = 12), norm = rms_norm(eps = 1e-5),
        rate = {rate}))
"""
COUPLED = """y = y + dropout(attention(attention_norm(x)), rate)
    return y, x + dropout(ffn(ffn_norm(y)), rate)"""
TURNING = """
component turned(y: [b, t, d], x: [b, t, d], turn: [sets, d]) -> (y: [b, t, d], x: [b, t, d], turn: [sets, d]):
    first = linear(d)
    second = linear(d)
    row = turn[sets = 0]
    y = y + tanh(first(x)) * row
    return y, x + second(y) * sigmoid(row), roll(turn, -1, sets)

model turning(d = 6, sets = 3)(x: [b, t, d]) -> (z):
    table = param([sets, d], init = normal(1.0))
    layers = 5 of turned
    y, z, turn = layers(x, x, table)
    return y + z * turn[sets = 1]
"""


def spec(body: str = COUPLED, layers: int = 4, rate: float = 0.0) -> str:
    return MODEL.format(body=body, layers=layers, rate=rate)


def gradients(model: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    model(**given).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys() and one
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_gradients_are_those_of_autograd(rate: float, tmp_path: Path) -> None:
    with loaded(generated(spec(rate=rate), tmp_path), "coupled_layers") as module:
        torch.manual_seed(0)
        model = module.Model().double().train()
        ids = torch.randint(17, (2, 7))
        given = {"input_ids": ids, "labels": ids}
        plain = gradients(model, given)
        model.reverse_layers()
        same(plain, gradients(model, given))
        given["attention_mask"] = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7])
        masked = gradients(model, given)
        model.reverse_layers(False)
        same(gradients(model, given), masked)


ROWS = """
component hidden(size, rate)(x: [..., d]) -> [..., d]:
    up = linear(size)
    down = linear(d)
    return down(dropout(relu(up(x)), rate))

component coupled(size, rate)(y: [b, t, d], x: [b, t, d]) -> (y: [b, t, d], x: [b, t, d]):
    first = hidden(size, rate)
    second = hidden(size, rate)
    y = y + first(x)
    return y, x + second(y)

model rows(d = 3)(x: [b, t, d]) -> (z):
    layers = 3 of coupled(size = 8, rate = 0.5)
    y, z = layers(x, x)
    return y + z
"""


def test_what_is_dropped_is_the_same_on_both_ways(tmp_path: Path) -> None:
    """Also where long sequences go in parts if nobody asks for gradients."""
    source = generated(ROWS, tmp_path)
    assert "@by_rows" in source
    with loaded(source, "long_rows") as module:
        torch.manual_seed(0)
        model = module.Model().double().train()
        x = torch.randn(1, 5000, 3, dtype=torch.double)
        plain = gradients(model, {"x": x})
        model.reverse_layers()
        same(plain, gradients(model, {"x": x}))


def test_what_else_layers_hand_on(tmp_path: Path) -> None:
    """A third value that each layer changes, and that takes gradients."""
    with loaded(generated(TURNING, tmp_path), "turning_layers") as module:
        torch.manual_seed(0)
        model = module.Model().double().train()
        x = torch.randn(2, 3, 6, dtype=torch.double, requires_grad=True)
        plain = gradients(model, {"x": x})
        own, x.grad = x.grad, None
        assert "table" in plain
        model.reverse_layers()
        same(plain, gradients(model, {"x": x}))
        torch.testing.assert_close(x.grad, own, rtol=1e-8, atol=1e-10)


def test_two_calls_before_the_way_back_and_frozen_weights(tmp_path: Path) -> None:
    with loaded(generated(spec(), tmp_path), "two_calls") as module:
        torch.manual_seed(0)
        model = module.Model().double().train()
        for name, p in model.named_parameters():
            p.requires_grad_("ffn" not in name)
        one, two = torch.randint(17, (1, 5)), torch.randint(17, (2, 6))

        def both() -> dict[str, Tensor]:
            model.zero_grad()
            first, second = model(one, labels=one), model(two, labels=two)
            (first * 2 + second).backward()
            return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

        plain = both()
        assert not any("ffn.up" in n for n in plain)
        model.reverse_layers()
        same(plain, both())


def test_nothing_changes_without_gradients_and_with_a_cache(tmp_path: Path) -> None:
    with loaded(generated(spec(), tmp_path), "calls") as module:
        torch.manual_seed(0)
        model = module.Model().double().eval()
        ids = torch.randint(17, (2, 6))
        wanted = model(ids)
        model.reverse_layers()
        torch.testing.assert_close(model(ids), wanted, rtol=0, atol=1e-12)
        with torch.no_grad():
            cache = model.init_cache(2, 8)
            steps = [model(ids[:, a : a + 2], cache=cache) for a in (0, 2, 4)]
        torch.testing.assert_close(torch.cat(steps, 1), wanted, rtol=1e-10, atol=1e-10)
        loss = model(ids, labels=ids)
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="goes back once"):
            loss.backward()


def held(model: Any, ids: Tensor) -> int:
    """Bytes of what a call keeps for the way back, whoever keeps it."""

    def tensors() -> dict[int, int]:
        found = (x.untyped_storage() for x in gc.get_objects() if type(x) in (Tensor, torch.nn.Parameter))
        return {s.data_ptr(): s.nbytes() for s in found}

    before = tensors()
    with torch.autograd.graph.saved_tensors_hooks(Tensor.detach, lambda x: x):  # what autograd keeps is then an object of Python too
        loss = model(ids, labels=ids)
    gc.collect()
    found = tensors()
    assert loss.requires_grad
    return sum(size for place, size in found.items() if place not in before)


def test_memory_does_not_grow_with_depth(tmp_path: Path) -> None:
    sizes: dict[tuple[int, bool], int] = {}
    for layers in (2, 12):
        with loaded(generated(spec(layers=layers), tmp_path), f"depth_{layers}") as module:
            model = module.Model().train()
            ids = torch.randint(17, (4, 1000))
            sizes[layers, False] = held(model, ids)
            model.reverse_layers()
            sizes[layers, True] = held(model, ids)
    stream = 4 * 1000 * 8 * 4
    assert sizes[12, True] - sizes[2, True] < stream  # ten layers more: less than one tensor of a layer (states of the generator)
    assert sizes[12, False] - sizes[2, False] > 100 * stream


@pytest.mark.parametrize(
    "body",
    [
        "y = y + attention(attention_norm(x + y))\n    return y, x + dropout(ffn(ffn_norm(y)), rate)",  # reads its own stream
        "z = attention(attention_norm(x))\n    return y + z, x + dropout(ffn(ffn_norm(z)), rate)",  # of what is added, not of what y became
        "y = 2.0 * y + attention(attention_norm(x))\n    return y, x + dropout(ffn(ffn_norm(y)), rate)",
        "z = y + attention(attention_norm(x))\n    return x + dropout(ffn(ffn_norm(z)), rate), z",  # the streams change places
    ],
)
def test_not_offered_where_nothing_can_be_computed_back(body: str, tmp_path: Path) -> None:
    source = generated(spec(body), tmp_path)
    assert "reverse_layers" not in source and "added_first" not in source
    assert "def recompute_layers" in source
