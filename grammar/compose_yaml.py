"""YAML text to nodes with positions, every scalar still text. Iterative; refuses what a spec has no use for (anchors, tags, documents)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field

import yaml

from .frozen import frozen, mutable
from .lexer import Fragment
from .problem import Problem
from .tree import Source, Span

DEEPEST_YAML = 50
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|\r?\n[ \t]*|(.))")
_SIMPLE_ESCAPES = {"n": "\n", "t": "\t", "0": "\0", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "r": "\r", "v": "\v", "_": "\xa0"}


@frozen
class Scalar:
    """`value` is what YAML makes of it; `style` is none for a plain one, or the sign it starts with."""

    value: str
    style: str | None
    start: int
    end: int
    in_flow: bool


@frozen
class Sequence:
    items: tuple[Node, ...]
    start: int
    end: int


@frozen
class Mapping:
    pairs: tuple[tuple[Node, Node], ...]
    start: int
    end: int
    flow: bool


Node = Scalar | Sequence | Mapping


@mutable(slots=True)
class _Open:
    """A collection whose end is still to come."""

    mapping: bool
    start: int
    flow: bool
    nodes: list[Node] = field(default_factory=list)


def compose_yaml(source: Source) -> tuple[Node | None, list[Problem]]:
    """The one document of a YAML text."""
    try:
        return _compose(source, yaml.parse(source.text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = min(mark.index, len(source.text)) if mark else 0
        message = " ".join(part for part in (error.context, error.problem) if part)
        return None, [Problem("E030", f"this is not YAML: {message}", Span(source, at, at), _advice(source.text, at, message))]
    except yaml.YAMLError as error:
        at = int(getattr(error, "position", 0))
        reason = str(getattr(error, "reason", "it cannot be read"))
        return None, [Problem("E030", f"this is not YAML: {reason}", Span(source, at, at), "save it as plain text")]


def _compose(source: Source, events: Iterator[yaml.Event]) -> tuple[Node | None, list[Problem]]:
    root: Node | None = None
    stack: list[_Open] = []

    def problem(code: str, message: str, start: int, end: int, help: str) -> tuple[None, list[Problem]]:
        return None, [Problem(code, message, Span(source, start, end), help)]

    for event in events:
        node: Node | None = None
        assert event.start_mark is not None and event.end_mark is not None
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                return problem("E033", "a second document starts here", start, end, "put each model in a file of its own")
            continue
        if isinstance(event, yaml.AliasEvent):
            return problem("E032", f"the alias `*{event.anchor}` has no meaning here", start, end, "use `let:` to name a value")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            return problem("E032", f"the anchor `&{event.anchor}` has no meaning here", start, end, "use `let:` to name a value")
        if isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent) and event.tag is not None:
            written = source.text[start:].split(maxsplit=1)[0]
            return problem("E032", f"the tag `{written}` has no meaning here", start, end, "leave it out: a value is an expression")
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= DEEPEST_YAML:
                return problem("E018", f"this nests more than {DEEPEST_YAML} levels deep", start, end, "name the inner parts under `let:`")
            stack.append(_Open(isinstance(event, yaml.MappingStartEvent), start, bool(event.flow_style)))
            continue
        if isinstance(event, yaml.ScalarEvent):
            style = event.style if event.style in ("'", '"', "|", ">") else None
            node = Scalar(event.value, style, start, end, bool(stack and stack[-1].flow))
        elif isinstance(event, yaml.CollectionEndEvent):
            top = stack.pop()
            stop = end if top.flow or not top.nodes else top.nodes[-1].end
            if top.mapping:
                pairs = tuple(zip(top.nodes[::2], top.nodes[1::2], strict=True))
                node = Mapping(pairs, top.start, stop, top.flow)
            else:
                node = Sequence(tuple(top.nodes), top.start, stop)
        if node is None:
            continue
        if stack:
            stack[-1].nodes.append(node)
        else:
            root = node
    return root, []


def _advice(text: str, at: int, message: str) -> str:
    if "quoted scalar" in message and "end of stream" in message:
        return "close the quotes"
    if "tab character" in message or "\\t" in message or "'\t'" in message:
        return "indent with spaces"
    if "mapping values are not allowed" in message:
        return 'a value that holds `: ` is quoted: key: "..."'
    if "flow" in message:
        return 'inside {...} and [...] a value that holds `,` or a bracket is quoted: rotate: "rope(theta = 1e4, x = [a])"'
    if "cannot start any token" in message or "while scanning" in message:
        return 'quote the value: key: "..."'
    return "check the indentation and the quotes of this line"


def fragment_of(source: Source, scalar: Scalar) -> Fragment:
    """The scalar's text as written, without its quotes, escapes and indentation, each character placed in the source."""
    raw = source.text[scalar.start : scalar.end]
    match scalar.style:
        case '"':
            return _pieces(source, raw[1:-1], scalar.start + 1, _ESCAPE)
        case "'":
            return _pieces(source, raw[1:-1], scalar.start + 1, re.compile("'(')"))
        case "|" | ">":
            return _lines(source, raw, scalar)
        case _:
            return Fragment(source, raw, ((0, scalar.start),))


def _pieces(source: Source, raw: str, offset: int, escape: re.Pattern[str]) -> Fragment:
    text, last = "", 0
    anchors: list[tuple[int, int]] = [(0, offset)]
    for match in escape.finditer(raw):
        text += raw[last : match.start()]
        groups = [group for group in match.groups() if group is not None]
        if not groups:
            value = ""
        elif len(groups[0]) > 1:
            code = int(groups[0], 16)
            value = chr(code) if code < 0x110000 else "\ufffe"
        else:
            value = _SIMPLE_ESCAPES.get(groups[0], groups[0])
        anchors.append((len(text), offset + match.start()))
        text += value
        last = match.end()
        anchors.append((len(text), offset + last))
    return Fragment(source, text + raw[last:], tuple(dict(anchors).items()))


def _lines(source: Source, raw: str, scalar: Scalar) -> Fragment:
    """A block scalar: the lines after `|`, less the indentation that YAML takes off."""
    header, _, body = raw.partition("\n")
    offset = scalar.start + len(header) + 1
    written = body.split("\n")
    filled = next((line for line in written if line.strip()), "")
    indentation = len(filled) - len(filled.lstrip(" "))
    first = next((line for line in scalar.value.split("\n") if line.strip()), "")
    if any(sign.isdigit() for sign in header) and filled.rstrip("\r").endswith(first):
        indentation = len(filled.rstrip("\r")) - len(first)
    text, anchors = "", [(0, offset)]
    for number, line in enumerate(written):
        cut = min(indentation, len(line) - len(line.lstrip(" ")))
        anchors.append((len(text), offset + cut))
        text += line[cut:] + ("\n" if number + 1 < len(written) else "")
        offset += len(line) + 1
    return Fragment(source, text, tuple(dict(anchors).items()))
