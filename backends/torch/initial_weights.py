"""How the weights of torch's own modules start: one rule for each kind of module, and after it, in the class that owns them, what starts otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

from ...compiler import ir
from ...compiler.dims import const
from ...grammar.frozen import frozen
from ..python.choose_slots import slot_conditions
from ..python.code import Attribute, Call, Code, Text, call, number, render, wrap
from ..python.natives import Embedding, Linear, Native
from ..python.plan_classes import Plan, Plans
from ..python.write_body import Numbers

METHOD = "start_weights"
"""The method of a class whose parts do not all start by the rule of their kind."""
GROUPED = ir.Init(kind="normal", numbers=(const(0.02),))
ONES = "nn.init.ones_(module.weight)"


def init_rules(plans: Plans) -> list[str]:
    """The body of `init_weights`: the commonest rule for each kind of module, then what its owners set. Owners come after their parts."""
    chosen = _commonest(plans)
    found: list[str] = []
    for line, kinds in groupby(sorted(chosen, key=lambda k: chosen[k]), key=lambda k: chosen[k]):
        found += [f"if isinstance(module, {' | '.join(sorted(kinds))}):", f"    {line}"]
    if "nn.Linear" in chosen:
        found += ["if isinstance(module, nn.Linear) and module.bias is not None:", "    nn.init.zeros_(module.bias)"]
    owners = [p.name for p in plans.plans if not p.is_native and any(True for _ in _parts_apart(p.first, plans))]
    if owners:
        test = f"if isinstance(module, {' | '.join(owners)}):"
        found += [test] if len(test) <= 112 else ["if isinstance(", "    module,", f"    {' | '.join(owners)},", "):"]
        found.append(f"    module.{METHOD}()")
    return found


def start_method(module: ir.Module, numbers: Numbers) -> list[str]:
    """`start_weights` of a class, if a part of it starts otherwise than the rule of its kind says."""
    found: list[str] = []
    for part in _parts_apart(module, numbers.plans):
        found += _part_lines(part, numbers)
    if not found:
        return []
    return [f"    def {METHOD}(self) -> None:", '        """What starts otherwise than others of its kind."""', *found]


@frozen(kw_only=True)
class _Part:
    """Parameters of a native module that start otherwise than its kind; `slot` if it is a layer of a stack."""

    child: ir.Child | ir.Stack | ir.Bank
    slot: int | None
    params: tuple[ir.Param, ...]


def _parts_apart(module: ir.Module, plans: Plans) -> Iterator[_Part]:
    for child in module.children:
        for slot, part in _modules(child):
            plan, native = plans.of(part), plans.native_of(part)
            params = () if native is None or not plan.is_native else tuple(_apart(native, plan, plans))
            if params:
                yield _Part(child=child, slot=slot, params=params)


def _modules(child: ir.Child | ir.Stack | ir.Bank) -> list[tuple[int | None, ir.Module]]:
    if isinstance(child, ir.Stack):
        return [(slot, module) for slot, (module, _) in enumerate(child.slots)]
    return [(None, child.module)]


def _part_lines(part: _Part, numbers: Numbers) -> list[str]:
    def draw(owner: Code, indent: int) -> list[str]:
        return [line for p in part.params for line in wrap("", _draw(Attribute(owner, p.name), p.init, numbers), lambda v: v.hint, indent)]

    own: Code = Attribute(Text("self"), part.child.name)
    if not isinstance(part.child, ir.Stack) or part.slot is None:
        return draw(own, 8)
    stack = part.child
    if len(stack.slots) == 1:
        return [f"        for layer in self.{stack.name}:", *draw(Text("layer"), 12)]
    condition = slot_conditions(stack, Text("i"), numbers.forward)[part.slot]
    return [
        f"        for i, layer in enumerate(self.{stack.name}):",
        f"            if {render(condition, lambda v: v.hint)}:",
        *draw(Text("layer"), 16),
    ]


def _draw(tensor: Code, init: ir.Init, numbers: Numbers) -> Code:
    """`nn.init.normal_(self.output.weight, std=self.std)`."""
    return _init_code(tensor, init, [numbers.forward(n) for n in init.numbers])


def _init_code(tensor: Code, init: ir.Init, values: list[Code]) -> Code:
    if init.kind == "normal":
        return call("nn.init.normal_", tensor, std=values[0])
    return Call(Text(f"nn.init.{init.kind}_"), (tensor, *values))


# ---------------------------------------------------------------- what the rules and torch's constructors leave to do


def _apart(native: Native, plan: Plan, plans: Plans) -> Iterator[ir.Param]:
    """The parameters of a native module that do not start as its constructor and the rule of its kind make them."""
    chosen = _commonest(plans)
    if _rule(native.weight.init) != _start_of_weight(native, plan, chosen):
        yield native.weight
    if (native.bias is not None and native.bias.init.kind != "zeros") or (
        native.bias is not None and isinstance(native, Linear) and plan.of.bank is None and "nn.Linear" not in chosen
    ):
        yield native.bias


def _start_of_weight(native: Native, plan: Plan, chosen: dict[str, str]) -> str:
    if plan.of.bank is not None:  # GroupedLinear is told its standard deviation
        init = native.weight.init
        return _rule(init) if init.kind == "normal" else _rule(GROUPED)
    return chosen.get(_kind(native), ONES)


def _kind(native: Native) -> str:
    match native:
        case Linear():
            return "nn.Linear"
        case Embedding():
            return "nn.Embedding"
        case _:
            return f"nn.{native.kind}"


@lru_cache(maxsize=2)
def _commonest(plans: Plans) -> dict[str, str]:
    """For each kind of module, what its weights mostly start as, of those that start the same for every Config."""
    rules: dict[str, Counter[str]] = {}
    for plan in plans.plans:
        if not plan.is_native or plan.of.bank is not None:
            continue
        for use in plan.of.uses:
            native = plans.native_of(use)
            if native is not None and not any(n.symbols for n in native.weight.init.numbers):
                rules.setdefault(_kind(native), Counter())[_rule(native.weight.init)] += 1
    found = {kind: counts.most_common(1)[0][0] for kind, counts in rules.items()}
    return {kind: rule for kind, rule in found.items() if kind in ("nn.Linear", "nn.Embedding") or rule != ONES}  # norms are ones anyway


def _rule(init: ir.Init) -> str:
    """The line that starts a module's weight, or what tells it apart if its numbers depend on the Config."""
    if any(n.symbols for n in init.numbers):
        return f"{init.kind} {init.numbers}"
    code = _init_code(Text("module.weight"), init, [number(v) for n in init.numbers if (v := n.value()) is not None])
    return render(code, lambda v: v.hint)
