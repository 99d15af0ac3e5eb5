"""How many numbers a model learns, for the header of its file."""

from __future__ import annotations

from ...compiler import ir


def count_parameters(module: ir.Module) -> int:
    """Trainable numbers, each copy of a layer and of an expert counted."""
    total = 0
    for param in module.params:
        if param.trainable:
            size = 1
            for axis in param.type.axes:
                size *= int(axis.size.value() or 0)
            total += size
    for child in module.children:
        match child:
            case ir.Child():
                total += count_parameters(child.module)
            case ir.Bank():
                total += count_parameters(child.module) * int(child.axis.size.value() or 0)
            case ir.Stack():
                total += sum(count_parameters(m) * n for (m, _), n in zip(child.slots, slot_counts(child), strict=True))
    return total


def slot_counts(stack: ir.Stack) -> list[int]:
    """How many layers stand in each slot."""
    pattern = [int(n.value() or 0) for _, n in stack.slots]
    if not stack.cycle:
        return pattern
    left, period = int(stack.count.value() or 0), max(1, sum(pattern))
    counts = [n * (left // period) for n in pattern]
    left %= period
    for k, n in enumerate(pattern):
        extra = min(n, left)
        counts[k] += extra
        left -= extra
    return counts


def readable_count(number: int) -> str:
    """`8.03 B`, `124 M`, `1234`."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= 0.9995 * size:
            digits = max(0, 3 - len(str(round(number / size))))
            return f"{number / size:.{digits}f} {unit}"
    return str(number)


def count_layers(root: ir.Module) -> list[int]:
    """How many layers each stack of the model has, those inside layers apart."""
    found: list[int] = []
    for child in root.children:
        if isinstance(child, ir.Stack):
            found.append(sum(slot_counts(child)))
        else:
            found += count_layers(child.module)
    return found


def widths(program: ir.Program) -> list[str]:
    """The first whole numbers of the config, with their names: `vocab 32000`."""
    counts = {s for m in ir.walk(program.root) for c in m.children if isinstance(c, ir.Stack) for s in c.count.symbols}
    return [f"{n} {s.value}" for n, s in program.config if isinstance(s.value, int) and s not in counts][:3]
