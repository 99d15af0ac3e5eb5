"""Whether an output at one position depends on later positions of an input.

An output is causal if it depends, at each position, on nothing later: trace_positions finds how far it looks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

from ...grammar.frozen import frozen
from ...grammar.tree import Span
from .. import ir
from ..diagnostics import Diagnostics, Note
from ..dims import ONE, ZERO
from ..ir import Assumption, Axis, Program, Type, Value
from .position_bounds import NOTHING, Bound, Cause, Info
from .position_forms import highest, position
from .read_indices import UNKNOWN, counted
from .trace_positions import Tracer


@frozen
class Verdict:
    """What holds of one output and one input. `offset`: how many positions ahead it looks; none: any number."""

    output: str
    input: str
    answer: Literal["proved", "refuted", "unproved"]
    cause: Cause | None = None
    offset: int | None = None


@frozen
class Flow:
    """`verdicts`: each output against each integer input that shares its dynamic axis; `further`: against inputs of other types that do.
    `decoded`: the one of token ids against logits."""

    verdicts: tuple[Verdict, ...]
    decoded: Verdict | None
    autoregressive: bool
    assumed: Assumption | None
    further: tuple[Verdict, ...] = ()

    @property
    def causal(self) -> bool:
        """Whether decoding may rely on it: proved, not assumed."""
        return self.decoded is not None and self.decoded.answer == "proved"


def prove(program: Program) -> Flow:
    """Report, for each output and input that share a dynamic axis, whether position i depends on positions up to i only.

    Requires: a verified program. Ensures: `proved` and `refuted` hold for every Config. Leaves alone: the program."""
    interpreter = Tracer()
    sources = [i for i in program.inputs if not i.training and i.value.type.dtype == "int" and not _one_a_row(i, program)]
    others = [i for i in program.inputs if not i.training and i.value.type.dtype != "int"]
    beside = [i for i in others if sum(a.size.is_dynamic for a in i.value.type.axes) > 1]
    env = {i.value: Info(_sources(i), UNKNOWN if i.bound is None else counted(i.bound)) for i in (*sources, *beside)}
    interpreter.ranges.update((value, info.range) for value, info in env.items())
    interpreter.module(program.root, env)
    names = program.root.output_names or ("logits",)
    verdicts: list[Verdict] = []
    further: list[Verdict] = []
    decoded: Verdict | None = None
    for name, output in zip(names, program.root.outputs, strict=True):
        for source in (*sources, *beside):
            axis = _shared_axis(output.type, source.value.type)
            if axis is not None:
                verdict = _judge(name or "output", source.name, output, axis, env.get(output, NOTHING))
                (further if source in beside else verdicts).append(verdict)
                if decoded is None and source.bound is not None and source in sources:
                    decoded = verdict
    assumed = next((a for a in program.assumptions if a.property == "causal"), None)
    return Flow(tuple(verdicts), decoded, _is_autoregressive(program), assumed, tuple(further))


def check_causality(program: Program, diagnostics: Diagnostics) -> Flow:
    """Prove, and report E401 where an autoregressive model sees ahead, E402 (a warning) where that cannot be excluded."""
    flow = prove(program)
    verdict = flow.decoded
    if verdict is None or not flow.autoregressive or flow.assumed is not None or verdict.answer == "proved":
        return flow
    cause = verdict.cause
    ahead = "later positions" if verdict.offset is None else f"{verdict.offset} position{'s' * (verdict.offset != 1)} ahead"
    reason = f": {cause.what}" if cause else ""
    span = cause.span if cause else program.span
    notes = [Note("the model is trained to predict the next token, so that no position may see later ones", program.span)]
    remedy = 'make it causal, or state `assume causal: "reason"` in the model'
    if cause is not None and cause.used is not None:
        remedy = 'combine it with one that says `j <= i` (`causal and ...`), or state `assume causal: "reason"` in the model'
        if diagnostics.is_shipped(span):  # the mask is right as it is: what counts is where it is used
            span, notes = cause.used, [Note("the mask", span), *notes]
    if cause is not None and cause.remedy:
        remedy = f'{cause.remedy}, or state `assume causal: "reason"` in the model'
    with ExitStack() as led_here:
        for place in _led_to(program.root, span):
            led_here.enter_context(diagnostics.within(place))
        if verdict.answer == "refuted":
            diagnostics.error("E401", f"`{verdict.output}` sees {ahead} of `{verdict.input}`{reason}", span, *notes, remedy=remedy)
        else:
            diagnostics.warning(
                "E402", f"whether `{verdict.output}` sees later positions of `{verdict.input}` cannot be told{reason}", span, help=remedy
            )
    return flow


def _led_to(root: ir.Module, span: Span) -> list[Span]:
    """Where the spec names the components, outermost first, down to the one whose body has these words."""
    here = [root.named] if root.named else []
    if any(n.span == span for n in root.body):
        return here
    for _, below in ir.children_of(root):
        found = _led_to(below, span)
        if found or any(n.span == span for n in below.body):
            return [*here, *found]
    return []


def _sources(item: ir.ModelInput) -> tuple[Bound, ...]:
    return tuple(Bound(item.name, (position(a.label),)) for a in sequence_axis(item.value.type))


def _one_a_row(item: ir.ModelInput, program: Program) -> bool:
    """Whether an input has only the leading axis of the others, so that it has one value for each of their rows and no positions."""
    axes = item.value.type.axes
    leading = [i.value.type.axes[0].label for i in program.inputs if len(i.value.type.axes) > 1]
    return len(axes) == 1 and axes[0].label in leading


def sequence_axis(kind: Type) -> tuple[Axis, ...]:
    """The axis that positions run along: the last dynamic one; where only the batch is dynamic, the last."""
    dynamic = [a for a in kind.axes if a.size.is_dynamic]
    return tuple(dynamic[-1:] if len(dynamic) > 1 else kind.axes[-1:])


def _shared_axis(output: Type, source: Type) -> Axis | None:
    """The output's axis that is the input's axis of positions."""
    wanted = sequence_axis(source)
    found = [a for a in output.axes for w in wanted if a.size == w.size]
    return next((a for a in found if a.label is wanted[0].label), found[0] if found else None)


def _judge(output: str, source: str, value: Value, axis: Axis, info: Info) -> Verdict:
    worst: Verdict | None = None
    for bound in info.bounds:
        if bound.source != source:
            continue
        ahead = [highest(f - position(axis.label), value.type.axes) for f in bound.forms]
        least = min((a for a in ahead if a is not None), default=float("inf"))
        if least < 1:  # positions are whole numbers, as what is divided is rounded down
            continue
        offset = None if least == float("inf") else int(least)
        verdict = Verdict(output, source, "refuted" if bound.certain else "unproved", bound.cause, offset)
        if worst is None or (worst.answer == "unproved" and verdict.answer == "refuted"):
            worst = verdict
    return worst or Verdict(output, source, "proved")


def _is_autoregressive(program: Program) -> bool:
    """Whether a loss compares logits without their last position to labels without their first."""
    nodes = {v: n for n in program.root.body for v in n.outs}
    pending = [loss.value for loss in program.losses]
    seen: set[Value] = set()
    while pending:
        node = nodes.get(pending.pop())
        if isinstance(node, ir.CrossEntropy):
            logits, target = nodes.get(node.logits), nodes.get(node.target)
            if isinstance(target, ir.Slice) and target.start == ONE and isinstance(logits, ir.Slice) and logits.start == ZERO:
                return True
        if node is not None:
            pending += [v for v in ir.operands(node) if v not in seen]
            seen.update(ir.operands(node))
    return False
