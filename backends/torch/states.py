"""Memories carried from call to call: one dict of tensors for the whole model, keyed by the path of the module that owns them."""

from __future__ import annotations

from dataclasses import replace

from ...compiler import ir
from ..python.code import Assign, Code, Text, Var, method, substitute, wrap
from ..python.plan_classes import Plans
from ..python.write_body import BodyWriter, Numbers
from .moves import TorchMoves


def state_methods(module: ir.Module, numbers: Numbers, helpers: set[str]) -> list[str]:
    """`init_state` of a class that owns states."""
    if not module.states:
        return []
    made = [line for s in module.states for line in wrap(f"{s.name} = ", _initial(s, module, numbers, helpers), _hint, 8)]
    items = ", ".join(f'f"{{self.path}}.{s.name}": {s.name}' for s in module.states)
    return [
        "    def init_state(self, batch_size: int, like: Tensor) -> dict[str, Tensor]:",
        '        """What it remembers before the first call, in the dtype and on the device of `like`."""',
        *made,
        f"        return {{{items}}}",
    ]


def path_lines(plans: Plans) -> list[str]:
    """In the model's constructor: every owner of a state learns its path."""
    owners = _owners(plans)
    if not owners:
        return []
    return [
        "        for name, module in self.named_modules():",
        f"            if isinstance(module, {' | '.join(owners)}):",
        "                module.path = name",
    ]


def likeness(program: ir.Program) -> str:
    """A tensor of the model's dtype, where its weights are, if it has any."""
    trained = any(p.trainable for m in ir.walk(program.root) for p in m.params)
    return "next(self.parameters())" if trained else "torch.empty(0)"


def model_state_methods(plans: Plans, numbers: Numbers, helpers: set[str]) -> list[str]:
    """`init_state` of the model."""
    root = plans.program.root
    owners = _owners(plans)
    if not owners and not root.states:
        return []
    made = [line for s in root.states for line in wrap(f"{s.name} = ", _initial(s, root, numbers, helpers), _hint, 8)]
    own = [f'"{s.name}": {s.name}' for s in root.states]
    found = [
        "    def init_state(self, batch_size: int) -> dict[str, Tensor]:",
        '        """What the model remembers before the first segment; calls change it in place."""',
        *([f"        like = {likeness(plans.program)}"] if owners or any("like." in line for line in made) else []),
        *made,
        f"        state: dict[str, Tensor] = {{{', '.join(own)}}}",
    ]
    if owners:
        found += [
            "        for module in self.modules():",
            f"            if isinstance(module, {' | '.join(owners)}):",
            "                state |= module.init_state(batch_size, like)",
        ]
    return [*found, "        return state"]


def _owners(plans: Plans) -> list[str]:
    return [p.name for p in plans.plans if p.first.states and plans.program.root not in p.of.uses]


def _hint(var: Var) -> str:
    return var.hint


def _initial(state: ir.State, module: ir.Module, numbers: Numbers, helpers: set[str]) -> Code:
    """The start of one state in its declared shape; its dynamic axis is the batch."""
    from .lowerings import LOWERINGS

    w = BodyWriter(module=module, numbers=numbers, moves=TorchMoves(), lower=LOWERINGS)
    for param in module.params:
        w.env[param.value] = w.own_parameter(param)
    w.dynamic = {a.size: Text("batch_size") for a in state.value.type.axes if a.size.is_dynamic}
    like = ir.Value(ir.Type((), "float"), "like", state.span)
    w.module, w.inputs[like] = replace(module, inputs=(like,)), Var(hint="like")
    kind = state.value.type
    sizes = [w.number(a.size) for a in kind.axes]
    last = state.initial.body[-1] if state.initial.body else None
    if isinstance(last, ir.Full) and last.out is state.initial.result and kind.dtype == "float" and last.value.constant in (0, 1):
        return method(Text("like"), "new_zeros" if last.value.constant == 0 else "new_ones", *sizes)
    w.write(state.initial.body)
    helpers |= w.helpers
    result = w.read(state.initial.result)
    layout = tuple((label,) for label in kind.labels)
    code = method(w.spread(result, layout), "expand", *sizes)
    values: dict[Var, Code] = {}
    for s in w.statements:
        assert isinstance(s, Assign) and s.targets[0] is not None
        values[s.targets[0]] = substitute(s.value, values)
    return substitute(code, values)
