"""One fault put into a good spec: the diagnostic names it, where it is, and nothing else is said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostic, Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.prove_causality import Flow, check_causality

from .choices import Choices
from .executions import Disagreement
from .surface import write_spec


@dataclass(frozen=True, slots=True)
class Fault:
    """Lines at the start of a body that has `x: [b, t, d]`, what must be said of the last of them, and which words of it are meant."""

    lines: tuple[str, ...]
    code: str
    words: str
    says: str = ""


def fault(*lines: str, code: str, words: str = "", says: str = "") -> Fault:
    return Fault(lines, code, words or lines[-1], says)


HEADER = re.compile(r"^component (\w+)[^\n]*\(x: \[b, t, d\]\)[^\n]*:\n(    \"[^\n]*\n)?", re.MULTILINE)
FAULTS: tuple[Fault, ...] = (
    fault("wrong = x + unheard", code="E310", words="unheard", says="unheard"),
    fault("wrong = unheard(x)", code="E310", words="unheard", says="unheard"),
    fault("wrong = sum(x, unheard)", code="E322", words="unheard", says="unheard"),
    fault("wrong = 2 * x", code="E318", words="2 * x", says="wrong"),
    fault("wrong = linear(3)", code="E316", words="wrong", says="wrong"),
    fault("wrong = linear(3, unheard = 1)", code="E312", words="unheard", says="unheard"),
    fault("wrong = linear(3, true, none, 0.5, 1, 2, 3, 4)", code="E376", words="1"),
    fault("wrong = x[d = 999]", code="E207", words="x[d = 999]", says="999"),
    fault("wrong = x[d = -999]", code="E207", words="x[d = -999]", says="-999"),
    fault("wrong = x[d = x]", code="E212", words="x[d = x]"),
    fault("wrong = where(x, x, x)", code="E211", words="where(x, x, x)"),
    fault("wrong = transpose(x, [b, t])", code="E215", words="transpose(x, [b, t])"),
    fault("wrong = squeeze(x, b)", code="E208", words="squeeze(x, b)"),
    fault("wrong = split(x, d = [999, 1])", code="E205", words="split(x, d = [999, 1])", says="999"),
    fault("wrong = x + concat(x, x, over = d)", code="E201", words="x + concat(x, x, over = d)", says="axis"),
    fault("wrong = rename(x, d = t)", code="E203", words="rename(x, d = t)", says="twice"),
    fault("wrong: [b, t, one, two] = x", code="E346", words="[b, t, one, two]"),
    fault("wrong = relu(x, x)", code="E363", words="x"),
    fault("wrong = relu()", code="E360", words="relu()"),
    fault("wrong = x.unheard", code="E333", words="x.unheard"),
    fault("let wrong = (3 * d + 1) / (3 * d)", code="E210", words="(3 * d + 1) / (3 * d)"),
    fault("let wrong = d / 0", code="E219", words="d / 0"),
    fault("wrong = param([b])", code="E369", words="param([b])"),
    fault("wrong = param([places: 0])", code="E370", words="param([places: 0])", says="0"),
    fault("loss wrong = x", code="E385", words="x"),
    fault("next wrong = x", code="E389", words="wrong", says="wrong"),
    fault("given unheard: [b, t]", code="E383", says="unheard"),
    fault("wrong = (x + x", code="E012", words="("),
    fault("wrong = x)", code="E013", words=")"),
    fault("wrong = x ! x", code="E014", words="!"),
    fault("wrong = 0 < x < 1", code="E024", words="<"),
    fault("if x > 0:", "    x = 2 * x", code="E326", words="x > 0"),
    fault("wrong = 2 of rms_norm()", "y = wrong(x)", "x = wrong(y)", code="E340", words="wrong(y)", says="wrong"),
    fault("import x", code="E010", words="import", says="import"),
    fault("y = unheard", "wrong = y[d = 0]", code="E310", words="unheard", says="unheard"),
)
LEAKS: tuple[Fault, ...] = (
    fault("x = x + mean(x, t)", code="E401", words="mean(x, t)"),
    fault("x = x + flip(x, t)", code="E401", words="flip(x, t)"),  # twice is no flip at all
    fault("x = roll(x, -1, t)", code="E401", words="roll(x, -1, t)"),
    fault("x = x + x[t = -1]", code="E401", words="x[t = -1]"),
    fault("x = x * softmax(x, t)", code="E401", words="softmax(x, t)"),
)
"""For a model that predicts the next token. Of several operations that look along the sequence, the last is named."""


def check_wrong(text: str, program: ir.Program, flow: Flow, folder: Path, seed: int) -> list[str]:
    """A fault in a component that the program has."""
    c = Choices.seeded(seed)
    names = {m.name for m in ir.walk(program.root)}
    headers = [h for h in HEADER.finditer(text) if h[1] in names]
    if not headers:
        return []
    tokens = flow.decoded is not None and flow.decoded.input.endswith("input_ids")
    hides = flow.autoregressive and flow.assumed is None and flow.causal and tokens and c.below(3) == 0
    header, chosen = c.pick(headers), c.pick(LEAKS if hides else FAULTS)
    added = "".join(f"    {line}\n" for line in chosen.lines)
    path = folder / "spec.xf"
    write_spec(text[: header.end()] + added + text[header.end() :], path)
    errors = said(path)
    shown = [f"{d.code} at {d.span and d.span.line_column()}: {d.message}" for d in errors]
    first = errors[0] if len(errors) == 1 else None
    place = None if first is None else first.span
    if first is None or place is None or first.code != chosen.code or chosen.says not in first.message or not first.message:
        raise Disagreement(f"`{chosen.lines[-1]}` is {chosen.code}, and said is {shown}:\n{text}")
    file = place.source.text
    start = file.find(header[0] + added) + len(header[0])
    if not hides and (file[place.start : place.end] != chosen.words or not start <= place.start < start + len(added)):
        raise Disagreement(f"`{chosen.lines[-1]}`: said is {shown} of `{file[place.start : place.end]}`:\n{text}")
    return ["wrong"]


def said(path: Path) -> list[Diagnostic]:
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    if program is not None and not diagnostics.failed:
        check_causality(program, diagnostics)
    return [d for d in diagnostics.found if d.severity == "error"]
