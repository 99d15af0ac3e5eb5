"""Python source as a small tree: expressions with the parentheses they need and no others, and statements that a formatter leaves alone.

    code      ::= Text | Var | Call | Attribute | Subscript | Binary | Unary | Items | Choice
    statement ::= Assign | Do | Store | Return | Block | Note

A `Var` is a local variable with an identity; its name is given last (`name_variables`), when it is known which values live at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from itertools import count

from ...grammar.frozen import frozen

WIDTH = 120
_serial = count()


@frozen(eq=False)
class Var:
    """A local variable. `hint` is the name it had in the spec (kept), `kind` a name for it if it must have one."""

    hint: str = ""
    kind: str = "y"
    serial: int = field(default_factory=lambda: next(_serial))


AT, COUNT = "at", "count"
"""Kinds of variables that are no tensors: a tuple of indices, a number."""


@frozen
class Text:
    """A name, a literal, or ready-made source that binds tightest unless `rank` says otherwise."""

    text: str
    rank: int = 20


@frozen
class Call:
    function: Code
    args: tuple[Code, ...] = ()
    named: tuple[tuple[str, Code], ...] = ()


@frozen
class Attribute:
    value: Code
    name: str


@frozen
class Subscript:
    """`value[items]`; a slice is an item of Text or a `Range`."""

    value: Code
    items: tuple[Code, ...]


@frozen
class Range:
    """`start:stop` inside a subscript."""

    start: Code | None = None
    stop: Code | None = None


@frozen
class Binary:
    operator: str
    left: Code
    right: Code


@frozen
class Unary:
    operator: str
    value: Code


@frozen
class Items:
    """A tuple, or a list if `square`."""

    items: tuple[Code, ...]
    square: bool = False


@frozen
class Choice:
    """`yes if condition else no`."""

    condition: Code
    yes: Code
    no: Code


@frozen
class Each:
    """`item for name in values`, perhaps `if condition`, as the argument of a call or in a list."""

    item: Code
    name: str
    values: Code
    condition: Code | None = None


Code = Text | Var | Call | Attribute | Subscript | Range | Binary | Unary | Items | Choice | Each

RANKS = {
    "or": 1, "and": 2, "not": 3, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4, "is": 4, "is not": 4, "in": 4, "|": 5, "^": 6, "&": 7,
    "+": 9, "-": 9, "*": 10, "/": 10, "//": 10, "%": 10, "@": 10, "unary": 11, "**": 12,
}  # fmt: skip
TIGHT = 20


# ---------------------------------------------------------------- building


def name(text: str) -> Text:
    return Text(text)


def number(value: float | int | bool) -> Code:
    """A literal as a person writes it: `1e-5`, not `1e-05`."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return Text('float("inf")') if value > 0 else Text('float("-inf")')
    text = repr(value).replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return Unary("-", Text(text[1:])) if text.startswith("-") else Text(text)


def call(function: str | Code, *args: Code, **named: Code) -> Call:
    return Call(Text(function) if isinstance(function, str) else function, args, tuple(named.items()))


def method(value: Code, attribute: str, *args: Code, **named: Code) -> Call:
    return Call(Attribute(value, attribute), args, tuple(named.items()))


def binary(operator: str, *values: Code) -> Code:
    result = values[0]
    for value in values[1:]:
        result = Binary(operator, result, value)
    return result


# ---------------------------------------------------------------- walking


def parts(code: Code) -> tuple[Code, ...]:
    """The codes directly inside."""
    match code:
        case Call(function, args, named):
            return (function, *args, *(v for _, v in named))
        case Attribute(value, _) | Unary(_, value):
            return (value,)
        case Subscript(value, items):
            return (value, *items)
        case Range(start, stop):
            return tuple(c for c in (start, stop) if c is not None)
        case Binary(_, left, right):
            return (left, right)
        case Items(items, _):
            return items
        case Choice(condition, yes, no):
            return (yes, condition, no)
        case Each(item, _, values, condition):
            return (item, values, *(() if condition is None else (condition,)))
        case _:
            return ()


