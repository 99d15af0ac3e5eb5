"""One class (or function) of the file, as a view for the template."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import chain, count

from ...compiler import ir
from ...grammar.frozen import frozen
from ..python.broadcast_once import take_views
from ..python.code import (
    Assign,
    Attribute,
    Block,
    Call,
    Code,
    Do,
    Items,
    Return,
    Statement,
    Store,
    Subscript,
    Text,
    Var,
    call,
    lines,
    method,
    wrap,
)
from ..python.docstring import docstring
from ..python.fold_values import fold_values, trim_notes
from ..python.layouts import Tensor, note_of
from ..python.name_variables import name_variables
from ..python.plan_classes import Plan, Plans
from ..python.prepare_masks import Masks
from ..python.write_body import BodyWriter, Numbers
from .bank_inputs import BANK_INPUTS, bank_types, state_inputs, training_inputs
from .cache.absorbed import take_apart
from .cache.classes import CacheView, class_view, init_method
from .cache.first import write_in_turn
from .cache.parts import cache_inputs, first_of, signature_types
from .cache.slot_tables import of_positions_in, result_views, write_tables
from .computed_once import form_of
from .constructors import constructor_lines
from .flex import INDICES, writes_functions
from .initial_weights import start_method
from .lowerings import LOWERINGS
from .moves import TorchMoves
from .reversible import METHODS, Coupling, coupling_of, reversible_layers
from .routing import start_bank
from .rows import is_for_long_sequences, widens_rows
from .simplify import simplifier
from .states import state_methods
from .states_by_parts import given_to_parts


@frozen(kw_only=True)
class ClassView:
    """What the template places: ready lines of source."""

    name: str
    is_function: bool
    doc: str
    buffers: list[str]
    init: list[str]
    init_signature: list[str]
    forward: list[str]
    signature: list[str]
    methods: list[str]
    cache: CacheView | None = None
    goes_back: bool = False  # a layer that can compute back what it was given


def signature_lines(start: str, arguments: list[str], result: str, indent: int) -> list[str]:
    """A `def`, wrapped as the formatter does."""
    pad = " " * indent
    flat = f"{pad}{start}({', '.join(arguments)}) -> {result}:"
    if len(flat) <= 120:
        return [flat]
    joined = f"{pad}    {', '.join(arguments)}"
    if len(joined) <= 120:
        return [f"{pad}{start}(", joined, f"{pad}) -> {result}:"]
    return [f"{pad}{start}(", *(f"{pad}    {a}," for a in arguments), f"{pad}) -> {result}:"]


def doc_of(module: ir.Module) -> str:
    return docstring(module.doc)


def buffers_of(module: ir.Module, is_root: bool = False) -> list[str]:
    """Declarations that tell type checkers what a registered buffer is; where a memory stands."""
    path = ['path: str = ""  # where its memory stands in the state'] if module.states and not is_root else []
    return path + [f"{p.name}: Tensor" for p in module.params if not p.trainable]


def only_updates(module: ir.Module) -> set[ir.Node]:
    """Nodes that nothing but what buffers become in training is computed by."""
    return ir.made_by(module.body, [u.next for u in module.updates]) - ir.made_by(
        module.body, [*module.outputs, *(s.next for s in module.states)]
    )


def read_states(w: BodyWriter) -> list[Statement]:
    """Own states as they are before this call changes them."""
    found: list[Statement] = []
    for state in w.module.states:
        var, t = Var(hint=state.name), w.env[state.value]
        found.append(Assign((var,), t.code))
        w.env[state.value] = Tensor(var, t.layout, t.sizes)
    return found


def write_effects(w: BodyWriter, last: Collection[ir.Node]) -> None:
    """What the states and, in training, the buffers become; `last`: nodes that are for the buffers alone."""
    for state in w.module.states:
        w.statements.append(Store(w.stored_state(state), w.arranged(w.read(state.next), _out_layout(state.next))))
    if not w.module.updates:
        return
    outer, w.statements = w.statements, []
    in_turn = _update_in_turn(w.module, last)
    written: set[ir.Node] = set()
    for update in w.module.updates:
        now = set(last) & ir.made_by(w.module.body, [update.next]) if in_turn else set(last)
        w.write([n for n in w.module.body if n in now - written])
        written |= now
        code = w.arranged(w.read(update.next), _out_layout(update.next))
        w.statements.append(Do(method(Attribute(Text("self"), update.buffer), "copy_", code)))
    quiet = Block(Text("torch.no_grad()"), "with", tuple(w.statements))
    w.statements = [*outer, Block(Attribute(Text("self"), "training"), "if", (quiet,))]


def _update_in_turn(module: ir.Module, last: Collection[ir.Node]) -> bool:
    """Whether no update reads, in what is computed for it alone, another buffer that is updated too: then each can be computed where it is stored."""
    own = {p.name: p.value for p in module.params}
    moved = {own[u.buffer] for u in module.updates}
    return not any(
        v in moved and v is not own[u.buffer]
        for u in module.updates
        for n in ir.made_by(module.body, [u.next])
        if n in last
        for v in ir.operands(n)
    )


def apart(*methods: list[str]) -> list[str]:
    """Methods with an empty line between them."""
    found: list[str] = []
    for lines_of_one in filter(None, methods):
        found += [*([""] if found else []), *lines_of_one]
    return found


def result_type(module: ir.Module) -> str:
    count = len(module.outputs)
    return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"


def write_class(plan: Plan, plans: Plans, masks: Masks, reserved: Collection[str], helpers: set[str]) -> ClassView:
    """The class of a plan, written from its first use."""
    module = plan.first
    numbers = Numbers(plans, plan, is_root=False)
    of_positions, results = positions_method(numbers, reserved, helpers)
    streams = stream_methods(plan, numbers, masks, reserved, helpers)
    w = writer_of(module, plan, numbers, masks)
    w.start()
    w.statements += read_states(w)
    take_apart(w)
    if plan.of.bank is not None and not plan.is_function:
        start_bank(w)
    last = only_updates(module)
    write_in_turn(w, write_tables(w, [n for n in module.body if n not in last], results))
    outs = [w.arranged(w.read(v), _out_layout(v)) for v in module.outputs]
    write_effects(w, last)
    w.statements.append(Return(outs[0] if len(outs) == 1 else Items(tuple(outs))))
    helpers |= w.helpers
    taken = {*reserved, *BANK_INPUTS} if plan.of.bank is not None or "member" in w.helpers else reserved
    taken = {*taken, *cache_inputs(module, plans.program), *(INDICES if writes_functions(w) else ()), *given_to_parts(module)}
    body, names = finish(w, taken, {}, 4 if plan.is_function else 8, cache_inputs(module, plans.program))
    indent = 4 if plan.is_function else 8
    arguments = [f"{names[w.inputs[v]]}: {kind_of(v, w, module)}" for v in module.inputs]
    cache = None if plan.is_function else class_view(w, plan, helpers)
    if plan.is_function:
        init: list[str] = []
        kept: list[str] = []
        methods: list[str] = []
    else:
        methods = apart(
            start_method(module, numbers),
            state_methods(module, numbers, helpers),
            of_positions,
            *streams,
            init_method(w, plan, plans, helpers),
        )
        kept = [line for n, code in numbers.kept.items() for line in wrap(f"self.{n} = ", code, lambda v: v.hint, 8)]
        init = kept + constructor_lines(module, numbers, helpers)
        helpers |= numbers.helpers
    written = lines(body, names.__getitem__, indent)
    words = set(re.findall(r"\w+", " ".join(init or written)))
    plans.unused[plan.of.key] = frozenset(n for n, _ in plan.numbers if n not in words)
    explicit = [f"{n}: {'float' if v[0].is_real else 'int'}" for n, v in plans.numbers(plan)]
    if plan.is_function:
        explicit += [f"{v}: bool" for v in training_inputs(module)]
        signature = signature_lines(f"def {plan.name}", arguments + explicit, result_type(module), 0)
        init_signature: list[str] = []
    else:
        if plan.of.bank is not None:
            arguments += [f"{v}: {kind}" for v, kind in zip(BANK_INPUTS, bank_types(plans.program), strict=True)]
        arguments += [f"{v}: dict[str, Tensor]" for v in state_inputs(module)]
        arguments += signature_types(module, plans)
        signature = signature_lines("def forward", ["self", *arguments], result_type(module), 4)
        if plan.of.bank is None and widens_rows(module) and is_for_long_sequences(plans.program):
            helpers.add("by_rows")
            signature.insert(0, "    @by_rows")
        config = ["config: Config"] if plan.takes_config else []
        init_signature = signature_lines("def __init__", ["self", *config, *explicit], "None", 4)
    if not module.outputs:
        written, signature = [], []
    return ClassView(
        name=plan.name, is_function=plan.is_function, doc=doc_of(module), buffers=buffers_of(module), init=init, init_signature=init_signature,
        forward=written, signature=signature, methods=methods, cache=cache, goes_back=bool(streams),
    )  # fmt: skip


def _out_layout(value: ir.Value):  # type: ignore[no-untyped-def]
    return tuple((label,) for label in value.type.labels)


def writer_of(module: ir.Module, plan: Plan, numbers: Numbers, masks: Masks) -> BodyWriter:
    """A writer that knows which inputs of the class are masks, and of what kind."""
    w = BodyWriter(module=module, numbers=numbers, moves=TorchMoves(), lower=LOWERINGS)
    alike = [(v, other) for use in plan.of.uses for v, other in zip(plan.first.inputs, use.inputs, strict=True)]
    w.blocked = {v for v, other in alike if other in masks.blocked}
    w.masks = {v for v, other in alike if other in masks.inputs}
    w.maybe_none = {v for v, other in alike if other in masks.maybe_none}
    w.by_index = {v for v, other in alike if other in masks.by_index}
    w.optional |= set(w.maybe_none) - set(w.masks)
    return w


def kind_of(value: ir.Value, w: BodyWriter, module: ir.Module) -> str:
    """What an input is for a type checker."""
    absent = value in w.maybe_none or value in first_of(module).inputs
    return f"Tensor{' | BlockMask' if value in w.by_index else ''}{' | None' if absent else ''}"


def coupling_in(plan: Plan, plans: Plans) -> Coupling | None:
    """How a class's layers can be gone back through, if all its uses are such layers."""
    layers = reversible_layers(plans.program)
    if plan.is_function or plan.of.bank is not None or not all(id(use) in layers for use in plan.of.uses):
        return None
    return coupling_of(plan.first)


