"""How the weights of torch's own modules start: one rule for each kind of module, and linear maps with a rule of their own."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from ...compiler import ir
from ..python.code import number, render
from ..python.name_parameters import native_of
from ..python.natives import Linear, Native, Norm
from ..python.plan_classes import Plans


def init_rules(plans: Plans) -> list[str]:
    """The body of `init_weights`: the commonest rule for each kind of module."""
    chosen = _commonest(plans)
    apart = any(own_start(native, plans) is not None for native in _natives(plans) if isinstance(native, Linear))
    found: list[str] = []
    for call, kinds in groupby(sorted(chosen, key=lambda k: chosen[k]), key=lambda k: chosen[k]):
        names = sorted(kinds)
        test = "type(module) is nn.Linear" if apart and names == ["nn.Linear"] else f"isinstance(module, {' | '.join(names)})"
        if apart and "nn.Linear" in names and len(names) > 1:
            test += " and not isinstance(module, ScaledLinear)"
        found += [f"if {test}:", f"    {call}"]
    if "nn.Linear" in chosen:
        found += ["if isinstance(module, nn.Linear) and module.bias is not None:", "    nn.init.zeros_(module.bias)"]
    return found


def own_start(native: Linear, plans: Plans) -> ir.Init | None:
    """How a linear map's weight starts where the rule of all others does not say it: normal, with a standard deviation, or zero."""
    init = native.weight.init
    if init.kind not in ("normal", "zeros"):
        return None
    if not any(n.symbols for n in init.numbers) and _init_call(init) == _commonest(plans).get("nn.Linear"):
        return None
    return init


def _natives(plans: Plans) -> list[Native]:
    uses = [use for plan in plans.plans if plan.is_native for use in plan.of.uses]
    return [native for use in uses if (native := native_of(use)) is not None]


def _commonest(plans: Plans) -> dict[str, str]:
    """For each kind of module, what its weights mostly start as; of linear maps, of those that start the same for every Config."""
    rules: dict[str, Counter[str]] = {}
    for native in _natives(plans):
        init = native.weight.init
        computed = isinstance(native, Linear) and any(n.symbols for n in init.numbers)
        if not computed and not (isinstance(native, Norm) and init.kind == "ones"):  # as torch does anyway
            kind = "nn.Linear" if isinstance(native, Linear) else f"nn.{type(native).__name__}"
            rules.setdefault(kind, Counter())[_init_call(init)] += 1
    return {kind: counts.most_common(1)[0][0] for kind, counts in rules.items()}


def _init_call(init: ir.Init) -> str:
    text = [render(number(v), lambda v: v.hint) for n in init.numbers if (v := n.value()) is not None]
    match init.kind:
        case "normal":
            return f"nn.init.normal_(module.weight, std={text[0]})"
        case "uniform":
            return f"nn.init.uniform_(module.weight, {text[0]}, {text[1]})"
        case "constant":
            return f"nn.init.constant_(module.weight, {text[0]})"
        case _:
            return f"nn.init.{init.kind}_(module.weight)"
