"""All that the guided fuzzer runs on one input."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

from .guided_inputs import ROOT

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


def run_all(ending: str, content: bytes, work: Path) -> tuple[str | None, bool, list[str]]:
    """What is wrong with how an input is dealt with, whether it is a right one, and the codes that were found."""
    from xfc.compiler.commands.reporting import guarded
    from xfc.compiler.diagnostics import Diagnostics
    from xfc.compiler.render_diagnostics import full, json_document

    from .emitted import check_emitted
    from .try_text import Fault

    path = work / f"spec{ending}"
    path.write_bytes(content)
    diagnostics = Diagnostics()
    checked = None
    try:
        with guarded(diagnostics):
            if ending == ".json":
                from xfc.compiler.import_config import import_config

                path = work / "spec.yaml"
                path.write_text(import_config(str(work / "spec.json"), diagnostics), encoding="utf-8")
            else:
                surfaces(path)
            from xfc.compiler.commands.check_program import check_program

            checked = check_program(str(path), (), diagnostics)
            if checked is not None:
                try:
                    check_emitted(checked.program)
                except Fault as fault:
                    return str(fault), True, []
    except Fault as fault:
        return str(fault), False, []
    codes = [d.code for d in diagnostics.found]
    inner = [d.message for d in diagnostics.found if d.code == "E999"]
    if inner:
        return inner[0], False, codes
    if checked is None and not diagnostics.failed:
        return "neither a program nor a diagnostic", False, codes
    for diagnostic in diagnostics.found:
        full(diagnostic)
    json_document(diagnostics.found)
    return None, checked is not None, codes


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
