"""Applying whatever can be applied, and index functions: masks, scores and weights as regions of an attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..grammar import tree
from ..grammar.frozen import mutable
from . import ir
from .bodies import INDEX_KINDS
from .diagnostics import Note
from .dims import const
from .index_inputs import forms_of
from .scope import Frame
from .stacks import Stacks
from .values import BankRecipe, Instance, MaskOp, Pattern, Recipe, Static, describe


@mutable
class Applier(Stacks):
    """`apply` applies a recipe or an instance; the rest makes regions of masks, scores and weights."""

    def apply(
        self, target: Static, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame
    ) -> Static:
        """Apply a recipe or an instance to tensors."""
        assert frame.builder is not None
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

    def apply_recipe(
        self, recipe: Recipe, args: Sequence[Static], named: Mapping[str, tuple[Static, tree.Span]], span: tree.Span, frame: Frame
    ) -> Static:
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

    def score_region(
        self, score: Static, name: str, scores: ir.Type, heads: tuple[ir.Axis, ...], i: ir.Type, j: ir.Type, span: tree.Span, frame: Frame
    ) -> ir.Region:
        assert frame.builder is not None
        builder = frame.builder
        values = [builder.own(ir.Value(t, n, span)) for t, n in ((scores, "s"), (ir.Type(heads, "int"), "h"), (i, "i"), (j, "j"))]
        arity = self.arity(score, "score", (1, 3, 4), span)
        args = {1: values[:1], 3: [values[0], *values[2:]], 4: values}[arity]
        with builder.region() as body:
            result = self.as_tensor(self.index_call(score, name, args, span, frame), span, frame)
            nodes = tuple(body.nodes)
        if result.type.dtype == "bool":
            raise self.error(
                "E351", f"a score is a number, and {describe(score)} gives {result.type!r}", span, help="what says yes or no is a mask"
            )
        if any(not scores.has(a.label) for a in result.type.axes):
            raise self.error("E351", f"a score must keep the axes of the scores {scores!r}, and gives {result.type!r}", span)
        return ir.Region(params=tuple(values), body=nodes, result=result)

    def weights_region(self, weights: Static, name: str, scores: ir.Type, span: tree.Span, frame: Frame) -> ir.Region:
        assert frame.builder is not None
        builder = frame.builder
        value = builder.own(ir.Value(scores, "s", span))
        recipe = weights.recipe if isinstance(weights, Instance) else weights
        if isinstance(recipe, Recipe):
            self.check_places(recipe.component, "weights")
        with builder.region() as body:
            result = self.as_tensor(self.index_call(weights, name, [value], span, frame), span, frame)
            nodes = tuple(body.nodes)
        return ir.Region(params=(value,), body=nodes, result=result)

    def arity(self, function: Static, kind: str, allowed: tuple[int, ...], span: tree.Span) -> int:
        recipe = function.recipe if isinstance(function, Instance) else function
        if not isinstance(recipe, Recipe):
            place = (
                f"in `attend(q, k, v, mask, score)` the {kind} comes {'fourth' if kind == 'mask' else 'fifth'}; what comes later is named"
            )
            raise self.error("E352", f"a {kind} is needed here, found {describe(function)}", span, help=place)
        count = len(recipe.component.inputs)
        if count not in allowed:
            raise self.error(
                "E352",
                f"a {kind} takes {forms_of(kind)}, and {describe(function)} takes {count} inputs",
                span,
                Note("declared here", recipe.component.name.span),
            )
        self.check_places(recipe.component, kind)
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
                    raise self.error(
                        "E338",
                        f"`{frame.builder.name}` already has weights called `{name}`",
                        span,
                        help="bind the score to a name of its own, or make it `shared`",
                    )
                frame.builder.children[name] = builder
        elif isinstance(function, Instance):
            result = self.apply_inline(function, args, {}, span, frame)
        else:
            raise self.error("E352", f"an index function is needed here, found {describe(function)}", span)
        return result if isinstance(result, bool) else self.as_tensor(result, span, frame)
