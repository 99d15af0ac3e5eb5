"""Thousands of random specs: `python -m tests.random.run --count 5000 --seed 0`, from the root of the repository.

Each number is a seed: `--seed 17 --count 1` repeats that spec. What fails is shrunk and written into `--out`, with its message. `--coverage`
counts which rules of the grammar, nodes of the IR and functions of the compiler and the backends the specs reach."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .agree import Disagreement, Refused, check_spec
from .choices import Choices, shrink
from .coverage import Coverage
from .models import random_spec


def fault(text: str, folder: Path, seed: int) -> tuple[str, str] | None:
    """The kind of a spec's fault and its message; none if all agrees or the spec is refused."""
    try:
        check_spec(text, folder, seed)
    except Refused:
        return None
    except Disagreement as found:
        return re.sub(r"[\d.e+-]+", "#", str(found))[:14], str(found)
    except Exception as found:
        frame = traceback.extract_tb(found.__traceback__)[-1]
        return f"{type(found).__name__} {Path(frame.filename).stem} {frame.name}", f"{type(found).__name__} at {frame.name}: {found}"
    return None


def shrunk(made: Sequence[int], kind: str, folder: Path, seed: int, tries: int) -> str:
    def fails(candidate: Sequence[int]) -> bool:
        try:
            found = fault(random_spec(Choices.replayed(candidate)), folder, seed)
        except Exception:  # choices that no spec is made of
            return False
        return found is not None and found[0] == kind

    return random_spec(Choices.replayed(shrink(made, fails, tries)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/random"))
    parser.add_argument("--tries", type=int, default=120, help="of the shrinker, for each kind of fault")
    parser.add_argument("--coverage", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    done: Counter[str] = Counter()
    kinds: dict[str, list[int]] = {}
    started = time.perf_counter()
    coverage = Coverage() if options.coverage else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed in range(options.seed, options.seed + options.count):
            choices = Choices.seeded(seed)
            text = random_spec(choices)
            if seed > options.seed and (seed - options.seed) % 250 == 0:
                print(f"{seed - options.seed} specs, {done['FAULTS']} faults, {time.process_time():.0f} s of processor time", flush=True)
            try:
                if coverage is not None:
                    with coverage:
                        found = check_spec(text, folder, seed)
                    for program in filter(None, (found.program, found.derived)):
                        coverage.program(program)
                else:
                    found = check_spec(text, folder, seed)
                done.update(["agree", *found.checks])
                continue
            except Refused as refused:
                done[f"refused: {str(refused)[:60]}"] += 1
                continue
            except Exception:
                kind, message = fault(text, folder, seed) or ("gone when repeated", "")
            done["FAULTS"] += 1
            seeds = kinds.setdefault(kind, [])
            seeds.append(seed)
            print(f"seed {seed}: {kind}: {message[:200]}", flush=True)
            if len(seeds) == 1:
                small = shrunk(choices.made, kind, folder, seed, options.tries) if options.tries else text
                (options.out / f"{seed}.xf").write_text(f"# seed {seed}: {message[:300]!r}\n{small}", encoding="utf-8")
    print(
        f"{options.count} specs from seed {options.seed} in {time.perf_counter() - started:.0f} s, {time.process_time():.0f} s of processor time"
    )
    for what, count in done.most_common():
        print(f"{count:7} {what}")
    for kind, seeds in kinds.items():
        print(f"{len(seeds):7} of {kind}: seeds {seeds[:5]}")
    if coverage is not None:
        print(coverage.report())
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
