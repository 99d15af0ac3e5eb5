"""Writes the straight line of one module as statements of code. What a node becomes is the dialect's table; here is what all dialects share:
where values are, in which layout, under which sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from functools import cached_property, lru_cache
from itertools import chain, count
from typing import Literal, NoReturn

from ...compiler import ir
from ...compiler.diagnostics import Diagnostic, SpecError
from ...compiler.dims import ONE, ZERO, Apply, Atom, Expr, Sym, sym
from ...compiler.ir import REST, Label, Type, Value
from ...grammar.frozen import frozen, mutable
from .arrange import Moves, arrange, spread
from .code import Assign, Attribute, Binary, Code, Statement, Subscript, Text, Var, number
from .layouts import UNKNOWN, Dim, Layout, Sizes, Tensor, common_layout, declared, flat, note_of, sizes_of
from .name_attributes import is_taken
from .numbers import applications, expression
from .plan_classes import Plan, Plans


@mutable
class Numbers:
    """The numbers that one class's methods read, and what the constructor must keep for them."""

    plans: Plans
    plan: Plan
    is_root: bool
    kept: dict[str, Code] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)

    def init(self, expr: Expr) -> Code:
        """In the constructor."""
        return self.plans.static(self.plan, expr, Text, Text("config"))

    def forward(self, expr: Expr, name: str = "") -> Code:
        """In a method: `self.head_dim`, kept by the constructor; in a function an argument; in the model `self.config.layers`.

        `name`: what to keep it as if it takes functions to compute and has no name of its own."""
        constant = expr.constant
        if constant is not None:
            value = expr.value()
            assert value is not None
            return number(value)
        if self.plan.is_function:
            return self.plans.static(self.plan, expr, Text, Text("config"))
        named = self._named(expr)
        if named is not None:
            return self._keep(named, expr)
        if self.is_root:
            return self.plans.static(self.plan, expr, Text, Text("self.config"))
        if name and applications(expr) and self.kept.get(name, self.init(expr)) == self.init(expr):
            return self._keep(name, expr)
        return expression(expr, self._symbol)

    def has_name(self, expr: Expr) -> bool:
        """Whether a method reads a number by one name, `self.heads`."""
        if self.plan.is_function or expr.constant is not None:
            return False
        field = any(expr == sym(s) and s in self.plans.fields for s in expr.symbols)
        return self._named(expr) is not None or (field and self.plans.can_say(self.plan, expr))

    def kept_as(self, name: str, expr: Expr) -> Code:
        """A number that a method reads by a name of its own."""
        return self.forward(expr) if expr.constant is not None or self.plan.is_function else self._keep(name, expr)

    def _symbol(self, s: Sym) -> Code:
        if s not in self.plans.fields:
            return number(s.value or 0)
        return self._keep(self._named(sym(s)) or self.plans.fields[s], sym(s))

    def _named(self, expr: Expr) -> str | None:
        """The spec's name of a number, if it has one here."""
        argument = self.plans.names_of(self.plan)[0].get(expr)
        return argument if argument is not None or self.is_root else self._locals.get(expr)

    @cached_property
    def _locals(self) -> dict[Expr, str]:
        found = [(e, n) for n, e in self.plan.first.locals if n.isidentifier() and n not in self._own and len(n) > 1]
        return dict(reversed(found))

    @cached_property
    def _own(self) -> set[str]:
        return {c.name for c in self.plan.first.children} | {p.name for p in self.plan.first.params}

    def _keep(self, name: str, expr: Expr) -> Code:
        name = f"num_{name}" if name in self._own or is_taken(name) else name
        value = self.init(expr)
        free = (
            n for n in chain([name], (f"{name}{k}" for k in count(2))) if self.kept.get(n, value) == value
        )  # several may be called alike
        name = next(free)
        self.kept[name] = value
        return Attribute(Text("self"), name)


