"""The model's part: where the tokens of a call stand, inputs that are kept as they come, and the step forward at the end."""

from __future__ import annotations

from collections.abc import Callable

from ....compiler import ir
from ....compiler.dims import Expr, sym
from ....compiler.ir import Value
from ...python.code import Assign, Attribute, Binary, Block, Choice, Do, Statement, Store, Subscript, Text, Var, call, method
from ...python.prepare_masks import Masks
from ...python.write_body import BodyWriter
from ..pointwise import on_device
from ..windows import count_by_blocks
from .first import in_first_call
from .nodes import THERE_IS, continues, held
from .parts import CACHE, NONE, First
from .prepare import KeptInputs


def start_call(w: BodyWriter, program: ir.Program, masks: Masks, kept: KeptInputs) -> None:
    """Slots of queries and keys, 0, 1, ... in a first call or without a cache; kept inputs in the place of what is given."""
    decoding = program.decoding
    assert decoding is not None
    rows, length = sym(decoding.rows), sym(decoding.length)
    slots, query, key = Var(hint="slots"), Var(hint="q_slots"), Var(hint="k_slots")
    tokens = w.number(rows)
    none = Binary("is", slots, NONE)
    rings: dict[Expr, Var] = {}
    for value, window in masks.rings.items():
        w.places[value] = rings.setdefault(window, Var(hint="window_slots"))
    later: list[Statement] = []
    for window, var in rings.items():
        size = w.number(window)
        later.append(Assign((var,), call("ring_slots", query, size, call("min", size, Attribute(CACHE, "max_length")))))
    start: list[Statement] = [
        Assign((slots,), Choice(Binary("is", CACHE, NONE), NONE, method(CACHE, "slots", tokens))),
        Assign((query,), Choice(none, call("torch.arange", tokens, **on_device(w)), method(slots, "new"))),
        Assign((key,), Choice(none, query, call("torch.arange", Attribute(slots, "end"), **on_device(w)))),
        *(Assign((var,), query) for var in rings.values()),
    ]
    w.statements += start
    later += _continued_blocks(w, masks, query, rows)
    if later:
        w.statements.append(Block(Binary("and", THERE_IS, Binary("is not", slots, NONE)), "if", tuple(later)))
    w.slots = slots
    w.ranges[rows], w.ranges[length] = query, key
    _keep_inputs(w, program, kept)


def _continued_blocks(w: BodyWriter, masks: Masks, query: Var, rows: Expr) -> list[Statement]:
    """Windows by blocks in a first call; in later ones, their tokens are one block, and the keys those of a ring."""
    later: list[Statement] = []
    written: dict[object, tuple[Var, Var]] = {}
    for window in dict.fromkeys(masks.windows.values()):
        if window.rows != rows or window.ring is None:
            continue
        same = (window.band, window.ring)
        if same in written:
            w.places |= dict(zip((window.query, window.key), written[same], strict=True))
            continue
        written[same] = own, key = count_by_blocks(w, window, query)
        size = w.number(window.ring)
        held = call("ring_slots", query, size, call("min", size, Attribute(CACHE, "max_length")))
        later += [Assign((own,), Subscript(query, (NONE,))), Assign((key,), Subscript(held, (NONE,)))]
    return later


def _keep_inputs(w: BodyWriter, program: ir.Program, kept: KeptInputs) -> None:
    for value, source in kept.beside.items():
        w.statements.append(Assign((w.inputs[value],), w.inputs[source]))
    inside: list[Statement] = []
    for value, name in kept.rows.items():
        var = w.inputs[value]
        inside.append(Assign((var,), method(held(name), "keep_given", var, w.slots), pure=False))
    if inside:
        w.statements.append(Block(THERE_IS, "if", tuple(inside)))


def keep_once(w: BodyWriter, kept: KeptInputs, first: First, write_default: Callable[[Value], None]) -> None:
    """Inputs of a first call that later ones read too, as they are given, or by default."""
    if not kept.once:
        return
    variables = {w.inputs[value]: name for value, name in kept.once.items()}

    def write() -> None:
        for value in kept.once:
            write_default(value)
            kept.full |= {value} - w.optional
        w.statements.append(Block(THERE_IS, "if", tuple(Store(held(name), var) for var, name in variables.items())))

    body = in_first_call(w, first, write)
    w.optional -= kept.full
    loads = tuple(Assign((var,), held(name), pure=False) for var, name in variables.items())
    w.statements += [Block(continues(w), "if", loads), Block(Text(""), "else", body)]


def end_call(w: BodyWriter, program: ir.Program) -> None:
    assert program.decoding is not None
    w.statements.append(Block(THERE_IS, "if", (Do(method(CACHE, "advance", w.number(sym(program.decoding.rows)))),)))


def first_inputs(program: ir.Program, first: frozenset[Value]) -> list[Statement]:
    """With inputs that later calls leave out, none is required by its place: those that every call reads are asked for."""
    needed = [i for i in program.inputs if i.required and i.value not in first]
    return [_ask(i.name, f"{i.name} is needed") for i in needed] if any(i.required and i.value in first for i in program.inputs) else []


def _ask(name: str, message: str) -> Statement:
    return Block(Binary("is", Text(name), NONE), "if", (Do(Text(f'raise ValueError("{message}")')),))
