"""FlexAttention: masks and scores as functions of the indices of a batch, a head, a query and a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...compiler import ir
from ...compiler.dims import ZERO, Expr, sym
from ...compiler.ir import Label, Type, Value
from ...grammar.frozen import mutable
from ..python.attention_axes import AttendAxes, attend_axes, dropout_rate, has_score
from ..python.code import Assign, Binary, Block, Choice, Code, Note, Return, Statement, Subscript, Text, Var, binary, call
from ..python.find_sites import Sites, find_sites
from ..python.prepare_masks import MaskPlan
from ..python.write_body import BodyWriter
from .pointwise import device, elementwise_code, reference, to_dtype

NONE = Text("None")
INDICES = ("b", "h", "i", "j", "s")
"""What functions of indices call their arguments: no variable that they read is called so."""
BATCH, HEAD, QUERY, KEY, SCORE = map(Text, INDICES)
SMALLEST = 16
"""Features that a head must have: the kernel multiplies tiles of that."""

RUNS_FLEX = '''def runs_flex(x: Tensor) -> bool:
    """Whether FlexAttention has a kernel for such tensors, with gradients; before torch 2.8, not for heads of any size."""
    return x.is_cuda and x.dtype != torch.float64 and torch.__version__ >= "2.8"


@torch.compile
def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_mask: BlockMask,
    score_mod: Callable[..., Tensor] | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """FlexAttention, with a kernel of its own for each score and mask; what autocast left in another type follows the values."""
    q, k = q.to(v.dtype), k.to(v.dtype)
    return flex_attention(q, k, v, score_mod, block_mask, scale, enable_gqa)'''


# ---------------------------------------------------------------- what can be said so


def find_by_index(program: ir.Program) -> Callable[[ir.Attend, ir.Module], bool]:
    """Whether mask and score of an Attend in its module are functions of indices and of values known for each position, over slots of one
    sequence, and the kernel has no other way to say them but a tensor of all queries and keys."""
    sites = find_sites(program.root)

    def test(node: ir.Attend, module: ir.Module) -> bool:
        axes = attend_axes(node)
        if node.mask is None or not _fits(node, axes, program):
            return False
        own = _own_places(node, axes)
        if not _is_by_index(node.mask, own):
            return False
        if node.score is None or not has_score(node):
            return node.mask.result.type.has(node.query)  # one of the keys alone is small as it is
        known = [v for v in ir.free_values(node.score) if v.type.dtype in ("float", "float32")]
        return _is_by_index(node.score, own) and not any(_is_learned(v, module, sites, set()) for v in known)

    return test


def _fits(node: ir.Attend, axes: AttendAxes, program: ir.Program) -> bool:
    """Whether operands and weights are what the kernel takes: self attention of [b, heads, t, e], a plain softmax."""
    rate = dropout_rate(node.weights)
    if rate is None or rate.constant != 0 or len(axes.batch) != 1 or not axes.heads or not isinstance(node.scale, Expr):
        return False
    if len(axes.features) != 1 or any(axes.batch[0] not in v.type.labels for v in (node.q, node.k, node.v)):
        return False
    if any(node.v.type.has(label) != node.k.type.has(label) for label in axes.heads):
        return False
    rows, length = node.q.type.axis(node.query).size, node.k.type.axis(node.k_axis).size
    decoding = program.decoding
    now = length if decoding is None else length.substitute({decoding.length: sym(decoding.rows)})
    width = node.q.type.axis(node.feature).size.value()
    return rows == now and width is not None and width >= SMALLEST


def _own_places(node: ir.Attend, axes: AttendAxes) -> dict[Label, Code]:
    """The index of each axis of the scores; several axes of heads have one together."""
    return {axes.batch[0]: BATCH, **dict.fromkeys(axes.heads, HEAD), node.query: QUERY, node.key: KEY}


def _is_by_index(region: ir.Region, own: Mapping[Label, Code]) -> bool:
    """Whether the result is made of single entries of what it reads, at indices that are made of the region's own."""
    made = {out: n for n in region.body for out in n.outs}
    todo: list[tuple[Value, frozenset[Label]]] = [(region.result, frozenset(own))]
    done: set[tuple[Value, frozenset[Label]]] = set()
    while todo:
        value, places = todo.pop()
        if (value, places) in done or value in region.params:
            continue
        done.add((value, places))
        if not set(value.type.labels) <= places:
            return False
        match made.get(value):
            case None:
                where = [own.get(label) for label in value.type.labels]
                if {QUERY, KEY} <= {*where} or any(where.count(x) > 1 for x in where) or (HEAD in where and len(own) > 4):
                    return False
            case ir.Elementwise(args=args):
                todo += [(a, places) for a in args if isinstance(a, Value)]
            case ir.Cast(x=x) | ir.Transpose(x=x):
                todo.append((x, places))
            case ir.Rename(x=x, old=old):
                todo.append((x, places | {*old}))
            case ir.Expand(x=x):
                todo.append((x, places))
            case ir.Take(x=x, over=over, indices=indices):
                todo.append((x, places | {*over}))
                todo += [(i, places) for i in indices if isinstance(i, Value)]
            case ir.Full():
                pass
            case _:
                return False
    return True


