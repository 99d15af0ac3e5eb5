"""Faults of our own making, and who finds them: `python -m tests.mutation.run --count 200 --seed 1 --only suite`, from the root of the repository.

Works in a copy of the commit under `--out`, where it keeps what it knows: `faults-1.json` (what was drawn), `marks.json`, `reached.jsonl` and
`specs.jsonl` (the suite and random specs run once: which statements each comes by), `modules.json` (what the tests import) and `suite-1.jsonl` or
`random-1.jsonl` (a line a fault). What is there is not done again but for more seconds than before, and a folder may serve several draws and
commits: statements are known by their text.

A fault is tried on the tests that come by, for `--most` seconds at the most, with the same time for each file of tests, the cheapest first; with
`--only random`, on random specs alone. Who fails without the fault does not count. What random specs found is not tried on the suite again: it
runs the same specs (`tests/random/test_random.py`)."""

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
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from . import faults
from .faults import Fault
from .worker import FIRST_SEED

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")
WHOLE = ("tests/backends/test_golden.py::test_module", "tests/backends/test_golden.py::test_ir")
#: So many random specs, from FIRST_SEED on, are in the suite.
IN_SUITE = 160
#: Seconds of tests that are run together, one group after the other.
GROUPS = (2.0, 5.0, 20.0, 60.0)


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
        "PYTHONDONTWRITEBYTECODE": "",
        "XDG_CACHE_HOME": str(tree / "build/cache"),
    }


def record(tree: Path, out: Path, tests: list[str], specs: int = 0) -> None:
    """Runs tests and random specs once in a tree whose statements are marked, those that are not in `reached.jsonl` or `specs.jsonl` yet."""
    place = out / "marks.json"
    numbers: dict[str, int] = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    for _, path in faults.files(tree):
        name = path.relative_to(tree).as_posix()
        text = faults.marked(
            path.read_text(encoding="utf-8"), lambda statement, name=name: numbers.setdefault(name + statement, len(numbers))
        )
        path.write_text(text, encoding="utf-8")
    place.write_text(json.dumps(numbers), encoding="utf-8")
    command = [sys.executable, "-P", str(WORKER), "record", str(out), str(specs), *tests]
    subprocess.run(command, cwd=tree, env=environment(tree), check=True, stdout=subprocess.DEVNULL)


