"""Bodies of components: binding what a signature names, running the statements, checking the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..grammar import tree
from . import ir
from .builder import Builder
from .diagnostics import Note
from .dims import Expr, const
from .evaluate import Evaluator, Results
from .library import suggest
from .operations import Poison
from .scope import Frame, Thunk
from .values import NONE, POISON, ListValue, Recipe, Static

INDEX_KINDS = ("mask", "score", "weights")


@dataclass
class Givens:
    """Streams provided by name; `used` are the overrides that were read."""

    values: dict[str, ir.Value]
    used: set[str] = field(default_factory=set)


@dataclass
class Bodies(Evaluator):
    """`run` elaborates a component's body into a module under construction."""

    givens: list[Givens] = field(default_factory=list)

    def equal(self, a: Expr, b: Expr) -> bool:
        return a == b or (a.value() is not None and a.value() == b.value())

    def run_module(
        self,
        recipe: Recipe,
        builder: Builder,
        values: Sequence[ir.Operand],
        named: Mapping[str, tuple[Static, tree.Span]],
        span: tree.Span,
        frame: Frame,
    ) -> tuple[tuple[ir.Value, ...], tuple[str, ...], tuple[tuple[ir.Axis, ...], ...]]:
        """Elaborate a body as a module of its own: tensors become its inputs."""
        inside: list[Static] = []
        for value in values:
            if isinstance(value, ir.Value):
                inner = builder.own(ir.Value(value.type, value.hint, value.span))
                builder.inputs.append(inner)
                inside.append(inner)
            else:
                inside.append(value)
        rests: list[tuple[ir.Axis, ...]] = []
        result = self.run(recipe, builder, inside, named, span, rests)
        outs = tuple(result) if isinstance(result, tuple) else (result,)
        tensors = tuple(builder.local(self.as_tensor(o, span, Frame(builder, None, ""))) for o in outs)
        names = (
            tuple(o.name.id if o.name else "" for o in recipe.component.outputs) if len(recipe.component.outputs) == len(tensors) else ()
        )
        return tensors, names, tuple(rests)

    def run(
        self, recipe: Recipe, builder: Builder, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span,
        rests: list[tuple[ir.Axis, ...]] | None = None,
    ) -> Static:  # fmt: skip
        """Elaborate a component's body into a builder; the result is its outputs."""
        with self.diagnostics.within(recipe.span):
            return self.run_body(recipe, builder, args, named, span, rests)

    def run_body(
        self, recipe: Recipe, builder: Builder, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span,
        rests: list[tuple[ir.Axis, ...]] | None,
    ) -> Static:  # fmt: skip
        component = recipe.component
        signature = Frame(builder, recipe.frame if recipe.frame.builder is not None else None, component.name.id, path=self.path)
        self.bind_hyperparameters(recipe, signature, span)
        inputs = list(args)
        overrides: dict[str, ir.Value] = {}
        names = [i.name.id for i in component.inputs]
        for name, (value, place) in named.items():
            if name in names[len(inputs) :] and name == names[len(inputs)]:
                inputs.append(value)
            elif isinstance(value, ir.Value) and name not in names:
                overrides[name] = value
            else:
                raise self.error("E343", f"`{component.name.id}` has no input `{name}` here", place, help=suggest(name, names))
        self.bind_inputs(component, signature, inputs, span, rests)
        frame = self.body_frame(signature)
        try:
            with self.providing(overrides, span):
                found = self.execute(component.body, frame)
        except Poison:
            return self.stand_in(component, signature, span)
        self.note_locals(builder, frame)
        if found is None:
            raise self.error("E344", f"`{component.name.id}` returns nothing", component.name.span, help="end the body with `return ...`")
        return self.check_outputs(component, found, frame, span)

    def stand_in(self, component: tree.Component, signature: Frame, span: tree.Span) -> Static:
        """Tensors of the declared types in place of a body that is wrong, so that one mistake does not hide the next."""
        results: list[ir.Value] = []
        for output in component.outputs:
            if output.axes is None or signature.builder is None or any(self.is_new(i, signature) for i in output.axes.items):
                raise Poison
            axes = tuple(a for item in output.axes.items for a in self.axes(item, signature))
            results.append(signature.builder.body.full(axes, const(0), "float", span))
        if not results:
            raise Poison
        names = tuple(o.name.id if o.name else "" for o in component.outputs)
        return results[0] if len(results) == 1 else Results.of(tuple(results), names)

    def body_frame(self, signature: Frame) -> Frame:
        """Where a body binds its names: late defaults and arguments see the signature's names, whatever the body binds again."""
        return Frame(signature.builder, signature, signature.title, rest=signature.rest, path=signature.path)

    def note_locals(self, builder: Builder, frame: Frame) -> None:
        """Remember what the spec calls its numbers, for names in generated code."""
        for scope in (frame.parent, frame):
            for name, value in scope.names.items() if scope else ():
                number = value.value if isinstance(value, Thunk) else value
                if isinstance(number, Expr):
                    builder.locals.setdefault(name, number)
            for name, axis in scope.labels.items() if scope else ():
                if "|" not in name:
                    builder.locals.setdefault(name, axis.size)
                    builder.axis_names.setdefault(axis.label, name)

    @contextmanager
    def providing(self, values: dict[str, ir.Value], span: tree.Span) -> Iterator[None]:
        if not values:
            yield
            return
        given = Givens(values)
        self.givens.append(given)
        try:
            yield
        finally:
            self.givens.remove(given)
        for name in values.keys() - given.used:
            raise self.error("E343", f"nothing here reads `{name}`", span, help=f"a component reads it with `given {name}: [...]`")

    def bind_hyperparameters(self, recipe: Recipe, frame: Frame, span: tree.Span) -> None:
        missing: list[str] = []
        for parameter in recipe.component.parameters:
            name = parameter.name.id
            given = recipe.arguments.get(name)
            default = Thunk(parameter.default, frame, name, (*self.path, name), False) if parameter.default is not None else None
            if default is not None and isinstance(parameter.default, tree.Number | tree.Unary):
                default.path = (recipe.name, name)
            if given is None:
                if default is None:
                    missing.append(name)
                    frame.names[name] = POISON
                else:
                    frame.names[name] = default
            elif isinstance(given.node, tree.Block) and given.node.base is None:
                given.used = True
                frame.names[name] = Thunk(given.node, given.frame, name, given.path, False, default)
            else:
                frame.names[name] = given
        if missing:
            wanted = ", ".join(f"`{m}`" for m in missing)
            self.error("E311", f"`{recipe.name}` needs {wanted}", self.named_at(recipe, span), Note("declared here", recipe.component.name.span),
                       help=f"write `{missing[0]} = ...`")  # fmt: skip
            raise Poison

    def named_at(self, recipe: Recipe, span: tree.Span) -> tree.Span:
        for thunk in recipe.arguments.values():
            return thunk.node.span
        return span

    def bind_inputs(
        self, component: tree.Component, frame: Frame, args: Sequence[Static], span: tree.Span, rests: list[tuple[ir.Axis, ...]] | None
    ) -> None:
        wanted = component.inputs
        required = sum(1 for i in wanted if i.default is None)
        if not required <= len(args) <= len(wanted):
            count = str(len(wanted)) if required == len(wanted) else f"{required} to {len(wanted)}"
            shown = ", ".join(i.name.id for i in wanted)
            raise self.error("E345", f"`{component.name.id}` is applied to {count} tensor{'s' if count != '1' else ''} ({shown}), found {len(args)}", span,
                             Note("declared here", component.name.span))  # fmt: skip
        for declared, value in zip(wanted, args, strict=False):
            if isinstance(value, ir.Value) and declared.axes is not None:
                value = self.bind_axes(component, declared.name, declared.axes, value, frame, span, rests)
            frame.names[declared.name.id] = value
            if (
                isinstance(value, ir.Value)
                and frame.builder is not None
                and value in frame.builder.inputs
                and component.kind == "component"
            ):
                object.__setattr__(value, "hint", declared.name.id)
        for declared in wanted[len(args) :]:
            assert declared.default is not None
            frame.names[declared.name.id] = self.evaluate(declared.default, frame)

    def bind_axes(
        self, component: tree.Component, name: tree.Name, axes: tree.List, value: ir.Value, frame: Frame, span: tree.Span,
        rests: list[tuple[ir.Axis, ...]] | None,
    ) -> ir.Value:  # fmt: skip
        """Bind a signature's axes to the argument's, by position."""
        items = [x for item in axes.items for x in self.declared_axes(item, frame)]
        have = list(value.type.axes)
        open_at = [k for k, item in enumerate(items) if item == "..."]
        fixed = len(items) - len(open_at)
        if len(open_at) > 1 or (len(have) != fixed if not open_at else len(have) < fixed):
            shown = ", ".join(str(i[0] if isinstance(i, tuple) else i) for i in items)
            raise self.error(
                "E346", f"`{component.name.id}` takes {name.id}: [{shown}], found {value.type!r}", span, Note("declared here", name.span)
            )
        if open_at:
            start, extra = open_at[0], len(have) - fixed
            rest = tuple(have[start : start + extra])
            frame.rest = rest
            if rests is not None:
                rests.append(rest)
            have = have[:start] + have[start + extra :]
            items = items[:start] + items[start + 1 :]
        old: list[ir.Label] = []
        new: list[ir.Label] = []
        for item, axis in zip(items, have, strict=True):
            assert isinstance(item, tuple)
            label, size, fixed_label = item
            known = frame.labels.get(label) if isinstance(label, str) else None
            wanted = size if size is not None else (known.size if known else None)
            if wanted is not None and not self.equal(wanted, axis.size):
                notes = [Note(f"`{name.id}` is declared here", name.span)]
                if value.span is not None:
                    notes.append(Note(f"the tensor {value.type!r} is made here", value.span))
                raise self.error("E347", f"axis `{label}` of `{name.id}` is {axis.size}{self.amount(axis.size)} and `{component.name.id}` needs {wanted}{self.amount(wanted)}",
                                 span, *notes)  # fmt: skip
            if wanted is not None and wanted != axis.size and frame.builder is not None:
                self.facts.append(ir.Fact(kind="equal", a=wanted, b=axis.size, span=span))
            target = fixed_label or (known.label if known else None)
            if target is not None and target is not axis.label and not value.type.has(target):
                old.append(axis.label)
                new.append(target)
            if isinstance(label, str) and known is None:
                frame.labels[label] = ir.Axis(target or axis.label, axis.size)
        if old and frame.builder is not None:
            return frame.builder.body.rename(value, tuple(old), tuple(new), span)
        return value

    def amount(self, size: Expr) -> str:
        number = size.value()
        return f" ({number})" if number is not None and str(number) != str(size) else ""

    def declared_axes(self, item: tree.Expr, frame: Frame) -> list[str | tuple[str, Expr | None, ir.Label | None]]:
        """Items of a signature's axis list: `...`, or (name, size if fixed, label if fixed)."""
        match item:
            case tree.Name(id="..."):
                return ["..."]
            case tree.Name():
                found = frame.names.get(item.id)
                if isinstance(found, Thunk):
                    value = self.force(found)
                    if isinstance(value, ListValue):
                        return [(a.label.name, a.size, a.label) for a in self.axes(value.node, value.frame)]
                    if isinstance(value, Expr):
                        if isinstance(found.node, tree.Name):
                            return [(item.id, value, self.named_axes(item, frame)[0].label)]
                        return [(item.id, value, None)]
                    if value is NONE:
                        return [(item.id, None, None)]
                    if value is POISON:
                        raise Poison
                return [(item.id, None, None)]
            case tree.Axis():
                try_size = self.optional_size(item.size, frame)
                return [(item.label, try_size, None)]
            case tree.Number():
                return [("", const(item.value), None)]
            case _:
                return [("", self.number(item, frame), None)]

    def optional_size(self, node: tree.Expr, frame: Frame) -> Expr | None:
        """A declared size; a name nobody has given yet takes the size that comes (`height` in `y: height`)."""
        if isinstance(node, tree.Name) and node.id not in frame.names and node.id not in frame.labels:
            return None
        return self.number(node, frame)

    def check_outputs(self, component: tree.Component, found: Static, frame: Frame, span: tree.Span) -> Static:
        results = list(found) if isinstance(found, tuple) else [found]
        declared = component.outputs
        if component.kind in INDEX_KINDS or component.kind == "fn" or not declared:
            return found
        given = [o.name for o in declared if o.name is not None]
        for k, name in enumerate(given):
            if any(name.id == other.id for other in given[:k]):
                raise self.error("E305", f"the result `{name.id}` is declared twice", name.span, help="give each result a name of its own")
        if len(declared) != len(results):
            raise self.error(
                "E348", f"`{component.name.id}` declares {len(declared)} results and returns {len(results)}", component.name.span
            )
        checked: list[ir.Value] = []
        for output, value in zip(declared, results, strict=True):
            tensor = self.as_tensor(value, span, frame)
            checked.append(self.check_output(component, output, tensor, frame) if output.axes is not None else tensor)
        names = tuple(o.name.id if o.name else "" for o in declared)
        return checked[0] if len(checked) == 1 else Results.of(tuple(checked), names)

    def check_output(self, component: tree.Component, output: tree.Output, value: ir.Value, frame: Frame) -> ir.Value:
        """The result in the declared order; axes that the declaration leaves open come where `...` stands."""
        assert output.axes is not None and frame.builder is not None
        left = list(value.type.axes)
        shown = output.axes.span.source.text[output.axes.span.start : output.axes.span.end]
        made = [Note(f"{value.hint or 'the result'} is made here", value.span)] if value.span else []
        want: list[ir.Label | None] = []
        for item in output.axes.items:
            if isinstance(item, tree.Name) and item.id == "...":
                want.append(None)
                continue
            if self.is_new(item, frame):
                name = getattr(item, "id", getattr(item, "label", ""))
                match = next((a for a in left if a.label.name == name), left[-1] if left else None)
                axes: tuple[ir.Axis, ...] = (match,) if match is not None else ()
            else:
                axes = self.axes(item, frame)
            for axis in axes:
                match = next((a for a in left if a.label is axis.label), None) or next(
                    (a for a in left if self.equal(a.size, axis.size)), None
                )
                if match is None or not self.equal(match.size, axis.size):
                    raise self.error("E349", f"`{component.name.id}` declares {shown} and returns {value.type!r}", output.axes.span, *made)
                left.remove(match)
                want.append(match.label)
        if left and None not in want:
            raise self.error("E349", f"`{component.name.id}` declares {shown} and returns {value.type!r}", output.axes.span, *made)
        rest = [a.label for a in frame.rest or ()]
        opened = [a.label for a in left]
        if set(opened) == set(rest):
            opened = rest
        order = tuple(label for item in want for label in (opened if item is None else [item]))
        if order != value.type.labels:
            return frame.builder.body.transpose(value, order, output.axes.span)
        return value

    def is_new(self, item: tree.Expr, frame: Frame) -> bool:
        name = (
            item.id
            if isinstance(item, tree.Name)
            else item.label
            if isinstance(item, tree.Axis) and isinstance(item.size, tree.Name)
            else None
        )
        return name is not None and not any(name in s.names or name in s.labels for s in frame.outward()) and not name.endswith("'")

    def execute(self, body: tuple[tree.Statement, ...], frame: Frame) -> Static | None:
        raise NotImplementedError
