"""Generated modules beside Hugging Face's and hand-written ones: prompts, decoding and training steps.

    python benchmarks/run.py                                    # the table of docs/performance.md: small, one thread
    python benchmarks/run.py --families llama --size tiny --work decode --rounds 21
    python benchmarks/run.py --sides hf_sdpa+compile hand+compile generated+compile
    python benchmarks/run.py --size tiny --work decode --sides hf_sdpa hand+compile generated+compile --inductor cpp_wrapper freezing max_autotune

Every round times every side once, in turn, so that drift falls on all alike; a ratio is the median over rounds of a side's time over the
reference's in the same round. Sides are first checked against each other. The CPU clock of one thread holds still where a machine is shared.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
import torch._inductor.config
from families import FAMILIES, SIZES, inputs
from sides import Side, make
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

RESULTS = Path(__file__).parent / "results"
WORK = ("prompt", "decode", "train")
BY_HAND = ("llama", "gpt2", "mixtral")


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--families", nargs="+", default=list(BY_HAND), choices=FAMILIES)
    p.add_argument("--size", default="small", choices=SIZES)
    p.add_argument("--work", nargs="+", default=list(WORK), choices=WORK)
    p.add_argument("--sides", nargs="+", default=["hf_sdpa", "hf_eager", "hand", "generated"])
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--tokens", type=int, default=512)
    p.add_argument("--decoded", type=int, default=16, help="tokens decoded in a sample")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    p.add_argument(
        "--inductor",
        nargs="+",
        default=[],
        metavar="SETTING",
        help="settings of torch._inductor.config to switch on, for all compiled sides",
    )
    p.add_argument("--memory", action="store_true", help="also peaks of memory, each side alone in a process")
    p.add_argument("--name", help="of the file in benchmarks/results; by default from the families, the size and the work")
    p.add_argument("--alone", help=argparse.SUPPRESS)
    return p.parse_args()


def task(side: Side, work: str, decoded: int) -> Callable[[], Tensor]:
    if work == "train":
        return side.training()
    side.model.eval()
    run = side.prompt() if work == "prompt" else side.decoding(decoded)
    return torch.no_grad()(run)


def compare(family: str, work: str, a: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Times of the sides that can do this, in seconds; the first side is the reference."""
    given = inputs(family, a.size, a.batch, a.tokens)
    clock = time.process_time if a.clock == "cpu" else time.perf_counter
    runs: dict[str, Callable[[], Tensor]] = {}
    found: dict[str, dict[str, object]] = {}
    first: Tensor | None = None
    for name in a.sides:
        if name.startswith("hand") and family not in BY_HAND:
            continue
        with torch.no_grad() if work == "decode" else torch.enable_grad():
            run = task(make(name, family, a.size, given), work, a.decoded)
        result = run()
        first = result if first is None else first
        apart = masked_difference(result, first, given)
        if apart > 1e-3:
            raise RuntimeError(f"{name} does not agree with {a.sides[0]} in {family} {work}: {apart}")
        run()
        runs[name], found[name] = run, {"largest_difference": apart}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for k in range(a.rounds):
        for name in order[k % len(order) :] + order[: k % len(order)]:
            start = clock()
            runs[name]()
            samples[name].append((clock() - start) / (a.decoded if work == "decode" else 1))
    for name, own in samples.items():
        ratios = [x / y for x, y in zip(own, samples[order[0]], strict=True)]
        found[name] |= {"seconds": statistics.median(own), "ratio": statistics.median(ratios), "samples": own}
        if a.memory:
            found[name] |= peaks(family, work, name, a)
    return found


def masked_difference(x: Tensor, y: Tensor, given: dict[str, Tensor]) -> float:
    """The largest difference where there are tokens."""
    apart = (x - y).abs()
    if "attention_mask" in given and apart.ndim == 3:
        apart = apart * given["attention_mask"][..., None]
    return apart.max().item()


def peaks(family: str, work: str, name: str, a: argparse.Namespace) -> dict[str, float]:
    """Megabytes above the loaded model at the peak of a run: of the process, the median of five, which differ by a tenth in what the allocator
    keeps; and of the tensors that live."""
    words = ["--families", family, "--work", work, "--alone", name, "--size", a.size, "--batch", str(a.batch), "--tokens", str(a.tokens)]
    found = [subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True).stdout for _ in range(5)]
    rows = [json.loads(text.splitlines()[-1]) for text in found]
    return {key: statistics.median(row[key] for row in rows) for key in ("peak_mb", "live_mb")}


def resident(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def alone(a: argparse.Namespace) -> None:
    family, work = a.families[0], a.work[0]
    side = make(a.alone, family, a.size, inputs(family, a.size, a.batch, a.tokens))
    before = resident("VmRSS")
    run = task(side, work, a.decoded)
    run(), run()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    run(), run()
    print(json.dumps({"peak_mb": resident("VmHWM") - before, "live_mb": live(side, run) / 2**20}))


def live(side: Side, run: Callable[[], Tensor]) -> float:
    """Bytes of tensors besides the model's at the peak of a run: what it adds to the two moments of each gradient, which training holds before."""
    held = 2 * sum(p.nbytes for p in side.model.parameters() if p.grad is not None)
    side.model.zero_grad(set_to_none=True)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    events = found.profiler.kineto_results.events()
    changes = [bytes_ for _, bytes_ in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")]
    return held + max(accumulate(changes), default=0)


def main() -> None:
    a = arguments()
    torch.set_num_threads(a.threads)
    for setting in a.inductor:
        setattr(torch._inductor.config, setting, True)
    if a.alone:
        return alone(a)
    report: dict[str, object] = {
        "command": "python benchmarks/run.py " + " ".join(sys.argv[1:]),
        **machine(a.threads, a.clock),
        "batch": a.batch,
        "tokens": a.tokens,
        "size": a.size,
        "results": (results := {}),
    }
    path = RESULTS / f"{a.name or '_'.join([*a.families, a.size, *a.work])}.json"
    RESULTS.mkdir(exist_ok=True)
    for family in a.families:
        for work in a.work:
            if work == "decode" and not FAMILIES[family].causal:
                continue
            results[f"{family} {work}"] = rows = compare(family, work, a)
            path.write_text(json.dumps(report, indent=1) + "\n")
            print(f"\n{family}, {work}")
            for name, row in rows.items():
                memory = f"{row['peak_mb']:9.0f} MB{row['live_mb']:9.0f} MB of tensors" if "peak_mb" in row else ""
                print(
                    f"  {name:20}{1e3 * row['seconds']:10.2f} ms{row['ratio']:8.3f}{memory}   off by {row['largest_difference']:.0e}",
                    flush=True,
                )
    return None


def machine(threads: int, clock: str) -> dict[str, object]:
    """Where and with what something was measured."""
    return {
        "machine": f"{platform.machine()}, {threads} thread(s), {clock} clock",
        "versions": {name: version(name) for name in ("torch", "transformers")} | {"python": platform.python_version()},
    }


def version(name: str) -> str:
    from importlib.metadata import version as installed

    return installed(name)


if __name__ == "__main__":
    main()
