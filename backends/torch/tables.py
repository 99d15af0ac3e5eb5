"""Parameters that start as a table: an expression over index tensors, written in the constructor."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.dims import Expr
from ..python.code import Assign, Code, Var, substitute
from ..python.write_body import BodyWriter, Numbers
from .moves import TorchMoves


class _InConstructor(Numbers):
    """Numbers as the constructor names them."""

    def forward(self, expr: Expr, name: str = "") -> Code:
        return self.init(expr)


def table_code(region: ir.Region, numbers: Numbers, param: ir.Param) -> Code:
    """One expression; index tensors stand on the default device, so that the meta device works."""
    from .lowerings import LOWERINGS

    inner = _InConstructor(numbers.plans, numbers.plan, numbers.is_root)
    w = BodyWriter(module=numbers.plan.first, numbers=inner, moves=TorchMoves(), lower=LOWERINGS, constructing=True)
    w.write(region.body)
    result = w.arranged(w.read(region.result), tuple((label,) for label in _order(region, param)))
    values: dict[Var, Code] = {}
    for s in w.statements:
        assert isinstance(s, Assign) and s.targets[0] is not None
        values[s.targets[0]] = substitute(s.value, values)
    return substitute(result, values)


def _order(region: ir.Region, param: ir.Param) -> tuple[ir.Label, ...]:
    have = region.result.type.labels
    return tuple(label for label in param.type.labels if label in have) if set(param.type.labels) >= set(have) else have
