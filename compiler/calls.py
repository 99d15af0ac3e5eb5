"""Calls: naming a recipe, applying it, an operation by name; indexing; parameters of instances."""

from __future__ import annotations

from ..grammar import tree
from . import builtins, ir
from .apply import Applier
from .bodies import INDEX_KINDS
from .builder import Builder
from .diagnostics import Note
from .dims import Expr, const
from .library import suggest
from .operations import Body, Poison
from .scope import Frame, Thunk
from .values import NONE, Builtin, Instance, ListValue, Recipe, Static, describe


class Calls(Applier):
    """`call` tells naming (hyperparameters) from applying (tensors)."""

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
                raise self.wrong_value(
                    "E374",
                    f"`{name}` is none here, and applying nothing is an error",
                    node.function,
                    frame,
                    help=f"test it first: `if {name} != none:`, or give a component such as `identity`",
                    remedy="give a component, such as `identity`",
                )
            case _:
                remedy = "give a component: `name = component(...)`"
                raise self.wrong_value("E336", f"{describe(target)} cannot be called", node.function, frame, remedy=remedy)

    def arguments(
        self, node: tree.Call, frame: Frame, first: Static | None = None
    ) -> tuple[list[Static], dict[str, tuple[Static, tree.Span]]]:
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
        if component.kind == "fn" or (component.kind in INDEX_KINDS and not component.parameters and node.arguments):
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
        self.count_inputs(recipe.component, args, node.span)
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
        scope = (
            frame if frame.builder is not None else Frame(None, frame, frame.title, path=self.path)
        )  # as in a block, arguments see each other
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
                    for item in thunk.node.items:  # `e: d / heads` names an axis of this body
                        self.axes(item, frame) if isinstance(item, tree.Axis) else None
            given[name] = (thunk, argument.name_span or argument.span)
        return self.refined(recipe, given, node.span)

    def divide(self, a: Expr, b: Expr, span: tree.Span) -> Expr:

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
            if instance.applied and self.diagnostics.failed:
                raise Poison  # it may be on the line that is wrong
            state = "has no weights before it is applied" if not instance.applied else f"has no parameter `{name}`"
            nearest = suggest(name, [*params, *instance.emitted])
            before = f"its weights have the sizes of what it is applied to: apply `{instance.name}` above this line"
            raise self.error("E379", f"`{instance.name}` {state}", span, help=nearest if instance.applied else before)
        assert frame.builder is not None
        value = owner.owner.child_param((*owner.path(), instance.name, *path), params[name].type, span)
        return frame.builder.local(value)


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
