"""Generated modules against Hugging Face's own classes: config imported, checkpoint loaded by its published names, outputs within 1e-4 at float32."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from xfc.backends.verify_checkpoint import check_checkpoint
from xfc.compiler.command_line import xfc as command
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.pipeline import run

from .families import FAMILIES, INPUTS, build, save

TOLERANCE = 1e-4


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


def primary(result: object) -> object:
    return getattr(result, "logits", getattr(result, "logits_per_image", result))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, torch.nn.Module, Path]:
    """A family with its reference model, saved, imported and compiled for both targets."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    reference = build(FAMILIES[name])
    save(reference, folder)
    xfc("import", folder / "config.json", "-o", folder / f"{name}.yaml")
    xfc("check", folder / f"{name}.yaml")
    for target in ("torch", "numpy"):
        xfc("compile", folder / f"{name}.yaml", "--target", target, "-o", folder / f"{name}_{target}.py")
    return name, reference, folder


def expected(reference: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return primary(reference(**inputs))  # type: ignore[return-value]


def difference(got: np.ndarray, want: torch.Tensor, inputs: dict[str, torch.Tensor]) -> float:
    gap = np.abs(np.asarray(got, dtype=np.float64) - want.double().numpy())
    mask = inputs.get("attention_mask")
    if mask is not None and "decoder_input_ids" not in inputs and want.shape[: mask.dim()] == mask.shape:
        gap = gap[mask.numpy() != 0]
    return float(gap.max())


def test_torch(case: tuple[str, torch.nn.Module, Path]) -> None:
    name, reference, folder = case
    model = load_module(folder / f"{name}_torch.py").Model.from_pretrained(folder).eval()
    for kind in FAMILIES[name].inputs:
        inputs = INPUTS[kind](FAMILIES[name])
        with torch.no_grad():
            got = primary(model(**inputs))
        assert difference(got.numpy(), expected(reference, inputs), inputs) < TOLERANCE, kind


def test_numpy(case: tuple[str, torch.nn.Module, Path]) -> None:
    name, reference, folder = case
    module = load_module(folder / f"{name}_numpy.py")
    params = module.load(folder)
    for kind in FAMILIES[name].inputs:
        inputs = INPUTS[kind](FAMILIES[name])
        got = primary(module.forward(params, **{k: v.numpy() for k, v in inputs.items()}))
        assert difference(got, expected(reference, inputs), inputs) < TOLERANCE, kind


def test_published_folders_fit(case: tuple[str, torch.nn.Module, Path]) -> None:
    """What `xfc verify --checkpoint` holds a folder to, tied weights included."""
    name, _, folder = case
    program = elaborate_file(str(folder / f"{name}.yaml"), [], Diagnostics())
    assert program is not None
    assert not check_checkpoint(run(program), load_module(folder / f"{name}_numpy.py").read_arrays, folder).found


def test_loss(case: tuple[str, torch.nn.Module, Path]) -> None:
    """`labels` gives Hugging Face's loss, shifted inside for causal models."""
    name, reference, folder = case
    family = FAMILIES[name]
    model = load_module(folder / f"{name}_torch.py").Model.from_pretrained(folder).eval()
    inputs = INPUTS[family.inputs[0]](family)
    logits = expected(reference, inputs)
    classes = logits.shape[-1]
    labels = torch.randint(0, classes, logits.shape[:-1], generator=torch.Generator().manual_seed(5))
    if labels.dim() > 1:
        labels[:, :3] = -100
    given: dict[str, torch.Tensor] = {"labels": labels}
    if "return_loss" in family.extra:  # contrastive: text n belongs to image n
        given, labels = {}, torch.arange(classes)
    if "labels" not in inspect.signature(model.forward).parameters:
        pytest.skip("this spec leaves the loss to the caller")
    with torch.no_grad():
        want, got = reference(**inputs, **given, **family.extra).loss, model(**inputs, labels=labels)
    assert torch.allclose(got, want, atol=1e-4), (got, want)


def test_own_checkpoint(case: tuple[str, torch.nn.Module, Path], tmp_path: Path) -> None:
    name, _, folder = case
    module = load_module(folder / f"{name}_torch.py")
    model = module.Model.from_pretrained(folder).eval()
    model.save_pretrained(tmp_path)
    again = module.Model.from_pretrained(tmp_path).eval()
    for (key, one), (other, two) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert key == other and torch.equal(one, two)
