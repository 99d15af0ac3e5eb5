"""An expression as .xf text: on one line, or broken at its brackets to fit a width."""

from __future__ import annotations

from collections.abc import Iterable

from . import tree
from .frozen import frozen
from .lexer import escape
from .tree import Expr

WIDTH = 120
STEP = 4

# How tightly each construct binds; an operand that binds less tightly than its place asks for goes into parentheses.
_CHOOSE, _REPEAT, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _POSTFIX = range(11)
_BINARY = {
    "or": (_OR, _OR, _AND),
    "and": (_AND, _AND, _NOT),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), (_COMPARE, _SUM, _SUM)),
    **dict.fromkeys(("+", "-"), (_SUM, _SUM, _PRODUCT)),
    **dict.fromkeys(("*", "/", "//", "%"), (_PRODUCT, _PRODUCT, _SIGN)),
    "^": (_POWER, _POSTFIX, _SIGN),
}


@frozen
class Group:
    """Items in brackets: where a line may be broken. With an item a line the last has a comma too, unless the brackets only group."""

    opening: str
    items: tuple[Parts, ...]
    closing: str
    only_groups: bool = False


Parts = tuple["str | Group", ...]


def flat(parts: Parts) -> str:
    """On one line."""
    return "".join(
        part if isinstance(part, str) else part.opening + ", ".join(flat(item) for item in part.items) + part.closing for part in parts
    )


def fit(parts: Parts, indent: int, room: int = 0) -> str:
    """The parts after `indent` spaces (not written), broken where that is needed to keep lines, and `room` after the last, within `WIDTH`."""
    line = flat(parts)
    if indent + len(line) + room <= WIDTH:
        return line
    groups = [n for n, part in enumerate(parts) if isinstance(part, Group)]
    for n in reversed(groups):
        group = parts[n]
        assert isinstance(group, Group)
        before, after = flat(parts[:n]) + group.opening, group.closing + flat(parts[n + 1 :])
        if indent + len(before) <= WIDTH and indent + len(after) + room <= WIDTH:
            return before + _inside(group, indent) + after
    text = ""
    for part in parts:
        text += part if isinstance(part, str) else part.opening + _inside(part, indent) + part.closing
    return text


def _inside(group: Group, indent: int) -> str:
    """The items on lines of their own: all on one if they fit, else one a line."""
    inner = indent + STEP
    margin = "\n" + " " * inner
    line = ", ".join(flat(item) for item in group.items)
    if inner + len(line) <= WIDTH:
        return margin + line + "\n" + " " * indent
    lines = ",".join(margin + fit(item, inner, 1) for item in group.items)
    return lines + ("" if group.only_groups else ",") + "\n" + " " * indent


def group(opening: str, items: Iterable[Parts], closing: str, only_groups: bool = False) -> Parts:
    found = tuple(items)
    return (Group(opening, found, closing, only_groups),) if found else (opening + closing,)


def fit_value(before: str, value: Expr, after: str, indent: int, several: bool = False) -> str:
    """`before value after`; a sum or product too long for its line goes into parentheses, an operand a line. `several` says that
    `a, b` may stand there without parentheses."""
    text = fit((before, *(parts_of_value(value) if several else parts_of(value)), after), indent)
    if not isinstance(value, tree.Binary) or all(len(line) + (indent if n == 0 else 0) <= WIDTH for n, line in enumerate(text.split("\n"))):
        return text
    level = _BINARY[value.op][0]
    operands: list[tuple[str, Expr, int]] = []
    rest: Expr = value
    while isinstance(rest, tree.Binary) and _BINARY[rest.op][0] == level and level not in (_COMPARE, _POWER):
        operands.append((rest.op + " ", rest.right, _BINARY[rest.op][2]))
        rest = rest.left
    operands.append(("", rest, level))
    inner = indent + STEP
    lines = [" " * inner + fit((sign, *parts_of(operand, needed)), inner) for sign, operand, needed in reversed(operands)]
    return f"{before}(\n" + "\n".join(lines) + "\n" + " " * indent + f"){after}"


def parts_of_value(value: Expr) -> Parts:
    """A value after `=` or `return`, where a tuple needs no parentheses."""
    if isinstance(value, tree.Tuple):
        return _joined(parts_of(item) for item in value.items)
    return parts_of(value)


def text_of(value: Expr) -> str:
    return flat(parts_of_value(value))


def _joined(items: Iterable[Parts]) -> Parts:
    found: list[str | Group] = []
    for number, item in enumerate(items):
        found += [", ", *item] if number else item
    return tuple(found)


def parts_of(value: Expr, needed: int = _CHOOSE) -> Parts:
    """The parts of an expression at a place where something must bind at least as tightly as `needed`."""
    level, parts = _level_and_parts(value)
    return parts if level >= needed else group("(", (parts,), ")", only_groups=True)


def _level_and_parts(value: Expr) -> tuple[int, Parts]:
    match value:
        case tree.Number(text=text):
            return _POSTFIX, (text,)
        case tree.String(value=content):
            return _POSTFIX, (escape(content),)
        case tree.Name(id=name):
            return _POSTFIX, (name,)
        case tree.List(items=items):
            return _POSTFIX, group("[", (parts_of(item) for item in items), "]")
        case tree.Tuple(items=items):
            return _POSTFIX, group("(", (parts_of(item) for item in items), ")", only_groups=True)
        case tree.Call(function=function, arguments=arguments):
            return _POSTFIX, (*parts_of(function, _POSTFIX), *group("(", map(argument_parts, arguments), ")"))
        case tree.Index(value=inner, arguments=arguments):
            return _POSTFIX, (*parts_of(inner, _POSTFIX), *group("[", map(argument_parts, arguments), "]"))
        case tree.Attribute(value=inner, name=name):
            return _POSTFIX, (*parts_of(inner, _POSTFIX), f".{name}")
        case tree.Unary(op="not", value=inner):
            return _NOT, ("not ", *parts_of(inner, _NOT))
        case tree.Unary(op=op, value=inner):
            return _SIGN, (op, *parts_of(inner, _SIGN))
        case tree.Binary(op=op, left=left, right=right):
            level, before, after = _BINARY[op]
            return level, (*parts_of(left, before), f" {op} ", *parts_of(right, after))
        case tree.Choose(condition=condition, then=then, other=other):
            return _CHOOSE, (*parts_of(then, _REPEAT), " if ", *parts_of(condition, _REPEAT), " else ", *parts_of(other))
        case tree.Repeat(count=count, pattern=pattern):
            return _REPEAT, (*parts_of(count, _OR), " of ", *parts_of(pattern, _REPEAT))
        case tree.Axis(label=label, size=size):
            return _CHOOSE, (f"{label}: ", *parts_of(size))
        case tree.Range(start=start, stop=stop):
            first: Parts = (*parts_of(start), " ") if start is not None else ()
            last: Parts = (" ", *parts_of(stop)) if stop is not None else ()
            return _CHOOSE, (*first, "..", *last)
        case tree.Block():
            raise ValueError("a block stands only at the end of a line of its own")


def argument_parts(argument: tree.Argument) -> Parts:
    name = f"{argument.name} = " if argument.name is not None else ""
    return (name, *parts_of(argument.value)) if name else parts_of(argument.value)
