"""Which part of the cache a module is given, and how it hands on what is below."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Sequence
from functools import lru_cache

from ....compiler import ir
from ....compiler.decoding.absorb_maps import find_absorbed
from ....compiler.decoding.common import Length
from ....compiler.dims import Expr
from ....compiler.ir import Module
from ....grammar.frozen import frozen
from ...python.code import Attribute, Binary, Choice, Code, Subscript, Text
from ...python.plan_classes import Plans, camel

CACHE = Text("cache")
NONE = Text("None")
FIELDS = frozenset(("max_length", "position", "empty", "slots", "advance", "reorder"))
"""What the model's cache has besides what is kept."""


@frozen
class Part:
    """What a module hands to one application of a child, or to the layers of a stack."""

    name: str
    node: ir.Call | ir.Fold
    modules: tuple[Module, ...]

    @property
    def is_stack(self) -> bool:
        return isinstance(self.node, ir.Fold)


def entry_of(node: ir.Node) -> str:
    return getattr(node, "entry", "")


def keeps(module: Module) -> bool:
    """Whether something of a module, or below, is kept from call to call."""
    return any(entry_of(n) for m in ir.walk(module) for n in m.body)


def entry_fields(node: ir.Node, entry: str) -> list[str]:
    """The fields that what a node keeps under a name takes."""
    several = node.carried if isinstance(node, ir.Scan) else 1
    return [f"{entry}_{k + 1}" for k in range(several)] if several > 1 else [entry]


def has_entries(module: Module) -> bool:
    return any(entry_of(n) for n in module.body)


def starts_empty(module: Module) -> bool:
    """Whether all that a module keeps comes with a first call."""
    return not parts(module) and all(isinstance(n, ir.Once) for n in module.body if entry_of(n))


def counts(module: Module, program: ir.Program) -> bool:
    """Whether it must know where the tokens of a call stand, or whether these are all."""
    asking = (ir.Keep, ir.Once, ir.Concat, ir.Scan)
    return any(isinstance(n, asking) and entry_of(n) for m in ir.walk(module) for n in m.body) or _absorbs(module, program)


@lru_cache(maxsize=1024)
def _absorbs(module: Module, program: ir.Program) -> bool:
    """Whether attention, here or below, has a form for a few tokens that go on from others."""
    if program.decoding is None:
        return False
    length = Length(program.decoding.rows, program.decoding.length)
    return any(find_absorbed(m, length) for m in ir.walk(module))


def parts(module: Module) -> list[Part]:
    found: list[Part] = []
    taken: set[str] = set()
    for node in module.body:
        if isinstance(node, ir.Call) and isinstance(node.target, str):
            below = module.child(node.target)
            assert isinstance(below, ir.Child)
            modules: tuple[Module, ...] = (below.module,)
        elif isinstance(node, ir.Fold):
            stack = module.child(node.target)
            assert isinstance(stack, ir.Stack)
            modules = tuple(m for m, _ in stack.slots)
        else:
            continue
        if any(map(keeps, modules)):
            name, number = str(node.target), 2
            while name in taken:
                name, number = f"{node.target}_{number}", number + 1
            taken.add(name)
            found.append(Part(name, node, modules))
    return found


def passes(module: Module) -> Part | None:
    """The one part of a module that has nothing else to keep: its cache is that part's."""
    found = parts(module)
    return found[0] if len(found) == 1 and not has_entries(module) else None


def fields_of(module: Module) -> list[str]:
    """What the parts of a module are called in its cache: each by a name of its own."""
    found: list[str] = []
    names = [field_name(p) for p in parts(module)]
    for name, part in zip(names, parts(module), strict=True):
        found.append(free_field(name if names.count(name) == 1 else part.name, found))
    return found


def free_field(name: str, taken: Collection[str]) -> str:
    """A name of the spec as a field of a cache: a prime and what Python, the model's cache or `taken` has otherwise end with an underscore."""
    name = name.replace("'", "_")
    while name in taken or name in FIELDS or keyword.iskeyword(name):
        name += "_"
    return name


def field_name(part: Part) -> str:
    """The name of a part in its owner's cache: that of the last child that hands it on."""
    inner = None if part.is_stack else passes(part.modules[0])
    return part.name if inner is None else field_name(inner)


def type_name(module: Module, plans: Plans) -> str:
    inner = passes(module)
    return f"{camel(plans.of(module).name)}Cache" if inner is None else part_type(inner, plans)


