"""Loading in generated files: published and own names, shards, dtypes, and what is said of folders that do not fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xfc.backends.numpy import emit as emit_numpy
from xfc.backends.torch import emit as emit_torch
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run

MODEL = """
component block(heads, hidden)(x: [b, t, d]) -> [b, t, d]:
    q = linear([heads, e: d / heads])
    k = linear([heads, e: d / heads], bias = true)
    ffn = bank(3, gated(hidden))
    scores = param([3, d])
    a = mean(q(x) * k(x), e)
    return x * mean(a, heads) + route(x, ffn, top(einsum(x, scores, over = d), 2, 3).index, top(einsum(x, scores, over = d), 2, 3).values)

component tiny(layers, heads, hidden)(x: [b, t, d]) -> [b, t, d]:
    layers = layers of block(heads, hidden)
    return layers(x)

model m = causal_lm:
    vocab = 11
    d_model = 6
    decoder = tiny(layers = 3, heads = 2, hidden = 5)

checkpoint huggingface for m:
    "[model.]emb" = embed.weight
    "l.{i}.qk" = interleave(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight, by = heads)
    "l.{i}.kb" = decoder.layers.{i}.k.bias
    "l.{i}.score" = transpose(decoder.layers.{i}.scores)
    "l.{i}.{e}.gate" = decoder.layers.{i}.ffn.gate_proj.weight[{e}]
    "l.{i}.up" = transpose(decoder.layers.{i}.ffn.up_proj.weight)
    "l.{i}.down" = decoder.layers.{i}.ffn.down_proj.weight
    "head" = head.weight
    ignore "*.freq"
"""


def load_module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    folder = tmp_path_factory.mktemp("made")
    (folder / "m.xf").write_text(MODEL, encoding="utf-8")
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "m.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    program = run(program)
    (folder / "load_torch.py").write_text(emit_torch(program), encoding="utf-8")
    (folder / "load_numpy.py").write_text(emit_numpy(program), encoding="utf-8")
    yield load_module(folder / "load_torch.py"), load_module(folder / "load_numpy.py")
    del sys.modules["load_torch"], sys.modules["load_numpy"]


def published() -> dict[str, torch.Tensor]:
    """A checkpoint, and by the reading of the rows' words, what `own` makes of it."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"model.emb": (11, 6), "head": (11, 6), "rope.freq": (3,)}
    for i in range(3):
        shapes |= {f"l.{i}.qk": (12, 6), f"l.{i}.kb": (6,), f"l.{i}.score": (6, 3), f"l.{i}.up": (3, 6, 5), f"l.{i}.down": (3, 6, 5)}
        shapes |= {f"l.{i}.{e}.gate": (5, 6) for e in range(3)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def expected(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {"embed.weight": stored["model.emb"], "head.weight": stored["head"]}
    for i in range(3):
        layer = f"decoder.layers.{i}."
        qk = stored[f"l.{i}.qk"].reshape(2, 2, 3, 6)  # [heads, q or k, e, d]
        found[layer + "q.weight"], found[layer + "k.weight"] = qk[:, 0].reshape(6, 6), qk[:, 1].reshape(6, 6)
        found[layer + "k.bias"] = stored[f"l.{i}.kb"]
        found[layer + "scores"] = stored[f"l.{i}.score"].T
        found[layer + "ffn.gate_proj.weight"] = torch.stack([stored[f"l.{i}.{e}.gate"] for e in range(3)])
        found[layer + "ffn.up_proj.weight"] = stored[f"l.{i}.up"].transpose(1, 2)
        found[layer + "ffn.down_proj.weight"] = stored[f"l.{i}.down"]
    return found


def read(files: tuple[ModuleType, ModuleType], folder: Path) -> list[dict[str, np.ndarray[Any, Any]]]:
    """What both files make of a folder."""
    model = files[0].Model.from_pretrained(folder)
    return [{n: v.float().numpy() for n, v in model.state_dict().items()}, files[1].load(folder)]


def agree(found: dict[str, np.ndarray[Any, Any]], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name].reshape(value.shape), value.float().numpy(), err_msg=name)


def test_published_names(files: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    save_file(published(), tmp_path / "model.safetensors")
    for found in read(files, tmp_path):
        agree(found, expected(published()))


def test_other_spelling(files: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    save_file({n.removeprefix("model."): v for n, v in published().items()}, tmp_path / "model.safetensors")
    for found in read(files, tmp_path):
        agree(found, expected(published()))


def test_shards(files: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    weights = published()
    shard = {name: f"model-{k % 3}.safetensors" for k, name in enumerate(weights)}
    for file in set(shard.values()):
        save_file({n: v for n, v in weights.items() if shard[n] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard}))
    for found in read(files, tmp_path):
        agree(found, expected(weights))
    (tmp_path / "model-1.safetensors").unlink()
    for load in loaders(files):
        with pytest.raises(FileNotFoundError, match=r"model-1\.safetensors"):
            load(tmp_path)


def test_own_names_and_saving_over_what_was_loaded(files: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    save_file(published(), tmp_path / "model.safetensors")
    model = files[0].Model.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    for found in read(files, tmp_path):
        agree(found, expected(published()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_are_kept_or_widened(files: tuple[ModuleType, ModuleType], tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {n: v.to(dtype) for n, v in published().items()}
    save_file(weights, tmp_path / "model.safetensors")
    model = files[0].Model.from_pretrained(tmp_path)
    assert {v.dtype for v in model.state_dict().values()} == {dtype}
    found = files[1].load(tmp_path)
    assert {v.dtype for v in found.values()} == {np.dtype(np.float64 if dtype is torch.float64 else np.float32)}
    agree({n: v.astype(np.float32) for n, v in found.items()}, expected(weights))


def loaders(files: tuple[ModuleType, ModuleType]) -> list[Callable[[Path], object]]:
    return [files[0].Model.from_pretrained, files[1].load]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("l.1.qk"), r"l\.1\.qk is missing"),
        (lambda w: w.pop("l.2.1.gate"), r"l\.2\.1\.gate is missing"),
        (lambda w: w.pop("model.emb"), r"model\.emb is missing"),
        (lambda w: w.update(more=torch.zeros(1)), "more is not a tensor of this model"),
        (lambda w: w.update({"l.3.kb": torch.zeros(6)}), r"l\.3\.kb is not a tensor of this model"),
        (lambda w: w.update(head=torch.zeros(11, 7)), r"head has shape \(11, 7\)"),
        (lambda w: w.update(head=torch.zeros(6, 11)), r"head has shape \(6, 11\)"),
        (lambda w: w.update({"l.0.score": torch.zeros(3, 6)}), r"l\.0\.score has shape"),
        (lambda w: w.update({"l.0.qk": torch.zeros(12, 7)}), r"l\.0\.qk has shape"),
        (lambda w: w.update({"l.0.2.gate": torch.zeros(5, 7)}), r"l\.\{i\}\.\{e\}\.gate differs"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(
    files: tuple[ModuleType, ModuleType], tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    weights = published()
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    for load in loaders(files):
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_cut_off_file(files: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    save_file(published(), tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    for length in (0, 5, 100, len(data) - 3):
        (tmp_path / "model.safetensors").write_bytes(data[:length])
        for load in loaders(files):
            with pytest.raises(ValueError, match="damaged"):
                load(tmp_path)


def test_pickled_checkpoints_are_refused(files: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "pytorch_model.bin")
    for load in loaders(files):
        with pytest.raises(FileNotFoundError, match="pickled"):
            load(tmp_path)
