"""Nodes that remember, in torch. Where there is no cache, each is what it would be without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ....compiler import ir
from ....compiler.dims import ONE, Expr, sym
from ....compiler.ir import REST, Label, Type
from ...python.attention_axes import attend_axes
from ...python.code import (
    Assign,
    Attribute,
    Binary,
    Block,
    Choice,
    Code,
    Do,
    Items,
    Range,
    Statement,
    Subscript,
    Text,
    Unary,
    Var,
    call,
    method,
    number,
    variables,
)
from ...python.layouts import Layout, Tensor, flat, place, sizes_of
from ...python.write_body import BodyWriter, Kept
from ..pointwise import lower_along
from ..shapes import lower_concat, lower_pad
from .absorbed import absorbed_of
from .parts import CACHE, NONE, entry_fields

_VIEWS = (
    ir.Rename, ir.Transpose, ir.Expand, ir.Squeeze, ir.Unflatten, ir.Flatten, ir.Split, ir.Unstack, ir.Slice, ir.Take, ir.Unfold, ir.Cast,
    ir.StopGradient, ir.Dropout,
)  # fmt: skip
THERE_IS = Binary("is not", CACHE, NONE)


def continues(w: BodyWriter) -> Code:
    """Whether calls went before: the cache is named too, for type checkers."""
    return Binary("and", THERE_IS, Binary("is not", w.slots, NONE))


def held(name: str) -> Code:
    return Attribute(CACHE, name)


def with_cache(w: BodyWriter, before: Sequence[Statement], inside: Sequence[Statement]) -> None:
    """`if cache is not None: ...`, one such block for what stands in a row; `before` goes in front of it."""
    last = w.statements[-1] if w.statements else None
    if isinstance(last, Block) and last.head == THERE_IS and last.keyword == "if":
        set_there = {t for s in last.body if isinstance(s, Assign) for t in s.targets}
        if not any(v in set_there for s in before if isinstance(s, Assign) for v in variables(s.value)):
            w.statements[-1:] = [*before, Block(THERE_IS, "if", (*last.body, *inside))]
            return
    w.statements += [*before, Block(THERE_IS, "if", tuple(inside))]


def batch_first(w: BodyWriter, kind: Type, layout: Layout, over: Label | None) -> Layout:
    """The sequences of the batch, the tokens, and the rest as it lies."""
    batch = [a.label for a in kind.axes if a.size.is_dynamic and a.label is not over]
    if len(batch) == 1 and not kind.has(REST) and not counts_sequences(kind.axis(batch[0]).size):
        w.refuse(
            f"its cache has a row for each sequence, and `{batch[0].name}` of what is kept here is sequences merged with something else"
        )
    if len(batch) != 1 or kind.has(REST):
        axes = ", ".join(a.label.name for a in kind.axes)
        remedy = "`flatten` several into one, or make the others numbers of the model" if batch else "give it the axis of the sequences"
        count = "any number of" if kind.has(REST) else len(batch)
        w.refuse(f"its cache has a row for each sequence, and what is kept here, [{axes}], has {count} axes for them: {remedy}")
    first = (*((label,) for label in batch), *([(over,)] if over is not None else []))
    rest = tuple(tuple(x for x in dim if x not in batch and x is not over) for dim in layout)
    return (*first, *(dim for dim in rest if dim))


def counts_sequences(size: Expr) -> bool:
    """Whether it is a number that an input shows, and no product or sum of such: a row is a sequence."""
    return [sym(s) for s in size.symbols] == [size]


def lower_keep(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Keep, node)
    t = w.read(node.x)
    layout = for_attention(w, node) or batch_first(w, node.x.type, t.layout, node.over)
    var = Var(hint=node.out.hint or node.entry)
    kept = Assign((var,), method(held(node.entry), "keep", var, w.slots), pure=False)
    with_cache(w, [Assign((var,), w.arranged(t, layout))], [kept])
    w.kept[node.entry] = Kept("rows", node.x.type, layout, node.over)
    renamed = tuple(tuple(node.label if x is node.over else x for x in dim) for dim in layout)
    w.env[node.out] = Tensor(var, renamed, sizes_of(node.out.type))


def for_attention(w: BodyWriter, node: ir.Keep) -> Layout | None:
    """What attention alone reads, as keys or as values, lies as the kernels take it, each head's tokens together: [b, heads, length, ...]."""
    absorbed = absorbed_of(w)
    found: set[Layout] = set()
    for reader in w.module.body:
        if node.out not in ir.operands(reader):
            continue
        if not isinstance(reader, ir.Attend) or reader in absorbed or node.out is reader.q:
            return None
        axes = attend_axes(reader)
        if len(axes.batch) != 1 or len(axes.key_heads) != 1 or any(node.out in ir.free_values(r) for r in ir.regions(reader)):
            return None
        last = [dim for x, dim in ((reader.k, (reader.feature,)), (reader.v, axes.features)) if x is node.out]
        found |= {(axes.batch, axes.key_heads, (node.over,), dim) for dim in last}
    layout = next(iter(found)) if len(found) == 1 else ()
    same = sorted(map(id, flat(layout))) == sorted(map(id, node.x.type.labels))
    return layout if same and node.out not in w.module.outputs else None


