"""Folders that do not fit: each is refused by the generated PyTorch module, by the NumPy file and by `xfc verify`, with the tensor's name; the
command names the line of the spec too, and nothing is half loaded."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from xfc.backends.numpy import emit as emit_numpy
from xfc.backends.torch import emit as emit_torch
from xfc.backends.verify_checkpoint import check_checkpoint
from xfc.compiler import ir
from xfc.compiler.command_line import xfc as command
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run

MODEL = """
component tiny(layers, hidden)(x: [b, t, d]) -> [b, t, d]:
    layers = layers of routed(hidden)
    return layers(x)

component routed(hidden)(x: [b, t, d]) -> [b, t, d]:
    q = linear(d)
    k = linear(d)
    gate = linear([kinds: 3])
    experts = bank(3, plain(hidden))
    best = top(gate(x), 2, kinds)
    return x + route(q(x) * k(x), experts, best.index, best.values)

model small = causal_lm:
    vocab = 11
    d_model = 6
    tied = true
    decoder = tiny(layers = 2, hidden = 5)

checkpoint huggingface for small:
    "emb" = embed.weight
    "l.{i}.qk" = concat(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight)
    "l.{i}.gate" = decoder.layers.{i}.gate.weight
    "l.{i}.{e}.up" = decoder.layers.{i}.experts.up_proj.weight[{e}]
    "l.{i}.{e}.down" = transpose(decoder.layers.{i}.experts.down_proj.weight[{e}])
    "head" = head.weight or copy(embed.weight)
    ignore "*.freq"
