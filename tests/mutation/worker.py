"""Runs tests in a copy of the tree, one fault at a time: `worker.py record FOLDER SPECS TESTS...` or `worker.py serve FILE`.

`record` runs tests and random specs once, where calls of `REACHED` stand before statements, and writes which they come by. `serve` imports the modules that
the file names, then answers requests, one JSON a line: it writes the faulty file, forks, imports the package anew in the child, runs there what was asked,
and puts the file back."""

from __future__ import annotations

import builtins
import gc
import importlib
import json
import os
import resource
import signal
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pytest

OPTIONS = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "--tb=line"]

FIRST_SEED = 100_000
"""As in `tests/random/test_random.py`, which runs the first 160 from there."""
#: How refusals begin that a well-made random spec may meet.
UNKNOWN = ("E401", "E201", "E317", "E349", "no small lengths", "an axis of these lengths")


#: Where a mark is called in a process that a test starts: `REACHED(k)` writes into this file of the tree.
ELSEWHERE = "reached-elsewhere"
SITE = f"""
import builtins, os.path
def REACHED(k, file=os.path.join(os.path.dirname(os.path.abspath(__file__)), {ELSEWHERE!r})):
    with open(file, "a") as open_file:
        print(k, file=open_file)
builtins.REACHED = REACHED
"""


class Recorder:
    """Writes a line for each test that is not in the file yet: its seconds, whether it passed, how many marks there were, and those that it
    reached, in processes that it started too."""

    def __init__(self, place: Path) -> None:
        self.known = {json.loads(line)["test"] for line in place.read_text(encoding="utf-8").splitlines()} if place.exists() else set[str]()
        self.marks = len(json.loads(place.with_name("marks.json").read_text(encoding="utf-8")))
        self.file = place.open("a", encoding="utf-8")
        self.reached: set[int] = set()
        self.passed = True
        builtins.REACHED = self.reached.add  # type: ignore[attr-defined]

    def write(self, test: str, seconds: float) -> None:
        elsewhere = Path(ELSEWHERE)
        if elsewhere.exists():
            self.reached.update(map(int, elsewhere.read_text(encoding="utf-8").split()))
            elsewhere.unlink()
        found = {"test": test, "seconds": round(seconds, 3), "passed": self.passed, "marks": self.marks, "reached": sorted(self.reached)}
        print(json.dumps(found), file=self.file, flush=True)
        self.reached.clear()
        self.passed = True

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.known]

    def pytest_collection_finish(self) -> None:
        self.write("", 0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[object]:
        started = time.process_time()
        result = yield
        self.write(item.nodeid, time.process_time() - started)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed = self.passed and not report.failed and not report.skipped


def imported() -> list[str]:
    """What is imported by now from where packages are installed, in its order."""
    places = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})
    return [name for name, module in list(sys.modules.items()) if (getattr(module, "__file__", None) or "").startswith(places)]


def record(out: Path, tests: list[str], specs: int) -> None:
    """`reached.jsonl` of tests, `specs.jsonl` of random specs, and `modules.json`: what they import that is not ours."""
    Path("sitecustomize.py").write_text(SITE, encoding="utf-8")
    if tests:
        pytest.main([*OPTIONS, *tests], plugins=[Recorder(out / "reached.jsonl")])
    recorder = Recorder(out / "specs.jsonl")
    for seed in range(FIRST_SEED, FIRST_SEED + specs):
        if f"seed {seed}" not in recorder.known:
            started = time.process_time()
            recorder.passed = not random({"seeds": [seed]})
            recorder.write(f"seed {seed}", time.process_time() - started)
    if tests or not (out / "modules.json").exists():
        (out / "modules.json").write_text(json.dumps(imported()), encoding="utf-8")


class Chosen:
    """Only the tests asked for, in their order; notes the first that fails."""

    def __init__(self, tests: list[str]) -> None:
        self.rank = {t: k for k, t in enumerate(tests)}
        self.killer = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.rank), key=lambda i: self.rank[i.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.killer = self.killer or f"import of {report.nodeid}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.killer = self.killer or report.nodeid


def suite(request: dict[str, Any]) -> str:
    """The first of the tests that fails; none if all pass."""
    chosen = Chosen(request["tests"])
    files = list(dict.fromkeys(t.partition("::")[0] for t in request["tests"]))
    status = pytest.main([*OPTIONS, "-x", *files], plugins=[chosen])
    return chosen.killer or (f"pytest ends with {status}" if status not in (0, 5) else "")


def random(request: dict[str, Any]) -> str:
    """The first random spec that shows the fault; none if all agree. As in the suite, few specs may be refused, and only for what no generator
    can know."""
    from tests.random.agree import Refused, check_spec
    from tests.random.choices import Choices
    from tests.random.models import random_spec

    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        for done, seed in enumerate(request["seeds"]):
            try:
                check_spec(random_spec(Choices.seeded(seed)), Path(folder), seed)
            except Refused as error:
                refused += 1
                if not str(error).startswith(UNKNOWN) or refused > 2 + done // 20:
                    return f"seed {seed}: refused: {error}"[:200]
            except Exception as error:
                return f"seed {seed}: {type(error).__name__}: {error}"[:200]
    return ""


NUMBERS = count(1)
WAYS: dict[str, Callable[[dict[str, Any]], str]] = {"suite": suite, "random": random}


@contextmanager
def faulty(path: Path, source: str | None) -> Iterator[None]:
    """The file holds this source meanwhile, under a time of its own, so that no other's bytecode is taken for it."""
    if source is None:
        yield
        return
    plain, times = path.read_bytes(), path.stat()
    path.write_text(source, encoding="utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + next(NUMBERS) * 10**9))
    try:
        yield
    finally:
        path.write_bytes(plain)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Runs the request in a child of its own group, with a limit to its processor time."""
    reading, writing = os.pipe()
    with faulty(Path(request["file"]), request["source"]):
        child = os.fork()
        if child == 0:
            os.close(reading)
            try_out(request, writing)
        os.close(writing)
        status, seconds = awaited(child, time.monotonic() + 20 * request["limit"])
    with os.fdopen(reading, "rb") as pipe:
        killer = pipe.read().decode(errors="replace") if status == 0 else f"ended by signal {status & 127}"
    return {"killer": killer, "seconds": round(seconds, 2)}


def try_out(request: dict[str, Any], writing: int) -> NoReturn:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (request["limit"], request["limit"]))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        killer = WAYS[request["way"]](request)
    except BaseException as error:
        killer = f"{type(error).__name__}: {error}"[:200]
    os.write(writing, killer.encode()[:1000])
    os._exit(0)


def awaited(child: int, end: float) -> tuple[int, float]:
    """How the child ended, at the latest at that time, and its processor time. What it started ends too."""
    ended, status, usage = os.wait4(child, os.WNOHANG)
    while not ended and time.monotonic() < end:
        time.sleep(0.02)
        ended, status, usage = os.wait4(child, os.WNOHANG)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        _, status, usage = os.wait4(child, 0)
    return status, usage.ru_utime + usage.ru_stime


def serve(modules: Path | None) -> None:
    warnings.simplefilter("ignore")
    for name in json.loads(modules.read_text(encoding="utf-8")) if modules else []:
        with suppress(Exception):  # what another one makes, or only a plugin of pytest can import
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that the children share it
    sys.path[:] = [p for p in sys.path if p]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


def main() -> None:
    match sys.argv[1:]:
        case ["record", out, specs, *tests]:
            record(Path(out), tests, int(specs))
        case ["serve", *modules]:
            serve(Path(modules[0]) if modules else None)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
