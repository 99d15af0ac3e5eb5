"""One spec run three ways, on the same weights and inputs, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfc.backends import interpreter
from xfc.backends.interpreter import execute
from xfc.backends.python.name_parameters import generated_names
from xfc.backends.verify import difference
from xfc.backends.verify_inputs import Inputs
from xfc.backends.verify_modules import NumpyModule, TorchModule
from xfc.compiler import ir
from xfc.compiler.dims import Sym

from .ties import watched

Array = NDArray[Any]
TOLERANCE = 1e-9
SLOPE = 2e-5
GREATEST = 1e7
"""Outputs above are drawn anew, of smaller weights."""
GREATEST_INSIDE = 1e10
"""The same of what slopes are taken through: what a norm divides by such numbers has lost its digits, forwards and on the way back."""


class Disagreement(Exception):  # noqa: N818 -- what a test is for
    """Two executions, or two texts, differ."""


class Grown(Exception):  # noqa: N818 -- no fault by itself
    """Outputs too large to take slopes of."""


class Refused(Exception):  # noqa: N818 -- no fault by itself
    """The compiler says that the spec is wrong."""


def holds(fact: ir.Fact, under: Mapping[Sym, int | float]) -> bool:
    a, b = fact.a.value(under), fact.b.value(under)
    if a is None or b is None:
        return True
    return bool(b % a == 0 if fact.kind == "divides" else a == b if fact.kind == "equal" else a >= b)


def named(program: ir.Program, under: Mapping[Sym, int | float]) -> dict[str, int | float]:
    """The Config's numbers among those a program is run with."""
    return {name: under[sym] for name, sym in program.config if sym in under}


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


