"""Faults of our own making, and who finds them: `python -m tests.mutation.run --count 200 --seed 1 --only suite`, from the root of the repository.

Works in a copy of the commit under `--out`, where it keeps what it knows: `faults.json` (what was drawn), `reached.jsonl` (the suite run
and the random specs run once: which come by which fault) and `suite.jsonl` or `random.jsonl` (a line a fault). What is there is not done again.

A fault is tried on the tests that come by, the cheapest first; with `--only random`, on the random specs alone. Who fails without the fault does
not count. What random specs found is not tried on the suite again: it runs the same specs (`tests/random/test_random.py`)."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from . import faults
from .faults import Fault

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")
#: What the package and its tests import, and is not theirs.
HEAVY = ("torch", "numpy", "transformers", "hypothesis.strategies", "jinja2", "lark", "rich.console", "click", "safetensors.torch", "yaml")
WHOLE = ("tests/backends/test_golden.py::test_module", "tests/backends/test_golden.py::test_ir")
#: Seconds of tests that are run together, one group after the other.
GROUPS = (2.0, 5.0, 20.0, 120.0)


def copied(commit: str, tests: str, folder: Path) -> Path:
    """The commit's files with the other's tests, and the package under its own name beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    for what in ([commit], [tests, "tests"]):
        archive = subprocess.run(["git", "archive", *what], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
    (folder / "build/typing").mkdir(parents=True)
    (folder / "build/typing/xfc").symlink_to("../..")
    return folder


def environment(tree: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(tree), str(tree / "build/typing")])
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(tree / "build/cache"),
    }


def record(tree: Path, place: Path, drawn: list[Fault], tests: list[str], specs: int = 0) -> None:
    """Runs the suite and random specs once in a tree whose faulty places are marked."""
    for name in {f.file for f in drawn}:
        path = tree / name
        places = {k: (f.line, f.column) for k, f in enumerate(drawn) if f.file == name}
        path.write_text(faults.marked(path.read_text(encoding="utf-8"), places), encoding="utf-8")
    command = [sys.executable, "-P", str(WORKER), "record", str(place), str(specs), *tests]
    subprocess.run(command, cwd=tree, env=environment(tree), check=True, stdout=subprocess.DEVNULL)


class Worker:
    """The process that is forked for each request."""

    def __init__(self, tree: Path, heavy: Sequence[str] = HEAVY) -> None:
        command = [sys.executable, "-P", str(WORKER), "serve", *heavy]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process: subprocess.Popen[str] = subprocess.Popen(command, cwd=tree, env=environment(tree), text=True, **pipes)  # type: ignore[call-overload]

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


class Reached:
    """Who comes by which fault, and how long they take; not who fails without one."""

    def __init__(self, tree: Path, place: Path) -> None:
        self.tree = tree
        self.seconds: dict[str, float] = {}
        self.names: dict[int, set[str]] = defaultdict(set)
        for found in map(json.loads, place.read_text(encoding="utf-8").splitlines()):
            if found["passed"] and found["test"]:
                self.seconds[found["test"]] = found["seconds"]
            for k in found["reached"]:
                self.names[k].add(self.name(found["test"]))

    @cache  # noqa: B019 -- one a run
    def name(self, test: str) -> str:
        """Where the tests of a file share results, one stands for all: the file's name."""
        file = test.partition("::")[0]
        shared = file.endswith(".py") and re.search(r"^@cache|scope=", (self.tree / file).read_text(encoding="utf-8"), re.MULTILINE)
        return file if shared else test

    def by(self, k: int, specs: bool) -> list[str]:
        """The cheapest first; texts that are compared whole find more. What runs when a file is imported concerns every test."""
        names = self.names[k]
        tests = [t for t in self.seconds if t.startswith("seed ") == specs and ("" in names or self.name(t) in names)]
        return sorted(tests, key=lambda t: (self.seconds[t] / (5 if t.startswith(WHOLE) else 1), t))


