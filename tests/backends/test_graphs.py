"""What replaying a step of decoding as a CUDA graph asks for, as far as it shows without a GPU: one graph, nothing that waits for the host or
whose size depends on values, a cache that stays where it is."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch.fx import GraphModule

from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import shrink
from xfc.compiler.pipeline import run

from ..decoding import derived, elaborated

MODELS = (
    "mixtral_8x7b",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("bloom_560m", "deepseek_v3", "gemma3_1b", "mamba2_130m")),
)
WAITING = ("item", "tolist", "nonzero", "cpu", "unique", "masked_select", "matmul_by_expert", "is_nonzero", "_local_scalar_dense")
"""Operations that the host waits for."""
TOKENS = 12


def called(graph: GraphModule) -> set[str]:
    """The names of all that a graph calls."""
    return {getattr(n.target, "__name__", str(n.target)) for n in graph.graph.nodes if n.op.startswith("call_")}


@pytest.fixture(params=MODELS)
def made(request: pytest.FixtureRequest) -> Iterator[tuple[ModuleType, torch.nn.Module, torch.Tensor]]:
    chosen = shrink(elaborated(request.param))
    config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None}
    with loaded(torch_backend.emit(run(derived(chosen.program))), f"graph_{request.param}") as module:
        torch.manual_seed(0)
        model = module.Model(module.Config(**config)).eval()
        yield module, model, torch.randint(0, model.config.vocab, (1, TOKENS))


def test_a_step_is_one_graph(made: tuple[ModuleType, torch.nn.Module, torch.Tensor]) -> None:
    module, model, ids = made
    graphs: list[GraphModule] = []

    def remember(graph: GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    with torch.no_grad():
        whole = model(ids)
        cache = model.init_cache(1, TOKENS)  # type: ignore[operator]
        model(ids[:, :5], cache=cache)
        places = [x.data_ptr() for x in (cache.position, *module.tensors(cache))]
        step = torch.compile(lambda token: model(token, cache=cache, logits_to_keep=1), fullgraph=True, dynamic=False, backend=remember)
        found = [step(ids[:, k : k + 1]) for k in range(5, TOKENS)]
    torch.testing.assert_close(torch.cat(found, 1), whole[:, 5:], rtol=1e-4, atol=1e-4)
    assert len(graphs) == 1, "compiled anew"
    assert not called(graphs[0]) & {*WAITING}
    assert [x.data_ptr() for x in (cache.position, *module.tensors(cache))] == places


def test_a_prompt_that_fills_the_cache_is_a_first_call(
    made: tuple[ModuleType, torch.nn.Module, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the host does not look at the position: it can stand at the start alone, and no mask is needed."""
    _, model, ids = made
    with torch.no_grad():
        cache = model.init_cache(1, TOKENS)  # type: ignore[operator]
        model(ids, cache=cache)
        cache.position.fill_(0)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert cache.slots(TOKENS) is None and cache.slots(3) is not None