class Executions:
    """The program interpreted as it was elaborated, and the two modules made of `emitted`."""

    def __init__(
        self,
        program: ir.Program,
        emitted: ir.Program,
        torch_module: Any,
        numpy_module: Any,
        params: dict[str, Array],
        under: dict[Sym, int | float],
        seed: int,
        without: frozenset[str] = frozenset(),
    ) -> None:
        """`without`: sets of inputs that are left out."""
        self.program, self.emitted, self.params, self.under, self.seed = program, emitted, params, under, seed
        self.static = {s: v for s, v in under.items() if s.value is not None}
        names = tuple(n or "output" for n in emitted.root.output_names) or ("output",)
        renamed = generated_names(emitted)
        places = [interpreter.places(p, self.static) for p in (emitted, renamed)]
        keys = {own.name: there.name for own, there in zip(*places, strict=True)}
        config = named(emitted, under)
        self.again = lambda module: self.loaded(TorchModule.build(module, config, "float64", names, keys))
        self.torch_module = torch_module
        self.torch = TorchModule.build(torch_module, config, "float64", names, keys)
        self.initial = self.torch.weights()
        self.torch.load(params)
        self.compute_tables(self.torch)
        self.numpy = NumpyModule(numpy_module, self.torch.state(), numpy_module.Config(**config), "float64", names)
        self.kept = {i.name for i in emitted.inputs}
        self.rng = np.random.default_rng(seed)
        self.sets = {name: inputs for name, inputs in self.input_sets().items() if name not in without}
        self.wanted: dict[str, dict[str, Array]] = {}
        self.stopped: list[Array] = []

    def loaded(self, made: TorchModule) -> TorchModule:
        """A module made of the same program another way, with the same weights."""
        made.load(self.params)
        self.compute_tables(made)
        return made

    def compute_tables(self, made: TorchModule) -> None:
        """Tables that no checkpoint holds are made in float32; from here on, as precisely as the interpreter makes them."""
        import torch

        stored = made.model.state_dict()
        for name, buffer in made.model.named_buffers():
            wanted = self.params.get(made.spec_names.get(name, name))
            if name not in stored and wanted is not None:
                if not difference(buffer.numpy().reshape(wanted.shape), wanted) <= 1e-6:
                    raise Disagreement(f"torch, the table {name}")
                with torch.no_grad():
                    buffer.copy_(torch.from_numpy(np.array(wanted)).reshape(buffer.shape))

    def checks(self) -> list[str]:
        for name, inputs in self.sets.items():
            self.forward(name, inputs)
        return [*self.sets, *self.gradients(), *self.segments(), *self.training()]

    def undecided(self) -> set[str]:
        """The sets of inputs where rounding decides something."""
        found = set()
        for name, inputs in self.sets.items():
            near: list[str] = []
            with watched(near):
                self.interpret(inputs)
                self.interpret(inputs, training=True, buffers={})
            if near:
                found.add(name)
        return found

    # ------------------------------------------------ inputs

    def input(self, item: ir.ModelInput, under: Mapping[Sym, int | float] | None = None) -> Array:
        shape = tuple(int(a.size.value(under or self.under) or 0) for a in item.value.type.axes)
        if item.value.type.dtype == "bool":
            return self.rng.random(shape) < 0.6
        if item.value.type.dtype == "int":
            return self.rng.integers(0, int(item.bound.value(self.under) or 1) if item.bound is not None else 3, shape)
        return self.rng.normal(size=shape)

    def required(self) -> Inputs:
        return {i.name: self.input(i) for i in self.program.inputs if i.required}

    def input_sets(self) -> dict[str, Inputs]:
        """Required inputs alone; optional ones too; masks with rows that are all padding; labels."""
        required = self.required()
        found = {"forward": required}
        masks = [i for i in self.program.inputs if not i.required and not i.training and i.value.type.dtype == "int" and "mask" in i.name]
        others = [i for i in self.program.inputs if not i.required and not i.training and i not in masks]
        if others:
            found["optional"] = {**required, **{i.name: self.input(i) for i in others}}
        if masks:
            found["masked"] = {**required, **{i.name: self.rng.integers(0, 2, self.input(i).shape) for i in masks}}
            found["nothing kept"] = {**required, **{i.name: np.zeros_like(self.input(i)) for i in masks}}
        if self.program.losses:
            classes = self.classes()
            labels = {i.name: self.rng.integers(0, classes, self.input(i).shape) for i in self.program.inputs if i.training}
            for array in labels.values():
                if array.size > 2:
                    array.reshape(-1)[0] = -100
            found["loss"] = {**required, **labels}
        return found

    def classes(self) -> int:
        losses = (n for m in ir.walk(self.program.root) for n in m.body if isinstance(n, ir.CrossEntropy))
        return min((int(n.logits.type.axis(n.over).size.value(self.under) or 1) for n in losses), default=2)

    def given(self, inputs: Inputs) -> Inputs:
        return {n: a for n, a in inputs.items() if n in self.kept}

    def interpret(self, inputs: Inputs, params: Mapping[str, Array] | None = None, **options: Any) -> dict[str, Array]:
        try:
            return interpreter.run(self.program, params or self.params, inputs, under=self.static, **options)
        except interpreter.InterpreterError as error:
            if "zero-size" in str(error) or "empty sequence" in str(error):  # the least of nothing, or where it is
                raise Refused("an axis of these lengths is empty") from error
            raise

    # ------------------------------------------------ outputs

    def same(self, what: str, got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
        for name, array in want.items():
            if name.startswith("loss"):
                continue
            error = difference(got.get(name), array)
            if not error <= TOLERANCE and np.isnan(array).any() and name in got and np.isinf(got[name]).any():
                raise Grown(name)  # no number, of infinities
            if not error <= TOLERANCE:
                shapes = f"{got[name].shape} and {array.shape}" if name in got else "missing"
                raise Disagreement(f"{what}, {name}: {error:.1e} ({shapes}), lengths {self.under}")

    def forward(self, name: str, inputs: Inputs) -> None:
        last = name == list(self.sets)[-1]
        with frozen(self.stopped, replay=False) if last else frozen([], replay=False):
            want = self.wanted[name] = self.interpret(inputs)
        if any(np.abs(a[np.isfinite(a)]).max(initial=0) > GREATEST for a in want.values() if a.dtype.kind == "f"):
            raise Grown(name)
        if name == "loss":
            for backend, module in (("torch", self.torch), ("numpy", self.numpy)):
                got = next(iter(module(self.given(inputs), **self.asked()).values()))
                error = difference(got, want["loss"])
                if not error <= TOLERANCE:
                    raise Disagreement(f"{backend}, loss: {got} and {want['loss']}, lengths {self.under}")
            return
        self.same(f"torch, {name}", self.torch(self.given(inputs)), want)
        self.same(f"numpy, {name}", self.numpy(self.given(inputs)), want)

    def asked(self) -> dict[str, bool]:
        """How a module is asked for its loss, beside the inputs that only losses read."""
        return {} if any(i.training for i in self.program.inputs) else {"return_loss": True}

    # ------------------------------------------------ gradients

    def gradients(self) -> list[str]:
        """Autograd along a random direction of all weights and float inputs against slopes of the interpreter: of the outputs projected at
        random, and of the loss. All inputs of the last set are given."""
        name, inputs = list(self.sets.items())[-1]
        base = self.wanted[name]
        project = {n: self.rng.normal(size=a.shape) for n, a in base.items() if a.dtype.kind == "f" and not n.startswith("loss")}
        trained = {p.name for p in interpreter.places(self.program, self.static) if p.param.trainable}
        moved = sorted(n for n in trained if self.params[n].dtype.kind == "f")
        floats = sorted(n for n, a in self.given(inputs).items() if a.dtype.kind == "f")
        if not all(np.isfinite(a).all() for a in base.values()) or not moved + floats:
            return []
        ways = {n: self.rng.normal(size=self.params[n].shape) for n in moved}
        input_ways = {n: self.rng.normal(size=inputs[n].shape) for n in floats}

        def values(step: float) -> tuple[float, float]:
            params = {**self.params, **{n: self.params[n] + step * w for n, w in ways.items()}}
            with frozen(self.stopped, replay=True):
                found = self.interpret({**inputs, **{n: inputs[n] + step * w for n, w in input_ways.items()}}, params) if step else base
            return float(sum((found[n] * p).sum() for n, p in project.items())), float(found.get("loss", np.zeros(())))

        plain = {n: a for n, a in inputs.items() if name != "loss" or n in self.sets["forward"]}
        found = [self.along(plain, {}, project, ways, input_ways)] if project else [0.0]
        if name == "loss":
            found.append(self.along(inputs, self.asked(), {}, ways, input_ways))
        try:
            smooth = self.slopes(values, found)
        except Disagreement:
            if self.greatest_inside(plain) > GREATEST_INSIDE:
                raise Grown("inside") from None
            raise
        kinds = [what for what, is_smooth in zip(("gradient", "gradient of the loss"), smooth, strict=False) if is_smooth]
        return kinds if project else kinds[1:]

    def greatest_inside(self, inputs: Inputs) -> float:
        """The greatest finite number that the PyTorch module computes on its way."""
        from torch.utils._python_dispatch import TorchDispatchMode

        greatest = [0.0]

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                import torch

                made = func(*args, **(kwargs or {}))
                for x in made if isinstance(made, tuple | list) else (made,):
                    if isinstance(x, torch.Tensor) and x.is_floating_point() and x.numel():
                        greatest.append(float(np.nan_to_num(x.detach().numpy(), nan=0.0, posinf=0.0, neginf=0.0).__abs__().max()))
                return made

        with Watch():
            self.torch(self.given(inputs))
        return max(greatest)

    def along(
        self,
        inputs: Inputs,
        options: Mapping[str, bool],
        project: Mapping[str, Array],
        ways: Mapping[str, Array],
        input_ways: Mapping[str, Array],
    ) -> float:
        """The slope by autograd: of the outputs projected, or (without a projection) of the loss."""
        import torch

        given = self.given(inputs)
        tensors = {n: t.requires_grad_(given[n].dtype.kind == "f") for n, t in self.torch.tensors(given).items()}
        self.torch.model.zero_grad()
        result = self.torch.model(**tensors, **options)
        fields = result._asdict() if hasattr(result, "_asdict") else {self.torch.names[0]: result}
        total = sum((fields[n] * torch.from_numpy(p)).sum() for n, p in project.items()) if project else result
        if not isinstance(total, torch.Tensor) or not total.requires_grad:
            return 0.0
        total.backward()  # type: ignore[no-untyped-call]
        own = {self.torch.spec_names.get(n, n): p.grad for n, p in self.torch.model.named_parameters()}
        found = sum(float((own[n].numpy().reshape(-1) * w.reshape(-1)).sum()) for n, w in ways.items() if own.get(n) is not None)
        return found + sum(float((tensors[n].grad.numpy() * w).sum()) for n, w in input_ways.items() if tensors[n].grad is not None)

    def slopes(self, values: Callable[[float], tuple[float, ...]], found: list[float]) -> list[bool]:
        """Whether each slope could be taken: at a kink the two sides differ, and there is none."""
        middle = values(0.0)
        seen: list[list[tuple[float, float]]] = [[] for _ in found]
        smooth = [False] * len(found)
        for step in (1e-5, 1e-6, 1e-7, 1e-4, 1e-8, 1e-9):  # the last ones where curvature is great
            after, before = values(step), values(-step)
            for k, autograd in enumerate(found):
                slope = (after[k] - before[k]) / (2 * step)
                scale = max(1.0, abs(slope), abs(middle[k]) * 1e-3)
                smooth[k] = smooth[k] or abs(slope - autograd) <= SLOPE * scale
                seen[k].append((slope, abs((after[k] - middle[k]) - (middle[k] - before[k])) / step / scale))
            if all(smooth):
                return smooth
        for k, steps in enumerate(seen):  # a kink bends alike at every step, curvature less at smaller ones
            if not smooth[k] and not (steps[1][1] > 1e-4 and steps[1][1] > 0.3 * steps[0][1]):
                what = ("gradient", "gradient of the loss")[k]
                raise Disagreement(f"{what}: {found[k]:.9e} by autograd, {steps[0][0]:.9e} by differences, lengths {self.under}")
        return smooth

    # ------------------------------------------------ what a call leaves

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
            return self.dropping()
        inputs, buffers = self.sets["forward"], dict[str, Array]()
        differs = any(isinstance(n, ir.Training) for n in nodes) or any(m.updates for m in ir.walk(self.program.root))
        want = self.interpret(inputs, training=True, buffers=buffers) if differs else self.wanted["forward"]
        got, after = self.torch.in_training(self.given(inputs))
        self.same("torch, in training", got, want)
        after = {self.torch.spec_names.get(n, n): a for n, a in after.items()}
        for name, array in buffers.items():
            if not difference(after[name].reshape(array.shape), array) <= TOLERANCE:
                raise Disagreement(f"torch, {name} after training")
        return ["training"] if differs else []

    def dropping(self) -> list[str]:
        """In training, drawn numbers differ: shapes are the same, and all is finite if it is otherwise."""
        got, _ = self.torch.in_training(self.given(self.sets["forward"]))
        for name, array in self.wanted["forward"].items():
            if not name.startswith("loss") and (
                got[name].shape != array.shape or not np.isfinite(got[name]).all() >= np.isfinite(array).all()
            ):
                raise Disagreement(f"torch, in training, {name}: {got[name].shape} and {array.shape}")
        return ["dropout"]
