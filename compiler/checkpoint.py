"""Checkpoint maps: the rows of `checkpoint huggingface for MODEL:` as data of a program.

A row says which own tensors a published tensor holds and how they lie in it. Everything a row may say is one form (`ir.CheckpointRow`): the
own tensors stand side by side in each of some number of equal parts of the published one, which may be transposed, or be one slice of a bank."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import field, replace

from ..grammar import tree
from ..grammar.frozen import frozen, mutable
from . import ir
from .diagnostics import Diagnostics, Note
from .dims import ONE, Expr
from .library import Library, suggest
from .numbered_rows import unrolled
from .operations import Poison

_SLOT = re.compile(r"\{(\w+)\}")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")


@frozen(kw_only=True, eq=False)
class OwnTensor:
    """A parameter or buffer: its path, `*` standing for a layer's number, its axes (those of banks first), and the layers that have it."""

    path: tuple[str, ...]
    axes: tuple[ir.Axis, ...]
    banks: int
    param: ir.Param
    layers: frozenset[tuple[int, ...]]

    @property
    def name(self) -> str:
        return ".".join(self.path)


def own_tensors(program: ir.Program) -> list[OwnTensor]:
    """Every parameter and buffer, in order of declaration; the same tensor of different slots of a stack is one."""
    found: dict[tuple[str, ...], OwnTensor] = {}
    for tensor in _below(program.root, (), (), frozenset({()})):
        old = found.get(tensor.path)
        found[tensor.path] = replace(old, layers=old.layers | tensor.layers) if old else tensor
    return list(found.values())


def _below(module: ir.Module, path: tuple[str, ...], banks: tuple[ir.Axis, ...], layers: frozenset[tuple[int, ...]]) -> Iterator[OwnTensor]:
    for param in module.params:
        yield OwnTensor(path=(*path, param.name), axes=(*banks, *param.type.axes), banks=len(banks), param=param, layers=layers)
    for child in module.children:
        below = (*path, child.name)
        match child:
            case ir.Child():
                yield from _below(child.module, below, banks, layers)
            case ir.Bank():
                yield from _below(child.module, below, (*banks, child.axis), layers)
            case ir.Stack():
                numbers = slot_layers(child)
                for (slot, _), own in zip(child.slots, numbers, strict=True):
                    inside = frozenset((*outer, n) for outer in layers for n in own)
                    if inside:
                        yield from _below(slot, (*below, "*"), banks, inside)


def slot_layers(stack: ir.Stack) -> list[list[int]]:
    """The numbers of the layers that each slot of a stack makes."""
    pattern = [k for k, (_, n) in enumerate(stack.slots) for _ in range(int(n.value() or 0))]
    count = int(stack.count.value() or 0) if stack.cycle else len(pattern)
    found: list[list[int]] = [[] for _ in stack.slots]
    for number in range(count if pattern else 0):
        found[pattern[number % len(pattern)]].append(number)
    return found


# ---------------------------------------------------------------- the right side of a row


@frozen(kw_only=True)
class Part:
    """One own tensor named in a row: its path as written, the tensor (none if this program lacks it) and the place."""

    path: tuple[str, ...]
    tensor: OwnTensor | None
    span: tree.Span


@frozen(kw_only=True)
class Layout:
    """How own tensors lie in a published one: `each` names the slot of the bank's slice; `by` is how many leading axes are shared."""

    parts: tuple[Part, ...]
    by: tuple[Expr, ...] = ()
    transposed: bool = False
    each: str | None = None


