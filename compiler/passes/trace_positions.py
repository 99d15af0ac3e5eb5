"""How far along an input's axis each value looks.

For each value there are *bounds*: the entry at some position depends on the input's positions up to a linear form of it. Shifts, windows,
splits and attention change the form; a reduction over the axis lifts it to the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...grammar.tree import Span
from .. import ir
from ..dims import ONE, ZERO, Expr, const
from ..ir import REST, Axis, Label, Module, Node, Region, Value
from .position_forms import Form, at_most, highest, number, position, positive
from .read_indices import UNKNOWN, Range, exactly, key_bounds, range_of, sees_ahead


@dataclass(frozen=True, slots=True)
class Cause:
    """The operation that lets something later in, in words."""

    what: str
    span: Span


@dataclass(frozen=True, slots=True)
class Bound:
    """Entries depend on positions of `source` up to `form`; `certain` if they really do, as far as operations go."""

    source: str
    form: Form
    certain: bool = True
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Info:
    bounds: tuple[Bound, ...] = ()
    range: Range = UNKNOWN


NOTHING = Info()


def _union(groups: Iterable[tuple[Bound, ...]]) -> tuple[Bound, ...]:
    """All bounds, without those that another one implies."""
    kept: list[Bound] = []
    for bound in dict.fromkeys(b for group in groups for b in group):
        if any(_implies(other, bound) for other in kept):
            continue
        kept = [other for other in kept if not _implies(bound, other)]
        kept.append(bound)
    return tuple(kept)


def _implies(one: Bound, other: Bound) -> bool:
    """Whether `one` allows all that `other` does."""
    if one.source != other.source or (other.certain and not one.certain):
        return False
    difference = other.form - one.form
    return not difference.terms and at_most(difference, number(ZERO), ())


# ---------------------------------------------------------------- the interpreter


class Tracer:
    def __init__(self) -> None:
        self.sizes: dict[Label, Expr] = {}

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
                self.call(_one(module.child(node.target)), node.args, node.outs, env)
            case ir.Route():
                self.call(_one(module.child(node.target)), (node.x, *node.args), node.outs, env)
                chosen = self.drop(_bounds(env, (node.index, node.weight)), _axis(node.index, node.choice), None)
                env[node.out] = Info(_union((env[node.out].bounds, chosen)))
            case ir.Fold():
                self.fold(node, module, env)
            case ir.Attend():
                env[node.out] = Info(self.attend(node, env))
            case ir.Split() | ir.Unstack():
                self.pieces(node, env)
            case _:
                info = Info(self.bounds(node, env), range_of(node, {v: env[v].range for v in ir.operands(node) if v in env}))
                env.update((v, info if k == 0 else Info(info.bounds)) for k, v in enumerate(node.outs))

    # ------------------------------------------------ modules

    def call(self, target: Module, args: Sequence[Value], outs: Sequence[Value], env: dict[Value, Info]) -> None:
        infos = self.applied(target, args, [env.get(v, NOTHING) for v in args], outs)
        env.update(zip(outs, infos, strict=True))

    def applied(self, target: Module, args: Sequence[Value], infos: Sequence[Info], outs: Sequence[Value]) -> list[Info]:
        """What is known of a call's results."""
        inside: dict[Value, Info] = {}
        back: dict[Label, Label] = {}
        for inner, arg, info in zip(target.inputs, args, infos, strict=True):
            pairs = _positions(inner.type.axes, arg.type.axes)
            there = {outer.label: new.label for new, outer in pairs}
            back.update((new.label, outer.label) for new, outer in pairs)
            inside[inner] = _relabel(info, there)
        self.module(target, inside)
        results: list[Info] = []
        for inner, out in zip(target.outputs, outs, strict=True):
            named = {new.label: outer.label for new, outer in _positions(inner.type.axes, out.type.axes)}
            results.append(_relabel(inside.get(inner, NOTHING), {**back, **named}))
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
                state = [_union((old, new.bounds)) for old, new in zip(state, results, strict=True)]
            if [_forms(b) for b in state] == [_forms(b) for b in before]:
                break
            if round_ >= 4:
                state = [self.widened(old, new, out) for old, new, out in zip(before, state, node.outs, strict=True)]
        env.update((out, Info(b)) for out, b in zip(node.outs, state, strict=True))

    def widened(self, old: tuple[Bound, ...], new: tuple[Bound, ...], out: Value) -> tuple[Bound, ...]:
        known = _forms(old)
        return _union([self.everything(b, out.type.axes) if (b.source, b.form, b.certain) not in known else (b,) for b in new])

    def everything(self, bound: Bound, axes: Iterable[Axis]) -> tuple[Bound, ...]:
        form = bound.form
        for axis in axes:
            form = form.highest_along(axis)
        return (replace(bound, form=form),)

    # ------------------------------------------------ operations

    def bounds(self, node: Node, env: Mapping[Value, Info]) -> tuple[Bound, ...]:
        """The bounds of a node's results."""
        found = _bounds(env, dict.fromkeys(ir.operands(node)))
        if not found:
            return ()
        match node:
            case ir.Rename():
                mapping = dict(zip(node.old, node.new, strict=True))
                return tuple(replace(b, form=b.form.relabel(mapping)) for b in found)
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
                return self.move(found, node.over, turned, Cause(f"`flip` along `{node.over.name}`", node.span))
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
                return self.move(found, node.over, number(ZERO), None)
            case _:
                return self.moved(node, found, env)

    def moved(self, node: Node, found: tuple[Bound, ...], env: Mapping[Value, Info]) -> tuple[Bound, ...]:
        """Operations that move entries along an axis."""
        match node:
            case ir.Unflatten():
                form, stride = number(ZERO), ONE
                for axis in reversed(node.axes):
                    form, stride = form + position(axis.label).scaled(stride), stride * axis.size
                return self.move(found, node.over, form, None)
            case ir.Flatten():
                return tuple(b for bound in found for b in self.flatten(node, bound))
            case ir.Pad():
                return self.move(found, node.over, position(node.over).shifted(ZERO - node.before), None)
            case ir.Slice():
                cause = Cause(f"a range of `{node.over.name}` that starts at {node.start}", node.span)
                return self.move(found, node.over, position(node.over).shifted(node.start), cause)
            case ir.Roll():
                return self.roll(node, found)
            case ir.Unfold():
                form = position(node.over).scaled(node.stride) + position(node.window.label).scaled(node.dilation)
                return self.move(found, node.over, form, Cause(f"windows of {node.window.size} along `{node.over.name}`", node.span))
            case ir.Concat():
                offset, pieces = ZERO, []
                for arg in node.args:
                    back = position(node.over).shifted(ZERO - offset)
                    pieces.append(self.move(_bounds(env, (arg,)), node.over, back, None))
                    offset = offset + arg.type.axis(node.over).size
                return _union(pieces)
            case ir.Take():
                return self.take(node, env)
            case ir.ScatterAdd():
                return self.scatter(node, found)
            case _:
                return found

    def pieces(self, node: ir.Split | ir.Unstack, env: dict[Value, Info]) -> None:
        found, offset = _bounds(env, (node.x,)), ZERO
        for k, out in enumerate(node.outs):
            cause = Cause(f"a later piece of `{node.over.name}`", node.span)
            if isinstance(node, ir.Split):
                env[out] = Info(self.move(found, node.over, position(node.labels[k]).shifted(offset), cause))
                offset = offset + node.sizes[k]
            else:
                env[out] = Info(self.move(found, node.over, number(const(k)), cause))

    def move(self, bounds: tuple[Bound, ...], label: Label, form: Form, cause: Cause | None) -> tuple[Bound, ...]:
        """Substitute where along `label` an entry comes from; the cause is named if it may be later."""
        moved: list[Bound] = []
        for bound in bounds:
            if bound.form.has(label):
                new = bound.form.substitute(label, form)
                ahead = cause is not None and (len(form.terms) != 1 or positive(form.constant))
                bound = replace(bound, form=new, cause=cause if ahead else bound.cause)
            moved.append(bound)
        return _union((tuple(moved),))

    def drop(self, bounds: tuple[Bound, ...], axis: Axis, cause: Cause | None, certain: bool = True) -> tuple[Bound, ...]:
        """Every entry along an axis is read."""
        if axis.label is REST:
            for label, size in list(self.sizes.items()):
                if any(b.form.has(label) for b in bounds):
                    bounds = self.drop(bounds, Axis(label, size), cause, certain)
            return bounds
        dropped: list[Bound] = []
        for bound in bounds:
            if bound.form.has(axis.label):
                named = cause if axis.size.is_dynamic or bound.cause is None else bound.cause
                bound = replace(bound, form=bound.form.highest_along(axis), certain=bound.certain and certain, cause=named)
            dropped.append(bound)
        return _union((tuple(dropped),))

    def drop_all(self, bounds: tuple[Bound, ...], x: Value, labels: Iterable[Label], cause: Cause) -> tuple[Bound, ...]:
        for label in labels:
            bounds = self.drop(bounds, _axis(x, label), cause)
        return bounds

    def accumulate(self, bounds: tuple[Bound, ...], axis: Axis, cause: Cause) -> tuple[Bound, ...]:
        """Every entry up to this one is read: nothing new if later entries are bounded later."""
        falling = tuple(b for b in bounds if b.form.has(axis.label) and not positive(b.form.coefficient(axis.label)))
        rising = tuple(b for b in bounds if b not in falling)
        return _union((rising, self.drop(falling, axis, cause)))

    def flatten(self, node: ir.Flatten, bound: Bound) -> tuple[Bound, ...]:
        """Row-major: exact if the bound is a multiple of the flat position; else the outermost label's, with the worst of the others."""
        if not any(bound.form.has(label) for label in node.over):
            return (bound,)
        axes = [node.x.type.axis(label) for label in node.over]
        stride = ONE
        strides: list[Expr] = []
        for axis in reversed(axes):
            strides.insert(0, stride)
            stride = stride * axis.size
        outer = bound.form.coefficient(axes[0].label).divide(strides[0])
        form = bound.form.substitute(axes[0].label, number(ZERO))
        exact = True
        for axis, step in zip(axes[1:], strides[1:], strict=True):
            rest = form.coefficient(axis.label) - outer * step
            exact = exact and rest == ZERO
            form = form.substitute(axis.label, number(ZERO))
            form = form.shifted(rest * (axis.size - ONE) if positive(rest) else ZERO)
        merged = form + position(node.label).scaled(outer)
        if exact or outer != ZERO:
            return (replace(bound, form=merged),)
        return (replace(bound, form=merged, certain=False, cause=Cause(f"`flatten` of `{_names(node.over)}`", node.span)),)

    def roll(self, node: ir.Roll, found: tuple[Bound, ...]) -> tuple[Bound, ...]:
        """out[i] = x[i - shift]; what wraps around comes from the other end."""
        size = node.x.type.axis(node.over).size
        here = position(node.over).shifted(ZERO - node.shift)
        cause = Cause(f"`roll` along `{node.over.name}`", node.span)
        wrapped = here.shifted(size) if positive(node.shift) else here
        return _union((self.move(found, node.over, here, cause), self.move(found, node.over, wrapped, cause)))

    def take(self, node: ir.Take, env: Mapping[Value, Info]) -> tuple[Bound, ...]:
        found = _bounds(env, (node.x,))
        cause = Cause(f"indexing along `{_names(node.over)}`", node.span)
        for label, index in zip(node.over, node.indices, strict=True):
            axis = node.x.type.axis(label)
            if isinstance(index, Expr):
                at = index if not positive(ZERO - index) else axis.size + index
                found = self.move(found, label, number(at), cause)
                continue
            known = env.get(index, NOTHING).range
            chosen: list[Bound] = []
            for bound in found:
                forms = known.upper if positive(bound.form.coefficient(label)) else known.lower
                if not bound.form.has(label):
                    chosen.append(bound)
                elif forms:
                    best = _tightest([bound.form.substitute(label, f) for f in forms], node.out.type.axes)
                    chosen.append(replace(bound, form=best, cause=bound.cause or cause))
                else:
                    chosen += self.drop((bound,), axis, cause, certain=False)
            found = _union((tuple(chosen),))
        return _union((found, _bounds(env, [i for i in node.indices if isinstance(i, Value)])))

    def scatter(self, node: ir.ScatterAdd, found: tuple[Bound, ...]) -> tuple[Bound, ...]:
        cause = Cause(f"`scatter_add` over `{node.over.name}`", node.span)
        for value in (node.index, node.x):
            for axis in value.type.axes:
                if not node.base.type.has(axis.label):
                    found = self.drop(found, axis, cause, certain=False)
        return found

    # ------------------------------------------------ attention

    def attend(self, node: ir.Attend, env: Mapping[Value, Info]) -> tuple[Bound, ...]:
        """Queries see what they carry; keys and values as far as the mask goes."""
        feature = node.q.type.axis(node.feature)
        to_key = {node.k_axis: node.key}
        q = self.drop(_bounds(env, (node.q,)), feature, None)
        k = self.drop(tuple(replace(b, form=b.form.relabel(to_key)) for b in _bounds(env, (node.k,))), feature, None)
        v = tuple(replace(b, form=b.form.relabel(to_key)) for b in _bounds(env, (node.v,)))
        scale = _bounds(env, (node.scale,)) if isinstance(node.scale, Value) else ()
        scores = _union((q, k, scale))
        key = Axis(node.key, node.k.type.axis(node.k_axis).size)
        if node.score is not None:
            scores = self.region(node.score, (scores, (), (), ()), env)
        allowed: tuple[Bound, ...] = ()
        if node.mask is not None:
            allowed = self.region(node.mask, ((), ()), env)
        scores = self.limit(_union((scores, allowed)), node, key, env)
        if node.weights is not None:
            scores = self.region(node.weights, (scores,), env)
        return _union((scores, self.limit(v, node, key, env)))

    def region(self, region: Region, params: Sequence[tuple[Bound, ...]], env: Mapping[Value, Info]) -> tuple[Bound, ...]:
        inside = dict(env)
        for value, bounds in zip(region.params, params, strict=True):
            one = value.type.dtype == "int" and len(value.type.axes) == 1
            inside[value] = Info(bounds, exactly(position(value.type.labels[0])) if one else UNKNOWN)
        for node in region.body:
            info = Info(self.bounds(node, inside), range_of(node, {v: inside[v].range for v in ir.operands(node) if v in inside}))
            inside.update((v, info) for v in node.outs)
        return inside.get(region.result, NOTHING).bounds

    def limit(self, bounds: tuple[Bound, ...], node: ir.Attend, key: Axis, env: Mapping[Value, Info]) -> tuple[Bound, ...]:
        """Replace the key's position by the last key that the mask lets a query see."""
        if not any(b.form.has(key.label) for b in bounds):
            return bounds
        if node.mask is None:
            return self.drop(bounds, key, Cause("`attend` without a mask", node.span))
        forms = key_bounds(node.mask, {v: i.range for v, i in env.items()})
        query = node.q.type.axis(node.query)
        over_query = [f for f in forms if all(label is node.query for label, _ in f.terms)]
        place = node.mask.result.span or node.span
        limited: list[Bound] = []
        for bound in bounds:
            if not bound.form.has(key.label):
                limited.append(bound)
            elif over_query:
                best = _tightest([bound.form.substitute(key.label, f) for f in over_query], (query,))
                excess = highest(best - position(node.query), (query,))
                ahead = excess is None or excess > 0
                certain = bound.certain and (not ahead or sees_ahead(node.mask) is not None)
                limited.append(
                    replace(bound, form=best, certain=certain, cause=Cause("the mask of `attend`", place) if ahead else bound.cause)
                )
            else:
                seen = sees_ahead(node.mask)
                what = "a mask that depends on data" if seen is None else f"the mask lets query {seen[0]} see key {seen[1]}"
                limited += self.drop((bound,), key, Cause(what, place), certain=seen is not None)
        return _union((tuple(limited),))


