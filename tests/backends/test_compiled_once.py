"""Layers of a kind compiled once: what docs/performance.md says under "Many layers"."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.backends.verify_shrink import shrink
from xfc.compiler.pipeline import run

from ..decoding import derived, elaborated

MODELS = (
    ("llama3_8b", 1, False),
    *(pytest.param(name, kinds, True, marks=pytest.mark.slow) for name, kinds in (("llama3_8b", 1), ("gemma3_1b", 2), ("mixtral_8x7b", 1))),
)


@pytest.mark.skipif(not hasattr(torch.compiler, "nested_compile_region"), reason="needs torch 2.8")
@pytest.mark.parametrize(("name", "kinds", "trained"), MODELS)
def test_layers_of_a_kind_are_one_graph(name: str, kinds: int, trained: bool) -> None:
    """Tokens that are decoded and a training step, the same as without; of layers, as many graphs as there are kinds."""
    graphs: list[GraphModule] = []

    def remember(graph: GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs) if torch.is_grad_enabled() else graph.forward

    torch.compiler.reset()
    chosen = shrink(elaborated(name))
    config = {n: v for n, s in chosen.program.config if (v := chosen.under.get(s)) is not None}
    with loaded(torch_backend.emit(run(derived(chosen.program))), f"once_{name}") as module:
        torch.manual_seed(0)
        model = module.Model(module.Config(**config | {"layers": 3 * kinds}))
        ids = torch.randint(0, model.config.vocab, (1, 12))
        expected = results(model, model, ids, trained)
        for layer in (layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack):
            type(layer).forward = torch.compiler.nested_compile_region(type(layer).forward)
        found = results(model, torch.compile(model, fullgraph=True, dynamic=False, backend=remember), ids, trained)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1 + trained, "compiled anew"
    assert all(sum(name.startswith("subgraph") for name, _ in g.named_children()) == kinds for g in graphs)


def results(model: nn.Module, run: nn.Module, ids: torch.Tensor, trained: bool) -> list[torch.Tensor]:
    """The logits of tokens that are decoded, the loss and its gradients."""
    with torch.no_grad():
        cache = model.init_cache(1, 12)  # type: ignore[operator]
        model(ids[:, :8], cache=cache)
        found = [run(ids[:, k : k + 1], cache=cache, logits_to_keep=1) for k in range(8, 12)]
    if trained:
        loss = run(ids, labels=ids)
        found += [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]
    return found
