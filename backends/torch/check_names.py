"""Names that a module's parts cannot have, since torch's modules have something of that name."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.diagnostics import Diagnostic, SpecError

TAKEN = frozenset(
    [
        "T_destination",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "from_pretrained",
        "generate",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "init_cache",
        "init_state",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "save_pretrained",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "stream",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "xpu",
        "zero_grad",
    ]
)


def check_names(program: ir.Program) -> None:
    """Raise E601 at the first parameter, buffer, state or child whose name is taken. Leaves the program alone."""
    for module in ir.walk(program.root):
        own = [(p.name, p.span) for p in module.params] + [(s.name, s.span) for s in module.states]
        for child in module.children:
            below = child.slots[0][0] if isinstance(child, ir.Stack) else child.module
            if isinstance(child, ir.Stack) or not below.is_function:
                own.append((child.name, below.named or below.span))
        for name, span in own:
            if name in TAKEN:
                help_ = "call it otherwise"
                raise SpecError([Diagnostic("E601", f"a module of torch has a `{name}` of its own", span, help=help_)])


__all__ = ["TAKEN", "check_names"]
