"""A syntax tree as .xf text, in canonical form. `format_xf` adds what a tree does not hold: comments, empty lines, order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from . import tree
from .frozen import frozen
from .lexer import escape
from .print_expression import STEP, WIDTH, Parts, fit, fit_value, flat, group, parts_of, text_of
from .tree import Expr, Statement

N = TypeVar("N", bound=tree.Node)
Entry = tree.Let | tree.Argument | tree.Assume


@frozen
class Line:
    """One construct without what is indented under it. `[start, end)` is where it stood in the text it was read from, if that is known;
    `text` may have several lines, the later ones with all their indentation."""

    indent: int
    text: str
    start: int = -1
    end: int = -1
    compound: bool = False


@frozen
class Header:
    """Where the line above some indented lines stands, and the text of a paper just under it."""

    start: int = -1
    end: int = -1
    paper_start: int = -1
    paper_end: int = -1


class Layout:
    """What the printer may ask about the text that a tree was read from. This one knows nothing; the formatter's reads tokens."""

    known = False

    def header(self, first_inside: int) -> Header:
        """The line above the indented lines, the first of which starts there."""
        return Header()

    def written_as_block(self, call: tree.Call) -> bool:
        """Whether a call's arguments stand on indented lines."""
        return False

    def same_line(self, left: int, right: int) -> bool:
        """Whether two places are on one logical line."""
        return False


def print_file(file: tree.File) -> str:
    """The file as text; parsed again it gives an equal tree."""
    lines = list(Printer(Layout()).file(file))
    text = ""
    for number, line in enumerate(lines):
        before = lines[number - 1]
        imports = line.text.startswith("import ") - before.text.startswith("import ")
        if number > 0 and line.indent == 0 and (line.compound or before.indent > 0 or imports):
            text += "\n"
        text += " " * line.indent + line.text + "\n"
    return text


