"""Parsed files kept between runs, each with a digest of the file and of this package's grammar: no other tree is taken for it.

`python -m xfc.grammar.cache FILE...` parses files ahead.
"""

from __future__ import annotations

import pickle
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from . import tree
from .digest import digest
from .keep import keep, keep_ahead, places, recall
from .load import parse_source, read_source
from .problem import Problem

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
    digest = _digest(source)
    kept = places(source.path, "tree")
    for data in recall(kept):
        if data.startswith(digest):
            try:
                found = pickle.loads(data[len(digest) :])
                if isinstance(found, tree.File) and found.span.source == source:
                    return found, []
            except Exception:  # whatever a damaged file makes the unpickler raise
                pass
    file, problems = parse_source(source)
    if file is not None and not problems:
        with suppress(RecursionError):
            keep(kept, digest + pickle.dumps(file, pickle.HIGHEST_PROTOCOL))
    return file, problems


@cache
def _grammar() -> bytes:
    found = digest(digest_size=32)
    for part in _PARTS:
        found.update(Path(__file__).with_name(part).read_bytes())
    return found.digest()


def _digest(source: tree.Source) -> bytes:
    """Of all that a tree depends on."""
    return digest(b"\0".join([_grammar(), source.path.encode("utf-8", "surrogateescape"), source.text.encode()]), digest_size=32).digest()


def main() -> None:
    keep_ahead()
    for path in sys.argv[1:]:
        cached_load(Path(path).resolve())


if __name__ == "__main__":
    main()
