"""Names of parameters and children that a generated module has for something else: an underscore behind, everywhere, so that keys of a state
are the same in every file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ...compiler import ir

MODULE = (
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval extra_repr float "
    "forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia named_buffers named_children "
    "named_modules named_parameters parameters register_backward_hook register_buffer register_forward_hook register_forward_pre_hook "
    "register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook "
    "register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state "
    "set_submodule share_memory state_dict to to_empty train training type xpu zero_grad"
)
"""What every module of torch has."""
OURS = "config from_pretrained generate init_cache init_state path recompute_layers save_pretrained start_weights stream"
"""What the generated classes have besides what the spec says."""
TAKEN = frozenset(f"{MODULE} {OURS}".split(" "))


def attribute_names(module: ir.Module) -> Mapping[str, str]:
    """New names of the parameters, buffers and children of a module that cannot have theirs; none of them is another's."""
    own = [*(p.name for p in module.params), *(c.name for c in module.children)]
    found: dict[str, str] = {}
    for name in own:
        if is_taken(name):
            found[name] = _free(name, {*own, *found.values()})
    return found


def is_taken(name: str) -> bool:
    return name in TAKEN or name.startswith("_")


def _free(name: str, others: Collection[str]) -> str:
    if name.startswith("_"):
        name = name.strip("_")
    else:
        name += "_"
    while name in others or is_taken(name):
        name += "_"
    return name


def with_names(module: ir.Module, names: Mapping[str, str]) -> ir.Module:
    """The module with other names of parameters and children, wherever its body and its updates say them; paths to parameters stay."""
    if not names:
        return module

    def node(n: ir.Node) -> ir.Node:
        if isinstance(n, ir.Call | ir.Fold | ir.Scan | ir.Route | ir.Pairwise) and isinstance(n.target, str) and n.target in names:
            return replace(n, target=names[n.target])
        return n

    return replace(
        module,
        params=tuple(replace(p, name=names.get(p.name, p.name)) for p in module.params),
        children=tuple(replace(c, name=names.get(c.name, c.name)) for c in module.children),
        body=tuple(map(node, module.body)),
        updates=tuple(replace(u, buffer=names.get(u.buffer, u.buffer)) for u in module.updates),
    )
