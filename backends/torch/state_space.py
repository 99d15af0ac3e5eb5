"""Recurrences whose states are outer products and are read by products: y[t] = query[t] . h[t], h[t] = a[t] h[t - 1] + key[t] u[t].

No state but one for each chunk of the sequence is made: inside a chunk, y is attention with decaying weights ("Transformers are SSMs",
arXiv:2405.21060, section 6). Where a differs in each entry of the keys (gated linear attention, arXiv:2312.06635, section 4), what is left of a
token at another is no number but a vector, and a product of matrices only where it goes through a point between the two: chunks are halved
until one token is left, and the second half of each part reads the first by way of the border. No factor is over 1, none is divided by.
Without factors the states before the chunks are a running sum."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import cast

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.ir import REST, Label, Type, Value
from ...grammar.frozen import frozen
from ..python.code import Assign, Code, Do, Var, call, method
from ..python.find_sites import find_sites
from ..python.layouts import Layout, Tensor, sizes_of
from ..python.write_body import BodyWriter
from .cache.nodes import held, recurrence_start, with_cache
from .contractions import with_time
from .pointwise import to_dtype


@frozen(kw_only=True, eq=False)
class StateSpace(ir.Op):
    """The sum over `inside` of query * h, with h[t] = a[t] * h[t - 1] + key[t] * u[t] along `over` (no a: 1); `state` is the type of h.

    `inside` is an axis of key and query, and of a or not, `wide` one of u alone. With an `entry`, h goes on from the call before, if there is a cache."""

    a: Value | None
    u: Value
    key: Value
    query: Value
    over: Label
    inside: Label
    wide: Label
    state: Type
    entry: str


def read_states_by_chunks(program: ir.Program) -> ir.Program:
    """Requires: a verified program. Ensures: a linear recurrence of outer products that only a product reads, with factors that are surely
    positive, is one StateSpace, and so is a running sum of outer products, whose factors are 1. Leaves alone: states that are read otherwise."""
    if not any(isinstance(n, ir.LinearRecurrence | ir.Along) for m in ir.walk(program.root) for n in m.body):
        return program
    bounds = _Bounds(program.root)
    return replace(program, root=ir.rewrite(program.root, lambda module: _rewritten(module, bounds)))


def _rewritten(module: ir.Module, bounds: _Bounds) -> ir.Module:
    made = {out: n for n in module.body for out in n.outs}
    reads = Counter(v for n in module.body for v in ir.operands(n))
    reads.update(ir.results(module))
    gone: set[ir.Node] = set()
    new: dict[ir.Node, ir.Node] = {}
    for node in module.body:
        found = _read_out(node, made, reads, bounds) if isinstance(node, ir.Einsum) else None
        if found is not None:
            new[node] = cast(ir.Node, found[0])
            gone |= found[1]
    if not new:
        return module
    return replace(module, body=tuple(new.get(n, n) for n in module.body if n not in gone))


def _read_out(
    node: ir.Einsum, made: dict[Value, ir.Node], reads: Counter[Value], bounds: _Bounds
) -> tuple[StateSpace, set[ir.Node]] | None:
    """What stands in the place of a product that reads a state, and the nodes that go."""
    if len(node.args) != 2 or len(node.over) != 1:
        return None
    inside = node.over[0]
    for h, query in (node.args, node.args[::-1]):
        run = made.get(h)
        if reads[h] != 1 or not (isinstance(run, ir.LinearRecurrence) or (isinstance(run, ir.Along) and run.function == "cumsum")):
            continue
        a, b = (run.a, run.b) if isinstance(run, ir.LinearRecurrence) else (None, run.x)
        outer = made.get(b)
        if not isinstance(outer, ir.Elementwise) or outer.function != "mul" or reads[b] != 1:
            continue
        match outer.args:
            case (Value() as x, Value() as y) if x.type.has(inside) != y.type.has(inside):
                key, u = (x, y) if x.type.has(inside) else (y, x)
            case _:
                continue
        kinds = [v.type for v in (a, key, query) if v is not None]
        wide = [x for x in u.type.labels if not any(kind.has(x) for kind in kinds)]
        if len(wide) != 1 or any(kind.has(REST) for kind in (*kinds, u.type)):
            continue
        if a is not None and not bounds.is_positive(a):
            continue
        if not key.type.has(run.over) or not u.type.has(run.over):
            continue
        made_now = StateSpace(
            outs=node.outs,
            span=node.span,
            a=a,
            u=u,
            key=key,
            query=query,
            over=run.over,
            inside=inside,
            wide=wide[0],
            state=h.type,
            entry=run.entry,
        )
        return made_now, {outer, run}
    return None


_Range = tuple[float, float, bool]
"""The least and the greatest that an entry can be, and whether the least itself is never reached."""
_ANY: _Range = (-math.inf, math.inf, False)


class _Bounds:
    """What can be said of the entries of tensors; of an input of a module, from what it is wherever the module is applied."""

    def __init__(self, root: ir.Module) -> None:
        self.made = {out: n for m in ir.walk(root) for n in m.body for out in n.outs}
        self.given: dict[Value, list[Value | None]] = {}
        by_module = find_sites(root).by_module
        for module in ir.walk(root):
            for site in by_module.get(id(module), []):
                for at, (value, arg) in enumerate(zip(module.inputs, site.args, strict=True)):
                    self.given.setdefault(value, []).append(None if at < site.carried else arg)

    def is_positive(self, value: Value) -> bool:
        """Whether all entries surely are; where they may round to zero, all is forgotten."""
        low, _, is_open = self.range(value)
        return low > 0 or (low == 0 and is_open)

    def range(self, operand: ir.Operand | None) -> _Range:
        if operand is None:
            return _ANY
        if isinstance(operand, Expr):
            constant = operand.constant
            return _ANY if constant is None else (float(constant), float(constant), False)
        match self.made.get(operand):
            case ir.Cast(x=x) | ir.Unflatten(x=x) | ir.Flatten(x=x) | ir.Rename(x=x) | ir.Expand(x=x) | ir.Transpose(x=x):
                return self.range(x)
            case ir.Index():
                return 0, math.inf, False
            case ir.Elementwise(function=function, args=args):
                return _of_function(function, [self.range(a) for a in args])
            case None if operand in self.given:
                each = [self.range(v) for v in self.given[operand]]
                return min(low for low, _, _ in each), max(high for _, high, _ in each), all(is_open for _, _, is_open in each)
            case _:
                return _ANY


def _of_function(function: str, args: list[_Range]) -> _Range:
    low, high, is_open = args[0]
    match function:
        case "exp":
            return 0, math.inf, True
        case "sigmoid":
            return 0, 1, True
        case "neg":
            return -high, -low, False
        case "add":
            return low + args[1][0], high + args[1][1], is_open or args[1][2]
        case "sub":
            return low - args[1][1], high - args[1][0], is_open
        case "pow" if low == high > 1:
            power, largest, _ = args[1]
            return low**power, low**largest if largest < 99 else math.inf, power == -math.inf
        case "pow" if low > 0 or (low == 0 and is_open):
            return 0, math.inf, True
        case _:
            return _ANY


def lower_state_space(w: BodyWriter, node: ir.Node) -> None:
    space = cast(StateSpace, node)
    labels = [x for x in (*space.out.type.labels, *space.state.labels) if x not in (space.over, space.wide, space.inside)]
    sizes = {a.label: a.size for v in (space.out.type, space.state) for a in v.axes}
    labels.sort(key=lambda x: not sizes[x].is_dynamic)
    batch: Layout = tuple((x,) for x in dict.fromkeys(labels))
    time = (space.over,)
    exact: ir.DType = "float32" if space.state.dtype == "float32" else "float"

    def operand(value: Value, *last: Label) -> Code:
        code = with_time(w, w.apart(w.read(value), space.over), (*batch, time, *((x,) for x in last)), space.out.type.axis(space.over))
        return to_dtype(w, code, value.type.dtype, exact)

    by_feature = space.a is not None and space.a.type.has(space.inside)
    operands = [
        *(() if space.a is None else (operand(space.a, *((space.inside,) if by_feature else ())),)),
        operand(space.u, space.wide),
        operand(space.key, space.inside),
        operand(space.query, space.inside),
    ]
    layout = (*batch, time, (space.wide,))
    helper = "outer_sums" if space.a is None else "feature_state_space" if by_feature else "state_space"
    w.helpers.add(helper)
    declared = tuple((x,) for x in space.out.type.labels)
    if not space.entry:
        y = Var(kind="y", hint=space.out.hint)
        w.statements.append(Assign((y, None), call(helper, *operands)))
        w.define(space.out, w.arranged(Tensor(y, layout), declared), declared, kind="y")
        return
    state = ir.LinearRecurrence(
        outs=(Value(space.state),), span=space.span, a=space.a or space.u, b=space.u, over=space.over, entry=space.entry
    )
    start = recurrence_start(w, state, (*batch, time, (space.inside,), (space.wide,)))
    both, h = Var(kind="y", hint=space.out.hint), Var(hint="h")
    w.statements.append(Assign((both, h), call(helper, *operands, start)))
    w.env[space.out] = Tensor(w.arranged(Tensor(both, layout), declared), declared, sizes_of(space.out.type))
    with_cache(w, [], [Do(method(held(space.entry), "copy_", h))])


HELPER = '''def state_space(decay: Tensor, u: Tensor, key: Tensor, query: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """y[t] = query[t] . h[t] with h[t] = decay[t] h[t - 1] + key[t] u[t], and the last h [..., n, p], by chunks
    (arXiv:2405.21060): decay [..., t], u [..., t, p], key and query [..., t, n]."""
    length = u.shape[-2]
    if length == 1:
        h = key.mT @ u + (0 if h is None else decay[..., None] * h)
        return query @ h, h
    size = min(64 if key.shape[-1] * u.shape[-1] < 2**14 else 128, length)  # the larger the states, the fewer
    rest = -length % size
    with without_autocast(u):
        steps = decay.clamp(min=torch.finfo(decay.dtype).tiny).log()
        if rest:
            steps, u, key, query = F.pad(steps, (0, rest)), *(F.pad(x, (0, 0, 0, rest)) for x in (u, key, query))
        steps = steps.unflatten(-1, (-1, size))
        u, key, query = (x.unflatten(-2, (-1, size)) for x in (u, key, query))
        past = torch.ones(size, size, dtype=torch.bool, device=u.device).tril()
        fade = steps[..., None].expand(*steps.shape, size).masked_fill(~past.tril(-1), 0).cumsum(-2)
        fade = fade.masked_fill(~past, float("-inf")).exp()  # [..., chunk, t, t']: what is left of t' at t
        since = steps.cumsum(-1).exp()  # what is left at t of the state before the chunk
        added = key.mT @ (u * fade[..., -1, :, None])
        states: list[Tensor] = []
        h = torch.zeros_like(added[..., 0, :, :]) if h is None else h
        for kept, new in zip(since[..., -1].unbind(-1), added.unbind(-3), strict=True):
            states.append(h)
            h = kept[..., None, None] * h + new
        y = (query @ key.mT * fade) @ u + query @ torch.stack(states, -3) * since[..., None]
    return y.flatten(-3, -2)[..., :length, :], h'''

SUMS = '''def outer_sums(u: Tensor, key: Tensor, query: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """y[t] = query[t] . h[t] with h[t] = h[t - 1] + key[t] u[t], and the last h [..., n, p], by chunks; without gradients 512
    tokens after the other. u [..., t, p], key and query [..., t, n]. A length that torch.export leaves open is one chunk."""
    length = u.shape[-2]
    if length == 1:
        h = key.mT @ u + (0 if h is None else h)
        return query @ h, h
    known = isinstance(length, int)
    if known and length > 512 and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        parts = []
        for v, k, q in zip(u.split(512, -2), key.split(512, -2), query.split(512, -2), strict=True):
            y, h = outer_sums(v, k, q, h)
            parts.append(y)
        assert h is not None
        return torch.cat(parts, -2), h
    size = min(64, length) if known else length
    with without_autocast(u):
        if rest := -length % size:
            u, key, query = (F.pad(x, (0, 0, 0, rest)) for x in (u, key, query))
        u, key, query = (x.unflatten(-2, (-1, size)).contiguous() for x in (u, key, query))
        added = key.mT @ u
        start = torch.zeros_like(added[..., :1, :, :]) if h is None else h[..., None, :, :]
        states = torch.cat((start, added), -3).cumsum(-3)
        y = (query @ key.mT).tril() @ u + query @ states[..., :-1, :, :]
    return y.flatten(-3, -2)[..., :length, :], states[..., -1, :, :]'''

BY_FEATURE = '''def feature_state_space(decay: Tensor, u: Tensor, key: Tensor, query: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """y[t] = query[t] . h[t] with h[t] = decay[t] h[t - 1] + key[t] u[t], and the last h [..., n, p] (after
    arXiv:2312.06635): chunks read the state before them, second halves of chunks the first halves, and so on with halves of
    halves; decay, key and query [..., t, n], u [..., t, p]."""
    length = u.shape[-2]
    if length == 1:
        h = key.mT @ u + (0 if h is None else decay.mT * h)
        return query @ h, h
    size = 2
    while size < min(64, length):
        size *= 2
    with without_autocast(u):
        steps = decay.clamp(min=torch.finfo(decay.dtype).tiny).log()
        if rest := -length % size:
            steps, u, key, query = (F.pad(x, (0, 0, 0, rest)) for x in (steps, u, key, query))
        y = (query * key).sum(-1, keepdim=True) * u
        half = 1
        while half < size:
            (before, after), (v, _), (k, _), (_, q) = (x.unflatten(-2, (-1, 2, half)).unbind(-3) for x in (steps, u, key, query))
            read = (q * kept_since(after)) @ (k * kept_until_end(before)).mT @ v
            y = y + F.pad(read, (0, 0, half, 0)).flatten(-3, -2)
            half *= 2
        steps, u, key, query = (x.unflatten(-2, (-1, size)) for x in (steps, u, key, query))
        since = kept_since(steps)
        added = (key * kept_until_end(steps)).mT @ u
        states: list[Tensor] = []
        h = torch.zeros_like(added[..., 0, :, :]) if h is None else h
        for kept, new in zip(since[..., -1, :].unbind(-2), added.unbind(-3), strict=True):
            states.append(h)
            h = kept[..., None] * h + new
        y = y + ((query * since) @ torch.stack(states, -3)).flatten(-3, -2)
    return y[..., :length, :], h


def kept_since(steps: Tensor) -> Tensor:
    """What is left at t of what there was before the part: steps [..., t, n] are logarithms."""
    return steps.cumsum(-2).exp()


def kept_until_end(steps: Tensor) -> Tensor:
    """What is left of t at the end of the part."""
    return F.pad(steps, (0, 0, 0, 1))[..., 1:, :].flip(-2).cumsum(-2).flip(-2).exp()'''
