"""FlexAttention where a file was compiled with it. Its kernels need a GPU: here torch computes what they mean, which is compared with the plain
form of the same file, with gradients, for every shipped model that has such masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from torch.fx import GraphModule
from torch.nn.attention import flex_attention

from xfc.backends import torch as torch_backend
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import shrink
from xfc.compiler import ir
from xfc.compiler.commands.compile import command
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding
from xfc.compiler.pipeline import run

from ..decoding import elaborated, written

OFTEN = ("bloom_560m", "gemma2_2b", "sparse_transformer_imagenet64")
BY_INDEX = (
    "alibi_decoder", "dalle_12b", "gemma3_1b", "gpt_neo_125m", "local_xpos_decoder", "mistral_7b", "reformer_local", "yoco_3b",
)  # fmt: skip
"""Of each file of specs one model whose masks or scores are functions of indices."""
LENGTHS = {"dalle_12b": 12, "gpt_neo_125m": 19, "local_xpos_decoder": 23}
"""Where a table of places bounds a sequence."""
PLAIN = ("gpt_oss_20b", "llama3_8b", "t5_small")
"""No mask but causality and padding; sinks; biases that are learned."""

DOCUMENTS = """
component sums(x: [b, t, d], part: [b, t]) -> [b, t, d]:
    heads = linear([heads: 2, e: 16])
    y = heads(x)
    mask alike(i, j) = part[t = i] == part[t = j] and (j <= i or part[t = i] == 0)
    score nearer(s, i, j) = s - 0.1 * abs(i - j)
    back = linear(d, over = [heads, e])
    return x + back(attend(y, y, y, alike, nearer, scale = 0.5, over = t))

model small(d = 8)(input_ids: [b, t] int in 17, part: [b, t] int) -> (y):
    embed = embedding(17, d)
    layers = 2 of sums
    return layers(embed(input_ids), part)
"""


@cache
def code_of(program: ir.Program, flex: bool) -> str:
    derived = derive_decoding(program)
    return torch_backend.emit(run(program if isinstance(derived, Refusal) else derived), flex=flex)


@pytest.fixture
def by_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernels mean, in plain tensors, with gradients."""
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *tensors: None)


class Calls:
    """Attention by index, not compiled, and counted."""

    def __init__(self, flex: Callable[..., object]) -> None:
        self.plain, self.count = getattr(flex, "_torchdynamo_orig_callable", flex), 0

    def __call__(self, *args: torch.Tensor, **named: object) -> object:
        self.count += 1
        return self.plain(*args, **named)


def forced(module: ModuleType) -> Calls:
    """As on a GPU."""
    module.runs_flex = lambda x: True  # type: ignore[attr-defined]
    module.flex = calls = Calls(module.flex)  # type: ignore[attr-defined]
    return calls


def logits(result: object) -> torch.Tensor:
    found = result if isinstance(result, torch.Tensor) else result[0] if isinstance(result, tuple) else None
    assert isinstance(found, torch.Tensor)
    return found


def inputs_of(program: ir.Program, config: object, length: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    vocab = getattr(config, "vocab", 17)
    found = {"input_ids": torch.randint(0, vocab, (2, length), generator=generator)}
    if any(i.name == "attention_mask" for i in program.inputs):
        found["attention_mask"] = (torch.arange(length) >= torch.tensor([[0], [3]])).long()
    return found


@pytest.fixture(params=[*OFTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in BY_INDEX)])
def model(request: pytest.FixtureRequest) -> Iterator[tuple[ir.Program, ModuleType, torch.nn.Module, dict[str, torch.Tensor]]]:
    """A small model in float64, and a prompt that is longer than its windows."""
    chosen = shrink(elaborated(request.param))
    config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None}
    with loaded(code_of(chosen.program, True), f"flex_{request.param}") as module:
        torch.manual_seed(0)
        made = module.Model(module.Config(**config)).double().eval()
        yield chosen.program, module, made, inputs_of(chosen.program, made.config, LENGTHS.get(request.param, 40))


def test_equal_to_the_plain_form(
    model: tuple[ir.Program, ModuleType, torch.nn.Module, dict[str, torch.Tensor]], by_definition: None
) -> None:
    _, module, made, inputs = model
    found = []
    for flex in (False, True):
        if flex:
            calls = forced(module)
        made.zero_grad()
        y = logits(made(**inputs))
        y = y[inputs["attention_mask"] == 1] if "attention_mask" in inputs else y
        y.square().sum().backward()
        found.append((y.detach(), [p.grad for p in made.parameters() if p.grad is not None]))
        only = logits(made(inputs["input_ids"]))  # without padding the mask is one for all sequences
        found[-1][1].append(only.detach())
    assert calls.count
    (plain, gradients), (y, others) = found
    torch.testing.assert_close(y, plain, rtol=1e-9, atol=1e-9)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-9)


