"""The masks that the model makes for its layers, each once: without the optional inputs, with them, as functions of indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial

from ...compiler import ir
from ...compiler.ir import Value
from ...grammar.frozen import mutable
from ..python.code import Assign, Attribute, Binary, Block, Code, Statement, Subscript, Text, Unary, Var
from ..python.layouts import Tensor, sizes_of
from ..python.prepare_masks import MaskPlan, Masks
from ..python.write_body import BodyWriter
from .cache.parts import First
from .cache.prepare import KeptInputs
from .flex import can_run, write_block_mask


@mutable
class RootWriter:
    """What is known while the model's forward is written."""

    program: ir.Program
    masks: Masks
    w: BodyWriter
    kept: KeptInputs
    first: First
    outputs: set[Value] = field(default_factory=set)


def write_early_masks(model: RootWriter, main: Sequence[ir.Node]) -> set[ir.Node]:
    """Write the masks that read optional inputs and nothing computed, before these get their defaults: one `if` for each of these."""
    inputs, w = set(model.program.root.inputs), model.w
    early: dict[ir.Node, MaskPlan] = {}
    for node in main:
        plan = model.masks.made.get(node.outs[0])
        if plan is not None and plan.given and node not in model.first.nodes:
            own = {o for n in plan.nodes for o in n.outs}
            if all(v in inputs or v in own for n in plan.nodes for v in ir.operands(n)):
                early[node] = plan
    by_index = model.masks.by_index
    w.known = {}
    _write_early(model, {node: plan for node, plan in early.items() if node.outs[0] not in by_index})
    rest = {node: plan for node, plan in early.items() if node.outs[0] in by_index}
    _either(model, [(node.outs[0], plan) for node, plan in rest.items()], lambda: _write_early(model, rest))
    w.known = None
    return set(early)


def _write_early(model: RootWriter, early: dict[ir.Node, MaskPlan]) -> None:
    variables = {node: _without_inputs(model, node.outs[0], plan) for node, plan in early.items()}
    for given in dict.fromkeys(plan.inputs for plan in early.values()):
        together = [(node, plan) for node, plan in early.items() if plan.inputs == given]
        _branch(model, given, [(variables[node], plan, node.outs[0]) for node, plan in together])


def _either(model: RootWriter, made: Sequence[tuple[Value, MaskPlan]], write: Callable[[], None]) -> None:
    """Masks as functions of indices where a kernel takes them, else as `write` makes them."""
    w = model.w
    if not made:
        return write()
    outer, w.statements = w.statements, []
    ranges, known = dict(w.ranges), None if w.known is None else dict(w.known)
    write()
    plain = tuple(w.statements)
    w.ranges, w.known = ranges, known
    functions: list[Statement] = []
    for value, plan in made:
        var = w.read(value).code
        assert isinstance(var, Var)
        functions += write_block_mask(w, var, plan, value, model.masks.by_index[value])
    condition = can_run(w)
    match outer[-2:]:
        case [Block(head=head) as before, Block(keyword="else") as otherwise] if head == condition:
            outer[-2:] = []
            functions, plain = [*before.body, *functions], (*otherwise.body, *plain)
        case _:
            pass
    w.statements = [*outer, Block(condition, "if", tuple(functions)), Block(Text(""), "else", plain)]
    return None


def _without_inputs(model: RootWriter, value: Value, plan: MaskPlan) -> Var:
    """The mask where the optional inputs are left out."""
    w, layout = model.w, tuple((label,) for label in value.type.labels)
    var = Var(hint=value.hint or "mask")
    w.env[value] = Tensor(var, layout, sizes_of(value.type))
    if plan.absent != "tensor":
        w.statements.append(Assign((var,), Text("None")))
        return var
    w.order = value.type.labels
    w.write([n for n in plan.nodes if n in ir.made_by(plan.nodes, plan.always)])
    code = _all([w.spread(w.read(v), layout) for v in plan.always])
    if all(v.type.labels == value.type.labels[-1:] for v in plan.always):  # kernels want a mask of two axes at least
        code = Subscript(code, (Text("None"),))
    w.statements.append(Assign((var,), code))
    return var


def _branch(model: RootWriter, given: frozenset[Value], masks: Sequence[tuple[Var, MaskPlan, Value]]) -> None:
    """`if attention_mask is not None:` and what it adds to each mask."""
    w = model.w
    outer, w.statements = w.statements, []
    ranges, known = dict(w.ranges), None if w.known is None else dict(w.known)
    w.optional -= given
    for var, plan, value in masks:
        layout = tuple((label,) for label in value.type.labels)
        alone = plan.absent != "tensor"
        w.order = value.type.labels
        w.write([n for n in plan.nodes if alone or n not in ir.made_by(plan.nodes, plan.always)])
        terms = [w.spread(w.read(v), layout) for v in ((*plan.always, *plan.given) if alone else plan.given)]
        w.statements.append(Assign((var,), _all(terms if alone else [var, *terms])))
    w.optional |= given
    w.ranges, w.known = ranges, known
    tests = [Binary("is not", w.inputs[i.value], Text("None")) for i in model.program.inputs if i.value in given]
    condition: Code = tests[0]
    for test in tests[1:]:
        condition = Binary("and", condition, test)
    w.statements = [*outer, Block(condition, "if", tuple(w.statements))]


def write_mask(model: RootWriter, value: Value) -> None:
    """One that is made of what the model computes."""
    by_index = [(value, model.masks.made[value])] if value in model.masks.by_index else []
    _either(model, by_index, partial(_made_once, model, value))


def _made_once(model: RootWriter, value: Value) -> None:
    """A mask that several layers read, once."""
    plan = model.masks.made[value]
    var = _without_inputs(model, value, plan)
    if plan.given:
        _branch(model, plan.inputs, [(var, plan, value)])
    elif plan.absent != "tensor":
        _branch_later(model, var, plan, value)


def _branch_later(model: RootWriter, var: Var, plan: MaskPlan, value: Value) -> None:
    """What a kernel does without a mask in a first call is a mask in later ones."""
    w = model.w
    outer, w.statements = w.statements, []
    w.order = value.type.labels
    w.write(plan.nodes)
    layout = tuple((label,) for label in value.type.labels)
    w.statements.append(Assign((var,), _all([w.spread(w.read(v), layout) for v in plan.always])))
    hides = Binary("and", Binary("is not", w.slots, Text("None")), Unary("not", Attribute(w.slots, "alone")))
    w.statements = [*outer, Block(hides, "if", tuple(w.statements))]


def _all(codes: Sequence[Code]) -> Code:
    result = codes[0]
    for code in codes[1:]:
        result = Binary("&", result, code)
    return result
