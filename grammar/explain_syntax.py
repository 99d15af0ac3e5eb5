"""From a state in which the parser could not go on to a sentence that says what was found, what was needed and what to write."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from .automaton import DEEPEST, Automaton, TooDeep, Unexpected
from .frozen import frozen
from .lexer import SOFT, Fragment, Tokens
from .problem import Problem
from .tree import Span

DECLARATIONS = ("component", "mask", "score", "weights", "fn", "model", "checkpoint", "config", "import")
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_STARTS = {"NAME", "NUMBER", "STRING", "(", "[", "-", "not", "..."}
_OPERATORS = {"+", "-", "*", "/", "//", "%", "^", "and", "or", "of", "if", "(", "[", ".", "..", *_COMPARISONS}
_NAMES = {
    "NAME": "a name",
    "STRING": 'a text in quotes ("...")',
    "NUMBER": "a number",
    "NEWLINE": "the end of the line",
    "INDENT": "an indented block",
    "DEDENT": "the end of the block",
    "$END": "the end of the text",
    "EXTENDS": "`extends`",
}
_LINES = (
    (
        {"GIVEN", "return"},
        "a statement",
        "a line of a body is `y = f(x)`, `return y` or starts with `let`, `shared`, `given`, `if`, `for`, `loss`, `emit`, `state`, `next` or `assume`",
    ),
    (
        {"LET", "ASSUME", "NAME"},
        "an argument",
        "a line of a model's block is `name = value`, `name:` with a block of its own, or `let name = value`",
    ),
    ({"IGNORE", "STRING"}, "a row", 'a row of a map is `"key" = value`, `name = value` or `ignore "key"`'),
)
"""What a line can begin with tells what it stands in; what that is called, and what there can be."""


@frozen
class Place:
    """Where the parser stopped: the token there, those around it, and what could have come instead."""

    found: str  # a sign or word as written, or a terminal's name
    text: str
    before: str
    line: tuple[str, ...]  # the words of the line up to here
    after: str
    needed: frozenset[str]
    span: Span
    outermost: bool
    above: str  # the last sign or word of the line before


def explain_too_deep(fragment: Fragment, tokens: Tokens, order: Sequence[int], result: TooDeep) -> Problem:
    at = order[min(result.order, len(order) - 1)]
    help = "give the inner parts names of their own (`let`, a component)"
    return Problem("E018", f"this nests more than {DEEPEST} levels deep", fragment.span(tokens.starts[at], tokens.ends[at]), help)


def explain_unexpected(
    automaton: Automaton, start: str, fragment: Fragment, tokens: Tokens, order: Sequence[int], result: Unexpected
) -> Problem:
    states = automaton.states_before(start, [tokens.types[token] for token in order[: result.order]])
    place = _place(automaton, states, fragment, tokens, order, result.order)
    unclosed = _unclosed(fragment, tokens, order, result.order, place)
    if unclosed is not None:
        return unclosed
    for rule in (_unknown_declaration, _indentation, _reserved_word, _chained, _operator, _statement, _header):
        problem = rule(place)
        if problem is not None:
            return problem
    return Problem("E010", f"found {_describe(place)} where {_needs(place)} was needed", place.span, _general_help(place))


def _unclosed(fragment: Fragment, tokens: Tokens, order: Sequence[int], here: int, place: Place) -> Problem | None:
    """A bracket still open at a word that starts a line and cannot go on inside: the bracket is the mistake, not the word."""
    if here >= len(order) or place.found not in ("NAME", "STRING", "NUMBER") or not place.needed & {")", "]"}:
        return None
    start = tokens.starts[order[here]]
    if fragment.text[fragment.text.rfind("\n", 0, start) + 1 : start].strip():
        return None
    depth = 0
    for token in reversed(order[:here]):
        text = fragment.text[tokens.starts[token] : tokens.ends[token]]
        depth += (text in (")", "]")) - (text in ("(", "["))
        if depth < 0:
            note = ("this line cannot go on inside it", place.span)
            closing = "]" if text == "[" else ")"
            opening = fragment.span(tokens.starts[token], tokens.ends[token])
            return Problem("E012", f"`{text}` is never closed", opening, f"close it with `{closing}`", (note,))
    return None


# ---------------------------------------------------------------- rules, the special before the general


def _unknown_declaration(place: Place) -> Problem | None:
    if not place.outermost or place.line or place.found in ("INDENT", "NEWLINE", "DEDENT"):
        return None
    listed = ", ".join(f"`{word}`" for word in DECLARATIONS[:-1]) + f" or `{DECLARATIONS[-1]}`"
    if place.text in DECLARATIONS:
        return Problem("E011", f"`{place.text}` needs a name after it", place.span, f"write `{place.text} name ...`")
    if place.text in SOFT or place.text in ("return", "if", "for"):
        help = "indent it under a `component` or a `model`"
        return Problem("E011", f"`{place.text}` stands inside a component or a model, not at the outermost level", place.span, help)
    near = get_close_matches(place.text, DECLARATIONS, 1)
    if near:
        return Problem("E011", f"`{place.text}` declares nothing", place.span, f"did you mean `{near[0]}`?")
    help = f"a line at the left margin starts with {listed}"
    return Problem("E011", f"found {_describe(place)} where a declaration was needed", place.span, help)


def _reserved_word(place: Place) -> Problem | None:
    if place.text.isidentifier() and place.found == place.text and "NAME" in place.needed:
        message = f"`{place.text}` is a word of the language and cannot be a name"
        if place.needed == {"NAME"} or place.after in ("=", ",", ")", ".", ":"):
            return Problem("E019", message, place.span, f"choose another name, such as `{place.text}_`")
    return None


def _indentation(place: Place) -> Problem | None:
    if place.found == "INDENT":
        help = "align it with the line above it" if place.above == ":" else "end the line above it with `:`, or align it with that line"
        return Problem("E016", "this line is indented more than the lines it belongs to", place.span, help)
    if "INDENT" in place.needed:
        return Problem("E016", "nothing is indented under this line", place.span, "write its contents under it, four spaces further right")
    if place.found in ("else", "elif") and not place.line:
        return Problem("E010", f"`{place.text}` has no `if` above it", place.span, "align it with its `if`")
    return None


def _chained(place: Place) -> Problem | None:
    if place.found in _COMPARISONS and "and" in place.needed:
        return Problem("E024", "comparisons do not chain", place.span, "write `a < b and b < c`")
    return None


def _operator(place: Place) -> Problem | None:
    """Habits from other languages."""
    operand = "NUMBER" in place.needed
    help: str | None = None
    last = place.line[-1] if place.line else ""
    if place.found == "*" and place.before == "*":
        help = "write `^` for powers"
    elif place.found == "=" and place.before in ("+", "-", "*", "/"):
        help = f"write `x = x {place.before} ...`"
    elif place.found in ("+", "-", "*", "/", "//", "%", "^") and place.after == "=" and place.needed <= {"=", ",", ".", ":"}:
        help = f"write `{''.join(place.line)} = {''.join(place.line)} {place.text} ...`"
    elif place.found == "=" and "==" in place.needed:
        help = (
            "compare with `==`"
            if place.line[:1] in (("if",), ("elif",), ("return",))
            else "to compare, write `==`; only a name can be bound"
        )
    elif place.found == "+" and operand:
        help = "leave the `+` out"
    elif place.found == "." and operand and place.after == "NUMBER":
        help = "a number has a digit before the point: `0.5`"
    elif place.before == "." and place.line[-2:-1] and place.line[-2][:1].isdigit():
        help = "a number has a digit after the point: `5.0`"
    elif place.found == "NUMBER" and place.before == ".":
        help = "a path holds names only; an item of a list has no path of its own"
    elif last in ("def", "lambda", "class") and place.found == "NAME":
        help = "a function is `fn name(inputs) = expression`, a component `component name(parameters)(inputs) -> outputs:`"
    elif place.found == "..":
        help = "a range stands in an index or an argument: `x[t = 1 ..]`"
    elif place.found in ("NAME", "NUMBER", "STRING") and "*" in place.needed:
        help = "an operator or a comma is missing before it"
    elif place.needed & {"else"} and "if" in place.line:
        help = "`a if condition else b` needs its `else`"
    elif place.found == "NEWLINE" and "=" in place.needed and place.needed <= {"=", ",", ".", ":"} and place.line[0] not in DECLARATIONS:
        help = "a line binds a name: `y = f(x)`; `return f(x)` gives the result"
    if help is None:
        return None
    return Problem("E010", f"found {_describe(place)} where {_needs(place)} was needed", place.span, help)


def _statement(place: Place) -> Problem | None:
    """What a line of a body or a block may be."""
    help: str | None = None
    signs = ("(", "[", "+", "-", "*", "/", "^", *_COMPARISONS)
    if place.line and place.found in signs and "=" in place.needed and place.needed <= {"=", ",", ".", ":"}:
        help = "a line binds a name: `y = f(x)`; `return f(x)` gives the result"
    elif place.before == ":" and place.needed == {"NEWLINE"} and place.line[:1] in (("if",), ("elif",), ("else",), ("for",)):
        help = "write it on an indented line of its own"
    elif place.before == ":" and place.needed == {"NEWLINE"} and place.found == "[" and place.line[-3:-2] == ("->",):
        help = f"a result that has a name stands in parentheses: `-> ({place.line[-2]}: [...]):`"
    elif place.before == ":" and place.needed == {"NEWLINE"} and place.line[:1] and place.line[0] in DECLARATIONS:
        help = "write its body on indented lines of their own"
    elif place.before == ":" and place.needed == {"NEWLINE"}:
        help = f"an argument is given with `=`: `{''.join(place.line[:-1])} = {place.text}`"
    elif place.found == "," and "NEWLINE" in place.needed and place.line[1:2] in (("=",), (".",)):
        help = "several values are a list: `[a, b]`"
    elif not place.line and "LET" in place.needed and "return" not in place.needed and place.text in (*SOFT, "return", "if", "for"):
        help = f"`{place.text}` cannot stand in a model's block: its lines are `name = value`, `name:` and `let name = value`"
    if help is None:
        return None
    return Problem("E010", f"found {_describe(place)} where {_needs(place)} was needed", place.span, help)


def _header(place: Place) -> Problem | None:
    """The first line of a declaration."""
    help: str | None = None
    match place.line[:1]:
        case ("import",):
            help = 'write `import "other.xf"`'
        case ("model",) if "EXTENDS" in place.needed:
            help = "write `model name = component:`, `model name extends other:` or `model name(inputs) -> outputs:`"
        case ("checkpoint" | "config" as kind,) if len(place.line) < 5:
            help = f"write `{kind} huggingface for model:`"
        case (word,) if place.needed == {"["} and place.before == ":":
            example = f"{place.line[-2]}: " if len(place.line) > 1 else ""
            help = f"axes stand in brackets: `{example}[b, t, d]`"
        case (word,) if word in DECLARATIONS and place.found == "," and "->" in place.line:
            help = "several outputs stand in parentheses: `-> (index, weight)`"
        case (word,) if word in DECLARATIONS and place.needed == {"("}:
            help = f"write `{word} name(parameters)(inputs)`"
        case _:
            pass
    if help is None:
        return None
    return Problem("E010", f"found {_describe(place)} where {_needs(place)} was needed", place.span, help)


def _general_help(place: Place) -> str | None:
    for words, _, help in _LINES:
        if words <= place.needed:
            return help
    if place.found == "NEWLINE" and ":" in place.needed and place.line[:1] != ("import",):
        return "end the line with `:`" if "=" not in place.needed else "end the line with `:` and indent a body, or go on with `= ...`"
    if place.found == "NEWLINE" and place.needed & {")", "]"}:
        return "close the bracket"
    return None


# ---------------------------------------------------------------- words


def _place(automaton: Automaton, states: tuple[int, ...], fragment: Fragment, tokens: Tokens, order: Sequence[int], here: int) -> Place:
    names = automaton.tables.terminals
    signs = {automaton.tables.terminals[number]: sign for sign, number in automaton.tables.literals.items()}

    def shown(position: int) -> str:
        if not 0 <= position < len(order):
            return "$END"
        terminal = tokens.types[order[position]]
        return signs.get(names[terminal], names[terminal]) if terminal >= 0 else "?"

    first = here
    while first > 0 and shown(first - 1) not in ("NEWLINE", "INDENT", "DEDENT"):
        first -= 1
    if here < len(order):
        start, end = tokens.starts[order[here]], tokens.ends[order[here]]
    else:
        start = end = tokens.ends[order[-1]] if order else 0
    found = shown(here)
    if found == "INDENT" and here + 1 < len(order):
        start, end = tokens.starts[order[here + 1]], tokens.ends[order[here + 1]]
    return Place(
        found=found,
        text=fragment.text[start:end],
        before=shown(here - 1),
        line=tuple(fragment.text[tokens.starts[order[k]] : tokens.ends[order[k]]] for k in range(first, here)),
        after=shown(here + 1),
        needed=frozenset(signs.get(name, name) for name in automaton.expected(states)),
        span=fragment.span(start, end),
        outermost=len(states) == 1,
        above=shown(first - 2),
    )


def _describe(place: Place) -> str:
    match place.found:
        case "NEWLINE" | "INDENT" | "DEDENT" | "$END":
            return _NAMES[place.found]
        case _:
            text = place.text if len(place.text) <= 40 else place.text[:37] + "..."
            return f"`{text}`"


def _needs(place: Place) -> str:
    """What could have come, most telling first; operators only when nothing else could."""
    needed = set(place.needed)
    words: list[str] = []
    for line, name, _ in _LINES:
        if line <= needed:
            return name
    if len(needed & _STARTS) >= 5:
        words.append("an expression")
        needed -= _STARTS
    elif needed & _OPERATORS and len(needed & _OPERATORS) >= 4:
        needed -= _OPERATORS
    for name in sorted(needed, key=lambda name: (name not in _NAMES, name)):
        words.append(_NAMES.get(name, f"`{name.lower()}`" if name.isupper() else f"`{name}`"))
    if not words:
        return "an operator"
    if len(words) > 5:
        words = words[:5]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
