"""What each class of generated code is called and which numbers its constructor takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from itertools import chain, count

from ...compiler import ir
from ...compiler.dims import Expr, Sym, sym
from ...grammar.frozen import frozen, mutable
from .broadcast_once import Items
from .code import Attribute, Code, Subscript, number
from .find_classes import Class, find_classes
from .merge_heads import Merged
from .name_parameters import native_of
from .natives import Fused, Native
from .numbers import expression

Vector = tuple[Expr, ...]
MANY = 5


@frozen(kw_only=True, eq=False)
class Plan:
    """A class (or a function, if it owns nothing and is no layer of a stack). `numbers`: explicit arguments, each a name and its number in every use; everything
    else comes from `config` if `takes_config`. `native`: the framework has it, so that none is written."""

    name: str
    of: Class
    is_function: bool
    is_native: bool
    takes_config: bool
    numbers: tuple[tuple[str, Vector], ...]

    @property
    def first(self) -> ir.Module:
        return self.of.first


@mutable(eq=False)
class Plans:
    """All classes of a program, leaves first, and where to find that of a module."""

    program: ir.Program
    plans: list[Plan]
    by_module: dict[int, tuple[Plan, int]]
    fields: dict[Sym, str]
    merged: Merged
    fused: Mapping[ir.Value, Fused] = field(default_factory=dict)  # by its weight, what stands for several linear maps
    named: dict[str, Expr] = field(default_factory=dict)  # what names stand for, where that is one thing in the whole program
    unused: dict[int, frozenset[str]] = field(default_factory=dict)  # by key of a written class: explicit numbers that its code never reads
    views: dict[int, dict[int, Items]] = field(default_factory=dict)  # by key of a written class: inputs that come with further dimensions
    viewed: set[Code] = field(default_factory=set)  # variables that are such views already
    _names: dict[int, tuple[dict[Expr, str], dict[Expr, str]]] = field(default_factory=dict)

    def of(self, module: ir.Module) -> Plan:
        return self.by_module[id(module)][0]

    def fused_of(self, module: ir.Module) -> Fused | None:
        """The linear maps for which a module stands, if it is such a one."""
        return self.fused.get(module.params[0].value) if module.params else None

    def native_of(self, module: ir.Module) -> Native | None:
        """What the framework has for a module, if anything; of fused maps, the map that they are together."""
        fused = self.fused_of(module)
        return native_of(module) if fused is None else fused.whole

    def arguments(self, module: ir.Module) -> tuple[tuple[str, Expr], ...]:
        """The explicit numbers of one use."""
        plan, use = self.by_module[id(module)]
        return tuple((n, vector[use]) for n, vector in self.numbers(plan))

    def numbers(self, plan: Plan) -> tuple[tuple[str, Vector], ...]:
        """The explicit arguments of a class, without those that it turned out not to need."""
        gone = self.unused.get(plan.of.key, frozenset())
        return tuple((n, v) for n, v in plan.numbers if n not in gone)

    def given(self, module: ir.Module, k: int, code: Code) -> Code:
        """The argument for input k of a module, as its class wants it."""
        view = self.views.get(self.of(module).of.key, {}).get(k)
        return code if view is None or code in self.viewed else Subscript(code, view)

    @cached_property
    def called_elsewhere(self) -> set[int]:
        """Keys of the classes that something else than a call or a loop over layers applies."""
        found: set[int] = set()
        for module in ir.walk(self.program.root):
            for node in module.body:
                if isinstance(node, ir.Scan | ir.Route | ir.Pairwise):
                    target = node.target if isinstance(node.target, ir.Module) else module.child(node.target).module  # type: ignore[union-attr]
                    found.add(self.of(target).of.key)
        return found

    def names_of(self, plan: Plan) -> tuple[dict[Expr, str], dict[Expr, str]]:
        """The explicit arguments of a class by what they are in its first use: the first name of each, and the last."""
        if plan.of.key not in self._names:
            named = [(vector[0], name) for name, vector in plan.numbers]
            self._names[plan.of.key] = dict(reversed(named)), dict(named)
        return self._names[plan.of.key]

    def can_say(self, plan: Plan, expr: Expr) -> bool:
        """Whether a static number can be written in a class: from its arguments, or from `config`."""
        first, last = self.names_of(plan)
        return plan.takes_config or expr in first or all(sym(s) in last or s not in self.fields for s in expr.symbols)

    def static(self, plan: Plan, expr: Expr, own: Callable[[str], Code], config: Code) -> Code:
        """A static number in a class: an argument by its name (`own` says how), the rest from `config`."""
        first, last = self.names_of(plan)
        if expr in first:
            return own(first[expr])

        def lookup(s: Sym) -> Code:
            if (argument := last.get(sym(s))) is not None:
                return own(argument)
            return Attribute(config, self.fields[s]) if s in self.fields else number(s.value or 0)

        return expression(expr, lookup)


def _named_sizes(program: ir.Program) -> dict[str, Expr]:
    """What a name of a hyperparameter or of a component's own stands for, where it is one thing in the whole program."""
    sizes: dict[str, set[Expr]] = defaultdict(set)
    for name, size in (*((n, e) for m in ir.walk(program.root) for n, e in m.locals), *((n, sym(s)) for n, s in program.config)):
        sizes[name].add(size)
    return {name: found.pop() for name, found in sizes.items() if len(found) == 1}


