"""How far along an input's axis each value looks.

For each value there are *bounds*: the entry at some position depends on the input's positions up to a linear form of it. Shifts, windows,
splits and attention change the form; a reduction over the axis lifts it to the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .. import ir
from ..dims import ONE, ZERO, Expr, const
from ..ir import REST, Axis, Label, Module, Node, Region, Value
from .position_bounds import NOTHING, Bound, Bounds, Cause, Info, Support, doubted, drop, limit, move, relabel, union
from .position_forms import Form, highest, number, position, positive
from .position_supports import Supports, elsewhere
from .read_indices import UNKNOWN, Range, counted, exactly, range_of, sees_ahead

# ---------------------------------------------------------------- the interpreter


class Tracer:
    def __init__(self) -> None:
        self.sizes: dict[Label, Expr] = {}
        self.nodes: dict[Value, Node] = {}
        self.ranges: dict[Value, Range] = {}
        self.supports = Supports(self.nodes, self.ranges)

    def module(self, module: Module, env: dict[Value, Info]) -> None:
        """Fill in what is known of every value of a module; its inputs are in `env` already."""
        for node in module.body:
            self.node(node, module, env)

    def node(self, node: Node, module: Module, env: dict[Value, Info]) -> None:
        for value in node.outs:
            self.sizes.update((a.label, a.size) for a in value.type.axes)
        match node:
            case ir.Call():
                target = node.target if isinstance(node.target, Module) else _one(module.child(node.target))
                self.call(target, node.args, node.outs, env)
            case ir.Pairwise():
                self.pairwise(node, module, env)
            case ir.Route():
                self.call(_one(module.child(node.target)), (node.x, *node.args), node.outs, env)
                chosen = self.drop(_bounds(env, (node.index, node.weight)), _axis(node.index, node.choice), None)
                env[node.out] = Info(union((env[node.out].bounds, chosen)))
            case ir.Fold():
                self.fold(node, module, env)
            case ir.Scan():
                self.scan(node, module, env)
            case ir.Attend():
                env[node.out] = Info(self.attend(node, env))
            case ir.Split() | ir.Unstack():
                self.pieces(node, env)
            case _:
                env.update(self.infos(node, env))

    # ------------------------------------------------ modules

    def call(self, target: Module, args: Sequence[Value], outs: Sequence[Value], env: dict[Value, Info]) -> None:
        infos = self.applied(target, args, [env.get(v, NOTHING) for v in args], outs)
        env.update(zip(outs, infos, strict=True))

    def pairwise(self, node: ir.Pairwise, module: Module, env: dict[Value, Info]) -> None:
        """Each of the bank sees its slice."""
        bank = module.child(node.target)
        assert isinstance(bank, ir.Bank)
        parts, outs = ([Value(v.type.without(bank.axis.label), v.hint, v.span) for v in vs] for vs in (node.args, node.outs))
        infos = self.applied(bank.module, parts, [env.get(v, NOTHING) for v in node.args], outs)
        env.update(zip(node.outs, (Info(i.bounds) for i in infos), strict=True))

    def applied(self, target: Module, args: Sequence[Value], infos: Sequence[Info], outs: Sequence[Value]) -> list[Info]:
        """What is known of a call's results."""
        inside: dict[Value, Info] = {}
        back: dict[Label, Label] = {}
        for inner, arg, info in zip(target.inputs, args, infos, strict=True):
            pairs = _positions(inner.type.axes, arg.type.axes)
            there = {outer.label: new.label for new, outer in pairs}
            back.update((new.label, outer.label) for new, outer in pairs)
            inside[inner] = relabel(info, there)
            self.ranges[inner] = inside[inner].range
        self.module(target, inside)
        results: list[Info] = []
        for inner, out in zip(target.outputs, outs, strict=False):
            named = {new.label: outer.label for new, outer in _positions(inner.type.axes, out.type.axes)}
            results.append(relabel(inside.get(inner, NOTHING), {**back, **named}))
            self.sizes.update((a.label, a.size) for a in out.type.axes)
        return results

    def fold(self, node: ir.Fold, module: Module, env: dict[Value, Info]) -> None:
        """Apply the slots until what is carried changes no more; what keeps growing reaches everything."""
        stack = module.child(node.target)
        assert isinstance(stack, ir.Stack)
        known = [env.get(v, NOTHING) for v in node.args]
        state = [info.bounds for info in known[: node.carried]]
        for round_ in range(8):
            before = list(state)
            for (slot, _), positions in zip(stack.slots, node.inputs, strict=True):
                infos = [Info(state[p]) if p < node.carried else known[p] for p in positions]
                results = self.applied(slot, [node.args[p] for p in positions], infos, node.outs)
                state = [union((old, new.bounds)) for old, new in zip(state, results, strict=False)]
            if [_forms(b) for b in state] == [_forms(b) for b in before]:
                break
            if round_ >= 4:
                state = [self.widened(old, new, out) for old, new, out in zip(before, state, node.outs, strict=False)]
        env.update((out, Info(b)) for out, b in zip(node.outs, state, strict=False))
        if node.collected:
            env.update(self.collected(node, stack, [Info(b) for b in state] + known[node.carried :]))

    def collected(self, node: ir.Fold, stack: ir.Stack, known: Sequence[Info]) -> dict[Value, Info]:
        """What further results of the layers see, once what is carried is known."""
        found: dict[Value, list[Bounds]] = {}
        for at, ((slot, _), positions) in enumerate(zip(stack.slots, node.inputs, strict=True)):
            further = {
                c.outputs[at]: (out, _of_one_layer(out, c)) for c, out in zip(node.collected, node.outs[node.carried :], strict=True)
            }
            pairs = [further[k] for k in range(node.carried, len(slot.outputs))]
            outs = [*node.outs[: node.carried], *(one for _, one in pairs)]
            results = self.applied(slot, [node.args[p] for p in positions], [known[p] for p in positions], outs)
            for (out, _), info in zip(pairs, results[node.carried :], strict=True):
                found.setdefault(out, []).append(info.bounds)
        return {out: Info(union(bounds)) for out, bounds in found.items()}

    def scan(self, node: ir.Scan, module: Module, env: dict[Value, Info]) -> None:
        """What is carried into a position has seen all earlier ones; in reverse, all later ones."""
        target = node.target if isinstance(node.target, Module) else _one(module.child(node.target))
        axis = next(v.type.axis(node.over) for v in node.args[: node.given] if v.type.has(node.over))
        cause = Cause(f"`scan`{' backwards' if node.reverse else ''} over `{node.over.name}`", node.span)
        parts = [Value(v.type.without(node.over), v.hint, v.span) if k < node.given else v for k, v in enumerate(node.args)]
        outs = [Value(v.type.without(node.over), v.hint, v.span) for v in node.outs]
        known = [env.get(v, NOTHING) for v in node.args]
        state = [info.bounds for info in known[: node.carried]]
        results: list[Info] = []
        for round_ in range(8):
            before = list(state)
            results = self.applied(target, parts, [*map(Info, state), *known[node.carried :]], outs)
            before_this = position(node.over).shifted(ZERO - ONE)
            new = [
                self.drop(r.bounds, axis, cause)
                if node.reverse
                else move(self.accumulate(r.bounds, axis, cause), node.over, before_this, None)
                for r in results[: node.carried]
            ]
            state = [union((old, b)) for old, b in zip(state, new, strict=True)]
            if [_forms(b) for b in state] == [_forms(b) for b in before]:
                break
            if round_ >= 4:
                state = [self.widened(old, b, out) for old, b, out in zip(before, state, node.outs, strict=False)]
        env.update((out, Info(self.drop(b, axis, cause))) for out, b in zip(node.outs, state, strict=False))
        env.update((out, Info(r.bounds)) for out, r in zip(node.outs[node.carried :], results[node.carried :], strict=True))

    def widened(self, old: Bounds, new: Bounds, out: Value) -> Bounds:
        known = _forms(old)
        return union([self.everything(b, out.type.axes) if (b.source, b.forms, b.certain) not in known else (b,) for b in new])

    def everything(self, bound: Bound, axes: Iterable[Axis]) -> Bounds:
        for axis in axes:
            bound = bound.each(lambda f, axis=axis: f.highest_along(axis))  # type: ignore[misc]
        return (bound,)

    # ------------------------------------------------ operations

    def infos(self, node: Node, env: Mapping[Value, Info]) -> dict[Value, Info]:
        """What is known of a node's results."""
        self.ranges[node.out] = range_of(node, self.ranges)
        if isinstance(node, ir.Top):
            self.ranges[node.outs[1]] = counted(node.x.type.axis(node.over).size)
        self.nodes.update((v, node) for v in node.outs)
        support, shown = self.supports.of(node, env)
        bounds = self.bounds(node, env)
        lost = not support and not shown and self.supports.loses(node, bounds, env)
        return {v: Info(bounds, self.ranges.get(v, UNKNOWN), support, shown, lost) for v in node.outs}

    def bounds(self, node: Node, env: Mapping[Value, Info]) -> Bounds:
        """The bounds of a node's results."""
        found = _bounds(env, dict.fromkeys(ir.operands(node)))
        if not found:
            return ()
        if isinstance(node, ir.Einsum | ir.Elementwise):
            found = self.limited(node, env)
        match node:
            case ir.Rename():
                mapping = dict(zip(node.old, node.new, strict=True))
                return tuple(b.each(lambda f: f.relabel(mapping)) for b in found)
            case ir.Reduce():
                return self.drop_all(found, node.x, node.over, Cause(f"`{node.function}` over `{_names(node.over)}`", node.span))
            case ir.Einsum():
                for label in node.over:
                    axis = next(_axis(v, label) for v in node.args if v.type.has(label) or label is REST)
                    found = self.drop(found, axis, Cause(f"the sum over `{label.name}`", node.span))
                return found
            case ir.Along(function="flip"):
                size = node.x.type.axis(node.over).size
                turned = number(size - ONE) - position(node.over)
                return move(found, node.over, turned, Cause(f"`flip` along `{node.over.name}`", node.span))
            case ir.Along(function="cumsum"):
                return self.accumulate(found, node.x.type.axis(node.over), Cause(f"`cumsum` along `{node.over.name}`", node.span))
            case ir.LinearRecurrence():
                return self.accumulate(found, node.out.type.axis(node.over), Cause("`linear_recurrence`", node.span))
            case ir.Along():
                return self.drop(found, node.x.type.axis(node.over), Cause(f"`{node.function}` along `{node.over.name}`", node.span))
            case ir.Top():
                return self.drop(found, node.x.type.axis(node.over), Cause(f"`top` over `{node.over.name}`", node.span))
            case ir.CrossEntropy():
                return self.drop_all(found, node.logits, node.logits.type.labels, Cause("`cross_entropy`", node.span))
            case ir.Squeeze():
                return move(found, node.over, number(ZERO), None)
            case _:
                return self.moved(node, found, env)

    def limited(self, node: ir.Einsum | ir.Elementwise, env: Mapping[Value, Info]) -> Bounds:
        """The operands' bounds, each where the others let it through."""
        values = [a for a in node.args if isinstance(a, Value)]
        if isinstance(node, ir.Einsum) or node.function == "mul":
            everywhere = tuple(s for v in values for s in env.get(v, NOTHING).support)
            lost = [env.get(v, NOTHING).lost for v in values]
            limited = [limit(_bounds(env, (v,)), everywhere) for v in values]
            return union(doubted(b) if any(lost[:k] + lost[k + 1 :]) else b for k, b in enumerate(limited))
        if node.function == "add" and len(values) == 2:  # what is added to minus infinity counts for nothing
            shown = [env.get(v, NOTHING).shown for v in values]
            return union(limit(_bounds(env, (v,)), other) for v, other in zip(values, reversed(shown), strict=True))
        if node.function == "where":
            condition, yes, no = node.args
            assert isinstance(condition, Value)
            given = env.get(condition, NOTHING)
            sides: list[tuple[Bounds, bool]] = []
            for side, holds in ((yes, self.supports.truth(condition, True) or given.support), (no, self.supports.truth(condition, False))):
                part = limit(_bounds(env, (side,)), holds) if isinstance(side, Value) else ()
                sides.append((part, bool(holds or (given.bounds and not given.lost))))
            parts = [_bounds(env, (condition,))]
            for (part, sure), (other, _) in zip(sides, reversed(sides), strict=True):  # what both sides see is seen in any case
                both = {(b.source, b.forms) for b in other if b.certain}
                parts += [(b,) if sure or (b.source, b.forms) in both else doubted((b,)) for b in part]
            return union(parts)
        return _bounds(env, values)

    def moved(self, node: Node, found: Bounds, env: Mapping[Value, Info]) -> Bounds:
        """Operations that move entries along an axis."""
        match node:
            case ir.Unflatten():
                form, stride = number(ZERO), ONE
                for axis in reversed(node.axes):
                    form, stride = form + position(axis.label).scaled(stride), stride * axis.size
                return move(found, node.over, form, None)
            case ir.Flatten():
                return tuple(self.flatten(node, bound) for bound in found)
            case ir.Pad():
                return move(found, node.over, position(node.over).shifted(ZERO - node.before), None)
            case ir.Slice():
                cause = Cause(f"a range of `{node.over.name}` that starts at {node.start}", node.span)
                return move(found, node.over, position(node.over).shifted(node.start), cause)
            case ir.Roll():
                return self.roll(node, found)
            case ir.Unfold():
                form = position(node.over).scaled(node.stride) + position(node.window.label).scaled(node.dilation)
                return move(found, node.over, form, Cause(f"windows of {node.window.size} along `{node.over.name}`", node.span))
            case ir.Concat():
                offset, pieces = ZERO, []
                for arg in node.args:
                    back = position(node.over).shifted(ZERO - offset)
                    pieces.append(move(_bounds(env, (arg,)), node.over, back, None))
                    offset = offset + arg.type.axis(node.over).size
                return union(pieces)
            case ir.Take():
                return self.take(node, env)
            case ir.ScatterAdd():
                return self.scatter(node, env)
            case _:
                return found

    def pieces(self, node: ir.Split | ir.Unstack, env: dict[Value, Info]) -> None:
        whole, offset = env.get(node.x, NOTHING), ZERO
        support, shown = elsewhere(whole.support, (node.over,)), elsewhere(whole.shown, (node.over,))
        lost = not support and not shown and bool(whole.support or whole.shown or whole.lost)
        for k, out in enumerate(node.outs):
            cause = Cause(f"a later piece of `{node.over.name}`", node.span)
            start = number(const(k))
            if isinstance(node, ir.Split):
                start, offset = position(node.labels[k]).shifted(offset), offset + node.sizes[k]
            env[out] = Info(move(whole.bounds, node.over, start, cause), UNKNOWN, support, shown, lost)

    def drop(self, bounds: Bounds, axis: Axis, cause: Cause | None, certain: bool = True) -> Bounds:
        """Every entry along an axis is read; along `...`, all that it stands for."""
        if axis.label is not REST:
            return drop(bounds, axis, cause, certain)
        for label in dict.fromkeys(label for b in bounds for f in b.forms for label, _ in f.terms):
            bounds = drop(bounds, Axis(label, self.sizes[label]), cause, certain)
        return bounds

    def drop_all(self, bounds: Bounds, x: Value, labels: Iterable[Label], cause: Cause) -> Bounds:
        for label in labels:
            bounds = self.drop(bounds, _axis(x, label), cause)
        return bounds

    def accumulate(self, bounds: Bounds, axis: Axis, cause: Cause) -> Bounds:
        """Every entry up to this one is read: nothing new if later entries are bounded later."""
        falls = [any(f.has(axis.label) and not positive(f.coefficient(axis.label)) for f in b.forms) for b in bounds]
        falling = tuple(b for b, fall in zip(bounds, falls, strict=True) if fall)
        rising = tuple(b for b, fall in zip(bounds, falls, strict=True) if not fall)
        return union((rising, self.drop(falling, axis, cause)))

    def flatten(self, node: ir.Flatten, bound: Bound) -> Bound:
        """Row-major: exact if the bound is a multiple of the flat position; else the outermost label's, with the worst of the others."""
        if not any(bound.has(label) for label in node.over):
            return bound
        axes = [node.x.type.axis(label) for label in node.over]
        certain = bound.certain and all(f.has(axes[0].label) for f in bound.forms)
        merged = bound.each(lambda f: _flattened(f, axes, node.label))
        cause = bound.cause if certain else Cause(f"`flatten` of `{_names(node.over)}`", node.span)
        return replace(merged, certain=certain, cause=cause)

    def roll(self, node: ir.Roll, found: Bounds) -> Bounds:
        """out[i] = x[i - shift]; what wraps around comes from the other end."""
        size = node.x.type.axis(node.over).size
        here = position(node.over).shifted(ZERO - node.shift)
        cause = Cause(f"`roll` along `{node.over.name}`", node.span)
        wrapped = here.shifted(size) if positive(node.shift) else here
        return union((move(found, node.over, here, cause), move(found, node.over, wrapped, cause)))

    def take(self, node: ir.Take, env: Mapping[Value, Info]) -> Bounds:
        own = {label: Label(label.name) for label in node.over}  # an index may run along an axis that is indexed too
        found = tuple(b.each(lambda f: f.relabel(own)) for b in _bounds(env, (node.x,)))
        cause = Cause(f"indexing along `{_names(node.over)}`", node.span)
        for outer, index in zip(node.over, node.indices, strict=True):
            label = own[outer]
            axis = Axis(label, node.x.type.axis(outer).size)
            if isinstance(index, Expr):
                at = index if not positive(ZERO - index) else axis.size + index
                found = move(found, label, number(at), cause)
                continue
            known = env.get(index, NOTHING).range
            counted = known.never_negative(index.type.axes)
            chosen: list[Bound] = []
            for bound in found:
                if not bound.has(label):
                    chosen.append(bound)
                    continue
                forms = tuple(dict.fromkeys(g for f in bound.forms for g in _indexed(f, label, known)))
                if forms:
                    certain = bound.certain and not any(_is_loose(f, label, known) for f in bound.forms)
                    chosen.append(replace(bound.caused(label, cause), forms=forms[:4], certain=certain))
                if not forms or not counted:
                    chosen += self.drop((bound,), axis, cause if counted else _from_the_end(cause, label), certain=False)
            found = union((tuple(chosen),))
        return union((found, _bounds(env, [i for i in node.indices if isinstance(i, Value)])))

    def scatter(self, node: ir.ScatterAdd, env: Mapping[Value, Info]) -> Bounds:
        """What is added comes from anywhere along the axes that are summed, and along the one that it is spread over."""
        cause = Cause(f"`scatter_add` over `{node.over.name}`", node.span)
        found = _bounds(env, (node.index, node.x))
        for axis in dict.fromkeys((*node.index.type.axes, *node.x.type.axes)):
            if axis.label is node.over or not node.base.type.has(axis.label):
                found = self.drop(found, axis, cause, certain=False)
        return union((_bounds(env, (node.base,)), found))

    # ------------------------------------------------ attention

    def attend(self, node: ir.Attend, env: Mapping[Value, Info]) -> Bounds:
        """Queries see what they carry; keys and values as far as the mask goes."""
        feature = node.q.type.axis(node.feature)
        to_key = {node.k_axis: node.key}
        q = self.drop(_bounds(env, (node.q,)), feature, None)
        k = self.drop(tuple(b.each(lambda f: f.relabel(to_key)) for b in _bounds(env, (node.k,))), feature, None)
        v = tuple(b.each(lambda f: f.relabel(to_key)) for b in _bounds(env, (node.v,)))
        scale = _bounds(env, (node.scale,)) if isinstance(node.scale, Value) else ()
        scores = Info(union((q, k, scale)))
        key = Axis(node.key, node.k.type.axis(node.k_axis).size)
        if node.score is not None:
            scores = self.region(node.score, (scores, NOTHING, NOTHING, NOTHING), env)
        allowed = NOTHING if node.mask is None else self.region(node.mask, (NOTHING, NOTHING), env)
        seen = drop(self.visible(union((scores.bounds, allowed.bounds)), node, key, allowed.support), key, None)
        if node.weights is not None:  # they may read tensors along the keys; those of hidden keys are zero
            own = self.region(node.weights, (Info(seen),), env).bounds
            seen = drop(self.visible(own, node, key, allowed.support), key, None)
        return union((seen, drop(self.visible(v, node, key, allowed.support), key, None)))

    def region(self, region: Region, params: Sequence[Info], env: Mapping[Value, Info]) -> Info:
        inside = dict(env)
        for value, info in zip(region.params, params, strict=True):
            one = value.type.dtype == "int" and len(value.type.axes) == 1
            self.ranges[value] = exactly(position(value.type.labels[0])) if one else UNKNOWN
            inside[value] = replace(info, range=self.ranges[value])
            self.sizes.update((a.label, a.size) for a in value.type.axes)
        for node in region.body:
            inside.update(self.infos(node, inside))
        return inside.get(region.result, NOTHING)

    def visible(self, bounds: Bounds, node: ir.Attend, key: Axis, support: Support) -> Bounds:
        """What the mask says of how far keys and values are seen."""
        if node.mask is not None:
            bounds = limit(bounds, tuple((label, f) for label, f in support if label is key.label))
        query = node.q.type.axis(node.query)
        found: list[Bound] = []
        for bound in bounds:
            ahead = [highest(f - position(query.label), (query, key)) for f in bound.forms]
            if all(a is None or a > 0 for a in ahead) and any(f.has(key.label) for f in bound.forms):
                bound = self.blamed(bound, node, all(f.has(key.label) for f in bound.forms))
            found.append(bound)
        return tuple(found)

    def blamed(self, bound: Bound, node: ir.Attend, unlimited: bool) -> Bound:
        """A bound that the mask does not keep behind the query, with the mask as its cause; certain if a counterexample says so."""
        if node.mask is None:
            return replace(bound, cause=Cause("`attend` without a mask", node.span))
        found = sees_ahead(node.mask)
        what = "the mask of `attend`"
        if unlimited:
            what = "a mask that depends on data" if found is None else f"the mask lets query {found[0]} see key {found[1]}"
        return replace(bound, certain=bound.certain and found is not None, cause=Cause(what, node.mask.result.span or node.span, node.span))


