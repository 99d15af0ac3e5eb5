"""`xfc verify`: PyTorch, NumPy and the interpreter on the same weights and inputs.

The interpreter runs the program as it was elaborated; the backends are given what the passes make of it, so passes and emitters are held
against the meaning together. A large model is made smaller first (verify_shrink). With a checkpoint, the published names are loaded too,
at the sizes of the spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.diagnostics import Diagnostic, SpecError
from ..compiler.dims import Sym
from ..compiler.emit_with_cache import emit_with_cache
from ..compiler.ir import Program
from ..compiler.passes.derive_decoding import Refusal, derive_decoding
from ..compiler.passes.prove_causality import prove, sequence_axis
from ..compiler.pipeline import run as run_passes
from . import interpreter
from .find_divergence import Divergence, find_divergence, find_nan, with_losses_shown
from .find_gradient_divergence import find_gradient_divergence
from .python.name_parameters import generated_names
from .verify_checkpoint import check_checkpoint
from .verify_decoding import Step, calls_of, joined, lengths_of
from .verify_inputs import Inputs, changed_after, input_sets, segments
from .verify_modules import ModuleError, NumpyModule, TorchModule, loaded
from .verify_report import Report, Row
from .verify_shrink import Shrunk, shrink, unshrunk

__all__ = ["Report", "Row", "verify"]

Array = NDArray[Any]
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
GRADIENT_TOLERANCE = 1e-5
LARGEST = 1e-4
"""No difference in float32 is excused beyond this."""
ENOUGH = 300_000
"""Parameters up to which a model is verified at its own sizes."""
SEGMENTS = 3
"""Calls in turn, for models that carry something from one to the next."""
ENTRIES = 12
"""Parameter entries whose gradients are compared."""


def verify(program: Program, *, checkpoint: Path | None = None, dtype: str = "float32", seed: int = 0, fuse: bool = False) -> Report:
    """Compare three ways. `dtype` is float32 or float64; `checkpoint` is a folder with published weights; `fuse`: PyTorch's linear maps of one
    value are one map."""
    if checkpoint is None and parameter_count(program) > ENOUGH:
        chosen = shrink(program)
    else:
        chosen = unshrunk(program)
    with ExitStack() as stack:
        try:
            made = _Verification(chosen, dtype, seed, checkpoint, stack, fuse)
        except SpecError:
            raise
        except Exception as error:
            row = Row(what="the emitted modules are built", error=float("inf"), tolerance=TOLERANCE[dtype], note=told(error))
            return Report(model=program.name, dtype=dtype, seed=seed, parameters=0, changed=chosen.changes(), rows=(row,))
        return made.report(program)


def told(error: Exception) -> str:
    """An error in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def parameter_count(program: Program, under: Mapping[Sym, int | float] | None = None) -> int:
    return sum(int(np.prod(p.shape(under), dtype=object)) for p in interpreter.places(program, under))


def difference(got: Array | None, want: Array) -> float:
    """The largest difference, relative to the scale of what is wanted (at least 1)."""
    if got is None or got.shape != want.shape:
        return float("inf")
    if not want.size:
        return 0.0
    if want.dtype.kind != "f":
        return float(np.max(got != want))
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
    worst = float(np.max(np.where(same, 0, gap)))
    scale = float(np.max(np.abs(want), where=np.isfinite(want), initial=1.0))
    return float("inf") if np.isnan(worst) else worst / scale


