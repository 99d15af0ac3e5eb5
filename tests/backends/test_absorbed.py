"""Attention on a kept latent in generated PyTorch: few tokens take the absorbed form, prompts the plain one, with one result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from xfc.backends.torch import emit
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import shrink
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.pipeline import run

from ..compiler.test_decoding import LOW_RANK

SIZES = {"kv_rank": 67, "nope_dim": 17, "v_dim": 13, "rope_dim": 6}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def source(path: str, small: bool = False) -> tuple[str, dict[str, int | float]]:
    """The module, and the sizes of a small one."""
    program = elaborate_file(path, [], diagnostics := Diagnostics())
    assert program is not None, diagnostics.found
    chosen = shrink(program)
    derived = derive_decoding(chosen.program if small else program)
    assert not isinstance(derived, Refusal), derived
    return emit(run(derived)), dict(chosen.config())


def compare(text: str, name: str, config: dict[str, int | float], attention: str) -> None:
    """Chunks of one, of as many as are few, and of more."""
    with loaded(text, name) as module:
        torch.manual_seed(0)
        model = module.Model(module.Config(**config)).double().eval()
        part = next(m for m in model.modules() if type(m).__name__ == attention)
        few = (part.plain_cost - 1) // part.absorbed_cost
        assert 1 < few < 20
        ids = torch.randint(0, int(config["vocab"]), (2, 50))
        with torch.no_grad():
            want = model(ids)
            for chunks in ((5, *[1] * 45), (5, few, few + 1, 50 - 6 - 2 * few)):
                cache = model.init_cache(2, 53)
                found = [model(part, cache=cache) for part in ids.split(chunks, 1)]
                torch.testing.assert_close(torch.cat(found, 1), want, atol=1e-10, rtol=1e-10)


def test_deepseek_v3() -> None:
    text, config = source("deepseek_v3", small=True)
    assert text.count("if few:") == 1
    compare(text, "absorbed_deepseek", config | SIZES, "LatentAttention")


def test_a_low_rank_attention_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "narrow.xf"
    path.write_text(LOW_RANK.format(down="down = linear(rank)", c="down(x)"))
    text, _ = source(str(path))
    assert "shared_attention(q_latent" in text  # a few queries repeat nothing for the heads
    compare(text, "absorbed_narrow", {"rank": 29, "head_dim": 11, "heads": 3, "d_model": 30, "vocab": 89}, "LowRank")


def test_without_a_bottleneck_there_is_one_form(tmp_path: Path) -> None:
    path = tmp_path / "wide.xf"
    path.write_text(LOW_RANK.format(down="", c="x").replace("rank, ", "").replace("rank = 192, ", ""))
    assert "few" not in source(str(path))[0]
