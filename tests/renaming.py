"""Consistent renaming of everything that a spec names: components, hyperparameters, inputs, locals and axes.

What the language itself names stays: operations and their arguments, words of the grammar, and the inputs and outputs of models (the
ecosystem's names). New names have the length of the old, so that line breaks in generated code stay where they were."""

from __future__ import annotations

import keyword
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

from xfc.compiler.builtins import OPERATIONS
from xfc.grammar import tree
from xfc.grammar.load import load
from xfc.grammar.print_xf import print_file

WORDS = {
    "true",
    "false",
    "none",
    "yes",
    "no",
    "on",
    "off",
    "null",
    "...",
    "layer",
    "training",
    "layers",
    "causal",
    "values",
    "index",
    "int",
    "bool",
    "float",
}


class Renamer:
    def __init__(self, files: list[tree.File]) -> None:
        self.kept = WORDS | set(OPERATIONS) | set(keyword.kwlist) | {"self", "config", "torch", "nn", "math"}
        self.new: dict[str, str] = {}
        for file in files:
            for declaration in file.declarations:
                component = declaration.component if isinstance(declaration, tree.Model) else declaration
                if isinstance(component, tree.Component) and any(i.dtype in ("int", "bool") for i in component.inputs):
                    self.kept |= {i.name.id for i in component.inputs} | {o.name.id for o in component.outputs if o.name}

    def name(self, word: str) -> str:
        if word.endswith("'"):
            return self.name(word[:-1]) + "'"
        if "." in word:
            return ".".join(self.name(part) for part in word.split("."))
        if word in self.kept or not word or not (word[0].isalpha() or word[0] == "_"):
            return word
        if word not in self.new:
            shift = 7
            taken = self.kept | set(self.new.values())
            while (made := "".join(_turn(c, shift) for c in word)) in taken or keyword.iskeyword(made):
                shift += 1
            self.new[word] = made
        return self.new[word]

    def node(self, node: object) -> object:
        """The same tree with other names."""
        if isinstance(node, tuple):
            return tuple(self.node(item) for item in node)
        if not is_dataclass(node) or isinstance(node, tree.Span | tree.Source):
            return node
        changes = {f.name: self.node(getattr(node, f.name)) for f in fields(node) if f.name not in ("span", "name_span")}
        match node:
            case tree.Name():
                changes["id"] = self.name(node.id)
            case tree.Axis():
                changes["label"] = self.name(node.label)
            case tree.Attribute():
                changes["name"] = self.name(node.name)
            case tree.Index():
                changes["arguments"] = tuple(self.argument(a) for a in node.arguments)
            case tree.Call():
                builtin = isinstance(node.function, tree.Name) and node.function.id in OPERATIONS
                along = builtin and node.function.id in ("split", "unflatten", "rename", "pad")  # type: ignore[union-attr]
                fixed = (
                    {"value", "stride", "dilation", "over", "reverse", "mask", "score", "scale", "weights", "init"} if builtin else set()
                )
                changes["arguments"] = tuple(self.argument(a, {"value"} if along else fixed) for a in node.arguments)
            case tree.Block() | tree.Model():
                changes["arguments"] = tuple(self.argument(a) for a in node.arguments)
        return replace(node, **changes)  # type: ignore[type-var]

    def argument(self, node: tree.Argument, fixed: set[str] = frozenset()) -> tree.Argument:  # type: ignore[assignment]
        name = node.name if node.name is None or node.name in fixed else self.name(node.name)
        return replace(node, name=name, value=self.node(node.value))  # type: ignore[arg-type]


def _turn(letter: str, shift: int) -> str:
    if not letter.isalpha():
        return letter
    base = ord("a") if letter.islower() else ord("A")
    return chr((ord(letter) - base + shift) % 26 + base)


def rename_library(specs: Path, plain: Path, renamed: Path) -> Renamer:
    """Print every spec, without its maps, to two folders: as it is, and renamed."""
    paths = [p for p in sorted(specs.rglob("*")) if p.suffix in (".xf", ".yaml")]
    files: dict[Path, tree.File] = {}
    for path in paths:
        file, problems = load(path)
        assert file is not None and not problems, path
        files[path] = replace(file, declarations=tuple(d for d in file.declarations if not isinstance(d, tree.Map)))
    renamer = Renamer(list(files.values()))
    for path, file in files.items():
        for folder, form in ((plain, file), (renamed, renamer.node(file))):
            target = (folder / path.relative_to(specs)).with_suffix(".xf")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(print_file(form))  # type: ignore[arg-type]
    return renamer
