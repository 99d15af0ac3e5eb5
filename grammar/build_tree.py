"""The actions of xf.lark for statements and declarations; those for expressions are in build_expression.py."""

from __future__ import annotations

from . import tree
from .build_expression import ExpressionBuilder
from .frozen import frozen
from .lexer import unescape
from .tree import Expr, Span, Statement

#: Actions that collect or pass on, and so add no level to the tree.
FLAT = frozenset(
    [
        "one",
        "more",
        "append",
        "inner",
        "second_value",
        "first_value",
        "nothing",
        "no_items",
        "no_list",
        "no_outputs",
        "argument",
        "named_argument",
        "path",
        "paper",
        "block",
        "paper_block",
        "body",
        "short_body",
        "suite",
        "outputs",
        "item",
        "entry",
        "string",
        "alternative",
    ]
)


@frozen
class Item:
    """One item in the parentheses of a header, before it is known to be a hyperparameter or an input."""

    span: Span
    name: tree.Name
    axes: tree.List | None
    dtype: tree.Name | None
    bound: Expr | None
    default: Expr | None


@frozen
class Body:
    paper: str | None
    statements: tuple[Statement, ...]


@frozen
class Ignored:
    patterns: tuple[tree.String, ...]


@frozen
class Entries:
    """The lines of a block."""

    paper: str | None = None
    lets: tuple[tree.Let, ...] = ()
    arguments: tuple[tree.Argument, ...] = ()
    assumes: tuple[tree.Assume, ...] = ()


NOTHING = Entries()


def block_value(span: Span, base: Expr | None, lets: tuple[tree.Let, ...], arguments: tuple[tree.Argument, ...]) -> tree.Block | tree.Call:
    """A block of lines or a mapping as a value. One that says no more than a call could *is* the call, so that
    `norm = rms_norm(eps = 1e-5)`, the same over two lines, and `norm: {type: rms_norm, eps: 1e-5}` are one tree."""
    simple = all("." not in (argument.name or "") and not isinstance(argument.value, tree.Block) for argument in arguments)
    if simple and not lets:
        match base:
            case tree.Call(function=function, arguments=given):
                return tree.Call(span=span, function=function, arguments=(*given, *arguments))
            case tree.Name() | tree.Attribute():
                return tree.Call(span=span, function=base, arguments=arguments)
            case _:
                pass
    return tree.Block(span=span, base=base, lets=lets, arguments=arguments)


