"""What is wrong with a text, as data. `grammar` imports nothing from the compiler, which turns a `Problem` into its own diagnostic."""

from __future__ import annotations

from .frozen import frozen
from .tree import Span


@frozen
class Problem:
    """`code` is `E001` to `E049`; `message` is one sentence without a full stop; `help` says what to write; `notes` are other places."""

    code: str
    message: str
    span: Span | None = None
    help: str | None = None
    notes: tuple[tuple[str, Span | None], ...] = ()
