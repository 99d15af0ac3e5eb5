"""Instances: a recipe bound to a name, applied as a submodule or written into the module at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from ..grammar import tree
from ..grammar.frozen import mutable
from . import ir
from .bodies import INDEX_KINDS, Bodies
from .builder import Builder, Emitted
from .diagnostics import Note
from .dims import Expr
from .evaluate import Results
from .generalise import generalise_rest
from .same_module import same_module
from .scope import Frame
from .values import BankRecipe, Instance, Pattern, Recipe, Static


@mutable
class Instances(Bodies):
    """`apply_instance` applies a bound recipe; its weights are one set, however often it is applied."""

    instances: list[Instance] = field(default_factory=list)

    def instance(
        self, name: str, recipe: Recipe | Pattern | BankRecipe, frame: Frame, span: tree.Span, *, shared: bool = False
    ) -> Instance:
        assert frame.builder is not None
        made = Instance(name, recipe, frame.builder, span, shared)
        self.instances.append(made)
        return made

    def apply_instance(
        self, instance: Instance, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame
    ) -> Static:
        here = frame.builder
        assert here is not None and isinstance(instance.recipe, Recipe)
        instance.applied = True
        in_region = len(here.real._bodies) > 1  # a region holds operations, not calls
        if here is not instance.owner or instance.owner.inline or in_region or instance.recipe.component.kind in INDEX_KINDS:
            return self.apply_inline(instance, args, named, span, frame)
        recipe = instance.recipe
        builder = self.builder(recipe, here, instance.name)
        values = [self.as_tensor(a, span, frame) if not isinstance(a, Expr) else a for a in args]
        outs, names, rest = self.run_module(recipe, builder, values, named, span, frame)
        emits = {n: Emitted(builder.local(e.value), e.is_loss, e.span) for n, e in builder.emits.items()}
        module = builder.finish((*outs, *(e.value for e in emits.values())), (*names, *emits) if names else ())
        owns = builder.has_weights()
        if instance.builder is not None and ir.has_effects(module):
            help_ = "bind two instances, one for each"
            raise self.error(
                "E340",
                f"`{instance.name}` keeps a state or running statistics, and is applied twice",
                span,
                Note("bound here", instance.span),
                help=help_,
            )
        if owns and instance.builder is not None:
            self.same_weights(instance, builder, span)
        tensors = [v for v in values if isinstance(v, ir.Value)]
        outer = [here.local(v) for v in builder.captured]
        if module.is_function and not module.body:  # it only hands on what it was given
            handed = [*tensors, *outer]
            passed = tuple(handed[module.inputs.index(o)] for o in outs)
            instance.builder = builder
            return passed[0] if len(passed) == 1 else Results.of(passed, names)
        module_outputs = (*outs, *(e.value for e in emits.values()))
        module = generalise_rest(module, rest)
        results = tuple(ir.Value(o.type, name, span) for o, name in zip(module_outputs, (*("" for _ in outs), *emits), strict=True))
        target: str | ir.Module = instance.name if owns else module
        child = here.children.get(instance.name)
        if owns and isinstance(child, ir.Child) and not self.diagnostics.failed and not same_module(child.module, module):
            return self.apply_inline(instance, args, named, span, frame)  # with the same weights it does something else here
        if instance.builder is None:
            instance.builder = builder
            if owns and instance.name:
                self.add_child(here, ir.Child(name=instance.name, module=module), instance)
        elif owns and isinstance(here.children.get(instance.name), Builder):  # so far it was only written into others' bodies
            here.children[instance.name] = ir.Child(name=instance.name, module=module)
        here.body.nodes.append(ir.Call(outs=results, span=span, target=target, args=(*tensors, *outer)))
        self.surface_all(here, instance, emits, results[len(outs) :])
        results = results[: len(outs)]
        return results[0] if len(results) == 1 else Results.of(results, names)

    # ------------------------------------------------ what bodies surface

    def surface_all(self, here: Builder, instance: Instance, emits: Mapping[str, Emitted], values: Sequence[ir.Value]) -> None:
        """What an applied body emits surfaces again here, and is an attribute of the instance."""
        for (name, emitted), value in zip(emits.items(), values, strict=True):
            if not emitted.is_loss:
                instance.emitted[name] = value
            self.surface(here, name, Emitted(value, emitted.is_loss, emitted.span))

    def surface(self, here: Builder, name: str, emitted: Emitted) -> None:
        old = here.emits.get(name)
        if old is not None and not (old.is_loss and emitted.is_loss):
            raise self.error(
                "E387", f"`{name}` is emitted twice", emitted.span, Note("first here", old.span), help="give one of them another name"
            )
        if old is not None:
            emitted = Emitted(here.main.elementwise("add", [old.value, emitted.value], emitted.span), True, emitted.span)
        here.emits[name] = emitted

    def add_child(self, builder: Builder, child: ir.Child | ir.Stack | ir.Bank, instance: Instance) -> None:
        if child.name in builder.children or child.name in builder.params:
            raise self.error(
                "E338", f"`{builder.name}` already has weights called `{child.name}`", instance.span, help="give this instance another name"
            )
        builder.children[child.name] = child

    def same_weights(self, instance: Instance, again: Builder, span: tree.Span) -> None:
        """A second application must need the same parameters."""
        first = instance.builder
        assert first is not None
        mine, yours = _shapes(first), _shapes(again)
        if mine != yours:
            raise self.error("E339", f"`{instance.name}` is applied to tensors that need different weights: {mine} and {yours}", span, Note("bound here", instance.span),
                             help="bind the recipe to two names, one for each")  # fmt: skip

    def apply_inline(
        self, instance: Instance, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame
    ) -> Static:
        """Write an instance's body into the current module; its weights stay with its owner."""
        here = frame.builder
        assert here is not None and isinstance(instance.recipe, Recipe)
        instance.applied = True
        holder = instance.owner.children.get(instance.name)
        if not isinstance(holder, Builder):
            holder = self.builder(instance.recipe, instance.owner, instance.name, inline=True)
            holder.known = instance.builder
            if instance.builder is None:
                if instance.name in instance.owner.children:
                    raise self.error(
                        "E338",
                        f"`{instance.owner.name}` already has weights called `{instance.name}`",
                        instance.span,
                        help="give this instance another name",
                    )
                instance.owner.children[instance.name] = holder
                instance.builder = holder
        holder.target = here.real
        return self.run(instance.recipe, holder, args, named, span)

    def builder(self, recipe: Recipe, parent: Builder, name: str, *, inline: bool = False) -> Builder:
        component = recipe.component
        made = Builder(
            component.name.id, parent, self.owners, self.diagnostics, self.facts, component.span, component.paper or "", name, inline
        )
        made.named = recipe.span
        return made


def _shapes(owner: Builder | ir.Module) -> dict[str, list[int | float | str]]:
    """The sizes of all weights, by their paths."""
    params = owner.params.values() if isinstance(owner, Builder) else owner.params
    found = {p.name: [a.size.value() or str(a.size) for a in p.type.axes] for p in params}
    for child in owner.children.values() if isinstance(owner, Builder) else owner.children:
        name = child.child_name if isinstance(child, Builder) else child.name
        below = (m for m, _ in child.slots) if isinstance(child, ir.Stack) else (child if isinstance(child, Builder) else child.module,)
        for k, module in enumerate(below):
            found |= {f"{name}.{k}.{n}" if isinstance(child, ir.Stack) else f"{name}.{n}": sizes for n, sizes in _shapes(module).items()}
    return found