def lower_cached_pad(w: BodyWriter, node: ir.Node) -> None:
    """The last entries of what came before in the place of padding."""
    node = cast(ir.Pad, node)
    if not node.entry:
        lower_pad(w, node)
        return
    t = w.apart(w.read(node.x), node.over)
    layout = batch_first(w, node.x.type, t.layout, node.over)
    if node.after.constant != 0:
        w.refuse("padding on both sides of the tokens")
    x = w.arranged(t, layout)
    x = x if isinstance(x, Var) else w.temporary(x, "x", hint=node.x.hint)
    var = Var(hint=node.out.hint or node.x.hint, kind="padded")
    pairs = [number(0)] * (2 * (len(layout) - 2)) + [w.number(node.before), number(0)]
    named = {} if node.value.constant == 0 else {"value": w.number(node.value)}
    w.helpers.add("follow")
    w.statements += [
        Block(Binary("is", CACHE, NONE), "if", (Assign((var,), call("F.pad", x, Items(tuple(pairs)), **named)),)),
        Block(Text(""), "else", (Assign((var,), call("follow", held(node.entry), x), pure=False),)),
    ]
    kind = _resized(node.x.type, node.over, node.before)
    w.kept[node.entry] = Kept("state", kind, layout, None, node.value)
    w.env[node.out] = Tensor(var, layout, sizes_of(node.out.type))


def _resized(kind: Type, over: Label, size: Expr) -> Type:
    return Type(tuple(ir.Axis(a.label, size) if a.label is over else a for a in kind.axes), kind.dtype)


def lower_cached_concat(w: BodyWriter, node: ir.Node) -> None:
    """In later calls, the last entries of what came before in the place of the first operand."""
    node = cast(ir.Concat, node)
    lower_concat(w, node)
    if not node.entry:
        return
    t = w.read(node.out)
    layout = batch_first(w, node.out.type, t.layout, node.over)
    size = node.args[0].type.axis(node.over).size
    n = w.number(size)
    var = Var(hint=node.out.hint, kind="x")
    length = Subscript(Attribute(var, "shape"), (number(1),))
    last = Subscript(var, (Range(), Range(Unary("-", n) if size.constant else Binary("-", length, n))))  # of none, none
    first = Subscript(var, (Range(), Range(n)))
    state = held(node.entry)
    w.statements += [
        Assign((var,), w.arranged(t, layout)),
        Block(continues(w), "if", (Assign((var,), call("torch.cat", Items((state, first)), number(1))),)),
    ]
    with_cache(w, [], [Do(method(state, "copy_", last))])
    w.kept[node.entry] = Kept("state", _resized(node.out.type, node.over, size), layout)
    w.env[node.out] = Tensor(var, layout, sizes_of(node.out.type))