def _is_learned(value: Value, module: ir.Module, sites: Sites, seen: set[Value]) -> bool:
    """Whether a value may depend on parameters, here or where the module is applied."""
    if value in seen:
        return False
    seen.add(value)
    if any(p.value is value for p in module.params):
        return any(p.value is value and p.trainable for p in module.params)
    if value in module.inputs:
        place = module.inputs.index(value)
        return any(_is_learned(site.args[place], site.caller, sites, seen) for site in sites.by_module.get(id(module), []))
    node = next((n for n in module.body if value in n.outs), None)
    if node is None:
        return False
    if isinstance(node, ir.ChildParam | ir.Fold | ir.Route | ir.Pairwise | ir.Scan):
        return True
    if isinstance(node, ir.Call):
        target = node.target if isinstance(node.target, ir.Module) else module.child(node.target).module  # type: ignore[union-attr]
        if any(p.trainable for m in ir.walk(target) for p in m.params):
            return True
    return any(_is_learned(v, module, sites, seen) for v in ir.operands(node))


# ---------------------------------------------------------------- written


@mutable
class _Entries:
    """Writes single entries of values: in each, an axis is at the place that is said."""

    w: BodyWriter
    made: Mapping[Value, ir.Node]
    scalars: dict[Value, Code]
    statements: list[Statement]
    done: dict[tuple[Value, frozenset[tuple[Label, Code]]], Code]

    def entry(self, value: Value, places: Mapping[Label, Code]) -> Code:
        if value in self.scalars:
            return self.scalars[value]
        key = (value, frozenset((label, places[label]) for label in value.type.labels if label in places))
        if key not in self.done:
            self.done[key] = self.written(value, places)
        return self.done[key]

    def written(self, value: Value, places: Mapping[Label, Code]) -> Code:
        match self.made.get(value):
            case None:
                t = self.w.apart(self.w.read(value), *value.type.labels)
                return Subscript(t.code, tuple(places[dim[0]] for dim in t.layout)) if t.layout else t.code
            case ir.Elementwise(function="maximum", args=(Value() as x, low)) if x in self.scalars and low == ZERO:
                return self.scalars[x]  # no slot is negative here
            case ir.Elementwise() as node:
                values = dict.fromkeys(a for a in node.args if isinstance(a, Value))
                return self.named(value, elementwise_code(self.w, node, {v: self.entry(v, places) for v in values}))
            case ir.Cast(x=x):
                return self.named(value, to_dtype(self.w, self.entry(x, places), x.type.dtype, value.type.dtype))
            case ir.Transpose(x=x) | ir.Expand(x=x):
                return self.entry(x, places)
            case ir.Rename(x=x, old=old, new=new):
                return self.entry(x, {**places, **{a: places[b] for a, b in zip(old, new, strict=True)}})
            case ir.Take(x=x, over=over, indices=indices):
                found = [self.entry(i, places) if isinstance(i, Value) else self.w.number(i) for i in indices]
                return self.entry(x, {**places, **dict(zip(over, found, strict=True))})
            case ir.Full(value=filling):
                return self.w.number(filling)
            case _:
                return self.w.refuse("a mask or a score that is no function of indices")

    def named(self, value: Value, code: Code) -> Code:
        var = Var(hint=value.hint)
        self.statements.append(Assign((var,), code))
        return var


