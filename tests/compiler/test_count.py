"""Published parameter counts at full size, and formulas that hold for any size."""

from __future__ import annotations

import json

import pytest

from xfc.compiler.count import at_length, count, layers_of, whole
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import const
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program, Stack, walk

# As the papers, model cards and published weight files have them.
PUBLISHED = {
    "gpt2_xl": 1_557_611_200,
    "mistral_7b": 7_241_732_096,
    "qwen2_0_5b": 494_032_768,
    "t5_small": 60_506_624,
    "llama3_1_405b": 405_853_388_800,
    "mixtral_8x22b": 140_630_071_296,
    "bloom_7b1": 7_069_016_064,
}


def program(name: str, *sets: str) -> Program:
    diagnostics = Diagnostics()
    found = elaborate_file(name, list(sets), diagnostics)
    assert found is not None, diagnostics.found
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    assert whole(count(program(name)).parameters) == PUBLISHED[name]


def test_active_parameters_are_those_a_token_meets() -> None:
    counts = count(program("mixtral_8x22b"))
    layers, experts, chosen, expert = 56, 8, 2, 3 * 6144 * 16384
    assert whole(counts.parameters) - whole(counts.active_parameters) == layers * (experts - chosen) * expert


def test_flops_are_two_for_each_weight_and_four_for_each_key() -> None:
    """A dense model: twice the parameters that multiply, and 4 * layers * heads * head_dim for every key."""
    found = program("mistral_7b")
    counts = count(found)
    multiplied = whole(counts.parameters) - 32000 * 4096 - (2 * 32 + 1) * 4096
    for length in (1, 2048):
        assert at_length(counts.flops_per_token, length) == 2 * multiplied + 4 * 32 * 4096 * length


def test_a_cycle_counts_each_slot() -> None:
    stacks = [c for m in walk(program("gemma3_1b").root) for c in m.children if isinstance(c, Stack)]
    assert [[whole(n) for _, n in layers_of(s)] for s in stacks] == [[22, 4]]


def test_rows_add_up_and_are_plain_data() -> None:
    counts = count(program("qwen3_0_6b"))
    assert sum(whole(r.parameters) for r in counts.rows if r.depth == 1) == whole(counts.parameters)
    assert json.loads(json.dumps(counts.json(128)))["parameters"] == whole(counts.parameters)
    assert all(r.copies != const(0) for r in counts.rows)
