"""A tree in either surface. Both directions are total: what YAML cannot say as keys stands in `components: |`, in .xf."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import tree
from .lexer import UNPRINTABLE
from .print_expression import WIDTH, fit_value, text_of
from .print_xf import print_file
from .read_yaml import SPECIAL
from .tree import Expr

STEP = 2
_FLOW_WIDTH = 110
_PLAIN = re.compile(r"(?:[A-Za-z0-9_(]|-[A-Za-z0-9_(])[^\n]*")
_NOT_PLAIN = re.compile(r": |:$| #|^\s|\s$")


def to_xf(file: tree.File) -> str:
    """The file in .xf; parsed, it gives an equal tree."""
    return print_file(file)


def to_yaml(file: tree.File) -> str:
    """The file in YAML; parsed, it gives an equal tree."""
    lines: list[str] = []
    if file.imports:
        lines += entry("import", [quoted(item.path) for item in file.imports], 0)
    if file.declarations:
        for key, declarations in _placed(file):
            if key == "model":
                (model,) = declarations
                assert isinstance(model, tree.Model)
                lines += _model(model)
            else:
                text = print_file(tree.File(span=file.span, imports=(), declarations=tuple(declarations)))
                lines += [f"{key}: |", *((" " * STEP + line).rstrip() for line in text.rstrip("\n").split("\n"))]
    return "\n".join(lines) + "\n"


def _placed(file: tree.File) -> list[tuple[str, Sequence[tree.Declaration]]]:
    """The keys that hold the declarations, in order: one model as keys of its own, what stands before and after it as definitions."""
    everything = file.declarations
    for at in reversed(range(len(everything))):
        model = everything[at]
        if not isinstance(model, tree.Model) or not _speakable_model(model):
            continue
        before, after = everything[:at], everything[at + 1 :]
        maps = len(after)
        while maps > 0 and isinstance(after[maps - 1], tree.Map):
            maps -= 1
        if before and all(isinstance(other, tree.Map) for other in before):
            keys = [("maps", before), ("model", (model,)), ("components", after)]
        elif before and maps > 0:
            continue
        else:
            keys = [("components", before), ("model", (model,)), ("components", after[:maps]), ("maps", after[maps:])]
        return [(key, found) for key, found in keys if found]
    return [("components", everything)]


# ---------------------------------------------------------------- what YAML can say


def _speakable_model(model: tree.Model) -> bool:
    names = [argument.name or "" for argument in model.arguments]
    properties = [assume.property for assume in model.assumes]
    return (
        model.component is None
        and not set(names) & set(SPECIAL)
        and _distinct(names)
        and _distinct(properties)
        and bool(model.paper is None or model.paper.strip())
        and all(assume.reason.strip() for assume in model.assumes)
        and _speakable_lets(model.lets)
        and all(_speakable(argument.value) for argument in model.arguments)
    )


def _speakable_lets(lets: Sequence[tree.Let]) -> bool:
    keys = [_targets(let) for let in lets]
    return _distinct(keys) and not any("'" in key for key in keys) and all(_speakable(let.value) for let in lets)


def _speakable(value: Expr) -> bool:
    if not isinstance(value, tree.Block):
        return True
    names = [argument.name or "" for argument in value.arguments]
    return (
        not {"type", "let"} & set(names)
        and _distinct(names)
        and _speakable_lets(value.lets)
        and all(_speakable(argument.value) for argument in value.arguments)
    )


def _distinct(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _targets(let: tree.Let) -> str:
    return ", ".join(name.id for name in let.targets)


# ---------------------------------------------------------------- writing


def _model(model: tree.Model) -> list[str]:
    lines = [f"model: {model.name.id}"]
    if model.extends is not None:
        lines.append(f"extends: {model.extends.id}")
    elif model.base is not None:
        lines += scalar("type", model.base, 0)
    if model.paper is not None:
        lines.append(f"paper: {quoted(model.paper)}")
    if model.assumes:
        lines += ["assume:", *(f"{' ' * STEP}{assume.property}: {quoted(assume.reason)}" for assume in model.assumes)]
    return lines + _let(model.lets, 0) + _arguments(model.arguments, 0)


def _let(lets: Sequence[tree.Let], indent: int) -> list[str]:
    if not lets:
        return []
    return [" " * indent + "let:", *(line for let in lets for line in _value(_targets(let), let.value, indent + STEP))]


def _arguments(arguments: Sequence[tree.Argument], indent: int) -> list[str]:
    return [line for argument in arguments for line in _value(argument.name or "", argument.value, indent)]


def entry(key: str, items: Sequence[str], indent: int) -> list[str]:
    """A key with a list of scalars, on one line or an item a line."""
    line = " " * indent + f"{key}: [{', '.join(items)}]"
    if len(line) <= _FLOW_WIDTH:
        return [line]
    return [" " * indent + f"{key}:", *(" " * (indent + STEP) + f"- {item}" for item in items)]


def _value(key: str, value: Expr, indent: int) -> list[str]:
    """`key: value` on as many lines as it needs."""
    margin = " " * indent
    match value:
        case tree.Block(base=base, lets=lets, arguments=arguments):
            type_ = [] if base is None else scalar("type", base, indent + STEP)
            return [f"{margin}{key}:", *type_, *_let(lets, indent + STEP), *_arguments(arguments, indent + STEP)]
        case tree.Call() if _as_mapping(value):
            flow = f"{margin}{key}: {_flow(value)}"
            if len(flow) <= _FLOW_WIDTH:
                return [flow]
            base, named = _call_parts(value)
            return [f"{margin}{key}:", *scalar("type", base, indent + STEP), *_arguments(named, indent + STEP)]
        case tree.List(items=items) if all(not isinstance(item, tree.Axis) for item in items):
            return entry(key, [_flow(item) for item in items], indent)
        case _:
            return scalar(key, value, indent)


def _as_mapping(call: tree.Call) -> bool:
    """Whether a call reads well as `{type: f, a: 1}`, and is read so."""
    _, named = _call_parts(call)
    if not named or not isinstance(call.function, tree.Name | tree.Attribute):
        return False
    return all(
        argument.name not in ("type", "let") and not isinstance(argument.value, tree.Axis | tree.Range | tree.Tuple) for argument in named
    )


def _call_parts(call: tree.Call) -> tuple[Expr, Sequence[tree.Argument]]:
    named = [argument for argument in call.arguments if argument.name is not None]
    rest = call.arguments[: len(call.arguments) - len(named)]
    return (tree.Call(span=call.span, function=call.function, arguments=rest) if rest else call.function), named


def _flow(value: Expr) -> str:
    """A value inside [...] or {...}."""
    if isinstance(value, tree.Call) and _as_mapping(value):
        base, named = _call_parts(value)
        return "{" + ", ".join([f"type: {_flow(base)}", *(f"{argument.name}: {_flow(argument.value)}" for argument in named)]) + "}"
    return scalar_text(text_of(value) if not isinstance(value, tree.Tuple) else f"({text_of(value)})", in_flow=True)


def scalar(key: str, value: Expr, indent: int) -> list[str]:
    """`key: expression`; one too long for its line is broken under `|`."""
    margin = " " * indent
    text = f"({text_of(value)})" if isinstance(value, tree.Tuple) and "," not in key else text_of(value)
    line = f"{margin}{key}: {scalar_text(text)}"
    if len(line) <= WIDTH:
        return [line]
    broken = fit_value("", value, "", indent + STEP)
    if "\n" not in broken or isinstance(value, tree.Tuple):
        return [line]
    inner = " " * (indent + STEP)
    first, *rest = broken.split("\n")
    return [f"{margin}{key}: |", inner + first, *rest]


def scalar_text(text: str, in_flow: bool = False) -> str:
    """The text of an expression as a YAML scalar, in quotes only if it needs them."""
    plain = _PLAIN.fullmatch(text) and not _NOT_PLAIN.search(text) and not (in_flow and re.search(r"[,\[\]{}]", text))
    if plain:
        return text
    if '"' not in text and "\\" not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def quoted(text: str) -> str:
    """A text in double quotes, for keys whose value is no expression."""
    assert not UNPRINTABLE.search(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