def plan_classes(
    program: ir.Program,
    is_native: Callable[[ir.Module], bool],
    taken: Collection[str],
    merged: Merged | None = None,
    opaque: Collection[ir.Value] = (),
    *,
    fused: Mapping[ir.Value, Fused] | None = None,
    has_classes: bool = True,
) -> Plans:
    """Requires: a typed program. Ensures: a plan for every module below the root; names are distinct, and none is `taken` by the file.

    A file without classes makes a function of every module."""
    classes = find_classes(program.root, opaque)
    plans = Plans(program, [], {}, {s: n for n, s in program.config}, merged or Merged(), fused or {}, _named_sizes(program))
    names = _names([c for c in classes if not is_native(c.first)], program, taken, has_classes)
    for c in classes:
        native = is_native(c.first)
        needed, child_config = _needed(c, plans)
        root = program.root in c.uses
        agree = all(len(set(v)) == 1 for v in needed)
        explicit: tuple[tuple[str, Vector], ...] = ()
        config = not native and (root or child_config or (agree and bool(needed)))
        is_function = c.first.is_function and not root and not c.in_list
        if is_function:
            explicit, config = _choose(c, needed, all_of_them=True), False
        elif not agree:
            config = config or (not native and len(needed) > MANY)
            explicit = _choose(c, needed, all_of_them=not config)
        elif native:
            explicit = ()
        plan = Plan(
            name=names.get(c.key, c.first.name), of=c, is_function=is_function, is_native=native, takes_config=config, numbers=explicit,
        )  # fmt: skip
        plans.plans.append(plan)
        for use, module in enumerate(c.uses):
            plans.by_module[id(module)] = (plan, use)
    return plans


def _needed(c: Class, plans: Plans) -> tuple[list[Vector], bool]:
    """Every number that a class needs, its children's arguments included; whether a child wants `config`."""
    needed = dict.fromkeys(c.holes)
    config = False
    below = [[m for _, m in ir.children_of(use)] for use in c.uses]
    for same in zip(*below, strict=True):
        plan = plans.of(same[0])
        config |= plan.takes_config
        found = [plans.by_module[id(m)][1] for m in same]
        for _, vector in plan.numbers:
            needed[tuple(vector[use] for use in found)] = None
        if plan.is_native:
            for hole in plan.of.holes:
                needed[tuple(hole[use] for use in found)] = None
    return [v for v in needed if all(not e.is_dynamic for e in v)], config


def _choose(c: Class, needed: Sequence[Vector], all_of_them: bool) -> tuple[tuple[str, Vector], ...]:
    """Names for the numbers that must be arguments: the spec's own where a local of every use has that value."""
    named: dict[str, Vector] = {}
    tables = [dict(use.locals) for use in c.uses]
    local = {n: tuple(table[n] for table in tables) for n, _ in c.first.locals if all(n in table for table in tables)}
    local = {n: v for n, v in local.items() if not any(e.is_dynamic or e.constant is not None for e in v) and n.isidentifier()}
    by_vector = {v: n for n, v in reversed(local.items())}
    by_first = {v[0]: n for n, v in reversed(local.items())}
    said: set[Vector] = set()
    for vector in needed:
        if vector in said or (not all_of_them and len(set(vector)) == 1):
            continue
        exact = by_vector.get(vector)
        pieces = {exact: vector} if exact is not None else _from_symbols(vector, local, by_first, all_of_them)
        named.update({_fresh("size", named): vector} if pieces is None else pieces)
        said.update([vector] if pieces is None else pieces.values())
    return tuple(named.items())


