"""Names, shapes and starting values of a program's parameters.

A name is the path of children down to the module that declares the parameter: `decoder.layers.0.attention.q_proj.weight`, with the number
of the layer after the name of a stack. An array has the declared axes in order; below a bank, the bank's axis comes first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import DTypeLike

from ...compiler.dims import Expr, Sym
from ...compiler.ir import Axis, Bank, Child, Init, Module, Param, Program, Stack
from ...grammar.frozen import frozen
from .tensors import Array, InterpreterError

Assignment = Mapping[Sym, int | float]


@frozen
class Place:
    """A parameter at one place of a program; `banks` are the axes of the banks around it, outermost first."""

    name: str
    param: Param
    banks: tuple[Axis, ...]

    def shape(self, under: Assignment | None = None) -> tuple[int, ...]:
        return tuple(whole(a.size, under) for a in (*self.banks, *self.param.type.axes))


def whole(size: Expr, under: Assignment | None) -> int:
    """The value of a size; an error if it has none or is not whole."""
    number = size.value(under)
    if number is None:
        raise InterpreterError(f"the size {size} has no value")
    if number != int(number):
        raise InterpreterError(f"the size {size} is {number}, which is not whole")
    return int(number)


def layer_slots(stack: Stack, under: Assignment | None = None) -> list[int]:
    """The slot of each layer of a stack."""
    pattern = [k for k, (_, n) in enumerate(stack.slots) for _ in range(whole(n, under))]
    count = whole(stack.count, under)
    if stack.cycle and pattern:
        return [pattern[i % len(pattern)] for i in range(count)]
    if len(pattern) != count:
        raise InterpreterError(f"the stack {stack.name} has {count} layers and a pattern of {len(pattern)}")
    return pattern


def places(program: Program, under: Assignment | None = None) -> Iterator[Place]:
    """Every parameter, in the order of declaration."""
    return _below(program.root, "", (), under)


def _below(module: Module, prefix: str, banks: tuple[Axis, ...], under: Assignment | None) -> Iterator[Place]:
    for param in module.params:
        yield Place(prefix + param.name, param, banks)
    for child in module.children:
        path = f"{prefix}{child.name}."
        match child:
            case Child():
                yield from _below(child.module, path, banks, under)
            case Bank():
                yield from _below(child.module, path, (*banks, child.axis), under)
            case Stack():
                for number, slot in enumerate(layer_slots(child, under)):
                    yield from _below(child.slots[slot][0], f"{path}{number}.", banks, under)


def initial_params(program: Program, seed: int = 0, dtype: DTypeLike = np.float64, under: Assignment | None = None) -> dict[str, Array]:
    """Random values for every parameter, none near 0 or 1, so that no parameter can be left out unseen; tables are what they are.

    Signs and sizes follow the parameter's own init: a range stays in its range, what starts at 1 stays positive."""
    from .execute import evaluate_region

    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for place in places(program, under):
        shape, param = place.shape(under), place.param
        if param.init.table is not None:
            value = evaluate_region(param.init.table, dtype=kind, under=under)
            array = np.broadcast_to(value.array, shape)
        else:
            array = _random(param.init, shape, len(place.banks), rng, under)
        if param.type.dtype in ("int", "bool"):
            found[place.name] = np.array(array).astype(np.int64 if param.type.dtype == "int" else np.bool_)
        else:
            found[place.name] = np.array(array).astype(kind if param.type.dtype == "float" else np.promote_types(kind, np.float32))
    return found


def _random(init: Init, shape: tuple[int, ...], banks: int, rng: np.random.Generator, under: Assignment | None) -> Array:
    numbers = [float(n.value(under) or 0) for n in init.numbers]
    signs = rng.choice([-1.0, 1.0], size=shape)
    match init.kind:
        case "uniform" if numbers[0] != -numbers[1]:
            low, high = numbers
            return rng.uniform(low + 0.1 * (high - low), high - 0.1 * (high - low), size=shape)
        case "ones":
            return rng.uniform(1.1, 1.6, size=shape)
        case "zeros":
            return signs * rng.uniform(0.1, 0.5, size=shape)
        case "constant" if numbers[0]:
            return numbers[0] * rng.uniform(1.1, 1.6, size=shape)
        case "uniform":
            return signs * rng.uniform(0.4, 1.7, size=shape) * numbers[1]
        case _:
            inputs = math.prod(shape[banks + 1 :]) if len(shape) > banks + 1 else 4
            width = max([inputs**-0.5 if inputs else 1.0, *map(abs, numbers)])
            return signs * rng.uniform(0.4, 1.6, size=shape) * width
