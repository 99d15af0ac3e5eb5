"""Parsed files kept between runs, under `$XDG_CACHE_HOME/xfc/trees` (else `~/.cache`), by the content of the file and of this package's grammar.

A cache that cannot be read or written is as good as none: nothing here reports or raises.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from functools import cache
from pathlib import Path

from . import tree
from .load import parse_source, read_source
from .problem import Problem
from .replace_file import replace_file

#: Files whose text decides what a tree looks like.
_PARTS = (
    "tree.py",
    "frozen.py",
    "lexer.py",
    "build_expression.py",
    "build_tree.py",
    "xf.lark",
    "read_yaml.py",
    "compose_yaml.py",
    "cache.py",
)


def cached_load(path: str | Path) -> tuple[tree.File | None, list[Problem]]:
    """As `load`, but a file without problems that was parsed before is not parsed again."""
    source, problem = read_source(path)
    if source is None:
        return None, [problem] if problem else []
    place = cache_folder("trees") / f"{_key(source.path, source.text)}.tree"
    try:
        found = pickle.loads(place.read_bytes())
        if isinstance(found, tree.File) and found.span.source == source:
            return found, []
    except Exception:  # whatever a damaged file makes the unpickler raise
        pass
    file, problems = parse_source(source)
    if file is not None and not problems:
        _write(place, file)
    return file, problems


def cache_folder(kind: str) -> Path:
    """Where the user keeps what is only a saving of time."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "xfc" / kind


@cache
def _grammar() -> bytes:
    digest = hashlib.sha256()
    for part in _PARTS:
        digest.update(Path(__file__).with_name(part).read_bytes())
    return digest.digest()


def _key(path: str, text: str) -> str:
    return hashlib.sha256(b"\0".join([_grammar(), path.encode("utf-8", "surrogateescape"), text.encode()])).hexdigest()[:32]


def _write(place: Path, file: tree.File) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(str(place), pickle.dumps(file, pickle.HIGHEST_PROTOCOL))
    except (OSError, RecursionError):
        pass