@mutable
class Resolver:
    """Reads the rows of one program's maps."""

    program: ir.Program
    diagnostics: Diagnostics
    tensors: dict[tuple[str, ...], OwnTensor] = field(default_factory=dict)
    unknown: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tensors = {t.path: t for t in own_tensors(self.program)}

    def error(self, code: str, message: str, span: tree.Span, *notes: Note, help: str | None = None) -> Poison:
        self.diagnostics.error(code, message, span, *notes, help=help)
        return Poison()

    # ------------------------------------------------ layouts

    def layout(self, node: tree.Expr) -> Layout:
        match node:
            case tree.Name() | tree.Attribute():
                return Layout(parts=(self.part(node),))
            case tree.Index(value=value, arguments=(tree.Argument(name=None, value=tree.Name(id=slot)),)) if _SLOT.fullmatch(slot):
                part = self.part(value)
                if part.tensor is not None and not part.tensor.banks:
                    raise self.error(
                        "E505", f"`{'.'.join(part.path)}` is not in a bank, so it has no slices", node.span, help="write it without `[...]`"
                    )
                return Layout(parts=(part,), each=slot[1:-1])
            case tree.Call(function=tree.Name(id="transpose"), arguments=(tree.Argument(name=None, value=value),)):
                inner = self.layout(value)
                return replace(inner, transposed=not inner.transposed)
            case tree.Call(function=tree.Name(id="concat")):
                return self.concat(node)
            case tree.Call(function=tree.Name(id="interleave")):
                return self.interleave(node)
            case _:
                raise self.error("E501", "this is not a way in which tensors are stored", node.span,
                                 help="write an own tensor, `transpose(a)`, `concat(a, b)`, `interleave(a, b, by = heads)`, `a[{e}]`, `copy(a)` or `absent`")  # fmt: skip

    def part(self, node: tree.Expr) -> Part:
        path = _path_of(node)
        if path is None:
            raise self.error(
                "E501", "the name of an own tensor is needed here", node.span, help="`decoder.layers.{i}.attention.q_proj.weight`"
            )
        tensor = self.find(path)
        part = Part(path=path, tensor=tensor, span=node.span)
        if tensor is None:
            self.unknown.append(part)
        return part

    def find(self, path: tuple[str, ...]) -> OwnTensor | None:
        """The tensor of a path in which a layer is a slot or a number."""
        return self.tensors.get(tuple("*" if p.isdigit() or _SLOT.fullmatch(p) else p for p in path))

    def pieces(self, node: tree.Call, option: str) -> tuple[list[Layout], tree.Expr | None]:
        """The layouts that a call joins, and its named argument."""
        found = [self.layout(a.value) for a in node.arguments if a.name is None]
        named = {a.name: a for a in node.arguments if a.name is not None}
        for name, argument in named.items():
            if name != option:
                raise self.error("E501", f"there is no argument `{name}` here", argument.span, help=f"its argument is `{option}`")
        if len(found) < 2:
            raise self.error("E501", "joining takes at least two tensors", node.span)
        first = found[0]
        if any(len(f.parts) > 1 or f.transposed != first.transposed or f.each != first.each for f in found):
            raise self.error(
                "E505",
                "the tensors that are joined must be stored alike",
                node.span,
                help="transpose around the whole: `transpose(concat(a, b))`",
            )
        return found, named[option].value if option in named else None

    def concat(self, node: tree.Call) -> Layout:
        found, option = self.pieces(node, "axis")
        axis = 0
        if option is not None:
            if not isinstance(option, tree.Number) or option.value not in (0, 1):
                raise self.error("E501", "the axis must be 0 or 1", option.span)
            axis = int(option.value)
        if found[0].transposed:
            axis = 1 - axis
        parts = tuple(f.parts[0] for f in found)
        if found[0].each is not None:
            axis += max((p.tensor.banks for p in parts if p.tensor is not None), default=0)
        return Layout(parts=parts, by=self.shared(parts, axis, node.span), transposed=found[0].transposed, each=found[0].each)

    def interleave(self, node: tree.Call) -> Layout:
        found, option = self.pieces(node, "by")
        label = option.id if isinstance(option, tree.Name) else None
        if label is None:
            raise self.error("E501", "`interleave` needs the axis it joins after", node.span, help="`interleave(a, b, c, by = heads)`")
        parts = tuple(f.parts[0] for f in found)
        count = 0
        for tensor in (p.tensor for p in parts[:1] if p.tensor is not None):
            labels = [a.label.name.rstrip("'") for a in tensor.axes]
            if label not in labels:
                raise self.error(
                    "E505",
                    f"`{tensor.name}` has no axis `{label}`",
                    node.span,
                    help=suggest(label, labels) or f"its axes: {', '.join(labels)}",
                )
            count = labels.index(label) + 1
        return Layout(parts=parts, by=self.shared(parts, count, node.span), transposed=found[0].transposed, each=found[0].each)

    def shared(self, parts: Sequence[Part], count: int, span: tree.Span) -> tuple[Expr, ...]:
        """The sizes of the first axes, which all parts must have in common."""
        known = [p.tensor for p in parts if p.tensor is not None]
        if not known:
            return ()
        first = [a.size for a in known[0].axes[:count]]
        for other in known[1:]:
            if [a.size.value() for a in other.axes[:count]] != [s.value() for s in first]:
                raise self.error("E505", f"`{known[0].name}` {known[0].axes!r} and `{other.name}` {other.axes!r} cannot be joined like this", span,
                                 help="the axes before the joint must have the same sizes")  # fmt: skip
        return tuple(first)

    # ------------------------------------------------ rows

    def row(self, row: tree.Row) -> ir.CheckpointRow | None:
        """A row as data; none if this program lacks its tensors (a map serves a family of models)."""
        published = tuple(name for node in _alternatives(row.left) for name in self.spellings(node))
        right, optional, copied = _optional(row.right)
        layout = self.layout(right) if right is not None else Layout(parts=())
        lacking = [p for p in layout.parts if p.tensor is None]
        if copied is not None and (not layout.parts or lacking):
            return self.copy(row, published, copied)
        if not layout.parts or (lacking and optional):
            return ir.CheckpointRow(
                published=tuple(_SLOT.sub("*", p) for p in published), own=(), groups=ONE, transposed=False, each=None, span=row.span
            )
        if lacking:
            if len(lacking) < len(layout.parts):
                p = lacking[0]
                raise self.error("E502", f"the model has no tensor `{'.'.join(p.path)}`", p.span, help=self.nearest(p.path))
            return None
        self.check_slots(row, published, layout)
        groups = ONE
        for size in layout.by:
            groups = groups * size
        if layout.transposed and any(len(p.tensor.axes) - p.tensor.banks < 2 for p in layout.parts if p.tensor is not None):
            raise self.error("E505", f"`{'.'.join(layout.parts[0].path)}` has one axis: there is nothing to transpose", row.right.span)
        return ir.CheckpointRow(
            published=published, own=tuple(".".join(p.path) for p in layout.parts), groups=groups, transposed=layout.transposed, each=layout.each,
            span=row.span,
        )  # fmt: skip

    def copy(self, row: tree.Row, published: tuple[str, ...], copied: tree.Expr) -> ir.CheckpointRow | None:
        """A second time the tensor of another row; none if this program lacks it."""
        part = self.part(copied)
        if any(_SLOT.search(name) for name in (*published, *part.path)):
            raise self.error(
                "E501", "a copy is of one tensor, without numbers in braces", row.span, help='`"lm_head.weight" = copy(embed.weight)`'
            )
        if part.tensor is None:
            return None
        return ir.CheckpointRow(
            published=published, own=(".".join(part.path),), groups=ONE, transposed=False, each=None, span=row.span, copy=True
        )  # fmt: skip

    def spellings(self, node: tree.Expr) -> list[str]:
        """A published name; with `[...]` around a part that may be missing, both."""
        if not isinstance(node, tree.String):
            raise self.error("E501", "a published name is a string", node.span, help='`"model.embed_tokens.weight" = embed.weight`')
        if not _OPTIONAL.search(node.value):
            return [node.value]
        return [_OPTIONAL.sub(r"\1", node.value), _OPTIONAL.sub("", node.value)]

    def check_slots(self, row: tree.Row, published: tuple[str, ...], layout: Layout) -> None:
        """Both sides number the same things."""
        for part in layout.parts:
            own = [s for p in part.path for s in _SLOT.findall(p)] + ([layout.each] if layout.each else [])
            for name in published:
                given = _SLOT.findall(name)
                if sorted(given) != sorted(own):
                    shown = ", ".join(f"`{{{s}}}`" for s in sorted(set(own) ^ set(given)) or own)
                    raise self.error(
                        "E506",
                        f"the two sides of this row number different things: {shown}",
                        row.span,
                        help="write the same slots on both sides, each once",
                    )

    def covers(self, row: ir.CheckpointRow) -> Iterator[tuple[OwnTensor, tuple[int, ...]]]:
        """The tensors, each at a layer, that a row fills."""
        for name in row.own:
            path = tuple(name.split("."))
            tensor = self.find(path)
            assert tensor is not None
            numbers = [p for p, t in zip(path, tensor.path, strict=True) if t == "*"]
            for layers in tensor.layers:
                if all(not n.isdigit() or int(n) == layer for n, layer in zip(numbers, layers, strict=True)):
                    yield tensor, layers

    def nearest(self, path: tuple[str, ...]) -> str | None:
        names = {".".join(p): p for p in self.tensors}
        return suggest(".".join("*" if p.isdigit() or _SLOT.fullmatch(p) else p for p in path), names)