def last_of(w: BodyWriter, code: Code, layout: Layout, over: Label, size: Expr, *, keep: bool) -> Code:
    """The entry of the last token along an axis of this size, which stays as one of size 1 if asked to."""
    decoding = w.numbers.plans.program.decoding
    assert decoding is not None
    before = (Range(),) * place(layout, over)
    if size == sym(decoding.rows):
        minus = Unary("-", Text("1"))
        return Subscript(code, (*before, Range(minus) if keep else minus))
    count = w.number(sym(decoding.rows))  # it is longer than the tokens, and comes to the rest again
    last = Binary("-", count, number(1))
    return Subscript(code, (*before, Range(last, count) if keep else last))


def lower_cached_along(w: BodyWriter, node: ir.Node) -> None:
    """A running total goes on from the last one of the call before."""
    node = cast(ir.Along, node)
    lower_along(w, node)
    if not node.entry:
        return
    t = w.read(node.out)
    layout = batch_first(w, node.out.type, t.layout, node.over)
    var = Var(hint=node.out.hint or node.entry)
    state = held(node.entry)
    inside = (
        Assign((var,), Binary("+", var, state)),
        Do(method(state, "copy_", last_of(w, var, layout, node.over, node.out.type.axis(node.over).size, keep=True))),
    )
    w.statements += [Assign((var,), w.arranged(t, layout)), Block(THERE_IS, "if", inside)]
    w.kept[node.entry] = Kept("state", _resized(node.out.type, node.over, ONE), layout)
    w.env[node.out] = Tensor(var, layout, sizes_of(node.out.type))


def continue_recurrence(w: BodyWriter, node: ir.LinearRecurrence) -> None:
    """Keep the last state; `recurrence_start` is where the recurrence begins."""
    t = w.read(node.out)
    with_cache(
        w,
        [],
        [Do(method(held(node.entry), "copy_", last_of(w, t.code, t.layout, node.over, node.out.type.axis(node.over).size, keep=False)))],
    )


def recurrence_start(w: BodyWriter, node: ir.LinearRecurrence, layout: Layout) -> Code:
    inner = tuple(dim for dim in layout if dim != (node.over,))
    kind = node.out.type.without(node.over)
    batch = next((k for k, dim in enumerate(inner) if any(kind.axis(x).size.is_dynamic for x in dim)), None)
    moving = [a.size for a in kind.axes if a.size.is_dynamic]
    if batch != 0 or len(moving) != 1 or kind.has(REST) or not counts_sequences(moving[0]):
        w.refuse("a recurrence whose state does not begin with the sequences of a batch")
    w.kept[node.entry] = Kept("state", kind, inner)
    return Choice(Binary("is", CACHE, NONE), NONE, held(node.entry))


def start_scan(w: BodyWriter, node: ir.Scan, module: ir.Module, carried: Sequence[Var]) -> None:
    """In later calls, what is carried starts as it ended in the call before; as a copy, if results may be the very tensor it starts as."""
    loads: list[Statement] = []
    hands_on = may_hand_on(module)
    for name, var, value in zip(entry_fields(node, node.entry), carried, node.args, strict=False):
        layout = tuple((label,) for label in value.type.labels)
        if batch_first(w, value.type, layout, None) != layout:
            w.refuse("a scan whose state does not begin with the sequences of a batch")
        w.kept[name] = Kept("state", value.type, layout)
        loads.append(Assign((var,), method(held(name), "clone") if hands_on else held(name), pure=False))
    w.statements.append(Block(continues(w), "if", tuple(loads)))


def may_hand_on(module: ir.Module) -> bool:
    """Whether an output may be, or show, an input itself: reached by nothing but views, by casts or by modules that may."""
    shown = set(module.inputs)
    for node in module.body:
        views = isinstance(node, _VIEWS)
        if isinstance(node, ir.Call):
            child = node.target if isinstance(node.target, ir.Module) else module.child(node.target).module  # type: ignore[union-attr]
            views = may_hand_on(child)
        if isinstance(node, ir.Fold | ir.Scan | ir.Pairwise) or views:
            shown.update(node.outs if shown & set(ir.operands(node)) else ())
    return bool(shown & set(module.outputs))


def end_scan(w: BodyWriter, node: ir.Scan, carried: Sequence[Var]) -> None:
    names = entry_fields(node, node.entry)
    with_cache(w, [], [Do(method(held(name), "copy_", var)) for name, var in zip(names, carried, strict=True)])
