"""A program as text: what `--emit ir` shows and golden tests read.

Modules are printed once each, parts before wholes; two that print alike are one. Values keep their names in the spec (`y`, then `y2`;
an unnamed one is called after its operation). Sizes are written in the fields of Config, and only where an axis is new in a module or
differs from its first size. The same program gives the same text.

    module linear(x: float[..., d]) -> float[..., e]
      weight = param [e, d], uniform(-d ** -0.5, d ** -0.5)
      out: float[..., e] = einsum(x, weight, over=[d])
      return out
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import assert_never

from .dims import Expr, Sym, render
from .ir import (
    REST,
    Axis,
    Bank,
    Call,
    Child,
    ChildParam,
    Collect,
    Elementwise,
    Fold,
    Init,
    Label,
    Loss,
    Module,
    Node,
    Pairwise,
    Param,
    Program,
    Reduce,
    Region,
    Route,
    Scan,
    Stack,
    Take,
    Type,
    Value,
)
from .ir import Along as AlongNode
from .operations_pointwise import infinity


def print_program(program: Program) -> str:
    """The whole program, ending with a newline."""
    printer = _Printer(program.config, program.dynamic)
    printer.losses[id(program.root)] = program.losses
    root = printer.module(program.root)
    lines = [f"program {program.name}: {root}"]
    lines += [f"config {name} = {symbol.value}" for name, symbol in program.config]
    if program.dynamic:
        lines.append(f"dynamic {', '.join(printer.symbols[s] for s in program.dynamic)}")
    lines += [f"assume {a.property}: {a.reason!r}" for a in program.assumptions]
    names = _Names(printer)
    for item in program.inputs:
        lines += printer.input_lines(item.name, item.value, item.bound, item.training, item.default, names)
    for fact in program.facts:
        sign = {"divides": "divides", "equal": "==", "at_least": ">="}[fact.kind]
        lines.append(f"fact {printer.size(fact.a)} {sign} {printer.size(fact.b)}")
    return "\n".join(lines) + "\n\n" + "\n".join(printer.texts)


def print_decoding(program: Program) -> str:
    """What a derived program remembers: its modules with an entry of the cache."""
    decoding = program.decoding
    assert decoding is not None
    printer = _Printer(program.config, program.dynamic)
    printer.module(program.root)
    texts = [text for text in printer.texts if ", entry=" in text]
    head = f"decoding rows = {printer.symbols[decoding.rows]}, length = {printer.symbols[decoding.length]}\n\n"
    return head + "\n".join(texts)


def print_module(module: Module) -> str:
    """A module and all below it, without a program around them; equal texts mean equal modules."""
    printer = _Printer((), ())
    printer.module(module)
    return "\n".join(printer.texts)


class _Names:
    """Unique names of values and labels inside one module."""

    def __init__(self, printer: _Printer) -> None:
        self.printer = printer
        self.values: dict[Value, str] = {}
        self.labels: dict[Label, str] = {}
        self.sizes: dict[Label, str] = {}
        self.shown: set[Label] = set()

    def value(self, value: Value, fallback: str = "v") -> str:
        if value not in self.values:
            stem, taken = value.hint or fallback, set(self.values.values())
            name, number = stem, 2
            while name in taken:
                name, number = f"{stem}{number}", number + 1
            self.values[value] = name
        return self.values[value]

    def label(self, label: Label) -> str:
        if label is REST:
            return "..."
        if label not in self.labels:
            name, taken = label.name, set(self.labels.values())
            while name in taken:
                name += "'"
            self.labels[label] = name
        return self.labels[label]

    def axis(self, axis: Axis) -> str:
        """`label: size`; the label alone if it has that size already, or is its name."""
        label, size = self.label(axis.label), self.printer.size(axis.size)
        known = self.sizes.setdefault(axis.label, size)
        new = axis.label not in self.shown
        self.shown.add(axis.label)
        return label if axis.label is REST or label == size or (known == size and not new) else f"{label}: {size}"

    def type(self, type_: Type) -> str:
        return f"{type_.dtype}[{', '.join(map(self.axis, type_.axes))}]"

    def typed(self, values: Iterable[Value], fallback: str = "v") -> str:
        return ", ".join(f"{self.value(v, fallback)}: {self.type(v.type)}" for v in values)


class _Printer:
    def __init__(self, config: tuple[tuple[str, Sym], ...], dynamic: tuple[Sym, ...]) -> None:
        self.symbols: dict[Sym, str] = {symbol: name for name, symbol in config}
        for symbol in dynamic:
            self.symbols[symbol] = self._fresh(symbol.name)
        self.texts: list[str] = []
        self.names: dict[int, str] = {}
        self.printed: dict[str, str] = {}
        self.losses: dict[int, tuple[Loss, ...]] = {}

    def _fresh(self, name: str) -> str:
        taken = set(self.symbols.values())
        while name in taken:
            name += "'"
        return name

    def size(self, expr: Expr) -> str:
        return render(expr, self._symbol)

    def _symbol(self, symbol: Sym) -> str:
        if symbol not in self.symbols:
            self.symbols[symbol] = self._fresh(symbol.name)
        return self.symbols[symbol]

    # ------------------------------------------------ modules

    def module(self, module: Module) -> str:
        """Print a module, after what it is made of, unless it has been printed; returns its name."""
        if id(module) in self.names:
            return self.names[id(module)]
        text = self._module_text(module)
        key = f"{module.name}{text}"
        if key not in self.printed:
            name, number = module.name, 2
            while name in self.printed.values():
                name, number = f"{module.name}{number}", number + 1
            self.printed[key] = name
            self.texts.append(f"module {name}{text}")
        self.names[id(module)] = self.printed[key]
        return self.printed[key]

    def _module_text(self, module: Module) -> str:
        names = _Names(self)
        own, threaded = self._own_and_captured(module)
        inputs = names.typed(own) + (f" | {names.typed(threaded)}" if threaded else "")
        lines = [f"  {self._param(p, names)}" for p in module.params]
        for param in module.params:
            if param.init.table is not None:
                lines += self._region("table", param.init.table, names, "    ")
        lines += [f"  {self._child(c, names)}" for c in module.children]
        for state in module.states:
            lines.append(f"  state {names.value(state.value, state.name)}: {names.type(state.value.type)}")
            lines += self._region("initial", state.initial, names, "    ")
        for node in module.body:
            lines += self.node(node, names, "  ")
        lines += [f"  next {s.name} = {names.value(s.next)}" for s in module.states]
        lines += [f"  next {u.buffer} = {names.value(u.next)}" for u in module.updates]
        lines += [f"  loss {loss.name} = {names.value(loss.value)}" for loss in self.losses.get(id(module), ())]
        results = [names.value(v) for v in module.outputs]
        if module.output_names:
            results = [r if n in ("", r) else f"{n}={r}" for n, r in zip(module.output_names, results, strict=True)]
        lines.append(f"  return {', '.join(results)}")
        outputs = ", ".join(names.type(v.type) for v in module.outputs)
        return f"({inputs}) -> {outputs}\n" + "\n".join(lines) + "\n"

    @staticmethod
    def _own_and_captured(module: Module) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        cut = len(module.inputs) - module.captured
        return module.inputs[:cut], module.inputs[cut:]

    def _param(self, param: Param, names: _Names) -> str:
        kind = "param" if param.trainable else "buffer"
        axes = ", ".join(map(names.axis, param.type.axes))
        dtype = "" if param.type.dtype == "float" else f" {param.type.dtype}"
        name = names.value(param.value, param.name)
        label = "" if name == param.name else f" {param.name!r}"
        return f"{name} = {kind}{label}{dtype} [{axes}], {self._init(param.init)}"

    def _init(self, init: Init) -> str:
        return f"{init.kind}({', '.join(map(self.size, init.numbers))})" if init.numbers else init.kind

    def _child(self, child: Child | Stack | Bank, names: _Names) -> str:
        match child:
            case Child():
                return f"child {child.name} = {self.module(child.module)}"
            case Bank():
                return f"bank {child.name} = [{names.axis(child.axis)}] of {self.module(child.module)}"
            case Stack():
                slots = ", ".join(self.module(m) + ("" if n.constant == 1 else f" * {self.size(n)}") for m, n in child.slots)
                return f"stack {child.name} = {self.size(child.count)} {'cycling' if child.cycle else 'of'} [{slots}]"
            case _:
                assert_never(child)

    # ------------------------------------------------ nodes

    def node(self, node: Node, names: _Names, indent: str) -> list[str]:
        words = [self._field(node, f.name, names) for f in fields(node) if f.name not in ("outs", "span")]
        operation = self._operation(node)
        text = f"{operation}({', '.join(w for w in words if w)})"
        lines = [f"{indent}{names.typed(node.outs, operation.split()[-1])} = {text}"]
        for f in fields(node):
            item = getattr(node, f.name)
            if isinstance(item, Region):
                lines += self._region(f.name, item, names, indent + "  ")
        return lines

    def _operation(self, node: Node) -> str:
        match node:
            case Elementwise() | Reduce() | AlongNode():
                return node.function
            case ChildParam():
                return "read"
            case Call():
                return f"call {node.target if isinstance(node.target, str) else self.module(node.target)}"
            case Scan():
                return f"scan {node.target if isinstance(node.target, str) else self.module(node.target)}"
            case Fold() | Route() | Pairwise():
                return f"{type(node).__name__.lower()} {node.target}"
            case _:
                return re.sub(r"(?<!^)(?=[A-Z])", "_", type(node).__name__).lower()

    def _field(self, node: Node, name: str, names: _Names) -> str:
        item = getattr(node, name)
        if name == "entry":
            return f"entry={item}" if item else ""
        if isinstance(node, Take) and name in ("over", "indices"):
            if name == "over":
                return ""
            pairs = zip(node.over, node.indices, strict=True)
            return ", ".join(f"{names.label(label)}={self._operand(index, names)}" for label, index in pairs)
        if name == "function" or item is None or isinstance(item, Region | str | Module):
            return ""
        if name in ("slot", "reverse"):
            return name if item else ""
        if name == "collected" and not item:
            return ""
        text = self._item(item, names)
        return text if name in ("x", "args", "q", "k", "v", "a", "b", "base", "logits", "target", "path") else f"{name}={text}"

    def _item(self, item: object, names: _Names) -> str:
        match item:
            case Value() | Expr():
                return self._operand(item, names)
            case Label():
                return names.label(item)
            case Axis():
                return f"[{names.axis(item)}]"
            case tuple() if item and all(isinstance(i, Value | Expr) for i in item) and any(isinstance(i, Value) for i in item):
                return ", ".join(self._item(i, names) for i in item)
            case Collect():
                places = ", ".join("-" if place is None else str(place) for place in item.outputs)
                return f"{'sum' if item.sum else 'stack'}({places})"
            case tuple() if item and all(isinstance(i, str) for i in item):
                return ".".join(str(i) for i in item)
            case tuple() if item and all(isinstance(i, Axis) for i in item):
                return f"[{', '.join(names.axis(i) for i in item if isinstance(i, Axis))}]"
            case tuple():
                return f"[{', '.join(self._item(i, names) for i in item)}]" if item else "[]"
            case _:
                return str(item)

    def _operand(self, operand: Value | Expr, names: _Names) -> str:
        if isinstance(operand, Value):
            return names.value(operand)
        if operand in (infinity(1), infinity(-1)):
            return "inf" if operand == infinity(1) else "-inf"
        return self.size(operand)

    def _region(self, title: str, region: Region, names: _Names, indent: str) -> list[str]:
        lines = [f"{indent}{title}({names.typed(region.params)}):"]
        for node in region.body:
            lines += self.node(node, names, indent + "  ")
        return [*lines, f"{indent}  return {names.value(region.result)}"]

    # ------------------------------------------------ interface

    def input_lines(self, name: str, value: Value, bound: Expr | None, training: bool, default: Region | None, names: _Names) -> list[str]:
        within = "" if bound is None else f" in {self.size(bound)}"
        line = f"input {name}: {names.type(value.type)}{within}{' for training' if training else ''}"
        return [line] if default is None else [line, *self._region("default", default, names, "  ")]
