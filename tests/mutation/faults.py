"""Faults, drawn by seed among all that mutmut's operators make of the files that decide what a spec means and what is written for it.

Left out is what can only change a message, or whether an assumption is checked: arguments of what reports or raises, asserts, `strict=`."""

from __future__ import annotations

import ast
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

#: Parts by the first pattern that a file matches. What is in none: the command line, diagnostics, `info`, `verify` and checkpoints.
PARTS = {
    "passes": ("compiler/passes/*.py", "compiler/decoding/*.py", "compiler/pipeline.py", "compiler/emit_with_cache.py"),
    "primitives": ("compiler/ir.py", "compiler/operations*.py", "compiler/dims.py", "backends/interpreter/*.py"),
    "elaborator": tuple(
        f"compiler/{name}.py"
        for name in (
            *("apply", "bodies", "builder", "builtins", "builtins_modules", "call_arguments", "calls", "elaborate", "evaluate"),
            *("generalise", "instances", "model_tree", "names", "scope", "stacks", "statements", "values"),
        )
    ),
    "lowerings and emitters": ("compiler/name_config.py", "backends/python/**/*.py", "backends/torch/**/*.py", "backends/numpy/**/*.py"),
}
#: What takes words for a user.
REPORTS = {"error", "wrong_value", "warning", "fail", "refuse", "report", "Note", "Refusal", "Refused", "Poison", "suggest", "describe"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    file: str
    part: str
    line: int
    column: int
    """Where the faulty expression or statement begins."""
    first: int
    before: list[str]
    after: list[str]
    """From this line on, the lines that differ."""


class _Faults(MutationVisitor):
    """Skips nodes in which a fault can only change a message, or whether an assumption is checked."""

    def __init__(self) -> None:
        super().__init__(mutation_operators, IgnoredCode(set(), set(), set()))

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.Raise() | cst.Assert():
                return True
            case cst.Call(func=cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name))) if name in REPORTS:
                return True
            case cst.Arg(keyword=cst.Name(value="strict")):
                return True
        return super()._skip_node_and_children(node)


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """Parts and their files, in a fixed order."""
    for part, patterns in PARTS.items():
        for pattern in patterns:
            yield from ((part, path) for path in sorted(root.glob(pattern)) if path.name != "__init__.py")


def _same_but_for_strict(before: cst.CSTNode, after: cst.CSTNode) -> bool:
    if not (isinstance(before, cst.Call) and isinstance(after, cst.Call)):
        return False
    said = [[a for a in call.args if a.keyword is None or a.keyword.value != "strict"] for call in (before, after)]
    return len(said[0]) == len(said[1]) < len(before.args) and all(a.deep_equals(b) for a, b in zip(*said, strict=True))


@lru_cache(maxsize=1)
def sites(path: Path) -> tuple[cst.Module, dict[tuple[int, int], list[tuple[cst.CSTNode, cst.CSTNode]]]]:
    """A file's tree, and at each place the nodes that may stand for the one that does."""
    wrapper, visitor = MetadataWrapper(cst.parse_module(path.read_text(encoding="utf-8"))), _Faults()
    wrapper.visit(visitor)
    positions = wrapper.resolve(PositionProvider)
    found: dict[tuple[int, int], list[tuple[cst.CSTNode, cst.CSTNode]]] = defaultdict(list)
    for mutation in visitor.mutations:
        pair = mutation.original_node, mutation.mutated_node
        if pair[0] in positions and not _same_but_for_strict(*pair):
            start = positions[pair[0]].start
            found[start.line, start.column].append(pair)
    return wrapper.module, found


def applied(module: cst.Module, pair: tuple[cst.CSTNode, cst.CSTNode]) -> str:
    return cst.ensure_type(module.deep_replace(*pair), cst.Module).code


def changed(before: list[str], after: list[str]) -> tuple[int, list[str], list[str]]:
    """The number of the first line that differs, and the lines from there to the last that does."""
    least = min(len(before), len(after))
    same = next((k for k in range(least) if before[k] != after[k]), least)
    rest = next((k for k in range(least - same) if before[-1 - k] != after[-1 - k]), least - same)
    return same + 1, before[same : len(before) - rest], after[same : len(after) - rest]


def draw(root: Path, seed: int, count: int) -> list[Fault]:
    """Places drawn alike from all files, none twice, and of each one of its faults."""
    places = [(part, path, place, len(ways)) for part, path in files(root) for place, ways in sites(path)[1].items()]
    rng = random.Random(seed)
    drawn = [(part, path, place, rng.randrange(ways)) for part, path, place, ways in rng.sample(places, count)]
    found: dict[int, Fault] = {}
    for k, (part, path, place, way) in sorted(enumerate(drawn), key=lambda d: d[1][1]):
        module, ways = sites(path)
        first, before, after = changed(module.code.splitlines(), applied(module, ways[place][way]).splitlines())
        name = path.relative_to(root).as_posix()
        found[k] = Fault(file=name, part=part, line=place[0], column=place[1], first=first, before=before, after=after)
    return [found[k] for k in range(count)]


def source(root: Path, fault: Fault) -> str:
    """The faulty file's text."""
    lines = (root / fault.file).read_text(encoding="utf-8").splitlines()
    start, end = fault.first - 1, fault.first - 1 + len(fault.before)
    if lines[start:end] != fault.before:
        raise ValueError(f"{fault.file} is not as it was when the fault was drawn")
    return "\n".join([*lines[:start], *fault.after, *lines[end:]]) + "\n"


def statements(module: ast.Module) -> Iterator[tuple[list[ast.stmt], ast.stmt, str]]:
    """The statements of functions, outer ones first: the bodies they stand in, and what they are known by, as `Class.method: if x > 0:`."""

    def visit(node: ast.AST, path: str, inside: bool) -> Iterator[tuple[list[ast.stmt], ast.stmt, str]]:
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            body = getattr(node, name, None)
            for statement in list(body) if isinstance(body, list) else []:
                named = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                if inside and isinstance(statement, ast.stmt):
                    yield body, statement, f"{path}: {ast.unparse(statement).lstrip().splitlines()[0]}"
                yield from visit(
                    statement, f"{path}.{statement.name}" if named else path, inside or (named and not isinstance(statement, ast.ClassDef))
                )

    return visit(module, "", False)


def place(text: str, fault: Fault) -> str | None:
    """What the statement is known by that the fault is in; none if it runs when the file is imported."""
    at = fault.line, len(text.splitlines()[fault.line - 1][: fault.column].encode())
    found = None
    for _, statement, name in statements(ast.parse(text)):
        if (statement.lineno, statement.col_offset) <= at < (statement.end_lineno or 0, statement.end_col_offset or 0):
            found = f"{fault.file}{name}"
    return found


def marked(text: str, number: Callable[[str], int]) -> str:
    """The program with a call `REACHED(k)` before each statement of a function, by the number of what it is known by."""
    module = ast.parse(text)
    for body, statement, name in list(statements(module)):
        call = ast.Call(ast.Name("REACHED", ast.Load()), [ast.Constant(number(name))], [])
        body.insert(next(k for k, s in enumerate(body) if s is statement), ast.Expr(call))
    return ast.unparse(ast.fix_missing_locations(module))


def write(place: Path, faults: list[Fault]) -> None:
    place.write_text(json.dumps([asdict(f) for f in faults], indent=1) + "\n", encoding="utf-8")


def read(place: Path) -> list[Fault]:
    return [Fault(**fault) for fault in json.loads(place.read_text(encoding="utf-8"))]