class Printer:
    """Turns declarations into lines. With a layout that knows the text, the order and the forms that the text has are kept."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def file(self, file: tree.File) -> Iterator[Line]:
        for node in self._ordered([*file.imports, *file.declarations]):
            match node:
                case tree.Import():
                    yield self._line(0, f"import {escape(node.path)}", node)
                case tree.Component():
                    yield from self.component(node, 0)
                case tree.Model():
                    yield from self.model(node)
                case tree.Map():
                    yield from self.map(node)

    def _ordered(self, nodes: Sequence[N]) -> Sequence[N]:
        return sorted(nodes, key=lambda node: node.span.start) if self.layout.known else nodes

    def _line(self, indent: int, text: str, node: tree.Node) -> Line:
        return Line(indent, text, node.span.start, node.span.end) if self.layout.known else Line(indent, text)

    def _head(self, indent: int, text: str, inside: Sequence[tree.Node], paper: str | None = None, end: int = -1) -> Iterator[Line]:
        """A line that ends with `:`, and the text of a paper under it. `end` is where the whole construct ends, if only a paper is inside."""
        header = self.layout.header(min((node.span.start for node in inside), default=end))
        yield Line(indent, text, header.start, header.end, compound=True)
        if paper is not None:
            yield Line(indent + STEP, escape(paper), header.paper_start, header.paper_end)

    # ---------------------------------------------------------------- components

    def component(self, node: tree.Component, indent: int, paper: str | None = None) -> Iterator[Line]:
        paper = node.paper if paper is None else paper
        header: Parts = (f"{node.kind} {node.name.id}", *_lists(node), *_outputs(node.outputs))
        short = self._short_body(node)
        if short is not None and paper is None:
            text = flat(header) + " = "
            if self.layout.known or indent + len(text + text_of(short)) <= WIDTH:
                yield self._line(indent, fit_value(text, short, "", indent, several=True), node)
                return
        yield from self._head(indent, fit((*header, ":"), indent), node.body, paper)
        yield from self.body(node.body, indent + STEP)

    def _short_body(self, node: tree.Component) -> Expr | None:
        """The value after `=` of a definition in one line, if this is one."""
        match node.body:
            case (tree.Return(value=value, span=span),):
                if self.layout.known:
                    return value if span.start == value.span.start else None
                return value if node.kind not in ("component", "model") else None
            case _:
                return None

    def body(self, body: Sequence[Statement], indent: int) -> Iterator[Line]:
        for statement in body:
            yield from self.statement(statement, indent)

    def statement(self, node: Statement, indent: int) -> Iterator[Line]:
        match node:
            case tree.Bind(targets=(target,), value=value, axes=tree.List() as axes):
                yield self._line(indent, fit((f"{target.id}: ", *parts_of(axes), " = ", *parts_of(value)), indent), node)
            case tree.Bind(targets=targets, value=value, shared=shared):
                yield self._line(
                    indent, fit_value(("shared " if shared else "") + f"{_names(targets)} = ", value, "", indent, several=True), node
                )
            case tree.Let():
                yield from self.let(node, indent)
            case tree.Given(name=name, axes=axes, default=default):
                given: Parts = (f"given {name.id}: ", *parts_of(axes), *(() if default is None else (" = ", *parts_of(default))))
                yield self._line(indent, fit(given, indent), node)
            case tree.State(name=name, axes=axes, initial=initial):
                yield self._line(indent, fit((f"state {name.id}: ", *parts_of(axes), " = ", *parts_of(initial)), indent), node)
            case tree.Effect(kind=kind, name=name, value=value):
                yield self._line(indent, fit_value(f"{kind} {name.id} = ", value, "", indent), node)
            case tree.Return(value=value):
                yield self._line(indent, fit_value("return ", value, "", indent, several=True), node)
            case tree.If():
                yield from self.choice(node, indent, "if")
            case tree.For(targets=targets, values=values, body=body):
                yield from self._head(indent, fit_value(f"for {_names(targets)} in ", values, ":", indent, several=True), body)
                yield from self.body(body, indent + STEP)
            case tree.Assume():
                yield self.assume(node, indent)
            case tree.Define(component=component):
                yield from self.component(component, indent)

    def choice(self, node: tree.If, indent: int, word: str) -> Iterator[Line]:
        yield from self._head(indent, fit_value(f"{word} ", node.condition, ":", indent), node.then)
        yield from self.body(node.then, indent + STEP)
        match node.other:
            case ():
                pass
            case (tree.If() as other,) if not self.layout.known or other.span.source.text.startswith("elif", other.span.start):
                yield from self.choice(other, indent, "elif")
            case body:
                yield from self._head(indent, "else:", body)
                yield from self.body(body, indent + STEP)

    def assume(self, node: tree.Assume, indent: int) -> Line:
        return self._line(indent, f"assume {node.property}: {escape(node.reason)}", node)

    # ---------------------------------------------------------------- models

    def model(self, node: tree.Model) -> Iterator[Line]:
        if node.component is not None:
            yield from self.component(node.component, 0, node.paper)
            return
        inside: list[Entry] = [*node.lets, *node.arguments, *node.assumes]
        colon = ":" if inside or node.paper is not None else ""
        if node.extends is not None:
            text = f"model {node.name.id} extends {node.extends.id}{colon}"
        elif node.base is not None:
            text = fit_value(f"model {node.name.id} = ", node.base, colon, 0)
        else:
            text = f"model {node.name.id}{colon}"
        if not inside and node.paper is None:
            yield self._line(0, text, node)
            return
        yield from self._head(0, text, inside, node.paper, node.span.end)
        yield from self.entries(inside, STEP)

    def entries(self, nodes: Sequence[Entry], indent: int) -> Iterator[Line]:
        for node in self._ordered(nodes):
            match node:
                case tree.Let():
                    yield from self.let(node, indent)
                case tree.Assume():
                    yield self.assume(node, indent)
                case tree.Argument(name=name, value=value):
                    yield from self.entry(node, name or "", value, indent)

    def let(self, node: tree.Let, indent: int) -> Iterator[Line]:
        yield from self.entry(node, f"let {_names(node.targets)}", node.value, indent)

    def entry(self, node: tree.Node, name: str, value: Expr, indent: int) -> Iterator[Line]:
        """`name = value`; or `name = base:`, or `name:`, and lines under it."""
        match value:
            case tree.Block(base=base, lets=lets, arguments=arguments):
                inside: list[Entry] = [*lets, *arguments]
                text = f"{name}:" if base is None else fit_value(f"{name} = ", base, ":", indent)
                yield from self._head(indent, text, inside)
                yield from self.entries(inside, indent + STEP)
            case tree.Call() if self._wants_block(name, value, indent):
                named = [argument for argument in value.arguments if argument.name is not None]
                rest = value.arguments[: len(value.arguments) - len(named)]
                base = tree.Call(span=value.span, function=value.function, arguments=rest) if rest else value.function
                yield from self._head(indent, fit_value(f"{name} = ", base, ":", indent), named)
                yield from self.entries(named, indent + STEP)
            case _:
                yield self._line(indent, fit_value(f"{name} = ", value, "", indent, isinstance(node, tree.Let)), node)

    def _wants_block(self, name: str, call: tree.Call, indent: int) -> bool:
        """Whether a call's named arguments go on lines of their own: they stood so, or the line would be too long."""
        named = [argument for argument in call.arguments if argument.name is not None]
        if not named or not isinstance(call.function, tree.Name | tree.Attribute):
            return False
        if any(isinstance(argument.value, tree.Axis | tree.Range | tree.Tuple) for argument in named):
            return False
        return self.layout.written_as_block(call) or indent + len(f"{name} = {text_of(call)}") > WIDTH

    # ---------------------------------------------------------------- maps

    def map(self, node: tree.Map) -> Iterator[Line]:
        text = f"{node.kind} {node.format} for {node.model.id}:"
        yield from self._head(0, text, [*node.rows, *node.ignored])
        lines = [self._line(STEP, fit_value(f"{text_of(row.left)} = ", row.right, "", STEP), row) for row in node.rows]
        lines += [self._ignore(patterns) for patterns in self._ignore_groups(node.ignored)]
        yield from sorted(lines, key=lambda line: line.start) if self.layout.known else lines

    def _ignore_groups(self, patterns: Sequence[tree.String]) -> Iterator[list[tree.String]]:
        """Patterns on one line each: as they stood, else as many as fit."""
        found: list[tree.String] = []
        for pattern in patterns:
            length = STEP + len("ignore ") + sum(len(escape(old.value)) + 2 for old in found) + len(escape(pattern.value))
            together = self.layout.same_line(found[-1].span.start, pattern.span.start) if self.layout.known and found else length <= WIDTH
            if found and not (together and length <= WIDTH):
                yield found
                found = []
            found.append(pattern)
        if found:
            yield found

    def _ignore(self, patterns: list[tree.String]) -> Line:
        text = "ignore " + ", ".join(escape(pattern.value) for pattern in patterns)
        if not self.layout.known:
            return Line(STEP, text)
        return Line(STEP, text, patterns[0].span.start, patterns[-1].span.end)


