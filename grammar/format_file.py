"""Canonical form of a spec's file, in either surface.

A .xf text is printed anew from its tree (format_xf.py). A YAML text keeps its lines and comments, since their order and grouping are the
author's: its expressions get the canonical spacing, its blocks of .xf the canonical form, its lines lose trailing blanks.
"""

from __future__ import annotations

import re

from .compose_yaml import Mapping, Node, Scalar, Sequence, compose_yaml, fragment_of
from .convert import scalar_text
from .format_xf import format_xf
from .load import SURFACES, parse_source
from .parse import parse_value
from .print_expression import text_of
from .problem import Problem
from .tree import Source

_TEXTS = ("model", "extends", "paper", "import", "assume")


def format_file(source: Source) -> tuple[str | None, list[Problem]]:
    """The text in canonical form; or, for a text that does not parse, nothing and what is wrong with it."""
    file, problems = parse_source(source)
    if file is None or problems:
        return None, problems
    ending = source.path[source.path.rfind(".") :].lower()
    if SURFACES[ending] == "xf":
        return format_xf(source)
    text = _format_yaml(source)
    again, problems = parse_source(Source(source.path, text))
    return (text, []) if again == file and not problems else (source.text, [])


def _format_yaml(source: Source) -> str:
    root, _ = compose_yaml(source)
    edits: list[tuple[int, int, str]] = []
    if isinstance(root, Mapping):
        for key, value in root.pairs:
            name = key.value if isinstance(key, Scalar) else ""
            if name in ("components", "maps") and isinstance(value, Scalar):
                edits += _definitions(source, value)
            elif name not in _TEXTS:
                edits += _expressions(source, value)
    text = source.text
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def _definitions(source: Source, node: Scalar) -> list[tuple[int, int, str]]:
    """The edit that puts a block of .xf into canonical form."""
    fragment = fragment_of(source, node)
    text, _ = format_xf(Source(source.path, fragment.text))
    raw = source.text[node.start : node.end]
    header, newline, body = raw.partition("\n")
    filled = next((line for line in body.split("\n") if line.strip()), "")
    margin = filled[: len(filled) - len(filled.lstrip(" "))]
    if text is None or any(sign.isdigit() for sign in header):
        return []
    start = node.start + len(header) + len(newline)
    kept = len(body) - len(body.rstrip())
    return [(start, node.end - kept, "\n".join(margin + line if line else "" for line in text.rstrip("\n").split("\n")))]


def _expressions(source: Source, node: Node) -> list[tuple[int, int, str]]:
    """The edits that give the expressions on one line their canonical spacing."""
    match node:
        case Sequence(items=items):
            return [edit for item in items for edit in _expressions(source, item)]
        case Mapping(pairs=pairs):
            return [edit for _, value in pairs for edit in _expressions(source, value)]
        case Scalar(style="|" | ">"):
            return []
        case Scalar():
            fragment = fragment_of(source, node)
            value, problems = parse_value(fragment)
            if value is None or problems or "\n" in fragment.text or "#" in fragment.text:
                return []
            text = text_of(value)
            if text.replace(" ", "") != fragment.text.replace(" ", "").replace("\t", ""):
                return []
            new = scalar_text(text, node.in_flow)
            if node.style is not None and not new.startswith(('"', "'")):
                new = f'"{text}"' if node.style == '"' else f"'{text}'"
            return [(node.start, node.end, new)]
