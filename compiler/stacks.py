"""Repetition and banks: stacks of layers, scans along an axis, copies of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..grammar import tree
from . import ir
from .builder import Builder, Emitted
from .diagnostics import Note
from .dims import Expr, apply, const
from .evaluate import Poison, Results
from .generalise import generalise_rest
from .instances import Instances
from .same_module import same_module
from .scope import Frame
from .values import BankRecipe, Instance, Pattern, Recipe, Static, describe


class Stacks(Instances):
    """Folds over layers and positions, and applications of banks."""

    def apply_stack(
        self, instance: Instance, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame
    ) -> Static:
        here = frame.builder
        pattern = instance.recipe
        assert here is not None and isinstance(pattern, Pattern)
        if instance.applied:
            raise self.error(
                "E340",
                f"the stack `{instance.name}` is applied twice",
                span,
                Note("bound here", instance.span),
                help="bind two stacks, one for each set of weights",
            )
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
            ir.Fold(
                outs=results,
                span=span,
                target=instance.name,
                args=(*values, *extra),
                carried=len(carried),
                inputs=inputs,
                collected=collected,
            )
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
                    raise self.error(
                        "E388",
                        f"the layers emit `{name}` as {kind!r} and as {slot[name].value.type!r}",
                        slot[name].span,
                        Note("and here", first.span),
                    )
            if not first.is_loss:
                kind = ir.Type((ir.Axis(ir.Label("layer"), layers_with(pattern, [p is not None for p in places])), *kind.axes), kind.dtype)
            every[name] = first
            collected.append(ir.Collect(places, first.is_loss))
            values.append(ir.Value(kind, name, span))
        return tuple(collected), every, tuple(values)

    def check_carried(self, recipe: Recipe, outs: tuple[ir.Value, ...], values: Sequence[ir.Value], span: tree.Span) -> None:
        for k, out in enumerate(outs):
            if k >= len(values) or not self.alike(out.type, values[k].type):
                found = f"{values[k].type!r}" if k < len(values) else "nothing"
                remedy = _other_dtype(values[k].type, out.type) if k < len(values) else None
                raise self.error("E341", f"a layer's result must be like its input: `{recipe.name}` takes {found} and gives {out.type!r}", span,
                                 Note("the layer", recipe.component.name.span), remedy=remedy)  # fmt: skip

    def alike(self, a: ir.Type, b: ir.Type) -> bool:
        """Whether two types have the same axes, of the same sizes, and one dtype."""
        return a.labels == b.labels and a.dtype == b.dtype and all(self.equal(x.size, y.size) for x, y in zip(a.axes, b.axes, strict=True))

    def apply_scan(
        self, target: Static, name: str, args: Sequence[ir.Value], over: ir.Label, reverse: bool, span: tree.Span, frame: Frame
    ) -> Static:
        """One component along an axis: results that match the first inputs are carried, further ones are stacked along it."""
        here = frame.builder
        assert here is not None
        if isinstance(target, Recipe):
            target = self.instance(name, target, frame, span)
        if not isinstance(target, Instance) or not isinstance(target.recipe, Recipe):
            raise self.error("E391", f"`scan` applies a component, found {describe(target)}", span)
        if here is not target.owner or here.inline or target.applied:
            raise self.error(
                "E340", f"`{target.name}` is scanned in the body that binds it, and once", span, Note("bound here", target.span)
            )
        target.applied = True
        sliced = [v.type.has(over) for v in args]
        if True not in sliced:
            raise self.error("E391", f"none of the inputs has the axis `{over}`", span)
        first = args[sliced.index(True)]
        builder = self.builder(target.recipe, here, target.name)
        parts = [here.own(ir.Value(v.type.without(over), v.hint, v.span)) for v in args]
        outs, names, _ = self.run_module(target.recipe, builder, parts, {}, span, frame)
        if builder.emits:
            raise self.error(
                "E391",
                f"`{target.name}` is scanned, and what it surfaces has no place",
                next(iter(builder.emits.values())).span,
                Note("scanned here", span),
                help="return it: further results are stacked along the axis",
            )
        carried = min(sliced.index(True), len(outs))
        for out, start in zip(outs[:carried], args, strict=False):
            if not self.alike(out.type, start.type):
                raise self.error(
                    "E391",
                    f"what is carried must stay alike: it starts as {start.type!r} and becomes {out.type!r}",
                    span,
                    Note("the component", target.recipe.component.name.span),
                    remedy=_other_dtype(start.type, out.type) or _not_carried(over),
                )
        module = builder.finish(outs, names)
        if ir.has_effects(module):
            help_ = "a scan carries what its component returns: return it instead"
            raise self.error("E391", f"`{target.name}` is scanned and keeps a state or running statistics", span, help=help_)
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
            ir.Scan(
                outs=tuple(results),
                span=span,
                target=target.name if builder.has_weights() else module,
                args=(*args, *outer),
                carried=carried,
                given=len(args),
                over=over,
                reverse=reverse,
            )
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
            raise self.error(
                "E342",
                f"`{instance.name}` is a bank: its input needs the axis `{label}`",
                span,
                help="or choose experts with `route(x, bank, index, weight)`",
            )
        inner = [ir.Value(v.type.without(label), v.hint, v.span) for v in values]
        outs, outer = self.bank_module(instance, inner, span, frame)
        if len(outs) != 1:
            raise self.error(
                "E372", "an expert has one result", span, Note("bound here", instance.span), help="join several: `stack`, `concat`"
            )
        results = tuple(ir.Value(ir.Type((bank.axis, *o.type.axes), o.type.dtype), o.hint, span) for o in outs)
        here.body.nodes.append(ir.Pairwise(outs=results, span=span, target=instance.name, args=(*values, *outer)))
        return results[0]

    def bank_module(
        self, instance: Instance, values: Sequence[ir.Value], span: tree.Span, frame: Frame
    ) -> tuple[tuple[ir.Value, ...], list[ir.Value]]:
        here = frame.builder
        bank = instance.recipe
        assert here is not None and isinstance(bank, BankRecipe)
        if here is not instance.owner or here.inline:
            raise self.error("E340", "a bank is applied in the body that binds it", span, Note("bound here", instance.span))
        builder = self.builder(bank.recipe, here, instance.name)
        for value in values:
            here.own(value)
        outs, names, rest = self.run_module(bank.recipe, builder, values, {}, span, frame)
        module = generalise_rest(builder.finish(outs, names), rest)
        if instance.applied:
            self.same_copies(instance, here.children.get(instance.name), module, span)
        if not instance.applied:
            if not builder.has_weights() and self.diagnostics.failed:
                raise Poison  # they may be on the line that is wrong
            if not builder.has_weights():
                help_ = "apply the component itself: all copies would do the same"
                raise self.error(
                    "E342", f"the copies of the bank `{instance.name}` have no weights", span, Note("bound here", instance.span), help=help_
                )
            if ir.has_effects(module):
                help_ = "keep it outside of the bank"
                raise self.error(
                    "E342",
                    f"the copies of the bank `{instance.name}` keep a state or running statistics",
                    span,
                    Note("bound here", instance.span),
                    help=help_,
                )
            self.add_child(here, ir.Bank(name=instance.name, module=module, axis=bank.axis), instance)
        instance.applied = True
        return outs, [here.local(v) for v in builder.captured]

    def same_copies(
        self, instance: Instance, first: ir.Child | ir.Stack | ir.Bank | Builder | None, again: ir.Module, span: tree.Span
    ) -> None:
        """A second application must find in the copies what the first one found."""
        if isinstance(first, ir.Bank) and not same_module(first.module, again) and not self.diagnostics.failed:
            raise self.error(
                "E342",
                f"the copies of the bank `{instance.name}` would do something else here than where it was first applied",
                span,
                Note("bound here", instance.span),
                help="apply it to tensors of the same axes, sizes and types; only lengths that the data decide may differ",
            )


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


def _other_dtype(start: ir.Type, result: ir.Type) -> str | None:
    """What to write where only the dtype changes from one application to the next."""
    if start.labels != result.labels or start.dtype == result.dtype:
        return None
    return f"start it as `{result.dtype}(...)`, or give it back as it came: `like(new, old)`"


def _not_carried(over: ir.Label) -> str:
    return f"what stands before the first input with the axis `{over}` is carried, as far as there are results: what stays the same stands behind"
