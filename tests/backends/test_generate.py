"""`generate` and `stream` of generated PyTorch modules: what is drawn, where rows end, what is refused, beams."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from xfc.backends.torch import emit
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.pipeline import run

SMALL = ("vocab=97", "d_model=24", "decoder.layers=2", "decoder.attention.heads=6", "decoder.attention.kv_heads=2", "decoder.ffn.hidden=37")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def source(name: str, *sets: str) -> str:
    program = elaborate_file(name, list(sets), diagnostics := Diagnostics())
    assert program is not None, diagnostics.found
    derived = derive_decoding(program)
    return emit(run(program if isinstance(derived, Refusal) else derived))


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    with loaded(source("llama3_8b", *SMALL), "generate_small") as found:
        yield found


@pytest.fixture(scope="module")
def model(module: ModuleType) -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = module.Model().eval()
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) * 0.4)
    return made


def prompts() -> torch.Tensor:
    return torch.randint(0, 97, (3, 7), generator=torch.Generator().manual_seed(1))


def test_greedy_takes_the_likeliest_of_the_full_forward(model: torch.nn.Module) -> None:
    ids = model.generate(prompts(), max_new_tokens=9)
    with torch.no_grad():
        best = model(ids).argmax(-1)
    assert torch.equal(ids[:, :7], prompts())
    assert torch.equal(ids[:, 7:], best[:, 6:-1])


def test_left_padding_changes_nothing(model: torch.nn.Module) -> None:
    alone = model.generate(prompts()[:1], max_new_tokens=9)
    padded = torch.cat((torch.zeros(1, 4, dtype=torch.long), prompts()[:1]), 1)
    mask = (torch.arange(11) >= 4).long()[None]
    assert torch.equal(model.generate(padded, mask, max_new_tokens=9)[:, 4:], alone)


def test_stream_gives_the_tokens_of_generate(model: torch.nn.Module) -> None:
    steps = list(model.stream(prompts(), max_new_tokens=6))
    assert [s.shape for s in steps] == [(3,)] * 6
    assert torch.equal(torch.stack(steps, 1), model.generate(prompts(), max_new_tokens=6)[:, 7:])


def test_rows_that_have_ended_go_on_with_the_end(model: torch.nn.Module) -> None:
    free = model.generate(prompts(), max_new_tokens=8)[:, 7:]
    end = int(free[0, 2])
    found = model.generate(prompts(), max_new_tokens=8, eos_token_id=[end, 96])[:, 7:]
    for got, want in zip(found, free, strict=True):
        at = next((k for k, token in enumerate(want) if int(token) in (end, 96)), len(want) - 1)
        assert torch.equal(got[: at + 1], want[: at + 1])
        assert bool((got[at + 1 :] == end).all())
    first = free[0].tolist().index(end)
    assert torch.equal(model.generate(prompts()[:1], max_new_tokens=8, eos_token_id=end)[:, 7:], free[:1, : first + 1])


def test_draws_repeat_with_their_generator(model: torch.nn.Module) -> None:
    def drawn(seed: int, **options: float) -> torch.Tensor:
        return model.generate(prompts(), max_new_tokens=9, temperature=1.3, generator=torch.Generator().manual_seed(seed), **options)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    greedy = model.generate(prompts(), max_new_tokens=9)
    assert torch.equal(drawn(1, top_k=1), greedy)
    assert torch.equal(drawn(2, top_p=1e-6), greedy)


def test_choices_are_drawn_from_what_they_say(module: ModuleType) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(20000, -1)

    def shares(**options: float | None) -> torch.Tensor:
        given = {"temperature": 1.0, "top_k": None, "top_p": None} | options
        return module.choose(logits, generator=torch.Generator().manual_seed(3), **given).bincount(minlength=4) / 20000

    near = {"atol": 0.015, "rtol": 0.0}
    torch.testing.assert_close(shares(), torch.tensor([0.5, 0.3, 0.15, 0.05]), **near)
    torch.testing.assert_close(shares(top_k=2), torch.tensor([0.625, 0.375, 0, 0]), **near)
    torch.testing.assert_close(shares(top_p=0.79), torch.tensor([0.625, 0.375, 0, 0]), **near)
    torch.testing.assert_close(shares(top_p=0.81), torch.tensor([0.5, 0.3, 0.15, 0]) / 0.95, **near)
    torch.testing.assert_close(shares(temperature=0.5), torch.tensor([0.25, 0.09, 0.0225, 0.0025]) / 0.365, **near)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_new_tokens": -1}, "at least 0"),
        ({"max_new_tokens": 2, "temperature": -0.5}, "at least 0"),
        ({"max_new_tokens": 2, "top_k": 3}, "need a temperature above 0"),
        ({"max_new_tokens": 2, "temperature": 1.0, "top_p": 0.0}, "top_p in"),
        ({"max_new_tokens": 2, "temperature": 1.0, "top_k": 0}, "top_k is at least 1"),
        ({"max_new_tokens": 2, "attention_mask": torch.tensor([[1] * 7, [1] * 7, [1] * 5 + [0] * 2])}, "padded on the left"),
    ],
)
def test_what_cannot_be_is_refused(model: torch.nn.Module, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model.generate(prompts(), **options)


def test_no_tokens(model: torch.nn.Module) -> None:
    assert torch.equal(model.generate(prompts(), max_new_tokens=0), prompts())


def test_beams_go_on_from_where_they_are_put(model: torch.nn.Module) -> None:
    """A cache whose sequences are put in another order goes on as one that was filled in that order."""
    index, ids = torch.tensor([2, 0, 0]), prompts()
    with torch.no_grad():
        cache = model.init_cache(3, 12)
        model(ids, cache=cache)
        cache.reorder(index)
        got = model(ids[:, :1], cache=cache)
        want = model(torch.cat((ids[index], ids[:, :1]), 1))[:, -1:]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_only_models_that_decode_generate() -> None:
    assert "def generate" not in source("bert_base") and "def choose" not in source("bert_base")


def test_positions_past_their_table() -> None:
    """Told by the table's name and size before anything is computed; rows that are padded on the left have fewer tokens than slots."""
    with loaded(source("gpt2"), "generate_gpt2") as module:
        small = module.Model(module.Config(vocab=19, d_model=24, size=8, layers=1, heads=2)).eval()
    ids, mask = torch.zeros(2, 7, dtype=torch.long), torch.ones(2, 7, dtype=torch.long)
    mask[:, :2] = 0
    assert small.generate(ids, max_new_tokens=2).shape == (2, 9)
    with pytest.raises(ValueError, match=r"position\.weight has 8 positions: too few for 9 tokens"):
        small.generate(ids, max_new_tokens=3)
    assert small.generate(ids, mask, max_new_tokens=4).shape == (2, 11)
    with pytest.raises(ValueError, match=r"position\.weight has 8 positions: too few for 9 tokens"):
        small.generate(ids, mask, max_new_tokens=5)


def test_a_cache_is_no_longer_than_the_table_its_slots_read() -> None:
    with loaded(source("whisper_tiny"), "generate_whisper") as module, torch.device("meta"):
        model = module.Model()
    assert model.init_cache(1, 448).max_length == 448
    with pytest.raises(ValueError, match=r"position\.weight has 448 positions: too few for 449 tokens"):
        model.init_cache(1, 449)
