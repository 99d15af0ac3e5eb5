"""Expressions with the parentheses they need, statements as the formatter writes them, names that never clash."""

from __future__ import annotations

import pytest

from xfc.backends.python.code import (
    Assign,
    Attribute,
    Binary,
    Block,
    Call,
    Choice,
    Code,
    Range,
    Return,
    Subscript,
    Text,
    Unary,
    Var,
    call,
    lines,
    method,
    number,
    render,
)
from xfc.backends.python.fold_values import fold_values
from xfc.backends.python.name_variables import name_variables
from xfc.backends.torch.simplify import simplifier

A, B, C = Text("a"), Text("b"), Text("c")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (Binary("*", Binary("+", A, B), C), "(a + b) * c"),
        (Binary("+", Binary("*", A, B), C), "a * b + c"),
        (Binary("-", A, Binary("-", B, C)), "a - (b - c)"),
        (Binary("/", A, Binary("*", B, C)), "a / (b * c)"),
        (Binary("**", A, Unary("-", number(0.5))), "a**-0.5"),
        (Binary("**", call("f", A), number(2)), "f(a) ** 2"),
        (Binary("**", Unary("-", A), number(2)), "(-a) ** 2"),
        (Binary("&", Binary("<=", A, B), Binary("<", B, C)), "(a <= b) & (b < c)"),
        (Unary("~", Binary("&", A, B)), "~(a & b)"),
        (method(Binary("+", A, B), "sum", number(-1)), "(a + b).sum(-1)"),
        (Subscript(A, (Range(), Range(None, Unary("-", B)))), "a[:, :-b]"),
        (Subscript(A, (Range(Binary("+", A, B), None),)), "a[a + b :]"),
        (Subscript(A, (Range(None, Attribute(A, "n")),)), "a[: a.n]"),
        (Choice(Binary("is", A, Text("None")), B, C), "b if a is None else c"),
        (number(1e-5), "1e-5"),
        (number(-2), "-2"),
    ],
)
def test_render(code: Code, text: str) -> None:
    assert render(code, lambda v: v.hint) == text


def test_long_calls_break_as_the_formatter_breaks_them() -> None:
    long = Call(Text("function"), tuple(Text(f"argument_number_{k}") for k in range(6)))
    assert lines((Return(long),), lambda v: v.hint, 4) == [
        "    return function(",
        "        argument_number_0, argument_number_1, argument_number_2, argument_number_3, argument_number_4, argument_number_5",
        "    )",
    ]


def test_long_sums_in_brackets_stay_numbers() -> None:
    long: Code = number(1)
    for k in range(2, 40):
        long = Binary("+", long, number(1000 + k))
    text = "\n".join(lines((Return(Binary("//", long, number(7))),), lambda v: v.hint, 4))
    namespace: dict[str, object] = {}
    exec(f"def f():\n{text}", namespace)
    assert namespace["f"]() == (1 + sum(1000 + k for k in range(2, 40))) // 7  # type: ignore[operator]


def test_nameless_values_move_and_named_ones_stay() -> None:
    x, y, z = Var(hint="x"), Var(kind="y"), Var(hint="z")
    body = fold_values((Assign((y,), call("f", x)), Assign((z,), call("g", y)), Return(call("h", z, x))), (x,), 4)
    names = name_variables(body, {x: "x"}, ())
    assert lines(body, names.__getitem__, 4) == ["    z = g(f(x))", "    return h(z, x)"]


def test_dead_values_go() -> None:
    x, y = Var(hint="x"), Var(hint="y")
    assert len(fold_values((Assign((y,), call("f", x)), Return(x)), (x,), 4)) == 1


def test_a_dead_value_lends_its_name() -> None:
    old, new, beside = Var(hint="x"), Var(hint="x"), Var(hint="x")
    body = (Assign((new,), call("f", old)), Assign((beside,), call("g", new)), Return(call("h", new, beside)))
    names = name_variables(body, {old: "x"}, ())
    assert names[new] == "x"
    assert names[beside] != "x"


def test_an_input_that_is_always_read_with_new_dimensions_gets_them_first() -> None:
    x, y, c = Var(hint="x"), Var(hint="y"), Var(hint="c")
    view = Subscript(c, (Text(":"), Text("None")))
    body = fold_values((Assign((y,), Binary("*", x, view)), Return(call("f", y, Binary("-", y, view)))), (x, c), 4)
    names = name_variables(body, {x: "x", c: "c"}, ())
    assert lines(body, names.__getitem__, 4) == ["    c = c[:, None]", "    y = x * c", "    return f(y, y - c)"]


def test_an_input_that_is_set_where_it_is_left_out_keeps_its_dimensions() -> None:
    x, y, c = Var(hint="x"), Var(hint="y"), Var(hint="c")
    view = Subscript(c, (Text(":"), Text("None")))
    left_out = Block(Binary("is", c, Text("None")), "if", (Assign((c,), call("g", x)),))
    body = fold_values((left_out, Assign((y,), Binary("*", x, view)), Return(call("f", y, Binary("-", y, view)))), (x, c), 4)
    names = name_variables(body, {x: "x", c: "c"}, ())
    wanted = ["    if c is None:", "        c = g(x)", "    y = x * c[:, None]", "    return f(y, y - c[:, None])"]
    assert lines(body, names.__getitem__, 4) == wanted


def test_reserved_names_are_not_taken() -> None:
    x, f = Var(hint="x"), Var(hint="rope")
    names = name_variables((Assign((f,), call("g", x)), Return(call("h", f, f))), {x: "x"}, {"rope"})
    assert names[f] != "rope"


def test_keepdim() -> None:
    code = Subscript(method(A, "sum", number(-1)), (Text("..."), Text("None")))
    assert render(simplifier(())(code), lambda v: v.hint) == "a.sum(-1, keepdim=True)"


def test_a_product_with_a_weight_takes_a_vector_that_is_added() -> None:
    """A parameter of one axis is a bias; anything else that is added stays apart."""
    product = call("F.linear", Text("x"), Text("w"))
    bias, table = Attribute(Text("self"), "bias"), Attribute(Text("self"), "table")
    simplify = simplifier((), {"bias"})
    assert render(simplify(Binary("+", product, bias)), lambda v: v.hint) == "F.linear(x, w, self.bias)"
    assert render(simplify(Binary("+", bias, product)), lambda v: v.hint) == "F.linear(x, w, self.bias)"
    assert render(simplify(Binary("+", product, table)), lambda v: v.hint) == "F.linear(x, w) + self.table"
    assert render(simplify(Binary("-", product, bias)), lambda v: v.hint) == "F.linear(x, w) - self.bias"