def variables(code: Code) -> Iterator[Var]:
    """Variables as often as they are read."""
    if isinstance(code, Var):
        yield code
    for part in parts(code):
        yield from variables(part)


def substitute(code: Code, mapping: Mapping[Var, Code]) -> Code:
    if isinstance(code, Var):
        return mapping.get(code, code)
    return map_parts(code, lambda c: substitute(c, mapping))


def map_parts(code: Code, go: Callable[[Code], Code]) -> Code:
    """The code with each part directly inside replaced."""
    match code:
        case Call(function, args, named):
            return Call(go(function), tuple(map(go, args)), tuple((k, go(v)) for k, v in named))
        case Attribute(value, attribute):
            return Attribute(go(value), attribute)
        case Subscript(value, items):
            return Subscript(go(value), tuple(map(go, items)))
        case Range(start, stop):
            return Range(start and go(start), stop and go(stop))
        case Binary(operator, left, right):
            return Binary(operator, go(left), go(right))
        case Unary(operator, value):
            return Unary(operator, go(value))
        case Items(items, square):
            return Items(tuple(map(go, items)), square)
        case Choice(condition, yes, no):
            return Choice(go(condition), go(yes), go(no))
        case Each(item, each, values, condition):
            return Each(go(item), each, go(values), condition and go(condition))
        case _:
            return code


def size_of(code: Code) -> int:
    """How much a reader must take in: calls and operators."""
    own = 1 if isinstance(code, Call | Binary | Choice | Subscript) else 0
    return own + sum(map(size_of, parts(code)))


# ---------------------------------------------------------------- rendering

Names = Callable[[Var], str]


def rank(code: Code) -> int:
    match code:
        case Text(_, level):
            return level
        case Binary(operator, _, _):
            return RANKS[operator]
        case Unary(operator, _):
            return RANKS["not" if operator == "not" else "unary"]
        case Choice():
            return 0
        case _:
            return TIGHT


def render(code: Code, names: Names) -> str:
    """One line of source."""

    def at(c: Code, least: int) -> str:
        text = render(c, names)
        return text if rank(c) >= least else f"({text})"

    match code:
        case Text(text, _):
            return text
        case Var():
            return names(code)
        case Call(function, args, named):
            return f"{at(function, TIGHT)}({', '.join(_arguments(args, named, names))})"
        case Attribute(value, attribute):
            text = at(value, TIGHT)
            return f"({text}).{attribute}" if text.isdigit() else f"{text}.{attribute}"
        case Subscript(value, items):
            return f"{at(value, TIGHT)}[{', '.join(_item(i, names) for i in items)}]"
        case Range():
            return _item(code, names)
        case Binary(operator, left, right):
            return _binary(operator, left, right, names)
        case Unary(operator, value):
            if operator == "-" and isinstance(value, Binary) and value.operator == "**":
                return f"-({render(value, names)})"
            return f"not {at(value, RANKS['not'])}" if operator == "not" else f"{operator}{at(value, RANKS['unary'])}"
        case Items(items, square):
            inner = ", ".join(render(i, names) for i in items)
            return f"[{inner}]" if square else f"({inner}{',' if len(items) == 1 else ''})"
        case Choice(condition, yes, no):
            return f"{at(yes, 1)} if {at(condition, 1)} else {at(no, 0)}"
        case Each(item, each, values, condition):
            text = f"{render(item, names)} for {each} in {at(values, 1)}"
            return text if condition is None else f"{text} if {at(condition, 1)}"
    raise TypeError(code)


def _arguments(args: tuple[Code, ...], named: tuple[tuple[str, Code], ...], names: Names) -> list[str]:
    return [render(a, names) for a in args] + [f"{k}={render(v, names)}" for k, v in named]


