"""Parameters that start as a table: computed from index tensors in the constructor."""

from __future__ import annotations

from collections.abc import Mapping

from ...compiler import ir
from ...compiler.dims import Expr
from ..python.code import Code, Return, Statement, Var
from ..python.fold_values import fold_values
from ..python.name_variables import name_variables
from ..python.write_body import BodyWriter, Numbers
from .moves import TorchMoves
from .simplify import simplifier


class _InConstructor(Numbers):
    """Numbers as the constructor names them."""

    def forward(self, expr: Expr, name: str = "") -> Code:
        return self.init(expr)


def table_code(region: ir.Region, numbers: Numbers, param: ir.Param) -> tuple[tuple[Statement, ...], Code, Mapping[Var, str]]:
    """Statements and then an expression, with the names of what they bind; index tensors stand on the default device, so that the meta device
    works."""
    from .lowerings import LOWERINGS

    inner = _InConstructor(numbers.plans, numbers.plan, numbers.is_root)
    w = BodyWriter(module=numbers.plan.first, numbers=inner, moves=TorchMoves(), lower=LOWERINGS, constructing=True)
    w.write(region.body)
    result = w.arranged(w.read(region.result), tuple((label,) for label in _order(region, param)))
    *statements, last = fold_values((*w.statements, Return(result)), (), 8, simplifier(()))
    assert isinstance(last, Return)
    reserved = {"self", "config", "torch", "nn", "math", *(n for n, _ in numbers.plan.numbers)}
    return tuple(statements), last.value, name_variables((*statements, last), {}, reserved)


def _order(region: ir.Region, param: ir.Param) -> tuple[ir.Label, ...]:
    have = region.result.type.labels
    return tuple(label for label in param.type.labels if label in have) if set(param.type.labels) >= set(have) else have
