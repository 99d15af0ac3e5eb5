"""Where each module is applied, and from which value of the model an input comes."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.ir import Value
from ...grammar.frozen import frozen, mutable


@frozen(eq=False)
class Site:
    """One application: by which module, to which values."""

    caller: ir.Module
    args: tuple[Value, ...]
    carried: int  # how many of the first arguments change from layer to layer


@mutable
class Sites:
    root: ir.Module
    by_module: dict[int, list[Site]]

    def reaches_root(self, module: ir.Module) -> bool:
        """Whether every chain of applications is of children, functions and stacks (no banks)."""
        if module is self.root:
            return True
        sites = self.by_module.get(id(module), [])
        return bool(sites) and all(self.reaches_root(s.caller) for s in sites)

    def origin(self, module: ir.Module, value: Value) -> Value | None:
        """The value of the root that an input is, at every application; none if there is no such one."""
        if module is self.root:
            return value
        if value not in module.inputs:
            return None
        at = module.inputs.index(value)
        found: set[Value | None] = set()
        for site in self.by_module.get(id(module), []):
            found.add(None if at < site.carried else self.origin(site.caller, site.args[at]))
        return found.pop() if len(found) == 1 else None


def find_sites(root: ir.Module) -> Sites:
    sites: dict[int, list[Site]] = {}
    for module in ir.walk(root):
        for node in module.body:
            if isinstance(node, ir.Call):
                target = node.target if isinstance(node.target, ir.Module) else module.child(node.target)
                target = target if isinstance(target, ir.Module) else target.module  # type: ignore[union-attr]
                sites.setdefault(id(target), []).append(Site(module, node.args, 0))
            elif isinstance(node, ir.Fold):
                stack = module.child(node.target)
                assert isinstance(stack, ir.Stack)
                for (target, _), positions in zip(stack.slots, node.inputs, strict=True):
                    carried = sum(p < node.carried for p in positions)
                    sites.setdefault(id(target), []).append(Site(module, tuple(node.args[p] for p in positions), carried))
    return Sites(root, sites)