def stream_methods(plan: Plan, numbers: Numbers, masks: Masks, reserved: Collection[str], helpers: set[str]) -> list[list[str]]:
    """Of a layer that can be gone back through: what it adds to each of its streams, as methods."""
    coupling = coupling_in(plan, numbers.plans)
    if coupling is None:
        return []
    helpers.add("reversed_layer")
    found: list[list[str]] = []
    for name, module in coupling.parts:
        w = writer_of(module, plan, numbers, masks)
        w.start()
        w.write(module.body)
        outs = [w.arranged(w.read(v), _out_layout(v)) for v in module.outputs]
        w.statements.append(Return(outs[0] if len(outs) == 1 else Items(tuple(outs))))
        further = cache_inputs(plan.first, numbers.plans.program)
        body, names = finish(w, {*reserved, *further}, {}, 8, further)
        helpers |= w.helpers
        arguments = ["self", *(f"{names[w.inputs[v]]}: {kind_of(v, w, plan.first)}" for v in module.inputs)]
        arguments += signature_types(plan.first, numbers.plans)
        doc = f'        """{METHODS[name]}"""'
        found.append([*signature_lines(f"def {name}", arguments, result_type(module), 4), doc, *lines(body, names.__getitem__, 8)])
    return found


def positions_method(numbers: Numbers, reserved: Collection[str], helpers: set[str]) -> tuple[list[str], list[str]]:
    """What a module computes of its positions alone, as a method: for the tokens of a call, and for every slot of a cache; names of its results."""
    found = of_positions_in(numbers.plan.first)
    if found is None:
        return [], []
    module = found.module
    w = BodyWriter(module=module, numbers=numbers, moves=TorchMoves(), lower=LOWERINGS)
    w.start()
    w.write(list(module.body))
    found_outs = [(w.read(v), v) for v in module.outputs]
    outs = [w.arranged(t, _out_layout(v)) for t, v in found_outs]
    outs = [Subscript(out, view) if view else out for out, view in zip(outs, result_views(found, numbers.plans), strict=True)]
    once = len(outs) > 1 and len(set(map(form_of, module.outputs))) == 1
    w.helpers |= {"computed_once"} if once else set()
    w.statements.append(Return(call("computed_once", *outs) if once else outs[0] if len(outs) == 1 else Items(tuple(outs))))
    body, names = finish(w, reserved, {}, 8)
    helpers |= w.helpers
    arguments = ["self", *(f"{names[w.inputs[v]]}: Tensor" for v in module.inputs)]
    method_lines = [
        *signature_lines(f"def {found.name}", arguments, "tuple[Tensor, ...]" if once else result_type(module), 4),
        *lines(body, names.__getitem__, 8),
    ]
    return method_lines, [names.get(t.code, v.hint) if isinstance(t.code, Var) else v.hint for t, v in found_outs]


