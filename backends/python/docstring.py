"""Words of a spec as the text of a docstring: in one line, and never more than text."""

from __future__ import annotations

import re

_QUOTES = re.compile(r'"{3,}|"+$')


def docstring(words: str) -> str:
    """What stands between three double quotes and says these words: quotes that would end it, backslashes and what cannot be printed are escaped."""
    text = " ".join(words.split()).replace("\\", "\\\\")
    text = _QUOTES.sub(lambda found: '\\"' * len(found[0]), text)
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(c: str) -> str:
    return c.encode("ascii", "backslashreplace").decode() if ord(c) > 127 else f"\\x{ord(c):02x}"
