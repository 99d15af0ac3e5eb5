"""What a command made of a spec before is not made again, while the spec, the words of the command and every file of this package are the same.

Kept under `$XDG_CACHE_HOME/xfc/results` (else `~/.cache`). Only what went without a diagnostic is kept, and only of a shipped spec or of
a file without imports, whose text is all that it depends on. A cache that cannot be read or written is as good as none.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ...grammar.cache import cache_folder
from ...grammar.replace_file import replace_file
from ..diagnostics import Diagnostics

T = TypeVar("T")
PACKAGE = Path(__file__).resolve().parent.parent.parent
PARTS = ("backends", "compiler", "grammar", "specs")
LARGEST_SPEC = 1_000_000


def remembered(words: Sequence[str], spec: str, diagnostics: Diagnostics, make: Callable[[], T | None]) -> T | None:
    """What `make` gives for a command's words and a spec; none if it does."""
    key = _key(words, spec)
    if key is None:
        return make()
    place = cache_folder("results") / key
    try:
        found: T = pickle.loads(place.read_bytes())
        return found
    except Exception:  # there is none, or whatever a damaged file makes the unpickler raise
        pass
    made = make()
    if made is not None and not diagnostics.found:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            replace_file(str(place), pickle.dumps(made))
        except OSError:
            pass
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
        digest = hashlib.blake2b(digest_size=16)
        for part in (sys.version, *words, spec):
            digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(text + b"\0" + _package())
    except (OSError, ValueError):
        return None
    return digest.hexdigest()


def _package() -> bytes:
    """A digest of this package: names and contents of its files."""
    digest = hashlib.blake2b(digest_size=16)
    for part in PARTS:
        for folder, below, names in os.walk(PACKAGE / part):
            below[:] = sorted(name for name in below if name != "__pycache__")
            for name in sorted(names):
                with open(os.path.join(folder, name), "rb") as file:
                    digest.update(name.encode() + b"\0" + file.read() + b"\0")
    return digest.digest()