def part_type(part: Part, plans: Plans) -> str:
    names = dict.fromkeys(type_name(m, plans) if keeps(m) else "None" for m in part.modules)
    last = sorted(names, key=lambda name: name == "None")
    return f"list[{' | '.join(last)}]" if part.is_stack else last[0]


def cache_inputs(module: Module, program: ir.Program) -> tuple[str, ...]:
    """What a forward is given besides the spec's inputs."""
    return (*(("cache",) if keeps(module) else ()), *(("slots",) if counts(module, program) else ()))


def signature_types(module: Module, plans: Plans) -> list[str]:
    return [
        *([f"cache: {type_name(module, plans)} | None"] if keeps(module) else []),
        *(["slots: Slots | None"] if counts(module, plans.program) else []),
    ]


def handed_on(owner: Module, is_root: bool, node: ir.Call | ir.Fold, index: Code | None = None) -> Code:
    """The part of the owner's cache for what a node applies, or of its layer `index`."""
    name = next(n for n, p in zip(fields_of(owner), parts(owner), strict=True) if p.node is node)
    through = not is_root and passes(owner) is not None
    found: Code = CACHE if through else Attribute(CACHE, name)
    if index is not None:
        found = Subscript(found, (index,))
    return found if found is CACHE else Choice(Binary("is", CACHE, NONE), NONE, found)


def window_of(module: Module) -> Expr | None:
    """The window of the rings of a module and of what it hands its cache on to, stacks apart; they have one."""
    for node in module.body:
        if isinstance(node, ir.Keep) and node.window is not None:
            return node.window
    for part in parts(module):
        if not part.is_stack and (found := window_of(part.modules[0])) is not None:
            return found
    return None


def grows(module: Module) -> bool:
    """Whether something is kept of each token outside of rings, stacks apart."""
    if any(isinstance(n, ir.Keep) and n.window is None for n in module.body):
        return True
    return any(part.is_stack or grows(part.modules[0]) for part in parts(module))


# ---------------------------------------------------------------- what the first call alone computes


@frozen
class First:
    """`nodes` are read by nothing but what is kept once, and by `training`, nodes for losses alone; `inputs` by nothing but these, here and
    below."""

    nodes: frozenset[ir.Node]
    inputs: frozenset[ir.Value]
    training: frozenset[ir.Node]


@lru_cache(maxsize=1024)
def first_of(module: Module, undecoded: frozenset[ir.Value] = frozenset(), training: frozenset[ir.Node] = frozenset()) -> First:
    """`undecoded`: outputs of the model that later calls do not give; `training`: nodes for losses alone, which later calls do not give either."""
    late = set(ir.results(module)) - undecoded
    read: set[ir.Value] = set()
    nodes: set[ir.Node] = set()
    for node in reversed(module.body):
        if isinstance(node, ir.Once) and node.positions is None:
            read.add(node.x)
            continue
        if node in training:
            read.update(ir.operands(node))
            continue
        if not late & set(node.outs) and read & set(node.outs):
            nodes.add(node)
            read.update(ir.operands(node))
            continue
        passed = _passed(module, node)
        read.update(passed)
        late.update(v for v in ir.operands(node) if v not in passed)
    inputs = frozenset(v for v in module.inputs if v in read and v not in late)
    return First(frozenset(nodes), inputs, training)


def _passed(module: Module, node: ir.Node) -> set[ir.Value]:
    """Arguments that the modules below read in the first call alone."""
    match node:
        case ir.Call():
            child = node.target if isinstance(node.target, Module) else module.child(node.target)
            below = child if isinstance(child, Module) else child.module  # type: ignore[union-attr]
            first = first_of(below).inputs
            return _only([(v, formal in first) for v, formal in zip(node.args, below.inputs, strict=True)])
        case ir.Fold():
            stack = module.child(node.target)
            assert isinstance(stack, ir.Stack)
            pairs = [(v, False) for v in node.args[: node.carried]]
            for (slot, _), places in zip(stack.slots, node.inputs, strict=True):
                first = first_of(slot).inputs
                pairs += [(node.args[p], formal in first) for p, formal in zip(places, slot.inputs, strict=True)]
            return _only(pairs)
        case _:
            return set()


def _only(pairs: Sequence[tuple[ir.Value, bool]]) -> set[ir.Value]:
    return {v for v, first in pairs if first} - {v for v, first in pairs if not first}
