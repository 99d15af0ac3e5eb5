"""A Hugging Face config as a spec: the shipped model whose config map fits it, with the arguments that differ.

The maps (`config huggingface for MODEL:`) are data in the specs. A row `key = "string"` says what must match for the map to be used, a row
`"key" = literal` what the model takes for granted, any other row gives the argument at a path; the maps of a model `any` say which keys
concern no model at all."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..grammar import tree
from ..grammar.frozen import frozen
from ..grammar.print_expression import text_of
from .checkpoint import map_chain
from .config_values import ConfigReader, Json, keys_of, shown
from .diagnostics import Diagnostics, SpecError
from .library import SPECS, Library, shipped_models, suggest
from .model_tree import as_block, flatten, merge
from .operations import Poison

_LARGEST = 16_000_000
_MOST_DIGITS = 400
_EVERY = "any"


@frozen
class ConfigFile:
    """A config with its text, for places in messages."""

    source: tree.Source
    values: Mapping[str, Json]

    def place(self, path: str) -> tree.Span | None:
        """Where a key stands."""
        at, key = 0, path
        for key in path.split("."):
            found = re.compile(rf"{re.escape(json.dumps(key))}\s*:").search(self.source.text, at)
            if found is None:
                return None
            at = found.start()
        return tree.Span(self.source, at, at + len(json.dumps(key)))


@frozen
class Family:
    """A map whose match rows fit the config."""

    map: tree.Map
    score: int


def import_config(path: str, diagnostics: Diagnostics | None = None) -> str:
    """The YAML spec of a config file. Raises SpecError with what is wrong; warnings go to `diagnostics`."""
    found = diagnostics if diagnostics is not None else Diagnostics()
    try:
        config = read_config(path, found)
        library = Library(found)
        return _spec(config, _with_inherited(find_family(config, library, found), library), library, found)
    except Poison:
        raise SpecError(found.found) from None


def _spec(config: ConfigFile, family: tree.Map, library: Library, diagnostics: Diagnostics) -> str:
    from ..grammar.convert import to_yaml

    model = library.model(family.model.id)
    base = flatten(model, library, [], diagnostics) if model is not None else None
    if base is None:
        diagnostics.error(
            "E511",
            f"there is no model `{family.model.id}` for this map",
            family.model.span,
            help=suggest(family.model.id, shipped_models()),
        )
        raise Poison
    reader = _reader(config, base, library, diagnostics)
    block = _block(base)
    rows = list(_rows(family, reader, config, block, library))
    given = {".".join(path): new for _, path, new in rows}
    spec = tree.Block(span=family.span, base=None, lets=(), arguments=())
    for row, path, new in rows:
        old = value_at(block, path, library)
        new = _like(old, new)
        if old is None or (text_of(old) != text_of(new) and not _same_number(old, new, path, given, block, library)):
            spec = merge(spec, path, tree.Argument(span=row.span, name=path[-1], name_span=row.left.span, value=new), library)
    _check_guards(family, config, diagnostics)
    if diagnostics.failed:
        raise Poison
    _report_unread(family, config, diagnostics)
    name = tree.Name(span=family.span, id=_name(config, library))
    spec = _ordered(spec, block)
    made = tree.Model(
        span=family.span, name=name, base=None, extends=family.model, component=None, lets=spec.lets, arguments=spec.arguments
    )
    return to_yaml(tree.File(span=family.span, imports=(), declarations=(made,)))


def _rows(
    family: tree.Map, reader: ConfigReader, config: ConfigFile, base: tree.Block, library: Library
) -> Iterator[tuple[tree.Row, list[str], tree.Expr]]:
    """What each row gives for this config; rows that give nothing leave the base's value."""
    for row in family.rows:
        path = _path(row.left)
        if _is_guard(row) or _is_match(row) or path is None:
            continue
        try:
            value = reader.evaluate(row.right)
            if value is not None:
                yield row, path, reader.syntax(value, row.right.span)
                continue
        except Poison:
            continue
        key = keys_of(row.right)[0] if isinstance(row.right, tree.Name | tree.Attribute) else ""
        if key in config.values:  # a bare key that is null
            old = value_at(base, path, library)
            if isinstance(old, tree.Number) and old.value != 0:
                reader.error("E513", f"`{key}` is null, and `{family.model.id}` is written with {text_of(old)} there", config.place(key) or row.span,
                             help="write a spec for this variant, or say in the map what null stands for: `first(key, value)`")  # fmt: skip


