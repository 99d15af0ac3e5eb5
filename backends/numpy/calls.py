"""Applying children, functions, stacks of layers and experts. A function takes the parameters of its module first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler import ir
from ...compiler.ir import Label
from ..python.bind_calls import apart_from, bind, out_layout, renamed
from ..python.code import Assign, Binary, Block, Call, Code, Each, Items, Subscript, Text, Var, call, method, number
from ..python.layouts import Layout, Tensor, relabel, sizes_of
from ..python.name_parameters import native_of
from ..python.natives import Embedding, Linear
from ..python.plan_classes import Plan
from ..python.write_body import BodyWriter
from .cache_arguments import handed_on
from .pointwise import dtype_code

PARAMS = Text("params")


def lower_call(w: BodyWriter, node: ir.Node) -> None:
    node = cast(ir.Call, node)
    if isinstance(node.target, str):
        child = w.module.child(node.target)
        assert isinstance(child, ir.Child)
        module = child.module
        params: Code | None = call("part", PARAMS, Text(f'"{node.target}"'))
    else:
        module, params = node.target, None
    if id(module) not in w.numbers.plans.by_module:
        _write_inline(w, node, module)
        return
    kind = node.target if isinstance(node.target, str) else module.name
    if w.numbers.plans.of(module).is_native:
        assert isinstance(node.target, str)
        _call_native(w, node, node.target, module)
        return
    bound = bind(w, module, node.args)
    code = applied(w, module, params, bound.args, node)
    layouts = [out_layout(w, f, a, bound) for f, a in zip(module.outputs, node.outs, strict=True)]
    if len(node.outs) == 1:
        w.define(node.out, code, layouts[0], kind=kind)
    else:
        w.define_several(node.outs, code, layouts, [f.hint or kind for f in module.outputs])


def _write_inline(w: BodyWriter, node: ir.Call, module: ir.Module) -> None:
    """A function that is called in a default only: its body, here."""
    for value, formal in zip(node.args, module.inputs, strict=True):
        t = w.read(value)
        w.see(formal)
        w.env[formal] = Tensor(t.code, relabel(t.layout, value.type.labels, formal.type.labels), sizes_of(formal.type))
    w.write(module.body)
    for out, formal in zip(node.outs, module.outputs, strict=True):
        t = w.read(formal)
        w.env[out] = Tensor(t.code, relabel(t.layout, formal.type.labels, out.type.labels), sizes_of(out.type))


def applied(w: BodyWriter, module: ir.Module, params: Code | None, args: Sequence[Code], node: ir.Node | None = None) -> Code:
    """`gated(part(params, "ffn"), x, config)`."""
    plan = w.numbers.plans.of(module)
    if plan.is_native:
        return native(module, params, args[0])
    used = getattr(w.numbers, "used", {})[plan.name]
    numbers = [w.number(e) for n, e in w.numbers.plans.arguments(module) if n in used]
    own = [] if plan.is_function or params is None else [params]
    config = [Text("config")] if plan.takes_config and "config" in used else []
    return Call(Text(plan.name), (*own, *args, *_memory(w, module, params), *_cached(w, plan, module, params, node), *numbers, *config))


def _memory(w: BodyWriter, module: ir.Module, params: Code | None) -> tuple[Code, ...]:
    """The memory of the whole model, and where the module stands in it, for a module that keeps some."""
    if not keeps_state(module):
        return ()
    if not isinstance(params, Call) or params.function != Text("part") or not isinstance(params.args[1], Text):
        w.refuse("a memory inside experts or a scan")
    name = params.args[1].text
    return Text("state"), Text(name if w.numbers.is_root else f'f"{{path}}.{name[name.index(chr(34)) + 1 :]}')


def _cached(w: BodyWriter, plan: Plan, module: ir.Module, params: Code | None, node: ir.Node | None) -> tuple[Code, ...]:
    name = plan.name
    if isinstance(params, Call) and params.function == Text("part") and isinstance(params.args[1], Text):
        name = params.args[1].text.removeprefix("f").strip('"')
    return handed_on(w, module, node, name)


def keeps_state(module: ir.Module) -> bool:
    return any(m.states for m in ir.walk(module))


def native(module: ir.Module, params: Code | None, x: Code) -> Code:
    """A module that is a matrix product or a table of rows."""
    assert params is not None
    match native_of(module):
        case Linear(bias=bias):
            return call("affine" if bias is not None else "linear", params, x)
        case Embedding():
            (start, name) = params.args if isinstance(params, Call) else (params, None)
            if isinstance(name, Text) and params.function == Text("part") and start == PARAMS:  # type: ignore[union-attr]
                return Subscript(Subscript(PARAMS, (Text(f'{name.text[:-1]}.weight"'),)), (x,))
            return Subscript(Subscript(params, (Text('"weight"'),)), (x,))
        case _:
            raise AssertionError(module.name)


def _call_native(w: BodyWriter, node: ir.Call, name: str, module: ir.Module) -> None:
    """Native modules act on the last dimension and leave the others as they lie."""
    t = w.read(node.args[0])
    labels, outs = node.args[0].type.labels, node.out.type.labels
    params = call("part", PARAMS, Text(f'"{name}"'))
    match native_of(module):
        case Linear() as found:
            inside = labels[len(labels) - len(found.inside) :]
            rest = tuple(d for d in apart_from(t.layout, set(inside)) if not set(d) & set(inside))
            code = w.arranged(t, (*rest, inside))
            layout: Layout = (*renamed(rest, labels, outs), outs[len(outs) - len(found.outside) :])
        case Embedding() as found:
            code, layout = t.code, (*renamed(t.layout, labels, outs), outs[len(outs) - len(found.outside) :])
        case _:
            raise AssertionError(module.name)
    w.define(node.out, native(module, params, code), layout, kind=name)


# ---------------------------------------------------------------- experts


def lower_route(w: BodyWriter, node: ir.Node) -> None:
    """Every expert on everything, weighed by what chose it: plain rather than fast."""
    node = cast(ir.Route, node)
    bank = w.module.child(node.target)
    assert isinstance(bank, ir.Bank)
    given, layout = _routed(w, node, bank.module)
    args = tuple(a if isinstance(a, Var) else w.temporary(a, "x") for a in given)
    index, weight = w.apart(w.read(node.index), node.choice), w.apart(w.read(node.weight), node.choice)
    kept = tuple(dim for dim in layout if any(label in (*index.labels, *weight.labels) for label in dim))
    gates = (*kept, (node.choice,))
    chosen = [w.spread(t, gates) for t in (index, weight)]
    chosen = [c if isinstance(c, Var) else w.temporary(c, kind) for c, kind in zip(chosen, ("index", "weight"), strict=True)]
    total, gate = Var(hint=node.out.hint or "total"), Var(kind="gate")
    start: Code = call("np.zeros", (Items(())), dtype_code(w, node.out.type.dtype))
    expert = call("member", call("part", PARAMS, Text(f'"{node.target}"')), Text("expert"))
    picked = call("np.where", Binary("==", chosen[0], Text("expert")), chosen[1], number(0))
    code = applied(w, bank.module, expert, args)
    term = Binary("*", w.spread(Tensor(gate, kept), layout), code)
    body = (Assign((gate,), method(picked, "sum", number(-1))), Assign((total,), Binary("+", total, term)))
    w.statements.append(Assign((total,), start))
    w.statements.append(Block(call("range", w.number(bank.axis.size)), "for expert in", body, loop=True))
    w.env[node.out] = Tensor(total, layout, sizes_of(node.out.type))


def _routed(w: BodyWriter, node: ir.Route, module: ir.Module) -> tuple[Sequence[Code], Layout]:
    """Arguments of an expert and the layout of its result; a bare linear map works on merged dimensions."""
    found = native_of(module) if w.numbers.plans.of(module).is_native else None
    if not isinstance(found, Linear):
        bound = bind(w, module, (node.x, *node.args))
        return bound.args, out_layout(w, module.outputs[0], node.out, bound)
    labels, outs = node.x.type.labels, node.out.type.labels
    cut = len(labels) - len(found.inside)
    outside = len(outs) - len(found.outside)
    code = w.arranged(w.read(node.x), (*((label,) for label in labels[:cut]), labels[cut:]))
    return (code,), (*((label,) for label in outs[:outside]), outs[outside:])


def lower_pairwise(w: BodyWriter, node: ir.Node) -> None:
    """Expert e on slice e, stacked in front."""
    node = cast(ir.Pairwise, node)
    bank = w.module.child(node.target)
    assert isinstance(bank, ir.Bank)
    label = bank.axis.label
    if len(node.outs) != 1:
        w.refuse("a bank with several results")
    args: list[Code] = []
    for value in node.args:
        rest = tuple((x,) for x in value.type.labels if x is not label)
        if not value.type.has(label):
            args.append(_name(w, w.arranged(w.read(value), rest)))
            continue
        args.append(Subscript(_name(w, w.arranged(w.read(value), ((label,), *rest))), (Text("expert"),)))
    expert = call("member", _name(w, call("part", PARAMS, Text(f'"{node.target}"')), node.target), Text("expert"))
    inner = _merged(bank.module, args, node, label, w)
    code, layout = applied(w, bank.module, expert, inner[0]), inner[1]
    made = Each(code, "expert", call("range", w.number(bank.axis.size)))
    w.define(node.out, call("np.stack", Items((made,), square=True)), ((label,), *layout))


def _merged(module: ir.Module, args: list[Code], node: ir.Pairwise, label: Label, w: BodyWriter) -> tuple[list[Code], Layout]:
    """Arguments and the layout of a result; a bare linear map works on merged dimensions."""
    labels = tuple(x for x in node.out.type.labels if x is not label)
    found = native_of(module) if w.numbers.plans.of(module).is_native else None
    if not isinstance(found, Linear):
        return args, tuple((x,) for x in labels)
    if len(found.inside) > 1:
        args = [call("flatten", args[0], number(-len(found.inside)), number(-1))]
    cut = len(labels) - len(found.outside)
    return args, (*((x,) for x in labels[:cut]), labels[cut:])


def _name(w: BodyWriter, code: Code, kind: str = "x") -> Code:
    return code if isinstance(code, Var) else w.temporary(code, kind)
