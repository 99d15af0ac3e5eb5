"""The commands of the compiler beside `import torch`, as whole processes.

    python benchmarks/startup.py

`cold`: with an empty cache and home, of a spec in a user's folder; `again`: the same once more. Commands take turns within a round; a ratio is
the median over rounds of processor time of a command over that of `import torch`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

XFC = str(Path(sys.executable).with_name("xfc"))
SPEC = """model mine extends llama3_1_405b:
    decoder.layers = {layers}
"""


def seconds(words: list[str], home: Path) -> float:
    """Processor time of one process and its children."""
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = os.times()
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=9)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specs = {layers: folder / f"mine_{layers}.xf" for layers in (126, 2)}
        for layers, path in specs.items():
            path.write_text(SPEC.format(layers=layers))
        out = str(folder / "out.py")
        jobs = {
            "import torch": [sys.executable, "-c", "import torch"],
            "python": [sys.executable, "-c", "pass"],
            "compile, cold": [XFC, "compile", str(specs[126]), "-o", out],
            "compile, again": [XFC, "compile", str(specs[126]), "-o", out],
            "compile, 2 layers, cold": [XFC, "compile", str(specs[2]), "-o", out],
            "check, cold": [XFC, "check", str(specs[126])],
            "check, again": [XFC, "check", str(specs[126])],
        }
        samples: dict[str, list[float]] = {job: [] for job in jobs}
        home = folder / "home"
        for _ in range(a.rounds + 1):
            for job, words in jobs.items():
                if job.endswith("cold"):
                    shutil.rmtree(home, ignore_errors=True)
                home.mkdir(exist_ok=True)
                samples[job].append(seconds(words, home))
    results = {}
    for job, own in samples.items():
        ratio = statistics.median(x / y for x, y in list(zip(own, samples["import torch"], strict=True))[1:])  # the first round warms up
        results[job] = {"seconds": statistics.median(own[1:]), "ratio": ratio, "samples": own[1:]}
        print(f"{job:26}{1e3 * statistics.median(own[1:]):8.0f} ms{ratio:8.3f}")
    versions = {"python": platform.python_version(), "torch": version("torch")}
    report = {
        "command": "python benchmarks/startup.py",
        "machine": platform.machine(),
        "clock": "cpu",
        "versions": versions,
        "results": results,
    }
    place = Path(__file__).parent / "results"
    place.mkdir(exist_ok=True)
    (place / "startup.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