def _same_number(
    old: tree.Expr, new: tree.Expr, path: list[str], given: Mapping[str, tree.Expr], base: tree.Block, library: Library
) -> bool:
    """Whether the base's expression comes to the same number with this config's values: `4 * d_model` is 3072."""
    if not isinstance(new, tree.Number) or isinstance(old, tree.Number):
        return False

    def number(node: tree.Expr, at: list[str], depth: int) -> float | None:
        match node:
            case tree.Number():
                return node.value
            case tree.Name(id=name) if depth:
                for k in range(len(at) - 1, -1, -1):
                    place = [*at[:k], name]
                    found = given.get(".".join(place)) or value_at(base, place, library)
                    if found is not None and place != at:
                        return number(found, place, depth - 1)
                return None
            case tree.Unary(op="-", value=value):
                inner = number(value, at, depth)
                return -inner if inner is not None else None
            case tree.Binary(op="*" | "/" | "+" | "-" | "^" as op, left=left, right=right):
                a, b = number(left, at, depth), number(right, at, depth)
                if a is None or b is None or (op == "/" and not b) or (op == "^" and (a <= 0 or abs(b) > 64)):
                    return None
                return {"*": a * b, "/": a / (b or 1), "+": a + b, "-": a - b, "^": float(a**b) if op == "^" else 0.0}[op]
            case _:
                return None

    found = number(old, path, 8)
    return found is not None and math.isclose(found, new.value, rel_tol=1e-12)


def _ordered(block: tree.Block, base: tree.Block) -> tree.Block:
    """The arguments in the order in which the base has them; further ones last."""
    lets = {t.id: let.value for let in base.lets for t in let.targets}
    known = {a.name: (k, a.value) for k, a in enumerate(base.arguments)}
    first = [replace(a, value=_ordered(a.value, _inner(known.get(a.name, (0, lets.get(a.name or ""))))))
             if isinstance(a.value, tree.Block) else a for a in block.arguments]  # fmt: skip
    return replace(block, arguments=tuple(sorted(first, key=lambda a: known.get(a.name, (len(known), None))[0])))


def _inner(found: tuple[int, tree.Expr | None]) -> tree.Block:
    """The block of an argument, or an empty one."""
    value = found[1]
    if isinstance(value, tree.Block):
        return value
    arguments = tuple(a for a in value.arguments if a.name is not None) if isinstance(value, tree.Call) else ()
    return tree.Block(span=tree.Span(tree.Source("", ""), 0, 0), base=None, lets=(), arguments=arguments)


def _with_inherited(family: tree.Map, library: Library) -> tree.Map:
    """The map with those rows of the maps of the models that its model extends which it does not replace."""
    rows = {text_of(r.left): r for r in family.rows}
    ignored = list(family.ignored)
    library.model(family.model.id)
    for given in map_chain(family.model.id, library, "config"):
        if given.format == family.format:
            rows |= {text_of(r.left): r for r in given.rows if text_of(r.left) not in rows and not _is_match(r)}
            ignored += given.ignored
    return replace(family, rows=tuple(rows.values()), ignored=tuple(ignored))


# ---------------------------------------------------------------- the config


