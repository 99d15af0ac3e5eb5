"""What a command made of a spec before is not made again, while the spec, the words of the command and every file of this package are the same.

Kept under `$XDG_CACHE_HOME/xfc/results` (else `~/.cache`). Only what went without a diagnostic is kept, and only of a shipped spec or of
a file without imports, whose text is all that it depends on. A cache that cannot be read or written is as good as none.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...grammar.digest import digest
from ...grammar.keep import PACKAGE, cache_folder, keep, recall
from ..diagnostics import Diagnostics

T = TypeVar("T")
PARTS = ("backends", "compiler", "grammar", "specs")
LARGEST_SPEC = 1_000_000


def remembered(words: Sequence[str], spec: str, diagnostics: Diagnostics, make: Callable[[], T | None]) -> T | None:
    """What `make` gives for a command's words and a spec; none if it does."""
    key = _key(words, spec)
    if key is None:
        return make()
    place = [str(cache_folder("results") / key)]
    for data in recall(place):
        try:
            found: T = pickle.loads(data)
            return found
        except Exception:  # whatever a damaged file makes the unpickler raise
            pass
    made = make()
    if made is not None and not diagnostics.found:
        keep(place, pickle.dumps(made))
    return made


def _key(words: Sequence[str], spec: str) -> str | None:
    """A digest of all that the result depends on; none where that is not known."""
    text = b""
    try:
        if os.path.exists(spec):
            if not os.path.isfile(spec):
                return None
            with open(spec, "rb") as file:
                text = file.read(LARGEST_SPEC)
        if len(text) == LARGEST_SPEC or b"import" in text:
            return None
        found = digest(digest_size=16)
        for part in (sys.version, *words, spec):
            found.update(part.encode("utf-8", "surrogateescape") + b"\0")
        found.update(text + b"\0" + _package())
    except (OSError, ValueError):
        return None
    return found.hexdigest()


def _package() -> bytes:
    """A digest of this package: names and contents of its files."""
    found = digest(digest_size=16)
    for part in PARTS:
        for folder, below, names in os.walk(os.path.join(PACKAGE, part)):
            below[:] = sorted(name for name in below if name != "__pycache__")
            for name in sorted(names):
                with open(os.path.join(folder, name), "rb") as file:
                    found.update(name.encode() + b"\0" + file.read() + b"\0")
    return found.digest()
