"""The classes of the cache, and the methods that make them."""

from __future__ import annotations

from collections.abc import Sequence

from ....compiler import ir
from ....compiler.dims import Expr
from ....compiler.ir import Module
from ....grammar.frozen import frozen
from ...python.choose_slots import choose_by_slot
from ...python.code import Attribute, Call, Choice, Code, Each, Items, Text, Var, call, method, number, wrap
from ...python.layouts import place
from ...python.plan_classes import Plan, Plans, camel
from ...python.write_body import BodyWriter, Kept, Numbers
from ..states import likeness
from .limits import cache_limit
from .parts import NONE, Part, fields_of, grows, keeps, part_type, parts, passes, starts_empty, window_of
from .prepare import KeptInputs
from .slot_tables import kept_tables, made_tables

LENGTH, WINDOW, LIKE = Text("max_length"), Text("window"), Text("like")


@frozen
class CacheView:
    """A class of the cache, as the template places it."""

    name: str
    doc: str
    fields: list[str]


def _hint(var: Var) -> str:
    return var.hint


def owns_class(module: Module) -> bool:
    return keeps(module) and passes(module) is None


# ---------------------------------------------------------------- a module's own class


def class_view(w: BodyWriter, plan: Plan, helpers: set[str]) -> CacheView | None:
    """What one application of a module keeps."""
    module, plans = w.module, w.numbers.plans
    if not owns_class(module):
        return None
    return CacheView(f"{camel(plan.name)}Cache", f"What {plan.name} keeps of the tokens so far.", _fields(w, plans, helpers))


def _fields(w: BodyWriter, plans: Plans, helpers: set[str]) -> list[str]:
    found: list[str] = []
    for name, kept in w.kept.items():
        note = f"  # {w.shape_note(kept.layout, {a.label: a.size for a in kept.type.axes})}"
        match kept.kind:
            case "rows":
                found.append(f"{name}: Rows{note}")
            case "state":
                found.append(f"{name}: Tensor{note}")
            case "once":
                found.append(f"{name}: Tensor = field(init=False){note}")
            case "tables":
                found.append(f"{name}: tuple[Tensor, ...]  # of every slot: {', '.join(_table_names(w))}")
    return found + [f"{n}: {part_type(p, plans)}" for n, p in zip(fields_of(w.module), parts(w.module), strict=True)]


def _table_names(w: BodyWriter) -> list[str]:
    kept = [w.env[n.out].code for n in kept_tables(w.module)]
    return [code.hint for code in kept if isinstance(code, Var)]


def init_method(w: BodyWriter, plan: Plan, plans: Plans, helpers: set[str]) -> list[str]:
    """`init_cache` of a module with a class of its own."""
    module = w.module
    if not owns_class(module) or starts_empty(module):
        return []
    windows = {window_of(use) is not None for use in plan.of.uses}
    arguments = ["self", "batch_size: int", *_parameters(plan), "like: Tensor"]
    lines: list[str] = []
    rows: Code = Text("Rows")
    length: Code = LENGTH
    if any(isinstance(n, ir.Keep) and n.window is not None for u in plan.of.uses for n in u.body):
        rows, length = (Text("rows"), Text("length")) if len(windows) > 1 else (Text("Ring"), WINDOW)
        helpers.add("Ring")
    if len(windows) > 1 and rows == Text("rows"):
        lines.append("        rows, length = (Rows, max_length) if window is None else (Ring, window)")
    made: dict[str, Code] = {}
    for name, kept in w.kept.items():
        ring = any(isinstance(n, ir.Keep) and n.window is not None and n.entry == name for u in plan.of.uses for n in u.body)
        if kept.kind == "tables":
            made[name] = made_tables(module)
        elif kept.kind != "once":
            made[name] = _started(w, kept, rows if ring else Text("Rows"), length if ring else LENGTH, helpers)
    made |= {n: made_part(p, Text("self"), w.numbers, False) for n, p in zip(fields_of(module), parts(module), strict=True)}
    lines += wrap("return ", Call(Text(f"{camel(plan.name)}Cache"), (), tuple(made.items())), _hint, 8)
    return [f"    def init_cache({', '.join(arguments)}) -> {camel(plan.name)}Cache:", *lines]


