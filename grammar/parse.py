"""Text in the .xf surface to a syntax tree: lexer, automaton, builder, and how to go on after a mistake."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TypeGuard, get_args

from . import tree
from .automaton import Automaton, TooDeep, Unexpected, Value
from .build_tree import FLAT, Builder
from .lexer import ERROR, MOST_PROBLEMS, Fragment, Lexer, Tokens
from .problem import Problem
from .tables import load_tables
from .tree import Expr, Source

LARGEST = 4_000_000
MOST_ATTEMPTS = 20
_EXPRESSIONS = get_args(Expr)


def parse_xf(source: Source) -> tuple[tree.File | None, list[Problem]]:
    """The tree of a .xf text, and what is wrong with it.

    Never raises. With problems the file holds what could be read, so that a caller may go on looking; it is none only for a text
    that is not read at all.
    """
    problem = refuse(source)
    if problem is not None:
        return None, [problem]
    return parse_fragment(Fragment(source, source.text))


def parse_fragment(fragment: Fragment) -> tuple[tree.File, list[Problem]]:
    """The declarations in a part of a source (a block scalar of a YAML file, say), whatever its size."""
    tokens = Lexer(fragment, load_tables()).run()
    builder = Builder(fragment, tokens)
    problems = list(tokens.problems)
    imports: list[tree.Import] = []
    declarations: list[tree.Declaration] = []
    bounds = sorted({0, *tokens.pieces, len(tokens.types)})
    for first, last in pairwise(bounds):
        match _parse_lines("declaration", range(first, last), builder, problems):
            case tree.Import() as found:
                imports.append(found)
            case tree.Component() | tree.Model() | tree.Map() as found:
                declarations.append(found)
            case _ if len(problems) >= MOST_PROBLEMS:
                break
            case _:
                pass
    problems += builder.problems
    if not imports and not declarations and not problems:
        help = "write a model (`model name = component:`) or a component (`component name(...)(x: [..., d]) -> [..., d]:`)"
        problems.append(Problem("E004", "nothing is declared in this text", fragment.span(0, 0), help))
    whole = fragment.span(0, len(fragment.text))
    return tree.File(span=whole, imports=tuple(imports), declarations=tuple(declarations)), ordered(problems)


def parse_value(fragment: Fragment) -> tuple[Expr | None, list[Problem]]:
    """The one expression (or several with commas: a tuple) that fills a fragment; line ends in it mean nothing."""
    tokens = Lexer(fragment, load_tables(), inline=True).run()
    builder = Builder(fragment, tokens)
    problems = list(tokens.problems)
    value = _parse_once("value", range(len(tokens.types)), builder, problems)
    problems += builder.problems
    if _is_expression(value) and not problems:
        return value, []
    return None, ordered(problems)


def _is_expression(value: object) -> TypeGuard[Expr]:
    return isinstance(value, _EXPRESSIONS)


def parse_expression(source: Source, offset: int, text: str) -> tuple[Expr | None, list[Problem]]:
    """The expression written as `text` at `offset` of a source (a scalar of a YAML file); spans point into the source."""
    return parse_value(Fragment(source, text, ((0, offset),)))


def refuse(source: Source) -> Problem | None:
    """Why a text is not read at all, if so."""
    if len(source.text) > LARGEST:
        help = "split it into files and `import` them"
        return Problem("E003", f"this text has {len(source.text):,} characters; at most {LARGEST:,} are read", None, help)
    return None


def ordered(problems: list[Problem]) -> list[Problem]:
    """In the order of the text, one of a kind at a place, and not more than anybody would read."""
    first: dict[tuple[str, int], Problem] = {}
    for problem in sorted(problems, key=lambda problem: (problem.span.start if problem.span else -1, not problem.notes)):
        first.setdefault((problem.code, problem.span.start if problem.span else -1), problem)
    return list(first.values())[:MOST_PROBLEMS]


@cache
def automaton() -> Automaton:
    tables = load_tables()
    return Automaton(tables, [getattr(Builder, rule.action) if rule.action else None for rule in tables.rules], FLAT)


def _parse_once(start: str, order: range | list[int], builder: Builder, problems: list[Problem]) -> Value | Unexpected | None:
    """The value of the tokens; or, with a problem, what was unexpected (none: not worth going on)."""
    tokens, reported = builder.tokens, len(builder.problems)
    result = automaton().run(start, builder, order, tokens.types, tokens.starts, tokens.ends)
    if not isinstance(result, Unexpected | TooDeep):
        return result
    del builder.problems[reported:]
    from .explain_syntax import explain_too_deep, explain_unexpected  # only a mistake needs it

    if isinstance(result, TooDeep):
        problems.append(explain_too_deep(builder.fragment, tokens, order, result))
        return None
    if result.order == len(order) or tokens.types[order[result.order]] != ERROR:
        problems.append(explain_unexpected(automaton(), start, builder.fragment, tokens, order, result))
    return result


def _parse_lines(start: str, order: range | list[int], builder: Builder, problems: list[Problem]) -> Value | None:
    """As `_parse_once`, but a line that cannot be parsed is reported and left out, with the block under it, and the rest parsed again."""
    for _ in range(MOST_ATTEMPTS):
        result = _parse_once(start, order, builder, problems)
        if not isinstance(result, Unexpected):
            return result
        order = _without_line(order, result.order, builder.tokens)
        if not order:
            return None
    return None


def _without_line(order: range | list[int], at: int, tokens: Tokens) -> list[int]:
    """The tokens without the line that holds the `at`-th and the block under it; empty if that is the first line, or leaves a block empty."""
    tables = load_tables()
    newline, indent, dedent = tables.terminal("NEWLINE"), tables.terminal("INDENT"), tables.terminal("DEDENT")
    types = [tokens.types[token] for token in order]
    edges = (newline, indent, dedent)
    if at >= len(types) or types[at] == dedent:  # something is missing under the line before
        at = max(0, at - 1)
        while at > 0 and types[at] in edges:
            at -= 1
    first = at
    if types[at] != indent:
        while first > 0 and types[first - 1] not in edges:
            first -= 1
    last = at
    while last < len(types) and types[last] not in edges:
        last += 1
    if last < len(types) and types[last] == newline:
        last += 1
    if last < len(types) and types[last] == indent:
        depth = 0
        while last < len(types):
            depth += (types[last] == indent) - (types[last] == dedent)
            last += 1
            if depth == 0:
                break
    emptied = first > 0 and types[first - 1] == indent and (last >= len(types) or types[last] == dedent)
    if first == 0 or emptied or last == first:
        return []
    return [*order[:first], *order[last:]]
