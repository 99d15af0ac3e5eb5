"""Modules that frameworks have: matched on the structure of a body, never on a name. What their parameters are called in a state dict is given
to them by `name_parameters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import permutations

from ...compiler import ir
from ...compiler.dims import ONE, Expr
from ...compiler.ir import Label, Value
from ...grammar.frozen import frozen, mutable


@frozen(kw_only=True, eq=False)
class Linear:
    """`nn.Linear(size_in, size_out, bias)`: contracts the last axes `inside` of the input, gives the axes `outside`."""

    inside: tuple[Label, ...]
    outside: tuple[Label, ...]
    size_in: Expr
    size_out: Expr
    weight: ir.Param
    bias: ir.Param | None


@frozen(kw_only=True, eq=False)
class Embedding:
    """`nn.Embedding(rows, width)`: an int tensor becomes rows with the axes `outside`."""

    outside: tuple[Label, ...]
    rows: Expr
    width: Expr
    weight: ir.Param
    bias: None = None


@frozen(kw_only=True, eq=False)
class Norm:
    """`nn.LayerNorm` or `nn.RMSNorm` over the last axis."""

    kind: str
    size: Expr
    eps: Expr
    weight: ir.Param
    bias: ir.Param | None


Native = Linear | Embedding | Norm


@frozen(kw_only=True, eq=False)
class Fused:
    """Linear maps of one input as one, `whole`: its results are those of the `parts`, by their names; `short` is what these do not share, `joined` all of that."""

    whole: Linear
    parts: Mapping[str, Linear]
    short: tuple[str, ...]
    joined: str


@lru_cache(maxsize=1024)  # modules never change, and every part of a backend asks
def match_native(module: ir.Module) -> Native | None:
    """The native module that is exactly this one, if there is one."""
    if module.children or not module.params or len(module.inputs) != 1 or len(module.outputs) != 1:
        return None
    if len(module.params) > 2 or any(not p.trainable or p.init.table is not None for p in module.params):
        return None
    return next((found for match in MATCHERS if (found := match(module)) is not None), None)


def _product(axes: tuple[ir.Axis, ...]) -> Expr:
    total = ONE
    for axis in axes:
        total = total * axis.size
    return total


def _producers(module: ir.Module) -> dict[Value, ir.Node]:
    return {out: node for node in module.body for out in node.outs}


def _match_linear(module: ir.Module) -> Linear | None:
    """[Rename] Einsum(x, weight) [+ bias], the weight's axes being those of the result and then those contracted."""
    body = [n for n in module.body if not isinstance(n, ir.Transpose)]
    x = module.inputs[0]
    names = x.type.labels
    if body and isinstance(body[0], ir.Rename) and body[0].x is x:
        x, names = body[0].out, body[0].out.type.labels
        body = body[1:]
    if not body or not isinstance(body[0], ir.Einsum) or len(body[0].args) != 2:
        return None
    contraction = body[0]
    param = next((p for p in module.params if set(contraction.args) == {x, p.value}), None)
    if param is None:
        return None
    bias = next((p for p in module.params if p is not param), None)
    weight = param.type
    inside = tuple(label for label in names if label in contraction.over)
    outside = tuple(label for label in weight.labels if label not in contraction.over)
    in_order = weight.labels == (*outside, *inside) and names[len(names) - len(inside) :] == inside
    if not in_order or len(inside) != len(contraction.over) or not inside or not outside or set(outside) & set(names):
        return None
    if x.type.dtype != "float" or not _ends_with_bias(body[1:], contraction.out, None if bias is None else bias.value, outside, module):
        return None
    size_in, size_out = _product(weight.axes[len(outside) :]), _product(weight.axes[: len(outside)])
    return Linear(inside=inside, outside=outside, size_in=size_in, size_out=size_out, weight=param, bias=bias)


def _ends_with_bias(rest: Sequence[ir.Node], y: Value, bias: Value | None, outside: tuple[Label, ...], module: ir.Module) -> bool:
    order = (*(label for label in y.type.labels if label not in outside), *outside)
    last = module.outputs[0]
    if last.type.labels != order:
        return False
    if bias is None:
        return not rest and _is_result(module, y)
    if bias.type.labels != outside or len(rest) != 1 or not isinstance(rest[0], ir.Elementwise):
        return False
    add = rest[0]
    return add.function == "add" and set(add.args) == {y, bias} and _is_result(module, add.out)


def _is_result(module: ir.Module, value: Value) -> bool:
    last = module.outputs[0]
    made = _producers(module).get(last)
    while isinstance(made, ir.Transpose) and last is not value:
        last = made.x
        made = _producers(module).get(last)
    return last is value