def _parameters(plan: Plan) -> list[str]:
    windows = {window_of(use) is not None for use in plan.of.uses}
    found = ["max_length: int"] if any(grows(use) for use in plan.of.uses) or len(windows) > 1 else []
    if True in windows:
        found.append("window: int" if len(windows) == 1 else "window: int | None")
    return found


def _of_type(dtype: ir.DType) -> dict[str, Code]:
    """Beside `like`, which has the type of the model's floats."""
    match dtype:
        case "int":
            return {"dtype": Text("torch.long")}
        case "bool":
            return {"dtype": Text("torch.bool")}
        case "float32":
            return {"dtype": call("torch.promote_types", Attribute(LIKE, "dtype"), Text("torch.float32"))}
        case "float":
            return {}


def _started(w: BodyWriter, kept: Kept, rows: Code, length: Code, helpers: set[str]) -> Code:
    sizes: list[Code] = []
    for dim in kept.layout:
        if dim == (kept.over,):
            sizes.append(length)
        elif len(dim) == 1 and kept.type.axis(dim[0]).size.is_dynamic:
            sizes.append(Text("batch_size"))
        else:
            total = ir_product([kept.type.axis(x).size for x in dim])
            sizes.append(w.number(total))
    named = _of_type(kept.type.dtype)
    if kept.start.constant == 0:
        code = method(LIKE, "new_zeros", *sizes, **named)
    else:
        code = method(LIKE, "new_full", Items(tuple(sizes)), w.number(kept.start), **named)
    if kept.kind == "rows":
        helpers.add("Rows")
        assert kept.over is not None
        along = place(kept.layout, kept.over)
        return call(rows, code, **({} if along == 1 else {"dim": number(along)}))
    return code


def ir_product(sizes: Sequence[Expr]) -> Expr:
    total = sizes[0]
    for size in sizes[1:]:
        total = total * size
    return total


# ---------------------------------------------------------------- what owners make of their parts


def made_part(part: Part, path: Code, numbers: Numbers, owns_windows: bool) -> Code:
    """The empty cache of a part: its own `init_cache`, or a list of its layers'."""
    place = Attribute(path, part.node.target if isinstance(part.node.target, str) else part.name)
    if not part.is_stack:
        return _made(part.modules[0], place, numbers, owns_windows)
    owner = next(m for m in ir.walk(numbers.plans.program.root) if part.node in m.body)
    stack = owner.child(str(part.node.target))
    assert isinstance(stack, ir.Stack)
    codes = [_made(m, Text("layer"), numbers, owns_windows=True) if keeps(m) else NONE for m in part.modules]
    names = list(dict.fromkeys(numbers.plans.of(m).name for m in part.modules))
    kinds = [next(c for c, m in zip(codes, part.modules, strict=True) if numbers.plans.of(m).name == n) for n in names]
    condition = _is(*names)
    if all(c == kinds[names.index(numbers.plans.of(m).name)] for c, m in zip(codes, part.modules, strict=True)):
        item = kinds[-1]
        for name, code in reversed([*zip(names, kinds, strict=True)][:-1]):
            item = code if code == item else Choice(_is(name), code, item)
        return Items((Each(item, "layer", place, condition),), square=True)
    item = _same_but_last(codes, choose_by_slot(stack, codes, Text("i"), numbers.forward))
    return Items((Each(item, "i, layer", call("enumerate", place), condition),), square=True)


def _is(*names: str) -> Code:
    """Of which class a layer is, for type checkers too."""
    return call("isinstance", Text("layer"), Text(" | ".join(names)))