class Builder(ExpressionBuilder):
    """Builds the tree of one fragment."""

    # ---------------------------------------------------------------- statements

    def _names(self, tokens: list[int]) -> tuple[tree.Name, ...]:
        return tuple([self.word(token) for token in tokens])

    def bind(self, start: int, end: int, targets: list[int], equals: int, value: Expr, line: int) -> tree.Bind:
        return tree.Bind(span=self.at(start, end), targets=self._names(targets), value=value)

    def typed(self, start: int, end: int, name: int, colon: int, axes: tree.List, equals: int, value: Expr, line: int) -> tree.Bind:
        return tree.Bind(span=self.at(start, end), targets=(self.word(name),), value=value, axes=axes)

    def shared(self, start: int, end: int, word: int, targets: list[int], equals: int, value: Expr, line: int) -> tree.Bind:
        return tree.Bind(span=self.at(start, end), targets=self._names(targets), value=value, shared=True)

    def let(self, start: int, end: int, word: int, targets: list[int], equals: int, value: Expr, line: int) -> tree.Let:
        return tree.Let(span=self.at(start, end), targets=self._names(targets), value=value)

    def let_call(
        self, start: int, end: int, word: int, targets: list[int], equals: int, base: Expr, colon: int, line: int, block: Entries
    ) -> tree.Let:
        value = self._block(base.span.to(self.at(start, end)), base, block)
        return tree.Let(span=self.at(start, end), targets=self._names(targets), value=value)

    def given(self, start: int, end: int, word: int, name: int, colon: int, axes: tree.List, default: Expr | None, line: int) -> tree.Given:
        return tree.Given(span=self.at(start, end), name=self.word(name), axes=axes, default=default)

    def state(
        self, start: int, end: int, word: int, name: int, colon: int, axes: tree.List, equals: int, initial: Expr, line: int
    ) -> tree.State:
        return tree.State(span=self.at(start, end), name=self.word(name), axes=axes, initial=initial)

    def effect(self, start: int, end: int, kind: int, name: int, equals: int, value: Expr, line: int) -> tree.Effect:
        return tree.Effect(span=self.at(start, end), kind=self.text(kind), name=self.word(name), value=value)

    def return_(self, start: int, end: int, word: int, value: Expr, line: int) -> tree.Return:
        return tree.Return(span=self.at(start, end), value=value)

    def if_(self, start: int, end: int, word: int, condition: Expr, then: list[Statement], other: list[Statement]) -> tree.If:
        return tree.If(span=self.at(start, end), condition=condition, then=tuple(then), other=tuple(other))

    def elif_(self, start: int, end: int, word: int, condition: Expr, then: list[Statement], other: list[Statement]) -> list[Statement]:
        return [self.if_(start, end, word, condition, then, other)]

    def for_(self, start: int, end: int, word: int, targets: list[int], in_: int, values: Expr, body: list[Statement]) -> tree.For:
        return tree.For(span=self.at(start, end), targets=self._names(targets), values=values, body=tuple(body))

    def assume(self, start: int, end: int, word: int, name: int, colon: int, reason: int, line: int) -> tree.Assume:
        return tree.Assume(span=self.at(start, end), property=self.text(name), reason=unescape(self.text(reason)))

    def define(self, start: int, end: int, component: tree.Component) -> tree.Define:
        return tree.Define(span=self.at(start, end), component=component)

    def suite(self, start: int, end: int, colon: int, line: int, indent: int, statements: list[Statement], dedent: int) -> list[Statement]:
        return statements

    # ---------------------------------------------------------------- headers

    def item(
        self, start: int, end: int, name: int, axes: tree.List | None, dtype: int | None, bound: Expr | None, default: Expr | None
    ) -> Item:
        return Item(self.at(start, end), self.word(name), axes, None if dtype is None else self.word(dtype), bound, default)

    def axes_output(self, start: int, end: int, arrow: int, axes: tree.List) -> list[tree.Output]:
        return [tree.Output(span=axes.span, name=None, axes=axes)]

    def name_output(self, start: int, end: int, arrow: int, name: int) -> list[tree.Output]:
        word = self.word(name)
        return [tree.Output(span=word.span, name=word, axes=None)]

    def outputs(self, start: int, end: int, arrow: int, opening: int, outputs: list[tree.Output], *closing: int) -> list[tree.Output]:
        return outputs

    def no_outputs(self, start: int, end: int) -> list[tree.Output]:
        return []

    def bare_output(self, start: int, end: int, name: int) -> tree.Output:
        return tree.Output(span=self.at(start, end), name=self.word(name), axes=None)

    def output(self, start: int, end: int, name: int, colon: int, axes: tree.List) -> tree.Output:
        return tree.Output(span=self.at(start, end), name=self.word(name), axes=axes)

    def paper(self, start: int, end: int, text: int, line: int) -> str:
        return unescape(self.text(text))

    def body(
        self, start: int, end: int, colon: int, line: int, indent: int, paper: str | None, statements: list[Statement], dedent: int
    ) -> Body:
        return Body(paper, tuple(statements))

    def short_body(self, start: int, end: int, equals: int, value: Expr, line: int) -> Body:
        return Body(None, (tree.Return(span=value.span, value=value),))

    def component(
        self,
        start: int,
        end: int,
        kind: int,
        name: int,
        first: list[Item],
        second: list[Item] | None,
        outputs: list[tree.Output],
        body: Body,
    ) -> tree.Component:
        parameters, inputs = ([], first) if second is None else (first, second)
        return tree.Component(
            span=self.at(start, end),
            kind=self.text(kind),
            name=self.word(name),
            parameters=self._parameters(parameters),
            inputs=self._inputs(inputs),
            outputs=tuple(outputs),
            body=body.statements,
            paper=body.paper,
        )

    def _parameters(self, items: list[Item]) -> tuple[tree.Parameter, ...]:
        self._distinct_items(items)
        for item in items:
            if item.axes is not None or item.bound is not None:
                help = "a hyperparameter is `name` or `name = default`; tensors stand in the second list: f(hidden)(x: [b, t, d])"
                self.problem("E020", f"the hyperparameter `{item.name.id}` cannot have axes", item.span, help)
            elif item.dtype is not None:
                help = "a hyperparameter is `name` or `name = default`"
                self.problem("E020", f"`{item.dtype.id}` cannot follow a hyperparameter", item.dtype.span, help)
        return tuple([tree.Parameter(span=item.span, name=item.name, default=item.default) for item in items])

    def _inputs(self, items: list[Item]) -> tuple[tree.Input, ...]:
        self._distinct_items(items)
        for item in items:
            if item.dtype is not None and (item.axes is None or item.dtype.id not in ("float", "int", "bool")):
                help = "an input is `name: [axes]`, then `float`, `int` or `bool`, then `in size`, then `= default`"
                self.problem("E020", f"`{item.dtype.id}` is no type of an input", item.dtype.span, help)
        return tuple(
            [
                tree.Input(
                    span=item.span,
                    name=item.name,
                    axes=item.axes,
                    dtype=item.dtype.id if item.dtype else None,
                    bound=item.bound,
                    default=item.default,
                )
                for item in items
            ]
        )

    def _distinct_items(self, items: list[Item]) -> None:
        seen: set[str] = set()
        for item in items:
            if item.name.id in seen:
                self.problem("E022", f"`{item.name.id}` stands twice in this list", item.name.span, "give them different names")
            seen.add(item.name.id)

    # ---------------------------------------------------------------- models and maps

    def model(
        self, start: int, end: int, word: int, name: int, equals: int, base: Expr, line: int, newline: int = 0, block: Entries = NOTHING
    ) -> tree.Model:
        return self._model(start, end, name, base, None, block)

    def model_extends(
        self, start: int, end: int, word: int, name: int, extends: int, other: int, line: int, newline: int = 0, block: Entries = NOTHING
    ) -> tree.Model:
        return self._model(start, end, name, None, self.word(other), block)

    def _model(self, start: int, end: int, name: int, base: Expr | None, extends: tree.Name | None, block: Entries) -> tree.Model:
        return tree.Model(
            span=self.at(start, end),
            name=self.word(name),
            base=base,
            extends=extends,
            component=None,
            lets=block.lets,
            arguments=block.arguments,
            assumes=block.assumes,
            paper=block.paper,
        )

    def model_component(
        self,
        start: int,
        end: int,
        word: int,
        name: int,
        first: list[Item],
        second: list[Item] | None,
        outputs: list[tree.Output],
        body: Body,
    ) -> tree.Model:
        component = self.component(start, end, word, name, first, second, outputs, Body(None, body.statements))
        return tree.Model(span=component.span, name=component.name, base=None, extends=None, component=component, paper=body.paper)

    def block(
        self,
        start: int,
        end: int,
        indent: int,
        paper: str | None,
        entries: list[tree.Let | tree.Argument | tree.Assume],
        dedent: int,
    ) -> Entries:
        arguments = tuple([entry for entry in entries if isinstance(entry, tree.Argument)])
        self.distinct(list(arguments))
        return Entries(
            paper,
            tuple([entry for entry in entries if isinstance(entry, tree.Let)]),
            arguments,
            tuple([entry for entry in entries if isinstance(entry, tree.Assume)]),
        )

    def paper_block(self, start: int, end: int, indent: int, paper: int, line: int, dedent: int) -> Entries:
        return Entries(unescape(self.text(paper)))

    def _block(self, span: Span, base: Expr | None, entries: Entries) -> tree.Block | tree.Call:
        for assume in entries.assumes:
            self.problem("E023", "an assumption is about a whole model", assume.span, "move it to the model's own lines")
        if entries.paper is not None:
            self.problem("E023", "only a component or a model has a text for its paper", span, "take the text out, or write it after `#`")
        value = block_value(span, base, entries.lets, entries.arguments)
        if isinstance(value, tree.Call):
            self.distinct(list(value.arguments))
        return value

    def path(self, start: int, end: int, path: int | str, dot: int, name: int) -> str:
        return f"{path if isinstance(path, str) else self.text(path)}.{self.text(name)}"

    def _path(self, path: int | str) -> str:
        return path if isinstance(path, str) else self.text(path)

    def entry(self, start: int, end: int, path: int | str, equals: int, value: Expr, line: int) -> tree.Argument:
        return self._entry(start, end, path, value)

    def entry_call(
        self, start: int, end: int, path: int | str, equals: int, base: Expr, colon: int, line: int, block: Entries
    ) -> tree.Argument:
        return self._entry(start, end, path, self._block(base.span.to(self.at(start, end)), base, block))

    def entry_refine(self, start: int, end: int, path: int | str, colon: int, line: int, block: Entries) -> tree.Argument:
        return self._entry(start, end, path, self._block(self.at(start, end), None, block))

    def _entry(self, start: int, end: int, path: int | str, value: Expr) -> tree.Argument:
        name = self._path(path)
        return tree.Argument(span=self.at(start, end), name=name, name_span=self.at(start, start + len(name)), value=value)

    def name_left(self, start: int, end: int, path: int | str) -> tree.Name:
        return tree.Name(span=self.at(start, end), id=self._path(path))

    def alternative(self, start: int, end: int, left: Expr, op: int, right: int) -> tree.Binary:
        return tree.Binary(span=self.at(start, end), op="or", left=left, right=self.quoted(right))

    def row(self, start: int, end: int, left: Expr, equals: int, right: Expr, line: int) -> tree.Row:
        return tree.Row(span=self.at(start, end), left=left, right=right)

    def ignore(self, start: int, end: int, word: int, strings: list[int], line: int) -> Ignored:
        return Ignored(tuple([self.quoted(token) for token in strings]))

    def map_(
        self,
        start: int,
        end: int,
        kind: int,
        format: int,
        for_: int,
        model: int,
        colon: int,
        line: int,
        indent: int,
        rows: list[tree.Row | Ignored],
        dedent: int,
    ) -> tree.Map:
        return tree.Map(
            span=self.at(start, end),
            kind=self.text(kind),
            format=self.text(format),
            model=self.word(model),
            rows=tuple([row for row in rows if isinstance(row, tree.Row)]),
            ignored=tuple([pattern for row in rows if isinstance(row, Ignored) for pattern in row.patterns]),
        )

    def import_file(self, start: int, end: int, word: int, path: int, line: int) -> tree.Import:
        return tree.Import(span=self.at(start, end), path=unescape(self.text(path)))
