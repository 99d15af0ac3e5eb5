"""`xfc info SPEC`: what a model costs, from formulas, with nothing allocated."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ..diagnostics import Diagnostics
from ..render_diagnostics import Line, Piece, print_lines
from .check_program import check_program
from .reporting import at_place, finish, format_option, guarded, set_option

if TYPE_CHECKING:
    from ..count import Counts
    from ..count_cache import CacheCounts
    from ..render_diagnostics import Format
    from .check_program import Checked

BYTES = {"float32": 4, "bfloat16": 2}


@click.command("info")
@click.argument("spec")
@click.option(
    "--length", type=click.IntRange(1, 2**40), default=2048, show_default=True, help="Tokens in the sequence that FLOPs are counted for."
)
@set_option
@format_option
def command(spec: str, length: int, sets: tuple[str, ...], form: Format) -> None:
    """Count the parameters of SPEC, the FLOPs of a forward pass, the memory of the weights and of the cache; and the parameters of each module.

    The JSON document has `model`, `parameters`, `active_parameters`, `buffers`, `flops_per_token`, `length`, `memory_bytes` (by dtype),
    `formulas`, `modules` (`path`, `component`, `copies`, `parameters`); where the model decodes a token at a time, for one sequence and
    bfloat16, `cache_elements_per_token`, `cache_bytes_per_token` (of a token that all windows hold), `cache_bytes` (at that length) and `cache`
    (`path`, `kind`, which is grows, fixed or once, `elements`, `window`, `copies`), else `cache_bytes_per_token` is null; then `diagnostics`, `errors` and `warnings`."""
    diagnostics = Diagnostics()
    document: dict[str, object] = {}
    lines: list[Line] = []
    with guarded(diagnostics):
        from ..count import count, whole

        checked = check_program(spec, sets, diagnostics)
        if checked is not None:
            counts = count(checked.program)
            memory = {name: whole(counts.parameters) * size for name, size in BYTES.items()}
            held, why = _held(checked)
            cache = {"cache_bytes_per_token": None} if held is None else held.json(length)
            document = {"model": checked.program.name, **counts.json(length), "memory_bytes": memory, **cache}
            lines = _lines(checked.program.name, checked.program.paper, counts, length, memory, held, why)
    if form != "json":
        print_lines(lines, sys.stdout)
    finish(diagnostics, form, document=document)


def _held(checked: Checked) -> tuple[CacheCounts | None, str]:
    """What the model remembers when it decodes; none if it cannot, and why a model of tokens cannot."""
    from ..count_cache import count_cache
    from ..passes.derive_decoding import Refusal, derive_decoding

    derived = derive_decoding(checked.program, checked.flow)
    if isinstance(derived, Refusal):
        return None, f"none: {derived.what}, {at_place(derived.span)}" if checked.flow.decoded is not None else ""
    return count_cache(derived), ""


def _lines(
    name: str, paper: str | None, counts: Counts, length: int, memory: Mapping[str, int], held: CacheCounts | None, why: str
) -> list[Line]:
    from ..count import at_length, whole

    flops = at_length(counts.flops_per_token, length)
    facts = [
        ("parameters", f"{whole(counts.parameters):,}"),
        ("active per token", f"{whole(counts.active_parameters):,}"),
        ("FLOPs per token", f"{_short(flops).rstrip()} ({flops:,}) at length {length:,}"),
        ("weights", ", ".join(f"{_short(size)}B in {dtype}" for dtype, size in memory.items())),
    ]
    facts += _cache_facts(held, length) if held is not None else [("cache", why)] if why else []
    lines: list[Line] = [(Piece(name, "strong"), Piece(f": {paper}" if paper else ""))]
    lines += [(Piece(f"  {what:<18}", "gutter"), Piece(text)) for what, text in facts]
    table = [
        ("  " * row.depth + (row.path.rsplit(".", 1)[-1] or name), row.component, whole(row.copies), whole(row.parameters))
        for row in counts.rows
    ]
    path_width = max(len("module"), *(len(row[0]) for row in table))
    kind_width = max(len("component"), *(len(row[1]) for row in table))
    width = max(len("parameters"), *(len(f"{row[3]:,}") for row in table))
    lines.append(())
    lines.append((Piece(f"  {'module':<{path_width}}  {'component':<{kind_width}}  {'copies':>6}  {'parameters':>{width}}", "gutter"),))
    lines += [
        (Piece(f"  {path:<{path_width}}  {kind:<{kind_width}}  {copies:>6,}  {size:>{width},}"),) for path, kind, copies, size in table
    ]
    return lines


def _cache_facts(held: CacheCounts, length: int) -> list[tuple[str, str]]:
    """The cache of one sequence: in all, then each kind of layer."""
    facts = [("cache", f"{held.bytes_per_token:,} bytes per token, {_short(held.bytes(length))}B at length {length:,}, in bfloat16")]
    layers: dict[tuple[str, str, str], list[str]] = {}
    for entry in held.entries:
        each = {"grows": "per token", "fixed": "in all", "once": "in all"}[entry.kind]
        each += f", the last {entry.window}" if entry.window is not None else ""
        path, _, name = entry.path.rpartition(".")
        layers.setdefault((path or "the model", str(entry.copies), each), []).append(f"{name}: {entry.elements}")
    return facts + [("", f"{path} x {copies}: {', '.join(parts)} {each}") for (path, copies, each), parts in layers.items()]


def _short(number: int) -> str:
    """`8.03 G`: three digits and a decimal unit."""
    value = float(number)
    for unit in ("", "k", "M", "G", "T", "P"):
        if value < 999.5 or unit == "P":
            return f"{value:.3g} {unit}" if unit else f"{number} "
        value /= 1000
    raise AssertionError
