"""The part of a generated file that loads weights: the table of published names, and the loader that reads it.

The table has a row a published tensor, `{i}` standing for the number of a layer (`{j}` for that of a stack inside it), `{e}` for that of an
expert; the loader holds only what the table needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ...compiler import ir
from ...compiler.dims import ONE
from .code import Attribute, Code, Text, render
from .numbers import expression

WIDTH = 120
_SLOT = re.compile(r"\{(\w+)\}")
_LAYERS = "ijklmn"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointView:
    """What the templates place. `rows` are lines of the table; the flags say what its rows need of the loader."""

    model: str
    rows: tuple[str, ...]
    ignored: tuple[str, ...]
    has_config: bool
    has_layers: bool
    has_experts: bool
    has_joined: bool
    has_groups: bool
    has_transposed: bool
    has_alternatives: bool
    has_tables: bool


def checkpoint_view(program: ir.Program, model: str) -> CheckpointView:
    """Requires: rows proved to cover the program (compiler/checkpoint.py). `model` is the name of the model's class."""
    stored = [r for r in program.checkpoint if r.own]
    return CheckpointView(
        model=model,
        rows=tuple(line for row in stored for line in _row_lines(row, program)),
        ignored=tuple(p for r in program.checkpoint if not r.own for p in r.published),
        has_config=any(r.groups.symbols for r in stored),
        has_layers=any("{" in r.own[0] for r in stored),
        has_experts=any(r.each is not None for r in stored),
        has_joined=any(_is_joined(r) for r in stored),
        has_groups=any(r.groups != ONE for r in stored),
        has_transposed=any(r.transposed for r in stored),
        has_alternatives=any(len(r.published) > 1 for r in stored),
        has_tables=any(p.init.kind == "table" for m in ir.walk(program.root) for p in m.params),
    )


def write_checkpoint(view: CheckpointView, target: str) -> str:
    """The section of a file for `target` (torch or numpy), without blank lines around it."""
    return re.sub(r"\n{4,}", "\n\n\n", _template(target).render(v=view)).strip("\n") + "\n"


@cache
def _template(target: str) -> Template:
    loader = PackageLoader("xfc.backends.python")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    return environment.get_template(f"checkpoint_{target}.py.j2")


# ---------------------------------------------------------------- rows


def _is_joined(row: ir.CheckpointRow) -> bool:
    return len(row.own) > 1 or row.transposed


def _row_lines(row: ir.CheckpointRow, program: ir.Program) -> list[str]:
    """`"published": "own",`, wrapped as the formatter does."""
    slots = _slots(row)
    published = _quoted(" | ".join(_renamed(p, slots) for p in row.published))
    own = [_quoted(_renamed(o, slots)) for o in row.own]
    if not _is_joined(row):
        return _entry(published, own[0])
    options = [] if row.groups == ONE else [f"groups={_groups(row, program)}"]
    options += ["transposed=True"] if row.transposed else []
    if len(own) == 1:
        return _entry(published, f"Joined({', '.join([*own, *options])})")
    flat = f"Joined({', '.join([*own, *options])})"
    if len(f"    {published}: {flat},") <= WIDTH:
        return [f"    {published}: {flat},"]
    inner = f"        {', '.join([*own, *options])}"
    body = [inner] if len(inner) <= WIDTH else [f"        {x}," for x in (*own, *options)]
    return [f"    {published}: Joined(", *body, "    ),"]


def _entry(published: str, value: str) -> list[str]:
    return [f"    {published}: {value},"]


def _slots(row: ir.CheckpointRow) -> dict[str, str]:
    """The names of slots in the table: `e` for experts, `i`, `j` for layers from the outside in."""
    found = {} if row.each is None else {row.each: "e"}
    for name in _SLOT.findall(row.own[0]):
        found.setdefault(name, _LAYERS[len(found) - (row.each is not None)])
    return found


def _renamed(name: str, slots: dict[str, str]) -> str:
    return _SLOT.sub(lambda m: "{" + slots[m.group(1)] + "}", name)


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _groups(row: ir.CheckpointRow, program: ir.Program) -> str:
    names = {s: n for n, s in program.config}

    def look(s: object) -> Code:
        return Attribute(Text("config"), next(n for known, n in names.items() if known is s))

    return render(expression(row.groups, look), lambda v: v.hint)


def names_of(rows: Sequence[ir.CheckpointRow]) -> list[str]:
    """Every own pattern that rows fill."""
    return [o for r in rows for o in r.own]
