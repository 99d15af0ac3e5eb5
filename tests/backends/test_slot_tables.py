"""What is known of a token by its slot alone: kept for all slots where layers only spread it over the sequences, computed where positions are given."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from xfc.backends.torch import emit
from xfc.backends.verify_modules import loaded
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import derive_decoding
from xfc.compiler.pipeline import run

LM = """
model model = causal_lm:
    vocab = 11
    d_model = 8
    decoder:
        layers = 2
        attention = {attention}
        ffn = gated(hidden = 12)
        norm = rms_norm(eps = 1e-5)
        block = pre_norm
"""
ROPE = "multi_head(heads = 2, rotate = rope(theta = 100.0))"
TURNED = """
component turned(q: [b, t, ..., e], k: [b, t, ..., e]) -> (q: [...], k: [...]):
    given positions: [b, t]
    angle = cos(float32(index(e)) * float32(positions))
    return q * like({how}, q), k
"""


def written(text: str, tmp_path: Path) -> str:
    path = tmp_path / "model.xf"
    path.write_text(text)
    program = elaborate_file(str(path), [], Diagnostics())
    assert program is not None
    step = derive_decoding(program)
    assert isinstance(step, ir.Program)
    return emit(run(step))


def model(module: ModuleType) -> torch.nn.Module:
    torch.manual_seed(1)
    made: torch.nn.Module = module.Model().double().eval()
    for p in made.parameters():
        p.data.normal_(std=0.5)
    return made


def decodes_a_token_at_a_time(source: str, name: str) -> None:
    ids = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(0))
    with loaded(source, name) as module, torch.no_grad():
        m = model(module)
        cache = m.init_cache(2, 8)
        steps = [m(ids[:, a : a + 1], cache=cache) for a in range(6)]
        torch.testing.assert_close(torch.cat(steps, 1), m(ids), rtol=1e-10, atol=1e-10)


def test_given_positions_are_not_slots(tmp_path: Path) -> None:
    source = written(LM.format(attention=ROPE), tmp_path)
    assert "at_slots(cache.tables, slots, T)" in source
    ids = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(0))
    with loaded(source, "given_positions") as module, torch.no_grad():
        m = model(module)
        plain = torch.arange(7).expand(2, -1)
        for at in (None, plain, plain * 3 + 2):
            cache = m.init_cache(2, 9)
            told = [None if at is None else at[:, a:b] for a, b in ((0, 2), (2, 3), (3, 7))]
            steps = [m(ids[:, a:b], position_ids=p, cache=cache) for (a, b), p in zip(((0, 2), (2, 3), (3, 7)), told, strict=True)]
            torch.testing.assert_close(torch.cat(steps, 1), m(ids, position_ids=at), rtol=1e-10, atol=1e-10)
        turns = m(ids, position_ids=plain * 3 + 2) - m(ids)
        assert turns.abs().max() > 1e-2, "the positions count"


def test_beams_leave_tables(tmp_path: Path) -> None:
    ids = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(0))
    with loaded(written(LM.format(attention=ROPE), tmp_path), "beams") as module, torch.no_grad():
        m = model(module)
        cache = m.init_cache(3, 8)
        m(ids[:, :5], cache=cache)
        cache.reorder(torch.tensor([2, 2, 0]))
        found = m(ids[:, 5:], cache=cache)
        wanted = m(torch.cat((ids[[2, 2, 0], :5], ids[:, 5:]), 1))[:, 5:]
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("how", "kept"), [("angle", True), ("(angle + 0.1 * sum(angle, b))", False), ("2.0 * angle", True)])
def test_tables_only_where_nothing_minds_one_row_for_all_sequences(how: str, kept: bool, tmp_path: Path) -> None:
    """A sum over the batch counts its rows."""
    source = written(TURNED.format(how=how) + LM.format(attention="multi_head(heads = 2, rotate = turned)"), tmp_path)
    assert ("at_slots(cache.tables, slots, T)" in source) == kept
    decodes_a_token_at_a_time(source, "broadcast")


def test_positions_that_something_else_reads_are_there_in_every_call(tmp_path: Path) -> None:
    """What a model adds for each position is no function that layers share: then positions are made, and read, in all calls."""
    text = LM.format(attention=ROPE).replace("    decoder:", "    position = learned(size = 12)\n    decoder:")
    source = written(text, tmp_path)
    assert "at_slots" not in source
    decodes_a_token_at_a_time(source, "both")


@pytest.mark.slow
@pytest.mark.parametrize("attention", [ROPE, ROPE.replace("theta", "pairing = interleaved, theta")])
@pytest.mark.parametrize("training", [False, True])
def test_compiled_layers_read_what_is_computed_once(attention: str, training: bool, tmp_path: Path) -> None:
    """One kernel has a cosine and is called once, not one in each layer and on the way back."""
    assert kernels_with_cosine(written(LM.format(attention=attention), tmp_path), 3, training) == 1


def test_two_stacks_that_read_the_same_are_given_it_once(tmp_path: Path) -> None:
    text = """
component two(x: [b, t, d]) -> [b, t, d]:
    let layer = pre_norm(multi_head(heads = 2, rotate = rope), gated(hidden = 8), rms_norm)
    low = 2 of layer
    high = 2 of layer
    return high(tanh(low(x)))

model small(d = 8)(input_ids: [b, t] int in 11) -> (y):
    embed = embedding(11, d)
    positions = expand(index(t), b)
    two = two()
    return two(embed(input_ids))
"""
    source = written(text, tmp_path)
    assert source.count("= computed_once(") == 1
    with loaded(source, "two") as module, torch.no_grad():
        assert module.Model()(torch.arange(6)[None] % 11).shape == (1, 6, 8)


def kernels_with_cosine(source: str, layers: int, training: bool) -> int:
    """How many calls of kernels compute one."""
    from torch._inductor.utils import run_and_get_code  # type: ignore[attr-defined]

    def step() -> None:
        y = compiled(ids, labels=ids)
        if training:
            y.backward()

    ids = torch.arange(64)[None] % 11
    torch.compiler.reset()
    with loaded(source, "once") as module, torch.set_grad_enabled(training):
        compiled = torch.compile(module.Model(module.Config(layers=layers)), fullgraph=True, dynamic=False)
        _, sources = run_and_get_code(step)
    kernels = [
        (name, s)
        for s in sources
        for name, text in re.findall(r"^(\w+) = async_compile.*?\'\'\'(.*?)\'\'\'", s, re.M | re.S)
        if "cos(" in text
    ]
    return sum(s.count(f" {name}(") for name, s in kernels)
