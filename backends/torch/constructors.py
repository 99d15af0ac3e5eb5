"""`__init__`: one line a layer, in the order of the spec, widths as products of symbols."""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler import ir
from ...compiler.dims import ONE
from ..python.choose_slots import choose_by_slot
from ..python.code import Attribute, Call, Choice, Code, Each, Items, Text, Unary, Var, call, lines, method, number, wrap
from ..python.find_classes import sees_rows
from ..python.name_parameters import native_of
from ..python.natives import Embedding, Fused, Linear, Norm
from ..python.write_body import Numbers


def constructor_lines(module: ir.Module, numbers: Numbers, helpers: set[str]) -> list[str]:
    """The body of `__init__` after the numbers kept for methods, in the order parameters, children."""
    found: list[str] = []
    for param in module.params:
        found += param_lines(param, numbers)
    for child in module.children:
        found += _child_lines(child, numbers)
    return found


def _line(name: str, code: Code) -> list[str]:
    return wrap(f"self.{name} = ", code, _no_variables, 8)


def _no_variables(v: Var) -> str:
    return v.hint


def _child_lines(child: ir.Child | ir.Stack | ir.Bank, numbers: Numbers) -> list[str]:
    match child:
        case ir.Child(name=name, module=module):
            if numbers.plans.of(module).is_function:
                return []
            return _line(name, construct(module, numbers))
        case ir.Stack(name=name):
            return _line(name, call("nn.ModuleList", _stack(child, numbers)))
        case ir.Bank(name=name, module=module, axis=axis):
            native = native_of(module)
            if isinstance(native, Linear) and numbers.plans.of(module).is_native:
                return _line(name, grouped_linear(native, axis, numbers))
            made = construct(module, numbers)
            if sees_rows(module):
                return _line(name, made)
            numbers.helpers |= {"stacked"}
            return _line(name, call("stacked", Items((Each(made, "_", call("range", numbers.init(axis.size))),), square=True)))


def _stack(stack: ir.Stack, numbers: Numbers) -> Code:
    made = [construct(m, numbers) for m, _ in stack.slots]
    if len(set(made)) == 1:
        return Each(made[0], "_", call("range", numbers.init(stack.count)))
    if stack.cycle:
        chosen = choose_by_slot(stack, made, Text("i"), numbers.init)
        item = made[chosen[-1][1]]
        for condition, slot in reversed(chosen[:-1]):
            assert condition is not None
            item = Choice(condition, made[slot], item)
        return Each(item, "i", call("range", numbers.init(stack.count)))
    parts: list[Code] = []
    for code, (_, count) in zip(made, stack.slots, strict=True):
        parts.append(code if count == ONE else Unary("*", Text(f"({_text(Each(code, '_', call('range', numbers.init(count))))})")))
    return Items(tuple(parts), square=True)


def _text(code: Code) -> str:
    from ..python.code import render

    return render(code, _no_variables)


def construct(module: ir.Module, numbers: Numbers) -> Code:
    """`Attention(config)`, `nn.Linear(config.d_model, config.hidden, bias=False)`."""
    plan = numbers.plans.of(module)
    fused = numbers.plans.fused_of(module)
    if fused is not None:
        return fused_linear(fused, numbers)
    native = native_of(module) if plan.is_native else None
    if numbers.plan.of.bank is not None and isinstance(native, Linear):
        return grouped_linear(native, numbers.plan.of.bank, numbers)
    match native:
        case Linear():
            named: dict[str, Code] = {} if native.bias is not None else {"bias": Text("False")}
            return call("nn.Linear", numbers.init(native.size_in), numbers.init(native.size_out), **named)
        case Embedding():
            return call("nn.Embedding", numbers.init(native.rows), numbers.init(native.width))
        case Norm():
            return call(f"nn.{native.kind}", numbers.init(native.size), eps=numbers.init(native.eps), **_no_bias(native))
        case None:
            return Call(Text(plan.name), _arguments(module, numbers))


def grouped_linear(native: Linear, bank: ir.Axis, numbers: Numbers) -> Call:
    """A linear map for each expert."""
    init = native.weight.init
    numbers.helpers |= {"grouped_linear"}
    named = {"std": numbers.init(init.numbers[0])} if init.kind == "normal" else {}
    sizes = [numbers.init(n) for n in (bank.size, native.size_in, native.size_out)]
    return call("GroupedLinear", *sizes, bias=Text(str(native.bias is not None)), **named)


