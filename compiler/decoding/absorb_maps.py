"""Attention on what keys and values are made of, where that is kept.

With k = W c the scores are q . k = (W^T q) . c, and with v = U c the result is U (sum of weights * c): keys and values of all tokens so far
need not be made anew for a few queries ("DeepSeek-V2", arXiv:2405.04434, section 2.1.2). Both forms are one and the same function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...grammar.frozen import frozen
from .. import ir
from ..diagnostics import Diagnostics
from ..dims import ONE, ZERO, Expr
from ..ir import REST, Axis, Label, Module, Node, Program, Region, Type, Value
from ..operations import Body, scores_type
from .common import Length

_VIEWS = (ir.Rename, ir.Expand, ir.Transpose, ir.Unflatten, ir.Flatten, ir.Squeeze, ir.Split, ir.Slice)


@frozen
class Absorbed:
    """An attend and the nodes `path` that make its keys and values can give way to the nodes `absorbed`, which give `out`.

    In multiplications for each token so far, `once` is what the path costs, and `more` what the absorbed form costs beyond the attend, for
    each query: it is cheaper while queries * more < once."""

    path: tuple[Node, ...]
    absorbed: tuple[Node, ...]
    out: Value
    once: Expr
    more: Expr


def absorb_maps(program: Program) -> Program:
    """The program with every attend that can in its absorbed form, however many queries there are.

    Requires: a derived program. Ensures: the same results. Leaves alone: what is kept."""
    assert program.decoding is not None
    length = Length(program.decoding.rows, program.decoding.length)

    def change(module: Module) -> Module:
        found = find_absorbed(module, length)
        if not found:
            return module
        gone = {n for a in found.values() for n in a.path}
        body: list[Node] = []
        mapping: dict[Value, Value] = {}
        for node in module.body:
            if isinstance(node, ir.Attend) and node in found:
                body += found[node].absorbed
                mapping[node.out] = found[node].out
            elif node not in gone:
                body.append(ir.replace_values(node, mapping))
        return ir.replace_results(replace(module, body=tuple(body)), mapping)

    return replace(program, root=ir.rewrite(program.root, change))


def find_absorbed(module: Module, length: Length) -> dict[Node, Absorbed]:
    """The attends of a module whose keys are a linear map of what is kept, with their other form."""
    found: dict[Node, Absorbed] = {}
    for node in module.body:
        if isinstance(node, ir.Attend) and length.length in node.k.type.axis(node.k_axis).size.symbols:
            absorbed = _Absorber(node, module).run()
            if absorbed is not None:
                found[node] = absorbed
    return found


# ---------------------------------------------------------------- what keys and values are


@frozen
class _Kept:
    """`value`: what is kept, or a view of it. With a `weight`, it is mapped by that, summed over `inner`."""

    value: Value
    weight: Value | None = None
    inner: Label | None = None


class _Absorber:
    def __init__(self, node: ir.Attend, module: Module) -> None:
        self.node, self.module = node, module
        self.made = {v: n for n in module.body for v in n.outs}
        self.path: dict[Node, None] = {}
        self.forms: dict[Value, _Kept] = {}
        self.body = Body([], Diagnostics(), [])
        self.once = ZERO

    def run(self) -> Absorbed | None:
        pieces, v = self.pieces(self.node.k), self.form(self.node.v)
        if pieces is None or v is None or not any(p.weight is not None for p in pieces) or not self.is_private():
            return None
        out, more = self.attend(pieces, v)
        heads = self.heads()
        once = self.once.divide(heads)
        once, more = (self.once, more * heads) if once is None else (once, more)
        path = tuple(n for n in self.module.body if n in self.path)
        return Absorbed(path, tuple(self.body.nodes), out, once, more)

    def is_private(self) -> bool:
        """Whether nobody else reads what the path makes."""
        made = {v for n in self.path for v in n.outs}
        others = (n for n in self.module.body if n not in self.path and n is not self.node)
        return not any(v in made for n in others for v in ir.operands(n)) and not any(v in made for v in ir.results(self.module))

    def pieces(self, k: Value) -> list[_Kept] | None:
        """Keys as what is joined along the feature."""
        joined = self.made.get(k)
        if not isinstance(joined, ir.Concat) or joined.over is not self.node.feature or joined.entry:
            form = self.form(k)
            return None if form is None else [form]
        found = [self.form(v) for v in joined.args]
        self.path[joined] = None
        forms = [f for f in found if f is not None]
        return forms if len(forms) == len(found) else None

    def form(self, value: Value) -> _Kept | None:
        """A value as what is kept, or a linear map of it; none if it is neither."""
        if value not in self.forms:
            made = self._form(value)
            if made is None:
                return None
            self.forms[value] = made
        return self.forms[value]

    def _form(self, value: Value) -> _Kept | None:
        node = self.made.get(value)
        if node is None or isinstance(node, ir.Keep):
            return _Kept(value)
        if isinstance(node, _VIEWS):
            return self.view(node, value)
        if isinstance(node, ir.Call | ir.Einsum):
            return self.mapped(node)
        return None

    def view(self, node: Node, value: Value) -> _Kept | None:
        """A view of a mapped value is one of its weight; what is repeated for the heads need not be."""
        (x,) = ir.operands(node)
        source = self.form(x)
        if source is None:
            return None
        self.path[node] = None
        if source.weight is None:
            fits = len(node.outs) == 1 and all(source.value.type.has(label) for label in _named(node))
            return _Kept(self.viewed(node, source.value)[0]) if fits else None
        if not all(source.weight.type.has(label) for label in _named(node)):
            return None
        for old, new in zip(node.outs, self.viewed(node, source.weight), strict=True):
            self.forms[old] = _Kept(source.value, new, source.inner)
        return self.forms[value]

    def viewed(self, node: Node, x: Value) -> tuple[Value, ...]:
        body, span = self.body, node.span
        match node:
            case ir.Rename():
                return (body.rename(x, node.old, node.new, span),)
            case ir.Unflatten():
                return (body.unflatten(x, node.over, node.axes, span),)
            case ir.Flatten():
                return (body.flatten(x, node.over, node.label, span),)
            case ir.Squeeze():
                return (body.squeeze(x, node.over, span),)
            case ir.Slice():
                return (body.slice(x, node.over, node.start, node.stop, span),)
            case ir.Split():
                return body.split(x, node.over, node.sizes, node.labels, span, [f"{v.hint}_map" if v.hint else "" for v in node.outs])
            case _:
                return (x,)

    def mapped(self, node: ir.Call | ir.Einsum) -> _Kept | None:
        """A contraction of what is kept with a parameter, by itself or as a child's body."""
        inner = self.child_map(node) if isinstance(node, ir.Call) else self.own_map(node)
        if inner is None:
            return None
        weight, source, label = inner
        kept = self.form(source)
        if kept is None or kept.weight is not None or kept.value is not source:
            return None
        self.path[node] = None
        self.once = self.once + _size(weight.type.axes)
        return _Kept(source, weight, label)

    def own_map(self, node: ir.Einsum) -> tuple[Value, Value, Label] | None:
        params = {p.value for p in self.module.params}
        weight = next((v for v in node.args if v in params), None)
        source = next((v for v in node.args if v not in params), None)
        if weight is None or source is None or len(node.args) != 2 or len(node.over) != 1 or not source.type.has(node.over[0]):
            return None
        shared = set(weight.type.labels) & set(source.type.labels) - set(node.over)
        return None if shared or REST in weight.type.labels else (weight, source, node.over[0])

    def child_map(self, node: ir.Call) -> tuple[Value, Value, Label] | None:
        """A child that is a linear map of its last axis, read as its weight with the axes of the call's result."""
        child = self.module.child(node.target) if isinstance(node.target, str) else None
        if not isinstance(child, ir.Child) or len(node.args) != 1 or len(node.outs) != 1 or len(child.module.params) != 1:
            return None
        inner, (param,) = child.module, child.module.params
        nodes = [n for n in inner.body if not isinstance(n, ir.Rename | ir.Transpose)]
        (einsum,) = nodes if len(nodes) == 1 else (None,)
        if not isinstance(einsum, ir.Einsum) or param.value not in einsum.args or len(einsum.over) != 1 or len(einsum.args) != 2:
            return None
        own = [a for a in param.type.axes if a.label is not einsum.over[0]]
        last = einsum.out.type.axes[len(einsum.out.type.axes) - len(own) :]
        source, out = node.args[0], node.out
        if einsum.out is not inner.outputs[0] or [a.label for a in own] != [a.label for a in last] or len(own) >= len(out.type.axes):
            return None
        label = Label(source.type.labels[-1].name)
        outer = dict(zip((a.label for a in own), out.type.axes[len(out.type.axes) - len(own) :], strict=True))
        axes = tuple(outer.get(a.label, Axis(label, a.size)) for a in param.type.axes)
        weight = Value(Type(axes, param.type.dtype), "", node.span)
        assert isinstance(node.target, str)
        self.body.nodes.append(ir.ChildParam(outs=(weight,), span=node.span, path=(node.target, param.name)))
        named = self.body.rename(weight, (label,), (source.type.labels[-1],), node.span)
        return named, source, source.type.labels[-1]

    # ------------------------------------------------ the absorbed form

    def attend(self, pieces: Sequence[_Kept], v: _Kept) -> tuple[Value, Expr]:
        """The result, and what the sums over features cost beyond the plain ones."""
        node, body, span = self.node, self.body, self.node.span
        main = next(k for k, p in enumerate(pieces) if p.weight is not None)
        queries = self.queries(pieces)
        sums = [self.per_head(x.type) for x in (*(p.value for p in pieces), v.value)]
        plain = [self.per_head(x.type) for x in (node.k, node.v)]
        extra: Value | None = None
        for k, piece in enumerate(pieces):
            if k != main:
                term = self.term(queries[k], piece)
                extra = term if extra is None else body.elementwise("add", (extra, term), span)
        query = self.towards(queries[main], pieces[main])
        values, fresh = v.value, None
        if v.inner is not None:
            fresh = Label(v.inner.name)
            values = body.rename(values, (v.inner,), (fresh,), span)
        out = self.attended(query, pieces[main], values, node.score if extra is None else self.score(extra))
        if v.weight is not None and v.inner is not None and fresh is not None:
            out = body.einsum((out, body.rename(v.weight, (v.inner,), (fresh,), span)), (fresh,), span)
        if out.type.labels != node.out.type.labels:
            out = body.transpose(out, node.out.type.labels, span)
        more = ZERO
        for size in sums:
            more = more + size
        for size in plain:
            more = more - size
        return out, more

    def attended(self, query: Value, keys: _Kept, values: Value, score: Region | None) -> Value:
        """The attend on what is kept. Its mask is the plain one's, as a backend may have made it."""
        node = self.node
        assert keys.inner is not None
        scores = scores_type(query.type, keys.value.type, node.query, node.k_axis, node.key, keys.inner)
        own = [a for a in values.type.axes if a.label is not node.k_axis and not scores.has(a.label)]
        out = Value(Type((*query.type.without(keys.inner).axes, *own), values.type.dtype), node.out.hint, node.span)
        self.body.nodes.append(replace(node, outs=(out,), q=query, k=keys.value, v=values, feature=keys.inner, score=score))
        return out

    def per_head(self, kind: Type) -> Expr:
        """Elements of one token, for one of the heads."""
        heads = {a.label for a in self.node.q.type.axes if a.label is not self.node.feature}
        return _size(a for a in kind.axes if a.label not in heads and not a.size.is_dynamic)

    def heads(self) -> Expr:
        return _size(a for a in self.node.q.type.axes if a.label is not self.node.feature and not a.size.is_dynamic)

    def queries(self, pieces: Sequence[_Kept]) -> list[Value]:
        """The parts of the queries that meet the parts of the keys."""
        node = self.node
        if len(pieces) == 1:
            return [node.q]
        joined = self.made.get(node.q)
        sizes = tuple((p.weight or p.value).type.axis(node.feature).size for p in pieces)
        fits = isinstance(joined, ir.Concat) and joined.over is node.feature and not joined.entry
        if fits and isinstance(joined, ir.Concat) and tuple(v.type.axis(node.feature).size for v in joined.args) == sizes:
            if sum(node.q in ir.operands(n) for n in self.module.body) == 1 and node.q not in set(ir.results(self.module)):
                self.path[joined] = None
            return list(joined.args)
        labels = tuple(Label(node.feature.name) for _ in pieces)
        parts = self.body.split(node.q, node.feature, sizes, labels, node.span)
        return [self.body.rename(v, (label,), (node.feature,), node.span) for v, label in zip(parts, labels, strict=True)]

    def towards(self, query: Value, piece: _Kept) -> Value:
        """Queries mapped to where the keys come from."""
        assert piece.weight is not None
        return self.body.einsum((query, piece.weight), (self.node.feature,), self.node.span, "q_latent")

    def term(self, query: Value, piece: _Kept) -> Value:
        """A further part of the scores, scaled."""
        node, body, span = self.node, self.body, self.node.span
        over = node.feature
        if piece.inner is not None:
            query, over = self.towards(query, piece), piece.inner
        keys = body.rename(piece.value, (node.k_axis,), (node.key,), span)
        return body.elementwise("mul", (body.einsum((query, keys), (over,), span), node.scale), span, "bias")

    def score(self, extra: Value) -> Region:
        """What the score says, of all parts of it."""
        node, old = self.node, self.node.score
        inner = self.body.inner()
        first, *others = self.parameters() if old is None else old.params
        s = Value(first.type, first.hint, first.span)
        total = inner.elementwise("add", (s, extra), node.span)
        if old is None:
            return Region(params=(s, *others), body=tuple(inner.nodes), result=total)
        rest = ir.replace_region(Region(params=(), body=old.body, result=old.result), {first: total})
        return Region(params=(s, *others), body=(*inner.nodes, *rest.body), result=rest.result)

    def parameters(self) -> tuple[Value, ...]:
        """Of a score: the scores, then the number of the head, of the query and of the key."""
        node = self.node
        scores = scores_type(node.q.type, node.k.type, node.query, node.k_axis, node.key, node.feature)
        heads = tuple(a for a in scores.axes if a.label not in (node.query, node.key) and not a.size.is_dynamic)
        rows = [Value(Type((scores.axis(label),), "int"), "", node.span) for label in (node.query, node.key)]
        return Value(scores, "s", node.span), Value(Type(heads, "int"), "", node.span), *rows


def _size(axes: Iterable[Axis]) -> Expr:
    total = ONE
    for axis in axes:
        total = total * axis.size
    return total


def _named(node: Node) -> tuple[Label, ...]:
    """The axes that a view works on."""
    match node:
        case ir.Rename():
            return node.old
        case ir.Flatten():
            return node.over
        case ir.Unflatten() | ir.Squeeze() | ir.Split() | ir.Slice():
            return (node.over,)
        case _:
            return ()
