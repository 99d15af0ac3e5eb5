"""Bodies of components: binding what a signature names, running the statements, checking the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field

from ..grammar import tree
from ..grammar.frozen import mutable
from . import ir
from .builder import Builder
from .diagnostics import Note
from .dims import Expr, Sym, const, sym
from .evaluate import Evaluator, Results
from .index_inputs import misplaced
from .library import suggest
from .operations import Poison
from .scope import Frame, Thunk
from .trace_axis import report_result
from .unmentioned import unchanged, unmentioned
from .values import NONE, POISON, ListValue, Recipe, Static

INDEX_KINDS = ("mask", "score", "weights")
DEEPEST = 16
"""How often a component may stand inside itself."""


@mutable
class Givens:
    """Streams provided by name; `used` are the overrides that were read."""

    values: dict[str, ir.Value]
    used: set[str] = field(default_factory=set)


@mutable
class Bodies(Evaluator):
    """`run` elaborates a component's body into a module under construction."""

    givens: list[Givens] = field(default_factory=list)
    entered: list[tuple[tree.Component, tree.Span]] = field(default_factory=list)
    mentions_checked: set[int] = field(default_factory=set)

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
        with self.entering(recipe, span), self.diagnostics.within(recipe.span):
            return self.run_body(recipe, builder, args, named, span, rests)

    def check_places(self, component: tree.Component, kind: str) -> None:
        """Refuse an index function of which an input has the name of another."""
        if (found := misplaced(component, kind)) is not None:
            name, what, remedy = found
            raise self.error("E352", what, name.span, help=remedy)

    @contextmanager
    def entering(self, recipe: Recipe, span: tree.Span) -> Iterator[None]:
        """Inside of a component's body; refused where the component stands in itself without end."""
        component = recipe.component
        if sum(c is component for c, _ in self.entered) >= DEEPEST:
            last = max(k for k, (c, _) in enumerate(self.entered) if c is component)
            names = " \u2192 ".join(f"`{c.name.id}`" for c, _ in (*self.entered[last:], self.entered[last]))
            raise self.error("E335", f"`{component.name.id}` contains itself without end: {names}", recipe.span or span, Note("declared here", component.name.span),
                             remedy="repeat a component with `n of ...`, or end the recursion with an `if` over a number that gets smaller")  # fmt: skip
        self.entered.append((component, span))
        try:
            yield
        finally:
            self.entered.pop()

    def run_body(
        self, recipe: Recipe, builder: Builder, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span,
        rests: list[tuple[ir.Axis, ...]] | None,
    ) -> Static:  # fmt: skip
        component = recipe.component
        if component.kind in INDEX_KINDS:
            self.check_places(component, component.kind)
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
        self.check_mentions(component)
        self.note_locals(builder, frame)
        if found is None:
            raise self.error("E344", f"`{component.name.id}` returns nothing", component.name.span, help="end the body with `return ...`")
        return self.check_outputs(component, found, frame, span)

    def check_mentions(self, component: tree.Component) -> None:
        """Report, once, what a body declares and never says again."""
        if id(component) in self.mentions_checked:
            return
        self.mentions_checked.add(id(component))
        for name in unmentioned(component):
            self.error("E318", f"`{name.id}` is declared and never used", name.span, help="use it, or delete it")
        for name in unchanged(component) if component.kind not in (*INDEX_KINDS, "fn") else ():
            self.error("E390", f"the state `{name.id}` has no next value: it would stay as it starts", name.span,
                       help=f"say what it becomes: `next {name.id} = ...`")  # fmt: skip

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
        """The words that named a recipe last, if the spec has them; else those of an argument of it, else `span`."""
        places = [recipe.span, *(thunk.node.span for thunk in recipe.arguments.values())]
        return next((p for p in places if p is not None and not self.diagnostics.is_shipped(p)), span)

    def count_inputs(self, component: tree.Component, args: Sequence[Static], span: tree.Span) -> None:
        """As many arguments as there are inputs (E345)."""
        wanted = component.inputs
        required = sum(1 for i in wanted if i.default is None)
        unapplied = f"without parentheses it is passed on: `{component.name.id}`" if component.kind == "fn" and not args else None
        if not required <= len(args) <= len(wanted):
            count = str(len(wanted)) if required == len(wanted) else f"{required} to {len(wanted)}"
            shown = ", ".join(i.name.id for i in wanted)
            raise self.error("E345", f"`{component.name.id}` is applied to {count} tensor{'s' if count != '1' else ''} ({shown}), found {len(args)}", span,
                             Note("declared here", component.name.span), remedy=_two_lists(component) or unapplied)  # fmt: skip

    def bind_inputs(
        self, component: tree.Component, frame: Frame, args: Sequence[Static], span: tree.Span, rests: list[tuple[ir.Axis, ...]] | None
    ) -> None:
        self.count_inputs(component, args, span)
        wanted = component.inputs
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
        rests: list[tuple[ir.Axis, ...]] | None, *, given: bool = False,
    ) -> ir.Value:  # fmt: skip
        """Bind a signature's axes to the argument's, by position; `given`: the names around count as well."""
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
        final: list[ir.Label] = []
        for item, axis in zip(items, have, strict=True):
            assert isinstance(item, tuple)
            label, size, fixed_label = item
            known = self.axis_called(label, frame, given)
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
            if target is None:  # labels of one signature are different axes, whatever they are to the caller
                scopes = frame.outward() if given else (frame,)
                bound = (*final, *(a.label for s in scopes for n, a in s.labels.items() if "|" not in n))
                target = ir.Label(label or axis.label.name) if axis.label in bound else axis.label
            final.append(target)
            if label and known is None:
                frame.labels[label] = ir.Axis(target, axis.size)
                if label.endswith("'") and label[:-1] in frame.labels:
                    frame.primed[frame.labels[label[:-1]].label] = target
        return self.relabelled(value, [a.label for a in have], final, frame, span)

    def axis_called(self, label: str, frame: Frame, outward: bool) -> ir.Axis | None:
        """The axis that a signature's name has already; `n'` is as large as `n`."""
        for scope in frame.outward() if outward else (frame,):
            if label in scope.labels:
                return scope.labels[label]
        base = self.axis_called(label[:-1], frame, outward) if label.endswith("'") else None
        return ir.Axis(self.prime(base.label, frame), base.size) if base is not None else None

    def relabelled(self, value: ir.Value, old: Sequence[ir.Label], new: Sequence[ir.Label], frame: Frame, span: tree.Span) -> ir.Value:
        """The tensor with its axes called otherwise; another axis that had one of the new labels gets one of its own."""
        pairs = dict(zip(old, new, strict=True))
        for label in value.type.labels:
            if label not in pairs and label in new:
                pairs[label] = ir.Label(label.name)
        changed = {a: b for a, b in pairs.items() if a is not b}
        if not changed or frame.builder is None:
            return value
        return frame.builder.body.rename(value, tuple(changed), tuple(changed.values()), span)

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
        if component.kind in INDEX_KINDS or not declared:
            return found
        given = [o.name for o in declared if o.name is not None]
        for k, name in enumerate(given):
            if any(name.id == other.id for other in given[:k]):
                raise self.error("E305", f"the result `{name.id}` is declared twice", name.span, help="give each result a name of its own")
        if len(declared) != len(results):
            count = f"{len(declared)} result{'s' * (len(declared) != 1)}"
            notes = [Note("returned here", r.value.span) for r in returns(component.body)]
            raise self.error("E348", f"`{component.name.id}` declares {count} and returns {len(results)}", component.name.span, *notes,
                             help="declare each result: `-> (a: [...], b: [...])`, or return as many as are declared")  # fmt: skip
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
        declared = self.output_axes(output, left, frame)
        builder, axes, returned = frame.builder, output.axes, value

        def wrong() -> Poison:
            report_result(component, axes, declared, returned, builder, self.diagnostics)
            return Poison()

        found: dict[int, ir.Axis] = {}
        for exact in (True, False):  # an axis of the same label first, else one of the same size
            for k, axis in enumerate(declared):
                if axis is None or k in found:
                    continue
                match = next((a for a in left if (a.label is axis.label if exact else self.equal(a.size, axis.size))), None)
                if match is not None and self.equal(match.size, axis.size):
                    left.remove(match)
                    found[k] = match
                    if match.size != axis.size:  # alike for these numbers, which must then stay alike
                        self.facts.append(ir.Fact(kind="equal", a=match.size, b=axis.size, span=axes.span))
                elif not exact:
                    raise wrong()
        open_axes = {
            a.label
            for i in component.inputs
            if isinstance(v := (frame.parent or frame).names.get(i.name.id), ir.Value)
            for a in v.type.axes
        }
        if left and (None not in declared or (frame.rest is not None and len(declared) > 1 and not {a.label for a in left} <= open_axes)):
            raise wrong()
        rest = [a.label for a in frame.rest or ()]
        opened = [a.label for a in left]
        if set(opened) == set(rest):
            opened = rest
        order = tuple(label for k, axis in enumerate(declared) for label in (opened if axis is None else [found[k].label]))
        if order != value.type.labels:
            value = frame.builder.body.transpose(value, order, output.axes.span)
        named = [(found[k].label, axis.label) for k, axis in enumerate(declared) if axis is not None]
        return self.relabelled(value, [a for a, _ in named], [b for _, b in named], frame, output.axes.span)

    def output_axes(self, output: tree.Output, have: Sequence[ir.Axis], frame: Frame) -> list[ir.Axis | None]:
        """What a declared result names: axes in scope, or one of the result's own by a new name; none for `...`."""
        assert output.axes is not None
        found: list[ir.Axis | None] = []
        for item in output.axes.items:
            if isinstance(item, tree.Name) and item.id == "...":
                found.append(None)
            elif self.is_new(item, frame):
                name = getattr(item, "id", getattr(item, "label", ""))
                free = [a for a in have if all(f is None or f.label is not a.label for f in found)]
                surplus = ir.Axis(ir.Label(name), sym(Sym(name)))  # as large as no axis is
                found += [next((a for a in free if a.label.name == name), free[-1] if free else surplus)]
            else:
                found += self.axes(item, frame)
        return found

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


def returns(body: Sequence[tree.Statement]) -> Iterator[tree.Return]:
    """The `return` statements of a body."""
    for statement in body:
        match statement:
            case tree.Return():
                yield statement
            case tree.If():
                yield from returns((*statement.then, *statement.other))
            case tree.For():
                yield from returns(statement.body)
            case _:
                pass


def _two_lists(component: tree.Component) -> str | None:
    """What to write where hyperparameters seem to stand among the inputs."""
    bare = [i.name.id for i in component.inputs if i.axes is None]
    inputs = [i.name.id for i in component.inputs if i.axes is not None]
    if component.kind != "component" or component.parameters or not bare or not inputs:
        return None
    return f"hyperparameters have a list of their own: `component {component.name.id}({', '.join(bare)})({', '.join(inputs)})`"
