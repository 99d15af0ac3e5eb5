"""From a syntax tree to a typed program: `elaborate_file` is the whole front half of the compiler.

`Elaborator` is built in layers: names and arguments (names.py), expressions (evaluate.py), components and modules (apply.py), operations by name
(builtins.py); here are calls, statements and the model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..grammar import tree
from . import builtins, ir
from .apply import INDEX_KINDS, Applier, Givens
from .builder import Builder, Emitted
from .checkpoint import resolve_checkpoint
from .diagnostics import Diagnostics, Note
from .dims import Expr, Sym, const, sym
from .evaluate import Results
from .library import SPECS, Library, shipped_models, suggest
from .model_tree import flatten
from .name_config import name_config
from .operations import Poison
from .passes.check_unused import check_unused
from .scope import Frame, Thunk
from .values import NONE, POISON, BankRecipe, Builtin, Instance, ListValue, MaskOp, Pattern, Recipe, Static, Times, describe


@dataclass
class Elaborator(Applier):
    # ------------------------------------------------ calls

    def call(self, node: tree.Call, frame: Frame) -> Static:
        match node.function:
            case tree.Name():
                target = self.lookup(node.function, frame)
            case _:
                target = self.evaluate(node.function, frame)
        match target:
            case Builtin():
                return builtins.run(self, target.name, node, frame)
            case Recipe():
                return self.call_recipe(node, target, frame)
            case Instance():
                args, named = self.arguments(node, frame)
                return self.apply(target, args, named, node.span, frame)
            case _ if target is NONE:
                name = node.function.id if isinstance(node.function, tree.Name) else "this"
                raise self.error("E374", f"`{name}` is none here, and applying nothing is an error", node.span, help=f"test it first: `if {name} != none:`, or give a component such as `identity`")
            case _:
                raise self.error("E336", f"{describe(target)} cannot be called", node.function.span)

    def arguments(self, node: tree.Call, frame: Frame, first: Static | None = None) -> tuple[list[Static], dict[str, tuple[Static, tree.Span]]]:
        """Positional and named arguments; `first` is the value of the first one, if it is known already."""
        positional = [a.value for a in node.arguments if a.name is None]
        args = [first if k == 0 and first is not None else self.evaluate(a, frame) for k, a in enumerate(positional)]
        flat: list[Static] = []
        for value in args:
            if isinstance(value, tuple):
                flat.extend(value)
            else:
                flat.append(value)
        return flat, {a.name: (self.evaluate(a.value, frame), a.span) for a in node.arguments if a.name is not None}

    def call_recipe(self, node: tree.Call, recipe: Recipe, frame: Frame) -> Static:
        """Naming (hyperparameters) or applying (tensors): told apart by the first argument."""
        component = recipe.component
        if component.kind == "fn" or (component.kind in INDEX_KINDS and not component.parameters):
            if frame.builder is None:
                return self.static_function(recipe, node, frame)
            args, named = self.arguments(node, frame)
            return self.apply(recipe, args, named, node.span, frame)
        positional = [a for a in node.arguments if a.name is None]
        if positional and frame.builder is not None:
            registered = len(self.thunks)
            first = self.evaluate(positional[0].value, frame)
            del self.thunks[registered:]
            if isinstance(first, ir.Value | tuple):
                return self.apply_named(node, recipe, first, frame)
        return self.name_recipe(node, recipe, frame)

    def static_function(self, recipe: Recipe, node: tree.Call, frame: Frame) -> Static:
        """A `fn` of numbers, in an argument."""
        inner = Frame(None, None, recipe.name)
        args, _ = self.arguments(node, frame)
        for declared, value in zip(recipe.component.inputs, args, strict=False):
            inner.names[declared.name.id] = value
        found = self.execute(recipe.component.body, inner)
        return found if found is not None else NONE

    def apply_named(self, node: tree.Call, recipe: Recipe, first: Static, frame: Frame) -> Static:
        """`act(x)`: a recipe parameter applied directly becomes an instance of the parameter's name, if it has weights."""
        name = node.function.id if isinstance(node.function, tree.Name) else ""
        holder = next((f for f in frame.outward() if name in f.names), None)
        args, named = self.arguments(node, frame, first)
        if holder is None or not isinstance(holder.names[name], Thunk) or frame.builder is None or holder.builder is not frame.builder:
            return self.apply(recipe, args, named, node.span, frame)
        key = f"{name} applied"
        if key in holder.names:
            raise self.error("E375", f"`{name}` has weights and is applied at two places: one set of weights or two?", node.span,
                             help=f"bind it: `a = {name}` once for one set, two names for two")  # fmt: skip
        made = self.instance(name, recipe, frame, node.span)
        result = self.apply(made, args, named, node.span, frame)
        if made.builder is not None and made.builder.has_weights():
            holder.names[key] = made
        return result

    def name_recipe(self, node: tree.Call, recipe: Recipe, frame: Frame) -> Recipe:
        known = [p.name.id for p in recipe.component.parameters]
        given: dict[str, tuple[Thunk, tree.Span]] = {}
        free = [k for k in known if k not in recipe.arguments]
        scope = frame if frame.builder is not None else Frame(None, frame, frame.title, path=self.path)    # as in a block, arguments see each other
        at = 0
        for argument in node.arguments:
            name = argument.name
            if name is None:
                if at >= len(free):
                    shown = ", ".join(f"`{k}`" for k in known) or "none"
                    raise self.error("E376", f"`{recipe.name}` takes {len(known)} argument{'s' * (len(known) != 1)}, found one more", argument.span,
                                     Note("declared here", recipe.component.name.span), help=f"its arguments: {shown}")  # fmt: skip
                name = free[at]
                at += 1
            if name in given:
                raise self.error("E305", f"`{name}` is given twice", argument.span)
            thunk = self.thunk(argument.value, scope, name, explicit=True)
            if scope is not frame:
                scope.names[name] = thunk
            else:
                value = self.force(thunk)
                thunk.used = False
                if isinstance(value, ListValue) and isinstance(thunk.node, tree.List):
                    for item in thunk.node.items:                  # `e: d / heads` names an axis of this body
                        self.axes(item, frame) if isinstance(item, tree.Axis) else None
            given[name] = (thunk, argument.name_span or argument.span)
        return self.refined(recipe, given, node.span)

    def divide(self, a: Expr, b: Expr, span: tree.Span) -> Expr:
        from .operations import Body

        return Body([], self.diagnostics, self.facts).divide(a, b, span)

    # ------------------------------------------------ indexing

    def index(self, node: tree.Index, frame: Frame) -> Static:
        value = self.evaluate(node.value, frame)
        if isinstance(value, ListValue):
            number = self.number(node.arguments[0].value, frame).value()
            if not isinstance(number, int) or not -len(value.node.items) <= number < len(value.node.items):
                raise self.error("E377", f"this list has {len(value.node.items)} items", node.span)
            return self.evaluate(value.node.items[number], value.frame)
        x = self.as_tensor(value, node.value.span, frame)
        body = self.body(frame, node)
        named = [a for a in node.arguments if a.name is not None]
        plain = [a for a in node.arguments if a.name is None]
        if plain and (named or len(plain) != len(x.type.axes)):
            raise self.error("E378", f"say which axis is indexed: {x.type!r} has {len(x.type.axes)}", node.span, help="`x[t = i]`")
        pairs: list[tuple[ir.Label, tree.Expr]] = []
        for k, argument in enumerate(node.arguments):
            if argument.name is None:
                pairs.append((x.type.axes[k].label, argument.value))
            else:
                axes = self.axes(tree.Name(span=argument.name_span or argument.span, id=argument.name), frame)
                pairs.append((axes[0].label, argument.value))
        over: list[ir.Label] = []
        indices: list[ir.Operand] = []
        for label, index in pairs:
            if isinstance(index, tree.Range):
                x = self.slice(x, label, index, frame, node.span)
            else:
                over.append(label)
                indices.append(self.operand(index, frame))
        return body.take(x, over, indices, node.span) if over else x

    def slice(self, x: ir.Value, label: ir.Label, node: tree.Range, frame: Frame, span: tree.Span) -> ir.Value:
        body = self.body(frame, node)
        size = body.axis(x, label, span).size

        def bound(part: tree.Expr | None, default: Expr) -> Expr:
            if part is None:
                return default
            number = self.number(part, frame)
            value = number.value()
            return size + number if value is not None and value < 0 else number

        return body.slice(x, label, bound(node.start, const(0)), bound(node.stop, size), span)

    def parameter_of(self, instance: Instance, name: str, span: tree.Span, frame: Frame) -> ir.Value:
        return self.parameter_at(instance, (name,), span, frame)

    def parameter_at(self, instance: Instance, path: tuple[str, ...], span: tree.Span, frame: Frame) -> ir.Value:
        """A parameter of an instance, or of a child further down: `embed.weight`, `stem.embed.weight`."""
        owner, name = instance.owner, path[-1]
        params = params_below(instance.builder, path[:-1])
        if name in instance.emitted:
            return self.local(instance.emitted[name], frame)
        if name not in params:
            state = "has no weights before it is applied" if not instance.applied else f"has no parameter `{name}`"
            raise self.error("E379", f"`{instance.name}` {state}", span, help=suggest(name, [*params, *instance.emitted]))
        assert frame.builder is not None
        value = owner.owner.child_param((*owner.path(), instance.name, *path), params[name].type, span)
        return frame.builder.local(value)

    # ------------------------------------------------ statements

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
                    self.error("E318", "nothing after `return` is ever reached", after.span, help="delete it, or put the `return` under an `if`")
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
                frame.names[name] = builtins.declare(self, node.value, name, word == "param", frame)
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
            value = self.instance(name, value, frame, target.span, shared=node.shared)
        elif isinstance(node, tree.Bind) and node.shared:
            raise self.error("E381", f"`shared` makes an instance of a component, found {describe(value)}", node.value.span)
        elif isinstance(value, MaskOp | Times | Builtin) and not is_let:
            value = value
        if isinstance(node, tree.Bind) and node.axes is not None:
            value = self.named_result(node.targets[0], node.axes, self.as_tensor(value, node.value.span, frame), frame)
        if isinstance(value, ir.Value):
            self.name_value(value, name)
        frame.names[name] = value

    def named_result(self, name: tree.Name, axes: tree.List, value: ir.Value, frame: Frame) -> ir.Value:
        """`y: [b, t, d] = e`: the axes of a result get names here, or must be those that have them."""
        component = tree.Component(span=name.span, kind="result", name=name, parameters=(), inputs=(), outputs=(), body=())
        return self.bind_axes(component, name, axes, value, frame, axes.span, None)

    def unpack(self, node: tree.Bind | tree.Let, value: Static, frame: Frame) -> None:
        found = value if isinstance(value, tuple) else (value,)
        if len(found) != len(node.targets):
            raise self.error("E382", f"{len(node.targets)} names for {len(found)} result{'s' * (len(found) != 1)}", node.span)
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
            if len(value.type.axes) == len(node.axes.items):
                value = self.bind_axes(component, node.name, node.axes, value, frame, node.span, None)
            frame.names[name] = value
            return
        if node.default is None:
            raise self.error("E383", f"nobody provides `{name}`", node.span, help=f"give the model an input `{name}`, or bind a tensor of that name in the model's body")
        frame.names[name] = self.evaluate(node.default, frame)

    def unroll(self, node: tree.For, frame: Frame) -> Static | None:
        values = self.evaluate(node.values, frame)
        if not isinstance(values, ListValue):
            raise self.error("E384", f"`for` runs over a list, found {describe(values)}", node.values.span)
        for item in values.node.items:
            parts = item.items if isinstance(item, tree.List | tree.Tuple) else (item,)
            if len(parts) != len(node.targets):
                raise self.error("E382", f"{len(node.targets)} names for {len(parts)} values", item.span)
            for target, part in zip(node.targets, parts, strict=True):
                frame.names[target.id] = self.evaluate(part, values.frame)
            found = self.execute(node.body, frame)
            if found is not None:
                return found
        return None

    def effect(self, node: tree.Effect, frame: Frame) -> None:
        """`loss` and `emit`: a tensor surfaces to whoever applies this body."""
        assert frame.builder is not None
        value = self.tensor(node.value, frame)
        if node.kind == "next":
            self.next(node, value, frame)
            return
        if node.kind == "loss" and value.type.axes:
            raise self.error("E385", f"a loss is one number, found {value.type!r}", node.value.span, help="average it: `mean(x, ...)`")
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
            raise self.error("E389", f"`{name}` is neither a state nor a buffer of this component", node.name.span, help=f"declare it: `state {name}: [...] = zeros`")
        labels = wanted.type.labels
        if set(value.type.labels) != set(labels) or any(not self.equal(value.type.axis(a.label).size, a.size) for a in wanted.type.axes):
            raise self.error("E390", f"`{name}` is {wanted.type!r} and would become {value.type!r}", node.value.span, Note("declared here", wanted.span))
        if value.type.labels != labels:
            value = builder.body.transpose(value, labels, node.value.span)
        if name in builder.states:
            builder.states[name] = replace(builder.states[name], next=value)
        else:
            builder.updates[name] = ir.Update(buffer=name, next=value, span=node.span)

    # ------------------------------------------------ the model

    def program(self, model: tree.Model) -> ir.Program:
        recipe = self.model_recipe(model)
        component = recipe.component
        root = Builder(component.name.id, None, self.owners, self.diagnostics, self.facts, model.span, model.paper or component.paper or "")
        signature = Frame(root, None, model.name.id)
        self.givens.append(Givens({}))
        self.bind_hyperparameters(recipe, signature, model.name.span)
        inputs = [self.model_input(declared, root, signature) for declared in component.inputs]
        frame = self.body_frame(signature)
        self.root_frame = frame
        for assume in model.assumes:
            self.assumptions.append(ir.Assumption(property=assume.property, reason=assume.reason, span=assume.span))
        found = self.execute(component.body, frame)
        if found is None:
            raise self.error("E344", f"`{component.name.id}` returns nothing", component.name.span, help="end the body with `return ...`")
        result = self.check_outputs(component, found, frame, component.span)
        outs = tuple(self.as_tensor(o, component.span, frame) for o in (result if isinstance(result, tuple) else (result,)))
        names = tuple(o.name.id if o.name else f"output{k}" for k, o in enumerate(component.outputs))
        self.note_locals(root, frame)
        module = replace(root.finish(outs, names), name=model.name.id)
        module, inputs = drop_unread(module, inputs)
        self.check_inert(model)
        dynamic = tuple(dict.fromkeys(s for i in inputs for a in i.value.type.axes for s in sorted(a.size.symbols, key=lambda x: x.order) if s.value is None))
        config = name_config(module, self.symbols, inputs)
        return ir.Program(
            name=model.name.id, root=module, inputs=tuple(inputs), config=config, dynamic=dynamic, facts=unique_facts(self.facts), losses=tuple(ir.Loss(name=n, value=e.value) for n, e in root.emits.items() if e.is_loss),
            assumptions=tuple(self.assumptions), paper=model.paper or component.paper, source=Path(model.span.source.path).name, span=model.name.span,
        )  # fmt: skip

    def model_recipe(self, model: tree.Model) -> Recipe:
        outer = Frame(None, None, model.name.id)
        if model.component is not None:
            base: Static = Recipe(model.component, Frame(None, None, model.name.id))
        else:
            assert model.base is not None
            base = self.evaluate(model.base, outer)
        if not isinstance(base, Recipe):
            raise self.error("E386", f"a model is a component with arguments, found {describe(base)}", model.base.span if model.base else model.name.span)
        frame = self.block_frame(tree.Block(span=model.span, base=None, lets=model.lets, arguments=model.arguments), outer)
        given: dict[str, tuple[Thunk, tree.Span]] = {}
        for argument in model.arguments:
            thunk = frame.names[argument.name or ""]
            assert isinstance(thunk, Thunk)
            given[argument.name or ""] = (thunk, argument.name_span or argument.span)
        return self.refined(base, given)

    def model_input(self, declared: tree.Input, root: Builder, frame: Frame) -> ir.ModelInput:
        name = declared.name.id
        axes: list[ir.Axis] = []
        for item in declared.axes.items if declared.axes else ():
            axes.extend(self.input_axes(item, frame))
        if len({a.label for a in axes}) != len(axes):
            assert declared.axes is not None
            raise self.error("E203", f"the input `{name}` would have an axis twice", declared.axes.span, help="a second axis of the same size is written with a prime: `[t, t']`")
        kind = ir.Type(tuple(axes), declared.dtype if declared.dtype in ("int", "bool") else "float")  # type: ignore[arg-type]
        bound = self.number(declared.bound, frame) if declared.bound is not None else None
        value = root.own(ir.Value(kind, name, declared.name.span))
        root.inputs.append(value)
        frame.names[name] = value
        default, training = None, False
        if declared.default is not None:
            with root.region() as body:
                found = self.evaluate(declared.default, frame)
                if found is NONE:
                    training = True
                else:
                    result = self.as_tensor(found, declared.default.span, frame)
                    default = ir.Region(params=(), body=tuple(body.nodes), result=result)
        return ir.ModelInput(name=name, value=value, bound=bound, default=default, training=training)

    def input_axes(self, item: tree.Expr, frame: Frame) -> tuple[ir.Axis, ...]:
        """What an item of a model's input stands for: a hyperparameter's size or list of axes, an axis named before, or a new dynamic one."""
        if isinstance(item, tree.Axis):
            if isinstance(item.size, tree.Name) and item.size.id not in frame.names and item.size.id not in frame.labels:
                size = sym(Sym(item.size.id))
                frame.names[item.size.id] = size
            else:
                size = self.number(item.size, frame)
            return (self.new_axis(item.label, size, frame),)
        if isinstance(item, tree.Name) and item.id not in frame.names and item.id not in frame.labels:
            return (self.new_axis(item.id, sym(Sym(item.id)), frame),)
        return self.axes(item, frame)

    def inherited(self, place: tree.Span, model: tree.Model) -> bool:
        """Whether these words belong to a model that this one extends: what it replaces may leave them without a use."""
        others = [m.span for m in self.library.models.values() if m.name != model.name or m.name.span != model.name.span]
        return any(s.source.path == place.source.path and s.start <= place.start and place.end <= s.end for s in others)

    def check_inert(self, model: tree.Model) -> None:
        """Nothing is silently ignored: every instance must be applied, every argument given must have been read."""
        idle: list[tree.Span] = []
        for instance in self.instances:
            if not instance.applied and instance.name and instance.builder is None:
                self.error("E316", f"`{instance.name}` is bound and never applied", instance.span, help="apply it, delete it, or write `let` if it is only passed on")
                if isinstance(instance.recipe, Recipe) and instance.recipe.span is not None:
                    idle.append(instance.recipe.span)
        for thunk in self.thunks:
            place = thunk.node.span
            within = any(s.source.path == place.source.path and s.start <= place.start and place.end <= s.end for s in idle)
            if thunk.explicit and not thunk.used and not within and not self.inherited(place, model):
                self.error("E315", f"`{thunk.parameter}` reaches nothing: the model would be the same without it", place, help="delete it, or use it where it was meant")


