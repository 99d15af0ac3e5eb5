"""The YAML surface to the same tree: a mapping is a block, every scalar is text for the expression grammar.

```
model: name             the model's name; its place among the keys is the model's place among the declarations
type: component         or `extends: model`; in an inner mapping, the component that it calls
paper: text             what `"..."` says in the first line of a .xf block
import: [file.xf]
assume: {causal: why}
let: {name: value}      local names; in an inner mapping too
components: |           definitions in .xf
maps: |                 checkpoint and config maps in .xf
anything else: value    an argument; the key may be a path (`decoder.layers`)
```
"""

from __future__ import annotations

import re
from dataclasses import field
from difflib import get_close_matches

from . import tree
from .build_tree import block_value
from .compose_yaml import Mapping, Node, Scalar, Sequence, compose_yaml, fragment_of
from .frozen import mutable
from .lexer import UNPRINTABLE
from .parse import ordered, parse_fragment, parse_value, refuse
from .problem import Problem
from .tree import Expr, Source, Span

SPECIAL = ("model", "type", "extends", "paper", "import", "assume", "let", "components", "maps")
_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_PATH = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_TARGETS = re.compile(rf"{_WORD}(?:\s*,\s*{_WORD})*")


def parse_yaml(source: Source) -> tuple[tree.File | None, list[Problem]]:
    """The tree of a YAML text, and what is wrong with it. Never raises."""
    problem = refuse(source)
    if problem is not None:
        return None, [problem]
    node, problems = compose_yaml(source)
    if problems:
        return None, problems
    reader = Reader(source)
    file = reader.file(node)
    return file, ordered(reader.problems)


@mutable(slots=True)
class _Spec:
    """What the keys of the file say so far."""

    name: tree.Name | None = None
    base: Expr | None = None
    extends: tree.Name | None = None
    paper: str | None = None
    lets: tuple[tree.Let, ...] = ()
    assumes: tuple[tree.Assume, ...] = ()
    arguments: list[tree.Argument] = field(default_factory=list)
    imports: list[tree.Import] = field(default_factory=list)
    declarations: list[tree.Declaration | None] = field(default_factory=list)  # none: the model's place


