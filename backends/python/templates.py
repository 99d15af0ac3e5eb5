"""The templates of the backends. What Jinja compiles them to is kept, by their text and by this file's.

`python -m xfc.backends.python.templates` compiles them ahead.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined, Template
from jinja2.bccache import Bucket

from ...grammar.keep import keep, keep_ahead, places, recall

BACKENDS = Path(__file__).resolve().parent.parent
TRIMMED = ("python",)
"""Backends in whose templates a line that holds a tag alone leaves no line behind."""


@cache
def template(backend: str, name: str) -> Template:
    """The template `name` of a folder in `backends/`."""
    trimmed = backend in TRIMMED
    environment = Environment(
        loader=PackageLoader(f"xfc.backends.{backend}"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=trimmed,
        lstrip_blocks=trimmed,
        autoescape=False,
        optimized=False,
        bytecode_cache=_Kept(),
    )
    return environment.get_template(name)


class _Kept(BytecodeCache):
    """Beside the template. Jinja itself looks whether the code is of the template's present text and of this Python."""

    def get_cache_key(self, name: str, filename: str | None = None) -> str:
        return filename or name

    def get_source_checksum(self, source: str) -> str:
        return hashlib.sha256(source.encode() + Path(__file__).read_bytes()).hexdigest()

    def load_bytecode(self, bucket: Bucket) -> None:
        for data in recall(places(bucket.key, "code")):
            try:
                bucket.bytecode_from_string(data)
            except Exception:  # whatever a damaged file makes the unpickler raise
                bucket.reset()
            if bucket.code is not None:
                return

    def dump_bytecode(self, bucket: Bucket) -> None:
        keep(places(bucket.key, "code"), bucket.bytecode_to_string())


def main() -> None:
    keep_ahead()
    for path in sorted(BACKENDS.glob("*/templates/*.j2")):
        template(path.parent.parent.name, path.name)


if __name__ == "__main__":
    main()