def params_below(builder: Builder | None, path: tuple[str, ...]) -> dict[str, ir.Param]:
    """The parameters of a module under construction, or of a child of it."""
    if builder is None:
        return {}
    if not path:
        return builder.params
    child = builder.children.get(path[0])
    if isinstance(child, Builder):
        return params_below(child, path[1:])
    module = child.module if isinstance(child, ir.Child) else None
    for name in path[1:]:
        below = next((c for c in module.children if c.name == name), None) if module is not None else None
        module = below.module if isinstance(below, ir.Child) else None
    return {p.name: p for p in module.params} if module is not None else {}


def drop_unread(root: ir.Module, inputs: list[ir.ModelInput]) -> tuple[ir.Module, list[ir.ModelInput]]:
    """An optional input that this model does not read is not part of its signature (a required one is an error, found later)."""
    read = {v for n in root.body for v in ir.operands(n)} | set(root.outputs)
    kept = [i for i in inputs if i.required or i.value in read]
    return replace(root, inputs=tuple(i.value for i in kept)), kept


def unique_facts(facts: Sequence[ir.Fact]) -> tuple[ir.Fact, ...]:
    return tuple({(f.kind, f.a, f.b): f for f in reversed(facts)}.values())[::-1]


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


def elaborate_file(path_or_name: str, sets: list[str], diagnostics: Diagnostics) -> ir.Program | None:
    """A spec file, or the name of a shipped spec, as a program; none if there are errors."""
    found = find_model(path_or_name, sets, diagnostics)
    if found is None:
        return None
    model, library = found
    elaborator = Elaborator(library, diagnostics)
    elaborator.builtins = builtins.table()
    try:
        program = elaborator.program(model)
    except Poison:
        if not diagnostics.failed:
            raise
        diagnostics.sort()
        return None
    if not diagnostics.failed:
        check_unused(program, diagnostics)
        program = replace(program, checkpoint=resolve_checkpoint(program, library, diagnostics))
    return None if diagnostics.failed else program