def test_prompts_and_tokens(model: tuple[ir.Program, ModuleType, torch.nn.Module, dict[str, torch.Tensor]], by_definition: None) -> None:
    """A prompt goes to the kernel, what goes on from it does not."""
    program, module, made, inputs = model
    if isinstance(derive_decoding(program), Refusal):
        pytest.skip("no cache")
    ids = inputs["input_ids"]
    with torch.no_grad():
        whole = logits(made(ids))
        calls = forced(module)
        cache_ = made.init_cache(2, ids.shape[1])  # type: ignore[operator]
        start = ids.shape[1] // 2
        found = [logits(made(ids[:, :start], cache=cache_))]
        prompt = calls.count
        found += [logits(made(ids[:, k : k + 1], cache=cache_)) for k in range(start, ids.shape[1])]
    assert prompt and calls.count == prompt
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-9, atol=1e-9)


def test_documents_and_distances(tmp_path: Path, by_definition: None) -> None:
    program = written(tmp_path, DOCUMENTS)
    with loaded(code_of(program, True), "flex_documents") as module:
        made = module.Model().double()
        part = torch.tensor([[0] * 5 + [1] * 20 + [2] * 12, [3] * 30 + [0] * 7])
        ids = torch.randint(0, 17, (2, 37))
        plain = made(ids, part)
        calls = forced(module)
        torch.testing.assert_close(made(ids, part), plain, rtol=1e-9, atol=1e-9)
        assert calls.count == 2


def test_one_of_three_masks(by_definition: None) -> None:
    """Keys of a window by index, chosen ones and summaries as they were."""
    chosen = shrink(elaborated("native_sparse_attention"))
    inputs = next(iter(input_sets(chosen.program, chosen.under, 0).values()))
    config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None}
    with loaded(code_of(chosen.program, True), "flex_native_sparse") as module:
        made = module.Model(module.Config(**config)).double()
        given = {n: torch.from_numpy(x).double() if x.dtype.kind == "f" else torch.from_numpy(x) for n, x in inputs.items()}
        plain = made(**given)
        calls = forced(module)
        torch.testing.assert_close(made(**given), plain, rtol=1e-9, atol=1e-9)
        assert calls.count == 1


def test_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "documents.xf"
    path.write_text(DOCUMENTS)
    found = [CliRunner().invoke(command, [str(path), *more]) for more in ([], ["--flex"])]
    assert [done.exit_code for done in found] == [0, 0]
    assert "flex" not in found[0].output and "create_block_mask(" in found[1].output


def test_autocast(by_definition: None) -> None:
    """Queries and keys that were turned in float32 beside values in bfloat16."""
    chosen = shrink(elaborated("gemma2_2b"))
    config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None}
    with loaded(code_of(chosen.program, True), "flex_autocast") as module, torch.autocast("cpu", torch.bfloat16):
        made = module.Model(module.Config(**config))
        ids = torch.randint(0, made.config.vocab, (2, 40))
        plain = made(ids)
        forced(module)
        torch.testing.assert_close(made(ids), plain, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", PLAIN)
def test_left_alone(name: str) -> None:
    program = elaborated(name)
    assert code_of(program, True) == code_of(program, False)


@pytest.mark.slow
def test_layers_share_kernels(by_definition: None) -> None:
    """One for each mask, another once lengths vary: none for each layer, none for each call."""
    chosen = shrink(elaborated("gemma2_2b"))
    config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None} | {"layers": 6}
    graphs: list[GraphModule] = []

    def remember(graph: GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    with loaded(code_of(chosen.program, True), "flex_kernels") as module, torch.no_grad():
        plain = forced(module).plain
        module.flex = torch.compile(plain, backend=remember)  # type: ignore[attr-defined]
        made = module.Model(module.Config(**config))
        found = []
        for length in (30, 30, 40, 50):
            made(torch.randint(0, made.config.vocab, (2, length)))
            found.append(len(graphs))
    assert found == [2, 2, 4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma2_2b", "bloom_560m"])
def test_compiled(name: str) -> None:
    """The kernel that torch has for the CPU, which has no gradients: alone, and in one graph with the model (which that kernel refuses where
    queries are a view of a product with a bias)."""
    chosen = shrink(elaborated(name))
    config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None}
    with loaded(code_of(chosen.program, True), f"compiled_{name}") as module, torch.no_grad():
        made = module.Model(module.Config(**config))
        inputs = inputs_of(chosen.program, made.config, 40)
        plain = made(**inputs)
        module.runs_flex = lambda x: True  # type: ignore[attr-defined]
        torch.testing.assert_close(made(**inputs), plain, rtol=1e-4, atol=1e-4)
        if name == "gemma2_2b":
            torch.testing.assert_close(torch.compile(made, fullgraph=True)(**inputs), plain, rtol=1e-4, atol=1e-4)
