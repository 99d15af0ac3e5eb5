"""A derived program in the form that is written: which windows are rings, which inputs of the model are kept as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

from ....compiler import ir
from ....compiler.dims import Expr
from ....compiler.ir import Module, Program, Value
from ....grammar.frozen import mutable
from ...python.block_biases import can_count
from ...python.prepare_masks import can_hoist
from .key_order import minds_order
from .parts import entry_fields, entry_of, fields_of, free_field


@mutable
class KeptInputs:
    """Optional inputs of the model that their readers see as they have been so far: by the input's value, the name of the cache's entry.

    `rows` have the tokens of all calls, `once` are those of the first call. `beside`: the input whose tokens of this call are read too, and
    stand apart. `full`: those of `once` that are there in any case, as given or by default. `whole`: those of `rows` that more than masks read."""

    rows: dict[Value, str] = field(default_factory=dict)
    once: dict[Value, str] = field(default_factory=dict)
    beside: dict[Value, Value] = field(default_factory=dict)
    full: set[Value] = field(default_factory=set)
    whole: set[Value] = field(default_factory=set)


def prepare_cache(program: Program, by_blocks: bool = True) -> tuple[Program, KeptInputs]:
    """Requires: a program before its masks are made; functions that keep something stand where they are called. Ensures: a window is left only
    on what can be a ring; optional inputs that are kept have the type of what is kept. `by_blocks`: whether scores that count slots are to
    be counted by the blocks of their masks. Leaves alone: programs without a decoding."""
    kept = KeptInputs()
    if program.decoding is None:
        return program, kept
    return _lift_inputs(_choose_rings(_name_fields(program), by_blocks), kept), kept


# ---------------------------------------------------------------- names


def _name_fields(program: Program) -> Program:
    """Every entry by a name that is no other field's of the class that will have it."""

    def change(module: Module) -> Module:
        taken = set(fields_of(module))
        body: list[ir.Node] = []
        for node in module.body:
            if entry := entry_of(node):
                name = free_field(entry, taken)
                while taken & set(entry_fields(node, name)):
                    name += "_"
                taken.update(entry_fields(node, name))
                node = replace(node, entry=name) if name != entry else node  # type: ignore[arg-type]
            body.append(node)
        return replace(module, body=tuple(body))

    return replace(program, root=ir.rewrite(program.root, change))


# ---------------------------------------------------------------- rings


def _choose_rings(program: Program, by_blocks: bool) -> Program:
    """Only what attention alone reads can be a ring, if the mask and what the score reads of slots can be made for those in a ring's order; in one
    module all rings are of one length."""
    hoists, counts = can_hoist(program), can_count(program) if by_blocks else None
    cleared: set[ir.Node] = set()
    for module in ir.walk(program.root):
        keeps = [n for n in module.body if isinstance(n, ir.Keep) and n.window is not None]
        fit = {n: _fits(n, module, hoists, counts) for n in keeps}
        same = len({n.window for n in keeps if fit[n]}) == 1
        cleared.update(n for n in keeps if not (fit[n] and same))
    if not cleared:
        return program

    def change(module: Module) -> Module:
        body = tuple(replace(n, window=None) if isinstance(n, ir.Keep) and n in cleared else n for n in module.body)
        return replace(module, body=body) if cleared & set(module.body) else module

    # what counts slots in one of two rings cannot where the other is none
    return _choose_rings(replace(program, root=ir.rewrite(program.root, change)), by_blocks)


_Test = Callable[[ir.Attend, Module], bool]


def _fits(keep: ir.Keep, module: Module, hoists: _Test, counts: _Test | None) -> bool:
    if keep.x.type.dtype in ("int", "bool"):
        return False
    reached, attends = {keep.out}, 0
    for node in module.body:
        if node is keep or not any(v in reached for v in ir.operands(node)):
            continue
        if isinstance(node, ir.Attend):
            free = {v for r in ir.regions(node) for v in ir.free_values(r)}
            if node.q in reached or free & reached or not hoists(node, module):
                return False
            if minds_order(node) and (counts is None or minds_order(replace(node, score=None)) or not counts(node, module)):
                return False
            attends += 1
        elif isinstance(node, ir.Fold | ir.Keep) or any(True for _ in ir.regions(node)):
            return False
        else:
            reached.update(node.outs)
    return attends > 0 and not reached & set(module.outputs)


# ---------------------------------------------------------------- inputs of the model


def _lift_inputs(program: Program, kept: KeptInputs) -> Program:
    """Where a constant stands for an optional input that is left out, what is kept of it takes its place."""
    root, inputs = program.root, {i.value: i for i in program.inputs}
    mapping: dict[Value, Value] = {}
    gone: set[ir.Node] = set()
    further: list[ir.ModelInput] = []
    for node in root.body:
        if not isinstance(node, ir.Keep | ir.Once) or not (given := inputs.get(node.x)) or _constant(given) is None:
            continue
        defaults = [n for i in program.inputs if i.default is not None for n in i.default.body]
        readers = [n for n in (*root.body, *defaults) if n is not node and node.x in ir.operands(n)]
        gone.add(node)
        if isinstance(node, ir.Once):
            kept.once[node.x] = node.entry
            mapping[node.out] = node.x
        elif not readers:
            kept.rows[node.out] = node.entry
            inputs[node.x] = replace(given, value=node.out)
        else:
            kept.rows[node.out], kept.beside[node.out] = node.entry, node.x
            further.append(replace(given, name=f"kept_{given.name}", value=node.out))
    if not gone:
        return program
    found = (*inputs.values(), *further)
    body = tuple(ir.replace_values(n, mapping) for n in root.body if n not in gone)
    root = ir.replace_results(replace(root, inputs=tuple(i.value for i in found), body=body), mapping)
    return replace(program, root=root, inputs=found)


def _constant(given: ir.ModelInput) -> Expr | None:
    """What it is full of where it is left out."""
    last = given.default.body[-1] if given.default is not None and given.default.body else None
    return last.value if isinstance(last, ir.Full) else None
