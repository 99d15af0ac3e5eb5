"""From a syntax tree to a typed program: `elaborate_file` is the whole front half of the compiler.

`Elaborator` is built in layers, each a class on the one before: names and late arguments (names.py), expressions (evaluate.py), bodies (bodies.py),
instances (instances.py), stacks, scans and banks (stacks.py), index functions (apply.py), calls (calls.py), statements (statements.py); here is the
model. The operations by name are in builtins.py and builtins_modules.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..grammar import tree
from ..grammar.frozen import mutable
from . import builtins, ir
from .bodies import Givens
from .builder import Builder
from .checkpoint import resolve_checkpoint
from .diagnostics import Diagnostics, Note
from .dims import Expr, Sym, const, sym
from .find_model import find_model
from .library import Library
from .name_config import name_config
from .operations import Poison
from .passes.check_index_ranges import check_index_ranges
from .passes.check_names import check_names
from .passes.check_unused import check_unused, forget_dropped
from .scope import Frame, Thunk
from .statements import Statements
from .table_facts import table_facts
from .values import NONE, Recipe, Static, describe


@mutable
class Elaborator(Statements):
    """`program` elaborates a model."""

    def program(self, model: tree.Model) -> ir.Program:
        recipe = self.model_recipe(model)
        component = recipe.component
        root = Builder(component.name.id, None, self.owners, self.diagnostics, self.facts, model.span, model.paper or component.paper or "")
        signature = Frame(root, None, model.name.id)
        self.givens.append(Givens({}))
        self.bind_hyperparameters(recipe, signature, model.name.span)
        inputs = [self.model_input(declared, root, signature) for declared in component.inputs]
        frame = self.body_frame(signature)
        self.root_frame = frame
        for assume in model.assumes:
            self.assumptions.append(ir.Assumption(property=assume.property, reason=assume.reason, span=assume.span))
        found = self.execute(component.body, frame)
        if found is None:
            raise self.error("E344", f"`{component.name.id}` returns nothing", component.name.span, help="end the body with `return ...`")
        self.check_mentions(component)
        result = self.check_outputs(component, found, frame, component.span)
        outs = tuple(self.as_tensor(o, component.span, frame) for o in (result if isinstance(result, tuple) else (result,)))
        names = tuple(o.name.id if o.name else f"output{k}" for k, o in enumerate(component.outputs))
        self.note_locals(root, frame)
        module = replace(root.finish(outs, names), name=model.name.id)
        module, inputs = drop_unread(module, inputs)
        if self.diagnostics.failed:
            raise Poison
        self.check_inert(model)
        dynamic = tuple(
            dict.fromkeys(
                s for i in inputs for a in i.value.type.axes for s in sorted(a.size.symbols, key=lambda x: x.order) if s.value is None
            )
        )
        config = name_config(module, self.symbols, inputs)
        return ir.Program(
            name=model.name.id, root=module, inputs=tuple(inputs), config=config, dynamic=dynamic, facts=unique_facts([*self.facts, *table_facts(module)]), losses=tuple(ir.Loss(name=n, value=e.value) for n, e in root.emits.items() if e.is_loss),
            assumptions=tuple(self.assumptions), paper=model.paper or component.paper, source=Path(model.span.source.path).name, span=model.name.span,
        )  # fmt: skip

    def model_recipe(self, model: tree.Model) -> Recipe:
        outer = Frame(None, None, model.name.id)
        if model.component is not None:
            base: Static = Recipe(model.component, Frame(None, None, model.name.id))
        else:
            assert model.base is not None
            base = self.evaluate(model.base, outer)
        if not isinstance(base, Recipe):
            raise self.error(
                "E386", f"a model is a component with arguments, found {describe(base)}", model.base.span if model.base else model.name.span
            )
        frame = self.block_frame(tree.Block(span=model.span, base=None, lets=model.lets, arguments=model.arguments), outer)
        given: dict[str, tuple[Thunk, tree.Span]] = {}
        for argument in model.arguments:
            thunk = frame.names[argument.name or ""]
            assert isinstance(thunk, Thunk)
            given[argument.name or ""] = (thunk, argument.name_span or argument.span)
        return self.refined(base, given)

    def model_input(self, declared: tree.Input, root: Builder, frame: Frame) -> ir.ModelInput:
        name = declared.name.id
        axes: list[ir.Axis] = []
        for item in declared.axes.items if declared.axes else ():
            axes.extend(self.input_axes(item, frame))
        if len({a.label for a in axes}) != len(axes):
            assert declared.axes is not None
            raise self.error(
                "E203",
                f"the input `{name}` would have an axis twice",
                declared.axes.span,
                help="a second axis of the same size is written with a prime: `[t, t']`",
            )
        kind = ir.Type(tuple(axes), declared.dtype if declared.dtype in ("int", "bool") else "float")  # type: ignore[arg-type]
        bound = self.number(declared.bound, frame) if declared.bound is not None else None
        value = root.own(ir.Value(kind, name, declared.name.span))
        root.inputs.append(value)
        frame.names[name] = value
        default, training = None, False
        if declared.default is not None:
            with root.region() as body:
                found = self.evaluate(declared.default, frame)
                if found is NONE:
                    training = True
                else:
                    result = self.as_tensor(found, declared.default.span, frame)
                    default = ir.Region(params=(), body=tuple(body.nodes), result=result)
        return ir.ModelInput(name=name, value=value, bound=bound, default=default, training=training)

    def input_axes(self, item: tree.Expr, frame: Frame) -> tuple[ir.Axis, ...]:
        """What an item of a model's input stands for: a hyperparameter's size or list of axes, an axis named before, or a new dynamic one."""
        if isinstance(item, tree.Axis):
            if isinstance(item.size, tree.Name) and item.size.id not in frame.names and item.size.id not in frame.labels:
                size = sym(Sym(item.size.id))
                frame.names[item.size.id] = size
            else:
                size = self.number(item.size, frame)
            return (self.new_axis(item.label, size, frame),)
        second = isinstance(item, tree.Name) and item.id.endswith("'")  # `n'` is as large as `n`
        if isinstance(item, tree.Name) and not second and item.id not in frame.names and item.id not in frame.labels:
            return (self.new_axis(item.id, sym(Sym(item.id)), frame),)
        return self.axes(item, frame)

    def inherited(self, place: tree.Span, model: tree.Model) -> bool:
        """Whether these words belong to a model that this one extends: what it replaces may leave them without a use."""
        others = [m.span for m in self.library.models.values() if m.name != model.name or m.name.span != model.name.span]
        return any(s.source.path == place.source.path and s.start <= place.start and place.end <= s.end for s in others)

    def check_inert(self, model: tree.Model) -> None:
        """Nothing is silently ignored: every instance must be applied, every argument given must have been read."""
        idle: list[tree.Span] = []
        for instance in self.instances:
            if not instance.applied and instance.name and instance.builder is None:
                self.error(
                    "E316",
                    f"`{instance.name}` is bound and never applied",
                    instance.span,
                    help="apply it, delete it, or write `let` if it is only passed on",
                )
                if isinstance(instance.recipe, Recipe) and instance.recipe.span is not None:
                    idle.append(instance.recipe.span)
        for thunk in self.thunks:
            place = thunk.node.span
            within = any(s.source.path == place.source.path and s.start <= place.start and place.end <= s.end for s in idle)
            if thunk.explicit and not thunk.used and not within and not self.inherited(place, model):
                self.reaches_nothing(thunk)

    def reaches_nothing(self, thunk: Thunk) -> None:
        """An argument that nothing read: at its words, or where the spec's own component takes it from the library and ignores it."""
        place, name, receiver = thunk.node.span, thunk.parameter, thunk.receiver
        ignoring = next((p.name.span for p in receiver.parameters if p.name.id == name), None) if receiver is not None else None
        if receiver is None or ignoring is None or not self.diagnostics.is_shipped(place) or self.diagnostics.is_shipped(ignoring):
            message = f"`{name}` reaches nothing: the model would be the same without it"
            self.error("E315", message, place, help="delete it, or use it where it was meant")
            return
        owner = ".".join(thunk.path[:-1])
        instead = f", or leave it out and give `{owner}` yourself, without it" if owner else ""
        self.error("E315", f"`{receiver.name.id}` is given `{name}` and never reads it", ignoring, Note("it is given here", place),
                   help=f"read `{name}` in the body{instead}")  # fmt: skip


