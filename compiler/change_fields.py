"""No field is inert: every argument of a spec is changed in turn, and what that does to the program is told.

A spec's arguments are the numbers, bools, strings and components that it gives: in the blocks and calls of a model, in the defaults of its
hyperparameters and in its body."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Literal, TypeGuard

from ..grammar import tree
from ..grammar.frozen import frozen
from . import ir
from .diagnostics import Diagnostics
from .dims import Expr, Sym
from .elaborate import elaborate_model
from .find_model import find_model
from .library import Library
from .operations import Poison
from .pipeline import run as run_passes
from .print_ir import print_program

Effect = Literal["parameters", "code", "outputs", "refused", "inert"]
Rebuild = Callable[[tree.Node], tree.Node]
LARGEST = 1 << 40


@frozen(kw_only=True)
class Field:
    """What a change of one argument does: other parameters, other code, other outputs of the same code (a number that it reads), or an error."""

    path: str
    was: str
    now: str
    effect: Effect
    note: str
    span: tree.Span

    def __str__(self) -> str:
        line, _ = self.span.line_column()
        return f"{self.effect:10}  {self.path} (line {line}): {self.was} -> {self.now}{f': {self.note}' if self.note else ''}"


def change_fields(spec: str, sets: list[str], diagnostics: Diagnostics) -> list[Field] | None:
    """Every argument of a spec with what changing it does; none if the spec itself is wrong."""
    found = find_model(spec, sets, diagnostics)
    if found is None:
        return None
    model, library = found
    program = elaborate_model(model, library, diagnostics)
    if program is None or diagnostics.failed:
        return None
    before, reads = _Form.of(program), _Reads.of(program)
    return [_changed(model, library, before, reads, *leaf) for leaf in _leaves(model, (), lambda node: node)]


# ---------------------------------------------------------------- the arguments


def _leaves(node: tree.Node, path: tuple[str, ...], rebuild: Rebuild) -> Iterator[tuple[tuple[str, ...], tree.Expr, Rebuild]]:
    """Places of what can be changed, each with how the model looks with something else there."""
    if _is_leaf(node):
        yield path, node, rebuild
        return
    for f in fields(node):
        value = getattr(node, f.name)
        here = (*path, *_named(node, f.name))
        if _is_node(value):
            yield from _leaves(value, here, _at(node, f.name, None, rebuild))
        elif isinstance(value, tuple):
            for k, item in enumerate(value):
                if _is_node(item):
                    yield from _leaves(item, here, _at(node, f.name, k, rebuild))


def _is_node(value: object) -> TypeGuard[tree.Node]:
    return isinstance(value, tree.Node) and is_dataclass(value)


def _is_leaf(node: tree.Node) -> TypeGuard[tree.Expr]:
    return isinstance(node, tree.Number | tree.String) or (isinstance(node, tree.Name) and node.id in ("true", "false"))


def _named(node: tree.Node, name: str) -> tuple[str, ...]:
    """What a place below a node is called."""
    match node:
        case tree.Argument(name=str(own)) if name == "value":
            return (own,)
        case tree.Parameter() | tree.Input() | tree.Effect() | tree.State() | tree.Given() | tree.Component():
            return (node.name.id,)
        case tree.Bind(targets=targets) | tree.Let(targets=targets):
            return (targets[0].id,)
        case tree.Axis(label=label):
            return (label,)
        case _:
            return ()


def _at(node: tree.Node, name: str, item: int | None, rebuild: Rebuild) -> Rebuild:
    def place(new: tree.Node) -> tree.Node:
        old = getattr(node, name)
        value = new if item is None else (*old[:item], new, *old[item + 1 :])
        return rebuild(replace(node, **{name: value}))  # type: ignore[arg-type]

    return place


def _others(leaf: tree.Expr) -> list[tree.Expr]:
    """Other values to try, the first that is not refused."""
    match leaf:
        case tree.Number():
            n = leaf.value
            numbers = (
                [n * 2, n + 1, n * 3, n - 1]
                if isinstance(n, int) and n
                else [1, 2]
                if isinstance(n, int)
                else [n * 2 or 0.5, n / 2 or 0.25]
            )
            return [tree.Number(span=leaf.span, text=repr(m)) for m in numbers if 0 <= m < LARGEST]
        case tree.Name(id=word):
            return [tree.Name(span=leaf.span, id="false" if word == "true" else "true")]
        case tree.String(value=text):
            return [tree.String(span=leaf.span, value=f"{text}_")]
        case _:
            return []


def _text(leaf: tree.Expr) -> str:
    match leaf:
        case tree.Number(text=text):
            return text
        case tree.String(value=value):
            return f'"{value}"'
        case tree.Name(id=word):
            return word
        case _:
            return ""


# ---------------------------------------------------------------- what a change does


@frozen(kw_only=True)
class _Form:
    """A program as text without the values of Config, and those values."""

    text: str
    values: dict[str, int | float | None]

    @staticmethod
    def of(program: ir.Program) -> _Form:
        text = "\n".join(line for line in print_program(program).splitlines() if not line.startswith("config "))
        return _Form(text=text, values={name: symbol.value for name, symbol in program.config})


@frozen(kw_only=True)
class _Reads:
    """Which fields of Config the program reads after the passes: in the shapes of parameters, and anywhere."""

    in_shapes: frozenset[str]
    anywhere: frozenset[str]

    @staticmethod
    def of(program: ir.Program) -> _Reads:
        names = {symbol: name for name, symbol in program.config}
        after = run_passes(program)
        shapes = {s for m in ir.walk(after.root) for e in _shapes(m) for s in e.symbols}
        seen: set[int] = set()
        anywhere = {s for thing in (*ir.walk(after.root), *after.inputs) for e in _numbers(thing, seen, top=True) for s in e.symbols}
        return _Reads(in_shapes=_known(shapes, names), anywhere=_known(anywhere, names))


def _known(symbols: set[Sym], names: dict[Sym, str]) -> frozenset[str]:
    return frozenset(names[s] for s in symbols if s in names)


def _shapes(module: ir.Module) -> Iterator[Expr]:
    yield from (a.size for p in module.params for a in p.type.axes)
    for child in module.children:
        yield from ir.counts_of(child)


def _numbers(thing: object, seen: set[int], *, top: bool = False) -> Iterator[Expr]:
    """Every number in a module's nodes, types and parameters; modules below are walked by themselves."""
    match thing:
        case Expr():
            yield thing
        case tuple():
            for item in thing:
                yield from _numbers(item, seen)
        case ir.Module() if not top:
            return
        case ir.Label() | tree.Span() | str() | int() | None:
            return
        case _ if is_dataclass(thing) and id(thing) not in seen:
            seen.add(id(thing))
            for f in fields(thing):
                if f.name not in ("locals", "span", "named"):
                    yield from _numbers(getattr(thing, f.name), seen)


