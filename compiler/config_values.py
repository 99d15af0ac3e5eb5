"""What the right side of a config map's row means for one config: a value, or syntax with the config's values put in.

Names are the config's keys (a key that is missing or null is `none`; `rope_parameters.rope_theta` reads a nested one); what is no key and names a
component stays as it is written. Besides operators, `a if c else b` and lists there are

    first(a, b, ...)              the first that is not none
    choose(x, "a", v, "b", w)     what x stands for; none if x is none, an error if x is none of them
    each(n, v)                    the list of v for `layer` = 0, 1, ..., written in runs: `[local * 5, global]`
    contains(list, x), length(x), minimum(a, b), maximum(a, b), int(x), float(x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace

from ..grammar import tree
from ..grammar.frozen import mutable
from ..grammar.print_expression import text_of
from .diagnostics import Diagnostics
from .library import suggest
from .operations import Poison

Json = int | float | bool | str | None | Sequence["Json"] | Mapping[str, "Json"]
Value = Json | tree.Expr
"""A value of the config, or syntax (`tree.Expr`) that stays for the spec."""

_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "none": None}
_WIDEST = 120
"""Characters of a value in a message."""
MOST_LAYERS = 10_000
"""That a map says something of one by one; more would be a slip of the config, and take minutes."""
_FUNCTIONS = ("first", "choose", "each", "contains", "length", "minimum", "maximum", "int", "float")


@mutable
class ConfigReader:
    """Evaluates rows over one config. `is_known` says which names stay as syntax; `read` collects the keys that rows speak of."""

    config: Mapping[str, Json]
    is_known: Callable[[str], bool]
    diagnostics: Diagnostics
    place: Callable[[str], tree.Span | None]
    read: set[str] = field(default_factory=set)
    locals: dict[str, Value] = field(default_factory=dict)

    def error(self, code: str, message: str, span: tree.Span | None, help: str | None = None) -> Poison:
        self.diagnostics.error(code, message, span, help=help)
        return Poison()

    # ------------------------------------------------ expressions

    def evaluate(self, node: tree.Expr) -> Value:
        match node:
            case tree.Number():
                return node.value
            case tree.String(value=text):
                return text
            case tree.Name(id=name):
                return self.name(node, name)
            case tree.Attribute(value=inner, name=name):
                value = self.evaluate(inner)
                if isinstance(value, tree.Node):
                    return replace(node, value=value)
                if value is None:
                    return None
                if not isinstance(value, Mapping):
                    raise self.error("E516", f"{shown(value)} has no key `{name}`", node.span)
                return value.get(name)
            case tree.List(items=items):
                values = [self.evaluate(i) for i in items]
                return (
                    tree.List(span=node.span, items=tuple(self.syntax(v, node.span) for v in values))
                    if any(isinstance(v, tree.Node) for v in values)
                    else self.plain(values)
                )
            case tree.Index(value=inner, arguments=(tree.Argument(name=None, value=at),)):
                return self.index(node, self.evaluate(inner), self.evaluate(at))
            case tree.Unary(op=op, value=inner):
                value = self.evaluate(inner)
                return replace(node, value=value) if isinstance(value, tree.Node) else self.unary(node, op, value)
            case tree.Binary():
                return self.binary(node)
            case tree.Choose(condition=condition, then=then, other=other):
                return self.evaluate(then if self.truth(condition) else other)
            case tree.Call():
                return self.call(node)
            case tree.Repeat(count=count, pattern=pattern):
                wanted = self.wanted(pattern)
                return replace(node, count=self.wanted(count), pattern=wanted.pattern if isinstance(wanted, tree.Repeat) else wanted)
            case tree.Axis(size=size):
                return replace(node, size=self.wanted(size))
            case _:
                raise self.error("E515", "this cannot stand in a config map", node.span, help="write keys, numbers, calls, `a if c else b`")

    def name(self, node: tree.Name, name: str) -> Value:
        if name in self.locals:
            return self.locals[name]
        if name in self.config:
            return self.config[name]
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        return node if self.is_known(name) else None

    def index(self, node: tree.Index, value: Value, at: Value) -> Json:
        if value is None or at is None:
            return None
        if isinstance(value, Mapping) and isinstance(at, str):
            return value.get(at)
        if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(at, int) and -len(value) <= at < len(value):
            return value[at]
        raise self.error("E516", f"{shown(value)} has no entry {shown(at)}", node.span)

    def unary(self, node: tree.Unary, op: str, value: Json) -> Json:
        if op == "not":
            return not value
        if isinstance(value, int | float):
            return -value
        raise self.error("E516", f"`{op}` needs a number, found {shown(value)}", node.span)

    def binary(self, node: tree.Binary) -> Value:
        left = self.evaluate(node.left)
        if node.op in ("and", "or") and not isinstance(left, tree.Node):
            return self.evaluate(node.right) if bool(left) == (node.op == "and") else left
        right = self.evaluate(node.right)
        if node.op in ("==", "!=") and not isinstance(left, tree.Node) and not isinstance(right, tree.Node):
            return (left == right) == (node.op == "==")
        if isinstance(left, tree.Node) or isinstance(right, tree.Node):
            return replace(node, left=self.syntax(left, node.left.span), right=self.syntax(right, node.right.span))
        if left is None or right is None:
            if node.op in ("<", "<=", ">", ">="):
                raise self.error(
                    "E516",
                    f"`{node.op}` needs numbers, and a key is missing here",
                    node.span,
                    help="test it first: `key != none`, or give a default: `first(key, 0)`",
                )
            return None
        return self.arithmetic(node, left, right)

    def arithmetic(self, node: tree.Binary, left: Json, right: Json) -> Json:
        if isinstance(left, int | float) and isinstance(right, int | float):
            try:
                match node.op:
                    case "+":
                        return left + right
                    case "-":
                        return left - right
                    case "*":
                        return left * right
                    case "/":
                        exact = isinstance(left, int) and isinstance(right, int) and left % right == 0
                        return left // right if exact else left / right
                    case "//":
                        return left // right
                    case "%":
                        return left % right
                    case "^":
                        return float(left**right) if isinstance(left**right, float) else left**right
                    case "<":
                        return left < right
                    case "<=":
                        return left <= right
                    case ">":
                        return left > right
                    case ">=":
                        return left >= right
            except (ArithmeticError, ValueError) as problem:
                raise self.error("E516", f"{shown(left)} {node.op} {shown(right)}: {problem}", node.span) from problem
        raise self.error("E516", f"`{node.op}` needs numbers, found {shown(left)} and {shown(right)}", node.span)

    def truth(self, node: tree.Expr) -> bool:
        value = self.evaluate(node)
        if isinstance(value, tree.Node):
            raise self.error("E515", "a condition must be known from the config", node.span)
        return bool(value)

    # ------------------------------------------------ calls

    def call(self, node: tree.Call) -> Value:
        word = node.function.id if isinstance(node.function, tree.Name) else ""
        arguments = [a.value for a in node.arguments if a.name is None]
        if (
            word in _FUNCTIONS
            and len(arguments) == len(node.arguments)
            and not (word in ("minimum", "maximum", "int", "float") and self.stays(node))
        ):
            return self.function(node, word, arguments)
        if word and not self.is_known(word):
            raise self.error(
                "E515",
                f"nothing is called `{word}`",
                node.span,
                help=suggest(word, _FUNCTIONS) or "a component, or " + ", ".join(f"`{f}`" for f in _FUNCTIONS),
            )
        kept: list[tree.Argument] = []
        for argument in node.arguments:
            value = self.evaluate(argument.value)
            if value is None and argument.name is not None and not _is_none(argument.value):
                continue
            kept.append(replace(argument, value=self.syntax(value, argument.value.span)))
        return replace(node, arguments=tuple(kept))

    def stays(self, node: tree.Call) -> bool:
        return any(isinstance(self.evaluate(a.value), tree.Node) for a in node.arguments)

    def function(self, node: tree.Call, word: str, arguments: Sequence[tree.Expr]) -> Value:
        match word, arguments:
            case "first", _:
                for argument in arguments:
                    value = self.evaluate(argument)
                    if value is not None:
                        return value
                return None
            case "choose", [key, *rest] if rest and len(rest) % 2 == 0:
                return self.choose(node, key, rest)
            case "each", [count, item]:
                return self.each(node, count, item)
            case "contains", [values, item]:
                found, wanted = self.evaluate(values), self.evaluate(item)
                return isinstance(found, Sequence | Mapping) and not isinstance(wanted, tree.Node) and wanted in list(found)
            case "length", [value]:
                found = self.evaluate(value)
                return len(found) if isinstance(found, Sequence | Mapping) else None
            case (("int" | "float"), [value]):
                found = self.evaluate(value)
                if found is None:
                    return None
                if isinstance(found, int | float | str):
                    return int(found) if word == "int" else float(found)
            case (("minimum" | "maximum"), [_, *_]):
                numbers = [v for v in map(self.evaluate, arguments) if isinstance(v, int | float)]
                return (min if word == "minimum" else max)(numbers) if len(numbers) == len(arguments) else None
        raise self.error("E515", f"`{word}` cannot be called like this", node.span, help="docs/language.md, section 10, says how")

    def choose(self, node: tree.Call, key: tree.Expr, rest: Sequence[tree.Expr]) -> Value:
        value = self.evaluate(key)
        if value is None:
            return None
        for case, meaning in zip(rest[::2], rest[1::2], strict=True):
            if self.evaluate(case) == value:
                return self.evaluate(meaning)
        known = ", ".join(shown(self.evaluate(c)) for c in rest[::2])
        name, where = self.source(key, value, node.span)
        raise self.error(
            "E512",
            f"`{name}` is {shown(value)}, which the spec's map does not know",
            where,
            help=f"it knows {known}",
        )

    def source(self, node: tree.Expr, value: Value, span: tree.Span | None = None) -> tuple[str, tree.Span]:
        """The config's key that an expression has its value from, and where it stands; else the expression itself, at `span` or its own place."""
        key = next((k for k in keys_of(node) if _found(self.config, k) == value), None)
        return key or text_of(node), (self.place(key) if key else None) or span or node.span

    def each(self, node: tree.Call, count: tree.Expr, item: tree.Expr) -> Value:
        number = self.evaluate(count)
        if not isinstance(number, int):
            raise self.error("E516", f"`each` counts layers, found {shown(number)}", count.span)
        if number > MOST_LAYERS:
            _, where = self.source(count, number)
            raise self.error("E512", f"{shown(number)} layers are more than {MOST_LAYERS}, as many as are written one by one", where)
        values: list[tree.Expr] = []
        for layer in range(number):
            self.locals["layer"] = layer
            values.append(self.syntax(self.evaluate(item), item.span))
        self.locals.pop("layer", None)
        return roll_up(values, node.span)

    # ------------------------------------------------ values as syntax

    def wanted(self, node: tree.Expr) -> tree.Expr:
        return self.syntax(self.evaluate(node), node.span)

    def plain(self, values: Sequence[Value]) -> Json:
        return [v for v in values if not isinstance(v, tree.Node)]

    def syntax(self, value: Value, span: tree.Span) -> tree.Expr:
        if isinstance(value, tree.Node):
            return value
        if _holds_group(value):
            raise self.error("E516", "a group of keys is not a value", span, help="name the key: `rope_parameters.rope_theta`")
        return literal(value, span)