def drop_unread(root: ir.Module, inputs: list[ir.ModelInput]) -> tuple[ir.Module, list[ir.ModelInput]]:
    """An optional input that this model does not read is not part of its signature (a required one is an error, found later)."""
    read = {v for n in root.body for v in ir.operands(n)} | set(root.outputs)
    for item in reversed(inputs):  # what a default reads stands before it
        if item.default is not None and item.value in read:
            read |= {v for n in item.default.body for v in ir.operands(n)} | {item.default.result}
    kept = [i for i in inputs if i.required or i.value in read]
    return replace(root, inputs=tuple(i.value for i in kept)), kept


def settle_facts(program: ir.Program) -> ir.Program:
    """Facts of the numbers that can be changed: those that are no fields, because structure was chosen by them, are what they are."""
    fields = {s for _, s in program.config}

    def settle(size: Expr) -> Expr:
        return size.substitute({s: const(s.value) for s in size.symbols if s.value is not None and s not in fields})

    return replace(program, facts=unique_facts([replace(f, a=settle(f.a), b=settle(f.b)) for f in program.facts]))


def unique_facts(facts: Sequence[ir.Fact]) -> tuple[ir.Fact, ...]:
    """Each once; that two sizes are equal, whichever is named first."""

    def key(fact: ir.Fact) -> tuple[object, ...]:
        return (fact.kind, frozenset((fact.a, fact.b))) if fact.kind == "equal" else (fact.kind, fact.a, fact.b)

    return tuple({key(f): f for f in reversed(facts)}.values())[::-1]


def elaborate_file(path_or_name: str, sets: list[str], diagnostics: Diagnostics) -> ir.Program | None:
    """A spec file, or the name of a shipped spec, as a program; none if there are errors."""
    found = find_model(path_or_name, sets, diagnostics)
    if found is None:
        return None
    return elaborate_model(*found, diagnostics)


def elaborate_model(model: tree.Model, library: Library, diagnostics: Diagnostics) -> ir.Program | None:
    """A model without `extends` as a program; none if there are errors."""
    elaborator = Elaborator(library, diagnostics)
    elaborator.builtins = builtins.table()
    try:
        program = elaborator.program(model)
    except Poison:
        if not diagnostics.failed:
            raise
        diagnostics.sort()
        return None
    if not diagnostics.failed:
        check_unused(program, diagnostics)
        forget_dropped(program)
        check_names(program, diagnostics)
        program = settle_facts(replace(program, facts=(*program.facts, *check_index_ranges(program, diagnostics))))
        program = replace(program, checkpoint=resolve_checkpoint(program, library, diagnostics))
    return None if diagnostics.failed else program
