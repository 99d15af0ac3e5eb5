"""What torch.compile takes, cold, for few layers and for many: the whole model, and with layers of a kind compiled once.

    python benchmarks/compile_cost.py                       # llama `small`, 4 and 24 layers
    python benchmarks/compile_cost.py --family gemma3 --depths 6 24

Each cell is a process of its own with empty caches: seconds of processor time of the first training step, of the first prompt and of the first
token decoded, and milliseconds of the same once compiled (median)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from families import FAMILIES, hugging_face_config, inputs
from sides import layer_kinds, module_of
from torch import Tensor

RESULTS = Path(__file__).parent / "results"


def timed(run: Callable[[], object], rounds: int) -> dict[str, float]:
    samples: list[float] = []
    for _ in range(rounds + 1):
        start = time.process_time()
        run()
        samples.append(time.process_time() - start)
    return {"cold_seconds": samples[0], "then_ms": 1e3 * statistics.median(samples[1:])}


def measure(family: str, size: str, depth: int, once: bool, rounds: int) -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    given = inputs(family, size, 1, 512)
    config = hugging_face_config(family, size)
    config.num_hidden_layers = depth
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i % 6] for i in range(depth)]
    torch.manual_seed(0)
    model: Any = module_of(config, f"{family}_{depth}").Model()
    if once:
        for kind in layer_kinds(model):
            kind.forward = torch.compiler.nested_compile_region(kind.forward)
    run = torch.compile(model, fullgraph=True, dynamic=False)
    ids = given["input_ids"]

    def train() -> None:
        run(**given, labels=ids).backward()
        model.zero_grad()

    found = {"training step": timed(train, rounds)}
    model.eval()
    with torch.no_grad():
        cache = model.init_cache(*ids.shape)
        prompt = ids[:, :-1]

        def first() -> Tensor:
            cache.position.fill_(0)
            cache.empty = True
            logits: Tensor = run(prompt, cache=cache, logits_to_keep=1)
            return logits

        def token() -> Tensor:
            cache.position.fill_(prompt.shape[1])
            logits: Tensor = run(ids[:, -1:], cache=cache, logits_to_keep=1)
            return logits

        found["prompt"] = timed(first, rounds)
        found["token"] = timed(token, 4 * rounds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="llama", choices=FAMILIES)
    parser.add_argument("--size", default="small")
    parser.add_argument("--depths", nargs="+", type=int, default=[4, 24])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("DEPTH", "HOW"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure(a.family, a.size, int(a.one[0]), a.one[1] == "once", a.rounds)))
        return
    results: dict[str, Any] = {}
    for depth in a.depths:
        for how in ("whole", "once"):
            words = ["--family", a.family, "--size", a.size, "--rounds", str(a.rounds), "--one", str(depth), how]
            with tempfile.TemporaryDirectory() as folder:
                own = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
                own |= {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
                done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True, env=own)
            results[f"{depth} layers, {how}"] = found = json.loads(done.stdout.splitlines()[-1])
            print(depth, how, found, flush=True)
    note = {
        "command": "python " + " ".join(["benchmarks/compile_cost.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, 1 thread, cpu clock",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    (RESULTS / f"compile_cost_{a.family}.json").write_text(json.dumps({**note, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