def _tightest(forms: Sequence[Form], axes: Sequence[Axis]) -> Form:
    best = forms[0]
    for form in forms[1:]:
        if at_most(form, best, axes):
            best = form
    return best


def _bounds(env: Mapping[Value, Info], values: Iterable[Value]) -> tuple[Bound, ...]:
    return _union(env[v].bounds for v in values if v in env)


def _forms(bounds: tuple[Bound, ...]) -> set[tuple[str, Form, bool]]:
    return {(b.source, b.form, b.certain) for b in bounds}


def _relabel(info: Info, mapping: Mapping[Label, Label]) -> Info:
    return Info(tuple(replace(b, form=b.form.relabel(mapping)) for b in info.bounds), info.range.relabel(mapping))


def _axis(value: Value, label: Label) -> Axis:
    return value.type.axis(label) if value.type.has(label) else Axis(label, ONE)


def _names(labels: Iterable[Label]) -> str:
    return ", ".join(label.name for label in labels)


def _one(child: ir.Child | ir.Stack | ir.Bank) -> Module:
    assert not isinstance(child, ir.Stack)
    return child.module


def _positions(inner: tuple[Axis, ...], outer: tuple[Axis, ...]) -> list[tuple[Axis, Axis]]:
    """Axes of an input and of its argument that correspond; what `...` takes keeps its labels."""
    at = next((k for k, a in enumerate(inner) if a.label is REST), None)
    if at is None:
        return list(zip(inner, outer, strict=False))
    after = len(inner) - at - 1
    return [*zip(inner[:at], outer, strict=False), *(zip(inner[at + 1 :], outer[len(outer) - after :], strict=True) if after else ())]
