"""The body of a function that lists every parameter's shape, layers in loops: what a file without modules checks a checkpoint against."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ...compiler import ir
from ...compiler.dims import ONE, ZERO, Expr, Sym
from ...grammar.frozen import frozen, mutable
from .code import Attribute, Code, Text, number, render
from .numbers import expression

WIDTH = 120
_LAYERS = "ijklmn"
Merge = Callable[[ir.Module], tuple[tuple[str, tuple[Expr, ...]], ...]]
"""The shapes of the parameters of a module, as the file stores them (a matrix in place of named axes)."""


@frozen(kw_only=True)
class Entry:
    name: str
    shape: tuple[str, ...]


@frozen(kw_only=True)
class Loop:
    """`for variable in values:`, and an `if` inside unless `condition` is empty."""

    variable: str
    values: str
    condition: str
    body: tuple[Entry | Loop, ...]


@mutable
class _Walk:
    fields: dict[Sym, str]
    shapes: Merge

    def text(self, expr: Expr) -> str:
        def look(s: Sym) -> Code:
            return Attribute(Text("config"), self.fields[s]) if s in self.fields else number(s.value or 0)

        return render(expression(expr, look), lambda v: v.hint)

    def below(self, module: ir.Module, prefix: str, banks: tuple[Expr, ...], depth: int) -> list[Entry | Loop]:
        found: list[Entry | Loop] = [
            Entry(name=prefix + name, shape=tuple(self.text(e) for e in (*banks, *shape))) for name, shape in self.shapes(module)
        ]
        for child in module.children:
            path = f"{prefix}{child.name}."
            match child:
                case ir.Child():
                    found += self.below(child.module, path, banks, depth)
                case ir.Bank():
                    found += self.below(child.module, path, (*banks, child.axis.size), depth)
                case ir.Stack():
                    found += self.stack(child, path, banks, depth)
        return found

    def stack(self, stack: ir.Stack, path: str, banks: tuple[Expr, ...], depth: int) -> list[Loop]:
        variable = _LAYERS[depth]
        bodies = [tuple(self.below(m, f"{path}{{{variable}}}.", banks, depth + 1)) for m, _ in stack.slots]
        total = ZERO
        for _, count in stack.slots:
            total = total + count
        every = f"range({self.text(stack.count if stack.cycle else total)})"
        if all(body == bodies[0] for body in bodies):
            return [Loop(variable=variable, values=every, condition="", body=bodies[0])]
        found: list[Loop] = []
        start = ZERO
        for body, (_, count) in zip(bodies, stack.slots, strict=True):
            stop = start + count
            first, last = self.text(start), self.text(stop)
            values = f"range({first}, {last})" if start != ZERO else f"range({last})"
            condition = ""
            if stack.cycle and count == ONE:
                values = f"range({first}, {self.text(stack.count)}, {self.text(total)})"
            elif stack.cycle:
                values = every
                condition = (
                    f"{first} <= {variable} % {_factor(self.text(total))} < {last}"
                    if start != ZERO
                    else f"{variable} % {_factor(self.text(total))} < {last}"
                )
            found.append(Loop(variable=variable, values=values, condition=condition, body=body))
            start = stop
        return found


def _factor(text: str) -> str:
    return f"({text})" if " " in text else text


def shape_lines(program: ir.Program, shapes: Merge) -> list[str]:
    """Statements that make the dictionary `found`, indented by 4."""
    walk = _Walk({s: n for n, s in program.config}, shapes)
    written = _lines(walk.below(program.root, "", (), 0), 4)
    start = "    found: dict[str, tuple[int, ...]] = {"
    return [start, *written[1:]] if written[:1] == ["    found |= {"] else [start + "}", *written]


def _lines(nodes: Sequence[Entry | Loop], indent: int) -> list[str]:
    found: list[str] = []
    pad = " " * indent
    k = 0
    while k < len(nodes):
        node = nodes[k]
        if isinstance(node, Loop):
            inner = indent + 4
            condition = [f"{' ' * inner}if {node.condition}:"] if node.condition else []
            body = _lines(node.body, inner + 4 * len(condition))
            if body:  # layers without weights need no loop
                found += [f"{pad}for {node.variable} in {node.values}:", *condition, *body]
            k += 1
            continue
        run: list[Entry] = []
        while k < len(nodes) and isinstance(entry := nodes[k], Entry):
            run.append(entry)
            k += 1
        found += [f"{pad}found |= {{", *(line for entry in run for line in _entry_lines(entry, indent + 4)), f"{pad}}}"]
    return found


def _entry_lines(entry: Entry, indent: int) -> list[str]:
    """`"name": (rows, width),`, wrapped as the formatter does."""
    pad = " " * indent
    key = f'f"{entry.name}"' if "{" in entry.name else f'"{entry.name}"'
    flat = f"{pad}{key}: ({', '.join(entry.shape)}{',' if len(entry.shape) == 1 else ''}),"
    if len(flat) <= WIDTH:
        return [flat]
    return [f"{pad}{key}: (", *(line for size in entry.shape for line in _size_lines(f"{pad}    ", size)), f"{pad}),"]


def _size_lines(pad: str, size: str) -> list[str]:
    """A size and its comma; a long sum has a line for each term."""
    if len(f"{pad}{size},") <= WIDTH:
        return [f"{pad}{size},"]
    terms = re.split(r" (?=[+-] )(?![^()]*\))", size)
    return [*(f"{pad}{term}" for term in terms[:-1]), f"{pad}{terms[-1]},"]
