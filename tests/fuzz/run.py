"""Fuzzing for as long as wanted: `python -m tests.fuzz.run --minutes 60 --seed 0`, from the root of the repository.

Each text has a number: `--seed 17 --count 1` repeats it. What fails is reduced and written into `--out`. `--compile` also emits what is right."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from xfc.backends.numpy import emit as emit_numpy
from xfc.backends.torch import emit as emit_torch
from xfc.compiler.ir import Program
from xfc.compiler.pipeline import run as run_passes

from .texts import random_text
from .try_text import Fault, bounded, try_text


def emitted(program: Program) -> None:
    """Both modules of a program are Python."""
    after = run_passes(program)
    for emit in (emit_torch, emit_numpy):
        compile(emit(after), "emitted", "exec")


def failure(ending: str, content: bytes, folder: Path, then: Callable[[Program], None] | None) -> str | None:
    try:
        try_text(ending, content, folder, then)
    except Fault as fault:
        return str(fault)
    return None


def reduced(ending: str, content: bytes, folder: Path, then: Callable[[Program], None] | None, kind: str) -> bytes:
    """Fewer lines that fail alike."""
    lines = content.split(b"\n")
    size = max(len(lines) // 2, 1)
    while size:
        at = 0
        while at < len(lines):
            fewer = lines[:at] + lines[at + size :]
            found = failure(ending, b"\n".join(fewer), folder, then)
            if found is not None and found[:40] == kind:
                lines = fewer
            else:
                at += size
        size //= 2
    return b"\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--count", type=int, default=1 << 60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    bounded(8)
    done: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    slowest = 0.0
    end = time.monotonic() + options.minutes * 60
    then = emitted if options.compile else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try_text(".xf", b"model a(n = 3)(x: [b, n]) -> [b, n]:\n    return x\n", folder, then, 60)  # what is loaded once is loaded
        seed = options.seed
        while time.monotonic() < end and seed < options.seed + options.count:
            kind, (ending, content) = random_text(Random(seed))
            started = time.process_time()
            try:
                done[f"{kind}, {'right' if try_text(ending, content, folder, then) else 'refused'}"] += 1
            except Fault as fault:
                name = str(fault)[:40]
                kinds[name] += 1
                print(f"seed {seed}, {kind}: {fault}", flush=True)
                if kinds[name] == 1:
                    small = reduced(ending, content, folder, then, name)
                    (options.out / f"{seed}{ending}").write_bytes(small)
            slowest = max(slowest, time.process_time() - started) if not kinds else slowest
            seed += 1
    for what, count in done.most_common():
        print(f"{count:8} {what}")
    print(f"{seed - options.seed} texts; slowest {slowest:.2f} s; {sum(kinds.values())} faults")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
