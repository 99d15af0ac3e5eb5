"""A model that is built starts as its spec says: every parameter of every shipped spec and of every one of tests/open, against the IR's `Init`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import torch as torch_backend
from xfc.backends.interpreter.execute import evaluate_region
from xfc.backends.interpreter.parameters import Assignment, Place, places
from xfc.backends.python.name_parameters import generated_names
from xfc.backends.verify import ENOUGH, parameter_count
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import shrink, unshrunk
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.library import shipped_models
from xfc.compiler.pipeline import run

OPEN = Path(__file__).resolve().parent.parent / "open"
LAST = {path: name for name, path in shipped_models().items()}
SPECS = [*sorted(LAST.values()), *sorted(str(path) for path in OPEN.glob("*.xf"))]


def program_of(name: str) -> Program:
    diagnostics = Diagnostics()
    program = elaborate_file(name, [], diagnostics)
    assert program is not None and not diagnostics.failed, diagnostics.found
    return program


def wrong_starts(program: Program) -> list[str]:
    """What a model, built small, starts otherwise than the spec says."""
    small = shrink(program) if parameter_count(program) > ENOUGH else unshrunk(program)
    emitted = run(small.program)
    renamed = generated_names(emitted)
    with loaded(torch_backend.emit(emitted), "starting") as module:
        torch.manual_seed(0)
        model = module.Model(module.Config(**small.config()))
        state = {
            n: v.detach().numpy()
            for n, v in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
        }
        with torch.device("meta"):
            on_meta = {n: tuple(v.shape) for n, v in module.Model(module.Config(**small.config())).state_dict().items()}
    assert on_meta == {n: tuple(v.shape) for n, v in model.state_dict().items()}
    places_of = list(places(renamed, small.under))
    assert set(state) == {p.name for p in places_of}
    return [f"{p.name} is not {p.param.init.kind}: {why}" for p in places_of if (why := _unlike(state[p.name], p, small.under))]


def _unlike(found: np.ndarray, place: Place, under: Assignment) -> str:
    init = place.param.init
    numbers = [float(n.value(under) or 0) for n in init.numbers]
    if not found.size:
        return ""
    match init.kind:
        case "zeros" | "ones" | "constant":
            want = {"zeros": 0.0, "ones": 1.0}.get(init.kind, *numbers)
            return "" if np.allclose(found, want, rtol=1e-6) else f"{found.ravel()[:3]} for {want}"
        case "normal":
            std = numbers[0]
            near = abs((found**2).mean() - std**2) <= 5 * std**2 * math.sqrt(2 / found.size)
            return "" if near and abs(found.mean()) <= 5 * std / math.sqrt(found.size) else f"{found.std()} for {std}"
        case "uniform":
            low, high = numbers
            inside = low <= found.min() and found.max() <= high
            middle = abs(found.mean() - (low + high) / 2) <= 5 * (high - low) / math.sqrt(12 * found.size)
            return "" if inside and middle and (found.size < 2 or found.std()) else f"{found.min()} to {found.max()}"
        case "table":
            assert init.table is not None
            table = evaluate_region(init.table, dtype=np.dtype("float32"), under=under)
            shape = place.shape(under)
            return _unlike_table(found, np.broadcast_to(table.array, shape))


def _unlike_table(found: np.ndarray, want: np.ndarray) -> str:
    return "" if np.allclose(found.reshape(-1), want.reshape(-1), rtol=1e-4, atol=1e-5) else f"{found.ravel()[:3]} for {want.ravel()[:3]}"


@pytest.mark.parametrize("name", SPECS, ids=lambda name: Path(name).stem)
def test_starts_as_the_spec_says(name: str) -> None:
    assert not wrong_starts(program_of(name))


EVERY_KIND = """
component block(std)(x: [b, t, d]) -> [b, t, d]:
    norm = rms_norm()
    first = linear(d, init = normal(0.02))
    zero = linear(d, init = zeros, bias = true)
    wide = linear(d, init = normal(std / d ^ 0.5))
    return x + zero(first(norm(x))) + wide(x)

component gain(x: [..., d]) -> [..., d]:
    weight = param([d], init = 0.25)
    return x * rsqrt(mean(x * x, d) + 1e-6) * weight

component offset(x: [..., d]) -> [..., d]:
    weight = param([d', d], init = uniform(0.5, 1.5))
    bias = param([d'], init = -2.0)
    return rename(einsum(x, weight, over = d) + bias, d' = d)

component placed(x: [..., d]) -> [..., d]:
    weight = param([d', d], init = where(index(d') == index(d), 1.0, 0.0))
    return rename(einsum(x, weight, over = d), d' = d)

component expert(x: [..., d]) -> [..., d]:
    gain = param([d], init = ones)
    up = linear(d, init = uniform(-0.5, 0.5))
    down = linear(d, init = zeros, bias = true)
    return x * gain + down(up(x))

model kinds(vocab = 50, d_model = 16, experts = 4)(ids: [b, t] int in vocab, places: [b, t] int in vocab) -> (y):
    embed = embedding(vocab, d_model)
    place = embedding(vocab, d_model, init = normal(1.0))
    third = embedding(vocab, d_model)
    first = block(0.5)
    second = block(2.0)
    gains = gain()
    zeroed = linear(d_model, init = zeros)
    offset = offset()
    same = placed()
    layers = 3 of linear(d_model, init = uniform(-0.1, 0.1))
    mixed = 4 of [linear(d_model), linear(d_model, init = zeros), linear(d_model, init = normal(3.0))]
    many = bank(experts, expert())
    plain = bank(experts, linear(d_model, init = normal(0.5)))
    x = embed(ids) + place(places) + third(ids)
    x = mean(plain(many(expand(x, experts))), experts)
    return same(offset(mixed(layers(zeroed(gains(second(first(x))))))))
"""


def test_what_differs_from_others_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "kinds.xf"
    path.write_text(EVERY_KIND)
    assert not wrong_starts(program_of(str(path)))


NO_COMMON_RULE = """
model scaled(vocab = 50, d_model = 16, std = 0.3)(ids: [b, t] int in vocab) -> (y):
    embed = embedding(vocab, d_model, init = normal(std))
    up = linear(d_model, init = normal(std / d_model ^ 0.5), bias = true)
    down = linear(d_model, init = uniform(-std, std), bias = true)
    return down(up(embed(ids)))
"""


def test_where_every_weight_starts_by_the_config(tmp_path: Path) -> None:
    """No rule of their kind starts them, nor their biases."""
    path = tmp_path / "scaled.xf"
    path.write_text(NO_COMMON_RULE)
    assert not wrong_starts(program_of(str(path)))