def read_config(path: str, diagnostics: Diagnostics) -> ConfigFile:
    """A JSON object from a file (or from `config.json` in a folder)."""
    file = Path(path)
    if file.is_dir():
        file = file / "config.json"
    try:
        text = _read(file)
        values = json.loads(text, object_pairs_hook=_object, parse_int=_whole, parse_constant=_constant_of)
    except json.JSONDecodeError as problem:
        source = tree.Source(str(file), problem.doc)
        diagnostics.error(
            "E510", f"this is not JSON: {problem.msg}", tree.Span(source, problem.pos, problem.pos + 1), help="give a model's config.json"
        )
        raise Poison from None
    except (OSError, ValueError, RecursionError) as problem:
        reason = "it nests too deeply" if isinstance(problem, RecursionError) else getattr(problem, "strerror", None) or str(problem)
        diagnostics.error("E510", f"`{file}` cannot be read: {reason}", None, help="give a model's config.json")
        raise Poison from None
    if not isinstance(values, dict):
        diagnostics.error("E510", f"`{file}` holds no JSON object", None, help="give a model's config.json")
        raise Poison
    return ConfigFile(tree.Source(str(file), text), values)


def _read(file: Path) -> str:
    """The text of a plain file: a pipe would be waited for, a device has no end."""
    if file.exists() and not file.is_file():
        raise ValueError("it is no plain file")
    with open(file, "rb") as opened:
        data = opened.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1_000_000} MB")
    return data.decode("utf-8")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits):,} digits")
    return int(digits)


def _constant_of(word: str) -> float:
    if word == "NaN":
        raise ValueError("it holds NaN, which is no number")
    return float(word.replace("Infinity", "inf"))