class Suite:
    """Tries a fault on the tests that come by."""

    def __init__(self, tree: Path, worker: Worker, reached: Reached, most: float) -> None:
        self.tree, self.worker, self.reached, self.most = tree, worker, reached, most
        self.seconds = reached.seconds
        self.trusted: set[str] = set()

    def groups(self, tests: list[str]) -> Iterator[list[str]]:
        group, total, spent = list[str](), 0.0, 0.0
        sizes = iter(GROUPS)
        size = next(sizes)
        for test in tests:
            group.append(test)
            total += self.seconds[test]
            if total >= size:
                yield group
                spent += total
                if spent > self.most:
                    return
                group, total, size = [], 0.0, next(sizes, size)
        if group:
            yield group

    def __call__(self, k: int, fault: Fault) -> dict[str, Any]:
        source = faults.source(self.tree, fault)
        seconds, tests = 0.0, self.reached.by(k, specs=False)
        for group in self.groups(tests):
            found = self.ask(fault, source, group)
            seconds += found["seconds"]
            while found["killer"] and not self.trust(found["killer"]):
                group = [t for t in group if t != found["killer"]]
                found = self.ask(fault, source, group)
            if found["killer"]:
                return {"killer": found["killer"], "seconds": seconds, "tests": len(tests)}
        return {"killer": "", "seconds": seconds, "tests": len(tests)}

    def ask(self, fault: Fault, source: str | None, group: list[str]) -> dict[str, Any]:
        limit = int(60 + 5 * sum(self.seconds[t] for t in group))
        return self.worker.ask(way="suite", file=fault.file, source=source, tests=group, limit=limit)

    def trust(self, killer: str) -> bool:
        """Whether a test that failed passes without the fault; one that does not is not asked again."""
        if killer in self.trusted or killer not in self.seconds:
            return True
        limit = int(60 + 5 * self.seconds[killer])
        if self.worker.ask(way="suite", file="pyproject.toml", source=None, tests=[killer], limit=limit)["killer"]:
            del self.seconds[killer]
            return False
        self.trusted.add(killer)
        return True


class Generator:
    """Tries a fault on random specs that come by."""

    def __init__(self, tree: Path, worker: Worker, reached: Reached, most: int) -> None:
        self.tree, self.worker, self.reached, self.most = tree, worker, reached, most

    def __call__(self, k: int, fault: Fault) -> dict[str, Any]:
        seeds = [int(t.removeprefix("seed ")) for t in self.reached.by(k, specs=True)][: self.most]
        if not seeds:
            return {"killer": "", "seconds": 0, "tests": 0}
        source = faults.source(self.tree, fault)
        found = self.worker.ask(way="random", file=fault.file, source=source, seeds=seeds, limit=60 + 5 * len(seeds))
        return {**found, "tests": len(seeds)}


def read(results: Path) -> dict[int, dict[str, Any]]:
    if not results.exists():
        return {}
    return {r["fault"]: r for r in map(json.loads, results.read_text(encoding="utf-8").splitlines())}


def report(drawn: list[Fault], found: dict[int, dict[str, Any]]) -> str:
    parts: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    lines = []
    for k, result in sorted(found.items()):
        fault = drawn[k]
        parts[fault.part] += 1
        killed[fault.part] += bool(result["killer"])
        if not result["killer"]:
            lines.append(f"\n{k}: {fault.file}:{fault.line}, {result.get('tests', '')} tests")
            lines += [f"    {sign} {text.strip()}" for sign, texts in (("-", fault.before), ("+", fault.after)) for text in texts]
    lines += ["", *(f"{part}: {killed[part]} of {parts[part]} found" for part in parts)]
    return "\n".join([*lines, f"{killed.total()} of {parts.total()} found"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("suite", "random"), default="suite")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--tests", help="the commit whose tests are run, if not the same")
    parser.add_argument("--specs", type=int, default=60, help="random specs")
    parser.add_argument("--most", type=float, default=600, help="seconds of tests for each fault")
    parser.add_argument("--share", default="0/1", help="1/3: the second of three processes that work on the same faults")
    parser.add_argument("--out", type=Path, default=Path("build/mutation"))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    commits = options.commit, options.tests or options.commit
    tree = copied(*commits, out / f"tree-{options.only}-{options.share.replace('/', '-')}")
    place = out / "faults.json"
    if not place.exists():
        faults.write(place, faults.draw(tree, options.seed, options.count))
    drawn = faults.read(place)
    place = out / "reached.jsonl"
    if not place.exists():
        record(copied(*commits, out / "tree-marked"), place, drawn, ["tests"], options.specs)
    worker, reached = Worker(tree), Reached(tree, place)
    attempt = Suite(tree, worker, reached, options.most) if options.only == "suite" else Generator(tree, worker, reached, options.specs)
    results = out / f"{options.only}.jsonl"
    found = read(results)
    if options.only == "suite":
        found |= {k: r for k, r in read(out / "random.jsonl").items() if r["killer"]}
    with results.open("a", encoding="utf-8") as file:
        own, of = map(int, options.share.split("/"))
        for k, fault in list(enumerate(drawn))[own::of]:
            if k not in found:
                found[k] = {"fault": k, **attempt(k, fault)}
                print(json.dumps(found[k]), file=file, flush=True)
                print(f"{k} {fault.file}:{fault.line}: {found[k]['killer'] or 'NOT FOUND'} ({found[k]['seconds']:.0f} s)", flush=True)
    print(report(drawn, found))


if __name__ == "__main__":
    main()
