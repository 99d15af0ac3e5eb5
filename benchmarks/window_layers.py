"""One layer with a window, beside Hugging Face's: its attention alone (projections, norms and rotation included), and the whole block.

    python benchmarks/window_layers.py                       # gemma3, 2,048 tokens
    python benchmarks/window_layers.py --tokens 4096 --rounds 9

Both models run once; the first layer with a window is then run again on the very inputs that it was given, forwards, and forwards and backwards."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from families import hugging_face_model, inputs
from sides import generated
from torch import Tensor, nn

RESULTS = Path(__file__).parent / "results"


def captured(model: nn.Module, module: nn.Module, given: dict[str, Any]) -> Callable[[], Tensor]:
    """The module on what it is given when the model runs."""
    found: list[tuple[Any, Any]] = []
    hook = module.register_forward_pre_hook(lambda _, args, kwargs: found.append((args, kwargs)), with_kwargs=True)
    with torch.no_grad():
        model(**given)
    hook.remove()
    args, kwargs = found[0]
    x = args[0] if args else kwargs.pop("hidden_states")
    x = x.detach().requires_grad_()

    def run() -> Tensor:
        y = module(x, *args[1:], **kwargs)
        result: Tensor = y[0] if isinstance(y, tuple) else y
        return result

    return run


def seconds(run: Callable[[], Tensor], backward: bool) -> float:
    start = time.process_time()
    if backward:
        run().sum().backward()
    else:
        with torch.no_grad():
            run()
    return time.process_time() - start


def linear_maps(module: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """What the attentions of both sides have in common: their products with weights."""
    x = x.detach().requires_grad_()
    maps = [m for m in module.modules() if isinstance(m, nn.Linear)]

    def run() -> Tensor:
        given = [x if m.in_features == x.shape[-1] else x.new_ones(*x.shape[:-1], m.in_features) for m in maps]
        return torch.stack([m(y).sum() for m, y in zip(maps, given, strict=True)]).sum()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="gemma3")
    parser.add_argument("--size", default="small")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=9)
    a = parser.parse_args()
    torch.set_num_threads(1)
    given: dict[str, Any] = dict(inputs(a.family, a.size, 1, a.tokens))
    theirs, ours = hugging_face_model(a.family, a.size, "sdpa").eval(), generated(a.family, a.size).eval()
    results = {}
    for part, name, own in (("attention", "self_attn", "attention"), ("block", "", "")):
        first = [m.layers[0] for m in (theirs.model, ours.decoder)]
        runs = [
            captured(theirs, first[0].get_submodule(name), {**given, "use_cache": False}),
            captured(ours, first[1].get_submodule(own), given),
        ]
        with torch.no_grad():
            off = (runs[0]() - runs[1]()).abs().max().item()
        if part == "attention":
            width = ours.embed.weight.shape[1]
            runs.append(linear_maps(first[1].get_submodule(own), torch.randn(1, a.tokens, width)))
        for backward in (False, True):
            samples = [[seconds(run, backward) for run in runs] for _ in range(a.rounds)]
            row = {
                "hf_sdpa_ms": 1e3 * statistics.median(s[0] for s in samples),
                "ratio": statistics.median(s[1] / s[0] for s in samples),
                "largest_difference": off,
            }
            if part == "attention":
                row["ratio_without_linear_maps"] = statistics.median((s[1] - s[2]) / (s[0] - s[2]) for s in samples)
            results[f"{part}, {'forwards and backwards' if backward else 'forwards'}"] = row
            print(part, "backwards too" if backward else "forwards", row, flush=True)
    note = {
        "command": f"python benchmarks/window_layers.py --family {a.family} --size {a.size} --tokens {a.tokens} --rounds {a.rounds}",
        "machine": f"{platform.machine()}, 1 thread, cpu clock",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    (RESULTS / "window_layers.json").write_text(json.dumps({**note, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
