"""A call at a time against all at once: the interpreter, both modules with their caches, generated tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfc.backends import interpreter
from xfc.backends.verify_decoding import calls_of, joined
from xfc.backends.verify_inputs import Inputs
from xfc.compiler import ir
from xfc.compiler.decoding.absorb_maps import absorb_maps

from .executions import Disagreement, Executions, holds

Array = NDArray[Any]
NEW = 2
"""Tokens that are generated."""


class Decoder:
    """`cached`: whether the modules of PyTorch and NumPy have a cache."""

    def __init__(self, run: Executions, derived: ir.Program, cached: tuple[bool, bool]) -> None:
        assert derived.decoding is not None
        self.run, self.derived, self.decoding = run, derived, derived.decoding
        self.modules = [
            (name, module) for (name, module), does in zip((("torch", run.torch), ("numpy", run.numpy)), cached, strict=True) if does
        ]
        self.total = int(run.under[self.decoding.rows])

    def checks(self) -> list[str]:
        found = []
        names = [n for n in self.run.sets if n != "loss"]
        for k, name in enumerate(names):
            if k in (0, len(names) - 1) or name == "masked":
                self.steps(name, interpreted=k == len(names) - 1)
                found.append(f"steps, {name}")
        found += [f"steps, {name}" for name, _ in self.modules]
        return found + self.last_rows() + self.generated()

    def steps(self, name: str, *, interpreted: bool) -> None:
        """A prompt, then tokens and chunks; a step at which an optional input is left out stands for its default."""
        run, inputs = self.run, self.run.sets[name]
        parts, batch = self.parts(), next(iter(inputs.values())).shape[0]
        program = absorb_maps(self.derived) if run.seed % 2 else self.derived
        held = interpreter.init_cache(program)
        ways: list[tuple[str, Callable[[Inputs], Mapping[str, Array]]]] = []
        if interpreted:
            ways.append(("interpreter", lambda i: interpreter.run(program, run.params, i, under=run.static, cache=held)))
        ways += [(backend, partial(module, cache=module.cache(batch, self.total))) for backend, module in self.modules]
        for backend, way in ways:
            calls = calls_of(self.derived, inputs, parts, repeats=backend == "numpy")
            found = [way(call if backend == "interpreter" else run.given(call)) for call in calls]
            if backend == "torch":
                self.check_fields(found)
            got = joined(self.derived, found)
            run.same(f"{backend}, {name}, steps of {parts}", got, {n: a for n, a in run.wanted[name].items() if n in got})

    def check_fields(self, calls: list[Mapping[str, Array]]) -> None:
        """Of several outputs, what a call with a cache may leave out is said by its type, and nothing else."""
        kind = getattr(self.run.torch_module, "Output", None)
        for name, said in kind.__annotations__.items() if kind is not None else ():
            absent, may = any(name not in call for call in calls), "None" in str(said)
            if absent != may and (absent or len(calls) > 1):
                raise Disagreement(f"torch, {name} is {said}, and {'absent' if absent else 'there'} in {len(calls)} calls with a cache")

    def parts(self) -> list[int]:
        """A prompt long enough for the facts, then tokens and a chunk."""
        run = self.run
        least = next((n for n in range(1, self.total + 1) if self.allowed(n)), self.total)
        first = min(self.total, max(least + int(run.rng.integers(0, 2)), self.total - 12))
        rest, sizes = self.total - first, [first]
        while rest:
            sizes.append(min(rest, int(run.rng.integers(1, 4))))
            rest -= sizes[-1]
        return sizes

    def allowed(self, length: int) -> bool:
        return all(holds(f, {**self.run.under, self.decoding.rows: length}) for f in self.run.program.facts)

    def last_rows(self) -> list[str]:
        """The scores of the last tokens alone."""
        import inspect

        run = self.run
        offered = "logits_to_keep" in inspect.signature(run.torch.model.forward).parameters
        if not offered and plain_head(run.program):
            raise Disagreement("torch, logits_to_keep: not offered, where a linear map alone makes the logits")
        if not offered or self.total < 2:
            return []
        whole, last = run.torch(run.given(run.sets["forward"])), run.torch(run.given(run.sets["forward"]), logits_to_keep=1)
        if not any(last[n].shape != a.shape for n, a in whole.items() if a.ndim > 1):
            raise Disagreement("torch, logits_to_keep: as many rows as without it")
        for name, array in last.items():
            axis = next((k for k, (m, n) in enumerate(zip(array.shape, whole[name].shape, strict=True)) if m != n), None)
            run.same("torch, logits_to_keep", {name: array}, {name: whole[name] if axis is None else np.take(whole[name], [-1], axis)})
        return ["last rows"]

    def generated(self) -> list[str]:
        """The likeliest tokens, found with the cache, are those that a whole forward gives, one after another."""
        import torch

        run = self.run
        make = getattr(run.torch.model, "generate", None)
        if make is None or not all(self.allowed(self.total + k) for k in range(NEW + 1)):
            return []
        inputs = run.given(run.sets["forward"])
        ids = next(
            i.name for i in run.program.inputs if i.bound is not None and i.name in inputs and i.value.type.labels[-1:] and self.runs(i)
        )
        got = make(**run.torch.tensors(inputs), max_new_tokens=NEW).numpy()
        for _ in range(NEW):
            with torch.no_grad():
                logits = run.torch(inputs)
            scores = next(iter(logits.values()))[:, -1]
            best = np.sort(scores, -1)
            if best.shape[-1] > 1 and (best[:, -1] - best[:, -2]).min() < 1e-9 * max(1.0, float(np.abs(best).max())):
                return []  # two are as likely
            inputs = {**inputs, ids: np.concatenate([inputs[ids], scores.argmax(-1)[:, None]], 1)}
        if not np.array_equal(got, inputs[ids]):
            raise Disagreement(f"torch, generated tokens: {got.tolist()} and {inputs[ids].tolist()}")
        return ["generated"]

    def runs(self, item: ir.ModelInput) -> bool:
        return any(self.decoding.rows in a.size.symbols for a in item.value.type.axes)


def plain_head(program: ir.Program) -> bool:
    """Whether the last thing that a model does is to map what it has of each token to logits, and no one else reads either."""
    root = program.root
    if root.output_names not in ((), ("logits",)) or len(root.outputs) != 1:
        return False
    made = next((n for n in root.body if root.outputs[0] in n.outs), None)
    child = root.child(made.target) if isinstance(made, ir.Call) and isinstance(made.target, str) else None
    return isinstance(child, ir.Child) and len(made.args) == 1 and not child.module.children and len(child.module.body) == 1  # type: ignore[union-attr]