def _alternatives(node: tree.Expr) -> Iterator[tree.Expr]:
    if isinstance(node, tree.Binary) and node.op == "or":
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    else:
        yield node


def _optional(node: tree.Expr) -> tuple[tree.Expr | None, bool, tree.Expr | None]:
    """`a or absent`: a, where the model has it; `absent` alone: nothing; `copy(b)` in the place of `absent`: the tensor it must equal."""
    match node:
        case tree.Name(id="absent"):
            return None, True, None
        case tree.Call(function=tree.Name(id="copy"), arguments=(tree.Argument(name=None, value=copied),)):
            return None, True, copied
        case tree.Binary(op="or", left=left, right=right):
            nothing, optional, again = _optional(right)
            return (left, optional, again) if nothing is None else (node, False, None)
        case _:
            return node, False, None


def _path_of(node: tree.Expr) -> tuple[str, ...] | None:
    match node:
        case tree.Name(id=name):
            return tuple(name.split("."))
        case tree.Attribute(value=value, name=name):
            before = _path_of(value)
            return (*before, name) if before is not None else None
        case _:
            return None


# ---------------------------------------------------------------- all of them


def map_chain(name: str, library: Library, kind: str) -> list[tree.Map]:
    """The maps of a model and of the models it extends, nearest first."""
    found: list[tree.Map] = []
    seen: set[str] = set()
    model = library.model(name)
    while model is not None and model.name.id not in seen:
        seen.add(model.name.id)
        found += library.maps_for(model.name.id, kind)
        model = library.model(model.extends.id) if model.extends is not None else None
    return found