"""
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Made:
    """The program and what it was compiled to."""

    spec: Path
    program: ir.Program
    torch: ModuleType
    numpy: ModuleType


def loaded(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    (folder / "small.xf").write_text(MODEL)
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "small.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    program = run(program)
    (folder / "faults_torch.py").write_text(emit_torch(program))
    (folder / "faults_numpy.py").write_text(emit_numpy(program))
    yield Made(folder / "small.xf", program, loaded(folder / "faults_torch.py"), loaded(folder / "faults_numpy.py"))
    del sys.modules["faults_torch"], sys.modules["faults_numpy"]


def stored() -> Tensors:
    rng = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"emb": (11, 6), "rope.freq": (3,)}
    for i in range(2):
        shapes |= {f"l.{i}.qk": (12, 6), f"l.{i}.gate": (3, 6)}
        shapes |= {f"l.{i}.{e}.up": (5, 6) for e in range(3)} | {f"l.{i}.{e}.down": (5, 6) for e in range(3)}
    found = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return found | {"head": found["emb"].clone()}


def refused(made: Made, folder: Path, named: str, code: str, line: str | None) -> None:
    """By all three, naming the tensor; the command's line is the row's. The model keeps the weights it had."""
    with pytest.raises((ValueError, OSError), match=named):
        made.torch.Model.from_pretrained(folder)
    with pytest.raises((ValueError, OSError), match=named):
        made.numpy.load(folder)
    model = made.torch.Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((ValueError, OSError)):
        made.torch.load_weights(model, folder)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    found = check_checkpoint(made.program, made.numpy.read_arrays, folder).found
    assert {d.code for d in found} == {code}
    first = next(d for d in found if re.search(named, d.message))
    assert first.span is not None
    text = first.span.source.text.splitlines()[first.span.line_column()[0] - 1]
    assert (line or "model small") in text


def test_what_fits_is_loaded(made: Made, tmp_path: Path) -> None:
    save_file(stored(), tmp_path / "model.safetensors")
    model, params = made.torch.Model.from_pretrained(tmp_path), made.numpy.load(tmp_path)
    assert all(torch.equal(value, torch.from_numpy(params[name].copy())) for name, value in model.state_dict().items())
    assert not check_checkpoint(made.program, made.numpy.read_arrays, tmp_path).found
    model.save_pretrained(tmp_path)
    assert not check_checkpoint(made.program, made.numpy.read_arrays, tmp_path).found
    done = CliRunner().invoke(command, ["verify", str(made.spec), "--checkpoint", str(tmp_path)])
    assert done.exit_code == 0, done.output


def nan(tensors: Tensors, name: str) -> None:
    tensors[name].view(-1)[3] = float("nan")


FAULTS: dict[str, tuple[Callable[[Tensors], object], str, str, str | None]] = {
    "missing": (lambda w: w.pop("l.1.gate"), r"l\.1\.gate", "E520", '"l.{i}.gate"'),
    "missing, of a pair": (lambda w: w.pop("l.0.qk"), r"l\.0\.qk", "E520", '"l.{i}.qk"'),
    "missing, of an expert": (lambda w: w.pop("l.1.2.down"), r"l\.1\.2\.down", "E520", '"l.{i}.{e}.down"'),
    "surplus": (lambda w: w.update(more=torch.zeros(2)), "more", "E521", None),
    "surplus, a layer": (lambda w: w.update({"l.2.gate": torch.zeros(3, 6)}), r"l\.2\.gate", "E521", None),
    "misshapen": (lambda w: w.update(emb=torch.zeros(11, 7)), "emb", "E522", '"emb"'),
    "misshapen, swapped": (lambda w: w.update({"l.0.gate": torch.zeros(6, 3)}), r"l\.0\.gate", "E522", '"l.{i}.gate"'),
    "misshapen, transposed": (lambda w: [w.update({f"l.0.{e}.down": torch.zeros(6, 5)}) for e in range(3)], r"l\.0\.0\.down", "E522", '"l.{i}.{e}.down"'),
    "NaN": (lambda w: nan(w, "l.1.qk"), r"l\.1\.qk.* NaN", "E522", '"l.{i}.qk"'),
    "NaN, in an expert": (lambda w: nan(w, "l.0.1.up"), r"l\.0\.1\.up.* NaN", "E522", '"l.{i}.{e}.up"'),
    "type, whole numbers": (lambda w: w.update(emb=w["emb"].to(torch.int64)), "emb.* type", "E522", '"emb"'),
    "type, bool": (lambda w: w.update({"l.0.gate": torch.ones(3, 6, dtype=torch.bool)}), r"l\.0\.gate.* type", "E522", '"l.{i}.gate"'),
    "tied, and unlike": (lambda w: w["head"].add_(1), "head", "E522", '"head"'),
    "tied, of another shape": (lambda w: w.update(head=torch.zeros(11, 5)), "head", "E522", '"head"'),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_tensors_that_do_not_fit(made: Made, tmp_path: Path, fault: str) -> None:
    change, named, code, line = FAULTS[fault]
    tensors = stored()
    change(tensors)
    if fault.startswith("tied"):
        tensors["emb"] = stored()["emb"]
    save_file(tensors, tmp_path / "model.safetensors")
    refused(made, tmp_path, named, code, line)


def test_a_tied_tensor_may_be_missing_and_ignored_ones_may_be_anything(made: Made, tmp_path: Path) -> None:
    tensors = stored()
    del tensors["head"]
    tensors["rope.freq"] = torch.full((4,), float("nan"))
    save_file(tensors, tmp_path / "model.safetensors")
    made.torch.Model.from_pretrained(tmp_path)
    made.numpy.load(tmp_path)
    assert not check_checkpoint(made.program, made.numpy.read_arrays, tmp_path).found


def test_quantised_tensors_are_refused(made: Made, tmp_path: Path) -> None:
    tensors = stored()
    tensors["emb"] = tensors["emb"].to(torch.float8_e4m3fn)
    save_file(tensors, tmp_path / "model.safetensors")
    refused(made, tmp_path, "emb.* type", "E523", None)


# ---------------------------------------------------------------- files


def shards(folder: Path, change: Callable[[dict[str, str]], object] = lambda index: None) -> None:
    """Three shards, and an index as it is changed."""
    tensors = stored()
    index = {name: f"model-{k % 3}.safetensors" for k, name in enumerate(tensors)}
    for file in set(index.values()):
        save_file({n: v for n, v in tensors.items() if index[n] == file}, folder / file)
    change(index)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_a_missing_shard_is_named_with_a_tensor_in_it(made: Made, tmp_path: Path) -> None:
    shards(tmp_path)
    (tmp_path / "model-1.safetensors").unlink()
    refused(made, tmp_path, r"model-1\.safetensors, where its index says that rope\.freq is", "E523", None)


def test_a_tensor_that_its_shard_lacks(made: Made, tmp_path: Path) -> None:
    shards(tmp_path)
    file = tmp_path / f"model-{list(stored()).index('l.1.gate') % 3}.safetensors"
    save_file({n: v for n, v in load_file(file).items() if n != "l.1.gate"}, file)
    refused(made, tmp_path, r"l\.1\.gate", "E520", '"l.{i}.gate"')


def test_a_tensor_in_two_shards(made: Made, tmp_path: Path) -> None:
    shards(tmp_path)
    tensors = {n: v for k, (n, v) in enumerate(stored().items()) if k % 3 == 2}
    save_file(tensors | {"emb": stored()["emb"]}, tmp_path / "model-2.safetensors")
    refused(made, tmp_path, r"has emb, which another file", "E523", None)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "index.json is damaged"),
        ("[]", "index.json is damaged"),
        ("{}", "index.json is damaged"),
        ('{"weight_map": ["model-0.safetensors"]}', "index.json is damaged"),
        ('{"weight_map": {"emb": "../other/model.safetensors"}}', r"emb is in \.\./other"),
        ('{"weight_map": {"emb": "pytorch_model.bin"}}', r"emb is in pytorch_model\.bin"),
        ('{"weight_map": {"emb": 3}}', "emb is in 3"),
    ],
)
def test_a_bad_index(made: Made, tmp_path: Path, text: str, named: str) -> None:
    torch.save({"emb": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refused(made, tmp_path, named, "E523", None)


def header(pairs: list[tuple[str, object]], data: bytes) -> bytes:
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in pairs) + "}"
    text += " " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text.encode() + data


def entry(first: int, last: int, shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape or [(last - first) // 4], "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "damaged"),
        (b"\x80\x04}q\x00X\x03\x00\x00\x00embq\x01." * 9, "damaged"),
        (header([], b"")[:-3], "damaged"),
        (struct.pack("<Q", 4) + b"nope", "damaged"),
        (struct.pack("<Q", 2) + b"[]", "damaged|no tensor|missing"),
        (header([("emb", entry(0, 8)), ("emb", entry(8, 16))], b"\0" * 16), "emb"),
        (header([("emb", entry(0, 8, [3]))], b"\0" * 8), "damaged"),
        (header([("emb", entry(0, 64))], b"\0" * 8), "damaged"),
        (header([("emb", {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]})], b"\0" * 4), "damaged"),
    ],
    ids=["empty", "a pickle", "cut off", "no JSON", "no object", "a name twice", "a wrong shape", "cut off data", "an unknown type"],
)
def test_no_safetensors_file(made: Made, tmp_path: Path, data: bytes, named: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=named):
        made.torch.Model.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=named):
        made.numpy.load(tmp_path)
    assert {d.code for d in check_checkpoint(made.program, made.numpy.read_arrays, tmp_path).found} <= {"E520", "E523"}


@pytest.mark.parametrize("cut", [3, 100, 900, 1500])
def test_truncated_files(made: Made, tmp_path: Path, cut: int) -> None:
    save_file(stored(), tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[:-cut])
    refused(made, tmp_path, "damaged", "E523", None)


def test_what_is_no_file(made: Made, tmp_path: Path) -> None:
    refused(made, tmp_path, r"no model\.safetensors", "E523", None)
    (tmp_path / "model.safetensors").mkdir()
    refused(made, tmp_path, r"no model\.safetensors", "E523", None)
    torch.save(stored(), tmp_path / "pytorch_model.bin")
    refused(made, tmp_path, "pickled", "E523", None)
    refused(made, tmp_path / "nowhere", "nowhere", "E523", None)


def test_the_newest_save_is_read(made: Made, tmp_path: Path) -> None:
    """A model saved into a folder of shards is what the folder holds then."""
    shards(tmp_path)
    model = made.torch.Model()
    model.save_pretrained(tmp_path)
    again = made.torch.Model.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


# ---------------------------------------------------------------- the command


def test_the_command_names_tensors_and_lines(made: Made, tmp_path: Path) -> None:
    tensors = stored()
    nan(tensors, "l.0.gate")
    del tensors["l.1.qk"]
    save_file(tensors, tmp_path / "model.safetensors")
    done = CliRunner().invoke(command, ["verify", str(made.spec), "--checkpoint", str(tmp_path), "--format", "concise"])
    assert done.exit_code == 1
    lines = MODEL.splitlines()
    rows = {name: next(k for k, text in enumerate(lines, 1) if f'"{name}"' in text) for name in ("l.{i}.gate", "l.{i}.qk")}
    assert f"small.xf:{rows['l.{i}.gate']}:" in done.output and "`l.0.gate` holds NaN, 1 of 18 numbers" in done.output
    assert f"small.xf:{rows['l.{i}.qk']}:" in done.output and "`l.1.qk`" in done.output


def test_without_a_map_the_place_is_that_of_the_parameter(tmp_path: Path) -> None:
    spec = tmp_path / "plain.xf"
    spec.write_text("model bare(d = 4)(x: [b, t, d]) -> (y: [b, t, d]):\n    gain = param([d])\n    return x * gain\n")
    save_file({"gain": torch.zeros(5)}, tmp_path / "model.safetensors")
    done = CliRunner().invoke(command, ["verify", str(spec), "--checkpoint", str(tmp_path), "--format", "concise"])
    assert done.exit_code == 1 and "plain.xf:2:" in done.output and "(5,)" in done.output and "`gain`" in done.output
