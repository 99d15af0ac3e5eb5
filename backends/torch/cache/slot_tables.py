"""What is known of a token by its slot alone stands in the cache for every slot: calls that go on read it instead of computing it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache

from ....compiler import ir
from ....compiler.dims import Expr, sym
from ....compiler.ir import Module, Node, Program, Value
from ....compiler.passes.hoist_invariants import is_cheap
from ....grammar.frozen import frozen
from ...python.code import Assign, Attribute, Binary, Block, Code, Do, Items, Subscript, Text, Var, call, method, number
from ...python.copy_nodes import Copier
from ...python.layouts import Tensor, sizes_of
from ...python.plan_classes import Plans
from ...python.write_body import BodyWriter, Kept
from ..computed_once import view_of
from .nodes import held
from .parts import NONE, entry_of, fields_of, free_field, parts

NAME = "of_positions"
LIKE = Text("like")
_POINTWISE = (ir.Elementwise, ir.Cast, ir.Concat)


def keep_of_slots(program: Program) -> Program:
    """Requires: nothing below the root counts slots by itself. Ensures: where all that is read of the model's positions, which are slots if
    nobody gives them, is functions of them, one function computes these, and the module's cache has its results for all slots. Leaves alone:
    the root's own body, layers, and what is as cheap as reading it."""
    positions = positions_of(program)
    if not positions:
        return program
    changed = replace(program, root=_below(program.root, positions))
    return changed if reads_slots(changed) and _only_for_tables(changed.root, positions) is not None else program


def left_out(program: Program) -> set[Value]:
    """Inputs through which positions reach what is kept of every slot, and which are none with a cache, if nobody gives them."""
    return (_only_for_tables(program.root, positions_of(program)) or set()) if reads_slots(program) else set()


def _only_for_tables(module: Module, given: Collection[Value]) -> set[Value] | None:
    """These inputs, and those of modules below that stand for them; none where something else reads them."""
    found, tables = set(given), of_positions_in(module)
    for node in module.body:
        if found.isdisjoint(ir.operands(node)) or (tables is not None and (node is tables.call or node in tables.kept)):
            continue
        if not isinstance(node, ir.Call) or not isinstance(node.target, str):
            return None
        child = module.child(node.target)
        formals = [v for v, arg in zip(child.module.inputs, node.args, strict=True) if arg in given] if isinstance(child, ir.Child) else []
        below = _only_for_tables(child.module, formals) if formals else None  # type: ignore[union-attr]
        if below is None:
            return None
        found |= below
    return None if found & set(ir.results(module)) else found


def positions_of(program: Program) -> list[Value]:
    """The model's inputs, a row for each sequence, that are slots where nobody gives them."""
    if program.decoding is None:
        return []
    rows = sym(program.decoding.rows)
    found = [i.value for i in program.inputs if _counts_slots(i.default, rows)]
    return [v for v in found if [a.size == rows for a in v.type.axes] == [False, True]]


def kept_tables(module: Module) -> tuple[ir.Once, ...]:
    """What stands in a module for the results that are kept of every slot."""
    return tuple(n for n in module.body if isinstance(n, ir.Once) and n.positions is not None)


def reads_slots(program: Program) -> bool:
    return any(kept_tables(m) for m in ir.walk(program.root))


def _counts_slots(default: ir.Region | None, rows: Expr) -> bool:
    if default is None or len(default.body) != 1:
        return False
    only = default.body[0]
    return isinstance(only, ir.Index) and only.slot and only.out is default.result and only.out.type.axes[0].size == rows


def _below(module: Module, positions: Collection[Value]) -> Module:
    """The module with its children that are given the positions, each applied at one place."""
    changed: dict[str, Module] = {}
    for node in module.body:
        if isinstance(node, ir.Call) and isinstance(node.target, str) and set(node.args) & set(positions):
            child = module.child(node.target)
            if isinstance(child, ir.Child) and [n for n in module.body if getattr(n, "target", None) == node.target] == [node]:
                given = {formal for formal, arg in zip(child.module.inputs, node.args, strict=True) if arg in positions}
                changed[node.target] = _split(_below(child.module, given), given)
    children = tuple(replace(c, module=changed[c.name]) if isinstance(c, ir.Child) and c.name in changed else c for c in module.children)
    return replace(module, children=children) if changed else module


