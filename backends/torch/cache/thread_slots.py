"""Slots come from the model: where a module counts tokens, it is given their numbers in the whole run."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal

from ....compiler import ir
from ....compiler.diagnostics import Diagnostic, SpecError
from ....compiler.dims import Expr, sym
from ....compiler.ir import Axis, Label, Module, Node, Program, Type, Value
from ....grammar.frozen import mutable
from ...python.attention_axes import Given as MadeOutside
from ...python.attention_axes import mask_kind

Which = Literal["q_slots", "k_slots"]


def thread_slots(program: Program) -> Program:
    """Requires: masks that the model can make are made. Ensures: below the root nothing counts along the tokens of a call, or of all calls so
    far, by itself. Leaves alone: programs without a decoding."""
    return program if program.decoding is None else _Threading(program).run()


@mutable
class _Threading:
    program: Program
    done: dict[int, Module] = field(default_factory=dict)
    wanted: dict[int, list[Which]] = field(default_factory=dict)  # by id of a new module, what it is given further

    def run(self) -> Program:
        root = self.visit(self.program.root)
        return replace(self.program, root=root)

    @property
    def sizes(self) -> dict[Expr, Which]:
        decoding = self.program.decoding
        assert decoding is not None
        return {sym(decoding.rows): "q_slots", sym(decoding.length): "k_slots"}

    def visit(self, module: Module) -> Module:
        if id(module) not in self.done:
            children = ir.changed_children(module, self.visit)
            body = tuple(
                replace(n, target=self.visit(n.target)) if isinstance(n, ir.Call | ir.Scan) and isinstance(n.target, Module) else n
                for n in module.body
            )
            self.done[id(module)] = _Body(self, replace(module, children=children, body=body), module is self.program.root).run()
        return self.done[id(module)]


class _Body:
    def __init__(self, owner: _Threading, module: Module, is_root: bool) -> None:
        self.owner, self.module, self.is_root = owner, module, is_root
        self.given: dict[Which, Value] = {}
        self.body: list[Node] = []

    def run(self) -> Module:
        for node in self.module.body:
            self.body.append(self.node(node))
        if not self.given:
            return (
                self.module
                if all(a is b for a, b in zip(self.body, self.module.body, strict=False))
                else replace(self.module, body=tuple(self.body))
            )
        if self.is_root:
            counted = [ir.Index(outs=(v,), span=self.module.span, slot=True) for v in self.given.values()]
            return replace(self.module, body=(*counted, *self.body))
        inputs = (*self.module.inputs, *self.given.values())
        made = replace(self.module, inputs=inputs, body=tuple(self.body), captured=self.module.captured + len(self.given))
        self.owner.wanted[id(made)] = list(self.given)
        return made

    def slots(self, which: Which) -> Value:
        if which not in self.given:
            size = next(e for e, w in self.owner.sizes.items() if w == which)
            self.given[which] = Value(Type((Axis(Label(which), size),), "int"), which, self.module.span)
        return self.given[which]

    def node(self, node: Node) -> Node:
        match node:
            case ir.Index() if not self.is_root and (which := self.owner.sizes.get(node.out.type.axes[0].size)):
                given = self.slots(which)
                return ir.Rename(outs=node.outs, span=node.span, x=given, old=given.type.labels, new=node.out.type.labels)
            case ir.Attend():
                return self.attend(node)
            case ir.Call():
                target = node.target if isinstance(node.target, Module) else self.module.child(node.target).module  # type: ignore[union-attr]
                more = [self.slots(w) for w in self.owner.wanted.get(id(target), ())]
                return replace(node, args=(*node.args, *more)) if more else node
            case ir.Fold():
                return self.fold(node)
            case ir.Scan() | ir.Route() | ir.Pairwise():
                target = node.target if isinstance(node.target, Module) else self.module.child(node.target).module  # type: ignore[union-attr]
                if self.owner.wanted.get(id(target)):
                    what = f"`{target.name}`, applied to parts of the tokens, counts them"
                    raise SpecError([Diagnostic("E601", f"this backend cannot write it: {what}", node.span)])
                return node
            case _:
                return node

    def fold(self, node: ir.Fold) -> ir.Fold:
        stack = self.module.child(node.target)
        assert isinstance(stack, ir.Stack)
        args, inputs = list(node.args), []
        for (target, _), places in zip(stack.slots, node.inputs, strict=True):
            further: list[int] = []
            for which in self.owner.wanted.get(id(target), ()):
                value = self.slots(which)
                if value not in args:
                    args.append(value)
                further.append(args.index(value))
            inputs.append((*places, *further))
        return replace(node, args=tuple(args), inputs=tuple(inputs))

    def attend(self, node: ir.Attend) -> ir.Attend:
        """A mask or a score that counts slots here."""
        changes: dict[str, ir.Region] = {}
        for name, region, at in (("mask", node.mask, 0), ("score", node.score, 2)):
            if region is None or len(region.params) < at + 2:
                continue
            used = {v for n in region.body for v in ir.operands(n)} | {region.result}
            mapping: dict[Value, Value] = {}
            if not (name == "mask" and isinstance(mask_kind(region), MadeOutside)):
                for param, size in zip(
                    region.params[at : at + 2], (node.q.type.axis(node.query).size, node.k.type.axis(node.k_axis).size), strict=True
                ):
                    which = self.owner.sizes.get(size)
                    if param in used and which is not None:
                        given = self.slots(which)
                        own = Value(param.type, param.hint, node.span)
                        self.body.append(ir.Rename(outs=(own,), span=node.span, x=given, old=given.type.labels, new=param.type.labels))
                        mapping[param] = own
            if mapping:
                changes[name] = ir.replace_region(region, mapping)
        return replace(node, **changes) if changes else node  # type: ignore[arg-type]
