"""A spec's file, in either surface, to a syntax tree."""

from __future__ import annotations

import os
from pathlib import Path

from . import tree
from .problem import Problem
from .tree import Source

#: Bytes read of a file; a character is at most four.
LARGEST_FILE = 16_000_000
SURFACES = {".xf": "xf", ".yaml": "yaml", ".yml": "yaml"}


def load(path: str | Path, text: str | None = None) -> tuple[tree.File | None, list[Problem]]:
    """The tree of a file and what is wrong with it; the surface is chosen by its ending. `text` stands for the file's content."""
    source, problem = read_source(path, text)
    if source is None:
        return None, [problem] if problem else []
    return parse_source(source)


def parse_source(source: Source) -> tuple[tree.File | None, list[Problem]]:
    """The tree of a text; its path's ending says the surface."""
    match SURFACES.get(os.path.splitext(source.path)[1].lower()):
        case "xf":
            from .parse import parse_xf

            return parse_xf(source)
        case "yaml":
            from .read_yaml import parse_yaml

            return parse_yaml(source)
        case _:
            ending = os.path.splitext(source.path)[1]
            message = f"`{source.path}` ends with `{ending}`, not .xf or .yaml" if ending else f"`{source.path}` has no ending .xf or .yaml"
            return None, [Problem("E005", message, None, "rename it: .xf for definitions, .yaml for a model out of known parts")]


def read_source(path: str | Path, text: str | None = None) -> tuple[Source | None, Problem | None]:
    """The content of a file as text; or why there is none."""
    shown = str(path)
    if text is not None:
        return Source(shown, text), None
    try:
        if os.path.isdir(path):
            return None, Problem("E001", f"`{shown}` is a folder", None, "name a file in it")
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for, a device has no end
            return None, Problem("E001", f"`{shown}` is no plain file", None, "write it to a file first")
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return None, Problem("E001", f"there is no file `{shown}`", None, "check the path")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return None, Problem("E001", f"`{shown}` cannot be read: {reason}", None, None)
    if len(data) > LARGEST_FILE:
        return None, Problem(
            "E003", f"`{shown}` is larger than {LARGEST_FILE // 1_000_000} MB", None, "split it into files and `import` them"
        )
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        line = before.count("\n") + 1
        message = f"`{shown}` is not UTF-8: byte 0x{data[error.start]:02x} in line {line}"
        return None, Problem("E002", message, None, "save it as UTF-8 text")
    if "\0" in content:
        line = content[: content.index("\0")].count("\n") + 1
        return None, Problem("E002", f"`{shown}` is not a text: it holds a NUL character in line {line}", None, "save it as UTF-8 text")
    return Source(shown, content), None
