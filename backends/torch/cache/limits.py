"""Refusals of sequences longer than a table of positions, before anything is computed."""

from __future__ import annotations

from ....compiler import ir
from ....compiler.decoding.find_position_tables import PositionTable, find_position_tables
from ...python.code import Binary, Block, Do, Text, Var, call, lines, render, wrap
from ...python.write_body import Numbers


def cache_limit(numbers: Numbers) -> list[str]:
    """Of `init_cache`: what is read at the cache's slots has as many places."""
    found = find_position_tables(numbers.plans.program, None)
    return [line for table in found for line in _refusal(table, numbers, "max_length")]


def prompt_limit(program: ir.Program, numbers: Numbers, positions: ir.ModelInput | None, ids: str, mask: str) -> list[str]:
    """Of `stream`: what is read at given positions has a place for each token but the last, which is not read."""
    found = [t for t in find_position_tables(program, positions.value) if t.positions is not None] if positions is not None else []
    if not found:
        return []
    longest = f"        longest = {ids}.shape[1]" + (f" if {mask} is None else int({mask}.sum(-1).max())" if mask else "")
    tokens = "        tokens = longest + max_new_tokens - 1"
    return [longest, tokens, *(line for table in found for line in _refusal(table, numbers, "tokens"))]


def _refusal(table: PositionTable, numbers: Numbers, tokens: str) -> list[str]:
    limit = numbers.forward(table.limit)
    message = f'f"{table.name} has {{{render(limit, _hint)}}} positions: too few for {{{tokens}}} tokens"'
    test = lines((Block(Binary(">", Text(tokens), limit), "if", (Do(Text("pass")),)),), _hint, 8)[:-1]
    return [*test, *wrap("raise ", call("ValueError", Text(message)), _hint, 12)]


def _hint(var: Var) -> str:
    return var.hint
