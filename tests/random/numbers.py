"""The numbers that a program is run with: lengths of dynamic axes, and other numbers in its Config than the spec gives."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import ModuleType

import numpy as np

from xfc.compiler import ir
from xfc.compiler.dims import Apply, Expr, Sym

from .choices import Choices
from .executions import Disagreement, Executions, Refused, holds

Under = dict[Sym, int | float]


def lengths(program: ir.Program, seed: int, changed: Mapping[Sym, int | float]) -> Under:
    """Values of the dynamic axes that keep the facts; one is often the smallest that does."""
    rng = np.random.default_rng(seed)
    scanned = any(isinstance(n, ir.Scan) for m in ir.walk(program.root) for n in m.body)
    if seed % 16 == 7 and not scanned and len(program.dynamic) == 2:  # more than one block of queries
        long = {**changed, program.dynamic[0]: 1, program.dynamic[1]: 140}
        if all(holds(f, long) for f in program.facts):
            return dict(long)
    for attempt in range(60):
        under: Under = {
            s: int(rng.choice((1, 2, 3)) if k == 0 else rng.choice((1, 2, 3, 4, 5, 7) if attempt < 30 else range(1, 14)))
            for k, s in enumerate(program.dynamic)
        }
        if all(holds(f, {**changed, **under}) for f in program.facts):
            return {**changed, **under}
    raise Refused("no small lengths keep the facts")


def check_lengths(run: Executions) -> list[str]:
    """Lengths that break a fact are refused by both modules, where a call knows all of them."""
    program = run.program
    if run.emitted.decoding is not None:
        return []
    dynamic = set(program.dynamic)
    asked = [f for f in program.facts if (f.a.symbols | f.b.symbols) & dynamic and not any(map(_nested, (f.a, f.b)))]
    for found in product((1, 2, 3, 5, 6), repeat=len(dynamic)) if asked else ():
        under = {**run.under, **dict(zip(program.dynamic, found, strict=True))}
        if all(holds(f, under) for f in asked):
            continue
        inputs = {i.name: run.input(i, under) for i in program.inputs if i.required}
        for name, module in (("torch", run.torch), ("numpy", run.numpy)):
            try:
                module(run.given(inputs))
            except Exception:
                continue
            raise Disagreement(f"{name}: lengths {found} are accepted, and break one of {asked}")
        return ["lengths refused"]
    return []


def _nested(expr: Expr) -> bool:
    """Whether it is a size of a size, which the operations that need it check."""
    return any(isinstance(atom, Apply) for monomial, _ in expr.terms for atom, _ in monomial)


def other_numbers(program: ir.Program, module: ModuleType, seed: int) -> Under:
    """A few numbers of the Config changed, so that the facts still hold. One that breaks a fact, PyTorch's module refuses."""
    c = Choices.seeded(seed)
    changed: Under = {}
    modules = list(ir.walk(program.root))
    counts = {b.axis.size.value() for m in modules for b in m.children if isinstance(b, ir.Bank)}
    chosen = counts if any(isinstance(n, ir.Route) for m in modules for n in m.body) else set()  # data that chooses among as many
    for name, sym in c.shuffled(program.config):
        value = sym.value
        if value in chosen:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or len(changed) > 2:
            continue
        other = value * c.pick([1.25, 1.5]) if isinstance(value, float) else c.pick([value + 1, 2 * value, max(value - 1, 1), value + 2])
        if all(holds(f, {**changed, sym: other}) for f in program.facts):
            changed[sym] = other
        elif not changed and accepts(module, {name: other}):
            raise Disagreement(f"{module.__name__}: Config({name} = {other}), which breaks a fact, is accepted")
    return changed


def accepts(module: ModuleType, numbers: Mapping[str, int | float]) -> bool:
    try:
        module.Config(**numbers)
    except (AssertionError, ValueError):
        return False
    return True
