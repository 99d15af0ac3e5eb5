"""What messages say besides their place: the remedy, both shapes, where a value was given; and what `check` prints of flow."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from xfc.compiler.command_line import xfc

FOLDER = Path(__file__).with_name("bad_specs")


def said(path: Path, *options: str) -> str:
    return CliRunner().invoke(xfc, ["check", str(path), *options], standalone_mode=False).output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("result_of_another_width.xf", "`gru` gives [b, t, hidden: 64], and `pre_norm` must return [b, t, d_model: 64]"),
        ("result_of_another_width.xf", "write `d_model` instead of `64`"),
        ("result_width_is_a_number.xf", "write `d` instead of `64`"),
        ("result_axis_left_over.xf", "`heads` is left over"),
        ("causal_mask_leaks.xf", "combine it with one that says `j <= i`"),
        ("kind_string_as_width.xf", "a number has no quotes: `64`"),
        ("argument_attention_missing.xf", "give `transformer` its `attention`"),
        ("argument_vocab_missing.xf", "write `vocab = ...`"),
        ("argument_by_place.xf", "this is `bias` of `linear(out, bias, over, init)`"),
        ("argument_ignored_by_own_component.xf", "`slerp_block` is given `norm` and never reads it"),
        ("shape_fraction_one_over.xf", "the fraction is `1.0 / head_dim`"),
        ("shape_fraction_of_ints.xf", "the fraction is `1.0 * alpha / rank`"),
        ("shape_zero_heads.xf", "heads is 0"),
        ("name_recursive_through_a_stack.xf", "`even` \u2192 `odd` \u2192 `even`"),
        ("name_of_the_argument_itself.xf", "`hidden` is what is given here"),
        ("attend_queries_without_heads.xf", "here [heads: 4, head_dim: 16]"),
        ("score_head_in_the_last_place.xf", "the place of `h` is second: `(s, h, i, j)`"),
        ("mask_of_queries_alone.xf", "to get `i`, write `(i, j)`"),
        ("mask_of_a_head.xf", "what differs by `h` is a score"),
        ("habit_view.xf", "`unflatten(x, t = [a: n, b])`"),
        ("habit_method.xf", "`relu(x)`"),
        ("habit_function.xf", "write `concat(a, b, over = t)`"),
        ("habit_function.xf", "`einsum(a, b, over = axis)`"),
        ("habit_function.xf", "write a large number, `-1e30`"),
        ("function_applied_to_nothing.xf", "without parentheses it is passed on: `bent`"),
        ("scan_changes_dtype.xf", "start it as `float32(...)`"),
        ("scan_changes_dtype.xf", "what stays the same stands behind"),
        ("habit_augmented.xf", "write `y = y * ...`"),
        ("result_surplus.xf", "return o_proj(y), y"),
    ],
)
def test_the_remedy(name: str, words: str) -> None:
    assert words in said(FOLDER / name)


def test_no_floor_division_is_advised_where_it_gives_nothing() -> None:
    assert "//` for" not in said(FOLDER / "shape_fraction_one_over.xf")


SEVERAL = """
model several(n = 6)(x: [b, t, n], ids: [b, t] int in 9, step: [b] int in 5) -> (past: [b, t, n], all: [b, t, n]):
    up = embedding(9, n)
    at = embedding(5, n)
    y = x * up(ids) * at(step)
    return cumsum(y, t), y + mean(y, t)
"""


def test_every_output_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "several.xf"
    path.write_text(SEVERAL)
    found = said(path)
    assert "no position of `past` sees later positions of `ids`" in found
    assert "`all` sees later positions of `ids`: `mean` over `t`" in found
    assert "of `step`" not in found  # it has one value a row, and no positions
