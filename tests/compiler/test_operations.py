"""The type rules: the types they give, and the mistakes they report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import ONE, ZERO, Expr, Sym, apply, const, sym
from xfc.compiler.ir import REST, Axis, DType, Fact, Label, Region, Type, Value
from xfc.compiler.operations import Body, Poison, scores_type
from xfc.grammar.tree import Source, Span

SPAN = Span(Source("test.xf", "a spec"), 0, 1)
B, T, D, HEADS = Sym("b"), Sym("t"), Sym("d", 64), Sym("heads", 4)
b, t, d, h, e, k, s, n = (Label(name) for name in "btdheksn")
SIZES: dict[Label, Expr] = {b: sym(B), t: sym(T), d: sym(D), h: sym(HEADS), e: const(7), k: const(3), s: sym(T), n: const(5), REST: ONE}


def tensor(*labels: Label, dtype: DType = "float", hint: str = "x") -> Value:
    return Value(Type(tuple(Axis(label, SIZES[label]) for label in labels), dtype), hint)


def body() -> Body:
    return Body([], Diagnostics(), [])


def sized(*axes: tuple[Label, Expr]) -> Value:
    return Value(Type(tuple(Axis(label, size) for label, size in axes)), "y")


X, IDS, KEEP = tensor(b, t, d), tensor(b, t, dtype="int", hint="ids"), tensor(b, t, dtype="bool", hint="keep")
TABLE = tensor(n, d, hint="table")
Rule = Callable[[Body], Value]

TYPES: list[tuple[Rule, str]] = [
    (lambda o: o.elementwise("mul", (tensor(d), X), SPAN), "float[b, t, d]"),
    (lambda o: o.elementwise("add", (tensor(REST, d), tensor(d)), SPAN), "float[..., d]"),
    (lambda o: o.elementwise("add", (tensor(t), tensor(d)), SPAN), "float[t, d]"),
    (lambda o: o.elementwise("add", (IDS, ONE), SPAN), "int[b, t]"),
    (lambda o: o.elementwise("mul", (IDS, const(0.5)), SPAN), "float[b, t]"),
    (lambda o: o.elementwise("div", (IDS, const(2)), SPAN), "float[b, t]"),
    (lambda o: o.elementwise("add", (KEEP, KEEP), SPAN), "int[b, t]"),
    (lambda o: o.elementwise("add", (X, tensor(d, dtype="float32")), SPAN), "float32[b, t, d]"),
    (lambda o: o.elementwise("where", (KEEP, X, ZERO), SPAN), "float[b, t, d]"),
    (lambda o: o.elementwise("clamp", (IDS, ZERO, const(float("inf"))), SPAN), "int[b, t]"),
    (lambda o: o.elementwise("pow", (const(2), IDS), SPAN), "int[b, t]"),
    (lambda o: o.elementwise("lt", (X, ONE), SPAN), "bool[b, t, d]"),
    (lambda o: o.reduce("mean", IDS, (t,), SPAN), "float[b]"),
    (lambda o: o.reduce("sum", KEEP, (t,), SPAN), "int[b]"),
    (lambda o: o.reduce("argmax", X, (d,), SPAN), "int[b, t]"),
    (lambda o: o.reduce("max", tensor(REST, d), (REST,), SPAN), "float[d]"),
    (lambda o: o.along("softmax", X, d, SPAN), "float[b, t, d]"),
    (lambda o: o.along("argsort", X, t, SPAN), "int[b, t, d]"),
    (lambda o: o.top(X, const(2), d, k, SPAN)[1], "int[b, t, k: 2]"),
    (lambda o: o.einsum((X, tensor(d, h, e)), (d,), SPAN), "float[b, t, h: heads, e: 7]"),
    (lambda o: o.split(X, d, (const(16), const(48)), (h, d), SPAN)[0], "float[b, t, h: 16]"),
    (lambda o: o.unflatten(X, d, (Axis(h, sym(HEADS)), Axis(e, o.divide(sym(D), sym(HEADS), SPAN))), SPAN),
     "float[b, t, h: heads, e: d // heads]"),
    (lambda o: o.flatten(tensor(b, h, e), (h, e), d, SPAN), "float[b, d: 7 * heads]"),
    (lambda o: o.rename(X, (t,), (s,), SPAN), "float[b, s: t, d]"),
    (lambda o: o.transpose(X, (d, t, b), SPAN), "float[d, t, b]"),
    (lambda o: o.expand(X, (Axis(h, sym(HEADS)),), SPAN), "float[h: heads, b, t, d]"),
    (lambda o: o.squeeze(sized((b, sym(B)), (k, ONE)), k, SPAN), "float[b]"),
    (lambda o: o.stack((X, tensor(d)), k, SPAN), "float[b, t, d, k: 2]"),
    (lambda o: o.unstack(tensor(t, k), k, SPAN)[2], "float[t]"),
    (lambda o: o.concat((X, tensor(b, t, d)), d, SPAN), "float[b, t, d: 2 * d]"),
    (lambda o: o.concat((tensor(n, d), X), d, SPAN), "float[b, t, d: 2 * d, n: 5]"),
    (lambda o: o.pad(X, t, ONE, ZERO, ZERO, SPAN), "float[b, t: t + 1, d]"),
    (lambda o: o.slice(X, t, ONE, sym(T), SPAN), "float[b, t: t - 1, d]"),
    (lambda o: o.unfold(o.pad(X, t, const(2), ZERO, ZERO, SPAN), t, Axis(k, const(3)), ONE, ONE, SPAN), "float[b, t, d, k: 3]"),
    (lambda o: o.take(TABLE, (n,), (IDS,), SPAN), "float[b, t, d]"),
    (lambda o: o.take(X, (t,), (const(-1),), SPAN), "float[b, d]"),
    (lambda o: o.take(X, (t,), (tensor(b, k, dtype="int"),), SPAN), "float[b, k: 3, d]"),
    (lambda o: o.scatter_add(tensor(b, n), tensor(b, t, dtype="int"), tensor(b, t), n, SPAN), "float[b, n: 5]"),
    (lambda o: o.one_hot(IDS, Axis(n, const(5)), SPAN), "bool[b, t, n: 5]"),
    (lambda o: o.linear_recurrence(tensor(b, t), X, t, SPAN), "float[b, t, d]"),
    (lambda o: o.cross_entropy(X, IDS, d, SPAN), "float32[]"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "expected"), TYPES, ids=[text for _, text in TYPES])
def test_types(rule: Rule, expected: str) -> None:
    made = body()
    found = repr(rule(made).type)
    assert found == expected
    assert made.nodes and not made.diagnostics.found


MISTAKES: list[tuple[Rule, str, str]] = [
    (lambda o: o.elementwise("add", (X, sized((d, const(48)))), SPAN), "E201", "axis `d` is 64 in `x` [b, t, d: 64] and 48 in `y` [d: 48]"),
    (lambda o: o.elementwise("add", (X, sized((t, sym(T) - ONE))), SPAN), "E201", "axis `t` is t in `x` [b, t, d: 64] and t - 1"),
    (lambda o: o.reduce("sum", X, (h,), SPAN), "E202", "`x` [b, t, d: 64] has no axis `h`"),
    (lambda o: o.rename(X, (t,), (d,), SPAN), "E203", "axis `d` twice"),
    (lambda o: o.dropout(IDS, const(0.1), SPAN), "E204", "needs a float"),
    (lambda o: o.split(X, d, (const(16), const(47)), (d, d), SPAN)[0], "E205", "16 + 47 = 63"),
    (lambda o: o.unflatten(X, d, (Axis(h, const(5)), Axis(e, const(7))), SPAN), "E206", "5 * 7 = 35"),
    (lambda o: o.take(X, (d,), (const(64),), SPAN), "E207", "index 64"),
    (lambda o: o.slice(X, d, ZERO, const(65), SPAN), "E207", "0 .. 65"),
    (lambda o: o.squeeze(X, d, SPAN), "E208", "`d` is 64"),
    (lambda o: o.top(X, const(65), d, k, SPAN)[0], "E209", "65 largest"),
    (lambda o: o.full((Axis(h, o.divide(sym(D), const(5), SPAN)),), ONE, "float", SPAN), "E210", "d / 5: 64 is not divisible by 5"),
    (lambda o: o.elementwise("and", (KEEP, IDS), SPAN), "E211", "must be bool"),
    (lambda o: o.take(TABLE, (n,), (X,), SPAN), "E212", "must be int"),
    (lambda o: o.transpose(X, (b, t), SPAN), "E215", "not an order"),
    (lambda o: o.unstack(X, t, SPAN)[0], "E216", "needs the size"),
    (lambda o: o.flatten(tensor(REST, d), (REST, d), d, SPAN), "E217", "not along `...`"),
    (lambda o: o.cross_entropy(X, tensor(b, dtype="int"), d, SPAN), "E218", "targets"),
    (lambda o: o.full((Axis(h, o.divide(sym(D), ZERO, SPAN)),), ONE, "float", SPAN), "E219", "divides by zero"),
    (lambda o: o.unfold(tensor(n), n, Axis(k, const(6)), ONE, ONE, SPAN), "E220", "does not fit"),
    (lambda o: o.scatter_add(tensor(n), tensor(t, dtype="int"), tensor(t, d), n, SPAN), "E221", "`d`"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "code", "message"), MISTAKES, ids=[code for _, code, _ in MISTAKES])
def test_mistakes(rule: Rule, code: str, message: str) -> None:
    made = body()
    with pytest.raises(Poison):
        rule(made)
    assert [found.code for found in made.diagnostics.found] == [code]
    assert message in made.diagnostics.found[0].message


def test_facts_record_what_was_used() -> None:
    made = body()
    made.divide(sym(D), sym(HEADS), SPAN)
    made.elementwise("add", (X, sized((d, const(64)))), SPAN)
    made.divide(sym(T), const(4), SPAN)
    assert [(f.kind, str(f.a), str(f.b)) for f in made.facts] == [("divides", "heads", "d"), ("equal", "d", "64"), ("divides", "4", "t")]
    assert all(isinstance(f, Fact) for f in made.facts)


def attention(made: Body, q: Value, keys: Value, values: Value, mask: Region | None = None) -> Value:
    return made.attend(q, keys, values, t, t, s, ONE, mask, None, None, SPAN)


def test_attend_broadcasts_what_keys_lack() -> None:
    made = body()
    q, keys = tensor(b, t, h, k, e), tensor(b, t, h, e)
    assert attention(made, q, keys, keys).type.labels == (b, t, h, k, e)
    assert attention(made, q, keys, tensor(b, t, h, d)).type.labels == (b, t, h, k, d)
    assert scores_type(q.type, keys.type, t, t, s, e).labels == (b, h, k, t, s)


def test_attend_refuses_axes_of_keys_that_queries_lack() -> None:
    made = body()
    with pytest.raises(Poison):
        attention(made, tensor(b, t, e), tensor(b, t, h, e), tensor(b, t, h, e))
    assert made.diagnostics.found[0].code == "E213"


def test_attend_refuses_a_mask_of_other_axes() -> None:
    made = body()
    inner = made.inner()
    i, j = tensor(t, dtype="int", hint="i"), tensor(s, dtype="int", hint="j")
    result = inner.elementwise("le", (j, tensor(n, dtype="int")), SPAN)
    with pytest.raises(Poison):
        attention(made, tensor(b, t, e), tensor(b, t, e), tensor(b, t, e), Region(params=(i, j), body=tuple(inner.nodes), result=result))
    assert made.diagnostics.found[0].code == "E214"


def test_multiples_leave_a_quotient() -> None:
    """A strided convolution over a grid of even sides halves it, and is written so."""
    size, stride = sym(Sym("size")), sym(Sym("stride"))
    halved = apply("floor_div", size - stride, stride) + ONE
    assert halved == apply("floor_div", size, stride)
    assert apply("floor_div", size * stride, stride) == size
    assert apply("floor_div", size * const(6) + const(5), const(3)) == size * const(2) + ONE
    for numerator in (size * const(4) - const(7), size * stride - size + const(9), stride * stride + const(3) * stride - size):
        for denominator in (const(3), const(4), stride, stride * const(2)):
            for under in ({size: 5, stride: 3}, {size: 17, stride: 2}, {size: 4, stride: 7}):
                values = {next(iter(expr.symbols)): value for expr, value in under.items()}
                left, right = numerator.value(values), denominator.value(values)
                assert apply("floor_div", numerator, denominator).value(values) == left // right  # type: ignore[operator]
