"""Applying components: bodies, instances, stacks, banks and index functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..grammar import tree
from . import ir
from .builder import Builder, Emitted
from .diagnostics import Note
from .dims import Expr, apply, const
from .evaluate import Evaluator, Results
from .generalise import generalise_rest
from .library import suggest
from .operations import Poison
from .scope import Frame, Thunk
from .values import NONE, POISON, BankRecipe, Instance, ListValue, MaskOp, Pattern, Recipe, Static, describe

INDEX_KINDS = ("mask", "score", "weights")


@dataclass
class Givens:
    """Streams provided by name; `used` are the overrides that were read."""

    values: dict[str, ir.Value]
    used: set[str] = field(default_factory=set)


@dataclass
class Applier(Evaluator):
    givens: list[Givens] = field(default_factory=list)
    root_frame: Frame | None = None
    instances: list[Instance] = field(default_factory=list)
    assumptions: list[ir.Assumption] = field(default_factory=list)
    depth: int = 0

    # ------------------------------------------------ instances

    def instance(self, name: str, recipe: Recipe | Pattern | BankRecipe, frame: Frame, span: tree.Span, *, shared: bool = False) -> Instance:
        assert frame.builder is not None
        made = Instance(name, recipe, frame.builder, span, shared)
        self.instances.append(made)
        return made

    def apply(self, target: Static, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame) -> Static:
        """Apply a recipe or an instance to tensors."""
        assert frame.builder is not None
        self.depth += 1
        if self.depth > 60:
            self.depth = 0
            raise self.error("E335", "components apply each other without end", span, help="a component cannot contain itself")
        try:
            match target:
                case Instance(recipe=Recipe()):
                    return self.apply_instance(target, args, named, span, frame)
                case Instance(recipe=Pattern()):
                    return self.apply_stack(target, args, named, span, frame)
                case Instance(recipe=BankRecipe()):
                    return self.apply_bank(target, args, span, frame)
                case Recipe():
                    return self.apply_recipe(target, args, named, span, frame)
                case _:
                    raise self.error("E336", f"{describe(target)} cannot be applied", span)
        finally:
            self.depth = max(self.depth - 1, 0)

    def apply_recipe(self, recipe: Recipe, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame) -> Static:
        """A recipe applied where it is named: it must own no weights."""
        assert frame.builder is not None
        kind, in_region = recipe.component.kind, len(frame.builder.real._bodies) > 1
        if kind in INDEX_KINDS or (kind == "fn" and (len(recipe.component.body) == 1 or in_region or frame.builder.inline)):
            return self.run(recipe, frame.builder, args, named, span)
        made = self.instance("", recipe, frame, span)
        result = self.apply_instance(made, args, named, span, frame)
        if made.builder is not None and made.builder.has_weights():
            raise self.error("E337", f"`{recipe.name}` has weights, so its instance needs a name", span, Note("declared here", recipe.component.name.span),
                             help=f"bind it first: `name = {recipe.name}(...)`, then `name(x)`")  # fmt: skip
        return result

    def apply_instance(self, instance: Instance, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame) -> Static:
        here = frame.builder
        assert here is not None and isinstance(instance.recipe, Recipe)
        instance.applied = True
        in_region = len(here.real._bodies) > 1                   # a region holds operations, not calls
        if here is not instance.owner or instance.owner.inline or in_region or instance.recipe.component.kind in INDEX_KINDS:
            return self.apply_inline(instance, args, named, span, frame)
        recipe = instance.recipe
        builder = self.builder(recipe, here, instance.name)
        values = [self.as_tensor(a, span, frame) if not isinstance(a, Expr) else a for a in args]
        outs, names, rest = self.run_module(recipe, builder, values, named, span, frame)
        emits = {n: Emitted(builder.local(e.value), e.is_loss, e.span) for n, e in builder.emits.items()}
        module = builder.finish((*outs, *(e.value for e in emits.values())), (*names, *emits) if names else ())
        owns = builder.has_weights()
        if owns and instance.builder is not None:
            self.same_weights(instance, builder, span)
        tensors = [v for v in values if isinstance(v, ir.Value)]
        outer = [here.local(v) for v in builder.captured]
        if module.is_function and not module.body:                         # it only hands on what it was given
            handed = [*tensors, *outer]
            passed = tuple(handed[module.inputs.index(o)] for o in outs)
            instance.builder = builder
            return passed[0] if len(passed) == 1 else Results.of(passed, names)
        module_outputs = (*outs, *(e.value for e in emits.values()))
        module = generalise_rest(module, rest)
        results = tuple(ir.Value(o.type, "", span) for o in module_outputs)
        target: str | ir.Module = instance.name if owns else module
        if instance.builder is None:
            instance.builder = builder
            if owns and instance.name:
                self.add_child(here, ir.Child(name=instance.name, module=module), instance)
        elif owns and isinstance(here.children.get(instance.name), Builder):          # so far it was only written into others' bodies
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
            raise self.error("E387", f"`{name}` is emitted twice", emitted.span, Note("first here", old.span), help="give one of them another name")
        if old is not None:
            emitted = Emitted(here.main.elementwise("add", [old.value, emitted.value], emitted.span), True, emitted.span)
        here.emits[name] = emitted

    def add_child(self, builder: Builder, child: ir.Child | ir.Stack | ir.Bank, instance: Instance) -> None:
        if child.name in builder.children or child.name in builder.params:
            raise self.error("E338", f"`{builder.name}` already has weights called `{child.name}`", instance.span, help="give this instance another name")
        builder.children[child.name] = child

    def same_weights(self, instance: Instance, again: Builder, span: tree.Span) -> None:
        """A second application must need the same parameters."""
        first = instance.builder
        assert first is not None
        mine = {n: [a.size.value() or str(a.size) for a in p.type.axes] for n, p in first.params.items()}
        yours = {n: [a.size.value() or str(a.size) for a in p.type.axes] for n, p in again.params.items()}
        if mine != yours:
            raise self.error("E339", f"`{instance.name}` is applied to tensors that need different weights: {mine} and {yours}", span, Note("bound here", instance.span),
                             help="bind the recipe to two names, one for each")  # fmt: skip

    def apply_inline(self, instance: Instance, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame) -> Static:
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
                    raise self.error("E338", f"`{instance.owner.name}` already has weights called `{instance.name}`", instance.span, help="give this instance another name")
                instance.owner.children[instance.name] = holder
                instance.builder = holder
        holder.target = here.real
        return self.run(instance.recipe, holder, args, named, span)

    def builder(self, recipe: Recipe, parent: Builder, name: str, *, inline: bool = False) -> Builder:
        component = recipe.component
        made = Builder(component.name.id, parent, self.owners, self.diagnostics, self.facts, component.span, component.paper or "", name, inline)
        made.named = recipe.span
        return made

    # ------------------------------------------------ stacks and banks

    def apply_stack(self, instance: Instance, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame) -> Static:
        here = frame.builder
        pattern = instance.recipe
        assert here is not None and isinstance(pattern, Pattern)
        if instance.applied:
            raise self.error("E340", f"the stack `{instance.name}` is applied twice", span, Note("bound here", instance.span), help="bind two stacks, one for each set of weights")
        if here is not instance.owner or here.inline:
            raise self.error("E340", "a stack is applied in the body that binds it", span, Note("bound here", instance.span))
        instance.applied = True
        values = [self.as_tensor(a, span, frame) for a in args]
        modules: list[ir.Module] = []
        captures: list[list[ir.Value]] = []
        emits: list[dict[str, Emitted]] = []
        carried: tuple[ir.Value, ...] = ()
        for recipe, _ in pattern.slots:
            builder = self.builder(recipe, here, instance.name)
            outs, names, rest = self.run_module(recipe, builder, values, named, span, frame)
            self.check_carried(recipe, outs, values, span)
            carried = outs
            captures.append([here.local(v) for v in builder.captured])
            emits.append({n: Emitted(builder.local(e.value), e.is_loss, e.span) for n, e in builder.emits.items()})
            extra_outs = tuple(e.value for e in emits[-1].values())
            modules.append(generalise_rest(builder.finish((*outs, *extra_outs), (*names, *emits[-1]) if names else ()), rest))
        extra = list(dict.fromkeys(v for c in captures for v in c))
        inputs = tuple((*range(len(values)), *(len(values) + extra.index(v) for v in c)) for c in captures)
        slots = tuple((m, n) for m, (_, n) in zip(modules, pattern.slots, strict=True))
        self.add_child(here, ir.Stack(name=instance.name, slots=slots, count=pattern.count, cycle=pattern.cycle), instance)
        collected, every, collected_values = self.collect(pattern, emits, len(carried), span)
        results = (*(ir.Value(v.type, "", span) for v in values[: len(carried)]), *collected_values)
        here.body.nodes.append(
            ir.Fold(outs=results, span=span, target=instance.name, args=(*values, *extra), carried=len(carried), inputs=inputs, collected=collected)
        )
        self.surface_all(here, instance, every, collected_values)
        results = results[: len(carried)]
        return results[0] if len(results) == 1 else Results.of(results, ())

    def collect(
        self, pattern: Pattern, emits: Sequence[Mapping[str, Emitted]], carried: int, span: tree.Span
    ) -> tuple[tuple[ir.Collect, ...], dict[str, Emitted], tuple[ir.Value, ...]]:
        """What the layers emit: losses summed, tensors stacked on a leading axis `layer`, over the layers that have them."""
        every: dict[str, Emitted] = {}
        collected: list[ir.Collect] = []
        values: list[ir.Value] = []
        for name, first in {n: e for slot in reversed(emits) for n, e in slot.items()}.items():
            places = tuple(carried + list(slot).index(name) if name in slot else None for slot in emits)
            kind = first.value.type
            for slot in emits:
                if name in slot and slot[name].value.type != kind:
                    raise self.error("E388", f"the layers emit `{name}` as {kind!r} and as {slot[name].value.type!r}", slot[name].span, Note("and here", first.span))
            if not first.is_loss:
                kind = ir.Type((ir.Axis(ir.Label("layer"), layers_with(pattern, [p is not None for p in places])), *kind.axes), kind.dtype)
            every[name] = first
            collected.append(ir.Collect(places, first.is_loss))
            values.append(ir.Value(kind, "", span))
        return tuple(collected), every, tuple(values)

    def check_carried(self, recipe: Recipe, outs: tuple[ir.Value, ...], values: Sequence[ir.Value], span: tree.Span) -> None:
        for k, out in enumerate(outs):
            if k >= len(values) or out.type.labels != values[k].type.labels or any(
                not self.equal(a.size, b.size) for a, b in zip(out.type.axes, values[k].type.axes, strict=True)
            ):
                found = f"{values[k].type!r}" if k < len(values) else "nothing"
                raise self.error("E341", f"a layer's result must be like its input: `{recipe.name}` takes {found} and gives {out.type!r}", span,
                                 Note("the layer", recipe.component.name.span))  # fmt: skip

    def equal(self, a: Expr, b: Expr) -> bool:
        return a == b or (a.value() is not None and a.value() == b.value())

    def apply_scan(self, target: Static, name: str, args: Sequence[ir.Value], over: ir.Label, reverse: bool, span: tree.Span, frame: Frame) -> Static:
        """One component along an axis: results that match the first inputs are carried, further ones are stacked along it."""
        here = frame.builder
        assert here is not None
        if isinstance(target, Recipe):
            target = self.instance(name, target, frame, span)
        if not isinstance(target, Instance) or not isinstance(target.recipe, Recipe):
            raise self.error("E391", f"`scan` applies a component, found {describe(target)}", span)
        if here is not target.owner or here.inline or target.applied:
            raise self.error("E340", f"`{target.name}` is scanned in the body that binds it, and once", span, Note("bound here", target.span))
        target.applied = True
        sliced = [v.type.has(over) for v in args]
        if True not in sliced:
            raise self.error("E391", f"none of the inputs has the axis `{over}`", span)
        first = args[sliced.index(True)]
        builder = self.builder(target.recipe, here, target.name)
        parts = [here.own(ir.Value(v.type.without(over), v.hint, v.span)) for v in args]
        outs, names, rest = self.run_module(target.recipe, builder, parts, {}, span, frame)
        carried = min(sliced.index(True), len(outs))
        for out, start in zip(outs[:carried], args, strict=False):
            if out.type.labels != start.type.labels or any(not self.equal(x.size, y.size) for x, y in zip(out.type.axes, start.type.axes, strict=True)):
                raise self.error("E391", f"what is carried must stay alike: it starts as {start.type!r} and becomes {out.type!r}", span, Note("the component", target.recipe.component.name.span))
        module = builder.finish(outs, names)
        target.builder = builder
        if builder.has_weights():
            self.add_child(here, ir.Child(name=target.name, module=module), target)
        at = first.type.labels.index(over)
        axis = first.type.axis(over)
        results = [ir.Value(v.type, "", span) for v in outs[:carried]]
        for out in outs[carried:]:
            place = min(at, len(out.type.axes))
            results.append(ir.Value(ir.Type((*out.type.axes[:place], axis, *out.type.axes[place:]), out.type.dtype), "", span))
        outer = [here.local(v) for v in builder.captured]
        here.body.nodes.append(
            ir.Scan(outs=tuple(results), span=span, target=target.name if builder.has_weights() else module, args=(*args, *outer), carried=carried, given=len(args), over=over, reverse=reverse)
        )
        return results[0] if len(results) == 1 else Results.of(tuple(results), names)

    def apply_bank(self, instance: Instance, args: Sequence[Static], span: tree.Span, frame: Frame) -> Static:
        """A bank applied to a tensor that has its axis: expert e sees slice e."""
        here = frame.builder
        bank = instance.recipe
        assert here is not None and isinstance(bank, BankRecipe)
        values = [self.as_tensor(a, span, frame) for a in args]
        label = bank.axis.label
        if not values or not values[0].type.has(label):
            raise self.error("E342", f"`{instance.name}` is a bank: its input needs the axis `{label}`", span, help="or choose experts with `route(x, bank, index, weight)`")
        inner = [ir.Value(v.type.without(label), v.hint, v.span) for v in values]
        outs, outer = self.bank_module(instance, inner, span, frame)
        results = tuple(ir.Value(ir.Type((bank.axis, *o.type.axes), o.type.dtype), o.hint, span) for o in outs)
        here.body.nodes.append(ir.Pairwise(outs=results, span=span, target=instance.name, args=(*values, *outer)))
        return results[0]

    def bank_module(self, instance: Instance, values: Sequence[ir.Value], span: tree.Span, frame: Frame) -> tuple[tuple[ir.Value, ...], list[ir.Value]]:
        here = frame.builder
        bank = instance.recipe
        assert here is not None and isinstance(bank, BankRecipe)
        if here is not instance.owner or here.inline:
            raise self.error("E340", "a bank is applied in the body that binds it", span, Note("bound here", instance.span))
        builder = self.builder(bank.recipe, here, instance.name)
        for value in values:
            here.own(value)
        outs, names, rest = self.run_module(bank.recipe, builder, values, {}, span, frame)
        if not instance.applied:
            module = generalise_rest(builder.finish(outs, names), rest)
            self.add_child(here, ir.Bank(name=instance.name, module=module, axis=bank.axis), instance)
        instance.applied = True
        return outs, [here.local(v) for v in builder.captured]

    # ------------------------------------------------ bodies

    def run_module(
        self, recipe: Recipe, builder: Builder, values: Sequence[ir.Operand], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame
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
        names = tuple(o.name.id if o.name else "" for o in recipe.component.outputs) if len(recipe.component.outputs) == len(tensors) else ()
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
        with self.providing(overrides, span):
            found = self.execute(component.body, frame)
        self.note_locals(builder, frame)
        if found is None:
            raise self.error("E344", f"`{component.name.id}` returns nothing", component.name.span, help="end the body with `return ...`")
        return self.check_outputs(component, found, frame, span)

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

    def bind_inputs(self, component: tree.Component, frame: Frame, args: Sequence[Static], span: tree.Span, rests: list[tuple[ir.Axis, ...]] | None) -> None:
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
            if isinstance(value, ir.Value) and frame.builder is not None and value in frame.builder.inputs and component.kind == "component":
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
            raise self.error("E346", f"`{component.name.id}` takes {name.id}: [{shown}], found {value.type!r}", span, Note("declared here", name.span))
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
            if target is not None and target is not axis.label:
                if not value.type.has(target):
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
            raise self.error("E348", f"`{component.name.id}` declares {len(declared)} results and returns {len(results)}", component.name.span)
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
                match = next((a for a in left if a.label is axis.label), None) or next((a for a in left if self.equal(a.size, axis.size)), None)
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
        name = item.id if isinstance(item, tree.Name) else item.label if isinstance(item, tree.Axis) and isinstance(item.size, tree.Name) else None
        return name is not None and not any(name in s.names or name in s.labels for s in frame.outward()) and not name.endswith("'")

    def execute(self, body: tuple[tree.Statement, ...], frame: Frame) -> Static | None:
        raise NotImplementedError

    # ------------------------------------------------ index functions

    def head_axes(self, q: ir.Type, query: ir.Label, feature: ir.Label) -> tuple[ir.Axis, ...]:
        """The axes that number the heads: q's static axes besides the query and the feature."""
        return tuple(a for a in q.axes if a.label is not query and a.label is not feature and not a.size.is_dynamic)

    def mask_region(self, mask: Static, name: str, i: ir.Type, j: ir.Type, span: tree.Span, frame: Frame) -> ir.Region | None:
        """A mask as a region over query and key slots; none if it lets everything through."""
        assert frame.builder is not None
        builder = frame.builder
        slots = [builder.own(ir.Value(i, "i", span)), builder.own(ir.Value(j, "j", span))]
        with builder.region() as body:
            result = self.mask_value(mask, name, slots, span, frame)
            if result is True:
                return None
            if isinstance(result, bool):
                result = body.elementwise("lt", [slots[1], const(0)], span)
            nodes = tuple(body.nodes)
        return ir.Region(params=tuple(slots), body=nodes, result=result)

    def mask_value(self, mask: Static, name: str, slots: list[ir.Value], span: tree.Span, frame: Frame) -> ir.Value | bool:
        assert frame.builder is not None
        if isinstance(mask, MaskOp):
            parts = [self.mask_value(m, getattr(m, "name", ""), slots, span, frame) for m in mask.masks]
            if mask.op == "not":
                return not parts[0] if isinstance(parts[0], bool) else frame.builder.body.elementwise("not", [parts[0]], span)
            known = next((p for p in parts if isinstance(p, bool)), None)
            if known is not None:
                other = parts[1] if parts[0] is known else parts[0]
                return known if known == (mask.op == "or") else other
            return frame.builder.body.elementwise(mask.op, [p for p in parts if isinstance(p, ir.Value)], span)
        arity = self.arity(mask, "mask", (1, 2), span)
        args = slots if arity == 2 else slots[1:]
        result = self.index_call(mask, name, args, span, frame)
        if isinstance(result, ir.Value) and result.type.dtype != "bool":
            raise self.error("E350", f"a mask says yes or no, and {describe(mask)} gives {result.type!r}", span)
        return result

    def score_region(self, score: Static, name: str, scores: ir.Type, heads: tuple[ir.Axis, ...], i: ir.Type, j: ir.Type, span: tree.Span, frame: Frame) -> ir.Region:
        assert frame.builder is not None
        builder = frame.builder
        values = [builder.own(ir.Value(t, n, span)) for t, n in ((scores, "s"), (ir.Type(heads, "int"), "h"), (i, "i"), (j, "j"))]
        arity = self.arity(score, "score", (1, 3, 4), span)
        args = {1: values[:1], 3: [values[0], *values[2:]], 4: values}[arity]
        with builder.region() as body:
            result = self.as_tensor(self.index_call(score, name, args, span, frame), span, frame)
            nodes = tuple(body.nodes)
        if result.type.dtype == "bool":
            raise self.error("E351", f"a score is a number, and {describe(score)} gives {result.type!r}", span, help="what says yes or no is a mask")
        if any(not scores.has(a.label) for a in result.type.axes):
            raise self.error("E351", f"a score must keep the axes of the scores {scores!r}, and gives {result.type!r}", span)
        return ir.Region(params=tuple(values), body=nodes, result=result)

    def weights_region(self, weights: Static, name: str, scores: ir.Type, span: tree.Span, frame: Frame) -> ir.Region:
        assert frame.builder is not None
        builder = frame.builder
        value = builder.own(ir.Value(scores, "s", span))
        with builder.region() as body:
            result = self.as_tensor(self.index_call(weights, name, [value], span, frame), span, frame)
            nodes = tuple(body.nodes)
        return ir.Region(params=(value,), body=nodes, result=result)

    def arity(self, function: Static, kind: str, allowed: tuple[int, ...], span: tree.Span) -> int:
        recipe = function.recipe if isinstance(function, Instance) else function
        if not isinstance(recipe, Recipe):
            raise self.error("E352", f"a {kind} is needed here, found {describe(function)}", span)
        count = len(recipe.component.inputs)
        if count not in allowed:
            forms = {"mask": "(i, j) or (j)", "score": "(s), (s, i, j) or (s, h, i, j)"}[kind]
            raise self.error("E352", f"a {kind} takes {forms}, and {describe(function)} takes {count} inputs", span, Note("declared here", recipe.component.name.span))
        return count

    def index_call(self, function: Static, name: str, args: Sequence[ir.Value], span: tree.Span, frame: Frame) -> ir.Value | bool:
        """Write an index function's body here; parameters it has belong to an instance of that name."""
        assert frame.builder is not None
        if isinstance(function, Recipe):
            builder = self.builder(function, frame.builder, name, inline=True)
            builder.target = frame.builder.real
            result = self.run(function, builder, args, {}, span)
            if builder.has_weights():
                if name in frame.builder.children:
                    raise self.error("E338", f"`{frame.builder.name}` already has weights called `{name}`", span, help="bind the score to a name of its own, or make it `shared`")
                frame.builder.children[name] = builder
        elif isinstance(function, Instance):
            result = self.apply_inline(function, args, {}, span, frame)
        else:
            raise self.error("E352", f"an index function is needed here, found {describe(function)}", span)
        return result if isinstance(result, bool) else self.as_tensor(result, span, frame)


def layers_with(pattern: Pattern, has: Sequence[bool]) -> Expr:
    """How many layers are of the slots that `has` marks."""
    if all(has):
        return pattern.count
    if not pattern.cycle:
        return sum((n for (_, n), h in zip(pattern.slots, has, strict=True) if h), start=const(0))
    period = sum((n for _, n in pattern.slots), start=const(0))
    rounds, left = apply("floor_div", pattern.count, period), apply("mod", pattern.count, period)
    total, before = const(0), const(0)
    for (_, n), h in zip(pattern.slots, has, strict=True):
        if h:
            total = total + rounds * n + apply("minimum", apply("maximum", left - before, const(0)), n)
        before = before + n
    return total