def fused_linear(fused: Fused, numbers: Numbers) -> Code:
    """`FusedLinear(config.d_model, bias=False, q_proj=config.d_model, k_proj=..., v_proj=...)`."""
    sizes = tuple((name, numbers.init(part.size_out)) for name, part in fused.parts.items())
    size_in, bank = numbers.init(fused.whole.size_in), numbers.plan.of.bank
    if bank is None:
        numbers.helpers |= {"fused_linear"}
        return Call(Text("FusedLinear"), (size_in,), (("bias", Text(str(fused.whole.bias is not None))), *sizes))
    made = grouped_linear(fused.whole, bank, numbers)
    numbers.helpers |= {"fused_grouped_linear"}
    return Call(Text("FusedGroupedLinear"), made.args[:2], (*made.named, *sizes))


def _no_bias(norm: Norm) -> dict[str, Code]:
    return {"bias": Text("False")} if norm.kind == "LayerNorm" and norm.bias is None else {}


def _arguments(module: ir.Module, numbers: Numbers) -> tuple[Code, ...]:
    config = (Text("config"),) if numbers.plans.of(module).takes_config else ()
    return (*config, *(numbers.init(e) for _, e in numbers.plans.arguments(module)))


# ---------------------------------------------------------------- parameters


def param_lines(param: ir.Param, numbers: Numbers) -> list[str]:
    bank = numbers.plan.of.bank
    sizes = [numbers.init(a.size) for a in ((bank,) if bank is not None else ()) + param.type.axes]
    if param.init.table is not None:
        return _table_lines(param, param.init.table, numbers)
    value = initial(param.init, sizes, param, numbers)
    if param.trainable:
        line = _line(param.name, call("nn.Parameter", value))
        if len(line) > 1 and isinstance(value, Call) and isinstance(value.function, Attribute) and value.function.name.endswith("_"):
            drawn = Call(Text(f"nn.init.{value.function.name}"), (Text(f"self.{param.name}"), *value.args), value.named)
            return _line(param.name, call("nn.Parameter", value.function.value)) + wrap("", drawn, _no_variables, 8)
        return line
    return wrap("", call("self.register_buffer", Text(f'"{param.name}"'), value), _no_variables, 8)


def _table_lines(param: ir.Param, region: ir.Region, numbers: Numbers) -> list[str]:
    """A fixed table: what no checkpoint holds is computed when the model is built."""
    from .tables import table_code

    statements, value, names = table_code(region, numbers, param)
    if any(isinstance(n, ir.Expand) for n in region.body):
        value = method(value, "clone")  # no shared memory
    found = lines(statements, names.__getitem__, 8)
    if param.trainable:
        return found + wrap(f"self.{param.name} = ", call("nn.Parameter", value), names.__getitem__, 8)
    kept = {} if param.stored else {"persistent": Text("False")}
    return found + wrap("", call("self.register_buffer", Text(f'"{param.name}"'), value, **kept), names.__getitem__, 8)


def initial(init: ir.Init, sizes: Sequence[Code], param: ir.Param, numbers: Numbers) -> Code:
    """A tensor as the spec starts it; on the meta device it has only its shape."""
    a = [numbers.init(n) for n in init.numbers]
    shape: tuple[Code, ...] = tuple(sizes) if sizes else (Items(()),)
    options = (
        {"dtype": Text("torch.long")} if param.type.dtype == "int" else {"dtype": Text("torch.bool")} if param.type.dtype == "bool" else {}
    )
    match init.kind:
        case "zeros":
            return call("torch.zeros", *shape, **options)
        case "ones":
            return call("torch.ones", *shape, **options)
        case "constant":
            value = init.numbers[0]
            if not (options or value.is_real):  # a whole number would make a tensor of ints
                a[0] = call("float", a[0]) if value.constant is None else number(float(value.constant))
            return call("torch.full", Items(tuple(sizes)), a[0], **options)
        case "normal":
            return method(call("torch.empty", *shape), "normal_", std=a[0])
        case "uniform":
            return method(call("torch.empty", *shape), "uniform_", *a)
        case "table":
            raise AssertionError("a table has lines of its own")
