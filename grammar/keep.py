"""What is only a saving of time, kept in files between runs. Nothing here reports or raises: what cannot be read or written is as good as none.

What was made of a user's files is kept under `$XDG_CACHE_HOME/xfc` (else `~/.cache/xfc`). What was made of a file of this package is kept in
`__pycache__` beside it, as Python keeps bytecode there; where that cannot be written or PYTHONDONTWRITEBYTECODE is set, with the user's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .digest import digest
from .replace_file import replace_file

PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
#: Folders of this package with files that something is made of.
_OWN = tuple(os.path.join(PACKAGE, part) + os.sep for part in ("backends", "specs"))


def cache_folder(kind: str) -> Path:
    """Where the user's are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "xfc" / kind


def places(origin: str, kind: str) -> list[str]:
    """Where what was made of the file `origin` may be kept, the best place first."""
    name = digest(origin.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    users = str(cache_folder(kind) / name)
    if not origin.startswith(_OWN):
        return [users]
    folder, own = os.path.split(origin)
    return [os.path.join(folder, "__pycache__", f"{own}.{kind}"), users]


def recall(places: Sequence[str]) -> Iterator[bytes]:
    """What is kept there."""
    for place in places:
        try:
            with open(place, "rb") as file:
                yield file.read()
        except (OSError, ValueError):
            pass


def keep(places: Sequence[str], data: bytes) -> None:
    """Keep it in the first place that can be written."""
    for place in places:
        if sys.dont_write_bytecode and place.startswith(_OWN):
            continue
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            replace_file(place, data)
        except (OSError, ValueError):
            continue
        return


def keep_ahead() -> None:
    """For a program that is run to keep things: beside this package's files, whatever the user has already."""
    sys.dont_write_bytecode = False
    os.environ["XDG_CACHE_HOME"] = os.devnull