def _changed(
    model: tree.Model, library: Library, before: _Form, reads: _Reads, path: tuple[str, ...], leaf: tree.Expr, rebuild: Rebuild
) -> Field:
    refusal, first_tried, inert = "", "", False
    for other in _others(leaf):
        text = _text(other)
        first_tried = first_tried or text
        changed = rebuild(other)
        assert isinstance(changed, tree.Model)
        diagnostics = library.diagnostics = Diagnostics()
        try:
            program = elaborate_model(changed, library, diagnostics)
        except Poison:
            program = None
        if program is not None and not diagnostics.failed:
            effect = _effect(before, _Form.of(program), reads)
            if effect != "inert":
                return Field(path=".".join(path), was=_text(leaf), now=text, effect=effect, note="", span=leaf.span)
            inert = True
            continue
        first = next((d for d in diagnostics.found if d.code.startswith("E")), None)
        refusal = refusal or (f"{first.code}, {first.message}" if first is not None else "refused")
    if inert or not refusal:
        return Field(path=".".join(path), was=_text(leaf), now=first_tried, effect="inert", note="", span=leaf.span)
    return Field(path=".".join(path), was=_text(leaf), now=first_tried, effect="refused", note=refusal, span=leaf.span)


def _effect(before: _Form, after: _Form, reads: _Reads) -> Effect:
    if before.text != after.text:
        return "parameters" if _parameters(before.text) != _parameters(after.text) else "code"
    changed = {name for name, value in after.values.items() if before.values.get(name) != value}
    if changed & reads.in_shapes:
        return "parameters"
    return "outputs" if changed & reads.anywhere else "inert"


def _parameters(text: str) -> list[str]:
    return [line for line in text.splitlines() if " = param " in line or " = buffer " in line or line.startswith("  stack ")]
