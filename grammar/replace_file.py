"""Files that are replaced whole: a reader sees the old content or the new, also where several processes write at once."""

from __future__ import annotations

import os


def replace_file(path: str, data: bytes, mode: int | None = None) -> None:
    """Write a neighbour and put it in the place of `path`. Raises OSError; then the old file stays as it was."""
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".{name}.{os.getpid()}.part")
    number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        if mode is not None:
            os.chmod(part, mode)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