@lru_cache(maxsize=4)
def _local_sizes(module: ir.Module) -> tuple[dict[Expr, str], dict[str, Expr]]:
    """The names of sizes in a module, by what varies, and what each name is."""
    named = {e: n for n, e in reversed(module.locals) if n.isidentifier() and e.constant is None}
    return named, dict(module.locals)


SLOTS = Text("slots")


@frozen
class Kept:
    """What a module's cache holds under a name: `rows` for each token, along the axis `over`, a `state`, what is computed `once`, or
    `tables` of what is known of every slot."""

    kind: Literal["rows", "state", "once", "tables"]
    type: Type
    layout: Layout
    over: Label | None = None
    start: Expr = ZERO


@mutable
class BodyWriter:
    """One body being written. `lower` is the dialect's table: node type to a function of this writer and the node."""

    module: ir.Module
    numbers: Numbers
    moves: Moves
    lower: Mapping[type, Callable[[BodyWriter, ir.Node], None]]
    env: dict[Value, Tensor] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    axis_sizes: dict[Label, Expr] = field(default_factory=dict)
    shapes: dict[tuple[Value, int], Var] = field(default_factory=dict)
    inputs: dict[Value, Var] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    optional: set[Value] = field(default_factory=set)
    ranges: dict[Expr, Code] = field(default_factory=dict)
    indices: dict[Value, Expr] = field(default_factory=dict)
    known: dict[Code, Var] | None = None  # while it is a table, what is written twice is computed once
    order: tuple[Label, ...] = ()  # which axes come first where an operation is free to choose
    dynamic: dict[Expr, Code] = field(default_factory=dict)  # dynamic sizes that no input shows
    constructing: bool = False
    slots: Code = SLOTS  # where the tokens of this call stand among all so far; none where these are all
    few: bool = False  # whether what is written is for a few tokens that go on from others
    places: dict[Value, Code] = field(default_factory=dict)  # indices that count something else than 0, 1, ...
    by_blocks: dict[Value, Callable[[], object]] = field(default_factory=dict)  # what writes indices of a band's queries and keys
    blocked: Collection[Value] = ()  # masks that may be made over these
    masks: Collection[Value] = ()  # those of the model: ready to broadcast, so that no sizes are read from them
    maybe_none: Collection[Value] = ()  # masks that are none where all is seen
    by_index: Collection[Value] = ()  # masks that may be functions of indices
    joined: set[Var] = field(default_factory=set)  # parts of one tensor that all layers of some loop read
    kept: dict[str, Kept] = field(default_factory=dict)
    checks: list[Statement] = field(default_factory=list)  # before shapes are read
    defaulted: set[Value] = field(default_factory=set)  # optional inputs of the model
    asked: bool = False  # whether the model has asked for what a first call needs
    reads: Counter[Value] | None = None
    node: ir.Node | None = None
    instead: dict[ir.Node, Callable[[], None]] = field(default_factory=dict)  # what writes a node, if not the table

    # ------------------------------------------------ values

    def start(self) -> None:
        """Bring inputs, in their declared layout, into scope."""
        for k, value in enumerate(self.module.inputs):
            var = Var(hint=value.hint or f"x{k}")
            self.inputs[value] = var
            self.env[value] = Tensor(var, declared(value.type), sizes_of(value.type))
            self.see(value)
        for param in self.module.params:
            self.env[param.value] = self.own_parameter(param)
            self.see(param.value)

        for state in self.module.states:
            self.env[state.value] = Tensor(self.stored_state(state), declared(state.value.type), sizes_of(state.value.type))
            self.see(state.value)

    def stored_state(self, state: ir.State) -> Code:
        """Where the model's memory holds it."""
        key = Text(f'"{state.name}"' if self.numbers.is_root else f'f"{{self.path}}.{state.name}"')
        return Subscript(Text("state"), (key,))

    def own_parameter(self, param: ir.Param) -> Tensor:
        return Tensor(Attribute(Text("self"), param.name), declared(param.type), sizes_of(param.type))

    def see(self, value: Value) -> None:
        for axis in value.type.axes:
            self.axis_sizes.setdefault(axis.label, axis.size)

    def write(self, nodes: Sequence[ir.Node]) -> None:
        for node in nodes:
            self.node = node
            for out in node.outs:
                self.see(out)
            if node in self.instead:
                self.instead[node]()
            else:
                self.lower[type(node)](self, node)

    def is_read_often(self, value: Value) -> bool:
        """Whether several places read it, or an output is it."""
        if self.reads is None:
            self.reads = Counter(v for n in self.module.body for v in ir.operands(n))
            self.reads.update(ir.results(self.module))
        return self.reads[value] > 1

    def read(self, value: Value) -> Tensor:
        return self.env[value]

    def define(self, out: Value, code: Code, layout: Layout, kind: str = "y", pure: bool = True) -> None:
        """`out = code`; a shape comment where its axes are not those of an operand."""
        if self.known is not None and pure:
            if code in self.known:
                self.env[out] = Tensor(self.known[code], layout, sizes_of(out.type))
                return
            if not out.hint:
                self.known[code] = var = Var(kind=kind)
                self.statements.append(Assign((var,), code, self._note(layout, sizes_of(out.type)), pure))
                self.env[out] = Tensor(var, layout, sizes_of(out.type))
                return
        var = Var(hint=out.hint, kind=kind)
        sizes = sizes_of(out.type)
        self.statements.append(Assign((var,), code, self._note(layout, sizes), pure))
        self.env[out] = Tensor(var, layout, sizes)

    def define_several(self, outs: Sequence[Value], code: Code, layouts: Sequence[Layout], kinds: Sequence[str]) -> None:
        targets = tuple(Var(hint=o.hint, kind=k) for o, k in zip(outs, kinds, strict=True))
        same = len(set(layouts)) == 1
        self.statements.append(Assign(targets, code, self._note(layouts[0], sizes_of(outs[0].type)) if same else ""))
        for out, var, layout in zip(outs, targets, layouts, strict=True):
            self.env[out] = Tensor(var, layout, sizes_of(out.type))

    def temporary(self, code: Code, kind: str, note: str = "", hint: str = "") -> Var:
        var = Var(hint=hint, kind=kind)
        self.statements.append(Assign((var,), code, note))
        return var

    def alias(self, out: Value, tensor: Tensor) -> None:
        """The same tensor under another name or with other labels: no code. A variable without a name takes this one."""
        if out.hint and isinstance(tensor.code, Var) and not tensor.code.hint:
            tensor = Tensor(self._rename(tensor.code, out.hint), tensor.layout)
        self.env[out] = Tensor(tensor.code, tensor.layout, sizes_of(out.type))

    def suggest(self, value: Value, kind: str) -> None:
        """A better name for a variable that the spec left without one."""
        t = self.env[value]
        if isinstance(t.code, Var) and not t.code.hint:
            new = Var(kind=kind)
            for k, s in enumerate(self.statements):
                if isinstance(s, Assign) and t.code in s.targets:
                    if any(t.code in _vars(later) for later in self.statements[k + 1 :]):
                        return
                    self.statements[k] = Assign(tuple(new if x is t.code else x for x in s.targets), s.value, s.note, s.pure)
                    self._replace(t.code, new)
                    return

    def _rename(self, old: Var, hint: str) -> Var:
        for k in range(len(self.statements) - 1, -1, -1):
            s = self.statements[k]
            if isinstance(s, Assign) and s.targets == (old,):
                new = Var(hint=hint)
                if any(old in _vars(t) for t in self.statements[k + 1 :]):
                    return old
                self.statements[k] = Assign((new,), s.value, s.note, s.pure)
                self._replace(old, new)
                return new
        return old

    def _replace(self, old: Var, new: Var) -> None:
        for value in [v for v, t in self.env.items() if t.code is old]:
            self.env[value] = Tensor(new, self.env[value].layout, self.env[value].sizes)

    def _note(self, layout: Layout, sizes: Sizes) -> str:
        if self.node is None or not layout or isinstance(self.node, ir.Index):
            return ""
        before = [self.env[v].layout for v in ir.operands(self.node) if v in self.env]
        names = [[d.name for d in flat(b)] for b in before]
        return "" if [d.name for d in flat(layout)] in names else self.shape_note(layout, sizes)

    def shape_note(self, layout: Layout, sizes: Sizes) -> str:
        """The shape in the spec's names; an axis that has another size than its namesake elsewhere shows that."""
        named, usual = _local_sizes(self.module)

        def show(dim: Dim) -> str:
            total = ONE
            for label in dim:
                total = total * sizes.get(label, ONE)
            first = next(iter(dim), None)
            if first is None or len(dim) > 1:
                return named.get(total) or " * ".join(self.axis_name(label) for label in dim)
            name = self.axis_name(first)
            known = self.numbers.plans.named.get(name) or usual.get(name) or self.axis_sizes.get(first)
            if first not in sizes or known is None or total == known:
                return name
            ratio = known.divide(total).constant
            return f"{name} // {ratio}" if isinstance(ratio, int) else named.get(total) or str(total)

        return note_of(layout, show)

    def axis_name(self, label: Label) -> str:
        """What this component calls an axis."""
        return dict(self.module.axis_names).get(label, label.name)

    # ------------------------------------------------ sizes

    def number(self, expr: Expr, name: str = "") -> Code:
        """`name`: what a number is where it goes, if it has no name here."""
        if not expr.is_dynamic:
            return self.numbers.forward(expr, name)
        exact = self.dynamic.get(expr) or self._shape(expr)
        if exact is not None:
            return exact
        if (named := self._of_argument(expr)) is not None:
            return named
        if all(s.value is not None or self._length(s) is not None for s in expr.symbols):
            return expression(expr, lambda s: self._length(s) or self.numbers.forward(sym(s)))
        if (shown := self._shown(expr)) is not None:
            return shown
        if all(s.value is not None or self._length(s) or self._shown(sym(s)) for s in expr.symbols):
            return expression(expr, lambda s: self._length(s) or self._shown(sym(s)) or self.numbers.forward(sym(s)))
        if (solved := self._solved(expr)) is not None:
            return solved
        return self.refuse(f"the size {expr} cannot be read from the shapes of the inputs")

    def _length(self, s: Sym) -> Code | None:
        return self.dynamic.get(sym(s)) or self._shape(sym(s))

    def _shown(self, expr: Expr) -> Code | None:
        """A size by what was computed so far."""
        for value, tensor in self.env.items():
            if value in self.optional or value in self.masks:
                continue
            for k, dim in enumerate(tensor.layout):
                if len(dim) == 1 and dim[0] is not REST and tensor.sizes.get(dim[0]) == expr:
                    return Subscript(
                        Attribute(tensor.code, "shape"), (number(k if REST not in flat(tensor.layout[:k]) else k - len(tensor.layout)),)
                    )
        return Subscript(Attribute(self.ranges[expr], "shape"), (number(0),)) if expr in self.ranges else None

    def _of_argument(self, expr: Expr) -> Code | None:
        """A dynamic size times a number that the function is given: `B * t`."""
        if len(expr.terms) != 1 or not self.numbers.plan.is_function:
            return None
        monomial, coefficient = expr.terms[0]
        moving = tuple((a, p) for a, p in monomial if Expr(((((a, 1),), 1),)).is_dynamic)
        static = Expr(((tuple(pair for pair in monomial if pair not in moving), coefficient),))
        lengths = Expr(((moving, 1),))
        arguments, _ = self.numbers.plans.names_of(self.numbers.plan)
        if static not in arguments or not all(self._shape(sym(s)) is not None for s in lengths.symbols):
            return None
        return Binary("*", self.number(lengths), self.numbers.forward(static))

    def _solved(self, expr: Expr) -> Code | None:
        """A size made of one that is itself an expression, `2 * t - 1`, where t is what a convolution left of `n`; or that an axis is longer than:
        `t - 3`, where t is that of three tokens and all others."""
        here: dict[Sym, Expr] = {}
        atoms: dict[Atom, Expr] = {}
        for axis in (a for v in self.module.inputs if v not in self.optional for a in v.type.axes if a.label is not REST):
            for monomial, coefficient in axis.size.terms:
                if coefficient == 1 and len(monomial) == 1 and self._may_be_solved(monomial[0][0]) and monomial[0][1] == 1:
                    length = Sym(name=axis.label.name)
                    here[length] = axis.size
                    atoms.setdefault(monomial[0][0], sym(length) - axis.size + Expr(((monomial, 1),)))
        found = expr.substitute(atoms)
        if any(s.value is None and s not in here and self._shape(sym(s)) is None for s in found.symbols):
            return None
        return expression(found, lambda s: self._shape(here.get(s, sym(s))) or self.numbers.forward(sym(s)))

    def _may_be_solved(self, atom: Atom) -> bool:
        return isinstance(atom, Apply) or (atom.value is None and self._shape(sym(atom)) is None)

    def _shape(self, expr: Expr) -> Code | None:
        for value in self.module.inputs:
            if value in self.optional or value in self.masks:
                continue
            for k, axis in enumerate(value.type.axes):
                if axis.size == expr and axis.label is not REST:
                    name = self.axis_name(axis.label).rstrip("'")
                    key = (value, k)
                    if key not in self.shapes:
                        self.shapes[key] = Var(hint=name.upper() if len(name) == 1 else name)
                    return self.shapes[key]
        return None

    def size(self, dim: Dim, sizes: Sizes = UNKNOWN) -> Code:
        total = ONE
        for label in dim:
            total = total * (sizes[label] if label in sizes else self.axis_sizes[label])
        return self.number(total)

    def shape_statements(self) -> list[Statement]:
        """`B, T, _ = x.shape`, for the sizes that were asked for."""
        found: list[Statement] = []
        for value in self.module.inputs:
            wanted = {k: var for (v, k), var in self.shapes.items() if v is value}
            if not wanted:
                continue
            shape = Attribute(self.inputs[value], "shape")
            rank = len(value.type.axes)
            rest = value.type.has(REST)
            if len(wanted) == 1 or rest:
                found += [Assign((var,), Subscript(shape, (number(k - rank if rest else k),))) for k, var in wanted.items()]
            else:
                found.append(Assign(tuple(wanted.get(k) for k in range(rank)), shape))
        return found

    # ------------------------------------------------ layouts

    def arranged(self, t: Tensor, layout: Layout) -> Code:
        return arrange(t, layout, self.moves, lambda dim: self.size(dim, t.sizes))

    def spread(self, t: Tensor, layout: Layout) -> Code:
        return spread(t, layout, self.moves, lambda dim: self.size(dim, t.sizes))

    def apart(self, t: Tensor, *labels: Label) -> Tensor:
        """The tensor with each of these axes a dimension of its own."""
        dims: list[Dim] = []
        for dim in t.layout:
            run: list[Label] = []
            for label in dim:
                if label in labels:
                    dims += [tuple(run)] if run else []
                    dims.append((label,))
                    run = []
                else:
                    run.append(label)
            dims += [tuple(run)] if run else []
        layout = tuple(dims)
        return Tensor(self.arranged(t, layout), layout, t.sizes)

    def aligned(self, values: Sequence[Value], wanted: Sequence[Label]) -> tuple[Layout, list[Code]]:
        """A common layout of several operands, and the code of each, ready to broadcast."""
        tensors = [self.read(v) for v in values]
        if set(wanted) <= set(self.order):
            wanted = [label for label in self.order if label in wanted]
        layout = common_layout([t.layout for t in tensors], wanted)
        return layout, [self.spread(t, layout) for t in tensors]

    # ------------------------------------------------ what cannot be written

    def refuse(self, why: str) -> NoReturn:
        span = self.node.span if self.node is not None else self.module.span
        raise SpecError([Diagnostic("E601", f"this backend cannot write it: {why}", span)])


def _vars(s: Statement) -> set[Var]:
    from .fold_values import reads_of

    return set(reads_of(s))