def _bounds(env: Mapping[Value, Info], values: Iterable[Value]) -> Bounds:
    return union(env[v].bounds for v in values if v in env)


def _forms(bounds: Bounds) -> set[tuple[str, tuple[Form, ...], bool]]:
    return {(b.source, b.forms, b.certain) for b in bounds}


def _axis(value: Value, label: Label) -> Axis:
    return value.type.axis(label) if value.type.has(label) else Axis(label, ONE)


def _indexed(form: Form, label: Label, known: Range) -> Sequence[Form]:
    """What a form over positions along `label` is at most, when they are given by an index of known range."""
    if not form.has(label):
        return (form,)
    return [form.substitute(label, f) for f in (known.upper if positive(form.coefficient(label)) else known.lower)]


def _is_loose(form: Form, label: Label, known: Range) -> bool:
    """Whether no entry of the index may come as far as the form then says."""
    return form.has(label) and (known.loose if positive(form.coefficient(label)) else known.loose_below)


def _from_the_end(cause: Cause, label: Label) -> Cause:
    what = f"{cause.what} by a tensor that may be negative, which reads from the end"
    return Cause(what, cause.span, remedy=f"write `{label.name} = maximum(..., 0)`")


def _flattened(form: Form, axes: Sequence[Axis], label: Label) -> Form:
    """A form over several positions as one over their row-major position, raised to what it can be at most."""
    stride = ONE
    strides: list[Expr] = []
    for axis in reversed(axes):
        strides.insert(0, stride)
        stride = stride * axis.size
    outer = form.coefficient(axes[0].label).divide(strides[0])
    form = form.substitute(axes[0].label, number(ZERO))
    for axis, step in zip(axes[1:], strides[1:], strict=True):
        rest = form.coefficient(axis.label) - outer * step
        form = form.substitute(axis.label, number(ZERO))
        form = form.shifted(rest * (axis.size - ONE) if positive(rest) else ZERO)
    return form + position(label).scaled(outer)


def _names(labels: Iterable[Label]) -> str:
    return ", ".join(label.name for label in labels)


def _one(child: ir.Child | ir.Stack | ir.Bank) -> Module:
    assert not isinstance(child, ir.Stack)
    return child.module


def _of_one_layer(out: Value, how: ir.Collect) -> Value:
    """What one layer gives: without the axis of the layers."""
    return out if how.sum else Value(ir.Type(out.type.axes[1:], out.type.dtype), out.hint, out.span)


def _positions(inner: tuple[Axis, ...], outer: tuple[Axis, ...]) -> list[tuple[Axis, Axis]]:
    """Axes of an input and of its argument that correspond; what `...` takes keeps its labels."""
    at = next((k for k, a in enumerate(inner) if a.label is REST), None)
    if at is None:
        return list(zip(inner, outer, strict=False))
    after = len(inner) - at - 1
    return [*zip(inner[:at], outer, strict=False), *(zip(inner[at + 1 :], outer[len(outer) - after :], strict=True) if after else ())]
