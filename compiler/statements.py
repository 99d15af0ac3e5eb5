"""Statements of a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

from ..grammar import tree
from ..grammar.frozen import mutable
from . import ir
from .builder import Emitted
from .builtins_modules import declare
from .calls import Calls
from .diagnostics import Note
from .dims import Expr, const
from .operations import Poison
from .scope import Frame, Thunk
from .values import POISON, BankRecipe, Builtin, ListValue, Pattern, Recipe, Static, describe


@mutable
class Statements(Calls):
    """`execute` runs a body; a wrong statement poisons what it would have named, and the rest goes on."""

    root_frame: Frame | None = None
    assumptions: list[ir.Assumption] = field(default_factory=list)

    def execute(self, body: tuple[tree.Statement, ...], frame: Frame) -> Static | None:
        """Run statements; the value of `return`, if reached. A wrong statement poisons its names and the rest goes on."""
        failed = False
        for statement in body:
            try:
                found = self.statement(statement, frame)
            except Poison:
                failed = True
                for name in _defined(statement):
                    frame.names[name] = POISON
                if isinstance(statement, tree.Return):
                    raise
                continue
            if found is not None:
                if statement is not body[-1] and isinstance(statement, tree.Return):
                    after = body[body.index(statement) + 1]
                    self.error(
                        "E318", "nothing after `return` is ever reached", after.span, help="delete it, or put the `return` under an `if`"
                    )
                return found
        if failed:
            raise Poison
        return None

    def statement(self, node: tree.Statement, frame: Frame) -> Static | None:
        match node:
            case tree.Bind():
                self.bind(node, frame)
            case tree.Let():
                for target in node.targets if len(node.targets) == 1 else ():
                    if frame.builder is None or not _emits(node.value):
                        frame.names[target.id] = self.thunk(node.value, _before(frame), target.id, explicit=False)
                        self.settle(frame, target.id)
                        return None
                self.bind(node, frame)
            case tree.Given():
                self.given(node, frame)
            case tree.Return():
                return self.evaluate(node.value, frame)
            case tree.If():
                return self.execute(node.then if self.condition(node.condition, frame) else node.other, frame)
            case tree.For():
                return self.unroll(node, frame)
            case tree.Effect():
                self.effect(node, frame)
            case tree.State():
                self.state(node, frame)
            case tree.Assume():
                self.assumptions.append(ir.Assumption(property=node.property, reason=node.reason, span=node.span))
            case tree.Define():
                frame.names[node.component.name.id] = Recipe(node.component, frame)
        return None

    def settle(self, frame: Frame, name: str) -> None:
        """A `let` is evaluated where it stands."""
        found = frame.names[name]
        assert isinstance(found, Thunk)
        value = self.force(found)
        if value is POISON:
            raise Poison
        if not isinstance(value, Expr):
            frame.names[name] = value
            if isinstance(value, ir.Value):
                self.name_value(value, name)

    def bind(self, node: tree.Bind | tree.Let, frame: Frame) -> None:
        target = node.targets[0]
        name = target.id
        is_let = isinstance(node, tree.Let)
        if len(node.targets) == 1 and isinstance(node.value, tree.Call) and isinstance(node.value.function, tree.Name):
            word = node.value.function.id
            if word in ("param", "buffer") and not any(word in f.names for f in frame.outward()):
                frame.names[name] = declare(self, node.value, frame.numbered(name), word == "param", frame)
                return
        value = self.evaluate(node.value, frame)
        if len(node.targets) > 1:
            self.unpack(node, value, frame)
            return
        if isinstance(value, ListValue) and not is_let:
            slots = self.slots(node.value, frame)
            value = Pattern(slots, sum((n for _, n in slots), start=const(0)), cycle=False)
        if isinstance(value, Recipe | Pattern | BankRecipe) and not is_let:
            assert isinstance(node, tree.Bind) and frame.builder is not None
            value = self.instance(frame.numbered(name), value, frame, target.span, shared=node.shared)
        elif isinstance(node, tree.Bind) and node.shared:
            raise self.error("E381", f"`shared` makes an instance of a component, found {describe(value)}", node.value.span)
        if isinstance(node, tree.Bind) and node.axes is not None:
            value = self.named_result(target, node.axes, self.as_tensor(value, node.value.span, frame), frame)
        if isinstance(value, ir.Value):
            self.name_value(value, name)
        if isinstance(value, Expr) and isinstance(frame.names.get(name), Expr):
            frame.labels.pop(name, None)  # an axis of the size that the name had
        frame.names[name] = value

    def named_result(self, name: tree.Name, axes: tree.List, value: ir.Value, frame: Frame) -> ir.Value:
        """`y: [b, t, d] = e`: the axes of the result, in this order; a name that no axis has yet becomes one more name of its axis."""
        items = [x for item in axes.items for x in self.result_axes(item, value, frame)]
        if len(items) != len(value.type.axes):
            raise self.error("E346", f"`{name.id}` is [{', '.join(n for n, _ in items)}] here, found {value.type!r}", axes.span)
        known = [axis.label for _, axis in items if axis is not None]
        if len(known) == len(items) and set(known) == set(value.type.labels):
            place = [value.type.axis(label) for label in known]
        else:
            place = list(value.type.axes)
        for (label, axis), found in zip(items, place, strict=True):
            if axis is None:
                frame.labels[label] = found
            elif not self.equal(axis.size, found.size):
                raise self.error("E347", f"axis `{label}` of `{name.id}` is {found.size}{self.amount(found.size)} and is called {axis.size}{self.amount(axis.size)} here", axes.span)  # fmt: skip
        order = tuple(a.label for a in place)
        if order != value.type.labels:
            assert frame.builder is not None
            value = frame.builder.body.transpose(value, order, axes.span)
        called = [axis.label if axis is not None else found.label for (_, axis), found in zip(items, place, strict=True)]
        if len(set(called)) != len(called):
            raise self.error("E203", f"[{', '.join(n for n, _ in items)}] names one axis twice", axes.span)
        return self.relabelled(value, order, called, frame, axes.span)

    def result_axes(self, item: tree.Expr, value: ir.Value, frame: Frame) -> list[tuple[str, ir.Axis | None]]:
        """The axes that an item of `y: [...] = e` names: those in scope, or none for a new name."""
        if isinstance(item, tree.Name) and item.id != "..." and self.is_new(item, frame):
            return [(item.id, None)]
        return [(a.label.name, a) for a in self.axes(item, frame)]

    def unpack(self, node: tree.Bind | tree.Let, value: Static, frame: Frame) -> None:
        found = value if isinstance(value, tuple) else (value,)
        if len(found) != len(node.targets):
            raise self.error(
                "E382",
                f"{len(node.targets)} names for {len(found)} result{'s' * (len(found) != 1)}",
                node.span,
                help=f"each child is a line of its own: `{node.targets[0].id} = ...`, `{node.targets[1].id} = ...`"
                if isinstance(value, Recipe)
                else f"write {'one name' if len(found) == 1 else f'{len(found)} names'} before the `=`, and `_` for what is not read",
            )
        for target, item in zip(node.targets, found, strict=True):
            self.name_value(item, target.id) if isinstance(item, ir.Value) else None
            frame.names[target.id] = item

    def name_value(self, value: ir.Value, name: str) -> None:
        """The spec's name of a result, for generated code."""
        if not value.hint:
            object.__setattr__(value, "hint", name)

    def given(self, node: tree.Given, frame: Frame) -> None:
        name = node.name.id
        found: ir.Value | None = None
        for provided in reversed(self.givens):
            if name in provided.values:
                provided.used.add(name)
                found = provided.values[name]
                break
        if found is None and self.root_frame is not None:
            signature = self.root_frame.parent
            candidate = self.root_frame.names.get(name) or (signature.names.get(name) if signature else None)
            found = candidate if isinstance(candidate, ir.Value) and self.root_frame is not frame else None
        if found is not None:
            value = self.local(found, frame)
            component = tree.Component(span=node.span, kind="given", name=node.name, parameters=(), inputs=(), outputs=(), body=())
            missing = len(node.axes.items) - len(value.type.axes)  # the first axes may lack: what is one for all rows is given once
            axes = replace(node.axes, items=node.axes.items[max(missing, 0) :])
            value = self.bind_axes(component, node.name, axes, value, frame, node.span, None, given=True)
            frame.names[name] = value
            return
        if node.default is None:
            raise self.error(
                "E383",
                f"nobody provides `{name}`",
                node.span,
                remedy=f"give the model an input `{name}`, or bind a tensor of that name in the model's body",
            )
        frame.names[name] = self.evaluate(node.default, frame)

    def unroll(self, node: tree.For, frame: Frame) -> Static | None:
        values = self.evaluate(node.values, frame)
        if not isinstance(values, ListValue):
            help = "write the rounds out, `for n in [0, 1, 2]:`, or let the list be a hyperparameter" if isinstance(values, Expr) else None
            raise self.error("E384", f"`for` runs over a list, found {describe(values)}", node.values.span, help=help)
        outer = frame.rounds
        for number, item in enumerate(values.node.items):
            parts = item.items if isinstance(item, tree.List | tree.Tuple) else (item,)
            if len(parts) != len(node.targets):
                raise self.error("E382", f"{len(node.targets)} names for {len(parts)} values", item.span)
            for target, part in zip(node.targets, parts, strict=True):
                frame.names[target.id] = self.evaluate(part, values.frame)
                frame.labels.pop(target.id, None)  # an axis of the last round's size
            frame.rounds = (*outer, number)
            found = self.execute(node.body, frame)
            if found is not None:
                return found
        frame.rounds = outer
        return None

    def effect(self, node: tree.Effect, frame: Frame) -> None:
        """`loss` and `emit`: a tensor surfaces to whoever applies this body."""
        assert frame.builder is not None
        value = self.tensor(node.value, frame)
        if node.kind == "next":
            self.next(node, value, frame)
            return
        if node.kind == "loss" and value.type.axes:
            raise self.error(
                "E385", f"a loss is one number, found {value.type!r}", node.value.span, help="average it over its axes: `mean(x, [b, t])`"
            )
        self.name_value(value, node.name.id)
        self.surface(frame.builder.real, node.name.id, Emitted(value, node.kind == "loss", node.span))

    def state(self, node: tree.State, frame: Frame) -> None:
        """`state past: [b, n, d] = zeros`: carried from one call of the model to the next."""
        builder = frame.builder
        assert builder is not None
        name = node.name.id
        if builder.inline or builder.real is not builder:
            raise self.error("E380", "a state belongs to a component with a name: bind its instance", node.span)
        axes = self.axes(node.axes, frame)
        with builder.region() as body:
            initial = self.evaluate(node.initial, frame)
            if isinstance(initial, Builtin) and initial.name in ("zeros", "ones"):
                value = body.full(axes, const(int(initial.name == "ones")), "float", node.initial.span)
            else:
                value = self.as_tensor(initial, node.initial.span, frame)
            region = ir.Region(params=(), body=tuple(body.nodes), result=value)
        kept = builder.own(ir.Value(ir.Type(axes, value.type.dtype), name, node.span))
        builder.states[name] = ir.State(name=name, value=kept, initial=region, next=kept, span=node.span)
        frame.names[name] = kept

    def next(self, node: tree.Effect, value: ir.Value, frame: Frame) -> None:
        """`next past = e`: what a state becomes, or in training a buffer."""
        builder = frame.builder
        assert builder is not None
        name = node.name.id
        wanted = builder.states[name].value if name in builder.states else builder.params[name].value if name in builder.params else None
        if wanted is None or (name in builder.params and builder.params[name].trainable):
            raise self.error(
                "E389",
                f"`{name}` is neither a state nor a buffer of this component",
                node.name.span,
                help=f"declare it: `state {name}: [...] = zeros`",
            )
        labels = wanted.type.labels
        if set(value.type.labels) != set(labels) or any(not self.equal(value.type.axis(a.label).size, a.size) for a in wanted.type.axes):
            raise self.error(
                "E390", f"`{name}` is {wanted.type!r} and would become {value.type!r}", node.value.span, Note("declared here", wanted.span)
            )
        if value.type.labels != labels:
            value = builder.body.transpose(value, labels, node.value.span)
        if name in builder.states:
            builder.states[name] = replace(builder.states[name], next=value)
        else:
            builder.updates[name] = ir.Update(buffer=name, next=value, span=node.span)


def _defined(node: tree.Statement) -> Sequence[str]:
    match node:
        case tree.Bind() | tree.Let():
            return [t.id for t in node.targets]
        case tree.Given():
            return [node.name.id]
        case tree.If():
            return [n for s in (*node.then, *node.other) for n in _defined(s)]
        case _:
            return []


def _emits(node: tree.Expr) -> bool:
    """Whether a `let` may name a tensor, so that it is evaluated like a binding."""
    return not isinstance(node, tree.Number)


def _before(frame: Frame) -> Frame:
    return frame
