"""The model: the class that stands last, with the optional inputs, the loss, and the outputs by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from ...compiler import ir
from ...compiler.dims import sym
from ...compiler.ir import Value
from ...grammar.frozen import frozen
from ..python.ask_loss import ask_loss
from ..python.code import (
    Assign,
    Attribute,
    Binary,
    Block,
    Call,
    Code,
    Note,
    Range,
    Return,
    Statement,
    Store,
    Subscript,
    Text,
    Unary,
    Var,
    call,
    lines,
    method,
    number,
)
from ..python.docstring import docstring
from ..python.layouts import Tensor, sizes_of
from ..python.length_checks import length_checks
from ..python.plan_classes import Plan, Plans, camel
from ..python.prepare_masks import Masks
from ..python.write_body import BodyWriter, Numbers
from .cache.classes import root_init, root_view
from .cache.first import write_in_turn
from .cache.parts import first_of
from .cache.prepare import KeptInputs
from .cache.root import end_call, first_inputs, keep_once, start_call
from .chunk_losses import LinearCrossEntropy
from .constructors import constructor_lines
from .flex import INDICES
from .initial_weights import start_method
from .loss_statistics import LinearStatistics
from .lowerings import LOWERINGS
from .moves import TorchMoves
from .pointwise import device, dtype_code
from .states import model_state_methods, path_lines
from .states_by_parts import given_to_parts
from .windows import count_by_blocks
from .write_class import ClassView, apart, buffers_of, finish, only_updates, read_states, signature_lines, write_effects
from .write_masks import RootWriter, write_early_masks, write_mask


def write_model(
    program: ir.Program,
    plan: Plan,
    plans: Plans,
    masks: Masks,
    kept: KeptInputs,
    reserved: Collection[str],
    helpers: set[str],
    outputs: str,
) -> ClassView:
    root = program.root
    numbers = Numbers(plans, plan, is_root=True)
    optional = {i.value for i in program.inputs if not i.required}
    undecoded = _undecoded(program)
    first = first_of(
        root, undecoded, frozenset(ir.made_by(root.body, [x.value for x in program.losses]) - ir.made_by(root.body, list(ir.results(root))))
    )
    w = BodyWriter(module=root, numbers=numbers, moves=TorchMoves(), lower=LOWERINGS, optional=optional | first.inputs, defaulted=optional)
    w.start()
    for given in program.inputs:
        var = Var(hint=given.name)
        w.inputs[given.value] = var
        w.env[given.value] = Tensor(var, tuple((label,) for label in given.value.type.labels), sizes_of(given.value.type))
    model = RootWriter(program, masks, w, kept, first)
    w.blocked = masks.blocked
    w.masks = set(masks.made)
    w.maybe_none = {value for value, made in masks.made.items() if made.absent != "tensor"}
    w.by_blocks = {value: partial(count_by_blocks, w, window) for value, window in masks.windows.items()}
    if program.decoding is not None:
        start_call(w, program, masks, kept)
        w.checks += first_inputs(program, first.inputs)
    keep = _keeps_logits(program)
    remembered = read_states(w)
    main, losses = _parts(model)
    read = _read_in_full(model, main)
    kept.whole |= read & kept.rows.keys()
    by_value = {i.value: i for i in program.inputs}
    keep_once(w, kept, first, lambda value: _default(model, by_value[value], read))
    early = write_early_masks(model, main)
    _defaults(model, read)
    last = only_updates(root)
    alone = ir.made_by(root.body, undecoded) - ir.made_by(root.body, set(ir.results(root)) - undecoded) - first.nodes
    late = _beside_the_loss(model, main, losses) - alone
    keep_late = _keeps_logits(program, late) if late else None
    keep_now = keep if keep_late is None else None
    _write_main(model, [n for n in main if n not in early and n not in last and n not in alone and n not in late], keep_now)
    if not late:
        _write_undecoded(model, undecoded, alone)
    if any(m.states for m in ir.walk(root)):
        w.statements = [*_start_state(w), *remembered, *w.statements]
    w.statements = [*length_checks(w, program), *w.statements]
    write_effects(w, last)
    _write_loss(model, losses)
    if late:
        _write_main(model, [n for n in main if n in late], keep_late)
        _write_undecoded(model, undecoded, alone)
    if program.decoding is not None:
        end_call(w, program)
    _write_return(model, outputs)
    helpers |= w.helpers
    reserved = {*reserved, "logits_to_keep", "state", "cache", *(["expert"] if "member" in w.helpers else [])}
    reserved |= {*(INDICES if masks.by_index else ()), *given_to_parts(program.root)}
    body, names = finish(w, reserved, {w.inputs[i.value]: i.name for i in program.inputs}, 8)
    arguments = _arguments(model)
    if program.decoding is not None:
        arguments.append("cache: Cache | None = None")
    if keep is not None:
        arguments.append("logits_to_keep: int = 0")
    if returns_loss(program):
        arguments.append("return_loss: bool = False")
    if any(m.states for m in ir.walk(root)):
        arguments.append("state: dict[str, Tensor] | None = None")
    many = len(root.outputs) > 1
    result = (f"{outputs} | Tensor" if program.losses else outputs) if many else "Tensor"
    init = constructor_lines(root, numbers, helpers)
    helpers |= numbers.helpers
    return ClassView(
        name=plan.name, is_function=False, doc=docstring(root.doc), buffers=buffers_of(root, is_root=True), init=init + path_lines(plans),
        init_signature=signature_lines("def __init__", ["self", "config: Config | None = None"], "None", 4),
        forward=lines(body, names.__getitem__, 8), signature=signature_lines("def forward", ["self", *arguments], result, 4),
        methods=apart(
            start_method(root, numbers), model_state_methods(plans, numbers, helpers),
            root_init(w, kept, helpers) if program.decoding is not None else [],
        ),
        cache=root_view(w, kept) if program.decoding is not None else None,
    )  # fmt: skip


def _undecoded(program: ir.Program) -> frozenset[Value]:
    """Outputs that calls with a cache do not give."""
    outputs = program.root.outputs
    if program.decoding is None:
        return frozenset()
    return frozenset(outputs) - {outputs[k] for k in program.decoding.outputs}


def _write_undecoded(model: RootWriter, values: Collection[Value], nodes: Collection[ir.Node]) -> None:
    """Without a cache, outputs that are of a whole sequence."""
    w, root = model.w, model.program.root
    if not nodes:
        return
    outer, w.statements = w.statements, []
    ranges = dict(w.ranges)
    _write_nodes(model, [n for n in root.body if n in nodes], None)
    made = {out for n in nodes for out in n.outs}
    nothing: list[Statement] = []
    for value in (v for v in root.outputs if v in values and v in made):
        layout = tuple((label,) for label in value.type.labels)
        var = Var(hint=value.hint, kind="whole")
        w.statements.append(Assign((var,), w.arranged(w.read(value), layout)))
        nothing.append(Assign((var,), Text("None")))
        w.env[value] = Tensor(var, layout, sizes_of(value.type))
    w.statements = [*outer, *nothing, Block(Binary("is", Text("cache"), Text("None")), "if", tuple(w.statements))]
    w.ranges = ranges


def _arguments(model: RootWriter) -> list[str]:
    """The inputs, required ones first; where later calls with a cache leave some out, none has to be given by its place."""
    given = [i for i in model.program.inputs if i.value not in model.kept.beside]
    if any(i.required and i.value in model.first.inputs for i in given):
        return [f"{i.name}: Tensor | None = None" for i in given]
    given.sort(key=lambda i: not i.required)
    return [f"{i.name}: Tensor" if i.required else f"{i.name}: Tensor | None = None" for i in given]


def returns_loss(program: ir.Program) -> bool:
    """Whether `return_loss` asks for the loss: no input that is left out at other times says so."""
    return bool(program.losses) and not any(i.training for i in program.inputs)


def _start_state(w: BodyWriter) -> list[Statement]:
    """Without a state, a call starts from nothing."""
    batch = w.number(w.module.inputs[0].type.axes[0].size)
    start = Store(Text("state"), call("self.init_state", batch))
    return [Block(Binary("is", Text("state"), Text("None")), "if", (start,))]


def _beside_the_loss(model: RootWriter, main: Sequence[ir.Node], losses: Sequence[ir.Node]) -> set[ir.Node]:
    """What only the outputs need, to be computed after the loss, where the loss does without the logits."""
    if not any(isinstance(n, LinearCrossEntropy | LinearStatistics) for n in losses):
        return set()
    root = model.program.root
    needed = ir.made_by(root.body, [loss.value for loss in model.program.losses]) | ir.made_by(
        root.body, set(ir.results(root)) - set(root.outputs)
    )
    return set(main) - needed


def _parts(model: RootWriter) -> tuple[list[ir.Node], list[ir.Node]]:
    """Nodes for the outputs, and those that only the losses need."""
    root = model.program.root
    losses = ir.made_by(root.body, [loss.value for loss in model.program.losses]) - ir.made_by(root.body, list(ir.results(root)))
    return [n for n in root.body if n not in losses], [n for n in root.body if n in losses]


# ---------------------------------------------------------------- optional inputs


def _read_in_full(model: RootWriter, main: Sequence[ir.Node]) -> set[Value]:
    """Inputs that something else than a mask reads."""
    only_masks = model.masks.only_for_masks
    read = {v for n in main if n not in only_masks for v in ir.operands(n)}
    read |= set(model.program.root.outputs)
    read |= {v for plan in model.masks.made.values() for n in plan.nodes for v in ir.operands(n) if v not in plan.inputs}
    for given in reversed(model.program.inputs):
        if given.default is not None and given.value in read:
            read |= {v for n in given.default.body for v in ir.operands(n)}
    return read


def _defaults(model: RootWriter, read: Collection[Value]) -> None:
    """`if position_ids is None: ...`, for inputs that something else than a mask reads."""
    for given in model.program.inputs:
        if given.value not in model.kept.once:
            _default(model, given, read)


def _default(model: RootWriter, given: ir.ModelInput, read: Collection[Value]) -> None:
    if given.default is None or given.value not in read:
        return
    w = model.w
    outer, w.statements = w.statements, []
    ranges, known, w.known = dict(w.ranges), w.known, None  # what the block makes, it alone has
    missing: Code = Binary("is", w.inputs[given.value], Text("None"))
    needed = given.value not in model.masks.maybe_none
    if not needed:  # with a cache, nobody reads it
        missing = Binary("and", missing, Binary("is", Text("cache"), Text("None")))
        w.ranges = {}
    w.write(given.default.body)
    value = w.read(given.default.result)
    var = w.inputs[given.value]
    code = _full_default(model, given, value)
    body = (*w.statements, Assign((var,), code))
    w.statements = [*outer, Block(missing, "if", body)]
    w.ranges, w.known = ranges, known
    if needed:
        w.optional.discard(given.value)


def _full_default(model: RootWriter, given: ir.ModelInput, value: Tensor) -> Code:
    """The default in the declared shape."""
    w, kind = model.w, given.value.type
    if given.value in model.kept.rows and given.default is not None and given.default.result.type.axes:
        kind = given.default.result.type
    decoding = model.program.decoding
    if decoding is not None:  # what later calls need is kept: only a first one is without it
        rows = {decoding.length: sym(decoding.rows)}
        kind = replace(kind, axes=tuple(replace(a, size=a.size.substitute(rows)) for a in kind.axes))
    sizes = [w.number(a.size) for a in kind.axes]
    node = given.default.body[-1] if given.default is not None and given.default.body else None
    if isinstance(node, ir.Full) and not value.layout:
        options = {"dtype": dtype_code(w, kind.dtype), "device": device(w)}
        constant = node.value.constant
        if constant in (0, 1):
            return call("torch.zeros" if constant == 0 else "torch.ones", *sizes, **options)
        return call("torch.full", Text("(" + ")"), w.number(node.value), **options)
    layout = tuple((label,) for label in kind.labels)
    code = w.spread(value, layout)
    present = {label for dim in value.layout for label in dim}
    if len(present) < len(layout):
        missing = [number(-1) if dim[0] in present else size for dim, size in zip(layout, sizes, strict=True)]
        return method(code, "expand", *missing)
    return code


# ---------------------------------------------------------------- body


def _write_main(model: RootWriter, main: Sequence[ir.Node], keep: _LastRows | None) -> None:
    write_in_turn(model.w, main, lambda nodes: _write_nodes(model, nodes, keep), model.first)


def _write_nodes(model: RootWriter, nodes: Sequence[ir.Node], keep: _LastRows | None) -> None:
    masks, w = model.masks, model.w
    for node in nodes:
        if node in masks.only_for_masks and node.outs[0] not in masks.made:
            continue
        if node.outs[0] in masks.made:
            write_mask(model, node.outs[0])
            continue
        if keep is not None and node is keep.reader:
            _write_last_rows(model, keep)
        else:
            w.write([node])


def _write_last_rows(model: RootWriter, keep: _LastRows) -> None:
    """The reader sees the value's last positions only (all of them for 0)."""
    w = model.w
    t = w.read(keep.value)
    at = next(k for k, dim in enumerate(t.layout) if dim[0] is _token_axis(model.program))
    items = (*(Range(),) * at, Range(Unary("-", Text("logits_to_keep"))))
    w.env[keep.value] = Tensor(Subscript(t.code, items), t.layout, t.sizes)
    w.write([keep.reader])
    w.env[keep.value] = t