def _same_but_last(codes: Sequence[Code], chosen: Sequence[tuple[Code | None, int]]) -> Code:
    """One call whose arguments depend on the layer, or else a choice of calls."""
    first = codes[chosen[0][1]]
    last, test = codes[chosen[-1][1]], chosen[0][0]
    if isinstance(first, Call) and isinstance(last, Call) and len(chosen) == 2 and test is not None and _alike(first, last):
        args = tuple(a if a == b else Choice(test, a, b) for a, b in zip(first.args, last.args, strict=True))
        return Call(first.function, args)
    item = codes[chosen[-1][1]]
    for condition, slot in reversed(chosen[:-1]):
        assert condition is not None
        item = Choice(condition, codes[slot], item)
    return item


def _alike(one: Call, other: Call) -> bool:
    return one.function == other.function and len(one.args) == len(other.args)


def _made(module: Module, path: Code, numbers: Numbers, owns_windows: bool) -> Code:
    """`owns_windows`: what makes it knows the windows of its rings, as the owner of a stack and the model do; else it was told."""
    inner = passes(module)
    if inner is not None:
        return made_part(inner, path, numbers, owns_windows)
    plan = numbers.plans.of(module)
    if starts_empty(module):
        return Call(Text(f"{camel(plan.name)}Cache"))
    args: list[Code] = [Text("batch_size")]
    for parameter in _parameters(plan):
        if parameter.startswith("max_length"):
            args.append(LENGTH)
        else:
            window = window_of(module)
            args.append(NONE if window is None else call("min", numbers.forward(window), LENGTH) if owns_windows else WINDOW)
    return method(path, "init_cache", *args, LIKE)


# ---------------------------------------------------------------- the model's


def root_view(w: BodyWriter, kept: KeptInputs) -> CacheView:
    fields = _fields(w, w.numbers.plans, set())
    once = [f for f in fields if "init=False" in f]
    fields = [f for f in fields if f not in once]
    once += [f"{name}: Tensor = field(init=False)" for value, name in kept.once.items() if value in kept.full]
    fields += [f"{name}: OptionalRows" for name in kept.rows.values()]
    return CacheView(
        "Cache",
        "What the model remembers of the tokens so far.",
        [
            *fields, "max_length: int", "position: Tensor  # how many there were; fill_ rewinds", "empty: bool = True  # no call yet",
            *once, *(f"{name}: Tensor | None = None" for value, name in kept.once.items() if value not in kept.full),
        ],
    )  # fmt: skip


def root_init(w: BodyWriter, kept: KeptInputs, helpers: set[str]) -> list[str]:
    made = {name: _started(w, entry, Text("Rows"), LENGTH, helpers) for name, entry in w.kept.items() if entry.kind != "once"}
    made |= {n: made_part(p, Text("self"), w.numbers, True) for n, p in zip(fields_of(w.module), parts(w.module), strict=True)}
    for value, name in kept.rows.items():
        helpers.add("OptionalRows")
        ones = method(LIKE, "new_ones", Text("batch_size"), LENGTH, **_of_type(value.type.dtype))
        made[name] = call("OptionalRows", ones, **({"given": Text("True")} if value in kept.whole else {}))
    made["max_length"] = LENGTH
    made["position"] = call("torch.zeros", Items(()), dtype=Text("torch.long"), device=Attribute(LIKE, "device"))
    return [
        "    def init_cache(self, batch_size: int, max_length: int, dtype: torch.dtype | None = None) -> Cache:",
        '        """An empty cache with room for `max_length` tokens of each sequence; `dtype` is the model\'s, if not said."""',
        *cache_limit(w.numbers),
        f"        like = {likeness(w.numbers.plans.program)}.new_empty(0, dtype=dtype)",
        *wrap("cache = ", Call(Text("Cache"), (), tuple(made.items())), _hint, 8),
        "        if like.is_cuda:  # tensors that stay where they are, so that a compiled step can be replayed as a graph",
        "            for tensor in (cache.position, *tensors(cache)):",
        "                torch._dynamo.mark_static_address(tensor)",
        "        return cache",
    ]
