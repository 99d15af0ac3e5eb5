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
            diagnostics.error(
                "E304", f"`{model.name.id}` extends itself", wanted.span, help="extend another model, or name a component with `=`"
            )
            return None
        chain.append(parent)
    root = chain[-1]
    block = tree.Block(span=root.span, base=root.base, lets=root.lets, arguments=root.arguments)
    for child in reversed(chain[:-1]):
        lets = {t.id: let for let in (*block.lets, *child.lets) for t in let.targets}
        block = replace(block, lets=tuple({id(v): v for v in lets.values()}.values()))
        for argument in child.arguments:
            block = merge(block, _path(argument), argument, library)
    for argument in sets:
        block = merge(block, _path(argument), argument, library)
    block = _nest(block, diagnostics, library)
    assumes = tuple(a for m in reversed(chain) for a in m.assumes)
    return replace(model, base=root.base, extends=None, component=root.component, lets=block.lets, arguments=block.arguments, assumes=assumes,
                   paper=next((m.paper for m in chain if m.paper), None))  # fmt: skip


def _path(argument: tree.Argument) -> list[str]:
    return (argument.name or "").split(".")


def _nest(block: tree.Block, diagnostics: Diagnostics, library: Library) -> tree.Block:
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
            argument = replace(argument, value=_nest(argument.value, diagnostics, library))
        plain = merge(plain, name.split("."), argument, library)
    return plain


def merge(block: tree.Block, path: list[str], new: tree.Argument, library: Library) -> tree.Block:
    """Replace at a path; on the way, a call becomes a block and a missing argument a refinement of the default."""
    name, rest = path[0], path[1:]
    for let in block.lets:
        if any(t.id == name for t in let.targets) and len(let.targets) == 1 and not any(a.name == name for a in block.arguments):
            value = merge(as_block(let.value, library), rest, new, library) if rest else _replaced(let.value, new.value, library)
            return replace(block, lets=tuple(replace(x, value=value) if x is let else x for x in block.lets))
    for old in block.arguments:
        if old.name == name:
            value = merge(as_block(old.value, library), rest, new, library) if rest else _replaced(old.value, new.value, library)
            changed = replace(old, value=value, name_span=old.name_span if rest else new.name_span)
            return replace(block, arguments=tuple(changed if a is old else a for a in block.arguments))
    value = merge(tree.Block(span=new.value.span, base=None, lets=(), arguments=()), rest, new, library) if rest else new.value
    added = tree.Argument(span=new.span, name=name, name_span=new.name_span, value=value)
    return replace(block, arguments=(*block.arguments, added))


def _replaced(old: tree.Expr, new: tree.Expr, library: Library) -> tree.Expr:
    """A refining block merges into what stands there; anything else replaces it whole."""
    if isinstance(new, tree.Block) and new.base is None:
        block = as_block(old, library)
        for argument in new.arguments:
            block = merge(block, _path(argument), argument, library)
        kept = tuple(let for let in block.lets if not any(let.targets == other.targets for other in new.lets))
        return replace(block, lets=(*kept, *new.lets))
    return new


def _named(call: tree.Call, component: tree.Component) -> tree.Call:
    """A call with the names of its positional arguments, so that a path can reach them."""
    names = iter(p.name.id for p in component.parameters)
    arguments = tuple(replace(a, name=next(names, None)) if a.name is None else a for a in call.arguments)
    return replace(call, arguments=arguments)


def as_block(value: tree.Expr, library: Library) -> tree.Block:
    """A recipe expression as a block with the same arguments: `f(a, b = 1)` keeps `f(a)` as base."""
    match value:
        case tree.Block():
            return value
        case tree.Call():
            component = library.component(value.function.id, value.span.source.path) if isinstance(value.function, tree.Name) else None
            if component is not None:
                value = _named(value, component)
            positional = tuple(a for a in value.arguments if a.name is None)
            base = replace(value, arguments=positional) if positional else value.function
            return tree.Block(span=value.span, base=base, lets=(), arguments=tuple(a for a in value.arguments if a.name is not None))
        case _:
            return tree.Block(span=value.span, base=value, lets=(), arguments=())
