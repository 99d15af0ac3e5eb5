"""What parameters are called in generated code: as the spec calls them, but in a module that frameworks have (natives.py) `weight` and `bias`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...compiler import ir
from .find_classes import bank_axes
from .inline_functions import inline_functions
from .name_attributes import attribute_names, with_names
from .natives import Linear, Native, match_native


def generated_names(program: ir.Program) -> ir.Program:
    """The program with parameters named as the keys of the state of every generated file, in the same order."""
    return name_parameters(inline_functions(program))


def native_of(module: ir.Module) -> Native | None:
    """The native module that this one is, if its parameters have the names that it gives them."""
    native = match_native(module)
    if native is None or native.weight.name != "weight" or (native.bias is not None and native.bias.name != "bias"):
        return None
    return native


def name_parameters(program: ir.Program) -> ir.Program:
    """Requires: `inline_functions` has run. Ensures: parameters of native modules are named `weight` and `bias`, wherever they are named; no
    parameter and no child is named as something else of its module.

    Leaves alone: modules of which a checkpoint's row names some by a name that they do not share (they are written out), and modules of banks
    that are no linear maps."""
    program = _name_natives(program)
    apart = {id(m): attribute_names(m) for m in ir.walk(program.root)}
    if not any(apart.values()):
        return program

    def renamed(path: Sequence[str], module: ir.Module) -> tuple[str, ...]:
        found: list[str] = []
        owners = [module]
        for k, name in enumerate(path):
            found.append(next((apart[id(m)][name] for m in owners if name in apart[id(m)]), name))
            if k + 1 < len(path):
                owners = list(modules_at(module, path[: k + 1]))
        return tuple(found)

    checkpoint = tuple(replace(r, own=tuple(".".join(renamed(own.split("."), program.root)) for own in r.own)) for r in program.checkpoint)
    paths = {n: renamed(n.path, m) for m in ir.walk(program.root) for n in m.body if isinstance(n, ir.ChildParam)}

    def change(module: ir.Module) -> ir.Module:
        body = tuple(replace(n, path=paths[n]) if isinstance(n, ir.ChildParam) else n for n in module.body)
        return with_names(replace(module, body=body), attribute_names(module))

    return replace(program, root=ir.rewrite(program.root, change), checkpoint=checkpoint)


def _name_natives(program: ir.Program) -> ir.Program:
    names = _Names(program.root)
    for row in program.checkpoint:
        for own in row.own:
            names.keep_where_unlike(own.split("."))
    if not names.new:
        return program
    checkpoint = tuple(replace(r, own=tuple(".".join(names.renamed(own.split("."))) for own in r.own)) for r in program.checkpoint)
    paths = {
        node: names.renamed(node.path, module) for module in ir.walk(program.root) for node in module.body if isinstance(node, ir.ChildParam)
    }  # fmt: skip

    def change(module: ir.Module) -> ir.Module:
        params = tuple(replace(p, name=names.new.get(p.value, p.name)) for p in module.params)
        body = tuple(replace(n, path=paths[n]) if isinstance(n, ir.ChildParam) else n for n in module.body)
        return replace(module, params=params, body=body)

    return replace(program, root=ir.rewrite(program.root, change), checkpoint=checkpoint)


class _Names:
    """New names of parameters, by value."""

    def __init__(self, root: ir.Module) -> None:
        self.root = root
        self.new: dict[ir.Value, str] = {}
        banks = bank_axes(root)
        for module in ir.walk(root):
            native = match_native(module)
            if native is None or (id(module) in banks and not isinstance(native, Linear)):
                continue
            self.new[native.weight.value] = "weight"
            if native.bias is not None:
                self.new[native.bias.value] = "bias"

    def keep_where_unlike(self, path: Sequence[str]) -> None:
        """One name of several slots' parameters must stay one name."""
        found = [(m, p) for m in modules_at(self.root, path[:-1]) for p in m.params if p.name == path[-1]]
        if len({self.new.get(p.value, p.name) for _, p in found}) > 1:
            for module, _ in found:
                for param in module.params:
                    self.new.pop(param.value, None)

    def renamed(self, path: Sequence[str], root: ir.Module | None = None) -> tuple[str, ...]:
        """A parameter's path from a module (the model), by new names."""
        found = (p for m in modules_at(root or self.root, path[:-1]) for p in m.params if p.name == path[-1])
        last = next((self.new.get(p.value, p.name) for p in found), path[-1])
        return (*path[:-1], last)


def modules_at(module: ir.Module, path: Sequence[str]) -> Iterator[ir.Module]:
    """The modules at a path, in which a stack's name is followed by the number of a layer: one for each slot. None behind a stack's name alone."""
    if not path:
        yield module
        return
    for child in module.children:
        match child:
            case ir.Stack(name=name) if name == path[0] and len(path) > 1:
                for below, _ in child.slots:
                    yield from modules_at(below, path[2:])
            case ir.Child(name=name) | ir.Bank(name=name) if name == path[0]:
                yield from modules_at(child.module, path[1:])