def _from_symbols(vector: Vector, local: dict[str, Vector], by_first: dict[Expr, str], all_of_them: bool) -> dict[str, Vector] | None:
    """Locals from which the number follows by the first use's formula, in every use."""
    pieces: dict[str, Vector] = {}
    for s in sorted(vector[0].symbols, key=lambda s: s.order):
        found = by_first.get(sym(s))
        if found is not None and (all_of_them or len(set(local[found])) > 1):
            pieces[found] = local[found]
        elif all_of_them:
            return None
    for use, expr in enumerate(vector):
        table = {s: v[use] for v in pieces.values() for s in v[0].symbols}
        if vector[0].substitute(table) != expr:
            return None
    return pieces


def _fresh(base: str, taken: Collection[str]) -> str:
    return next(n for n in chain([base], (f"{base}{k}" for k in count(2))) if n not in taken)


# ---------------------------------------------------------------- names


def camel(name: str) -> str:
    """`pre_norm` is PreNorm; between digits the underscore stays: `model3_8b` is Model3_8b."""
    text = ""
    for piece in name.split("_"):
        digit_border = text and text[-1].isdigit() and piece[:1].isdigit()
        text += ("_" if digit_border else "") + piece[:1].upper() + piece[1:]
    return text if text.isidentifier() else f"_{text}"


def _names(classes: Sequence[Class], program: ir.Program, reserved: Collection[str], has_classes: bool) -> dict[int, str]:
    """The component's name; where two classes have one component, what tells them apart stands in front."""
    slots = _slots(program.root)
    base = {c.key: program.name if program.root in c.uses else c.first.name for c in classes}
    groups: dict[str, list[Class]] = {}
    for c in classes:
        groups.setdefault(base[c.key], []).append(c)
    found: dict[int, str] = {}
    taken = set(reserved)
    for name, group in groups.items():
        for c in group:
            is_function = not has_classes or (c.first.is_function and program.root not in c.uses and not c.in_list)
            styled = str if is_function else camel
            wanted = [name] if len(group) == 1 else _distinct(c, group, name, slots, base)
            wanted += [f"{program.name}_{name}", *(f"{name}{k}" for k in range(2, len(classes) + 3))]
            found[c.key] = next(n for n in map(styled, wanted) if not {n, f"{n}Cache"} & taken)
            taken |= {found[c.key], f"{found[c.key]}Cache"}
    return found


def _distinct(c: Class, group: Sequence[Class], name: str, slots: dict[int, tuple[str, ...]], base: dict[int, str]) -> list[str]:
    """Names for one of several classes of a component: by its slot, then by a component inside that the others lack."""
    paths = {other.key: {slots[id(u)] for u in other.uses} for other in group}
    wanted: list[str] = []
    last = {p[-1] for p in paths[c.key] if p}
    if len(last) == 1 and not any(p and p[-1] in last for k, ps in paths.items() if k != c.key for p in ps):
        slot = next(iter(last))
        wanted.append(slot if name in slot else f"{slot}_{name}")
    direct = {other.key: {n: m.name for n, m in ir.children_of(other.first) if n} for other in group}
    for child, component in direct[c.key].items():
        if all(direct[k].get(child) != component for k in direct if k != c.key):
            wanted.append(f"{component}_{name}")
    inside = {other.key: {m.name for m in ir.walk(other.first)} for other in group}
    others = set().union(*(inside[k] for k in inside if k != c.key))
    own = [m.name for m in ir.walk(c.first) if m.name not in others]
    if own:
        wanted.append(f"{own[0]}_{name}")
    owners = {p[-2] for p in paths[c.key] if len(p) > 1}
    if len(owners) == 1:
        wanted.append(f"{next(iter(owners))}_{name}")
    if c is group[0]:
        wanted.append(name)
    return wanted


def _slots(root: ir.Module) -> dict[int, tuple[str, ...]]:
    """The path of child names to each module (the first one found)."""
    found: dict[int, tuple[str, ...]] = {id(root): ()}
    stack = [root]
    while stack:
        module = stack.pop()
        for child, below in ir.children_of(module):
            if id(below) not in found:
                found[id(below)] = (*found[id(module)], child or below.name)
                stack.append(below)
    return found
