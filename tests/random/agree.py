"""What must hold of any spec: three executions agree in float64, gradients are the interpreter's slopes, a call at a time equals all at once,
weights are saved and found again, both surfaces say the same, and the same spec gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler import ir, library
from xfc.compiler.diagnostics import Diagnostics, SpecError
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.passes.prove_causality import Flow, check_causality
from xfc.compiler.pipeline import run as run_passes
from xfc.compiler.verify_ir import verify as verify_ir
from xfc.grammar import cache as tree_cache
from xfc.grammar import tree
from xfc.grammar.convert import to_xf, to_yaml
from xfc.grammar.load import load

from .again import check_by_index, check_plain, check_renamed
from .choices import Choices
from .decoded import Decoder
from .executions import Disagreement, Executions, Grown, Refused
from .foresight import Foresight
from .numbers import check_lengths, lengths, other_numbers
from .rules import check_rule
from .saved import check_saved
from .surface import checkpoint_map, write_spec
from .texts import check_texts
from .wrong import check_wrong


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
    flow: Flow
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
        done.checks += check_beside(text, program, flow, folder / "beside", seed)
        if seed % 2 == 0 and not program.checkpoint:
            done.checks += check_plain(text, program, folder / "plain", seed)
        if seed % 8 == 1:
            done.checks += check_renamed(text, made.codes, folder / "renamed", seed)
        if seed % 6 == 2:
            done.checks += check_texts(made.codes, folder / "texts")
        with (
            loaded(small_blocks(made.codes[0], seed), "random_torch") as torch_module,
            loaded(made.codes[1], "random_numpy") as numpy_module,
        ):
            done.checks += Drawn(made, torch_module, numpy_module, folder, seed).checks()
    return done


def small_blocks(code: str, seed: int) -> str:
    """For every other spec, queries in blocks of two where windows are cut into blocks of 64: short sequences have several."""
    return code.replace("max(64, ", "max(2, ") if seed % 2 else code


def check_beside(text: str, program: ir.Program, flow: Flow, folder: Path, seed: int) -> list[str]:
    """What needs no module: two rules of what is seen, and a fault in every other spec."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in (seed, seed + 10_000_000):
        with suppress(Refused):
            found.append(check_rule(folder, number))
    return found + (check_wrong(text, program, flow, folder, seed) if seed % 2 else [])


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
        return Compiled(program, None, emitted, flow, (torch_backend.emit(emitted), numpy_backend.emit(emitted)), (False, False))
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
    return Compiled(program, derived, emitted, flow, (codes[0], codes[1]), (cached[0], cached[1]))


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


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is compared on numbers drawn by a seed: weights, inputs, lengths, perhaps other numbers in the Config."""

    made: Compiled
    torch_module: ModuleType
    numpy_module: ModuleType
    folder: Path
    seed: int

    def checks(self) -> list[str]:
        """Where two executions differ and rounding decided, those inputs say nothing: others are drawn. So are smaller weights where outputs grow."""
        smaller, without, others = 1.0, frozenset[str](), True
        seed = self.seed
        for _ in range(8):
            run = self.executions(seed, smaller, without, others)
            try:
                return self.compared(run)
            except Grown:
                smaller /= 4
            except interpreter.InterpreterError as error:
                if not run.static or not isinstance(error, interpreter.OutOfRangeError):
                    raise
                others = False  # two numbers that the spec gives apart, and of which one counts what the other chooses
            except Disagreement:
                undecided = run.undecided()
                if not undecided:
                    raise
                if "forward" in undecided:
                    seed, without = seed + 1_000_000, frozenset()
                else:
                    without |= undecided
        raise Refused("equal entries or great numbers, whatever is drawn")

    def executions(self, seed: int, smaller: float, without: frozenset[str], others: bool) -> Executions:
        program = self.made.program
        changed = {}
        if others and seed % 3 == 1 and seed % 8 and not program.checkpoint:
            changed = other_numbers(program, self.torch_module, seed)
        under = lengths(program, seed, changed)
        params = interpreter.initial_params(program, seed, np.float64, under)
        stored = {p.name for p in interpreter.places(program, under) if p.param.stored}
        params = {n: a * smaller if a.dtype.kind == "f" and n in stored else a for n, a in params.items()}
        return Executions(program, self.made.emitted, self.torch_module, self.numpy_module, params, under, seed, without)

    def compared(self, run: Executions) -> list[str]:
        found = run.checks()
        if self.made.derived is not None:
            found += Decoder(run, self.made.derived, self.made.cached).checks()
        found += check_lengths(run)
        found += Foresight(run, self.made.flow).checks()
        if run.seed % 3 != 2:
            found += check_by_index(run, self.made.emitted, self.made.codes[0])
        found += check_saved(run, self.torch_module, self.numpy_module, self.folder)
        return [*found, *(["other numbers"] if run.static else [])]


__all__ = ["Disagreement", "Done", "Refused", "check_spec", "elaborated", "numpy_backend", "run_passes", "torch_backend"]
