"""Looking up names, evaluating arguments late, and reading lists as axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field, replace

from ..grammar import tree
from ..grammar.frozen import mutable
from . import ir
from .builder import Builder
from .diagnostics import Diagnostics, Note
from .dims import Expr, sym
from .habits import of_name
from .library import Library, suggest
from .operations import Poison
from .scope import Frame, Symbols, Thunk
from .values import NONE, POISON, Builtin, Instance, ListValue, Recipe, Static, describe


@mutable
class Names:
    """The part of the elaborator that resolves names; `evaluate` and `builtins` are supplied by the parts built on it."""

    library: Library
    diagnostics: Diagnostics
    symbols: Symbols = field(default_factory=Symbols)
    facts: list[ir.Fact] = field(default_factory=list)
    owners: dict[ir.Value, Builder] = field(default_factory=dict)
    thunks: list[Thunk] = field(default_factory=list)
    path: tuple[str, ...] = ()
    builtins: dict[str, Builtin] = field(default_factory=dict)

    def evaluate(self, node: tree.Expr, frame: Frame) -> Static:
        raise NotImplementedError

    def error(
        self, code: str, message: str, span: tree.Span | None, *notes: Note, help: str | None = None, remedy: str | None = None
    ) -> Poison:
        """Report; the caller raises what this returns."""
        self.diagnostics.error(code, message, span, *notes, help=help, remedy=remedy)
        return Poison()

    def wrong_value(
        self, code: str, message: str, node: tree.Expr, frame: Frame, *, help: str | None = None, remedy: str | None = None
    ) -> Poison:
        """Report a value that is wrong where it is read: at the words of the spec that gave it, when the library reads it."""
        chain = self.given_by(node, frame)
        spec = [(t, f) for t, f in chain if not self.diagnostics.is_shipped(t.node.span)]
        written = chain[-1][0].node if chain else node
        if isinstance(written, tree.String) and written.value.isdigit():
            remedy = f"a number has no quotes: `{written.value}`"
        elif chain and not chain[-1][0].explicit and isinstance(written, tree.Name) and written.id == "none":
            remedy = f"give `{chain[-1][1].title}` its `{chain[-1][0].parameter}`: `{chain[-1][0].parameter} = ...`"
        if not spec or not self.diagnostics.is_shipped(node.span):
            notes = [Note("its value is given here", t.node.span) for t, _ in spec[-1:]]
            return self.error(code, message, node.span, *notes, help=help, remedy=remedy)
        thunk, reader = spec[0]
        notes = [Note("it is read here", node.span)]
        if spec[-1][0] is not thunk:
            notes.append(Note("its value is given here", spec[-1][0].node.span))
        known = self.library.component(reader.title, node.span.source.path)
        source, start = thunk.node.span.source, thunk.node.span.start
        by_place = not source.text[:start].rstrip().endswith(("=", ":"))
        if remedy is None and by_place and known is not None and thunk.parameter in (names := [p.name.id for p in known.parameters]):
            remedy = f"this is `{thunk.parameter}` of `{reader.title}({', '.join(names)})`"
        return self.error(code, message, thunk.node.span, *notes, remedy=remedy)

    def given_by(self, node: tree.Expr, frame: Frame) -> list[tuple[Thunk, Frame]]:
        """The arguments that a name stands for, through names to the one that is written out; each with the scope that has it."""
        found: list[tuple[Thunk, Frame]] = []
        while isinstance(node, tree.Name):
            seen = [t for t, _ in found]
            known = ((s.names[node.id], s) for s in frame.outward() if node.id in s.names)
            here = next(((t, s) for t, s in known if isinstance(t, Thunk) and t not in seen), None)
            if here is None:
                break
            found.append(here)
            node, frame = here[0].node, here[0].frame
        return found

    # ------------------------------------------------ names

    def lookup(self, name: tree.Name, frame: Frame) -> Static:
        """What a name means here: a local, a parameter, an axis (its size), a component, an operation."""
        word = name.id
        for scope in frame.outward():
            if word in scope.names:
                found = scope.names[word]
                if isinstance(found, Thunk):
                    if found.running:
                        continue
                    found = self.force(found)
                if found is POISON:
                    raise Poison
                if isinstance(found, ir.Value):
                    return self.local(found, frame)
                if isinstance(found, tuple):
                    return type(found)(self.local(v, frame) for v in found) if not hasattr(found, "names") else found
                return found
            if word in scope.labels:
                return scope.labels[word].size
        match word:
            case "true" | "yes" | "on":
                return True
            case "false" | "no" | "off":
                return False
            case "none" | "null":
                return NONE
            case "training" if frame.builder is not None:
                return frame.builder.body.training(name.span)
        component = self.library.component(word, name.span.source.path)
        if component is not None:
            return Recipe(component, Frame(None, None, component.name.id), span=name.span)
        if word in self.builtins:
            return self.builtins[word]
        raise self.unknown(name, frame)

    def unknown(self, name: tree.Name, frame: Frame) -> Poison:
        known = [n for s in frame.outward() for n in (*s.names, *s.labels)]
        where = f"`{frame.title}` has no name `{name.id}`" if frame.builder is not None else f"nothing is called `{name.id}`"
        instead = of_name(name.id)
        if any(isinstance(found := s.names.get(name.id), Thunk) and found.running for s in frame.outward()):
            instead = f"`{name.id}` is what is given here: write a number, or another name"
        return self.error("E310", where, name.span, help=instead or self.library.nearest(name.id, [*known, *self.builtins]), remedy=instead)

    def local(self, value: ir.Value, frame: Frame) -> ir.Value:
        return frame.builder.local(value) if frame.builder is not None else value

    # ------------------------------------------------ arguments

    def force(self, thunk: Thunk) -> Static:
        """The value of an argument, computed once, in the frame where it was written."""
        thunk.used = True
        if thunk.value is not None:
            return thunk.value
        number = literal(thunk.node)
        if number is not None:
            symbol = self.symbols.at(thunk.node.span, thunk.parameter, number, thunk.path)
            self.diagnostics.places[symbol] = thunk.node.span
            thunk.value = sym(symbol)
            return thunk.value
        thunk.running = True
        try:
            with self.at_path(thunk.path), self.diagnostics.within(thunk.node.span):
                if isinstance(thunk.node, tree.Block):
                    thunk.value = self.block(thunk.node, thunk)
                else:
                    thunk.value = self.evaluate(thunk.node, thunk.frame)
        except Poison:
            thunk.value = POISON
        finally:
            thunk.running = False
        return thunk.value

    @contextmanager
    def at_path(self, path: tuple[str, ...]) -> Iterator[None]:
        old, self.path = self.path, path
        try:
            yield
        finally:
            self.path = old

    def block(self, block: tree.Block, thunk: Thunk) -> Static:
        """An indented block of arguments: a call of its base, or a refinement of the parameter's own recipe."""
        frame = self.block_frame(block, thunk.frame)
        if block.base is not None:
            skip = Frame(thunk.frame.builder, thunk.frame, thunk.frame.title, names={n: v for n, v in frame.names.items() if n not in {a.name for a in block.arguments}})  # fmt: skip
            base = self.evaluate(block.base, skip)
        elif thunk.refines is not None:
            base = self.force(thunk.refines)
        else:
            raise self.error(
                "E313",
                f"`{thunk.parameter}` has no default to refine",
                block.span,
                help="name a component: `type:` in YAML, `= component:` in .xf",
            )
        if not isinstance(base, Recipe):
            place = block.base.span if block.base else block.span
            raise self.error("E314", f"arguments need a component, found {describe(base)}", place,
                             remedy=f"name one: `{thunk.parameter or 'name'} = component:`")  # fmt: skip
        given = {a.name or "": frame.names[a.name or ""] for a in block.arguments}
        return self.refined(
            base,
            {n: (t, a.name_span or a.span) for (n, t), a in zip(given.items(), block.arguments, strict=True) if isinstance(t, Thunk)},
            block.base.span if block.base else block.span,
        )

    def block_frame(self, block: tree.Block, outer: Frame) -> Frame:
        frame = Frame(outer.builder, outer, outer.title, path=self.path)
        for let in block.lets:
            for target in let.targets:
                frame.names[target.id] = self.thunk(let.value, frame, target.id, explicit=False)
        for argument in block.arguments:
            name = argument.name or ""
            frame.names[name] = self.thunk(argument.value, frame, name, explicit=True)
        return frame

    def thunk(self, node: tree.Expr, frame: Frame, parameter: str, *, explicit: bool) -> Thunk:
        made = Thunk(node, frame, parameter, (*self.path, parameter), explicit)
        if explicit:
            self.thunks.append(made)
        return made

    def refined(self, recipe: Recipe, arguments: dict[str, tuple[Thunk, tree.Span]], span: tree.Span | None = None) -> Recipe:
        """The recipe with further hyperparameters given; unknown ones are refused."""
        known = [p.name.id for p in recipe.component.parameters]
        for name, (thunk, place) in arguments.items():
            if name not in known:
                thunk.used = True
                listed = ", ".join(f"`{k}`" for k in known) or "none"
                self.error("E312", f"`{recipe.name}` has no argument `{name}`", place, Note("declared here", recipe.component.name.span),
                           help=suggest(name, known) or f"its arguments: {listed}")  # fmt: skip
        kept = {n: t for n, (t, _) in arguments.items() if n in known}
        for thunk in kept.values():
            thunk.receiver = recipe.component
        for name in kept.keys() & recipe.arguments.keys():
            recipe.arguments[name].used = True  # replaced on purpose
        return replace(recipe, arguments={**recipe.arguments, **kept}, span=span or recipe.span)

    # ------------------------------------------------ axes

    def axes(self, node: tree.Expr, frame: Frame) -> tuple[ir.Axis, ...]:
        """An expression read as axes: a list of them, or one."""
        match node:
            case tree.List():
                return tuple(a for item in node.items for a in self.axes(item, frame))
            case tree.Axis():
                return (self.new_axis(node.label, self.size(node.size, frame), frame),)
            case tree.Name(id="..."):
                for scope in frame.outward():
                    if scope.rest is not None:
                        return scope.rest
                raise self.error("E320", "`...` stands for the axes that a signature left open; here there are none", node.span)
            case tree.Name() if node.id.endswith("'"):
                plain = replace(node, id=node.id[:-1])
                return tuple(ir.Axis(self.prime(a.label, frame), a.size) for a in self.axes(plain, frame))
            case tree.Name():
                return self.named_axes(node, frame)
            case _:
                value = self.evaluate(node, frame)
                if isinstance(value, ListValue):
                    return self.axes(value.node, value.frame)
                if not isinstance(value, Expr):
                    raise self.error(
                        "E321",
                        f"an axis is needed here, found {describe(value)}",
                        node.span,
                        help="write an axis label, `label: size`, or a number",
                    )
                return (self.text_axis(node, value, "", frame),)

    def named_axes(self, node: tree.Name, frame: Frame) -> tuple[ir.Axis, ...]:
        other: Static | None = None
        for scope in frame.outward():
            if node.id in scope.labels:
                return (scope.labels[node.id],)
            found = scope.names.get(node.id)
            if found is None or (isinstance(found, Thunk) and found.running):
                continue
            if isinstance(found, Thunk):
                value = self.force(found)
                if value is POISON:
                    raise Poison
                if isinstance(value, ListValue):
                    return self.axes(value.node, value.frame)
                if isinstance(found.node, tree.Name | tree.Axis) and isinstance(value, Expr):
                    found.running = True  # `head_dim = head_dim` means the outer one
                    try:
                        return self.axes(found.node, found.frame)
                    finally:
                        found.running = False
                if isinstance(value, Expr):
                    return (self.text_axis(found.node, value, found.parameter, found.frame, default=not found.explicit),)
            else:
                value = found
                if isinstance(value, ListValue):
                    return self.axes(value.node, value.frame)
                if isinstance(value, Expr):
                    axis = ir.Axis(ir.Label(node.id), value)
                    scope.labels[node.id] = axis
                    return (axis,)
            if value is POISON:
                raise Poison
            other = other or value  # an instance may share its name with an axis further out
        if other is not None:
            raise self.wrong_value("E321", f"an axis is needed here, found {describe(other)}", node, frame)
        raise self.error(
            "E322",
            f"there is no axis `{node.id}` here",
            node.span,
            help=suggest(node.id, [n for s in frame.outward() for n in (*s.labels, *s.names) if "|" not in n])
            or f"name an axis in scope, give it a size (`{node.id}: size`), or name a result's axes where it is bound (`y: [..., {node.id}] = ...`)",
        )

    def text_axis(self, node: tree.Expr, size: Expr, parameter: str, frame: Frame, *, default: bool = False) -> ir.Axis:
        """An axis known by the text of its size: two of the same text in one place are the same axis."""
        text = node.span.source.text[node.span.start : node.span.end]
        key = f"{parameter}|{text}"
        if key not in frame.labels:
            name = parameter if parameter and (default or literal(node) is not None) else text
            frame.labels[key] = ir.Axis(ir.Label(name), size)
        return ir.Axis(frame.labels[key].label, size)

    def new_axis(self, name: str, size: Expr, frame: Frame) -> ir.Axis:
        """An axis of this name and size: of the label in scope if there is one, else of a new label."""
        if name.endswith("'"):
            return ir.Axis(self.prime(self.new_axis(name[:-1], size, frame).label, frame), size)
        for scope in frame.outward():
            if name in scope.labels:
                return ir.Axis(scope.labels[name].label, size)
            found = scope.names.get(name)
            if found is None or (isinstance(found, Thunk) and found.running):
                continue
            value = self.force(found) if isinstance(found, Thunk) else found
            if isinstance(value, Expr):
                return ir.Axis(self.named_axes(tree.Name(span=size_span(found), id=name), scope)[0].label, size)
        frame.labels[name] = ir.Axis(ir.Label(name), size)
        return frame.labels[name]

    def known_label(self, node: tree.Expr, frame: Frame) -> tuple[ir.Label, ...]:
        """Labels named by an argument such as `sum(x, t)` or `sum(x, [h, e])`."""
        return tuple(a.label for a in self.axes(node, frame))

    def prime(self, label: ir.Label, frame: Frame) -> ir.Label:
        """A second axis like one in scope: the one that a signature or a body around named before, or a new one."""
        for scope in frame.outward():
            if label in scope.primed:
                return scope.primed[label]
        frame.primed[label] = ir.Label(label.name + "'")
        return frame.primed[label]

    def size(self, node: tree.Expr, frame: Frame) -> Expr:
        value = self.evaluate(node, frame)
        if not isinstance(value, Expr):
            raise self.wrong_value("E323", f"a size is needed here, found {describe(value)}", node, frame)
        return value

    def is_instance(self, value: Static) -> bool:
        return isinstance(value, Instance)


def literal(node: tree.Expr) -> int | float | None:
    """The value of a bare number (with a sign)."""
    match node:
        case tree.Number():
            return node.value
        case tree.Unary(op="-", value=tree.Number() as number):
            return -number.value
        case _:
            return None


_NOWHERE = tree.Span(tree.Source("", ""), 0, 0)


def size_span(found: Static | Thunk) -> tree.Span:
    return found.node.span if isinstance(found, Thunk) else _NOWHERE


def names_of(targets: Iterable[tree.Name]) -> str:
    return ", ".join(t.id for t in targets)
