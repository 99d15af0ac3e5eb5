"""What the front ends and the checker do with a text: diagnostics or a program, soon, and never anything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from xfc.compiler.commands.check_program import check_program
from xfc.compiler.commands.reporting import guarded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.ir import Program
from xfc.compiler.render_diagnostics import full, json_document

MOST_SECONDS = 1.0


class Fault(Exception):  # noqa: N818 -- what a fuzzer looks for
    """A text that is not dealt with as it should be."""


def try_text(
    ending: str, content: bytes, folder: Path, then: Callable[[Program], None] | None = None, seconds: float = MOST_SECONDS
) -> bool:
    """Checks a text as `xfc check` does; true if it is a right spec. Raises Fault on an internal error or after too long (of this process's own time)."""
    path = folder / f"spec{ending}"
    path.write_bytes(content)
    diagnostics = Diagnostics()
    checked = None
    started = time.process_time()
    with guarded(diagnostics):
        checked = check_program(str(path), (), diagnostics)
        if checked is not None and then is not None:
            then(checked.program)
    taken = time.process_time() - started
    if taken > seconds:
        raise Fault(f"took {taken:.2f} s for {len(content)} bytes")
    inner = [d for d in diagnostics.found if d.code == "E999"]
    if inner:
        raise Fault(inner[0].message)
    if checked is None and not diagnostics.failed:
        raise Fault("neither a program nor a diagnostic")
    for diagnostic in diagnostics.found:
        full(diagnostic)
    json_document(diagnostics.found)
    return checked is not None


def bounded(gigabytes: float) -> None:
    """No more memory than this for the whole process."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * (1 << 30)),) * 2)