def _write_loss(model: RootWriter, nodes: Sequence[ir.Node]) -> None:
    """With labels, the loss alone."""
    program, w = model.program, model.w
    if not program.losses:
        return
    training = [i for i in program.inputs if i.training]
    outer, w.statements = w.statements, []
    w.optional -= {i.value for i in training}
    _write_nodes(model, nodes, None)
    total: Code | None = None
    for loss in program.losses:
        code = w.read(loss.value).code
        total = code if total is None else Binary("+", total, code)
    assert total is not None
    condition, missing = ask_loss([(i.name, w.inputs[i.value]) for i in training])
    inner: tuple[Statement, ...] = (*missing, *w.statements, Return(total))
    w.statements = outer
    w.statements.append(Block(condition, "if", inner))


def _write_return(model: RootWriter, outputs: str) -> None:
    w, root = model.w, model.program.root
    codes = [w.arranged(w.read(v), tuple((label,) for label in v.type.labels)) for v in root.outputs]
    w.statements.append(Return(codes[0] if len(codes) == 1 else Call(Text(outputs), tuple(codes))))


# ---------------------------------------------------------------- logits_to_keep


def _token_axis(program: ir.Program) -> ir.Label | None:
    """The axis that the logits share with an integer input, past the first."""
    root = program.root
    if "logits" not in root.output_names:
        return None
    logits = root.outputs[root.output_names.index("logits")]
    for given in program.inputs:
        if given.value.type.dtype == "int" and given.required:
            for axis in given.value.type.axes[1:]:
                for own in logits.type.axes[1:-1]:
                    if own.label is axis.label:
                        return own.label
    return None


