"""Weights: how they start, and that those which are saved are found again, by both modules, under the published names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfc.backends import interpreter
from xfc.backends.verify_modules import TorchModule

from .executions import Disagreement, Executions

Array = NDArray[Any]


def check_saved(run: Executions, torch_module: ModuleType, numpy_module: ModuleType, folder: Path) -> list[str]:
    found = check_initial(run)
    if run.program.checkpoint or run.seed % 8 == 0:
        found += check_folder(run, torch_module, numpy_module, folder / "weights")
    return found


# ---------------------------------------------------------------- how weights start


def check_initial(run: Executions) -> list[str]:
    """A new module's weights are what each parameter's init says; what is drawn lies where it may."""
    for place in interpreter.places(run.emitted, run.static):
        if place.name not in run.initial:
            continue
        got, init = run.initial[place.name].astype(np.float64), place.param.init
        numbers = [float(n.value(run.static) or 0) for n in init.numbers]
        match init.kind:
            case "table":
                continue  # computed alike in both, as the outputs show
            case "zeros" | "ones" | "constant":
                wanted = {"zeros": 0.0, "ones": 1.0}.get(init.kind, numbers[0] if numbers else 0.0)
                fits = bool(np.allclose(got, wanted, rtol=1e-6))
            case "uniform":
                fits = bool((got >= numbers[0] - 1e-6).all() and (got <= numbers[1] + 1e-6).all()) and _spread(got)
            case _:
                fits = bool((np.abs(got) <= 7 * numbers[0]).all()) and (not numbers[0] or _spread(got))
                if got.size > 30 and numbers[0]:
                    fits = fits and 0.5 < float(np.sqrt(np.mean(got**2))) / numbers[0] < 2
        if not fits:
            raise Disagreement(f"{place.name} starts as {got.reshape(-1)[:4]}, and is {init.kind} of {numbers}")
    return ["initial weights"]


def _spread(got: Array) -> bool:
    return got.size < 2 or len(np.unique(got)) > 1


# ---------------------------------------------------------------- what a folder holds


def check_folder(run: Executions, torch_module: ModuleType, numpy_module: ModuleType, folder: Path) -> list[str]:
    from safetensors.numpy import load_file

    run.torch.model.save_pretrained(folder)  # type: ignore[operator]
    stored = load_file(folder / "model.safetensors")
    for names, array in published(run):
        name = next((n for n in names if n in stored), None)
        if name is None or stored[name].size != array.size or not np.array_equal(stored[name].reshape(-1), array.reshape(-1)):
            raise Disagreement(f"saved, {names[0]}: {'missing' if name is None else 'other numbers'}")
    again = TorchModule.published(torch_module, folder, "float64", run.torch.names)
    state, there = run.torch.state(), again.state()
    arrays = numpy_module.load(folder)
    for name, array in state.items():
        if name not in there or not np.array_equal(there[name], array):
            raise Disagreement(f"torch, saved and loaded: {name}")
    for name, array in run.numpy.params.items():
        if name in arrays and not np.array_equal(arrays[name].reshape(-1), array.reshape(-1)):
            raise Disagreement(f"numpy, loaded: {name}")
    if missing := sorted(set(run.numpy.params) - set(arrays)):
        raise Disagreement(f"numpy, loaded: {missing[0]} is missing")
    return ["published" if run.program.checkpoint else "saved"]


def published(run: Executions) -> Iterator[tuple[tuple[str, ...], Array]]:
    """The tensors that a checkpoint map says are stored, under their names, made of the spec's own weights; all their own without a map."""
    for row in run.emitted.checkpoint:
        if not row.own or row.each is not None:
            continue
        for number in range(64) if any("{" in own for own in row.own) else (0,):
            own = [own.replace("{i}", str(number)) for own in row.own]
            if any("{" in name for name in own) or not all(name in run.params for name in own):
                continue
            groups = int(row.groups.value(run.static) or 1)
            parts = [run.params[name].reshape(groups, -1) for name in own]
            if row.transposed:
                continue
            yield tuple(name.replace("{i}", str(number)) for name in row.published), np.concatenate(parts, axis=1)