class Reader:
    """Reads the nodes of one file; `problems` collects what is wrong."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def problem(self, code: str, message: str, node: Node | Span, help: str, *notes: tuple[str, Span | None]) -> None:
        span = node if isinstance(node, Span) else self.span(node)
        self.problems.append(Problem(code, message, span, help, notes))

    def span(self, node: Node) -> Span:
        return Span(self.source, node.start, max(node.end, node.start))

    # ---------------------------------------------------------------- the file

    def file(self, node: Node | None) -> tree.File | None:
        whole = Span(self.source, 0, len(self.source.text))
        if node is None or (isinstance(node, Scalar) and not node.value.strip()):
            self.problem("E004", "nothing is described in this text", Span(self.source, 0, 0), "write `model: name` and `type: component`")
            return None
        if not isinstance(node, Mapping):
            self.problem("E035", "a spec is a mapping of keys to values", node, "write `model: name` and `type: component`")
            return None
        spec = _Spec()
        for key, value, name in self.keys(node, _PATH):
            self.top(spec, key, value, name)
        model = self.model(spec, node)
        declarations = [model if declaration is None else declaration for declaration in spec.declarations]
        found = tuple([declaration for declaration in declarations if declaration is not None])
        return tree.File(span=whole, imports=tuple(spec.imports), declarations=found)

    def top(self, spec: _Spec, key: Scalar, value: Node, name: str) -> None:
        match name:
            case "model":
                spec.name = self.name(value)
                spec.declarations.append(None)
            case "type":
                spec.base = self.expression(value)
            case "extends":
                spec.extends = self.name(value)
            case "paper":
                spec.paper = self.text(value)
            case "import":
                for item in value.items if isinstance(value, Sequence) else (value,):
                    path = self.text(item)
                    if path is not None:
                        spec.imports.append(tree.Import(span=self.span(item), path=path))
            case "assume":
                spec.assumes = self.assumes(value)
            case "let":
                spec.lets = self.lets(value)
            case "components" | "maps":
                self.definitions(spec, name, value)
            case _:
                argument = self.argument(key, value, name)
                if argument is not None:
                    spec.arguments.append(argument)

    def model(self, spec: _Spec, node: Mapping) -> tree.Model | None:
        if spec.name is None:
            stray = spec.base or spec.extends or spec.arguments or spec.lets or spec.assumes or spec.paper
            names = {key.value for key, _ in node.pairs if isinstance(key, Scalar)}
            if "model" not in names and stray:
                near = get_close_matches("model", [argument.name or "" for argument in spec.arguments], 1)
                help = f"did you mean `model` instead of `{near[0]}`?" if near else "write `model: name` first"
                self.problem("E036", "this file does not name its model", Span(self.source, node.start, node.start), help)
            elif "model" not in names and not spec.declarations and not spec.imports and not self.problems:
                self.problem(
                    "E004", "nothing is described in this text", Span(self.source, 0, 0), "write `model: name` and `type: component`"
                )
            return None
        if spec.base is not None and spec.extends is not None:
            self.problem("E036", "a model is a `type` or `extends` another, not both", spec.extends.span, "keep one of the two")
            return None
        if spec.base is None and spec.extends is None:
            if not self.problems:
                help = "write `type: component`, or `extends: model` for a variant"
                self.problem("E036", f"the model `{spec.name.id}` has no `type`", spec.name.span, help)
            return None
        return tree.Model(
            span=self.span(node),
            name=spec.name,
            base=spec.base,
            extends=spec.extends,
            component=None,
            lets=spec.lets,
            arguments=tuple(spec.arguments),
            assumes=spec.assumes,
            paper=spec.paper,
        )

    def definitions(self, spec: _Spec, name: str, value: Node) -> None:
        if not isinstance(value, Scalar) or value.style != "|":
            self.problem("E037", f"`{name}` holds definitions in .xf", value, f"write `{name}: |` and the definitions under it, indented")
            return
        file, problems = parse_fragment(fragment_of(self.source, value))
        self.problems += problems
        spec.imports += file.imports
        spec.declarations += file.declarations

    # ---------------------------------------------------------------- mappings

    def keys(self, node: Mapping, shape: re.Pattern[str]) -> list[tuple[Scalar, Node, str]]:
        """The pairs whose keys are names (of the shape), each once."""
        seen: dict[str, Scalar] = {}
        found: list[tuple[Scalar, Node, str]] = []
        split = self.split_call(node)
        for key, value in node.pairs:
            if split is not None and value.start >= split:
                break
            if not isinstance(key, Scalar):
                self.problem("E035", "a key is a name, not a list or a mapping", key, "write `name: value`")
            elif not shape.fullmatch(key.value):
                shown = f"`{key.value}`" if key.value.strip() and "\n" not in key.value and len(key.value) < 60 else "this"
                self.problem("E035", f"{shown} is no name of an argument", key, "keys look like `heads` or `decoder.layers`")
            elif key.value in seen:
                first = ("it stands here before", self.span(seen[key.value]))
                self.problem("E031", f"`{key.value}` stands twice in this mapping", key, "keep one of the two", first)
            else:
                seen[key.value] = key
                found.append((key, value, key.value))
        return found

    def split_call(self, node: Mapping | Sequence) -> int | None:
        """Where YAML split the inside of a bracket at a comma, if it did; reports it."""
        scalars: list[Node] = []
        if isinstance(node, Mapping):
            scalars = [part for pair in node.pairs for part in pair]
        else:
            scalars = list(node.items)
        for part in scalars:
            if isinstance(part, Scalar) and part.style is None and part.in_flow and part.value.count("(") > part.value.count(")"):
                written = self.source.text[part.start : node.end].split("\n")[0]
                closing = written.rfind(")")
                help = f'quote the whole value: "{written[: closing + 1] if closing > 0 else part.value + ", ...)"}"'
                self.problem("E034", "YAML splits this call at its comma", part, help)
                return part.start
        return None

    def argument(self, key: Scalar, value: Node, name: str) -> tree.Argument | None:
        result = self.value(value)
        if result is None:
            return None
        return tree.Argument(span=self.span(key).to(result.span), name=name, name_span=self.span(key), value=result)

    def lets(self, node: Node) -> tuple[tree.Let, ...]:
        if not isinstance(node, Mapping):
            self.problem("E037", "`let` holds names and their values", node, "write `let:` and lines `name: value` under it")
            return ()
        found: list[tree.Let] = []
        for key, value, names in self.keys(node, _TARGETS):
            result = self.value(value, several=True)
            if isinstance(result, tree.Block) and result.base is None:
                self.problem("E037", "this mapping calls no component", value, "say which: `type: component`")
            elif result is not None:
                words = re.finditer(_WORD, names)
                shift = key.start + (1 if key.style else 0)
                targets = [tree.Name(span=Span(self.source, shift + w.start(), shift + w.end()), id=w[0]) for w in words]
                found.append(tree.Let(span=self.span(key).to(result.span), targets=tuple(targets), value=result))
        return tuple(found)

    def assumes(self, node: Node) -> tuple[tree.Assume, ...]:
        if not isinstance(node, Mapping):
            self.problem("E037", "`assume` holds properties and the reasons for them", node, 'write `assume: {causal: "reason"}`')
            return ()
        found: list[tree.Assume] = []
        for key, value, name in self.keys(node, re.compile(_WORD)):
            reason = self.text(value)
            if reason is not None:
                found.append(tree.Assume(span=self.span(key).to(self.span(value)), property=name, reason=reason))
        return tuple(found)

    # ---------------------------------------------------------------- values

    def value(self, node: Node, several: bool = False) -> Expr | None:
        match node:
            case Scalar():
                return self.expression(node, several)
            case Sequence():
                return self.list(node)
            case Mapping():
                return self.block(node)

    def block(self, node: Mapping) -> Expr | None:
        base: Expr | None = None
        lets: tuple[tree.Let, ...] = ()
        arguments: list[tree.Argument] = []
        known = len(self.problems)
        for key, value, name in self.keys(node, _PATH):
            if name == "type":
                base = self.expression(value)
            elif name == "let":
                lets = self.lets(value)
            else:
                argument = self.argument(key, value, name)
                if argument is not None:
                    arguments.append(argument)
        if len(self.problems) > known:
            return None
        if base is None and not lets and not arguments:
            self.problem("E037", "this mapping is empty", node, "leave the key out, or give the arguments that it changes")
            return None
        result = block_value(self.span(node), base, lets, tuple(arguments))
        if isinstance(result, tree.Call):
            names = [argument.name for argument in result.arguments if argument.name]
            for argument in arguments:
                if names.count(argument.name or "") > 1:
                    message = f"`{argument.name}` is given twice: here and in `type`"
                    self.problem("E022", message, argument.name_span or argument.span, "keep one of the two")
        return result

    def list(self, node: Sequence) -> Expr | None:
        if self.split_call(node) is not None:
            return None
        items: list[Expr] = []
        known = len(self.problems)
        for item in node.items:
            result = self.item(item)
            if result is not None:
                items.append(result)
        return tree.List(span=self.span(node), items=tuple(items)) if len(self.problems) == known else None

    def item(self, node: Node) -> Expr | None:
        """An item of a list: an expression, a list, a call (`{type: f, a: 1}`) or an axis (`label: size`)."""
        if not isinstance(node, Mapping):
            return self.value(node)
        names = [key.value for key, _ in node.pairs if isinstance(key, Scalar)]
        if len(node.pairs) == 1 and names and names[0] not in ("type", "let"):
            for _, size, label in self.keys(node, re.compile(rf"{_WORD}'*")):
                value = self.expression(size)
                return None if value is None else tree.Axis(span=self.span(node), label=label, size=value)
            return None
        known = len(self.problems)
        result = self.block(node)
        if isinstance(result, tree.Block):
            self.problem(
                "E037", "a mapping in a list must be a call that stands alone", node, "name it under `let:` and put the name in the list"
            )
        return result if len(self.problems) == known else None

    def expression(self, node: Node, several: bool = False) -> Expr | None:
        """The expression that a scalar's text is."""
        if isinstance(node, Sequence):
            return self.list(node)
        if isinstance(node, Mapping):
            self.problem("E037", "a mapping cannot stand here", node, "write an expression")
            return None
        fragment = fragment_of(self.source, node)
        if not fragment.text.strip():
            self.problem("E037", "a value is missing here", node, "write one, or `none` for absence")
            return None
        value, problems = parse_value(fragment)
        self.problems += problems
        bare = len(fragment.text) - len(fragment.text.lstrip())
        if isinstance(value, tree.Tuple) and not several and value.span.start == fragment.place(bare):
            self.problem("E037", "several values stand here", node, "write a list: [a, b]")
            return None
        return value

    def name(self, node: Node) -> tree.Name | None:
        if isinstance(node, Scalar) and re.fullmatch(_WORD, node.value):
            shift = node.start + (1 if node.style in ("'", '"') else 0)
            return tree.Name(span=Span(self.source, shift, shift + len(node.value)), id=node.value)
        self.problem(
            "E037", "a name is needed here", node, "names have letters, digits and underscores, and start with a letter: llama3_8b"
        )
        return None

    def text(self, node: Node) -> str | None:
        if isinstance(node, Scalar) and node.value.strip():
            control = UNPRINTABLE.search(node.value)
            if control is None:
                return node.value
            self.problem("E015", f"this text holds the character U+{ord(control[0]):04X}", node, "take it out")
            return None
        self.problem("E037", "a text is needed here", node, 'write it in quotes: "..."')
        return None
