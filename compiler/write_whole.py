"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..grammar.replace_file import replace_file
from .diagnostics import Diagnostic, SpecError


def write_whole(path: str, text: str) -> None:
    """Put text into a file, or on standard output for `-`; an old file stays as it was until the new one is complete.

    What is not a plain file (a terminal, a pipe, /dev/null) is written to directly. Raises SpecError (E902) where it cannot be written."""
    data = text.encode("utf-8")
    if path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        _replace(Path(path), data)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"`{path}` cannot be written: {reason[:1].lower()}{reason[1:]}"
        raise SpecError(
            [Diagnostic("E902", message, None, help="name a file in a folder that exists and can be written to, or `-`")]
        ) from None


def _replace(path: Path, data: bytes) -> None:
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))  # a link stays a link
    replace_file(str(target), data, target.stat().st_mode & 0o777 if target.exists() else None)
