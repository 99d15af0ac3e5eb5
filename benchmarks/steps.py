"""A compiled step at every position: none from the second to the hundredth may take over twice the steady time, and one compilation is all.

    python benchmarks/steps.py                          # llama, gpt2, mixtral and gemma3 at size small
    python benchmarks/steps.py --families llama --size tiny

The steady time is the median of the last fifty steps. A step that is slow in one pass and not in the others was interrupted, not compiled
anew: of each position the least of several passes counts, and what the first pass took stands beside it, with the number of compilations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch
from families import FAMILIES, SIZES, inputs
from run import RESULTS, machine
from sides import generated
from torch._dynamo.testing import CompileCounterWithBackend


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--families", nargs="+", default=["llama", "gpt2", "mixtral", "gemma3"], choices=FAMILIES)
    p.add_argument("--size", default="small", choices=SIZES)
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--passes", type=int, default=5)
    return p.parse_args()


@torch.no_grad()
def measure(family: str, size: str, steps: int, passes: int) -> dict[str, object]:
    """Processor seconds of each step, and how often the step was compiled."""
    torch.compiler.reset()
    ids = inputs(family, size, 1, steps + 1)["input_ids"]
    model = generated(family, size).eval()
    cache = model.init_cache(1, steps + 1)
    model(ids[:, :1], cache=cache)
    counter = CompileCounterWithBackend("inductor")
    step = torch.compile(lambda token: model(token, cache=cache, logits_to_keep=1), backend=counter, fullgraph=True, dynamic=False)
    taken: list[list[float]] = []
    for _ in range(passes):
        cache.position.fill_(1)
        taken.append([])
        for k in range(1, steps + 1):
            start = time.process_time()
            step(ids[:, k : k + 1])
            taken[-1].append(time.process_time() - start)
    least = [min(each) for each in zip(*taken, strict=True)]
    steady = statistics.median(least[steps // 2 :])
    first = statistics.median(taken[0][steps // 2 :])
    return {
        "compilations": counter.frame_count,
        "steady_seconds": steady,
        "worst_of_steady": max(least[1:]) / steady,
        "worst_of_steady_in_the_first_pass": max(taken[0][1:]) / first,
        "first_step_seconds": taken[0][0],
        "seconds": taken,
    }


def main() -> None:
    a = arguments()
    torch.set_num_threads(1)
    found = {family: measure(family, a.size, a.steps, a.passes) for family in a.families}
    report = {"command": "python benchmarks/steps.py " + " ".join(sys.argv[1:]), **machine(1, "cpu"), "size": a.size, "results": found}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "steps.json").write_text(json.dumps(report, indent=1) + "\n")
    for family, row in found.items():
        print(
            f"{family:10} steady {1e3 * row['steady_seconds']:8.2f} ms   slowest step {row['worst_of_steady']:.2f} of it"
            f" ({row['worst_of_steady_in_the_first_pass']:.2f} in the first pass)   compiled {row['compilations']} time(s)"
        )
    if any(row["worst_of_steady"] > 2 or row["compilations"] != 1 for row in found.values()):
        sys.exit("a step takes over twice the steady time, or was compiled again")


if __name__ == "__main__":
    main()
