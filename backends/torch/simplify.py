"""Idioms that appear when expressions are joined."""

from __future__ import annotations

from ..python.code import Attribute, Call, Code, Subscript, Text, Unary, map_parts

REDUCTIONS = frozenset(("sum", "mean", "amax", "amin", "any", "all", "logsumexp", "prod"))
LAST = Unary("-", Text("1"))
NEW_LAST = (Text("..."), Text("None"))


def simplify(code: Code) -> Code:
    """`x.sum(-1)[..., None]` is `x.sum(-1, keepdim=True)`."""
    code = map_parts(code, simplify)
    match code:
        case Subscript(Call(Attribute(_, name) as function, (last,), ()), items) if (
            name in REDUCTIONS and last == LAST and items == NEW_LAST
        ):
            return Call(function, (last,), (("keepdim", Text("True")),))
        case _:
            return code