def _names(names: Sequence[tree.Name]) -> str:
    return ", ".join(name.id for name in names)


def _lists(node: tree.Component) -> Parts:
    """The parentheses of a header: one list if there are no hyperparameters."""
    inputs = group("(", (_input(entry) for entry in node.inputs), ")")
    if not node.parameters:
        return inputs
    parameters = (
        (entry.name.id,) if entry.default is None else (f"{entry.name.id} = ", *parts_of(entry.default)) for entry in node.parameters
    )
    return (*group("(", parameters, ")"), *inputs)


def _input(node: tree.Input) -> Parts:
    parts: Parts = (node.name.id,)
    if node.axes is not None:
        parts = (*parts, ": ", *parts_of(node.axes))
    if node.dtype is not None:
        parts = (*parts, f" {node.dtype}")
    if node.bound is not None:
        parts = (*parts, " in ", *parts_of(node.bound))
    if node.default is not None:
        parts = (*parts, " = ", *parts_of(node.default))
    return parts


def _outputs(outputs: Sequence[tree.Output]) -> Parts:
    def one(output: tree.Output) -> Parts:
        name = output.name.id if output.name is not None else ""
        if output.axes is None:
            return (name,)
        return (f"{name}: " if name else "", *parts_of(output.axes))

    match outputs:
        case ():
            return ()
        case (tree.Output(name=None) as only,) | (tree.Output(axes=None) as only,):
            return (" -> ", *one(only))
        case _:
            return (" -> ", *group("(", (one(output) for output in outputs), ")"))
