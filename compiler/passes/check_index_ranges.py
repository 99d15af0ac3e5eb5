"""Indices that can be any of so many numbers, against what they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from ...grammar.frozen import frozen, mutable
from ...grammar.tree import Span
from .. import ir
from ..diagnostics import Diagnostics, Note
from ..dims import Expr
from ..ir import Fact, Module, Node, Program, Value


@frozen
class Choice:
    """An int tensor whose entries can each be any number below `count`, whatever the others are; `what` says where they come from."""

    count: Expr
    what: str
    span: Span | None


def check_index_ranges(program: Program, diagnostics: Diagnostics) -> tuple[Fact, ...]:
    """Report indices that reach beyond what they read (E207); give, as facts, that others do not for the sizes of this Config.

    Requires a program as elaborated. Leaves alone the program, numbers counted along an axis, and what is computed of several tensors."""
    checker = _Checker(diagnostics)
    inputs = {i.value: Choice(i.bound, f"`{i.name}`", i.value.span) for i in program.inputs if i.bound is not None}
    checker.module(program.root, inputs)
    return tuple(checker.facts)


@mutable
class _Checker:
    diagnostics: Diagnostics
    facts: list[Fact] = field(default_factory=list)
    done: dict[tuple[int, tuple[Choice | None, ...]], tuple[Choice | None, ...]] = field(default_factory=dict)

    def module(self, module: Module, known: Mapping[Value, Choice]) -> tuple[Choice | None, ...]:
        """The choices among a module's outputs, from those among its inputs."""
        key = id(module), tuple(known.get(v) for v in module.inputs)
        if key not in self.done:
            found = dict(known)
            with self.diagnostics.within(module.named):
                for node in module.body:
                    self.node(node, module, found)
            self.done[key] = tuple(found.get(v) for v in module.outputs)
        return self.done[key]

    def node(self, node: Node, module: Module, known: dict[Value, Choice]) -> None:
        for size, index, what in _reads(node, module):
            if index in known:
                self.check(size, known[index], what, node.span)
        match node:
            case ir.Call() | ir.Fold() | ir.Scan() | ir.Route() | ir.Pairwise():
                self.below(node, module, known)
            case _:
                for region in ir.regions(node):
                    for inner in region.body:
                        self.node(inner, module, known)
                for out, choice in zip(node.outs, _chosen(node, known), strict=False):
                    if choice is not None:
                        known[out] = choice

    def below(self, node: ir.Call | ir.Fold | ir.Scan | ir.Route | ir.Pairwise, module: Module, known: dict[Value, Choice]) -> None:
        """Modules that a node applies. What is carried from one application to the next is not followed."""
        target = node.target if isinstance(node.target, Module) else module.child(node.target)
        match node:
            case ir.Fold():
                assert isinstance(target, ir.Stack)
                for (slot, _), places in zip(target.slots, node.inputs, strict=True):
                    pairs = [(v, node.args[p]) for v, p in zip(slot.inputs, places, strict=True) if p >= node.carried]
                    self.module(slot, {v: known[a] for v, a in pairs if a in known})
            case ir.Call():
                inner = target if isinstance(target, Module) else target.module  # type: ignore[union-attr]
                outs = self.module(inner, {v: known[a] for v, a in zip(inner.inputs, node.args, strict=True) if a in known})
                known.update({out: choice for out, choice in zip(node.outs, outs, strict=True) if choice is not None})
            case ir.Scan():
                inner = target if isinstance(target, Module) else target.module  # type: ignore[union-attr]
                pairs = [*zip(inner.inputs, node.args, strict=True)][node.carried :]
                self.module(inner, {v: known[a] for v, a in pairs if a in known})
            case ir.Route() | ir.Pairwise():
                inner = target if isinstance(target, Module) else target.module  # type: ignore[union-attr]
                args = node.args if isinstance(node, ir.Pairwise) else (node.x, *node.args)
                self.module(inner, {v: known[a] for v, a in zip(inner.inputs, args, strict=True) if a in known})

    def check(self, size: Expr, choice: Choice, what: str, span: Span) -> None:
        spare = (size - choice.count).constant
        if size.is_dynamic or choice.count.is_dynamic or (spare is not None and spare >= 0):
            return
        have, wanted = size.value(), choice.count.value()
        if have is None or wanted is None:
            return
        if wanted <= have:
            self.facts.append(Fact(kind="at_least", a=size, b=choice.count, span=span))
            return
        message = f"{choice.what} can be any number below {wanted:g}, and {what} has {have:g} entries"
        notes = [Note("the index is chosen here", choice.span)] if choice.span is not None else []
        notes += self.diagnostics.written(choice.count, size)
        remedy = "let both be of one size, or keep the index below that of what it reads"
        self.diagnostics.error("E207", message, span, *notes, remedy=remedy)


# ---------------------------------------------------------------- one node


def _reads(node: Node, module: Module) -> Iterator[tuple[Expr, Value, str]]:
    """The size of what a node reads, the index it reads it at, and what that is."""
    match node:
        case ir.Take():
            for label, index in zip(node.over, node.indices, strict=True):
                if isinstance(index, Value):
                    yield node.x.type.axis(label).size, index, f"the axis `{label.name}` that it reads"
        case ir.Route():
            bank = module.child(node.target)
            assert isinstance(bank, ir.Bank)
            yield bank.axis.size, node.index, f"the bank `{node.target}`"
        case ir.ScatterAdd():
            yield node.base.type.axis(node.over).size, node.index, f"the axis `{node.over.name}` that it adds to"
        case ir.CrossEntropy():
            yield node.logits.type.axis(node.over).size, node.target, f"the axis `{node.over.name}` of the logits"
        case _:
            return


def _chosen(node: Node, known: Mapping[Value, Choice]) -> tuple[Choice | None, ...]:
    """What is known of a node's results."""
    match node:
        case ir.Top():
            size = node.x.type.axis(node.over).size
            return (None, Choice(size, f"the index of `top` over `{node.over.name}`", node.span))
        case ir.Reduce(function="argmax" | "argmin") if len(node.over) == 1 and node.over[0] is not ir.REST:
            label = node.over[0]
            return (Choice(node.x.type.axis(label).size, f"the `{node.function}` over `{label.name}`", node.span),)
        case ir.Along(function="argsort"):
            return (Choice(node.x.type.axis(node.over).size, f"the `argsort` along `{node.over.name}`", node.span),)
        case (
            ir.Rename()
            | ir.Transpose()
            | ir.Expand()
            | ir.Squeeze()
            | ir.Unflatten()
            | ir.Flatten()
            | ir.Slice()
            | ir.StopGradient()
            | ir.Roll()
        ):
            return (known.get(node.x),)
        case ir.Split() | ir.Unstack():
            return tuple(known.get(node.x) for _ in node.outs)
        case ir.Take() | ir.Along(function="flip"):
            return (known.get(node.x),)
        case _:
            return ()
