"""Which functions take a cache, and what they are handed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ...compiler import ir
from ...compiler.decoding.find_running_values import find_running_values
from ...compiler.dims import Expr
from ...compiler.ir import Module, Node, Program, Value
from ..python.code import Code, Text
from ..python.plan_classes import Plan
from ..python.write_body import BodyWriter

CACHE, NONE = Text("cache"), Text("None")


def remembers(module: Module) -> bool:
    """Whether it, or something below, has an entry of the cache."""
    return any(getattr(n, "entry", "") for m in ir.walk(module) for n in m.body)


def counts(module: Module, program: Program) -> bool:
    """Whether it, or something below, asks where the tokens of this call stand, or how many there are by now."""
    nodes = [n for m in ir.walk(module) for n in m.body] if program.decoding is not None else []
    return any(_starts(program, v.type.axes[0].size) for n in nodes for v in _counted(n)) or any(
        isinstance(n, ir.Index) and measures(program, n.out.type.axes[0].size) for n in nodes
    )


def measures(program: Program, size: Expr) -> bool:
    """Whether it is made of the number of all tokens so far."""
    return program.decoding is not None and program.decoding.length in size.symbols


def _counted(node: Node) -> Iterator[Value]:
    if isinstance(node, ir.Index):
        yield node.out
    if isinstance(node, ir.Attend):
        yield from (v for r in (node.mask, node.score) if r is not None for v in r.params if v.type.dtype == "int" and v.type.axes)
    for region in ir.regions(node):
        for inner in region.body:
            yield from _counted(inner)


def _starts(program: Program, size: Expr) -> bool:
    return program.decoding is not None and program.decoding.rows in size.symbols


def arguments(plan: Plan, program: Program) -> list[str]:
    """What a function takes besides the arrays of its module."""
    if remembers(plan.first):
        return ["cache: Cache | None", "path: str"]
    return ["cache: Cache | None"] if any(counts(use, program) for use in plan.of.uses) else []


def starts_later(w: BodyWriter, value: Value) -> bool:
    """Whether an index starts, in some use of the function, from the number of tokens before."""
    program = w.numbers.plans.program
    own = [v for n in w.module.body for v in _counted(n)]
    if value not in own:
        return _starts(program, value.type.axes[0].size)
    at = own.index(value)
    alike = ([v for n in use.body for v in _counted(n)][at] for use in w.numbers.plan.of.uses)
    return any(_starts(program, v.type.axes[0].size) for v in alike)


def handed_on(w: BodyWriter, module: Module, node: Node | None, name: str) -> tuple[Code, ...]:
    """The cache, and the place of a module in it: the path of what applies it, with a number if it is applied again. What runs without a
    cache alone gets none."""
    program = w.numbers.plans.program
    taken = arguments(w.numbers.plans.of(module), program)
    if not taken:
        return ()
    apart = (node is not None and aside(w, node)) or not (remembers(module) or counts(module, program))
    if len(taken) == 1:
        return (NONE if apart else CACHE,)
    if apart or node is None:
        return NONE, Text('""')
    same = [n for n in w.module.body if getattr(n, "target", None) == getattr(node, "target", "")]
    again = f"_{same.index(node) + 1}" if same.index(node) else ""
    stem, _, rest = name.partition(".")
    full = ".".join([stem + again, *([rest] if rest else [])])
    if w.numbers.is_root:
        return CACHE, Text(f'f"{full}"' if "{" in full else f'"{full}"')
    return CACHE, Text(f'f"{{path}}.{full}"')


def aside(w: BodyWriter, node: Node) -> bool:
    """Whether a node runs without a cache alone."""
    program = w.numbers.plans.program
    if program.decoding is None:
        return False
    found = _running(program)
    here = any(v in found for n in w.module.body for v in n.outs)
    return here and not any(v in found for v in node.outs)


@lru_cache(maxsize=2)
def _running(program: Program) -> frozenset[Value]:
    return find_running_values(program)
