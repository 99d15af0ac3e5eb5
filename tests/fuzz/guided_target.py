"""All that the guided fuzzer runs on one input."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .guided_inputs import ROOT

if TYPE_CHECKING:
    from xfc.compiler.diagnostics import Diagnostics

SPECS = str(ROOT / "specs")


def instrumented() -> None:
    """Load the package anew, with the branches of its own files watched."""
    import atheris

    for name in [name for name in sys.modules if name == "xfc" or name.startswith("xfc.")]:
        del sys.modules[name]
    for name in [name for name in sys.modules if name.startswith("tests.") and not name.startswith("tests.fuzz.guided")]:
        del sys.modules[name]
    names = [
        ".".join(["xfc", *path.relative_to(ROOT).with_suffix("").parts])
        for top in ("grammar", "compiler", "backends")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.name != "__init__.py" and not {"interpreter", "verify.py"} & set(path.parts) and not path.name.startswith("verify_")
    ]
    with atheris.instrument_imports(include=["xfc"]):
        for name in names:
            importlib.import_module(name)


def keep_library() -> None:
    """Shipped files are parsed once; of what is tried nothing is kept."""
    from xfc.grammar import cache as kept
    from xfc.grammar.load import load

    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="guidedcache")
    shipped = cache(load)
    kept.cached_load = lambda path: shipped(str(path)) if str(path).startswith(SPECS) else load(path)


@dataclass
class Done:
    """What became of an input: what is wrong with that, whether it was a right one, the codes found, and the seconds of the longest command."""

    fault: str | None = None
    right: bool = False
    codes: tuple[str, ...] = ()
    seconds: float = 0.0


def run_all(ending: str, content: bytes, work: Path) -> Done:
    """What the commands do with a spec: `fmt` and `convert`, `check`, `compile` to both targets; with a config `import`, and these."""
    from xfc.compiler.commands.reporting import guarded
    from xfc.compiler.diagnostics import Diagnostics
    from xfc.compiler.render_diagnostics import full, json_document

    (work / f"spec{ending}").write_bytes(content)
    diagnostics = Diagnostics()
    done = Done()
    with guarded(diagnostics):  # a Fault becomes an internal error
        done.seconds, done.right = commands(ending, work, diagnostics)
    done.codes = tuple(d.code for d in diagnostics.found)
    for diagnostic in diagnostics.found:
        full(diagnostic)
        if diagnostic.code == "E999":
            done.fault = diagnostic.message
    json_document(diagnostics.found)
    if not (done.fault or done.right or diagnostics.failed):
        done.fault = "neither a program nor a diagnostic"
    return done


def commands(ending: str, work: Path, diagnostics: Diagnostics) -> tuple[float, bool]:
    """Seconds of the longest command, and whether there was a program."""
    from xfc.backends.numpy import emit as emit_numpy
    from xfc.backends.torch import emit as emit_torch
    from xfc.compiler.commands.check_program import check_program
    from xfc.compiler.emit_with_cache import emit_with_cache
    from xfc.compiler.import_config import import_config

    from .emitted import check_code

    clock = time.process_time
    path = work / f"spec{ending}"
    start = clock()
    if ending == ".json":
        path = work / "spec.yaml"
        path.write_text(import_config(str(work / "spec.json"), diagnostics), encoding="utf-8")
    else:
        surfaces(path)
    first = clock()
    checked = check_program(str(path), (), diagnostics)
    checking = clock() - first
    taken = [first - start, checking]
    for emit in (emit_torch, emit_numpy) if checked is not None else ():
        start = clock()
        code, _ = emit_with_cache(checked.program, emit)
        taken.append(checking + clock() - start)
        check_code(code)
    return max(taken), checked is not None


def surfaces(path: Path) -> None:
    """What parses is formatted, printed in both surfaces and read again as the same tree. Raises Fault."""
    from xfc.grammar.convert import to_xf, to_yaml
    from xfc.grammar.format_file import format_file
    from xfc.grammar.load import load, read_source

    from .try_text import Fault

    file, problems = load(path)
    source, _ = read_source(path)
    if file is None or problems or source is None:
        return
    text, _ = format_file(source)
    if text is None:
        raise Fault("what parses is not formatted")
    for name, made in ((path.name, text), ("a.xf", to_xf(file)), ("a.yaml", to_yaml(file))):
        again, problems = load(name, made)
        if problems or again != file:
            raise Fault(f"printed as {name} and read again it is another tree{': ' + problems[0].message if problems else ''}")
