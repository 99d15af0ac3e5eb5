"""Where a name of a component or a model is found: the user's file and its imports, then the zoo and the standard library.

Shipped files are indexed by scanning their top-level declarations and parsed only when one of their names is asked for, so that start-up does not
grow with the library."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import field
from functools import cache
from pathlib import Path

from ..grammar import tree
from ..grammar.frozen import mutable
from .diagnostics import Diagnostics, Note

SPECS = Path(__file__).resolve().parent.parent / "specs"
_DECLARATION = re.compile(r"^(component|fn|mask|score|weights|model)\s+([A-Za-z_]\w*)", re.MULTILINE)
_YAML_MODEL = re.compile(r"^(model):\s*['\"]?([A-Za-z_]\w*)", re.MULTILINE)


@cache
def _declared(folder: Path) -> tuple[tuple[str, str, Path], ...]:
    """Keyword, name and file of every declaration in a folder of specs, the standard library's first."""
    return tuple(
        (match.group(1), match.group(2), path)
        for path in [*sorted((folder / "std").glob("*.xf")), *sorted(folder.glob("*.xf")), *sorted(folder.glob("*.yaml"))]
        for match in (_DECLARATION if path.suffix == ".xf" else _YAML_MODEL).finditer(path.read_text(encoding="utf-8"))
    )


MOST_SUGGESTED = 100


@cache
def shipped() -> dict[str, Path]:
    """Every name that the shipped files declare, with its file: the first, if several do."""
    names: dict[str, Path] = {}
    for _, name, path in _declared(SPECS):
        names.setdefault(name, path)
    return names


def shipped_models() -> dict[str, Path]:
    """The zoo: model names with their files."""
    names: dict[str, Path] = {}
    for keyword, name, path in _declared(SPECS):
        if keyword == "model":
            names.setdefault(name, path)
    return names


IMPORT_ROOTS: list[Path] = []
"""Further folders that imports may lead into: `--import-root`."""


def roots_of(path: Path) -> tuple[Path, ...]:
    """Where the imports of a spec may lead: its folder, the working directory if the spec stands in it, shipped files, and what was allowed."""
    folder = path.parent.resolve()
    here = Path.cwd().resolve()
    around = (here,) if folder.is_relative_to(here) else ()
    return folder, *around, SPECS, *(root.resolve() for root in IMPORT_ROOTS)


@mutable
class Library:
    """The declarations visible to one spec. `roots`: the folders that its imports stay in, known with its first file."""

    diagnostics: Diagnostics
    components: dict[str, tree.Component] = field(default_factory=dict)
    models: dict[str, tree.Model] = field(default_factory=dict)
    maps: list[tree.Map] = field(default_factory=list)
    _by_file: dict[tuple[str, str], tree.Component] = field(default_factory=dict)
    _loaded: set[Path] = field(default_factory=set)
    roots: tuple[Path, ...] = ()

    def load(self, path: Path, *, shadow: bool = True) -> tree.File | None:
        """Read a file with its imports; later files do not replace names of earlier ones unless they are the same file's."""
        from ..grammar.cache import cached_load
        from .problems import report

        same = path.resolve() if os.path.exists(path) else path
        if same in self._loaded:
            return None
        self._loaded.add(same)
        file, problems = cached_load(path)
        report(problems, self.diagnostics)
        if file is None:
            return None
        self._add(file)
        self.roots = self.roots or roots_of(path)
        for wanted in file.imports:
            target = path.parent / wanted.path
            if not self._is_within(target):
                help = "copy it beside the spec, or allow its folder: `--import-root DIR`"
                self.diagnostics.error(
                    "E309", f"the import {wanted.path!r} leads out of the folders that may be read", wanted.span, help=help
                )
                continue
            if not os.path.exists(target):
                self.diagnostics.error("E301", f"there is no file {wanted.path!r}", wanted.span, help="paths are relative to this file")
                continue
            self.load(target)
        return file

    def _is_within(self, target: Path) -> bool:
        """Whether a file, links followed, lies in one of the roots."""
        try:
            real = target.resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
            return False
        return any(real.is_relative_to(root) for root in self.roots)

    def _add(self, file: tree.File) -> None:
        for declaration in file.declarations:
            match declaration:
                case tree.Map():
                    self.maps.append(declaration)
                case tree.Component():
                    self._declare(self.components, declaration.name, declaration)
                    self._by_file.setdefault((declaration.span.source.path, declaration.name.id), declaration)
                case tree.Model():
                    self._declare(self.models, declaration.name, declaration)

    def _declare(self, table: dict[str, tree.Component] | dict[str, tree.Model], name: tree.Name, declaration: object) -> None:
        old = table.get(name.id)
        if old is not None and old.span.source.path == name.span.source.path:
            self.diagnostics.error(
                "E302", f"`{name.id}` is declared twice", name.span, Note("first here", old.name.span), help="rename or delete one of them"
            )
        if old is None:
            table[name.id] = declaration  # type: ignore[assignment]

    def component(self, name: str, where: str = "") -> tree.Component | None:
        """What a name means in the file `where`: its own declaration, else the spec's or an import's, else the library's.

        A shipped file sees shipped declarations only, so that a spec's own `linear` is not what the library's components are made of."""
        own = self._by_file.get((where, name))
        if own is not None:
            return own
        ships = where.startswith(str(SPECS))
        if name in shipped() and (name not in self.components or ships):
            self.load(shipped()[name])
            if ships:
                return self._by_file.get((str(shipped()[name]), name))
        return None if ships else self.components.get(name)

    def model(self, name: str) -> tree.Model | None:
        if name not in self.models and name in shipped():
            self.load(shipped()[name])
        return self.models.get(name)

    def maps_for(self, model: str, kind: str) -> list[tree.Map]:
        return [m for m in self.maps if m.kind == kind and m.model.id == model]

    def nearest(self, name: str, more: Iterable[str] = ()) -> str | None:
        """A help text with the nearest known name, if one is near; among hundreds of mistakes nobody looks for more of them."""
        if len(self.diagnostics.found) > MOST_SUGGESTED:
            return None
        return suggest(name, [*self.components, *shipped(), *more])


def suggest(name: str, known: Iterable[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, [k for k in known if k != name], n=1, cutoff=0.7)
    return f"did you mean `{close[0]}`?" if close else None
