"""What a file holds beside components and models: imports, papers, variants, checkpoint maps; several ways to write the same.

A spec may be several files: a line `# ---- parts.xf ----` begins the next one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from xfc.backends import interpreter
from xfc.compiler import ir
from xfc.compiler.dims import Sym

from .body import Spec
from .choices import Choices

BREAK = re.compile(r"^# ---- (\w+\.xf) ----\n", re.MULTILINE)


def write_spec(text: str, path: Path) -> None:
    """The first file there, the others beside it."""
    first, *rest = BREAK.split(text)
    path.write_text(first, encoding="utf-8")
    for name, content in zip(rest[::2], rest[1::2], strict=True):
        path.with_name(name).write_text(content, encoding="utf-8")


def file_text(spec: Spec) -> str:
    """The declarations, some of them perhaps in a file of their own; perhaps a variant at the end, a comment, a map of a config."""
    c = spec.choices
    parts = list(spec.parts)
    names = re.findall(r"^model (\w+)", "\n".join(parts), re.MULTILINE)
    match c.below(12):
        case 9:
            parts.append(f'model {spec.name("dated")} extends {names[-1]}:\n    "A variant, arXiv:0000.00000"')
        case 10:
            parts.append(f"model {spec.name('again')} extends {names[-1]}")
        case 11:
            parts.append(
                f'config huggingface for {names[-1]}:\n    architectures = "Of{names[-1].title()}"\n    "kind" = 1\n    ignore "*_token_id", "dtype"'
            )
        case _:
            pass
    own = [p for p in parts if re.match(r"(component|fn|mask|score|weights) ", p)]
    if own and c.chance(6):
        rest = [p for p in parts if p not in own]
        return 'import "parts.xf"\n\n' + "\n\n".join(rest) + "\n# ---- parts.xf ----\n" + "\n\n".join(own) + "\n"
    return ("# made at random\n\n" if c.chance(8) else "") + "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------- checkpoints


def checkpoint_map(program: ir.Program, under: Mapping[Sym, int | float], choices: Choices) -> str:
    """Rows for every parameter of a program: under other names, transposed, joined, numbered by layer, expert by expert."""
    rows: dict[str, str] = {}
    joined: list[tuple[str, ir.Param]] = []
    layers: dict[str, set[str]] = {}
    for place in interpreter.places(program, under):
        if not place.param.stored:
            continue
        own = _numbered(place.name)
        published = f"net.{own}"
        layers.setdefault(own, set()).add(".".join(p for p in place.name.split(".") if p.isdigit()))
        if place.banks:
            if len(place.banks) == 1 and own.count("{") < 2:
                rows[own] = f'"{published}.of.{{e}}" = {own}[{{e}}]'
            else:
                rows[own] = f'"{published}" = {own}'
            continue
        if own in rows:
            continue
        match choices.below(7):
            case 0:
                rows[own] = f'"[model.]{published}" = {own}'
            case 1 if len(place.param.type.axes) == 2:
                rows[own] = f'"{published}" = transpose({own})'
            case 2:
                rows[own] = f'"{published}" or "old.{published}" = {own}'
            case 3 if own.count("{") < 2 and place.param.type.axes:
                joined.append((own, place.param))
                rows[own] = ""
            case _:
                rows[own] = f'"{published}" = {own}'
    for own, param in joined:
        other = next((o for o, p in joined if o != own and rows[o] == "" and layers[o] == layers[own] and _fits(p, param)), None)
        if rows[own] == "" and other is not None:
            rows[own] = f'"net.joined.{own}" = concat({own}, {other})'
            rows[other] = "-"
        elif rows[own] == "":
            rows[own] = f'"{own}" = {own}'
    lines = [row for row in rows.values() if row != "-"]
    lines.append('ignore "*.inv_freq", "*.position_ids"')
    return f"checkpoint huggingface for {program.name}:\n" + "\n".join(f"    {line}" for line in lines)


def _numbered(name: str) -> str:
    """The name with a letter for the number of each layer: `layers.{i}.inner.{j}.weight`."""
    letters = iter("ijklm")
    return ".".join(f"{{{next(letters)}}}" if part.isdigit() else part for part in name.split("."))


def _fits(a: ir.Param, b: ir.Param) -> bool:
    """Whether two tensors can be joined along their first axis."""
    sizes = [[axis.size.value() for axis in p.type.axes[1:]] for p in (a, b)]
    return sizes[0] == sizes[1] and a.type.dtype == b.type.dtype
