"""Coverage-guided fuzzing: `python -m tests.fuzz.guided build/guided --minutes 60`, from the root of the repository; needs `pip install -e '.[fuzzing]'`.

The folder holds `corpus` (kept from run to run), `found` (inputs that are dealt with wrongly, with what is wrong; `--replay FILE` repeats one, without
instrumentation) and `report.txt`. Both front ends, the checker, the formatter, both surfaces' printers, compilation to both targets and the
import of configs are run for each input; memory is bounded for the whole process."""

from __future__ import annotations

import argparse
import atexit
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WARMING = b"model a extends llama3_8b:\n    vocab = 7\n"
MOST_SECONDS = 1.0
MOST_MEGABYTES = 400
"""That one input may add to the peak of the process."""


class Guided:
    """What is done with each input, and what was counted."""

    def __init__(self, folder: Path, work: Path, seconds: float) -> None:
        from .guided_inputs import text_of
        from .guided_target import run_all

        self.text_of, self.run_all = text_of, run_all
        self.folder, self.work, self.seconds = folder, work, seconds
        self.done: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.slowest = 0.0
        self.other: subprocess.Popen[str] | None = None
        self.started = time.time()

    def __call__(self, data: bytes) -> None:
        made = self.text_of(data)
        if made is None or len(data) > 30_000:
            return
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        done = self.run_all(*made, self.work)
        fault, taken = done.fault, done.seconds
        self.done[f"{chr(data[0])} {'right' if done.right else 'refused'}"] += 1
        self.codes.update(done.codes)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
        if fault is not None:
            self.found(fault, data)
        elif taken > MOST_SECONDS:
            fault = self.again(data)
            self.slowest = max(self.slowest, float(fault.split()[1])) if fault.startswith("took ") else self.slowest
            if not fault.startswith("took ") or float(fault.split()[1]) > MOST_SECONDS:
                self.found(fault, data)
        else:
            self.slowest = max(self.slowest, taken)
        if grown > MOST_MEGABYTES and self.done.total() > 500:
            self.found(f"needed {grown:.0f} MB", data)
        if self.done.total() % 100 == 0:
            self.report()
        if time.process_time() > self.seconds:
            os.kill(os.getpid(), signal.SIGUSR1)  # after this input

    def again(self, data: bytes) -> str:
        """The same without instrumentation, in another process: what is wrong, or how long it took."""
        file = self.folder / "again.input"
        file.write_bytes(data)
        if self.other is None or self.other.poll() is not None:
            command = [sys.executable, "-m", "tests.fuzz.guided", "--replay", "-"]
            self.other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.other.stdin is not None and self.other.stdout is not None
        self.other.stdin.write(f"{file}\n")
        self.other.stdin.flush()
        return self.other.stdout.readline().strip() or "the process ended"

    def found(self, fault: str, data: bytes) -> None:
        kind = re.sub(r"[\d.]+", "#", fault)[:90]
        self.faults[kind] += 1
        if self.faults[kind] <= 3:
            name = hashlib.sha256(data).hexdigest()[:12]
            (self.folder / "found").mkdir(exist_ok=True)
            (self.folder / "found" / name).write_bytes(data)
            with open(self.folder / "found.txt", "a") as file:
                file.write(f"{name} {fault}\n")

    def report(self) -> None:
        lines = [
            f"{time.time() - self.started:.0f} s, {time.process_time():.0f} s of processor time, {self.done.total()} inputs, slowest {self.slowest:.2f} s"
        ]
        lines += [f"{count:9} {what}" for what, count in self.done.most_common()]
        lines += ["faults:", *(f"{count:9} {what}" for what, count in self.faults.most_common())]
        lines += ["diagnostics:", *(f"{count:9} {what}" for what, count in self.codes.most_common())]
        (self.folder / "report.txt").write_text("\n".join(lines) + "\n")


def replay(name: str) -> int:
    """Says what is wrong with an input, or how long it took; of those named on standard input, for `-`."""
    from .guided_target import keep_library, run_all

    keep_library()
    found = False
    with tempfile.TemporaryDirectory() as work:
        run_all(".xf", WARMING, Path(work))
        for line in sys.stdin if name == "-" else [name]:
            fault = tried(Path(line.strip()).read_bytes(), Path(work))
            print(fault, flush=True)
            found |= not fault.startswith("took ")
    return int(found)


def tried(data: bytes, work: Path) -> str:
    from .guided_inputs import text_of
    from .guided_target import run_all

    made = text_of(data)
    if made is None:
        return "took 0.00 s: nothing is made of it"
    tries = [run_all(*made, work)]
    while tries[-1].seconds > MOST_SECONDS and len(tries) < 4:  # the machine may have other things to do
        tries.append(run_all(*made, work))
    done = min(tries, key=lambda d: d.seconds)
    return done.fault or f"took {done.seconds:.2f} s for {len(made[1])} bytes; codes {', '.join(done.codes) or 'none'}"


def configs() -> list[bytes]:
    """A config.json for each architecture that the shipped maps know, with the ecosystem's default values."""
    import transformers

    named = {name for path in (ROOT / "specs").glob("*.xf") for name in re.findall(r'architectures = "(\w+)"', path.read_text())}
    found = []
    for name in sorted(named):
        kind = getattr(getattr(transformers, name, None), "config_class", None)
        if kind is not None:
            try:
                values = kind().to_dict()
                found.append(json.dumps({**values, "architectures": [name]}).encode())
            except Exception:  # a config that does not go into JSON
                continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/guided"))
    parser.add_argument("--minutes", type=float, default=60, help="of processor time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", metavar="FILE")
    options = parser.parse_args()
    if options.replay:
        sys.exit(replay(options.replay))
    import atheris

    from .guided_inputs import LONGEST, write_corpus

    folder = options.folder.resolve()
    if not (folder / "corpus").is_dir():
        made = subprocess.run(
            [sys.executable, "-c", "import sys; from tests.fuzz.guided import configs; sys.stdout.buffer.write(b'\\n'.join(configs()))"],
            capture_output=True,
        )
        write_corpus(folder / "corpus", made.stdout.splitlines())
    from .guided_inputs import crossed, mutate
    from .guided_target import instrumented, keep_library

    instrumented()
    keep_library()
    work = Path(tempfile.mkdtemp(prefix="guided"))
    target = Guided(folder, work, options.minutes * 60)
    atexit.register(target.report)
    arguments = [
        sys.argv[0], str(folder / "corpus"), "-handle_usr1=1", f"-seed={options.seed}", f"-max_len={LONGEST}", "-timeout=60",
        "-rss_limit_mb=4000", "-print_final_stats=1", "-len_control=0", f"-artifact_prefix={folder}/", "-reload=0",
    ]  # fmt: skip
    atheris.Setup(
        arguments,
        target,
        custom_mutator=lambda data, most, seed: mutate(data, most, seed, atheris.Mutate),
        custom_crossover=lambda one, other, most, seed: crossed(one, other, most, seed),
    )
    os.chdir(work)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