# ---------------------------------------------------------------- the function


def _split(module: Module, positions: Collection[Value]) -> Module:
    """What a module computes of its positions as a function, whose results are kept."""
    like = next((v for v in module.inputs if v.type.dtype == "float"), None)
    if len(positions) != 1 or like is None or not any(p.is_stack for p in parts(module)):
        return module
    given = next(iter(positions))
    made = _of_positions(module, given)
    heavy = {v for n in module.body if n in made and not is_cheap(n) for v in n.outs}
    for node in module.body:
        if node in made and heavy & set(ir.operands(node)):
            heavy.update(node.outs)
    read = {v for n in module.body if n not in made for v in ir.operands(n)} | set(ir.results(module))
    outs = [v for n in module.body if n in made for v in n.outs if v in read & heavy]
    apart = [n for n in module.body if n not in made]
    if not outs or not all(_is_table(v, given) and _broadcasts(replace(module, body=tuple(apart)), v) for v in outs):
        return module
    return _called(module, _function(module, given, like, outs), (given, like), outs)


def _called(module: Module, function: Module, args: tuple[Value, Value], outs: list[Value]) -> Module:
    """The module with the function in the place of what computed its results there."""
    body = ir.made_by(module.body, outs)
    results = tuple(Value(v.type, v.hint, v.span) for v in outs)
    entry = free_field("tables", {*fields_of(module), *filter(None, map(entry_of, module.body))})
    kept = {v: Value(v.type, v.hint, v.span) for v in outs}
    first: list[Node] = [ir.Call(outs=results, span=outs[0].span or module.span, target=function, args=args)]
    first += [
        ir.Once(outs=(kept[v],), span=v.span or module.span, x=result, entry=entry, positions=args[0])
        for v, result in zip(outs, results, strict=True)
    ]
    rest = [ir.replace_values(n, kept) for n in module.body if n not in body]
    changed = ir.replace_results(module, kept)
    wanted = [*ir.results(changed), *(v for n in rest for v in ir.operands(n))]
    still = ir.made_by([n for n in module.body if n in body], [v for v in wanted if v not in kept.values()])
    return replace(changed, body=(*first, *(n for n in module.body if n in still), *rest))


def _of_positions(module: Module, given: Value) -> set[Node]:
    """Nodes that compute something of each position apart, and of numbers."""
    fixed: set[Value] = set()
    moved = {given}
    found: set[Node] = set()
    for node in module.body:
        if isinstance(node, ir.Index | ir.Full) and not any(a.size.is_dynamic for a in node.out.type.axes):
            found.add(node)
            fixed.add(node.out)
            continue
        read = set(ir.operands(node))
        if isinstance(node, ir.Call) and isinstance(node.target, Module) and read and read <= fixed:
            found.add(node)
            fixed.update(node.outs)
            continue
        if not isinstance(node, _POINTWISE) or not read or not read <= fixed | moved or any(True for _ in ir.regions(node)):
            continue
        if isinstance(node, ir.Concat) and (node.over in given.type.labels or entry_of(node)):
            continue
        found.add(node)
        (moved if read & moved else fixed).update(node.outs)
    return found


def _is_table(value: Value, given: Value) -> bool:
    return value.type.dtype in ("float", "float32") and value.type.labels[:2] == given.type.labels and len(value.type.axes) > 2


def _broadcasts(module: Module, value: Value) -> bool:
    """Whether nothing minds that a value is the same for all sequences, and has an axis of size 1 for them."""
    waiting = {value}
    for node in module.body:
        found = waiting & set(ir.operands(node))
        if not found:
            continue
        match node:
            case ir.Elementwise():
                others = set(ir.operands(node)) - waiting
                waiting.update(() if any(v.type.has(value.type.labels[0]) for v in others) else node.outs)
            case ir.Call():
                target = node.target if isinstance(node.target, Module) else module.child(node.target).module  # type: ignore[union-attr]
                if not _all_broadcast(target, [v for v, arg in zip(target.inputs, node.args, strict=True) if arg in found]):
                    return False
            case ir.Fold():
                stack = module.child(node.target)
                assert isinstance(stack, ir.Stack)
                if found & set(node.args[: node.carried]):
                    return False
                for (slot, _), places in zip(stack.slots, node.inputs, strict=True):
                    if not _all_broadcast(slot, [v for v, p in zip(slot.inputs, places, strict=True) if node.args[p] in found]):
                        return False
            case _:
                return False
    return not waiting & set(ir.results(module))


