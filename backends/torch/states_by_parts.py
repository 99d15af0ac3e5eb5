"""Recurrences whose states are read by a product alone: made, run and read out some steps after the other.

What the recurrence reads is often far larger than what that is made of, as it has an axis more (arXiv:2312.00752, section 3.3.2): factors, what is
added and states then stand there for the steps of a part alone, and what gradients need of them is computed again on the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from ...compiler import ir
from ...compiler.ir import REST, Label, Value
from ...grammar.frozen import frozen
from ..python.code import Assign, Block, Code, Do, Items, Note, Range, Return, Statement, Subscript, Text, Unary, Var, call, method, number
from ..python.fold_values import reads_of
from ..python.layouts import Layout, Tensor, common_layout, place, sizes_of
from ..python.write_body import BodyWriter
from .cache.nodes import held, recurrence_start, with_cache
from .contractions import with_time

PART, START = Text("part"), Text("start")
_POINTWISE = (ir.Elementwise, ir.Cast, ir.Transpose)


@frozen(kw_only=True, eq=False)
class StatesByParts(ir.Op):
    """The result of a product that alone reads the states of a linear recurrence along `over`; `region` computes it, `given` are the values along
    `over` that it reads. With an `entry`, the states go on from the call before, if there is a cache."""

    given: tuple[Value, ...]
    region: ir.Region
    over: Label
    entry: str


def read_states_by_parts(program: ir.Program) -> ir.Program:
    """Requires: a verified program; outer products that go by chunks are found already. Ensures: a linear recurrence that only one product reads,
    and what it is made of entry by entry, are one StatesByParts. Leaves alone: states that are read otherwise; factors and additions that are at
    hand as they are."""
    return replace(program, root=ir.rewrite(program.root, _rewritten))


def _rewritten(module: ir.Module) -> ir.Module:
    if not any(isinstance(n, ir.LinearRecurrence) for n in module.body):
        return module
    made = {out: n for n in module.body for out in n.outs}
    reads = Counter(v for n in module.body for v in ir.operands(n))
    reads.update(ir.results(module))
    body = [*module.body]
    for read in module.body:
        found = _found(read, made, reads, module) if isinstance(read, ir.Einsum) else None
        if found is not None:
            gone = {n for n in found.region.body if n is not read}
            body = [cast(ir.Node, found) if n is read else n for n in body if n not in gone]
    return replace(module, body=tuple(body)) if len(body) != len(module.body) else module


def _found(read: ir.Einsum, made: dict[Value, ir.Node], reads: Counter[Value], module: ir.Module) -> StatesByParts | None:
    runs = [run for v in read.args if isinstance(run := made.get(v), ir.LinearRecurrence)]
    if len(runs) != 1 or not read.over or reads[runs[0].out] != 1:
        return None
    run, over = runs[0], runs[0].over
    kinds = [v.type for v in (run.a, run.b, run.out, read.out)]
    if any(kind.has(REST) or not kind.has(over) for kind in kinds) or not set(read.over) <= set(run.out.type.labels):
        return None
    inside = _made_inside(run, reads, module)
    if not inside:
        return None
    nodes = (*inside, run, read)
    own = {o for n in nodes for o in n.outs}
    outer = dict.fromkeys(v for n in nodes for v in ir.operands(n) if v not in own)
    given = tuple(v for v in outer if v.type.has(over))
    region = ir.Region(params=(), body=nodes, result=read.out)
    return StatesByParts(outs=read.outs, span=read.span, given=given, region=region, over=over, entry=run.entry)


def _made_inside(run: ir.LinearRecurrence, reads: Counter[Value], module: ir.Module) -> list[ir.Node]:
    """The nodes that make what a recurrence reads, each entry of others' entries, as large as the states and read by nothing else."""
    labels = set(run.out.type.labels)
    within = Counter((run.a, run.b))
    found: list[ir.Node] = []
    for node in reversed(module.body[: module.body.index(run)]):
        if isinstance(node, _POINTWISE) and labels <= set(node.out.type.labels) and within[node.out] == reads[node.out]:
            within.update(ir.operands(node))
            found.insert(0, node)
    return found


# ---------------------------------------------------------------- written