def _binary(operator: str, left: Code, right: Code, names: Names) -> str:
    level = RANKS[operator]
    a, b = render(left, names), render(right, names)
    if operator == "**":
        a = a if rank(left) > level else f"({a})"
        b = b if rank(right) >= RANKS["unary"] else f"({b})"
        return f"{a}**{b}" if _simple(left) and _simple(right) and not a.startswith("(") else f"{a} ** {b}"
    chained = level == RANKS["<"]
    a = a if rank(left) > level or (rank(left) == level and not chained) else f"({a})"
    same = operator in ("+", "*", "and", "or", "&", "|") and isinstance(right, Binary) and right.operator == operator
    b = b if rank(right) > level or (same and operator in ("and", "or")) else f"({b})"
    return f"{a} {operator} {b}"


def _simple(code: Code) -> bool:
    """Whether the formatter writes `**` beside it without spaces: a name, a number, a dotted name, or the negative of one."""
    match code:
        case Text(text, _):
            return all(p.isidentifier() for p in text.split(".")) or text.replace(".", "").replace("e", "").replace("-", "").isdigit()
        case Var():
            return True
        case Attribute(value, _):
            return isinstance(value, Text | Var | Attribute) and _simple(value)
        case Unary("-", value):
            return isinstance(value, Text | Var | Attribute) and _simple(value)
        case _:
            return False


def _item(code: Code, names: Names) -> str:
    if not isinstance(code, Range):
        return render(code, names)
    ends = [None if c is None else render(c, names) for c in (code.start, code.stop)]
    plain = all(c is None or _plain_bound(c, t or "") for c, t in zip((code.start, code.stop), ends, strict=True))
    left, right = (e or "" for e in ends)
    if plain:
        return f"{left}:{right}"
    return f"{left}{' ' if left else ''}:{' ' if right else ''}{right}"


def _plain_bound(code: Code, text: str) -> bool:
    """Whether the formatter writes a slice's bound without spaces: a name or a number, or its negative."""
    if isinstance(code, Unary):
        return _plain_bound(code.value, text[1:])
    return isinstance(code, Text | Var) and (text.isidentifier() or text.isdigit())


# ---------------------------------------------------------------- statements


@frozen(eq=False)
class Assign:
    """`targets = value`; a target that is none is unused (`_`). `note` is a shape comment, `kind` a type, if the value does not say it."""

    targets: tuple[Var | None, ...]
    value: Code
    note: str = ""
    pure: bool = True
    kind: str = ""


@frozen(eq=False)
class Do:
    """An expression for its effect."""

    value: Code


@frozen(eq=False)
class Store:
    """`target = value`, where the target is no local variable."""

    target: Code
    value: Code


@frozen(eq=False)
class Return:
    value: Code


@frozen(eq=False)
class Block:
    """`head:` and an indented body; `reads` are what the head reads. `loop`: the body runs again; what a `def` reads is read later than here.
    The head is text around codes."""

    head: Code
    keyword: str
    body: tuple[Statement, ...]
    loop: bool = False
    binds: tuple[Var, ...] = ()


@frozen(eq=False)
class Note:
    """A comment on its own line, or an empty line."""

    text: str = ""


Statement = Assign | Do | Store | Return | Block | Note


def with_value(statement: Statement, value: Code) -> Statement:
    match statement:
        case Assign() | Do() | Store() | Return():
            return replace(statement, value=value)
        case Block():
            return replace(statement, head=value)
        case Note():
            return statement


