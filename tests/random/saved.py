"""Weights: how they start, and that those which are saved are found again, by both modules, under the published names."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

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
    """What a module saves, and what is published under the names of a checkpoint map, both modules load."""
    run.torch.model.save_pretrained(folder)  # type: ignore[operator]
    found = ["saved"]
    check_loaded(run, torch_module, numpy_module, folder)
    if run.program.checkpoint and (arrays := published(run)):
        folder = folder.with_name("published")
        folder.mkdir(exist_ok=True)
        save_file(arrays, folder / "model.safetensors")
        check_loaded(run, torch_module, numpy_module, folder)
        found.append("published")
    return found


def check_loaded(run: Executions, torch_module: ModuleType, numpy_module: ModuleType, folder: Path) -> None:
    state = run.torch.state()
    there = TorchModule.published(torch_module, folder, "float64", run.torch.names).state()
    arrays = numpy_module.load(folder)
    for name, array in state.items():
        if name not in there or not np.array_equal(there[name], array):
            raise Disagreement(f"torch, {folder.name} weights loaded: {name}")
    for name, array in run.numpy.params.items():
        if name not in arrays or not np.array_equal(arrays[name].reshape(-1), array.reshape(-1)):
            raise Disagreement(f"numpy, {folder.name} weights loaded: {name}")


def published(run: Executions) -> dict[str, Array]:
    """The tensors that a checkpoint map says are stored, under one of their names, made of the spec's own weights."""
    found: dict[str, Array] = {}
    layers = sorted({tuple(part for part in name.split(".") if part.isdigit()) for name in run.params})
    for row in run.emitted.checkpoint:
        letters = dict.fromkeys(re.findall(r"\{(\w)\}", " ".join(row.own)))
        for numbers in layers:
            slots = dict(zip(letters, numbers, strict=False))
            own = [_filled(name, slots) for name in row.own]
            if len(slots) < len(letters) or not own or not all(name in run.params for name in own):
                continue
            for expert in range(len(run.params[own[0]]) if row.each else 1):
                parts = [run.params[name][expert] if row.each else run.params[name] for name in own]
                array = np.concatenate(parts) if len(parts) > 1 else parts[0]
                name = row.published[run.seed % len(row.published)]
                name = _filled(name, {**slots, row.each: str(expert)} if row.each else slots)
                found[name] = np.ascontiguousarray(array.T if row.transposed else array)
    return found


def _filled(name: str, slots: dict[str, str]) -> str:
    for letter, number in slots.items():
        name = name.replace(f"{{{letter}}}", number)
    return name