def lower_states_by_parts(w: BodyWriter, node: ir.Node) -> None:
    """A function of some steps, which a helper applies to one part after the other; written plainly where it would ask how many steps there are."""
    space = cast(StatesByParts, node)
    for value in dict.fromkeys(v for n in space.region.body for v in ir.operands(n)):
        if value in w.env and isinstance(var := w.read(value).code, Var) and var.kind in ("x", "y"):
            w.suggest(value, "each" if value in space.given else "fixed")
    tensors = [w.apart(w.read(v), space.over) for v in space.given]
    layouts = [t.layout for t in tensors]
    if len({place(layout, space.over) for layout in layouts}) > 1:
        layouts = [((space.over,), *(dim for dim in layout if dim != (space.over,))) for layout in layouts]
    at = place(layouts[0], space.over)
    codes = [w.arranged(t, layout) for t, layout in zip(tensors, layouts, strict=True)]
    inner = [c if isinstance(c, Var) else Var(hint=v.hint, kind="each") for c, v in zip(codes, space.given, strict=True)]
    outer, around, ranges, known = w.statements, dict(w.env), dict(w.ranges), w.known
    w.statements = [Assign(tuple(inner), PART if len(inner) > 1 else Subscript(PART, (number(0),)))]
    w.known = None
    for value, var, t, layout in zip(space.given, inner, tensors, layouts, strict=True):
        w.env[value] = Tensor(var, layout, t.sizes)
    run, state = _write_run(w, space, at)
    body = tuple(w.statements)
    w.statements, w.env, w.ranges, w.known = outer, around, ranges, known
    if _counts_steps(w, space, body):
        w.write(space.region.body)
        return
    start: Code = Text("None") if not space.entry else recurrence_start(w, run, state)
    function, h, y = Var(hint="read"), Var(hint="h"), Var(hint=space.out.hint)
    head = Text(f"({PART.text}: Sequence[Tensor], {START.text}: Tensor | None) -> tuple[Tensor, Tensor]")
    w.statements += [*([Note("")] if w.statements else []), Block(head, "def", body, binds=(function,)), Note("")]
    w.helpers |= {"states_by_parts", "linear_recurrence_from"}
    made = call("states_by_parts", function, Items(tuple(codes)), number(at), start)
    w.statements.append(Assign((y, h if space.entry else None), made))
    labels = [x for x in space.out.type.labels if x is not space.over]
    layout = tuple((x,) for x in (*labels[:at], space.over, *labels[at:]))
    w.env[space.out] = Tensor(y, layout, sizes_of(space.out.type))
    if space.entry:
        with_cache(w, [], [Do(method(held(space.entry), "copy_", h))])


def _write_run(w: BodyWriter, space: StatesByParts, at: int) -> tuple[ir.LinearRecurrence, Layout]:
    """The body of the function; the recurrence in it, and how its states lie."""
    run = next(n for n in space.region.body if isinstance(n, ir.LinearRecurrence))
    layout: Layout = ()
    for node in space.region.body:
        if node is not run:
            w.write([node])
            continue
        tensors = [w.apart(w.read(v), run.over) for v in (run.a, run.b)]
        layout = common_layout([t.layout for t in tensors], run.out.type.labels)
        operands = [with_time(w, t, layout, run.out.type.axis(run.over)) for t in tensors]
        w.define(run.out, call("linear_recurrence", *operands, number(place(layout, (run.over))), START), layout, kind="h")
    labels = [x for x in space.out.type.labels if x is not space.over]
    y = w.arranged(w.apart(w.read(space.region.result), space.over), tuple((x,) for x in (*labels[:at], space.over, *labels[at:])))
    last = Subscript(w.read(run.out).code, (*(Range(),) * place(layout, run.over), Unary("-", Text("1"))))
    w.statements.append(Return(Items((y, last))))
    return run, layout


def given_to_parts(module: ir.Module) -> tuple[str, ...]:
    """What functions in its body are given, if there are such."""
    return (PART.text, START.text) if any(isinstance(n, StatesByParts) for n in module.body) else ()


def _counts_steps(w: BodyWriter, space: StatesByParts, body: Sequence[Statement]) -> bool:
    """Whether statements read how many steps there are: these are fewer in a part."""
    steps = space.out.type.axis(space.over).size.symbols
    counts = {var for (value, k), var in w.shapes.items() if value.type.axes[k].size.symbols & steps}
    return bool(counts & set(_reads(body)))


def _reads(statements: Sequence[Statement]) -> Iterator[Var]:
    for statement in statements:
        yield from reads_of(statement)


BY_PARTS = '''def states_by_parts(
    read: Callable[[Sequence[Tensor], Tensor | None], tuple[Tensor, Tensor]],
    values: Sequence[Tensor],
    dim: int,
    start: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """What `read` gives for some steps along `dim` of the values, from the state before them, and the last state: 256
    steps after the other (on a GPU 1,024), so that there are states of these alone; on the way back they are computed again."""
    size = 1024 if values[0].is_cuda else 256
    if torch.compiler.is_compiling() or values[0].shape[dim] <= size:
        return read(values, start)
    if torch.is_grad_enabled():
        read = partial(checkpoint, read, use_reentrant=False, preserve_rng_state=False)
    found = []
    for part in zip(*(x.split(size, dim) for x in values), strict=True):
        y, start = read(part, start)
        found.append(y)
    assert start is not None
    return torch.cat(found, dim), start'''