def lines(statements: tuple[Statement, ...], names: Names, indent: int) -> list[str]:
    """Source lines, wrapped as the formatter wraps them."""
    found: list[str] = []
    for s in statements:
        pad = " " * indent
        match s:
            case Assign((Var() as target,), Var() as value) if names(target) == names(value):
                continue  # what had the name before is not read any more
            case Assign(targets, value, note, _, kind):
                left = ", ".join("_" if t is None else names(t) for t in targets) + (f": {kind}" if kind else "")
                found += wrap(f"{left} = ", value, names, indent, note)
            case Return(value):
                found += wrap("return ", value, names, indent)
            case Do(value):
                found += wrap("", value, names, indent)
            case Store(target, value):
                found += wrap(f"{render(target, names)} = ", value, names, indent)
            case Block(head, keyword, body, _, binds):
                bound = ", ".join(map(names, binds))
                between = "" if not bound or keyword == "def" else " in "
                start = keyword if keyword == "else" else f"{keyword} {bound}{between}"
                found.append(f"{pad}{start}{render(head, names)}:")
                found += lines(body, names, indent + 4)
            case Note(text):
                found.append(f"{pad}# {text}" if text else "")
    return found


def wrap(start: str, value: Code, names: Names, indent: int, note: str = "") -> list[str]:
    """A statement on one line if it fits, else with the last call's arguments on lines of their own."""
    pad = " " * indent
    bare = isinstance(value, Items) and not value.square and len(value.items) > 1
    text = render(value, names)
    flat = f"{pad}{start}{text[1:-1] if bare else text}"
    if len(flat) <= WIDTH:
        commented = f"{flat}  # {note}"
        return [commented if note and len(commented) <= WIDTH else flat]
    if bare and isinstance(value, Items):
        return [f"{pad}{start}(", *_one_a_line([("", i) for i in value.items], names, indent), f"{pad})"]
    if isinstance(value, Call) and len(chain := _chain(value, names)) > 2:
        links = [text] if len(f"{pad}    {text}") <= WIDTH else chain
        return [f"{pad}{start}(", *(f"{pad}    {link}" for link in links), f"{pad})"]
    if isinstance(value, Call | Subscript) or (isinstance(value, Items) and value.square):
        return _broken(start, value, "", names, indent)
    if isinstance(value, Binary) and len(_operands(value)) == 2 and (last := _last_call(value, names)) is not None:
        found = _broken(f"{start}{last[0]}", last[1], "", names, indent)
        if len(found[0]) <= WIDTH:
            return found
    if isinstance(value, Binary) and len(f"{pad}    {text}") > WIDTH:
        return [f"{pad}{start}(", *_broken("", value, "", names, indent + 4), f"{pad})"]
    return [f"{pad}{start}(", f"{pad}    {text}", f"{pad})"]


def _chain(code: Code, names: Names) -> list[str]:
    """The links of `x.a(1).b().c`: each starts at a point behind a call or behind brackets."""
    end = ""
    while isinstance(code, Call | Attribute | Subscript):
        match code:
            case Attribute(value, name) if isinstance(value, Call | Subscript | Binary):
                return [*_chain(value, names), f".{name}{end}"]
            case Attribute(value, _) | Call(value) | Subscript(value):
                code, end = value, render(code, names)[len(render(_at(value, TIGHT), names)) :] + end
    return [render(_at(code, TIGHT), names) + end]


def _last_call(code: Code, names: Names) -> tuple[str, Call] | None:
    """What ends with a call or with brackets, as the text before and these: of two operands, the formatter rather breaks inside them."""
    match code:
        case Call(_, args, named) if args or named:
            return "", code
        case Binary(operator) if RANKS[operator] != RANKS["**"]:
            inner = _last_call(_operands(code)[-1][1], names)
            whole = render(code, names)
            return None if inner is None else (whole[: len(whole) - len(render(inner[1], names))], inner[1])
        case _:
            return None