def find_model(path_or_name: str, sets: list[str], diagnostics: Diagnostics) -> tuple[tree.Model, Library] | None:
    """The model a user means, with its `extends` and `--set` merged in."""
    library = Library(diagnostics)
    if path_or_name not in shipped_models():
        diagnostics.shipped = str(SPECS)
    path = Path(path_or_name)
    if not path.suffix and path_or_name in shipped_models():
        model = library.model(path_or_name)
    else:
        if not path.suffix and not os.path.exists(path):
            diagnostics.error("E306", f"there is no file or shipped spec `{path_or_name}`", None, help=suggest(path_or_name, shipped_models()) or "`xfc list` shows the shipped specs")
            return None
        file = library.load(path)
        models = [d for d in file.declarations if isinstance(d, tree.Model)] if file else []
        if file is not None and not models and not diagnostics.failed:
            diagnostics.error("E307", f"{path_or_name} declares no model", None, help="add `model name = component:`")
        model = models[-1] if models else None
    if model is None:
        return None
    arguments = parse_sets(sets, diagnostics)
    if diagnostics.failed:
        return None
    flat = flatten(model, library, arguments, diagnostics)
    return (flat, library) if flat is not None and not diagnostics.failed else None


def parse_sets(sets: list[str], diagnostics: Diagnostics) -> list[tree.Argument]:
    """`--set path=value` as arguments."""
    from ..grammar.parse import parse_expression
    from .problems import report

    found: list[tree.Argument] = []
    for text in sets:
        path, sign, value = text.partition("=")
        source = tree.Source(f"--set {text}", text)
        span = tree.Span(source, 0, len(path))
        if not sign or not path.strip():
            diagnostics.error("E308", f"`--set {text}` is not `path=value`", span)
            continue
        node, problems = parse_expression(source, len(path) + 1, value)
        report(problems, diagnostics)
        if node is not None:
            found.append(tree.Argument(span=span, name=path.strip(), name_span=span, value=node))
    return found


__all__ = ["Elaborator", "Results", "elaborate_file", "find_model"]