class _Verification:
    """One run: the modules, their weights, and the inputs."""

    def __init__(self, chosen: Shrunk, dtype: str, seed: int, checkpoint: Path | None, stack: ExitStack, fuse: bool = False) -> None:
        from . import numpy as numpy_backend
        from . import torch as torch_backend

        self.chosen, self.dtype, self.seed, self.fuse = chosen, dtype, seed, fuse
        self.under = {s: v for s, v in chosen.under.items() if s.value is not None}
        self.program = chosen.program
        self.emitted = run_passes(chosen.program)
        renamed = generated_names(self.emitted)
        places = [interpreter.places(p, self.under) for p in (self.emitted, renamed)]
        keys = {own.name: there.name for own, there in zip(*places, strict=True)}
        names = tuple(n or "output" for n in self.emitted.root.output_names) or ("output",)
        self.step = derive_decoding(self.program)
        emitters = {"torch": partial(torch_backend.emit, fuse=True) if fuse else torch_backend.emit, "numpy": numpy_backend.emit}
        codes = {n: emit_with_cache(self.program, emit, self.step) for n, emit in emitters.items()}
        self.decoders = {name for name, (_, decodes) in codes.items() if decodes}
        torch_module = stack.enter_context(loaded(codes["torch"][0], "verified_torch"))
        numpy_module = stack.enter_context(loaded(codes["numpy"][0], "verified_numpy"))
        config = chosen.config()
        if checkpoint is not None:
            unfit = check_checkpoint(self.emitted, numpy_module.read_arrays, checkpoint)
            if unfit.failed:
                raise SpecError(unfit.found)
            self.torch = TorchModule.published(torch_module, checkpoint, dtype, names, keys)
            weights = numpy_module.load(checkpoint)
            self.params = self.own(self.torch.weights())
        else:
            self.torch = TorchModule.build(torch_module, config, dtype, names, keys)
            self.params = interpreter.initial_params(self.program, seed, dtype, self.under)
            self.torch.load(self.params)
            weights = self.torch.state()
        fields = {n: v for n, v in config.items() if n in getattr(numpy_module.Config, "__dataclass_fields__", {})}
        self.numpy = NumpyModule(numpy_module, weights, numpy_module.Config(**fields), dtype, names)
        self.sets = input_sets(self.program, chosen.under, seed)
        self.skipped: list[str] = []

    def own(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """A module's weights in the spec's shapes; a table that the module does not keep is computed."""
        made = interpreter.initial_params(self.program, self.seed, self.dtype, self.under)
        for place in interpreter.places(self.program, self.under):
            if place.name in weights:
                made[place.name] = weights[place.name].reshape(place.shape(self.under))
            elif place.param.init.table is None:
                raise ModuleError(f"the module has no parameter {place.name}")
        return made

    def report(self, spec: Program) -> Report:
        rows = [row for name, inputs in self.sets.items() for row in self.outputs(name, inputs)]
        if all(np.isfinite(row.error) for row in rows):
            rows += [*self.segments(), *self.training(), *self.gradients(), *self.flow(), *self.decoding()]
        else:
            self.skipped.append("gradients and flow, since the outputs differ")
        old, new = _layers(spec.root), _layers(self.program.root)
        return Report(
            model=spec.name,
            dtype=self.dtype,
            seed=self.seed,
            parameters=parameter_count(self.program, self.under),
            changed=self.chosen.changes(),
            layers="" if old == new else f"layers {old} -> {new}",
            lengths={s.name: self.chosen.under[s] for s in self.program.dynamic if s in self.chosen.under},
            rows=tuple(rows),
            skipped=tuple(self.skipped),
            parted=tuple(map(str, self.parted(rows))),
        )

    # ------------------------------------------------ where they part

    def parted(self, rows: list[Row]) -> list[Divergence]:
        """For each backend whose outputs differ, the first operation that does."""
        undefined = next((n for n in self.sets if any(np.isnan(r.error) and f", {n}" in r.what for r in rows)), None)
        if undefined is not None:
            first = find_nan(
                self.program,
                lambda program: interpreter.run(program, self.params, self.sets[undefined], dtype=self.dtype, under=self.under),
                self.under,
            )
            return [] if first is None else [first]
        found = [
            self.parted_of(backend, [r for r in rows if not r.ok and r.what.startswith(f"{backend}, ")]) for backend in ("torch", "numpy")
        ]
        return [f for f in found if f is not None]

    def parted_of(self, backend: str, wrong: list[Row]) -> Divergence | None:
        """The first operation behind the first rows of a backend that differ."""
        if not wrong:
            return None
        what = wrong[0].what.removeprefix(f"{backend}, ")
        tolerance = max(r.tolerance for r in wrong)
        if what == "gradients":
            return find_gradient_divergence(self.program, self.gradient_errors, tolerance, self.under)
        program = with_losses_shown(self.program) if what == "loss" else self.program

        def runs(probed: Program) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
            try:
                return self.again(backend, what, probed)
            except Exception as error:
                raise RuntimeError(f"showing values failed: {told(error)}") from error

        return find_divergence(program, backend, runs, difference, tolerance, self.under)

    def again(self, backend: str, what: str, program: Program) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """Another program on the same weights and inputs, run as a row was: by a backend, and by the interpreter."""
        with ExitStack() as stack:
            made = _Verification(replace(self.chosen, program=program), self.dtype, self.seed, None, stack, self.fuse)
            made.load(self.params)
            module = made.torch if backend == "torch" else made.numpy
            if what.startswith("segment"):
                return made.in_segments(module)
            if what.startswith("in training"):
                inputs = next(iter(self.sets.values()))
                found, _ = made.torch.in_training(made.given(inputs))
                return found, interpreter.run(program, self.params, inputs, dtype=self.dtype, under=self.under, training=True)
            inputs = next(i for n, i in self.sets.items() if n in what)
            if what.startswith("decoding"):
                return made.with_cache(backend, module, inputs, singly="1 at a time" in what)
            return module(made.given(inputs)), made.interpret(inputs, self.params)

    def load(self, params: Mapping[str, Array]) -> None:
        """Give both modules some weights of the spec."""
        self.params = dict(params)
        self.torch.load(self.params)
        self.numpy.params.update({n: a.astype(self.numpy.kind) if a.dtype.kind == "f" else a for n, a in self.torch.state().items()})

    def in_segments(self, module: TorchModule | NumpyModule) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """The outputs of calls in turn, by a module and by the interpreter, along a last axis."""
        inputs = segments(self.program, self.chosen.under, self.seed, SEGMENTS)
        carried, state = module.start(int(next(iter(inputs[0].values())).shape[0])), dict[str, Array]()
        found = [module(self.given(i), state=carried) for i in inputs]
        want = [interpreter.run(self.program, self.params, i, dtype=self.dtype, under=self.under, state=state) for i in inputs]
        return ({n: np.stack([f[n] for f in each], axis=-1) for n in each[0]} for each in (found, want))  # type: ignore[return-value]

    def with_cache(
        self, backend: str, module: TorchModule | NumpyModule, inputs: Inputs, *, singly: bool
    ) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """What calls with a cache give, side by side, and what the interpreter gives for all at once."""
        step = self.step
        if isinstance(step, Refusal) or step.decoding is None:
            raise ModuleError("what is asked for has no cache")
        lengths = lengths_of(int(self.chosen.under[step.decoding.rows]))[0 if singly else 1]
        batch = next(iter(inputs.values())).shape[0]
        cache = module.cache(batch, sum(lengths))
        parts = [module(self.given(p), cache=cache) for p in calls_of(step, inputs, lengths, repeats=backend == "numpy")]
        found, want = joined(step, parts), self.interpret(inputs)
        return found, {n: a for n, a in want.items() if n in found}

    def gradient_errors(self, program: Program, names: Sequence[str]) -> dict[str, float]:
        """How far the gradients of parameters that another program has besides, at 0, are off."""
        with ExitStack() as stack:
            made = _Verification(replace(self.chosen, program=program), "float64", self.seed, None, stack, self.fuse)
            made.load({n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in {**made.params, **self.params}.items()})
            inputs = next(iter(self.sets.values()))
            project = made.projection(made.interpret(inputs))
            found = made.torch.gradients(made.given(inputs), project)
            return {n: made.gradient_error(inputs, made.params, n, 0, found[n][0], project) for n in names if n in found}

    # ------------------------------------------------ outputs

    def interpret(self, inputs: Inputs, params: Mapping[str, Array] | None = None, dtype: str | None = None) -> dict[str, Array]:
        try:
            return interpreter.run(self.program, params or self.params, inputs, dtype=dtype or self.dtype, under=self.under)
        except interpreter.OutOfRangeError as error:
            help = "keep it within 0 .. size - 1 (`clamp`), or make the axis longer; negative numbers count from the end"
            raise SpecError([Diagnostic("E207", str(error), error.span, help=help)]) from error

    def outputs(self, name: str, inputs: Inputs) -> list[Row]:
        want = self.interpret(inputs)
        rows: list[Row] = []
        asked = {"return_loss": True} if name == "loss" and not any(i.training for i in self.program.inputs) else {}
        for backend, module in (("torch", self.torch), ("numpy", self.numpy)):
            try:
                got = module(self.given(inputs), **asked)
            except Exception as error:
                rows.append(Row(what=f"{backend}, {name}", error=float("inf"), tolerance=TOLERANCE[self.dtype], note=told(error)))
                continue
            if name == "loss":
                rows.append(self.row(f"{backend}, loss", next(iter(got.values()), None), want["loss"]))
            else:
                rows += self.rows(f"{backend}, {name}", got, want)
        return self.excused(rows, inputs, want)

    def excused(self, rows: list[Row], inputs: Inputs, want: Mapping[str, Array]) -> list[Row]:
        """Where sums cancel, float32 itself is off: then rows are held to four times the difference between it and float64."""
        if self.dtype != "float32" or all(r.ok for r in rows) or any(r.error > LARGEST for r in rows):
            return rows
        exact = self.interpret(inputs, dtype="float64")
        rounding = max(difference(array, exact[name]) for name, array in want.items())
        bound = min(LARGEST, 4 * rounding)
        note = f"the definition in float32 is {rounding:.1e} off"
        return [r if r.ok or bound <= r.tolerance else replace(r, tolerance=bound, note=note) for r in rows]

    def rows(self, what: str, got: Mapping[str, Array], want: Mapping[str, Array]) -> list[Row]:
        """Every output."""
        outputs = {name: array for name, array in want.items() if name != "loss" and not name.startswith("loss.")}
        return [self.row(f"{what}, {name}", got.get(name), array) for name, array in outputs.items()]

    def given(self, inputs: Inputs) -> Inputs:
        """The inputs that the emitted modules have: those that reach nothing went."""
        kept = {i.name for i in self.emitted.inputs}
        return {n: a for n, a in inputs.items() if n in kept}

    def row(self, what: str, got: Array | None, want: Array) -> Row:
        note = ""
        if np.isnan(want).any():
            return Row(what=what, error=float("nan"), tolerance=TOLERANCE[self.dtype], note="the definition itself gives NaN here")
        if not np.isfinite(want).all():
            note = "the interpreter's result is not finite"
        elif got is None:
            note = "missing"
        elif got.shape != want.shape:
            note = f"shape {got.shape}, should be {want.shape}"
        return Row(what=what, error=difference(got, want), tolerance=TOLERANCE[self.dtype], note=note)

    # ------------------------------------------------ memory, training

    def segments(self) -> list[Row]:
        """Several calls in turn, with what is carried from one to the next."""
        if not any(m.states for m in ir.walk(self.program.root)):
            return []
        inputs = segments(self.program, self.chosen.under, self.seed, SEGMENTS)
        batch = int(next(iter(inputs[0].values())).shape[0])
        state: dict[str, Array] = {}
        want = [interpreter.run(self.program, self.params, i, dtype=self.dtype, under=self.under, state=state) for i in inputs]
        rows: list[Row] = []
        for backend, module in (("torch", self.torch), ("numpy", self.numpy)):
            try:
                carried = module.start(batch)
                for k, (given, wanted) in enumerate(zip(inputs, want, strict=True)):
                    rows += self.rows(f"{backend}, segment {k + 1}", module(self.given(given), state=carried), wanted)
            except Exception as error:
                rows.append(Row(what=f"{backend}, segments", error=float("inf"), tolerance=TOLERANCE[self.dtype], note=told(error)))
        return rows

    def training(self) -> list[Row]:
        """In training mode, PyTorch's outputs and what its buffers become, where nothing is drawn."""
        nodes = [n for m in ir.walk(self.program.root) for n in m.body]
        nodes += [n for node in nodes for region in ir.regions(node) for n in region.body]
        if not any(isinstance(n, ir.Training) for n in nodes) and not any(m.updates for m in ir.walk(self.program.root)):
            return []
        if any(isinstance(n, ir.Dropout) and n.rate.value(self.under) != 0 for n in nodes):
            self.skipped.append("training mode, since the spec drops out values at random")
            return []
        inputs, buffers = next(iter(self.sets.values())), dict[str, Array]()
        want = interpreter.run(self.program, self.params, inputs, dtype=self.dtype, under=self.under, training=True, buffers=buffers)
        try:
            got, after = self.torch.in_training(self.given(inputs))
        except Exception as error:
            return [Row(what="torch, in training", error=float("inf"), tolerance=TOLERANCE[self.dtype], note=told(error))]
        rows = self.rows("torch, in training", got, want)
        return rows + [self.row(f"torch, {name} after training", after.get(name), array) for name, array in buffers.items()]

    # ------------------------------------------------ gradients

    def gradients(self) -> list[Row]:
        """PyTorch's gradients of a random projection of the outputs against finite differences of the interpreter, in float64."""
        if any(isinstance(n, ir.StopGradient) for m in ir.walk(self.program.root) for n in ir.made_by(m.body, m.outputs)):
            self.skipped.append("gradients, since the spec stops some of them")
            return []
        inputs = next(iter(self.sets.values()))
        params = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in self.params.items()}
        project = self.projection(self.interpret(inputs, params, "float64"))
        module = self.torch
        module.to("float64")
        try:
            found = module.gradients(self.given(inputs), project)
        finally:
            module.to(self.dtype)
        worst, note, rng = 0.0, "", np.random.default_rng(self.seed + 1)
        names = [n for n in found if n in params and params[n].dtype.kind == "f"]
        for name in rng.permutation(names)[:ENTRIES]:
            entry = int(rng.integers(params[name].size))
            error = self.gradient_error(inputs, params, str(name), entry, found[name][entry], project)
            if error > worst:
                worst, note = error, f"worst at {name}[{entry}]"
        return [Row(what="torch, gradients", error=worst, tolerance=GRADIENT_TOLERANCE, note=note)] if names else []

    def projection(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Random weights of the outputs: the gradients are those of the sum."""
        rng = np.random.default_rng(self.seed + 1)
        return {n: rng.normal(size=a.shape) for n, a in outputs.items() if a.dtype.kind == "f" and not n.startswith("loss")}

    def gradient_error(
        self, inputs: Inputs, params: Mapping[str, Array], name: str, entry: int, found: float, project: Mapping[str, Array]
    ) -> float:
        """How far a gradient is from differences of the interpreter, of the best of three widths."""

        def total(shift: float) -> float:
            moved = params[name].copy()
            moved.reshape(-1)[entry] += shift
            outputs = self.interpret(inputs, {**params, name: moved}, "float64")
            return float(sum((outputs[n] * p).sum() for n, p in project.items()))

        slopes = ((total(step) - total(-step)) / (2 * step) for step in (1e-5, 1e-6, 1e-4))
        return min(float(abs(slope - found) / max(1.0, abs(slope))) for slope in slopes)

    # ------------------------------------------------ flow

    def flow(self) -> list[Row]:
        """Later tokens must not move earlier outputs, where that is proved; where it is assumed, how far they do is told."""
        proof = prove(self.program)
        inputs = next(iter(self.sets.values()))
        rows: list[Row] = []
        for verdict in proof.verdicts:
            assumed = proof.assumed is not None and verdict is proof.decoded
            if verdict.input not in inputs or (verdict.answer != "proved" and not assumed):
                continue
            moved = self._moved(inputs, verdict.input, verdict.output)
            if moved is None:
                continue
            what = f"flow, later {verdict.input} in earlier {verdict.output}"
            if verdict.answer == "proved":
                rows.append(Row(what=what, error=moved, tolerance=TOLERANCE[self.dtype]))
            else:
                reason = proof.assumed.reason if proof.assumed else ""
                rows.append(Row(what=what, error=moved, tolerance=float("inf"), note=f"assumed: {reason}"))
        return rows

    def _moved(self, inputs: Inputs, name: str, output: str) -> float | None:
        """How far the outputs up to a position move when the tokens behind it change, in both modules and the interpreter."""
        item = next(i for i in self.program.inputs if i.name == name)
        value = self.program.root.outputs[(self.program.root.output_names or (output,)).index(output)]
        along = sequence_axis(item.value.type)[-1]
        axis, size = item.value.type.axes.index(along), along.size
        place = next((k for k, a in enumerate(value.type.axes) if a.size == size), None)
        if place is None or inputs[name].shape[axis] < 3:
            return None
        readers: tuple[Step, ...] = (self.interpret, *(partial(self.read, module) for module in (self.torch, self.numpy)))
        whole = [read(inputs)[output] for read in readers]
        worst = 0.0
        for position in sorted({1, inputs[name].shape[axis] // 2}):  # near the start few heads, blocks or windows hide what reads too far
            changed = changed_after(inputs, item, axis, position, self.chosen.under)
            earlier = (*(slice(None),) * place, slice(position + 1))
            worst = max(worst, *(difference(read(changed)[output][earlier], a[earlier]) for read, a in zip(readers, whole, strict=True)))
        return worst

    def read(self, module: TorchModule | NumpyModule, inputs: Inputs) -> Mapping[str, Array]:
        """What a generated module gives for the interpreter's inputs."""
        return module(self.given(inputs))

    # ------------------------------------------------ decoding

    def decoding(self) -> list[Row]:
        """A prompt, then single tokens (by PyTorch) or chunks, with a cache against all at once, where the model decodes."""
        step = self.step
        if isinstance(step, Refusal) or step.decoding is None:
            return []
        rows: list[Row] = []
        self.skipped += [f"decoding by {name}, which cannot write its cache" for name in ("torch", "numpy") if name not in self.decoders]
        singly, chunks = lengths_of(int(self.chosen.under[step.decoding.rows]))
        sets = [name for name in self.sets if name != "loss"]
        for name in sets:
            want = self.interpret(self.sets[name])
            rows += self.decoded(step, name, singly, want, ("torch",))
            rows += self.decoded(step, name, chunks, want, ("interpreter", "torch", "numpy") if name == sets[-1] else ("torch", "numpy"))
        return rows

    def decoded(self, step: Program, name: str, lengths: Sequence[int], want: Mapping[str, Array], backends: Sequence[str]) -> list[Row]:
        inputs, what = self.sets[name], f"{name}, {lengths[1]} at a time"
        batch, total = next(iter(inputs.values())).shape[0], sum(lengths)
        held = interpreter.init_cache(step)
        runs: dict[str, Step] = {
            "interpreter": lambda i: interpreter.run(step, self.params, i, dtype=self.dtype, under=self.under, cache=held)
        }
        for backend, module in (("torch", self.torch), ("numpy", self.numpy)):
            if backend in self.decoders:
                runs[backend] = partial(module, cache=module.cache(batch, total))
        rows: list[Row] = []
        for backend, run in ((b, runs[b]) for b in backends if b in runs):
            try:
                parts = [run(self.given(p)) for p in calls_of(step, inputs, lengths, repeats=backend == "numpy")]
                found = joined(step, parts)
            except Exception as error:
                rows.append(Row(what=f"{backend}, decoding, {what}", error=float("inf"), tolerance=TOLERANCE[self.dtype], note=told(error)))
                continue
            got = [self.row(f"{backend}, decoding, {what}, {n}", a, want[n]) for n, a in found.items()]
            rows += self.excused(got, inputs, {n: want[n] for n in found})
        return rows


def _layers(module: ir.Module) -> str:
    """The fixed numbers of layers of the stacks, in order."""
    stacks = [c for m in ir.walk(module) for c in m.children if isinstance(c, ir.Stack) and not c.count.symbols]
    return ", ".join(" + ".join(str(n) for _, n in s.slots) for s in stacks)