def finish(
    w: BodyWriter, reserved: Collection[str], given: dict[Var, str], indent: int, further: Collection[str] = ()
) -> tuple[tuple[Statement, ...], dict[Var, str]]:
    """Shapes read once at the top, values folded, names given; `further` are arguments besides the inputs."""
    inputs = tuple(w.inputs.values())
    statements = (*w.checks, *w.shape_statements(), *w.statements)
    plans, key = w.numbers.plans, w.numbers.plan.of.key
    goes_back = coupling_in(w.numbers.plan, plans) is not None  # its inputs are those of its methods
    if not w.numbers.is_root and key not in plans.called_elsewhere and not goes_back:
        fixed = {*w.masks, *w.maybe_none, *w.optional, *w.by_index}
        free = {w.inputs[v]: k for k, v in enumerate(w.module.inputs) if v not in fixed and v.type.dtype != "int"}
        statements, views = take_views(statements, free)
        plans.views[key] = {free[var]: items for var, items in views.items()}
    numbers = {*w.numbers.kept, *(n for n, _ in w.numbers.plan.numbers)}
    vectors = {p.name for p in w.module.params if len(p.type.axes) == 1}
    folded = trim_notes(fold_values(statements, inputs, indent, simplifier(numbers, vectors)))
    taken = {v: v.hint for v in inputs} | given
    seen = set(further)
    for var in inputs:
        name = taken[var]
        base = name.rstrip("0123456789")
        others = (f"{base}{k}" for k in count(int(name[len(base) :] or 1) + 1))
        taken[var] = next(n for n in chain([name], others) if n not in seen and (n == name or n not in reserved))
        seen.add(taken[var])
    return folded, name_variables(folded, taken, reserved)


__all__ = ["Assign", "Attribute", "Call", "ClassView", "Code", "Text", "finish", "note_of", "write_class"]
