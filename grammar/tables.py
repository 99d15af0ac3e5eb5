"""The LALR(1) tables of xf.lark: computed once by Lark, shipped as xf.tables.json, loaded in a millisecond without importing Lark.

`python -m xfc.grammar.tables` rewrites the file. Should it be missing or not match the grammar (somebody is changing it), the tables
are computed in memory instead, which takes half a second.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import TypedDict, TypeVar

from .frozen import frozen

STARTS = ("declaration", "value")
GRAMMAR = "xf.lark"
TABLES = "xf.tables.json"
S = TypeVar("S", bound=Hashable)


class Encoded(TypedDict):
    """The JSON form. An entry of `actions` is a shift to state n (n >= 0) or a reduction by rule -n - 1; the last terminal is the end."""

    grammar: str
    terminals: list[str]
    literals: dict[str, str]
    nonterminals: list[str]
    rules: list[tuple[int, int, str]]
    starts: dict[str, tuple[int, int]]
    actions: list[dict[str, int]]
    gotos: list[dict[str, int]]


@frozen
class Rule:
    """`target -> length symbols`, built by the method `action` of the builder (empty: pass the first value on)."""

    target: int
    length: int
    action: str


@frozen
class Tables:
    """`literals` gives the terminal of a word or sign (`"("`, `"of"`); `starts` the first and last state of each start symbol."""

    terminals: tuple[str, ...]
    literals: dict[str, int]
    rules: tuple[Rule, ...]
    starts: dict[str, tuple[int, int]]
    actions: tuple[dict[int, int], ...]
    gotos: tuple[dict[int, int], ...]

    def terminal(self, name: str) -> int:
        return self.terminals.index(name)


def fingerprint(grammar: str) -> str:
    return f"{zlib.crc32(grammar.encode()):08x}"


@cache
def load_tables() -> Tables:
    """The tables of the grammar that stands beside this file."""
    folder = Path(__file__).parent
    grammar = folder.joinpath(GRAMMAR).read_text(encoding="utf-8")
    try:
        encoded: Encoded = json.loads(folder.joinpath(TABLES).read_text(encoding="utf-8"))
        if encoded["grammar"] != fingerprint(grammar):
            encoded = compute_tables(grammar)
    except (OSError, ValueError, KeyError):
        encoded = compute_tables(grammar)
    terminals = tuple(encoded["terminals"])
    return Tables(
        terminals=terminals,
        literals={text: terminals.index(name) for text, name in encoded["literals"].items()},
        rules=tuple(Rule(*rule) for rule in encoded["rules"]),
        starts={name: (first, last) for name, (first, last) in encoded["starts"].items()},
        actions=tuple({int(k): v for k, v in row.items()} for row in encoded["actions"]),
        gotos=tuple({int(k): v for k, v in row.items()} for row in encoded["gotos"]),
    )


def compute_tables(grammar: str) -> Encoded:
    """Runs Lark's LALR(1) construction. A conflict in the grammar is an error here, never resolved silently."""
    from lark import Lark
    from lark.parsers.lalr_analysis import IntParseTable, LALR_Analyzer, Shift

    parser = Lark(grammar, parser="lalr", lexer="basic", start=list(STARTS))
    # Lark resolves a shift/reduce conflict by shifting and says so only to a debug log: run its analysis again, strictly.
    analyzer = LALR_Analyzer(parser.parser.parser_conf, debug=True, strict=True)
    analyzer.compute_lalr()  # type: ignore[no-untyped-call]
    table = analyzer.parse_table
    assert not isinstance(table, IntParseTable)  # what `debug` is for: states that are sets of items

    lark_rules = sorted(parser.parser.parser_conf.rules, key=lambda rule: (rule.origin.name, [s.name for s in rule.expansion]))
    numbers = {rule: n for n, rule in enumerate(lark_rules)}
    terminals = [*sorted({s.name for rule in lark_rules for s in rule.expansion if s.is_term}), "$END"]
    nonterminals = sorted({rule.origin.name for rule in lark_rules})
    order = _breadth_first(table.states, [table.start_states[start] for start in STARTS], Shift)
    actions: list[dict[str, int]] = [{} for _ in order]
    gotos: list[dict[str, int]] = [{} for _ in order]
    for state, number in order.items():
        for symbol, (kind, target) in table.states[state].items():
            if kind is not Shift:
                actions[number][str(terminals.index(symbol))] = -numbers[target] - 1
            elif symbol in nonterminals:
                gotos[number][str(nonterminals.index(symbol))] = order[target]
            elif symbol != "$END":
                actions[number][str(terminals.index(symbol))] = order[target]
    return {
        "grammar": fingerprint(grammar),
        "terminals": terminals,
        "literals": {str(t.pattern.value): str(t.name) for t in parser.terminals},
        "nonterminals": nonterminals,
        "rules": [(nonterminals.index(r.origin.name), len(r.expansion), str(r.alias or "")) for r in lark_rules],
        "starts": {start: (order[table.start_states[start]], order[table.end_states[start]]) for start in STARTS},
        "actions": actions,
        "gotos": gotos,
    }


def _breadth_first(states: Mapping[S, Mapping[str, tuple[object, S]]], starts: list[S], shift: object) -> dict[S, int]:
    """Numbers for Lark's states that do not depend on its hashing, so that the same grammar always gives the same file."""
    order: dict[S, int] = {}
    queue = deque(starts)
    while queue:
        state = queue.popleft()
        if state in order:
            continue
        order[state] = len(order)
        queue.extend(target for _, (kind, target) in sorted(states[state].items(), key=lambda entry: entry[0]) if kind is shift)
    return order


def main() -> None:
    folder = Path(__file__).parent
    encoded = compute_tables(folder.joinpath(GRAMMAR).read_text(encoding="utf-8"))
    with open(folder.joinpath(TABLES), "w", encoding="utf-8") as out:
        json.dump(encoded, out, separators=(",", ":"), sort_keys=True)
        out.write("\n")


if __name__ == "__main__":
    main()
