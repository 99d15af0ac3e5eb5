"""Canonical form: what it looks like, what it keeps, and that it is its own."""

from pathlib import Path

import pytest

from xfc.grammar.format_file import format_file
from xfc.grammar.load import load
from xfc.grammar.tree import Source

SPECS = sorted((Path(__file__).parents[2] / "specs").rglob("*.xf")) + sorted((Path(__file__).parents[2] / "specs").rglob("*.yaml"))


def formatted(text: str, path: str = "test.xf") -> str:
    result, problems = format_file(Source(path, text))
    assert result is not None and not problems, problems
    return result


def test_canonical_file_is_given_back(canonical: Source) -> None:
    assert formatted(canonical.text) == canonical.text


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_shipped_specs_keep_their_tree_and_their_comments(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    once = formatted(text, path.name)
    assert load(path.name, once)[0] == load(path.name, text)[0]
    assert formatted(once, path.name) == once
    assert comments(once) == comments(text)


def comments(text: str) -> list[str]:
    return sorted(line.partition("#")[2].strip() for line in text.splitlines() if "#" in line)


MESSY = """\
#head

import   "a.xf"  # imported
# before the model
model a=f:  # after it
  "paper"   # of it
  # first
  vocab=3
  decoder:   # block
     # in it
     layers=2


     attention = grouped_query:  # kept
          heads=3   # inside

          # at its end
     # at the block's end
  let q=[
     a*3,  # three
       b ]
  #end
# between
mask x(i)=i  # one
mask y(j): # two
    # why
    return j
    #   tail
fn f(a,
     b): # header
    if a: # then
        x=(1)
    # before else
    else: # otherwise
        if b:
           x=2
        # inner
    return (x, a)
# the end"""
TIDY = """\
# head

import "a.xf"  # imported
# before the model
model a = f:  # after it
    "paper"  # of it
    # first
    vocab = 3
    decoder:  # block
        # in it
        layers = 2

        attention = grouped_query:  # kept
            heads = 3  # inside

            # at its end
        # at the block's end
    let q=[
       a*3,  # three
         b ]
    # end

# between
mask x(i) = i  # one

mask y(j):  # two
    # why
    return j
    #   tail

fn f(a, b):  # header
    if a:  # then
        x = 1
    # before else
    else:  # otherwise
        if b:
            x = 2
        # inner
    return x, a

# the end
"""


def test_comments_and_empty_lines_are_kept() -> None:
    assert formatted(MESSY) == TIDY
    assert formatted(TIDY) == TIDY


LONG = """\
component latent_attention(heads, q_rank, kv_rank, nope_dim, rope_dim, v_dim, rotate, mask = causal, scale = (nope_dim + rope_dim) ^ -0.5)(x: [b, t, d]) -> [b, t, d]:
    q, k = rotate(q_norm(q_proj(normalized_inputs)), k_norm(k_proj(normalized_inputs)), positions = slots + offsets, scale = 2)
    total = first_rather_long_name * first_rather_long_name + second_rather_long_name * second_rather_long_name + third_name
    return q, k, total

model m = causal_lm:
    attention = grouped_query(heads = 32, kv_heads = 8, head_dim = 128, rotate = rope(theta = 500000), mask = sliding(4096), qk_norm = none)
    layers = [deepseek_block(attention, gated(18432)) * 3, deepseek_block(attention, deepseek_moe(256, 2048, 1, router)) * 58, b]
"""
WRAPPED = """\
component latent_attention(
    heads, q_rank, kv_rank, nope_dim, rope_dim, v_dim, rotate, mask = causal, scale = (nope_dim + rope_dim) ^ -0.5
)(x: [b, t, d]) -> [b, t, d]:
    q, k = rotate(
        q_norm(q_proj(normalized_inputs)), k_norm(k_proj(normalized_inputs)), positions = slots + offsets, scale = 2
    )
    total = (
        first_rather_long_name * first_rather_long_name
        + second_rather_long_name * second_rather_long_name
        + third_name
    )
    return q, k, total

model m = causal_lm:
    attention = grouped_query:
        heads = 32
        kv_heads = 8
        head_dim = 128
        rotate = rope(theta = 500000)
        mask = sliding(4096)
        qk_norm = none
    layers = [
        deepseek_block(attention, gated(18432)) * 3,
        deepseek_block(attention, deepseek_moe(256, 2048, 1, router)) * 58,
        b,
    ]
"""


def test_long_lines_are_broken() -> None:
    assert formatted(LONG) == WRAPPED
    assert formatted(WRAPPED) == WRAPPED


YAML = """\
# a spec
model: m   # its name
type: causal_lm


d_model: 4096*2   # width
blocks: "26 of [local*5,global]"
head: {type: lm_head, list: [a+b, e: d/heads]}
paper: "a*b"
components: |
    mask f(j)=j<3 # last


    # tail
"""
TIDY_YAML = """\
# a spec
model: m   # its name
type: causal_lm

d_model: 4096 * 2   # width
blocks: "26 of [local * 5, global]"
head: {type: lm_head, list: [a + b, e: d / heads]}
paper: "a*b"
components: |
    mask f(j) = j < 3  # last

    # tail
"""


def test_yaml_keeps_its_lines() -> None:
    assert formatted(YAML, "test.yaml") == TIDY_YAML
    assert formatted(TIDY_YAML, "test.yaml") == TIDY_YAML


def test_text_with_a_mistake_is_not_formatted() -> None:
    assert format_file(Source("test.xf", "mask m(i) = "))[0] is None
