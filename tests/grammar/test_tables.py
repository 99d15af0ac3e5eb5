"""The shipped tables are those of the grammar."""

import json
from importlib.resources import files

import xfc.grammar
from xfc.grammar.build_tree import Builder
from xfc.grammar.tables import compute_tables, load_tables


def test_shipped_tables_match_the_grammar() -> None:
    folder = files(xfc.grammar)
    shipped = json.loads(folder.joinpath("xf.tables.json").read_text())
    computed = json.loads(json.dumps(compute_tables(folder.joinpath("xf.lark").read_text())))
    assert shipped == computed, "run python -m xfc.grammar.tables"


def test_every_alternative_has_its_action_and_every_unnamed_one_passes_one_value_on() -> None:
    for rule in load_tables().rules:
        assert hasattr(Builder, rule.action) if rule.action else rule.length == 1, rule
