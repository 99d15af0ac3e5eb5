"""Nothing is silently ignored: inputs that nobody reads, and tensors that reach no result."""

from __future__ import annotations

from .. import ir
from ..diagnostics import Diagnostics

DROPPED = "_"
"""The name of a result that is not wanted: `q, _ = rotate(q, k)`."""


def check_unused(program: ir.Program, diagnostics: Diagnostics) -> None:
    """Report unread inputs of the model (E317) and tensors that reach no output and no loss (E318).

    Requires a program as elaborated, before dead nodes are removed. Leaves the program alone."""
    losses = [loss.value for loss in program.losses]
    for module in ir.walk(program.root):
        if not module.outputs and not module.body:
            continue
        live = set(ir.results(module))
        if module is program.root:
            live.update(losses)
        read: set[ir.Value] = set()
        for node in reversed(module.body):
            used = list(ir.operands(node))
            read.update(used)
            if any(o in live for o in node.outs):
                live.update(used)
            elif not any(o in read or o.hint == DROPPED for o in node.outs):
                name = node.out.hint
                what = f"`{name}` is" if name else "this is"
                diagnostics.error("E318", f"{what} computed and reaches no result", node.span, help="use it, or delete it")
    live_inputs = {v for n in program.root.body for v in ir.operands(n)} | set(program.root.outputs)
    for item in reversed(program.inputs):
        if item.default is not None and item.value in live_inputs:
            live_inputs |= {v for n in item.default.body for v in ir.operands(n)} | {item.default.result}
    for given in program.inputs:
        if given.value not in live_inputs:
            diagnostics.error(
                "E317", f"nothing reads the input `{given.name}`", given.value.span, help="delete it from the model's inputs, or use it"
            )


def forget_dropped(program: ir.Program) -> None:
    """`_` is the name of no result, and what a cell carries is read by the cell itself: that has the cell's own name for it."""
    for module in ir.walk(program.root):
        for node in module.body:
            for k, out in enumerate(node.outs):
                if out.hint == DROPPED:
                    object.__setattr__(out, "hint", _carried_as(node, k, module))


def _carried_as(node: ir.Node, k: int, module: ir.Module) -> str:
    if not isinstance(node, ir.Scan):
        return ""
    child = node.target if isinstance(node.target, ir.Module) else module.child(node.target)
    cell = child if isinstance(child, ir.Module) else child.module if isinstance(child, ir.Child) else None
    return cell.inputs[k].hint if cell is not None and k < node.carried else ""