class Worker:
    """The process that is forked for each request. The file names modules that it imports before."""

    def __init__(self, tree: Path, modules: Path | None = None) -> None:
        command = [sys.executable, "-P", str(WORKER), "serve", *([str(modules)] if modules else [])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process: subprocess.Popen[str] = subprocess.Popen(command, cwd=tree, env=environment(tree), text=True, **pipes)  # type: ignore[call-overload]

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


def function(statement: str) -> str:
    """The name of the function that it stands in, of that in `compiler/dims.py.Expr.value: return total`."""
    return statement.partition(".py.")[2].partition(": ")[0]


class Reached:
    """Who comes by which fault, and how long they take; not who fails without one. Of a statement that was not there when a test was recorded,
    others of a function of that name tell, in whatever file it was."""

    def __init__(self, tree: Path, out: Path, drawn: list[Fault], record: str = "reached.jsonl") -> None:
        self.tree = tree
        self.seconds: dict[str, float] = {}
        self.names: dict[int, set[str]] = defaultdict(set)
        numbers: dict[str, int] = json.loads((out / "marks.json").read_text(encoding="utf-8"))
        functions: dict[str, set[int]] = defaultdict(set)
        for statement, mark in numbers.items():
            functions[function(statement)].add(mark)
        marks: dict[int, tuple[int, set[int]]] = {}
        for k, fault in enumerate(drawn):
            statement = faults.place((tree / fault.file).read_text(encoding="utf-8"), fault)
            if statement in numbers:
                marks[k] = numbers[statement], functions[function(statement)]
            else:
                self.names[k].add("")
        with (out / record).open(encoding="utf-8") as lines:
            for found in map(json.loads, lines):
                if found["passed"] and found["test"]:
                    self.seconds[found["test"]] = found["seconds"]
                reached, known = set(found["reached"]), found["marks"]
                for k, (mark, beside) in marks.items():
                    older = {m for m in beside if m < known}
                    if mark in reached or (mark >= known and (not older or not older.isdisjoint(reached))):
                        self.names[k].add(self.name(found["test"]))

    @cache  # noqa: B019 -- one a run
    def name(self, test: str) -> str:
        """Where the tests of a file share results, one stands for all: the file's name."""
        file = test.partition("::")[0]
        shared = file.endswith(".py") and re.search(r"^@cache|scope=", (self.tree / file).read_text(encoding="utf-8"), re.MULTILINE)
        return file if shared else test

    def by(self, k: int) -> list[str]:
        """Of each file the cheapest first, and as much time for one file as for another; texts that are compared whole find more.
        Random specs in their order. What runs when a file is imported concerns every test."""
        names = self.names[k]
        tests = [t for t in self.seconds if "" in names or self.name(t) in names]
        spent, until = Counter[str](), dict[str, float]()
        for test in sorted(tests, key=lambda t: (self.seconds[t], t)):
            file = test.partition("::")[0]
            spent[file] += self.seconds[test] / (5 if test.startswith(WHOLE) else 1)
            until[test] = 0 if test.startswith("seed ") else spent[file]
        return sorted(tests, key=lambda t: (until[t], t))


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
        seconds, tests = 0.0, self.reached.by(k)
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
        limit = int(30 + 4 * sum(self.seconds[t] for t in group))
        return self.worker.ask(way="suite", file=fault.file, source=source, tests=group, limit=limit)

    def trust(self, killer: str) -> bool:
        """Whether a test that failed passes without the fault; one that does not is not asked again."""
        if killer in self.trusted or killer not in self.seconds:
            return True
        limit = int(30 + 4 * self.seconds[killer])
        if self.worker.ask(way="suite", file="pyproject.toml", source=None, tests=[killer], limit=limit)["killer"]:
            del self.seconds[killer]
            return False
        self.trusted.add(killer)
        return True


class Generator:
    """Tries a fault on random specs that come by."""

    def __init__(self, tree: Path, worker: Worker, reached: Reached, most: float) -> None:
        self.tree, self.worker, self.reached, self.most = tree, worker, reached, most

    def __call__(self, k: int, fault: Fault) -> dict[str, Any]:
        seeds, spent = list[int](), 0.0
        for test in self.reached.by(k):
            spent += self.reached.seconds[test]
            if spent <= self.most:
                seeds.append(int(test.removeprefix("seed ")))
        if not seeds:
            return {"killer": "", "seconds": 0, "tests": 0}
        source = faults.source(self.tree, fault)
        found = self.worker.ask(way="random", file=fault.file, source=source, seeds=seeds, limit=int(30 + 4 * min(spent, self.most)))
        return {**found, "tests": len(seeds)}


def read(results: Path) -> dict[int, dict[str, Any]]:
    if not results.exists():
        return {}
    return {r["fault"]: r for r in map(json.loads, results.read_text(encoding="utf-8").splitlines())}


def in_suite(killer: str) -> bool:
    """Whether it is a random spec that the suite runs, and does not let pass as a refused one."""
    seed = re.match(r"seed (\d+): (?!refused)", killer)
    return bool(seed) and int(seed[1]) < FIRST_SEED + IN_SUITE


def known(out: Path, only: str, seed: int) -> dict[int, dict[str, Any]]:
    """What is known by now of each fault, for the suite from random specs too."""
    found = read(out / f"{only}-{seed}.jsonl")
    if only == "suite":
        found |= {k: r for k, r in read(out / f"random-{seed}.jsonl").items() if in_suite(r["killer"])}
    return found


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
    parser.add_argument("--specs", type=int, default=60, help="random specs, of which those that come by are tried")
    parser.add_argument("--most", type=float, default=150, help="seconds of tests, or of specs, for each fault")
    parser.add_argument(
        "--share", default="0/1", help="1/3: of three processes that work on the same faults, the one that begins after a third of them"
    )
    parser.add_argument("--out", type=Path, default=Path("build/mutation"))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    commits = options.commit, options.tests or options.commit
    tree = copied(*commits, out / f"tree-{options.only}-{options.share.replace('/', '-')}")
    place = out / f"faults-{options.seed}.json"
    if not place.exists():
        faults.write(place, faults.draw(tree, options.seed, options.count))
    drawn = faults.read(place)
    suite, results = options.only == "suite", out / f"{options.only}-{options.seed}.jsonl"
    if options.share.startswith("0/"):
        record(copied(*commits, out / f"tree-marked-{options.only}"), out, ["tests"] if suite else [], 0 if suite else options.specs)
    worker, reached = Worker(tree, out / "modules.json"), Reached(tree, out, drawn, "reached.jsonl" if suite else "specs.jsonl")
    attempt = Suite(tree, worker, reached, options.most) if suite else Generator(tree, worker, reached, options.most)
    own, of = map(int, options.share.split("/"))
    start = len(drawn) * own // of
    order = [*range(start, len(drawn)), *range(start)]
    for k in reversed(order) if suite else order:  # random specs and the suite may run at a time, and meet
        found = known(out, options.only, options.seed)
        if k not in found or not (found[k]["killer"] or found[k]["most"] >= options.most):
            result = {"fault": k, "most": options.most, **attempt(k, drawn[k])}
            with results.open("a", encoding="utf-8") as file:
                print(json.dumps(result), file=file)
            place = f"{drawn[k].file}:{drawn[k].line}"
            print(f"{k} {place}: {result['killer'] or 'NOT FOUND'} ({result['seconds']:.0f} s)", flush=True)
    print(report(drawn, known(out, options.only, options.seed)))


if __name__ == "__main__":
    main()
