"""What all layers of a stack read of positions alone: through `torch.compile`, computed once."""

from __future__ import annotations

from collections import defaultdict

from ...compiler import ir
from ...compiler.ir import Value
from ...compiler.passes.hoist_invariants import is_cheap
from ..python.code import Assign, Code, Subscript, Var, call
from ..python.layouts import Tensor, sizes_of
from ..python.plan_classes import Plans
from ..python.write_body import BodyWriter

COMPUTED_ONCE = '''def computed_once(*tables: Tensor) -> tuple[Tensor, ...]:
    """What every layer reads, as parts of one tensor: torch.compile then computes it once, and not again in each of them."""
    return torch.stack(tables).unbind()'''

_MADE = (ir.Elementwise, ir.Cast, ir.Concat, ir.StackTensors, ir.Call)


def join_tables(w: BodyWriter, node: ir.Fold) -> None:
    """Ensures: of values that are functions of indices, that cost something and that all layers of a loop read, those of one type are parts
    of one tensor. Leaves alone: what is so already, being kept of every slot."""
    costly = _of_indices(w.module)
    alike: dict[tuple[object, ...], list[Value]] = defaultdict(list)
    for value in dict.fromkeys(node.args[node.carried :]):
        if costly.get(value) and value.type.dtype in ("float", "float32") and w.read(value).code not in w.joined:
            alike[form_of(value)].append(value)
    for values in alike.values():
        if len(values) < 2:
            continue
        views = [view_of(w.module, v, w.numbers.plans) for v in values]
        found: list[Code] = [w.arranged(w.read(v), tuple((label,) for label in v.type.labels)) for v in values]
        view = views[0] if len(set(views)) == 1 else ()
        targets = tuple(Var(hint=v.hint, kind="y") for v in values)
        w.helpers.add("computed_once")
        w.statements.append(Assign(targets, call("computed_once", *(Subscript(x, view) if view else x for x in found))))
        for value, var in zip(values, targets, strict=True):
            w.env[value] = Tensor(var, tuple((label,) for label in value.type.labels), sizes_of(value.type))
        w.joined |= set(targets)
        w.numbers.plans.viewed |= set(targets) if view else set()


def form_of(value: Value) -> tuple[object, ...]:
    """Dtype and sizes: values of one form can be parts of one tensor."""
    return value.type.dtype, *(a.size for a in value.type.axes)


def _of_indices(module: ir.Module) -> dict[Value, bool]:
    """Values that are functions of indices and of integers given alone, and whether they cost more than reading them."""
    found = {v: False for v in module.inputs if v.type.dtype == "int"}
    for node in module.body:
        if isinstance(node, ir.Index | ir.Full):
            found[node.out] = False
        elif isinstance(node, _MADE) and not isinstance(getattr(node, "target", None), str) and all(v in found for v in ir.operands(node)):
            costs = not is_cheap(node) or any(found[v] for v in ir.operands(node))
            found.update(dict.fromkeys(node.outs, costs))
    return found


def view_of(module: ir.Module, value: Value, plans: Plans) -> tuple[Code, ...]:
    """The view that all layers read of a value, empty if they read several or something else reads it."""
    found: set[tuple[Code, ...]] = set()
    for node in module.body:
        if value not in ir.operands(node):
            continue
        if not isinstance(node, ir.Fold):
            return ()
        stack = module.child(node.target)
        assert isinstance(stack, ir.Stack)
        for (slot, _), places in zip(stack.slots, node.inputs, strict=True):
            views = plans.views.get(plans.of(slot).of.key, {})
            found |= {views.get(k, ()) for k, p in enumerate(places) if node.args[p] is value}
    return next(iter(found)) if len(found) == 1 and value not in module.outputs else ()