def _match_embedding(module: ir.Module) -> Embedding | None:
    """weight[row = ids], and nothing else."""
    body = [n for n in module.body if not isinstance(n, ir.Transpose)]
    if len(body) != 1 or len(module.params) != 1 or not isinstance(body[0], ir.Take):
        return None
    take, weight = body[0], module.params[0].value
    if take.x is not weight or len(take.over) != 1 or take.indices[0] is not module.inputs[0] or weight.type.labels[0] is not take.over[0]:
        return None
    outside = weight.type.labels[1:]
    if module.outputs[0].type.labels != (*module.inputs[0].type.labels, *outside) or not outside:
        return None
    return Embedding(outside=outside, rows=weight.type.axes[0].size, width=_product(weight.type.axes[1:]), weight=module.params[0])


# ---------------------------------------------------------------- norms, as terms

Term = tuple["str | Term", ...]


class _UnlikeError(Exception):
    pass


@mutable
class _Terms:
    """A body as a term in x, a weight and a bias; sums and products have no order; `eps` stands for a number; casts are left out."""

    module: ir.Module
    names: Mapping[Value, str]
    eps: Expr | None = None

    def of(self, v: ir.Operand) -> Term:
        if isinstance(v, Expr):
            return ("number", repr(v.constant)) if v.constant in (2, 0.5, -0.5, 1) else self._number(v)
        if v is self.module.inputs[0]:
            return ("x",)
        if v in self.names:
            return (self.names[v],)
        node = _producers(self.module).get(v)
        match node:
            case ir.Cast() | ir.Transpose():
                return self.of(node.x)
            case ir.Reduce(function="mean"):
                if len(node.over) != 1 or node.over[0] is not self.module.inputs[0].type.labels[-1]:
                    raise _UnlikeError
                return ("mean", self.of(node.x))
            case ir.Elementwise():
                return self._pointwise(node)
        raise _UnlikeError

    def _number(self, v: Expr) -> Term:
        if self.eps is not None and self.eps != v:
            raise _UnlikeError
        self.eps = v
        return ("eps",)

    def _pointwise(self, node: ir.Elementwise) -> Term:
        args = [self.of(a) for a in node.args]
        match node.function:
            case "mul" if node.args[0] is node.args[1]:
                return ("square", args[0])
            case "mul" | "add":
                flat = [p for a in args for p in (a[1:] if a[0] == node.function else (a,))]
                return (node.function, *sorted(flat, key=repr))
            case "pow" if args[1] == ("number", "2"):
                return ("square", args[0])
            case "pow" if args[1] == ("number", "-0.5"):
                return ("rsqrt", args[0])
            case "pow" if args[1] == ("number", "0.5"):
                return ("sqrt", args[0])
            case "div" if args[1][0] == "sqrt":
                return self._times(args[0], ("rsqrt", *args[1][1:]))
            case "sub" | "rsqrt" | "sqrt":
                return (node.function, *args)
        raise _UnlikeError

    def _times(self, *args: Term) -> Term:
        flat = [p for a in args for p in (a[1:] if a[0] == "mul" else (a,))]
        return ("mul", *sorted(flat, key=repr))


def _mul(*terms: Term) -> Term:
    return ("mul", *sorted(terms, key=repr))


def _add(*terms: Term) -> Term:
    return ("add", *sorted(terms, key=repr))


_X: Term = ("x",)
_CENTRED: Term = ("sub", _X, ("mean", _X))
_RMS = _mul(_X, ("rsqrt", _add(("mean", ("square", _X)), ("eps",))), ("weight",))
_LAYER = _mul(_CENTRED, ("rsqrt", _add(("mean", ("square", _CENTRED)), ("eps",))), ("weight",))
NORMS: tuple[tuple[Term, str], ...] = ((_RMS, "RMSNorm"), (_LAYER, "LayerNorm"), (_add(_LAYER, ("bias",)), "LayerNorm"))
"""Where the result is cast back matters in half precision only, by one rounding."""


def _match_norm(module: ir.Module) -> Norm | None:
    kind = module.inputs[0].type
    if not kind.axes or kind.dtype != "float" or module.outputs[0].type.dtype != "float" or module.outputs[0].type.labels != kind.labels:
        return None
    if any(p.type.labels != kind.labels[-1:] for p in module.params) or kind.labels[-1] is ir.REST:
        return None
    for weight, *rest in permutations(module.params):
        bias = rest[0] if rest else None
        terms = _Terms(module, {weight.value: "weight"} | ({bias.value: "bias"} if bias else {}))
        try:
            term = terms.of(module.outputs[0])
        except _UnlikeError:
            return None
        for form, name in NORMS:
            if term == form and terms.eps is not None:
                return Norm(kind=name, size=kind.axes[-1].size, eps=terms.eps, weight=weight, bias=bias)
    return None


MATCHERS: tuple[Callable[[ir.Module], Native | None], ...] = (_match_linear, _match_embedding, _match_norm)