def _function(name: Var, arguments: str, body: Sequence[Statement]) -> list[Statement]:
    head = Text(f"({', '.join(f'{a}: Tensor' for a in arguments)}) -> Tensor")
    return [Note(""), Block(head, "def", tuple(body), binds=(name,)), Note("")]


def write_score(w: BodyWriter, node: ir.Attend, axes: AttendAxes) -> tuple[list[Statement], Code]:
    """The score as a function of a score and its indices, and what to call it; none if scores stay as they are."""
    score = node.score
    if score is None or not has_score(node):
        return [], NONE
    made = {out: n for n in score.body for out in n.outs}
    scalars: dict[Value, Code] = dict(zip(score.params, (SCORE, HEAD, QUERY, KEY), strict=False))
    entries = _Entries(w=w, made=made, scalars=scalars, statements=[], done={})
    result = entries.entry(score.result, _own_places(node, axes))
    name = Var(hint="score")
    return _function(name, "sbhij", [*entries.statements, Return(result)]), name


def write_block_mask(w: BodyWriter, var: Var, plan: MaskPlan, value: Value, square: Type) -> list[Statement]:
    """`var` is the mask of the model by blocks, of which the kernel skips those that hide all; `square`: [batch, rows]."""
    query, key = (n.outs[0] for n in plan.nodes[:2])
    batch, rows = square.axes
    places = {batch.label: BATCH, query.type.labels[-1]: QUERY, key.type.labels[-1]: KEY}
    made = {out: n for n in plan.nodes[2:] for out in n.outs}
    entries = _Entries(w=w, made=made, scalars={query: QUERY, key: KEY}, statements=[], done={})
    always = [entries.entry(t, places) for t in plan.always]
    each, some = (any(t.type.has(batch.label) for t in terms) for terms in (plan.always, plan.given))
    many: Code = w.number(batch.size) if each or some else NONE
    result = _all(always)
    if plan.given:
        absent = [Binary("is", w.inputs[v], NONE) for v in sorted(plan.inputs, key=lambda v: v.serial)]
        none = binary("or", *absent)
        keep = Var(hint="keep")
        entries.statements.append(Assign((keep,), result))
        before = len(entries.statements)
        result = _all([keep, *(entries.entry(t, places) for t in plan.given)])
        if len(entries.statements) == before:
            result = Choice(none, keep, result)
        else:
            entries.statements.insert(before, Block(none, "if", (Return(keep),)))
        many = Choice(none, NONE, many) if some and not each else many
    name = Var(hint=f"{value.hint or 'mask'}_at")
    size = w.number(rows.size)
    make = call("create_block_mask", name, many, NONE, size, size, device=device(w))
    return [*_function(name, "bhij", [*entries.statements, Return(result)]), Assign((var,), make, kind="Tensor | BlockMask")]


def writes_functions(w: BodyWriter) -> bool:
    """Whether functions of indices stand in a module's body."""
    return bool(w.by_index) and any(isinstance(n, ir.Attend) for n in w.module.body)


def can_run(w: BodyWriter) -> Code:
    """Asked by the model, once: whether the kernel runs here, and all tokens so far are at hand."""
    w.helpers.add("runs_flex")
    able = call("runs_flex", reference(w, floating=True))
    return able if w.numbers.plans.program.decoding is None else Binary("and", Binary("is", w.slots, NONE), able)


def _all(codes: Sequence[Code]) -> Code:
    return binary("&", *codes)
