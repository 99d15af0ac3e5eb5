"""Generated modules on a GPU: the same numbers as on the CPU, FlexAttention beside the plain form, and speed as a share of what the machine
was measured to do.

    python benchmarks/gpu.py --out benchmarks/results               # all rows: gpu.json, written anew after each
    python benchmarks/gpu.py --only train_1b decode                 # rows whose names start so, beside those that the file has
    python benchmarks/gpu.py --write-modules modules                # where xfc is: the modules alone ...
    python benchmarks/gpu.py --modules modules                      # ... for a machine that has torch and nothing else
    python benchmarks/gpu.py --device cpu --size tiny --eager       # every row's code, without a GPU: its numbers mean nothing

Every row runs in a process of its own and ends after `--limit` seconds; with `--total`, rows for which too little is left wait for another call.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from gpu_models import Place, write_all
from gpu_rows import ROWS, Row

LEAST = 30.0
"""Seconds that a row should have."""


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="the folder of gpu.json")
    p.add_argument("--only", nargs="+", default=[""], metavar="ROW", help=f"names, or how they start: {', '.join(ROWS)}")
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    p.add_argument("--size", choices=("full", "tiny"), default="full")
    p.add_argument("--eager", action="store_true", help="without torch.compile and CUDA graphs")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--limit", type=float, default=400, help="seconds for a row")
    p.add_argument("--total", type=float, default=float("inf"), help="seconds for all")
    p.add_argument("--modules", type=Path, help="a folder of modules that were written before")
    p.add_argument("--write-modules", type=Path, metavar="FOLDER", help="write the modules that the rows need, and end")
    p.add_argument("--row", help=argparse.SUPPRESS)
    return p.parse_args()


def alone(a: argparse.Namespace) -> None:
    """One row, as JSON in the last line."""
    torch.set_float32_matmul_precision("highest")
    place = Place(device=a.device, size=a.size, modules=a.modules, eager=a.eager, rounds=a.rounds)
    print("\n" + json.dumps(ROWS[a.row](place)))


def run(row: str, a: argparse.Namespace, modules: Path, limit: float) -> Row:
    """A row in a process of its own; what went wrong, if something did."""
    words = ["--row", row, "--device", a.device, "--size", a.size, "--rounds", str(a.rounds), "--modules", str(modules)]
    start = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, __file__, *words, *(["--eager"] if a.eager else [])], capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": f"not done after {limit:.0f} s"}
    took = {"whole_seconds": round(time.monotonic() - start, 1)}
    if done.returncode:
        return {"ok": False, "error": (done.stderr or done.stdout)[-2000:], **took}
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found | took


def machine(a: argparse.Namespace) -> Row:
    gpu: Row = {}
    if a.device == "cuda":
        about = torch.cuda.get_device_properties(0)
        gpu = {"gpu": about.name, "gpu_memory_gb": round(about.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    return {**gpu, "machine": platform.machine(), "torch": torch.__version__, "python": platform.python_version()}


def shown(row: Row) -> str:
    """The numbers of a row in one line."""
    numbers = [f"{n} {x:.4g}" for n, x in row.items() if isinstance(x, float)]
    error = str(row.get("error", "")).strip().splitlines()
    return ", ".join(numbers) if row["ok"] else ", ".join([*numbers, *error[-1:]]) or "too far apart"


def main() -> None:
    a = arguments()
    if a.write_modules is not None:
        return print(f"{len(write_all(a.write_modules))} modules in {a.write_modules}")
    if a.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here: `--device cpu --size tiny --eager` runs every row's code without one")
    if a.row:
        return alone(a)
    wanted = [row for row in ROWS if any(row.startswith(name) for name in a.only)]
    if not wanted:
        sys.exit(f"no such row: there are {', '.join(ROWS)}")
    path, end = a.out / "gpu.json", time.monotonic() + a.total
    before: dict[str, Row] = json.loads(path.read_text())["rows"] if path.exists() and a.only != [""] else {}
    report = {**machine(a), "device": a.device, "size": a.size, "eager": a.eager, "rows": (rows := before)}
    a.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for row in wanted:
            left = min(a.limit, end - time.monotonic())
            if left < LEAST:
                print(f"{row}: no time left; --only {row}")
                continue
            rows[row] = run(row, a, a.modules or Path(folder), left) | {"command": "python benchmarks/gpu.py " + " ".join(sys.argv[1:])}
            path.write_text(json.dumps(report, indent=1) + "\n")
            print(f"{row:18}{'ok' if rows[row]['ok'] else 'FAILED':8}{shown(rows[row])}", flush=True)
    sys.exit(any(not rows[row]["ok"] for row in wanted if row in rows))


if __name__ == "__main__":
    main()