def _holds_group(value: Value) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(map(_holds_group, value))
    return isinstance(value, Mapping)


def literal(value: Json, span: tree.Span) -> tree.Expr:
    """A value of the config as it is written in a spec."""
    match value:
        case None:
            return tree.Name(span=span, id="none")
        case bool():
            return tree.Name(span=span, id="true" if value else "false")
        case int() | float() if value < 0:
            return tree.Unary(span=span, op="-", value=literal(-value, span))
        case int() | float():
            return tree.Number(span=span, text="1e999" if value == float("inf") else repr(value))
        case str():
            return tree.String(span=span, value=value)
        case Sequence():
            return tree.List(span=span, items=tuple(literal(v, span) for v in value))
        case _:
            raise TypeError(f"{value!r} is not a value of a spec")


def roll_up(items: Sequence[tree.Expr], span: tree.Span) -> tree.Expr:
    """A list of layers as runs: `12 of a`, `12 of [a * 5, b]` if it repeats, `[a * 3, b * 58]`."""
    number = tree.Number(span=span, text=str(len(items)))
    for period in range(1, len(items) // 2 + 1):
        if all(items[k] == items[k % period] for k in range(len(items))):
            pattern = items[0] if period == 1 else _runs(items[:period], span)
            return tree.Repeat(span=span, count=number, pattern=pattern)
    return _runs(items, span)


def _runs(items: Sequence[tree.Expr], span: tree.Span) -> tree.Expr:
    runs: list[tuple[tree.Expr, int]] = []
    for item in items:
        if runs and runs[-1][0] == item:
            runs[-1] = (item, runs[-1][1] + 1)
        else:
            runs.append((item, 1))
    written = (i if n == 1 else tree.Binary(span=span, op="*", left=i, right=tree.Number(span=span, text=str(n))) for i, n in runs)
    return tree.List(span=span, items=tuple(written))


def shown(value: Value) -> str:
    if isinstance(value, tree.Node):
        return f"`{text_of(value)}`"
    if value is None:
        return "none"
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def keys_of(node: tree.Expr) -> list[str]:
    """Every name, dotted where nested, that an expression speaks of."""
    found: list[str] = []

    def visit(x: object) -> None:
        match x:
            case tree.Attribute() if (path := _dotted(x)) is not None:
                found.append(path)
            case tree.Name(id=name):
                found.append(name)
            case tree.Node():
                for slot in x.__dataclass_fields__:
                    visit(getattr(x, slot))
            case tuple():
                for y in x:
                    visit(y)

    visit(node)
    return found


def _dotted(node: tree.Expr) -> str | None:
    match node:
        case tree.Name(id=name):
            return name
        case tree.Attribute(value=value, name=name):
            before = _dotted(value)
            return f"{before}.{name}" if before is not None else None
        case _:
            return None


def _found(config: Json, path: str) -> Json:
    """The value at a dotted path; none if there is none."""
    for key in path.split("."):
        if not isinstance(config, Mapping):
            return None
        config = config.get(key)
    return config


def _is_none(node: tree.Expr) -> bool:
    return isinstance(node, tree.Name) and node.id == "none"