def _broken(start: str, code: Code, end: str, names: Names, indent: int) -> list[str]:
    """Code inside brackets between `start` and `end`, over several lines where one does not hold it."""
    pad = " " * indent
    flat = f"{pad}{start}{render(code, names)}{end}"
    if len(flat) <= WIDTH:
        return [flat]
    match code:
        case Items((Each() as each,), square=True):
            return [f"{pad}{start}[", *_clauses(each, names, indent + 4), f"{pad}]{end}"]
        case Call(function, (Each() as each,), ()):
            return [f"{pad}{start}{render(function, names)}(", *_clauses(each, names, indent + 4), f"{pad}){end}"]
        case Call(Text(""), (inside,), ()):  # brackets
            return [f"{pad}{start}(", *_broken("", inside, "", names, indent + 4), f"{pad}){end}"]
        case Call(Attribute(value, name), (), ()):
            return _broken(start, _at(value, TIGHT), f".{name}(){end}", names, indent)
        case Subscript(value, items) if len(items) > 1:
            return [f"{pad}{start}{render(_at(value, TIGHT), names)}[", *(f"{pad}    {_item(i, names)}," for i in items), f"{pad}]{end}"]
        case Items(items, square=True):
            joined = f"{pad}    {', '.join(render(i, names) for i in items)}"
            apart = [joined] if len(joined) <= WIDTH else _one_a_line([("", i) for i in items], names, indent)
            return [f"{pad}{start}[", *apart, f"{pad}]{end}"]
        case Call(function, args, named):
            head = f"{pad}{start}{render(function, names)}("
            joined = f"{pad}    {', '.join(_arguments(args, named, names))}"
            if len(joined) <= WIDTH:
                return [head, joined, f"{pad}){end}"]
            pairs = [*(("", a) for a in args), *((f"{k}=", v) for k, v in named)]
            return [head, *_one_a_line(pairs, names, indent), f"{pad}){end}"]
        case Binary() if len(pieces := _operands(code)) > 1:
            found: list[str] = []
            for k, (operator, operand) in enumerate(pieces):
                last = end if k == len(pieces) - 1 else ""
                found += _broken(f"{operator} " if operator else start, operand, last, names, indent)
            return found
        case _:
            return [flat]


def _clauses(each: Each, names: Names, indent: int) -> list[str]:
    """`item for name in values if condition` on one line, or each clause on its own."""
    pad = " " * indent
    flat = f"{pad}{render(each, names)}"
    if len(flat) <= WIDTH:
        return [flat]
    condition = [] if each.condition is None else [f"{pad}if {render(each.condition, names)}"]
    return [*_choices(each.item, names, indent), f"{pad}for {each.name} in {render(each.values, names)}", *condition]


def _choices(code: Code, names: Names, indent: int, start: str = "") -> list[str]:
    """A choice over several lines where one does not hold it; then all that it holds are."""
    flat = f"{' ' * indent}{start}{render(code, names)}"
    if not isinstance(code, Choice) or (not start and len(flat) <= WIDTH):
        return _broken(start, code, "", names, indent)
    first = _broken(start, code.yes, "", names, indent)
    return [*first, f"{' ' * indent}if {render(code.condition, names)}", *_choices(code.no, names, indent, "else ")]


def _one_a_line(items: Sequence[tuple[str, Code]], names: Names, indent: int) -> list[str]:
    return [line for start, code in items for line in _broken(start, code, ",", names, indent + 4)]


def _operands(value: Binary) -> list[tuple[str, Code]]:
    """A chain of operators of one rank, each operand with the operator before it."""
    level = RANKS[value.operator]
    if level == RANKS["<"]:  # of three, each would be compared with the next
        return [("", _at(value.left, level + 1)), (value.operator, _at(value.right, level + 1))]
    found: list[tuple[str, Code]] = []
    code: Code = value
    while isinstance(code, Binary) and RANKS[code.operator] == level and level != RANKS["**"]:
        found.insert(0, (code.operator, _at(code.right, level + 1)))
        code = code.left
    return [("", _at(code, level)), *found]


def _at(code: Code, least: int) -> Code:
    """In brackets, if it binds less."""
    return code if rank(code) >= least else Call(Text(""), (code,))
