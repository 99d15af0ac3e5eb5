"""Inputs to compare backends on: random within each input's bound, with the optional ones left out and given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.dims import Expr, Sym
from ..compiler.ir import ModelInput, Program

Array = NDArray[Any]
Inputs = dict[str, Array]


def input_sets(program: Program, under: Mapping[Sym, int | float], seed: int) -> dict[str, Inputs]:
    """Named sets: `required` alone; `padded`, with every mask input given and some of it 0; `optional`, with all others that have a default
    given too; `loss`, with what the losses ask for."""
    rng = np.random.default_rng(seed)
    required = {i.name: _random(i, under, rng) for i in program.inputs if i.required}
    sets = {"required inputs": required}
    masks = {i.name: _mask(i, under, rng) for i in program.inputs if _is_ones(i)}
    if masks:
        sets["padded inputs"] = {**required, **masks}
    others = {i.name: _random(i, under, rng) for i in program.inputs if not i.required and not i.training and not _is_ones(i)}
    if others:
        sets["optional inputs"] = {**required, **masks, **others}
    if program.losses:
        classes = _classes(program, under)
        sets["loss"] = {**required, **{i.name: _labels(i, classes, under, rng) for i in program.inputs if i.training}}
    return sets


def segments(program: Program, under: Mapping[Sym, int | float], seed: int, count: int) -> list[Inputs]:
    """Required inputs of several calls in turn."""
    return [
        {i.name: _random(i, under, rng) for i in program.inputs if i.required}
        for rng in map(np.random.default_rng, range(seed, seed + count))
    ]


def shape_of(item: ModelInput, under: Mapping[Sym, int | float]) -> tuple[int, ...]:
    return tuple(int(a.size.value(under) or 0) for a in item.value.type.axes)


def _random(item: ModelInput, under: Mapping[Sym, int | float], rng: np.random.Generator) -> Array:
    shape = shape_of(item, under)
    match item.value.type.dtype:
        case "int":
            if item.bound is None:
                return np.sort(rng.integers(0, 3, shape), axis=-1)
            return rng.integers(0, int(item.bound.value(under) or 1), shape)
        case "bool":
            return rng.random(shape) < 0.7
        case _:
            return rng.normal(size=shape)


def _is_ones(item: ModelInput) -> bool:
    """Whether it is 1 everywhere when left out: a mask, where 1 keeps."""
    region = item.default
    if region is None or item.value.type.dtype == "float":
        return False
    node = next((n for n in region.body if region.result in n.outs), None)
    return isinstance(node, ir.Full) and node.value == Expr((((), 1),))


def _mask(item: ModelInput, under: Mapping[Sym, int | float], rng: np.random.Generator) -> Array:
    """Rows that end early, each somewhere else; the first row whole."""
    shape = shape_of(item, under)
    kept = np.ones(shape, np.int64)
    if kept.ndim == 2 and shape[1] > 2:
        for row in range(1, shape[0]):
            kept[row, int(rng.integers(2, shape[1])) :] = 0
    return kept.astype(np.bool_) if item.value.type.dtype == "bool" else kept


def _classes(program: Program, under: Mapping[Sym, int | float]) -> int:
    """What every target of a loss is below."""
    losses = (n for m in ir.walk(program.root) for n in m.body if isinstance(n, ir.CrossEntropy))
    return min((int(n.logits.type.axis(n.over).size.value(under) or 1) for n in losses), default=3)


def _labels(item: ModelInput, classes: int, under: Mapping[Sym, int | float], rng: np.random.Generator) -> Array:
    """Targets, some of them -100 if there is more than one a row."""
    if item.value.type.dtype != "int" or item.bound is not None:
        return _random(item, under, rng)
    found = rng.integers(0, classes, shape_of(item, under))
    if found.ndim >= 2:
        found[0, :2] = -100
    return found


def changed_after(inputs: Inputs, item: ModelInput, axis: int, position: int, under: Mapping[Sym, int | float]) -> Inputs:
    """The inputs with every token of one of them changed behind a position."""
    size = int(item.bound.value(under) or 2) if item.bound is not None else 2
    array = inputs[item.name].copy()
    later = (*(slice(None),) * axis, slice(position + 1, None))
    step = 1 + np.arange(array[later].size).reshape(array[later].shape) % max(size - 1, 1)
    array[later] = (array[later] + step) % size
    return {**inputs, item.name: array}
