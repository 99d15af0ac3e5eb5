"""Where gradients part: the last operation of a forward pass, the first of the backward one, through which a wrong gradient comes.

Each use of a value v by an operation is written as v + s * (v + 1) with a new parameter s, which is 0: what the model computes stays, and the
gradient of s is that of this use. The last operation of the body with a wrong one is the first that the backward pass leaves wrongly. If it
applies a module, the search goes on inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..compiler import ir
from ..compiler.diagnostics import SpecError
from ..compiler.dims import Sym, const
from ..compiler.ir import Module, Node, Param, Program, Type, Value
from ..grammar.frozen import frozen
from .find_divergence import Divergence, Step, module_at, modules_below, told
from .interpreter import places

Errors = Callable[[Program, Sequence[str]], Mapping[str, float]]
"""How far the gradients of some parameters of a program, all of them 0, are off."""


def find_gradient_divergence(program: Program, errors: Errors, tolerance: float, under: Mapping[Sym, int | float]) -> Divergence | None:
    """The operation whose gradients part; none if those of no use in the model's body do."""
    search = _Search(program, errors, tolerance, under)
    path: tuple[Step, ...] = ()
    wrong = search.last_wrong(path, "")
    if wrong is None:
        return None
    while True:
        module = module_at(program.root, path)
        found = told(module.body[wrong.node], "torch", wrong.where, wrong.error, gradient=True)
        deeper = search.inside(path, module, wrong)
        if deeper is None:
            return found
        path, wrong = deeper


@frozen
class _Wrong:
    """A node of a body with a wrong gradient of one of its operands; `where` is the path of the module that has the body."""

    node: int
    where: str
    error: float

    @property
    def layer(self) -> int:
        last = self.where.rpartition(".")[2]
        return int(last) if last.isdigit() else 0


@frozen
class _Search:
    program: Program
    errors: Errors
    tolerance: float
    under: Mapping[Sym, int | float]

    def inside(self, path: tuple[Step, ...], module: Module, wrong: _Wrong) -> tuple[tuple[Step, ...], _Wrong] | None:
        """Inside what a node applies; of several kinds of layers, in the last that is wrong."""
        node = module.body[wrong.node]
        if not isinstance(node, ir.Call | ir.Fold) or isinstance(node.target, Module):  # a function can have no parameters
            return None
        where = f"{wrong.where}.{node.target}".removeprefix(".")
        paths = [(*path, Step(node=wrong.node, slot=slot)) for slot in range(len(modules_below(node, module)))]
        found = [(inner, deeper) for inner in paths if (deeper := self.last_wrong(inner, where)) is not None]
        return max(found, key=lambda f: f[1].layer, default=None)

    def last_wrong(self, path: tuple[Step, ...], where: str) -> _Wrong | None:
        """The last wrong use in the bodies at a path: of a stack, in its last layer that has one."""
        scaled, uses = _scaled(module_at(self.program.root, path))
        probed = replace(self.program, root=_with(self.program.root, path, scaled), checkpoint=())
        nodes = {p.name: uses[p.param] for p in places(probed, self.under) if p.param in uses and f".{p.name}".startswith(f".{where}")}
        try:
            off = self.errors(probed, list(nodes))
        except (SpecError, ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError):
            return None  # what is asked for cannot be written
        wrong = (_Wrong(nodes[n], n.rpartition(".")[0], error) for n, error in off.items() if not error <= self.tolerance)
        return max(wrong, key=lambda w: (w.layer, w.node, w.error), default=None)


def _scaled(module: Module) -> tuple[Module, dict[Param, int]]:
    """The module with a parameter for each use of a float by a node, and the numbers of the nodes."""
    uses: dict[Param, int] = {}
    body: list[Node] = []
    for number, node in enumerate(module.body):
        mapping: dict[Value, Value] = {}
        for value in dict.fromkeys(ir.operands(node)):
            if value.type.dtype not in ("float", "float32"):
                continue
            name = f"probe_{len(uses)}"
            scale = Param(name=name, value=Value(Type(()), name), init=ir.Init(kind="zeros"), trainable=True, span=node.span)
            uses[scale] = number
            one_more, part, moved = (Value(value.type, value.hint, value.span) for _ in range(3))
            body += [
                ir.Elementwise(outs=(one_more,), span=node.span, function="add", args=(value, const(1))),
                ir.Elementwise(outs=(part,), span=node.span, function="mul", args=(one_more, scale.value)),
                ir.Elementwise(outs=(moved,), span=node.span, function="add", args=(value, part)),
            ]
            mapping[value] = moved
        body.append(ir.replace_values(node, mapping))
    return replace(module, params=(*module.params, *uses), body=tuple(body)), uses


def _with(module: Module, path: Sequence[Step], new: Module) -> Module:
    """The module with another one at a path."""
    if not path:
        return new
    step, node = path[0], module.body[path[0].node]
    inner = _with(modules_below(node, module)[step.slot], path[1:], new)
    assert isinstance(node, ir.Call | ir.Fold) and isinstance(node.target, str)
    old = module.child(node.target)
    changed = (
        replace(old, slots=tuple((inner if k == step.slot else m, n) for k, (m, n) in enumerate(old.slots)))
        if isinstance(old, ir.Stack)
        else replace(old, module=inner)
    )
    return replace(module, children=tuple(changed if c is old else c for c in module.children))