def resolve_checkpoint(program: ir.Program, library: Library, diagnostics: Diagnostics) -> tuple[ir.CheckpointRow, ...]:
    """The rows of the program's maps, proved to cover each own tensor exactly once; none if there is no map.

    A map that was inherited and does not fit what a variant made of the model is left aside with a warning."""
    maps = [m for m in map_chain(program.name, library, "checkpoint") if m.format == "huggingface"]
    if not maps:
        return ()
    resolver = Resolver(program, diagnostics)
    rows: list[ir.CheckpointRow] = []
    covered: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[ir.CheckpointRow, tree.Map]] = {}
    for given in maps:
        for row in _rows(given, resolver):
            places = [] if row.copy else [(t.path, layers) for t, layers in resolver.covers(row)]
            old = next((covered[p] for p in places if p in covered), None)
            if old is not None and old[1] is given:
                diagnostics.error(
                    "E504", f"`{row.own[0]}` is stored twice", row.span, Note("first here", old[0].span), help="delete one of the rows"
                )
            elif old is None:
                covered.update((p, (row, given)) for p in places)
                rows.append(row)
        rows += [_ignored(pattern) for pattern in given.ignored]
    missing = [t for t in resolver.tensors.values() if not all((t.path, n) in covered for n in t.layers) and not _is_table(t)]
    if missing:
        if not diagnostics.failed:  # a row that is wrong is why its tensor is missing
            _report_missing(program, maps[0], missing, resolver)
        return ()
    return tuple(rows)


def computed_tables(program: ir.Program) -> set[ir.Param]:
    """The fixed tables that no row fills."""
    filled = {
        tuple("*" if p.isdigit() or _SLOT.fullmatch(p) else p for p in own.split("."))
        for row in program.checkpoint
        for own in row.own
        if not row.copy
    }
    return {t.param for t in _below(program.root, (), (), frozenset({()})) if _is_table(t) and t.path not in filled}


def _rows(given: tree.Map, resolver: Resolver) -> Iterator[ir.CheckpointRow]:
    for written in (row for rows in given.rows for row in unrolled(rows, resolver.tensors)):
        try:
            row = resolver.row(written)
        except Poison:
            continue
        if row is not None:
            yield row


def _ignored(pattern: tree.String) -> ir.CheckpointRow:
    return ir.CheckpointRow(published=(pattern.value,), own=(), groups=ONE, transposed=False, each=None, span=pattern.span)


def _is_table(tensor: OwnTensor) -> bool:
    """A fixed table is computed where it is not stored."""
    return not tensor.param.trainable and tensor.param.init.kind == "table"


def _report_missing(program: ir.Program, given: tree.Map, missing: Sequence[OwnTensor], resolver: Resolver) -> None:
    first = missing[0]
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    notes = [Note("the tensor", first.param.span)]
    names = {".".join(p.path): p for p in resolver.unknown}
    near = suggest(first.name.replace("*", "{i}"), names)
    if near is not None:
        part = names[near.split("`")[1]]
        notes.append(Note(f"the model has no `{'.'.join(part.path)}`", part.span))
    if given.model.id == program.name:
        help = f'add a row: `"published.name" = {first.name.replace("*", "{i}")}`'
        resolver.diagnostics.error("E503", f"no row of this map stores `{first.name}`{more}", given.model.span, *notes, help=help)
    else:
        help = f"write `checkpoint huggingface for {program.name}:` with the rows that differ"
        message = f"published checkpoints cannot be loaded: the map of `{given.model.id}` stores no `{first.name}`{more}"
        resolver.diagnostics.warning("E503", message, program.span, *notes, help=help)
