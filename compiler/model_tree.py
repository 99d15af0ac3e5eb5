"""Models before elaboration: `extends` and `--set` as replacements in the tree of arguments."""

from __future__ import annotations

from dataclasses import replace

from ..grammar import tree
from .diagnostics import Diagnostics, Note
from .library import Library, suggest


def flatten(model: tree.Model, library: Library, sets: list[tree.Argument], diagnostics: Diagnostics) -> tree.Model | None:
    """The model with everything it extends merged in and `sets` applied: `base` or `component` is set, `extends` is none."""
    chain = [model]
    while (wanted := chain[-1].extends) is not None:
        parent = library.model(wanted.id)
        if parent is None:
            diagnostics.error("E303", f"there is no model `{wanted.id}`", wanted.span, help=suggest(wanted.id, library.models))
            return None
        if any(parent is m for m in chain):
            diagnostics.error("E304", f"`{model.name.id}` extends itself", wanted.span, help="extend another model, or name a component with `=`")
            return None
        chain.append(parent)
    root = chain[-1]
    block = tree.Block(span=root.span, base=root.base, lets=root.lets, arguments=root.arguments)
    for child in reversed(chain[:-1]):
        lets = {t.id: let for let in (*block.lets, *child.lets) for t in let.targets}
        block = replace(block, lets=tuple({id(v): v for v in lets.values()}.values()))
        for argument in child.arguments:
            block = _merge(block, _path(argument), argument)
    for argument in sets:
        block = _merge(block, _path(argument), argument)
    block = _nest(block, diagnostics)
    assumes = tuple(a for m in reversed(chain) for a in m.assumes)
    return replace(model, base=root.base, extends=None, component=root.component, lets=block.lets, arguments=block.arguments, assumes=assumes,
                   paper=next((m.paper for m in chain if m.paper), None))  # fmt: skip


def _path(argument: tree.Argument) -> list[str]:
    return (argument.name or "").split(".")


def _nest(block: tree.Block, diagnostics: Diagnostics) -> tree.Block:
    """Dotted arguments of a block become nested blocks; a name given twice is reported."""
    plain = replace(block, arguments=())
    seen: dict[str, tree.Argument] = {}
    for argument in block.arguments:
        name = argument.name or ""
        if name in seen:
            diagnostics.error("E305", f"`{name}` is given twice", argument.name_span or argument.span,
                              Note("first here", seen[name].name_span or seen[name].span), help="delete one of them")  # fmt: skip
            continue
        seen[name] = argument
        if isinstance(argument.value, tree.Block):
            argument = replace(argument, value=_nest(argument.value, diagnostics))
        plain = _merge(plain, name.split("."), argument)
    return plain


def _merge(block: tree.Block, path: list[str], new: tree.Argument) -> tree.Block:
    """Replace at a path; on the way, a call becomes a block and a missing argument a refinement of the default."""
    name, rest = path[0], path[1:]
    for let in block.lets:
        if any(t.id == name for t in let.targets) and len(let.targets) == 1 and not any(a.name == name for a in block.arguments):
            value = _merge(_as_block(let.value), rest, new) if rest else _replaced(let.value, new.value)
            return replace(block, lets=tuple(replace(x, value=value) if x is let else x for x in block.lets))
    for old in block.arguments:
        if old.name == name:
            value = _merge(_as_block(old.value), rest, new) if rest else _replaced(old.value, new.value)
            changed = replace(old, value=value, name_span=old.name_span if rest else new.name_span)
            return replace(block, arguments=tuple(changed if a is old else a for a in block.arguments))
    value = _merge(tree.Block(span=new.value.span, base=None, lets=(), arguments=()), rest, new) if rest else new.value
    added = tree.Argument(span=new.span, name=name, name_span=new.name_span, value=value)
    return replace(block, arguments=(*block.arguments, added))


def _replaced(old: tree.Expr, new: tree.Expr) -> tree.Expr:
    """A refining block merges into what stands there; anything else replaces it whole."""
    if isinstance(new, tree.Block) and new.base is None:
        block = _as_block(old)
        for argument in new.arguments:
            block = _merge(block, _path(argument), argument)
        return replace(block, lets=(*block.lets, *new.lets))
    return new


def _as_block(value: tree.Expr) -> tree.Block:
    """A recipe expression as a block with the same arguments: `f(a, b = 1)` keeps `f(a)` as base."""
    match value:
        case tree.Block():
            return value
        case tree.Call():
            positional = tuple(a for a in value.arguments if a.name is None)
            base = replace(value, arguments=positional) if positional else value.function
            return tree.Block(span=value.span, base=base, lets=(), arguments=tuple(a for a in value.arguments if a.name is not None))
        case _:
            return tree.Block(span=value.span, base=value, lets=(), arguments=())
