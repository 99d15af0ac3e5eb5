"""What a training step of reversible layers remembers, by depth: as it is, layers computed again, layers gone back through.

    python benchmarks/depth.py                               # 4, 16 and 32 layers of width 256, 1,024 tokens

Peaks are of resident memory above the loaded model and its gradients, each of a process of its own whose allocator gives back what is free."""

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
from pathlib import Path
from typing import Any

import torch
from run import resident

from xfc.backends.verify_modules import loaded

RESULTS = Path(__file__).parent / "results"
SPEC = """
model deep = causal_lm:
    vocab = 1000
    d_model = {width}
    decoder = reversible:
        norm = layer_norm(eps = 1e-5)
        blocks = {layers} of reversible_block(multi_head(heads = 8, rotate = rope), plain(hidden = 4 * d_model, bias = true), norm)
"""
MODES = ("as it is", "recompute_layers", "reverse_layers")


def alone(mode: str, layers: int, width: int, tokens: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        spec, module = Path(folder) / "deep.xf", Path(folder) / "deep.py"
        spec.write_text(SPEC.format(width=width, layers=layers))
        subprocess.run([Path(sys.executable).with_name("xfc"), "compile", spec, "-o", module], check=True, capture_output=True)
        with loaded(module.read_text(), "deep") as found:
            torch.manual_seed(0)
            model: Any = found.Model().train()
    if mode != MODES[0]:
        getattr(model, mode)()
    ids = torch.randint(model.config.vocab, (1, tokens))
    seconds: list[float] = []
    for k in range(4):
        if k == 1:  # gradients are there
            before = resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
        start = time.process_time()
        model(ids, labels=ids).backward()
        seconds.append(time.process_time() - start)
    print(json.dumps({"peak_mb": resident("VmHWM") - before, "seconds": statistics.median(seconds[1:])}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 16, 32])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--alone", choices=MODES, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.alone:
        alone(a.alone, a.layers[0], a.width, a.tokens)
        return
    rows: dict[str, dict[str, object]] = {}
    for mode in MODES:
        for layers in a.layers:
            words = ["--alone", mode, "--layers", str(layers), "--width", str(a.width), "--tokens", str(a.tokens)]
            own = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
            text = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True, env=own).stdout
            rows.setdefault(mode, {})[str(layers)] = found = json.loads(text.splitlines()[-1])
            print(f"{mode:18}{layers:4} layers{found['peak_mb']:9.0f} MB{found['seconds']:8.2f} s", flush=True)
    note = {
        "command": "python benchmarks/depth.py " + " ".join(sys.argv[1:]),
        "machine": f"{platform.machine()}, 1 thread, cpu clock",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    (RESULTS / "depth.json").write_text(json.dumps({**note, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
