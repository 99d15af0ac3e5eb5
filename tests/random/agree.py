"""What must hold of any spec: three executions agree in float64, gradients are the interpreter's slopes, a step at a time equals all at once, both
surfaces say the same, and the same spec gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.interpreter import execute
from xfc.backends.python.name_parameters import generated_names
from xfc.backends.verify import difference
from xfc.backends.verify_inputs import Inputs
from xfc.backends.verify_modules import NumpyModule, TorchModule, loaded
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import Sym
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.passes.prove_causality import check_causality
from xfc.compiler.pipeline import run as run_passes
from xfc.compiler.verify_ir import verify as verify_ir
from xfc.grammar import tree
from xfc.grammar.convert import to_xf, to_yaml
from xfc.grammar.load import load

Array = NDArray[Any]
TOLERANCE = 1e-9
SLOPE = 2e-5


class Disagreement(Exception):  # noqa: N818 -- what a test is for
    """Two executions, or two texts, differ."""


class Refused(Exception):  # noqa: N818 -- no fault by itself
    """The compiler says that the spec is wrong."""


@dataclass(slots=True)
class Done:
    """What was checked of one spec."""

    program: ir.Program
    checks: list[str] = field(default_factory=list)


def check_spec(text: str, folder: Path, seed: int) -> Done:
    """Everything, on inputs and weights of the seed. Raises Disagreement; what the compiler refuses raises Refused."""
    path = folder / "spec.xf"
    path.write_text(text, encoding="utf-8")
    program = elaborated(path)
    done = Done(program)
    verify_ir(program)
    emitted = run_passes(program)
    verify_ir(emitted)
    codes = torch_backend.emit(emitted), numpy_backend.emit(emitted)
    check_surfaces(path, program.name, codes, folder)
    done.checks += ["bytes", "surfaces"]
    under = lengths(program, seed)
    params = interpreter.initial_params(program, seed, np.float64, under)
    with loaded(codes[0], "random_torch") as torch_module, loaded(codes[1], "random_numpy") as numpy_module:
        run = _Run(program, emitted, torch_module, numpy_module, params, under, seed)
        for name, inputs in run.input_sets().items():
            run.forward(name, inputs)
            done.checks.append(name)
        done.checks += run.gradients()
        done.checks += run.segments()
        done.checks += run.training()
        done.checks += run.steps()
    return done


def elaborated(path: Path) -> ir.Program:
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    if program is not None and not diagnostics.failed:
        check_causality(program, diagnostics)
    if program is None or diagnostics.failed:
        first = next(d for d in diagnostics.found if d.is_error) if hasattr(diagnostics.found[0], "is_error") else diagnostics.found[0]
        raise Refused(f"{first.code}: {first.message}")
    return program


def check_surfaces(path: Path, name: str, codes: tuple[str, str], folder: Path) -> None:
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
    same = models[-1:] == [name]
    emitted = run_passes(elaborated(yaml if same else path))
    for emit, code in zip((torch_backend.emit, numpy_backend.emit), codes, strict=True):
        if emit(emitted).replace("from spec.yaml", "from spec.xf") != code:
            raise Disagreement("from YAML other code is made" if same else "compiled twice, the bytes differ")


def lengths(program: ir.Program, seed: int) -> dict[Sym, int | float]:
    """Values of the dynamic axes that keep the facts; one is often the smallest that does."""
    rng = np.random.default_rng(seed)
    for attempt in range(60):
        under: dict[Sym, int | float] = {
            s: int(rng.choice((1, 2, 3)) if k == 0 else rng.choice((1, 2, 3, 4, 5, 7) if attempt < 30 else range(1, 14)))
            for k, s in enumerate(program.dynamic)
        }
        if all(_holds(f, under) for f in program.facts):
            return under
    raise Refused("no small lengths keep the facts")


def _holds(fact: ir.Fact, under: Mapping[Sym, int | float]) -> bool:
    a, b = fact.a.value(under), fact.b.value(under)
    if a is None or b is None:
        return True
    return bool(b % a == 0 if fact.kind == "divides" else a == b if fact.kind == "equal" else a >= b)


@contextmanager
def frozen(kept: list[Array], replay: bool) -> Iterator[None]:
    """What `stop_gradient` was at first, again: so that finite differences see what autograd sees."""
    plain = execute.Frame.single
    at = iter(list(kept))

    def single(self: execute.Frame, node: ir.Node) -> execute.Tensor:
        found = plain(self, node)
        if not isinstance(node, ir.StopGradient):
            return found
        if replay:
            return execute.Tensor(next(at), found.labels)
        kept.append(found.array)
        return found

    execute.Frame.single = single  # type: ignore[method-assign]
    try:
        yield
    finally:
        execute.Frame.single = plain  # type: ignore[method-assign]


class _Run:
    def __init__(
        self,
        program: ir.Program,
        emitted: ir.Program,
        torch_module: Any,
        numpy_module: Any,
        params: dict[str, Array],
        under: dict[Sym, int | float],
        seed: int,
    ) -> None:
        self.program, self.emitted, self.params, self.under, self.seed = program, emitted, params, under, seed
        self.static = {s: v for s, v in under.items() if s.value is not None}
        names = tuple(n or "output" for n in emitted.root.output_names) or ("output",)
        renamed = generated_names(emitted)
        places = [interpreter.places(p, self.static) for p in (emitted, renamed)]
        keys = {own.name: there.name for own, there in zip(*places, strict=True)}
        self.torch = TorchModule.build(torch_module, {}, "float64", names, keys)
        self.torch.load(params)
        self.numpy = NumpyModule(numpy_module, self.torch.state(), numpy_module.Config(), "float64", names)
        self.rng = np.random.default_rng(seed)

    # ------------------------------------------------ inputs

    def input(self, item: ir.ModelInput) -> Array:
        shape = tuple(int(a.size.value(self.under) or 0) for a in item.value.type.axes)
        if item.value.type.dtype == "bool":
            return self.rng.random(shape) < 0.6
        if item.value.type.dtype == "int":
            return self.rng.integers(0, int(item.bound.value(self.under) or 1) if item.bound is not None else 3, shape)
        return self.rng.normal(size=shape)

    def required(self) -> Inputs:
        return {i.name: self.input(i) for i in self.program.inputs if i.required}

    def input_sets(self) -> dict[str, Inputs]:
        """Required inputs alone; masks with rows that are all padding, left padding and none; labels."""
        required = self.required()
        found = {"forward": required}
        masks = [
            i
            for i in self.program.inputs
            if not i.required and not i.training and i.value.type.dtype == "int" and i.bound is None and "mask" in i.name
        ]
        if masks:
            found["masked"] = {**required, **{i.name: self.rng.integers(0, 2, self.input(i).shape) for i in masks}}
            found["nothing kept"] = {**required, **{i.name: np.zeros_like(self.input(i)) for i in masks}}
        if self.program.losses:
            vocab = self.classes()
            labels = {i.name: self.rng.integers(0, vocab, self.input(i).shape) for i in self.program.inputs if i.training}
            for array in labels.values():
                if array.size > 2:
                    array.reshape(-1)[0] = -100
            found["loss"] = {**required, **labels}
        return found

    def classes(self) -> int:
        losses = (n for m in ir.walk(self.program.root) for n in m.body if isinstance(n, ir.CrossEntropy))
        return min((int(n.logits.type.axis(n.over).size.value(self.under) or 1) for n in losses), default=2)

    def given(self, inputs: Inputs) -> Inputs:
        kept = {i.name for i in self.emitted.inputs}
        return {n: a for n, a in inputs.items() if n in kept}

    def interpret(self, inputs: Inputs, params: Mapping[str, Array] | None = None, **options: Any) -> dict[str, Array]:
        try:
            return interpreter.run(self.program, params or self.params, inputs, under=self.static, **options)
        except interpreter.InterpreterError as error:
            if "zero-size" in str(error):  # the least of nothing
                raise Refused("an axis of these lengths is empty") from error
            raise

    # ------------------------------------------------ checks

    def same(self, what: str, got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
        for name, array in want.items():
            if name.startswith("loss"):
                continue
            error = difference(got.get(name), array)
            if not error <= TOLERANCE:
                shapes = f"{got[name].shape} and {array.shape}" if name in got else "missing"
                raise Disagreement(f"{what}, {name}: {error:.1e} ({shapes}), lengths {self.under}")

    def forward(self, name: str, inputs: Inputs) -> None:
        want = self.interpret(inputs)
        if name == "loss":
            asked = {} if any(i.training for i in self.program.inputs) else {"return_loss": True}
            for backend, module in (("torch", self.torch), ("numpy", self.numpy)):
                got = next(iter(module(self.given(inputs), **asked).values()))
                error = difference(got, want["loss"])
                if not error <= TOLERANCE:
                    raise Disagreement(f"{backend}, loss: {got} and {want['loss']}, lengths {self.under}")
            return
        self.same(f"torch, {name}", self.torch(self.given(inputs)), want)
        self.same(f"numpy, {name}", self.numpy(self.given(inputs)), want)

    def gradients(self) -> list[str]:
        """Autograd along random directions of all weights and float inputs against slopes of the interpreter."""
        import torch

        inputs = self.required()
        base = self.interpret(inputs)
        project = {n: self.rng.normal(size=a.shape) for n, a in base.items() if a.dtype.kind == "f" and not n.startswith("loss")}
        trained = {p.name for p in interpreter.places(self.program, self.static) if p.param.trainable}
        moved = sorted(n for n in trained if self.params[n].dtype.kind == "f")
        floats = sorted(n for n, a in self.given(inputs).items() if a.dtype.kind == "f")
        if not project or not all(np.isfinite(a).all() for a in base.values()) or not moved + floats:
            return []
        tensors = {n: t.requires_grad_(n in floats) for n, t in self.torch.tensors(self.given(inputs)).items()}
        self.torch.model.zero_grad()
        result = self.torch.model(**tensors)
        fields = result._asdict() if hasattr(result, "_asdict") else {self.torch.names[0]: result}
        total = sum((fields[n] * torch.from_numpy(p)).sum() for n, p in project.items())
        if isinstance(total, torch.Tensor) and total.requires_grad:
            total.backward()  # type: ignore[no-untyped-call]
        own = {self.torch.spec_names.get(n, n): p.grad for n, p in self.torch.model.named_parameters()}
        kept: list[Array] = []
        with frozen(kept, replay=False):
            self.interpret(inputs)
        smooth = 0
        for _ in range(2):
            ways = {n: self.rng.normal(size=self.params[n].shape) for n in moved}
            input_ways = {n: self.rng.normal(size=inputs[n].shape) for n in floats}
            found = sum(float((own[n].numpy().reshape(-1) * w.reshape(-1)).sum()) for n, w in ways.items() if own.get(n) is not None)
            found += sum(float((tensors[n].grad.numpy() * w).sum()) for n, w in input_ways.items() if tensors[n].grad is not None)

            def value(step: float, ways: dict[str, Array] = ways, input_ways: dict[str, Array] = input_ways) -> float:
                params = {**self.params, **{n: self.params[n] + step * w for n, w in ways.items()}}
                with frozen(kept, replay=True):
                    outputs = self.interpret({**inputs, **{n: inputs[n] + step * w for n, w in input_ways.items()}}, params)
                return float(sum((outputs[n] * p).sum() for n, p in project.items()))

            smooth += self.slope(value, found)
        return ["gradient"] * bool(smooth)

    def slope(self, value: Callable[[float], float], found: float) -> bool:
        """Whether the slope could be taken: at a kink the two sides differ, and there is none."""
        middle = value(0.0)
        seen = []
        for step in (1e-5, 1e-6, 1e-4):
            after, before = value(step), value(-step)
            slope = (after - before) / (2 * step)
            scale = max(1.0, abs(slope), abs(middle) * 1e-3)
            if abs(slope - found) <= SLOPE * scale:
                return True
            bend = abs((after - middle) - (middle - before)) / step
            seen.append((slope, bend / scale))
        if seen[1][1] > 1e-4 and seen[1][1] > 0.3 * seen[0][1]:  # a kink bends alike at every step, curvature less at smaller ones
            return False
        raise Disagreement(f"gradient: {found:.9e} by autograd, {seen[0][0]:.9e} by differences, lengths {self.under}")

    def segments(self) -> list[str]:
        """Three calls in turn, with what is carried from one to the next."""
        if not any(m.states for m in ir.walk(self.program.root)):
            return []
        calls = [self.required() for _ in range(3)]
        state: dict[str, Array] = {}
        want = [self.interpret(i, state=state) for i in calls]
        batch = int(next(iter(calls[0].values())).shape[0])
        for backend, module in (("torch", self.torch), ("numpy", self.numpy)):
            held = module.start(batch)
            for k, (inputs, wanted) in enumerate(zip(calls, want, strict=True)):
                self.same(f"{backend}, segment {k + 1}", module(self.given(inputs), state=held), wanted)
        return ["segments"]

    def training(self) -> list[str]:
        nodes = [n for m in ir.walk(self.program.root) for n in m.body]
        nodes += [n for node in nodes for r in ir.regions(node) for n in r.body]
        if any(isinstance(n, ir.Dropout) and n.rate.value(self.under) != 0 for n in nodes):
            return []
        inputs, buffers = self.required(), dict[str, Array]()
        want = self.interpret(inputs, training=True, buffers=buffers)
        got, after = self.torch.in_training(self.given(inputs))
        self.same("torch, in training", got, want)
        after = {self.torch.spec_names.get(n, n): a for n, a in after.items()}
        for name, array in buffers.items():
            if not difference(after[name].reshape(array.shape), array) <= TOLERANCE:
                raise Disagreement(f"torch, {name} after training")
        return ["training"]

    def steps(self) -> list[str]:
        """Where decoding can be derived: chunks equal all at once, in the interpreter and in the emitted module."""
        derived = derive_decoding(self.program)
        if isinstance(derived, Refusal) or derived.decoding is None:
            return []
        verify_ir(derived)
        rows, inputs = derived.decoding.rows, self.required()
        whole = self.interpret(inputs)
        total = int(self.under[rows])
        cache, found, start = interpreter.init_cache(derived), list[dict[str, Array]](), 0
        parts = self.parts(total, derived)
        for size in parts:
            part: Inputs = {}
            for item in derived.inputs:
                at = next((k for k, a in enumerate(item.value.type.axes) if rows in a.size.symbols), None)
                if item.name in inputs and (at is not None or not found):
                    part[item.name] = inputs[item.name] if at is None else np.take(inputs[item.name], range(start, start + size), axis=at)
            found.append(interpreter.run(derived, self.params, part, under=self.static, cache=cache))
            start += size
        named = list(zip(derived.root.output_names or ("output",), derived.root.outputs, strict=True))
        for name, value in (named[k] for k in derived.decoding.outputs):
            at = next((k for k, a in enumerate(value.type.axes) if rows in a.size.symbols), None)
            if at is not None and name in whole:
                self.same(f"steps of {parts}", {name: np.concatenate([f[name] for f in found], axis=at)}, {name: whole[name]})
        return ["steps"]

    def parts(self, total: int, derived: ir.Program) -> list[int]:
        """A prompt long enough for the facts, then tokens and a chunk."""
        assert derived.decoding is not None
        least = next(
            (n for n in range(1, total + 1) if all(_holds(f, {**self.under, derived.decoding.rows: n}) for f in self.program.facts)),
            total,
        )
        first = min(total, least + int(self.rng.integers(0, 2)))
        rest, sizes = total - first, [first]
        while rest:
            sizes.append(min(rest, int(self.rng.integers(1, 3))))
            rest -= sizes[-1]
        return sizes
