"""What a first call computes and later ones read from the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....compiler import ir
from ....compiler.ir import Value
from ...python.code import Assign, Attribute, Binary, Block, Do, Statement, Store, Subscript, Text, Var, number
from ...python.layouts import Layout, Tensor, sizes_of
from ...python.write_body import BodyWriter, Kept
from .nodes import THERE_IS, continues, held
from .parts import NONE, First, first_of

Write = Callable[[Sequence[ir.Node]], None]


def write_in_turn(w: BodyWriter, nodes: Sequence[ir.Node], write: Write | None = None, first: First | None = None) -> None:
    """The nodes in their order; those of the first call alone, together, before something else reads what they gave."""
    write = write or w.write
    first = first or first_of(w.module)
    if not first.nodes and not first.inputs and not any(isinstance(n, ir.Once) for n in nodes):
        write(nodes)
        return
    w.optional |= first.inputs
    waiting: list[ir.Node] = []
    for node in nodes:
        if node in first.nodes or isinstance(node, ir.Once):
            waiting.append(node)
            continue
        given = {v for n in waiting for v in n.outs}
        if given & set(ir.operands(node)):
            _write_first(w, waiting, first, write)
            waiting = []
        write([node])
    if waiting:
        _write_first(w, waiting, first, write)


def _write_first(w: BodyWriter, nodes: Sequence[ir.Node], first: First, write: Write) -> None:
    """`if` there were calls before, what they kept, `else` what is computed now, and kept."""
    onces = [n for n in nodes if isinstance(n, ir.Once)]
    inside = {v for n in nodes if not isinstance(n, ir.Once) for v in n.outs}
    readers = [n for n in w.module.body if n not in first.nodes and n not in first.training and not isinstance(n, ir.Once)]
    read = dict.fromkeys((*(v for n in readers for v in ir.operands(n)), *w.module.outputs))
    handed = [v for v in read if v in inside]

    def write_inside() -> None:
        write([n for n in nodes if not isinstance(n, ir.Once)])
        for out, x, var in found:
            layouts[out] = tuple((label,) for label in out.type.labels)
            w.statements.append(Assign((var,), w.arranged(w.read(x), layouts[out])))
        stores = [Store(held(n.entry), var) for n, (_, _, var) in zip(onces, found, strict=False)]
        w.statements += [Block(THERE_IS, "if", tuple(stores))] if stores else []

    found: list[tuple[Value, Value, Var]] = [(n.out, n.x, Var(hint=n.out.hint or n.entry)) for n in onces]
    found += [(v, v, Var(hint=v.hint, kind="memory")) for v in handed]
    layouts: dict[Value, Layout] = {}
    body = in_first_call(w, first, write_inside)
    loads: list[Statement] = [Assign((var,), held(n.entry), pure=False) for n, (_, _, var) in zip(onces, found, strict=False)]
    loads += [Assign((var,), NONE) for _, _, var in found[len(onces) :]]
    w.statements += [Block(continues(w), "if", tuple(loads)), Block(Text(""), "else", body)]
    for node in onces:
        w.kept[node.entry] = Kept("once", node.out.type, layouts[node.out])
    w.optional |= inside  # no sizes are read from what later calls do not have
    for out, _, var in found:
        w.env[out] = Tensor(var, layouts[out], sizes_of(out.type))


def in_first_call(w: BodyWriter, first: First, write: Callable[[], None]) -> tuple[Statement, ...]:
    """Statements that may read the inputs of a first call. The model asks for those it cannot do without."""
    outer, w.statements = w.statements, []
    shapes, ranges, known, optional = dict(w.shapes), dict(w.ranges), w.known, set(w.optional)
    w.optional = w.optional - first.inputs
    w.known = None
    write()
    asked: list[Statement] = []
    if w.numbers.is_root and not w.asked:
        asked = [_ask(w, v) for v in w.module.inputs if v in first.inputs and v not in w.defaulted]
        w.asked = True
    body = (*asked, *_shapes(w, shapes, first), *w.statements)
    w.statements, w.ranges, w.known, w.optional = outer, ranges, known, optional
    return body


def _ask(w: BodyWriter, value: Value) -> Statement:
    var = w.inputs[value]
    return Block(Binary("is", var, NONE), "if", (Do(Text(f'raise ValueError("a first call needs {var.hint}")')),))


def _shapes(w: BodyWriter, before: dict[tuple[Value, int], Var], first: First) -> list[Statement]:
    """Sizes that only the inputs of a first call show."""
    new = {key: var for key, var in w.shapes.items() if key not in before and key[0] in first.inputs}
    w.shapes = {key: var for key, var in w.shapes.items() if key not in new}
    return [Assign((var,), Subscript(Attribute(w.inputs[v], "shape"), (number(k),))) for (v, k), var in new.items()]
