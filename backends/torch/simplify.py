"""Idioms that appear when expressions are joined."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..python.code import Attribute, Binary, Call, Code, Subscript, Text, Unary, map_parts

REDUCTIONS = frozenset(("sum", "mean", "amax", "amin", "any", "all", "logsumexp", "prod"))
POINTWISE = frozenset(("exp", "log", "log1p", "sqrt", "rsqrt", "abs", "square", "reciprocal", "tanh", "sigmoid"))
LAST = Unary("-", Text("1"))
NEW_LAST = (Text("..."), Text("None"))


def simplifier(numbers: Collection[str], vectors: Collection[str] = ()) -> Callable[[Code], Code]:
    """`x.sum(-1)[..., None]` is `x.sum(-1, keepdim=True)`, also under functions of single entries; a product with a weight takes what is added
    to it. `numbers`: names of what is no tensor; `vectors`: of parameters with one axis."""

    def simplify(code: Code) -> Code:
        code = map_parts(code, simplify)
        if isinstance(code, Subscript) and code.items == NEW_LAST:
            return kept(code.value) or code
        match code:
            case Binary("+", Call(Text("F.linear"), (x, weight), ()), Attribute(Text("self"), name) as bias) | Binary(
                "+", Attribute(Text("self"), name) as bias, Call(Text("F.linear"), (x, weight), ())
            ) if name in vectors:
                return Call(Text("F.linear"), (x, weight, bias))
            case _:
                return code

    def kept(code: Code) -> Code | None:
        """The code with the axis that it reduced last kept, as one of size 1."""
        match code:
            case Call(Attribute(_, name) as function, (last,), ()) if name in REDUCTIONS and last == LAST:
                return Call(function, (last,), (("keepdim", Text("True")),))
            case Call(Attribute(inner, name), (), ()) if name in POINTWISE and (new := kept(inner)) is not None:
                return Call(Attribute(new, name))
            case Binary(operator, left, right) if is_number(right) and (new := kept(left)) is not None:
                return Binary(operator, new, right)
            case Binary(operator, left, right) if is_number(left) and (new := kept(right)) is not None:
                return Binary(operator, left, new)
            case _:
                return None

    def is_number(code: Code) -> bool:
        match code:
            case Text(text):
                return text in numbers or not text[:1].isalpha()
            case Attribute(Text("self"), name):
                return name in numbers
            case Attribute(Attribute(Text("self"), "config"), _):
                return True
            case Binary(_, left, right):
                return is_number(left) and is_number(right)
            case Unary(_, value):
                return is_number(value)
            case _:
                return False

    return simplify
