"""One function of the file for each class of modules, and `forward` for the model, as views for the template."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import field

from ...compiler import ir
from ...compiler.dims import Expr, sym
from ...compiler.ir import Value
from ...grammar.frozen import frozen, mutable
from ..python.ask_loss import ask_loss
from ..python.code import (
    Assign,
    Attribute,
    Binary,
    Block,
    Call,
    Choice,
    Code,
    Items,
    Return,
    Statement,
    Store,
    Subscript,
    Text,
    Var,
    binary,
    call,
    lines,
    number,
)
from ..python.docstring import docstring
from ..python.fold_values import fold_values, trim_notes
from ..python.layouts import Layout, Tensor, sizes_of
from ..python.length_checks import length_checks
from ..python.name_variables import name_variables
from ..python.plan_classes import Plan, Plans
from ..python.prepare_masks import Masks
from ..python.write_body import BodyWriter, Numbers
from .cache_arguments import CACHE, NONE, aside
from .cache_arguments import arguments as cache_arguments
from .calls import keeps_state
from .lowerings import LOWERINGS
from .moves import NumpyMoves
from .pointwise import FunctionWriter, full


def _local(module: ir.Module) -> set[str]:
    """Names that a function uses besides its variables."""
    found = {"params", "config", "state", "path", "cache"}
    if any(isinstance(n, ir.Fold) for n in module.body):
        found.add("i")
    if any(isinstance(n, ir.Route | ir.Pairwise) for n in module.body):
        found.add("expert")
    return found


@mutable
class FunctionNumbers(Numbers):
    """Numbers in a function: its own arguments by name, the rest from `config`. `used`: of the functions written so far, by their names in
    the plan, which of these arguments their bodies read."""

    used: dict[str, set[str]] = field(default_factory=dict)

    def forward(self, expr: Expr, name: str = "") -> Code:
        constant = expr.constant
        if constant is not None:
            value = expr.value()
            assert value is not None
            return number(value)
        return self.plans.static(self.plan, expr, Text, Text("config"))


@frozen(kw_only=True)
class FunctionView:
    """Ready lines of source: the signature and the body."""

    doc: str
    signature: list[str]
    body: list[str]


def signature_lines(start: str, arguments: list[str], result: str) -> list[str]:
    """A `def`, wrapped as the formatter does."""
    flat = f"{start}({', '.join(arguments)}) -> {result}:"
    if len(flat) <= 120:
        return [flat]
    joined = f"    {', '.join(arguments)}"
    if len(joined) <= 120:
        return [f"{start}(", joined, f") -> {result}:"]
    return [f"{start}(", *(f"    {a}," for a in arguments), f") -> {result}:"]


def write_function(plan: Plan, plans: Plans, reserved: Collection[str], used: dict[str, set[str]]) -> FunctionView:
    """The function of a class, once those that it calls are written; `used` learns which numbers it reads."""
    module = plan.first
    w = _writer(module, FunctionNumbers(plans, plan, is_root=False, used=used))
    _states(w)
    if cache_arguments(plan, plans.program):
        _measure(w, plans.program)
    w.write(module.body)
    outs = [w.arranged(w.read(v), _apart(v)) for v in module.outputs]
    _next_states(w)
    w.statements.append(Return(outs[0] if len(outs) == 1 else Items(tuple(outs))))
    taken = {*reserved, *_local(module), *(n for n, _ in plan.numbers)}
    body, names = _finish(w, taken, {})
    words = set(re.findall(r"\w+", "\n".join(line.split("  # ")[0] for line in body)))
    used[plan.name] = words & {"config", *(n for n, _ in plan.numbers)}
    explicit = [f"{n}: {'float' if v[0].is_real else 'int'}" for n, v in plan.numbers if n in words]
    own = [] if plan.is_function else ["params: Params"]
    config = ["config: Config"] if plan.takes_config and "config" in words else []
    memory = ["state: Params", "path: str"] if keeps_state(module) else []
    cached = cache_arguments(plan, plans.program)
    arguments = [*own, *(f"{names[w.inputs[v]]}: Array" for v in module.inputs), *memory, *cached, *explicit, *config]
    count = len(module.outputs)
    result = "Array" if count == 1 else f"tuple[{', '.join(['Array'] * count)}]"
    doc = docstring(module.doc)
    return FunctionView(doc=doc, signature=signature_lines(f"def {plan.name}", arguments, result), body=body)


def _writer(module: ir.Module, numbers: FunctionNumbers) -> FunctionWriter:
    w = FunctionWriter(module=module, numbers=numbers, moves=NumpyMoves(), lower=LOWERINGS)
    w.start()
    for param in module.params:
        w.see(param.value)
        w.env[param.value] = Tensor(Subscript(Text("params"), (Text(f'"{param.name}"'),)), _apart(param.value), sizes_of(param.type))
    return w


def _states(w: FunctionWriter) -> None:
    """`past = state.get(f"{path}.past", np.zeros(...))`: what was carried here, or how it starts."""
    for state in w.module.states:
        kind = state.value.type
        sizes = [w.number(a.size) for a in kind.axes]
        last = state.initial.body[-1] if state.initial.body else None
        if isinstance(last, ir.Full) and last.out is state.initial.result:
            start = full(w, sizes, last.value, kind.dtype)
        else:
            w.write(state.initial.body)
            start = w.spread(w.read(state.initial.result), _apart(state.value))
            start = call("np.broadcast_to", start, Items(tuple(sizes)))
        var = Var(hint=state.name)
        w.statements.append(Assign((var,), call("state.get", _state_key(w, state), start)))
        w.env[state.value] = Tensor(var, _apart(state.value), sizes_of(kind))


def _next_states(w: FunctionWriter) -> None:
    for state in w.module.states:
        code = w.arranged(w.read(state.next), _apart(state.next))
        w.statements.append(Store(Subscript(Text("state"), (_state_key(w, state),)), code))


def _state_key(w: FunctionWriter, state: ir.State) -> Code:
    return Text(f'"{state.name}"' if w.numbers.is_root else f'f"{{path}}.{state.name}"')


def _apart(value: Value) -> Layout:
    return tuple((label,) for label in value.type.labels)


def _finish(w: BodyWriter, reserved: Collection[str], given: dict[Var, str]) -> tuple[list[str], dict[Var, str]]:
    """Shapes read once at the top, values folded, names given."""
    inputs = tuple(w.inputs.values())
    statements = trim_notes(fold_values((*w.shape_statements(), *w.statements), inputs, 4))
    taken: dict[Var, str] = dict(given)
    for var in inputs:
        if var not in taken:
            name, k = var.hint, 2
            while name in taken.values() or name in reserved:
                name, k = f"{var.hint}{k}", k + 1
            taken[var] = name
    names = name_variables(statements, taken, reserved)
    return lines(statements, names.__getitem__, 4), names


# ---------------------------------------------------------------- the model


def write_forward(
    program: ir.Program, plan: Plan, plans: Plans, masks: Masks, reserved: Collection[str], outputs: str, used: dict[str, set[str]]
) -> FunctionView:
    """`forward(params, input_ids, attention_mask=None, ..., config=Config())`: optional inputs first get their defaults."""
    root = program.root
    w = _writer(root, FunctionNumbers(plans, plan, is_root=True, used=used))
    w.order = tuple(label for made in masks.made for label in made.type.labels)
    w.optional = {i.value for i in program.inputs if not i.required}
    for item in program.inputs:
        w.inputs[item.value] = var = Var(hint=item.name)
        w.env[item.value] = Tensor(var, _apart(item.value), sizes_of(item.value.type))
    only_losses = ir.made_by(root.body, [loss.value for loss in program.losses]) - ir.made_by(root.body, list(ir.results(root)))
    for item in program.inputs:
        if item.default is not None:
            _default(w, item)
    if keeps_state(root):
        w.statements.append(Block(Text("state is None"), "if", (Store(Text("state"), Text("{}")),)))
    _states(w)
    _measure(w, program)
    undecoded = [n for n in root.body if n not in only_losses and aside(w, n)]
    for node in (n for n in root.body if n not in only_losses and n not in undecoded):
        _write(w, node, masks)
    _next_states(w)
    _losses(w, program, masks, only_losses | (ir.made_by(root.body, [loss.value for loss in program.losses]) & set(undecoded)))
    codes = _outputs(w, program, masks, undecoded)
    w.statements = [*length_checks(w, program), *w.statements]
    w.statements.append(Return(codes[0] if len(codes) == 1 else Call(Text(outputs), tuple(codes))))
    body, _ = _finish(w, {*reserved, *_local(root)}, {w.inputs[i.value]: i.name for i in program.inputs})
    ordered = sorted(program.inputs, key=lambda i: not i.required)
    arguments = [f"{i.name}: Array" if i.required else f"{i.name}: Array | None = None" for i in ordered]
    if returns_loss(program):
        arguments.append("return_loss: bool = False")
    if keeps_state(root):
        arguments.append("state: Params | None = None")
    if program.decoding is not None:
        arguments.append("cache: Cache | None = None")
    result = outputs or "Array"
    if program.losses and outputs:
        result += " | Array"
    signature = signature_lines("def forward", ["params: Params", *arguments, "config: Config = Config()"], result)
    return FunctionView(doc=docstring(root.doc), signature=signature, body=body)


def _measure(w: BodyWriter, program: ir.Program) -> None:
    """The number of all tokens so far, where that of this call is known: those before, and these."""
    decoding = program.decoding
    if decoding is not None and any(decoding.rows in a.size.symbols for v in w.inputs for a in v.type.axes):
        w.dynamic[sym(decoding.length)] = Binary("+", call("before", CACHE), w.number(sym(decoding.rows)))


def _outputs(w: BodyWriter, program: ir.Program, masks: Masks, undecoded: Sequence[ir.Node]) -> list[Code]:
    """With a cache its position moves on, and what is not decoded is none."""
    outputs, decoding = program.root.outputs, program.decoding
    if decoding is None:
        return [w.arranged(w.read(v), _apart(v)) for v in outputs]
    found: dict[int, Code] = {}
    made = {v for n in undecoded for v in n.outs}
    for k, value in enumerate(outputs):
        if value not in made:
            code = w.arranged(w.read(value), _apart(value))
            found[k] = code if k in decoding.outputs else Choice(Binary("is", CACHE, NONE), code, NONE)
    outer, w.statements = w.statements, []
    for node in undecoded:
        _write(w, node, masks)
    variables = {k: Var(hint=v.hint, kind="y") for k, v in enumerate(outputs) if v in made}
    w.statements += [Assign((var,), w.arranged(w.read(outputs[k]), _apart(outputs[k]))) for k, var in variables.items()]
    inside, w.statements = tuple(w.statements), outer
    position = Attribute(CACHE, "position")
    later: tuple[Statement, ...] = (
        *(Assign((var,), NONE) for var in variables.values()),
        Store(position, Binary("+", position, w.number(sym(decoding.rows)))),
    )
    if inside:
        w.statements += [Block(Binary("is", CACHE, NONE), "if", inside), Block(Text(""), "else", later)]
    else:
        w.statements.append(Block(Binary("is not", CACHE, NONE), "if", later))
    return [(found | variables)[k] for k in range(len(outputs))]


def returns_loss(program: ir.Program) -> bool:
    """Whether `return_loss` asks for the loss: nothing that is left out at other times says so."""
    return bool(program.losses) and not any(i.training for i in program.inputs)


def _write(w: BodyWriter, node: ir.Node, masks: Masks) -> None:
    """A node of the model; a mask for all layers is brought into the shape that they ask for."""
    plan = masks.made.get(node.outs[0])
    if plan is None:
        w.write([node])
        return
    layout = _apart(node.outs[0])
    codes = [w.spread(w.read(v), layout) for v in (*plan.always, *plan.given)]
    w.define(node.outs[0], binary("&", *codes), layout, kind="mask")


def _default(w: BodyWriter, item: ir.ModelInput) -> None:
    """`if position_ids is None: ...`, in the declared shape."""
    assert item.default is not None
    kind, var = item.value.type, w.inputs[item.value]
    sizes = [w.number(a.size) for a in kind.axes]
    outer, w.statements = w.statements, []
    last = item.default.body[-1] if item.default.body else None
    if isinstance(last, ir.Full) and len(item.default.body) == 1 and not last.out.type.axes:
        code = full(w, sizes, last.value, kind.dtype)
    else:
        w.write(item.default.body)
        found = w.read(item.default.result)
        code = w.spread(found, _apart(item.value))
        if set(found.labels) != set(kind.labels):
            code = call("np.broadcast_to", code, Items(tuple(sizes)))
    body = (*w.statements, Assign((var,), code))
    w.statements = [*outer, Block(Binary("is", var, Text("None")), "if", body)]
    w.optional = w.optional - {item.value}


def _losses(w: BodyWriter, program: ir.Program, masks: Masks, nodes: Collection[ir.Node]) -> None:
    """With labels, or if `return_loss`, the loss alone."""
    if not program.losses:
        return
    training = [i for i in program.inputs if i.training]
    outer, w.statements = w.statements, []
    w.optional = w.optional - {i.value for i in training}
    env = dict(w.env)
    for node in (n for n in program.root.body if n in nodes):
        _write(w, node, masks)
    codes = [w.read(loss.value).code for loss in program.losses]
    total = codes[0]
    for code in codes[1:]:
        total = Binary("+", total, code)
    asked, missing = ask_loss([(i.name, w.inputs[i.value]) for i in training])
    body = (*missing, *w.statements, Return(total))
    w.env = env
    w.statements = [*outer, Block(asked, "if", body)]
