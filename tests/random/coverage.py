"""What random specs reach: rules of the grammar by their builders' names, nodes and functions of the IR, functions of the compiler's own files."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import get_args

from xfc.backends.numpy.lowerings import LOWERINGS as NUMPY
from xfc.backends.torch.lowerings import LOWERINGS as TORCH
from xfc.compiler import ir
from xfc.compiler.operations_pointwise import FUNCTIONS
from xfc.grammar.tables import load_tables

ROOT = Path(__file__).resolve().parents[2]
WATCHED = ("grammar", "compiler", "backends")


class Coverage:
    """`with coverage:` notes the functions that are called; `program` the nodes of a program."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()
        self.nodes: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()

    def __enter__(self) -> Coverage:
        sys.setprofile(self.call)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.setprofile(None)

    def call(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self.codes.add(frame.f_code)

    def program(self, program: ir.Program) -> None:
        def see(node: ir.Node) -> None:
            self.nodes[type(node).__name__] += 1
            if isinstance(node, ir.Elementwise | ir.Reduce | ir.Along):
                self.functions[f"{type(node).__name__} {node.function}"] += 1
            for region in ir.regions(node):
                for inner in region.body:
                    see(inner)

        for module in ir.walk(program.root):
            for node in module.body:
                see(node)

    def report(self) -> str:
        called = {(Path(c.co_filename).resolve(), c.co_name, c.co_firstlineno) for c in self.codes if c.co_filename.startswith(str(ROOT))}
        actions = {rule.action for rule in load_tables().rules if rule.action}
        seen = {name for path, name, _ in called if path.parent.name == "grammar"}
        nodes = {kind.__name__ for kind in get_args(ir.Node)}
        elementwise = {f"Elementwise {f}" for f in FUNCTIONS}
        lines = [f"grammar: {len(actions & seen)} of {len(actions)} rules; not: {', '.join(sorted(actions - seen)) or 'none'}"]
        lines.append(f"nodes: {len(nodes & set(self.nodes))} of {len(nodes)}; not: {', '.join(sorted(nodes - set(self.nodes))) or 'none'}")
        lines.append(
            f"elementwise: {len(elementwise & set(self.functions))} of {len(elementwise)}; not: {', '.join(sorted(elementwise - set(self.functions)))}"
        )
        lowerings = {f"{f.__module__.rpartition('.')[0].rpartition('.')[2]} {f.__name__}": f for t in (TORCH, NUMPY) for f in t.values()}
        missed = sorted(name for name, f in lowerings.items() if f.__code__ not in self.codes)
        lines.append(f"lowerings: {len(lowerings) - len(missed)} of {len(lowerings)}; not: {', '.join(missed) or 'none'}")
        return "\n".join([*lines, *self.files(called)])

    def files(self, called: set[tuple[Path, str, int]]) -> list[str]:
        """Functions of a few operations that no spec called, by folder."""
        found: list[str] = []
        for folder in WATCHED:
            every: set[tuple[Path, str, int]] = set()
            for path in (ROOT / folder).rglob("*.py"):
                if "commands" in path.parts:
                    continue
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.FunctionDef):
                        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                        every.add((path, node.name, first))
            missed = sorted(f"{p.relative_to(ROOT)}:{name}" for p, name, line in every if (p, name, line) not in called)
            found.append(f"{folder}: {len(every) - len(missed)} of {len(every)} functions; not: {', '.join(missed)}")
        return found