def _all_broadcast(module: Module, values: list[Value]) -> bool:
    return all(_broadcasts(module, v) for v in values)


def _function(module: Module, given: Value, like: Value, outs: list[Value]) -> Module:
    copier, wanted = Copier(), ir.made_by(module.body, outs)
    inputs = tuple(copier.result(v) for v in (given, like))
    nodes = tuple(copier.nodes([n for n in module.body if n in wanted]))
    return Module(
        name=NAME, inputs=inputs, outputs=tuple(map(copier.value, outs)), output_names=tuple(v.hint or f"y{k}" for k, v in enumerate(outs)),
        params=(), children=(), body=nodes, locals=module.locals, captured=0, doc="", span=module.span,
    )  # fmt: skip


# ---------------------------------------------------------------- code


@frozen
class OfPositions:
    """The function in a module, and the method that it becomes; `kept` is what stands for its results there."""

    owner: Module
    call: ir.Call
    module: Module
    name: str
    kept: tuple[ir.Once, ...]


@lru_cache(maxsize=64)
def of_positions_in(module: Module) -> OfPositions | None:
    kept = kept_tables(module)
    if not kept:
        return None
    made = next(n for n in module.body if kept[0].x in n.outs)
    assert isinstance(made, ir.Call) and isinstance(made.target, Module)
    taken = {c.name for c in module.children} | {p.name for p in module.params} | {s.name for s in module.states}
    name = NAME
    while name in taken:
        name += "_"
    return OfPositions(module, made, made.target, name, kept)


def functions_of_positions(program: Program) -> set[int]:
    """Identities of those functions, which are methods of the classes that call them."""
    return {id(found.module) for m in ir.walk(program.root) if (found := of_positions_in(m)) is not None}


def result_views(found: OfPositions, plans: Plans) -> tuple[tuple[Code, ...], ...]:
    """For each result, the view that all layers read of it, empty if they read several."""
    return tuple(view_of(found.owner, n.out, plans) for n in found.kept)


def write_tables(w: BodyWriter, nodes: Sequence[Node], names: Sequence[str]) -> list[Node]:
    """What the function gives where positions are there, else its rows in the cache; `names` are its results'.

    Gives the nodes that are left to write."""
    found = of_positions_in(w.module)
    if found is None:
        return list(nodes)
    views = result_views(found, w.numbers.plans)
    targets = tuple(Var(hint=name, kind="y") for name in names)
    made = method(Text("self"), found.name, *(w.inputs[v] for v in found.call.args))
    tokens = w.number(found.call.args[0].type.axes[1].size)
    w.helpers.add("at_slots")
    rows: Code = call("at_slots", held(found.kept[0].entry), w.slots, tokens)
    rows = rows if len(targets) > 1 else Subscript(rows, (number(0),))
    given = w.inputs[found.call.args[0]]
    read = (Do(Text("assert cache is not None")), Assign(targets, rows, pure=False))
    w.statements += [Block(Binary("is not", given, NONE), "if", (Assign(targets, made),)), Block(Text(""), "else", read)]
    for node, var, view in zip(found.kept, targets, views, strict=True):
        w.env[node.out] = Tensor(var, tuple((label,) for label in node.out.type.labels), sizes_of(node.out.type))
        w.numbers.plans.viewed |= {var} if view else set()
    first = found.kept[0].out.type
    w.kept[found.kept[0].entry] = Kept("tables", first, tuple((label,) for label in first.labels))
    return [n for n in nodes if n is not found.call and n not in found.kept]


def made_tables(module: Module) -> Code:
    """What an empty cache has: the function of all slots."""
    found = of_positions_in(module)
    assert found is not None
    slots = Subscript(call("torch.arange", Text("max_length"), device=Attribute(LIKE, "device")), (NONE,))
    like = call("next", method(Text("self"), "parameters")) if any(m.params for m in ir.walk(module)) else LIKE
    made = method(Text("self"), found.name, slots, like)
    return made if len(found.kept) > 1 else Items((made,))
