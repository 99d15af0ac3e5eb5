"""What must hold of any spec: three executions agree in float64, gradients are the interpreter's slopes, a call at a time equals all at once,
weights are saved and found again, both surfaces say the same, and the same spec gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler import ir, library
from xfc.compiler.diagnostics import Diagnostics, SpecError
from xfc.compiler.dims import Sym
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.passes.prove_causality import Flow, check_causality
from xfc.compiler.pipeline import run as run_passes
from xfc.compiler.verify_ir import verify as verify_ir
from xfc.grammar import cache as tree_cache
from xfc.grammar import tree
from xfc.grammar.convert import to_xf, to_yaml
from xfc.grammar.load import load

from .choices import Choices
from .decoded import Decoder
from .executions import Disagreement, Executions, Refused, holds
from .saved import check_saved
from .surface import checkpoint_map, write_spec


@dataclass(slots=True)
class Done:
    """What was checked of one spec."""

    program: ir.Program
    derived: ir.Program | None
    checks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program, how it runs with a cache, what the emitters are given, and what they make of it. `cached`: which of them decode."""

    program: ir.Program
    derived: ir.Program | None
    emitted: ir.Program
    codes: tuple[str, str]
    cached: tuple[bool, bool]


def check_spec(text: str, folder: Path, seed: int) -> Done:
    """Everything, on inputs and weights of the seed. Raises Disagreement; what the compiler refuses raises Refused."""
    path = folder / "spec.xf"
    write_spec(text, path)
    with parsed_once(), one_thread():
        program, flow = proved(path)
        if seed % 6 == 5 and not program.checkpoint and any(p.param.stored for p in interpreter.places(program)):
            first, *rest = text.partition("\n# ----")
            write_spec("".join((first, "\n", checkpoint_map(program, {}, Choices.seeded(seed)), "\n", *rest)), path)
            program, flow = proved(path)
        made = compiled(program, flow)
        done = Done(made.program, made.derived)
        check_surfaces(path, made, folder)
        done.checks += ["bytes", "surfaces"]
        done.checks += [
            f"{name} does not decode" for name, does in zip(("torch", "numpy"), made.cached, strict=True) if made.derived and not does
        ]
        under = lengths(made.program, seed)
        params = interpreter.initial_params(made.program, seed, np.float64, under)
        with loaded(made.codes[0], "random_torch") as torch_module, loaded(made.codes[1], "random_numpy") as numpy_module:
            run = Executions(made.program, made.emitted, torch_module, numpy_module, params, under, seed)
            done.checks += run.checks()
            if made.derived is not None:
                done.checks += Decoder(run, made.derived, made.cached).checks()
            done.checks += check_saved(run, torch_module, numpy_module, folder)
    return done


_parsed = tree_cache.cached_load
_shipped = cache(_parsed)


@contextmanager
def parsed_once() -> Iterator[None]:
    """Shipped files, which do not change, are not read again from the cache of trees."""
    tree_cache.cached_load = lambda path: _shipped(path) if str(path).startswith(str(library.SPECS)) else _parsed(path)
    try:
        yield
    finally:
        tree_cache.cached_load = _parsed


@contextmanager
def one_thread() -> Iterator[None]:
    """Tensors this small are not shared out to threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def elaborated(path: Path) -> ir.Program:
    return proved(path)[0]


def proved(path: Path) -> tuple[ir.Program, Flow]:
    diagnostics = Diagnostics()
    program, flow = elaborate_file(str(path), [], diagnostics), None
    if program is not None and not diagnostics.failed:
        flow = check_causality(program, diagnostics)
    if program is None or flow is None or diagnostics.failed:
        first = next(d for d in diagnostics.found if d.severity == "error")
        raise Refused(f"{first.code}: {first.message}")
    return program, flow


def compiled(program: ir.Program, flow: Flow) -> Compiled:
    """As the command compiles: with a cache, where decoding can be derived and the backend can write what is kept."""
    verify_ir(program)
    derived = derive_decoding(program, flow)
    if isinstance(derived, Refusal):
        emitted = run_passes(program)
        verify_ir(emitted)
        return Compiled(program, None, emitted, (torch_backend.emit(emitted), numpy_backend.emit(emitted)), (False, False))
    verify_ir(derived)
    emitted = run_passes(derived)
    verify_ir(emitted)
    codes, cached = [], []
    for emit in (torch_backend.emit, numpy_backend.emit):
        try:
            codes.append(emit(emitted))
            cached.append(True)
        except SpecError:
            codes.append(emit(run_passes(program)))
            cached.append(False)
    return Compiled(program, derived, emitted, (codes[0], codes[1]), (cached[0], cached[1]))


def check_surfaces(path: Path, made: Compiled, folder: Path) -> None:
    """Printed and parsed again the tree is the same; as YAML it is the same tree; compiled again, from YAML if its last model is the same, so are
    the bytes."""
    file, problems = load(path)
    assert file is not None and not problems
    again, problems = load("spec.xf", to_xf(file))
    if problems or again != file:
        raise Disagreement("printed and parsed again, the tree differs")
    yaml = folder / "spec.yaml"
    yaml.write_text(to_yaml(file), encoding="utf-8")
    back, problems = load(yaml)
    if problems or back is None or back != file or to_xf(back) != to_xf(file):
        raise Disagreement(f"as YAML the tree differs: {problems[:1]}")
    models = [d.name.id for d in back.declarations if isinstance(d, tree.Model)]
    same = models[-1:] == [made.program.name]
    codes = compiled(*proved(yaml if same else path)).codes
    if tuple(code.replace("from spec.yaml", "from spec.xf") for code in codes) != made.codes:
        raise Disagreement("from YAML other code is made" if same else "compiled twice, the bytes differ")


def lengths(program: ir.Program, seed: int) -> dict[Sym, int | float]:
    """Values of the dynamic axes that keep the facts; one is often the smallest that does."""
    rng = np.random.default_rng(seed)
    scanned = any(isinstance(n, ir.Scan) for m in ir.walk(program.root) for n in m.body)
    if seed % 16 == 7 and not scanned and len(program.dynamic) == 2:  # more than one block of queries
        long = {program.dynamic[0]: 1, program.dynamic[1]: 140}
        if all(holds(f, long) for f in program.facts):
            return dict(long)
    for attempt in range(60):
        under: dict[Sym, int | float] = {
            s: int(rng.choice((1, 2, 3)) if k == 0 else rng.choice((1, 2, 3, 4, 5, 7) if attempt < 30 else range(1, 14)))
            for k, s in enumerate(program.dynamic)
        }
        if all(holds(f, under) for f in program.facts):
            return under
    raise Refused("no small lengths keep the facts")


__all__ = ["Disagreement", "Done", "Refused", "check_spec", "elaborated", "numpy_backend", "run_passes", "torch_backend"]