def _object(pairs: list[tuple[str, Json]]) -> Json:
    """An object without a key twice; `{"__float__": "Infinity"}` is how an infinity is written."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it gives `{twice}` twice")
    if set(found) == {"__float__"} and isinstance(found["__float__"], str):
        return float(found["__float__"].replace("Infinity", "inf"))
    return found


def _name(config: ConfigFile, library: Library) -> str:
    """A name for the spec that no shipped declaration has."""
    first = ""
    path = Path(config.source.path).resolve()
    folder = path.parent.name if path.name == "config.json" else path.stem
    for key in (config.values.get("_name_or_path"), config.values.get("model_type"), folder):
        name = re.sub(r"\W+", "_", str(key or "").rstrip("/").split("/")[-1]).strip("_").lower()
        name = f"_{name}" if name[:1].isdigit() else name
        first = first or name
        if name and library.model(name) is None and library.component(name) is None:
            return name
    return f"{first}_imported" if first else "imported"


# ---------------------------------------------------------------- the map


def maps() -> tuple[tree.Map, ...]:
    """The config maps of every shipped file."""
    return _maps_of(SPECS)


@cache
def _maps_of(specs: Path) -> tuple[tree.Map, ...]:
    return tuple(_read_maps(specs))


def _read_maps(specs: Path) -> Iterator[tree.Map]:
    from ..grammar.cache import cached_load

    for path in [*sorted(specs.glob("*.xf")), *sorted(specs.glob("*.yaml")), *sorted((specs / "std").glob("*.xf"))]:
        if "config huggingface for" in path.read_text(encoding="utf-8"):
            file, _ = cached_load(path)
            for declaration in file.declarations if file is not None else ():
                if isinstance(declaration, tree.Map) and declaration.kind == "config" and declaration.format == "huggingface":
                    yield declaration


def find_family(config: ConfigFile, library: Library, diagnostics: Diagnostics) -> tree.Map:
    """The map that fits: all its match rows do, and it has the most of them."""
    fitting: list[Family] = []
    known: set[str] = set()
    for given in maps():
        rows = [r for r in given.rows if _is_match(r)]
        known.update(w.value for r in rows for w in _alternatives(r.right) if isinstance(w, tree.String))
        if rows and all(_matches(r, config.values) for r in rows):
            fitting.append(Family(given, len(rows)))
    if fitting:
        return max(fitting, key=lambda f: f.score).map
    names = config.values.get("architectures") or [config.values.get("model_type")]
    wanted = str(names[0] if isinstance(names, list) and names else names)
    diagnostics.error(
        "E511", f"no shipped spec has a config map for {wanted!r}" if wanted != "None" else "the config names no architecture",
        config.place("architectures") or config.place("model_type"),
        help=suggest(wanted, known) or "write a spec with `config huggingface for MODEL:` (docs/language.md, section 10)",
    )  # fmt: skip
    raise Poison


def _is_match(row: tree.Row) -> bool:
    """`architectures = "A"`; `"a" or none` matches either."""
    wanted = list(_alternatives(row.right))
    literal = all(isinstance(w, tree.String) or (isinstance(w, tree.Name) and w.id == "none") for w in wanted)
    return isinstance(row.left, tree.Name | tree.Attribute) and literal and any(isinstance(w, tree.String) for w in wanted)


def _is_guard(row: tree.Row) -> bool:
    return not isinstance(row.left, tree.Name | tree.Attribute)


def _matches(row: tree.Row, config: Mapping[str, Json]) -> bool:
    found = _get(config, ".".join(_path(row.left) or ()))
    return any(w == found or (isinstance(found, list) and w in found) for w in map(_constant, _alternatives(row.right)))


def _path(node: tree.Expr) -> list[str] | None:
    match node:
        case tree.Name(id=name):
            return name.split(".")
        case tree.Attribute(value=value, name=name):
            before = _path(value)
            return [*before, name] if before is not None else None
        case _:
            return None


def _get(config: Json, path: str) -> Json:
    for key in path.split("."):
        if not isinstance(config, Mapping):
            return None
        config = config.get(key)
    return config


def _reader(config: ConfigFile, base: tree.Model, library: Library, diagnostics: Diagnostics) -> ConfigReader:
    from .builtins import table

    own = {t.id for let in base.lets for t in let.targets} | {a.name or "" for a in base.arguments}
    inner = [a.value for a in base.arguments if isinstance(a.value, tree.Block)]
    own |= {t.id for block in inner for let in block.lets for t in let.targets} | {a.name or "" for block in inner for a in block.arguments}
    builtins = table()
    return ConfigReader(
        config.values, lambda name: name in own or name in builtins or library.component(name) is not None, diagnostics, config.place
    )


def _check_guards(family: tree.Map, config: ConfigFile, diagnostics: Diagnostics) -> None:
    for row in family.rows:
        if not _is_guard(row):
            continue
        for node in (row.left,):
            key = node.value if isinstance(node, tree.String) else ""
            found = _get(config.values, key)
            wanted = [_constant(n) for n in _alternatives(row.right)]
            if found is not None and not any(_same(found, w) for w in wanted):
                expected = " or ".join(shown(w) for w in wanted)
                diagnostics.error("E513", f"`{key}` is {shown(found)}, and `{family.model.id}` is written for {expected}", config.place(key) or row.span,
                                  help="write a spec for this variant, and map the key to its argument")  # fmt: skip


def _alternatives(node: tree.Expr) -> Iterator[tree.Expr]:
    if isinstance(node, tree.Binary) and node.op == "or":
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    else:
        yield node


def _constant(node: tree.Expr) -> Json:
    match node:
        case tree.Number():
            return node.value
        case tree.String(value=text):
            return text
        case tree.Unary(op="-", value=tree.Number() as number):
            return -number.value
        case tree.Name(id="true" | "false" | "none" as name):
            return {"true": True, "false": False, "none": None}[name]
        case tree.List(items=items):
            return [_constant(i) for i in items]
        case _:
            return None


def _same(a: Json, b: Json) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, int | float) and isinstance(b, int | float) and isinstance(a, bool) == isinstance(b, bool):
        return a == b or math.isclose(a, b, rel_tol=1e-9)
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _report_unread(family: tree.Map, config: ConfigFile, diagnostics: Diagnostics) -> None:
    """Nothing is silently ignored: the keys that no row speaks of are said."""
    known = {k for row in family.rows for k in keys_of(row.right)}
    known |= {row.left.value for row in family.rows if isinstance(row.left, tree.String)}
    known |= {".".join(_path(row.left) or ()) for row in family.rows if _is_match(row)}
    ignored = [*family.ignored, *(p for m in maps() if m.model.id == _EVERY for p in m.ignored)]
    patterns = [re.compile(re.escape(p.value).replace(r"\*", ".*")) for p in ignored]
    unread = [k for k in _leaves(config.values, known) if not any(p.fullmatch(k) or p.fullmatch(k.split(".")[0]) for p in patterns)]
    if unread:
        listed = ", ".join(f"`{k}` ({shown(_get(config.values, k))})" for k in unread)
        diagnostics.warning("E514", f"not read from this config: {listed}", config.place(unread[0]),
                            help=f"the map of `{family.model.id}` neither maps nor ignores them; the spec may differ from the model there")  # fmt: skip


def _leaves(config: Mapping[str, Json], known: set[str], prefix: str = "") -> Iterator[str]:
    """Keys that are not known; a group is known if it is named, or key by key if only some of its keys are."""
    for key, value in config.items():
        path = prefix + key
        inside = [k for k in known if k.startswith(path + ".")]
        if value is None or (path in known and not (inside and isinstance(value, Mapping))):
            continue
        if isinstance(value, Mapping) and inside:
            yield from _leaves(value, known, path + ".")
        else:
            yield path


# ---------------------------------------------------------------- what the base says already


def _block(model: tree.Model) -> tree.Block:
    return tree.Block(span=model.span, base=model.base, lets=model.lets, arguments=model.arguments)


def value_at(node: tree.Expr, path: list[str], library: Library, scope: tuple[tree.Block, ...] = ()) -> tree.Expr | None:
    """What a model's tree says at a path, defaults of components included; none if that is not written anywhere."""
    while isinstance(node, tree.Name) and (let := _let(node.id, scope)) is not None:
        node = let
    if not path:
        return node
    block = as_block(node, library)
    inner = (*scope, block)
    for argument in block.arguments:
        if argument.name == path[0]:
            if isinstance(argument.value, tree.Block) and argument.value.base is None:
                default = _default(block, path[0], inner, library)
                found = value_at(argument.value, path[1:], library, inner) if path[1:] else argument.value
                return found if found is not None or default is None else value_at(default, path[1:], library, inner)
            return value_at(argument.value, path[1:], library, inner)
    let = _let(path[0], (block,))
    if let is not None:
        return value_at(let, path[1:], library, inner)
    default = _default(block, path[0], inner, library)
    return value_at(default, path[1:], library, ()) if default is not None else None


def _let(name: str, scope: tuple[tree.Block, ...]) -> tree.Expr | None:
    return next((let.value for block in reversed(scope) for let in block.lets if len(let.targets) == 1 and let.targets[0].id == name), None)


def _default(block: tree.Block, name: str, scope: tuple[tree.Block, ...], library: Library) -> tree.Expr | None:
    base = block.base
    while isinstance(base, tree.Name | tree.Call):
        if isinstance(base, tree.Call):
            base = base.function
            continue
        component = library.component(base.id)
        if component is not None:
            return next((p.default for p in component.parameters if p.name.id == name), None)
        base = _let(base.id, scope)
    return None


def _like(old: tree.Expr | None, new: tree.Expr) -> tree.Expr:
    """A number written as the base writes its own: `10000.0` stays a float."""
    if isinstance(old, tree.Number) and isinstance(new, tree.Number):
        if old.value == new.value:
            return old
        if isinstance(old.value, float) and isinstance(new.value, int):
            return replace(new, text=repr(float(new.value)))
    return new