@frozen
class _LastRows:
    """The value of which the last positions are enough for the last logits, and what reads it on the way to them."""

    value: Value
    reader: ir.Node


def _keeps_logits(program: ir.Program, late: Collection[ir.Node] | None = None) -> _LastRows | None:
    """From where the last positions are enough: above nothing mixes tokens, nothing but the logits and losses is made of what is between, and
    (`late`) everything is still to be written."""
    axis, root = _token_axis(program), program.root
    if axis is None:
        return None
    value = root.outputs[root.output_names.index("logits")]
    made = {out: n for n in root.body for out in n.outs}
    needed = ir.made_by(root.body, list(ir.results(root)))
    found: _LastRows | None = None
    while True:
        node = made.get(value)
        readers = [n for n in root.body if n in needed and value in ir.operands(n)]
        alone = readers == ([] if found is None else [found.reader]) and list(ir.results(root)).count(value) == (found is None)
        below = _per_token(node, axis, root) if node is not None and alone and (late is None or node in late) else None
        if node is None or below is None or not below.type.has(axis):
            return found
        found, value = _LastRows(below, node), below


def _per_token(node: ir.Node, axis: ir.Label, root: ir.Module) -> Value | None:
    """The one operand that has the token axis, if the node treats tokens alike."""
    with_axis = list(dict.fromkeys(v for v in ir.operands(node) if v.type.has(axis)))
    if len(with_axis) != 1 or len(node.outs) != 1:
        return None
    match node:
        case ir.Elementwise() | ir.Cast():
            return with_axis[0]
        case ir.Einsum() if axis not in node.over:
            return with_axis[0]
        case ir.Call():
            module = node.target if isinstance(node.target, ir.Module) else root.child(node.target).module  # type: ignore[union-attr]
            formal = module.inputs[node.args.index(with_axis[0])].type
            generic = formal.has(ir.REST) and with_axis[0].type.labels.index(axis) < len(with_axis[0].type.labels) - (
                len(formal.labels) - 1
            )
            return with_axis[0] if generic else None
        case _:
            return None


__all__ = ["Attribute", "Note", "camel", "replace", "write_model"]
