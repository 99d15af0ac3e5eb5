"""Incremental decoding from the one definition of a model.

The form: one program, not two. The derived program is the model's own, with the same modules, parameters and names, in which what looks
across the decoded axis says what it remembers: `Keep` (keys and values, or what they are made of, or a row of a mask), `Once` (what does
not change from call to call), and an `entry` on shifts, windows and recurrences. Without a cache each of these is what it was, so that one
`forward(..., cache=None)` of a backend serves a training batch, a prompt, a chunk and a token, and an emitter has nothing to keep in step.
What depends on the number of tokens is in the types: an axis has `rows` (the tokens of the call) or `length` (all so far). Masks compare
slots, and an index along rows begins at the cache's position."""

from __future__ import annotations

from dataclasses import replace

from ...grammar.frozen import frozen
from ...grammar.tree import Span
from .. import ir
from ..decoding.common import Kind, Length, Refused
from ..decoding.derive_module import Deriver, ModuleDeriver
from ..decoding.find_running_values import find_running_values
from ..decoding.lift_from_regions import lift_from_regions
from ..decoding.ways import Given
from ..dims import Sym, sym
from ..ir import Decoding, Module, Program, Value
from .prove_causality import Flow, prove, sequence_axis
from .remove_dead_nodes import remove_dead_nodes


@frozen
class Refusal:
    """Why a model cannot be decoded a token at a time: the construct, and where it stands."""

    what: str
    span: Span


def derive_decoding(program: Program, flow: Flow | None = None) -> Program | Refusal:
    """The program as it runs with a cache, or why there is none.

    Requires: a verified program, before the passes; its flow, if that is known. Ensures: running it on the tokens in calls of any lengths,
    with one cache, gives the decoded outputs of the program on all of them; without a cache it means the same, losses, other outputs and
    updates of buffers included. Leaves alone: what only those read, parameters and children's names."""
    flow = flow or prove(program)
    refusal, rows = _refused(program, flow)
    if refusal is not None or rows is None:
        return refusal or Refusal("the sequence has a fixed length", program.span)
    outputs = _decoded_outputs(program, rows, flow)
    if not outputs:
        return Refusal("no output has as many positions as there are tokens", program.span)
    length = Length(rows, Sym("length"))
    program = lift_from_regions(program, length)
    try:
        root, inputs = _root(program, length, find_running_values(program, outputs))
    except Refused as found:
        return Refusal(found.cause.what, found.cause.span)
    made = replace(
        program,
        root=root,
        inputs=inputs,
        dynamic=(*program.dynamic, length.length),
        decoding=Decoding(rows=rows, length=length.length, outputs=outputs),
    )
    return remove_dead_nodes(made)


def _refused(program: Program, flow: Flow) -> tuple[Refusal | None, Sym | None]:
    """What is known before the bodies are read; else the symbol of the decoded axis."""
    if flow.assumed is not None:
        return Refusal(f"causal only by assumption: {flow.assumed.reason}", flow.assumed.span), None
    carried = next((state for m in ir.walk(program.root) for state in m.states), None)
    if carried is not None:
        what = f"the state `{carried.name}`, which every call replaces: calls of one token are other segments than one call of all"
        return Refusal(what, carried.span or program.span), None
    decoded = flow.decoded
    if decoded is None:
        return Refusal("no input of tokens shares an axis with an output", program.span), None
    for verdict in (*flow.verdicts, *flow.further):
        if verdict.output == decoded.output and verdict.answer != "proved":
            cause = verdict.cause
            what = cause.what if cause else f"`{verdict.output}` may see later positions of `{verdict.input}`"
            return Refusal(what, cause.span if cause else program.span), None
    source = next(i for i in program.inputs if i.name == decoded.input)
    (axis,) = sequence_axis(source.value.type)
    found = [s for s in axis.size.symbols if s.value is None]
    return None, found[0] if len(found) == 1 and len(axis.size.terms) == 1 else None


def _decoded_outputs(program: Program, rows: Sym, flow: Flow) -> tuple[int, ...]:
    """The numbers of the outputs that run along the decoded axis, which they have once and whole, and see no later position."""
    refuted = {v.output for v in (*flow.verdicts, *flow.further) if v.answer != "proved"}
    names = program.root.output_names or tuple("" for _ in program.root.outputs)
    return tuple(
        k
        for k, (name, v) in enumerate(zip(names, program.root.outputs, strict=True))
        if (name or "output") not in refuted and [a.size for a in v.type.axes if rows in a.size.symbols] == [sym(rows)]
    )


def _root(program: Program, length: Length, running: frozenset[Value]) -> tuple[Module, tuple[ir.ModelInput, ...]]:
    """The root: nobody is above it to keep anything."""
    given = tuple(
        Given(
            Kind.ROWS if any(length.runs(a) for a in i.value.type.axes) else Kind.ONCE,
            tuple(False for _ in i.value.type.axes),
            False,
        )
        for i in program.inputs
    )
    deriver = Deriver(length, running)
    worker = ModuleDeriver(deriver, program.root, given, outermost=True)
    derived = worker.derive()
    for marks, cause in zip((*derived.whole_inputs, *derived.whole_outputs), (*derived.input_causes, *derived.causes), strict=True):
        if any(marks):
            raise Refused(cause.what if cause else "an input that is read as a whole", cause.span if cause else program.span)
    inputs = tuple(replace(i, default=_default(i, worker)) for i in program.inputs)
    return derived.module, inputs


def _default(item: ir.ModelInput, worker: ModuleDeriver) -> ir.Region | None:
    """What an input is when it is left out, a call at a time."""
    if item.default is None:
        return None
    for node in item.default.body:
        worker.classify(node)
    return worker.region(item.default)
