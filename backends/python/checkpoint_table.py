"""The part of a generated file that loads weights: the table of published names, and the loader that reads it.

The table has a row a published tensor, `{i}` standing for the number of a layer (`{j}` for that of a stack inside it), `{e}` for that of an
expert; the loader holds only what the table needs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ...compiler import ir
from ...compiler.dims import ONE, Sym
from ...grammar.frozen import frozen
from .code import Attribute, Code, Text, number, render
from .numbers import expression
from .templates import template

WIDTH = 120
_SLOT = re.compile(r"\{(\w+)\}")
_LAYERS = "ijklmn"


@frozen(kw_only=True)
class CheckpointView:
    """What the templates place. `rows` are lines of the table, `ignored` those of the patterns that are not loaded, `copies` those of
    tensors that may be stored twice, `source` the expression
    for a published name; the flags say what the rows need of the loader."""

    model: str
    rows: tuple[str, ...]
    ignored: tuple[str, ...]
    copies: tuple[str, ...]
    legend: str
    joined_doc: str
    source: str
    has_config: bool
    has_experts: bool
    has_joined: bool
    has_groups: bool
    has_transposed: bool
    has_tables: bool
    fused: str
    shape_lines: tuple[str, ...]


def checkpoint_view(program: ir.Program, model: str, shapes: Sequence[str] = (), *, fused: str = "") -> CheckpointView:
    """Requires: rows proved to cover the program (compiler/checkpoint.py). `model` is the name of the model's class; `shapes` are the lines of
    `shape_lines`, for a file without modules; `fused` are its classes of several linear maps in one."""
    stored = [r for r in program.checkpoint if r.own and not r.copy]
    experts = any(r.each is not None for r in stored)
    groups = any(r.groups != ONE for r in stored)
    transposed = any(r.transposed for r in stored)
    in_config = any(_in_config(r, program) for r in stored)
    return CheckpointView(
        model=model,
        rows=tuple(line for row in stored for line in _row_lines(row, program, 8 if in_config else 4)),
        ignored=tuple(_tuple_lines("IGNORED = ", [p for r in program.checkpoint if not r.own for p in r.published])),
        copies=tuple(f"    {_quoted(name)}: {_quoted(r.own[0])}," for r in program.checkpoint if r.copy for name in r.published),
        legend=_legend(stored, bool(fused)),
        joined_doc="Tensors published as one" + (", side by side in each of `groups` equal parts" if groups else ", side by side")
        + (", the last two axes swapped where `transposed`." if transposed else "."),
        source=_source(experts, any(len(r.published) > 1 for r in stored)),
        has_config=in_config,
        has_experts=experts,
        has_joined=any(_is_joined(r) for r in stored),
        has_groups=groups,
        has_transposed=transposed,
        has_tables=any(not p.stored for m in ir.walk(program.root) for p in m.params),
        fused=fused,
        shape_lines=tuple(shapes),
    )  # fmt: skip


def _legend(rows: Sequence[ir.CheckpointRow], fused: bool) -> str:
    parts = ["{i} is the number of a layer"] if any("{" in r.own[0] for r in rows) else []
    parts += ["{e} that of an expert"] if any(r.each is not None for r in rows) else []
    parts += ["| stands between spellings"] if any(len(r.published) > 1 for r in rows) else []
    parts += ["a part of a fused map has the name it would have alone"] if fused else []
    return f"; {', '.join(parts)}" if parts else ""


def _source(experts: bool, alternatives: bool) -> str:
    """The published name of one tensor."""
    name = f"published.format(**match.groupdict(){', e=e' if experts else ''})"
    return f"spelling({name}, stored)" if alternatives else name


def write_checkpoint(view: CheckpointView, target: str) -> str:
    """The section of a file for `target` (torch or numpy), without blank lines around it."""
    return re.sub(r"\n{4,}", "\n\n\n", template("python", f"checkpoint_{target}.py.j2").render(v=view)).strip("\n") + "\n"


# ---------------------------------------------------------------- rows


def _is_joined(row: ir.CheckpointRow) -> bool:
    return len(row.own) > 1 or row.transposed


def _row_lines(row: ir.CheckpointRow, program: ir.Program, indent: int) -> list[str]:
    """`"published": "own",`, wrapped as the formatter does; lines are indented by 4 (the template adds the rest)."""
    slots = _slots(row)
    published = _quoted(" | ".join(_renamed(p, slots) for p in row.published))
    own = [_quoted(_renamed(o, slots)) for o in row.own]
    if not _is_joined(row):
        return [f"    {published}: {own[0]},"]
    names = f"({', '.join(own)}{',' if len(own) == 1 else ''})"
    options = [] if row.groups == ONE else [f"groups={_groups(row, program)}"]
    options += ["transposed=True"] if row.transposed else []
    room = WIDTH - indent
    flat = f"{published}: Joined({', '.join([names, *options])}),"
    if len(flat) <= room:
        return [f"    {flat}"]
    inner = ", ".join([names, *options])
    if len(inner) + 4 <= room:
        return [f"    {published}: Joined(", f"        {inner}", "    ),"]
    if len(names) + 5 <= room:
        return [f"    {published}: Joined(", *(f"        {x}," for x in (names, *options)), "    ),"]
    listed = ["        (", *(f"            {x}," for x in own), "        ),"]
    return [f"    {published}: Joined(", *listed, *(f"        {x}," for x in options), "    ),"]


def _tuple_lines(start: str, patterns: Sequence[str]) -> list[str]:
    """A tuple of strings after `start`, which is not written; empty if there are none."""
    if not patterns:
        return []
    items = [_quoted(p) for p in dict.fromkeys(patterns)]
    flat = f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if len(start) + len(flat) <= WIDTH:
        return [flat]
    return ["(", *(f"    {x}," for x in items), ")"]


def _slots(row: ir.CheckpointRow) -> dict[str, str]:
    """The names of slots in the table: `e` for experts, `i`, `j` for layers from the outside in."""
    found = {} if row.each is None else {row.each: "e"}
    for name in _SLOT.findall(row.own[0]):
        found.setdefault(name, _LAYERS[len(found) - (row.each is not None)])
    return found


def _renamed(name: str, slots: dict[str, str]) -> str:
    return _SLOT.sub(lambda m: "{" + slots[m.group(1)] + "}", name)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _in_config(row: ir.CheckpointRow, program: ir.Program) -> bool:
    known = [s for _, s in program.config]
    return any(s in known for s in row.groups.symbols)


def _groups(row: ir.CheckpointRow, program: ir.Program) -> str:
    names = {s: n for n, s in program.config}

    def look(s: Sym) -> Code:
        return Attribute(Text("config"), names[s]) if s in names else number(s.value or 0)

    return render(expression(row.groups, look), lambda v: v.hint)
