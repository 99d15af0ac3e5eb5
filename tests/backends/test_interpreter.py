"""Each operation of the IR, built by hand, against PyTorch or a line of NumPy that says the same by position."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from xfc.backends.interpreter import InterpreterError, initial_params, places, run
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import ONE, ZERO, Sym, apply, const, sym
from xfc.compiler.ir import REST, Axis, Bank, Child, Init, Label, ModelInput, Module, Param, Program, Region, Stack, Type, Value
from xfc.compiler.operations import Body
from xfc.grammar.tree import Source, Span

SPAN = Span(Source("test.xf", "spec\n"), 0, 4)
B, T, D, E, K, H = (Label(n) for n in "btdekh")
BATCH, TIME = Sym("b"), Sym("t")
SIZE = {B: sym(BATCH), T: sym(TIME), D: const(6), E: const(4), K: const(3), H: const(2)}
RNG = np.random.default_rng(0)


def axis(label: Label) -> Axis:
    return Axis(label, SIZE[label])


def value(*labels: Label, dtype: ir.DType = "float", hint: str = "x") -> Value:
    return Value(Type(tuple(map(axis, labels)), dtype), hint, SPAN)


def body() -> Body:
    return Body([], Diagnostics(), [])


def module(name: str, inputs, outputs, nodes=(), params=(), children=(), captured: int = 0) -> Module:
    names = tuple(f"y{k}" for k in range(len(outputs)))
    return Module(
        name=name, inputs=tuple(inputs), outputs=tuple(outputs), output_names=names, params=tuple(params), children=tuple(children),
        body=tuple(nodes), locals=(), captured=captured, doc="", span=SPAN,
    )  # fmt: skip


def program(root: Module, losses=(), inputs: tuple[ModelInput, ...] | None = None, config=()) -> Program:
    declared = inputs or tuple(
        ModelInput(name=f"x{k}", value=v, bound=None, default=None, training=False) for k, v in enumerate(root.inputs)
    )
    return Program(
        name="test", root=root, inputs=declared, config=tuple(config), dynamic=(BATCH, TIME), facts=(), losses=tuple(losses), assumptions=(),
        paper=None, source="test.xf", span=SPAN,
    )  # fmt: skip


def compute(build: Callable, *args: tuple[Value, np.ndarray], **options):
    """The results of one body on arrays."""
    made = body()
    found = build(made, *(v for v, _ in args))
    outs = found if isinstance(found, tuple) else (found,)
    root = module("root", [v for v, _ in args], outs, made.nodes)
    results = run(program(root), {}, {f"x{k}": a for k, (_, a) in enumerate(args)}, **options)
    arrays = tuple(results[f"y{k}"] for k in range(len(outs)))
    return arrays if isinstance(found, tuple) else arrays[0]


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


X = value(B, T, D)
x = floats(2, 5, 6)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("exp", torch.exp), ("log1p", lambda v: torch.log1p(v)), ("sin", torch.sin), ("cos", torch.cos), ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid), ("relu", torch.relu), ("silu", F.silu), ("gelu", F.gelu),
        ("gelu_tanh", lambda v: F.gelu(v, approximate="tanh")),
        ("softplus", F.softplus), ("erf", torch.erf), ("abs", torch.abs), ("sign", torch.sign), ("floor", torch.floor), ("neg", torch.neg),
        ("log", torch.log), ("sqrt", torch.sqrt), ("rsqrt", torch.rsqrt),
    ],
)  # fmt: skip
def test_functions_of_one_number(name: str, reference) -> None:
    given = np.abs(x) if name in ("log", "sqrt", "rsqrt", "log1p") else 3 * x
    found = compute(lambda b, v: b.elementwise(name, [v], SPAN), (X, given))
    np.testing.assert_allclose(found, reference(torch.from_numpy(given)).numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "floor_div", "mod", "minimum", "maximum", "pow"])
def test_functions_of_two_numbers_align_by_label(name: str) -> None:
    left, right = np.abs(x) + 1, np.abs(floats(6, 2)) + 1
    reference = {"floor_div": np.floor_divide, "mod": np.mod, "pow": np.power}.get(name) or getattr(
        np, {"sub": "subtract", "mul": "multiply", "div": "divide"}.get(name, name)
    )
    found = compute(lambda b, v, w: b.elementwise(name, [v, w], SPAN), (X, left), (value(D, B), right))
    np.testing.assert_allclose(found, reference(left, right.T[:, None, :]))


def test_whole_numbers() -> None:
    given = np.arange(-6, 6).reshape(2, 6)
    kind = value(B, D, dtype="int")
    np.testing.assert_array_equal(compute(lambda b, v: b.elementwise("floor_div", [v, const(4)], SPAN), (kind, given)), given // 4)
    np.testing.assert_array_equal(compute(lambda b, v: b.elementwise("mod", [v, const(4)], SPAN), (kind, given)), given % 4)
    halves = compute(lambda b, v: b.elementwise("div", [v, const(4)], SPAN), (kind, given), dtype=np.float32)
    assert halves.dtype == np.float32
    np.testing.assert_allclose(halves, given / 4)
    cut = compute(lambda b, v: b.elementwise("clamp", [v, const(-2), const(float("inf"))], SPAN), (kind, given))
    np.testing.assert_array_equal(cut, np.maximum(given, -2))


def test_where_and_comparison() -> None:
    def build(b, v):
        return b.elementwise("where", [b.elementwise("gt", [v, const(0)], SPAN), v, const(-1)], SPAN)

    np.testing.assert_allclose(compute(build, (X, x)), np.where(x > 0, x, -1))


def test_casts() -> None:
    assert compute(lambda b, v: b.cast(v, "float32", SPAN), (X, x), dtype=np.float16).dtype == np.float32
    assert compute(lambda b, v: b.cast(v, "float32", SPAN), (X, x), dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(compute(lambda b, v: b.cast(v, "int", SPAN), (X, 3 * x)), np.trunc(3 * x))
    np.testing.assert_array_equal(compute(lambda b, v: b.cast(v, "bool", SPAN), (X, x)), x != 0)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod", "logsumexp"])
def test_reductions(name: str) -> None:
    reference = {"logsumexp": lambda v, a: torch.logsumexp(torch.from_numpy(v), a).numpy()}.get(name) or (
        lambda v, a: getattr(np, name)(v, axis=a)
    )
    np.testing.assert_allclose(compute(lambda b, v: b.reduce(name, v, [T, D], SPAN), (X, x)), reference(x, (1, 2)))


def test_reductions_to_places_and_truths() -> None:
    np.testing.assert_array_equal(compute(lambda b, v: b.reduce("argmax", v, [T], SPAN), (X, x)), x.argmax(1))
    truths = value(B, T, D, dtype="bool")
    np.testing.assert_array_equal(compute(lambda b, v: b.reduce("any", v, [D, B], SPAN), (truths, x > 1)), (x > 1).any((0, 2)))
    np.testing.assert_array_equal(compute(lambda b, v: b.reduce("sum", v, [D], SPAN), (truths, x > 1)), (x > 1).sum(2))


def test_along_an_axis() -> None:
    given = torch.from_numpy(x)
    for name, wanted in {
        "softmax": given.softmax(1), "log_softmax": given.log_softmax(1), "cumsum": given.cumsum(1), "sort": given.sort(1).values,
        "argsort": given.argsort(1), "flip": given.flip(1),
    }.items():  # fmt: skip
        np.testing.assert_allclose(compute(lambda b, v, name=name: b.along(name, v, T, SPAN), (X, x)), wanted.numpy(), rtol=1e-12)


def test_softmax_of_nothing_is_zero() -> None:
    assert not compute(lambda b, v: b.along("softmax", v, T, SPAN), (X, np.full_like(x, -np.inf))).any()


def test_roll_and_top() -> None:
    np.testing.assert_array_equal(compute(lambda b, v: b.roll(v, const(2), T, SPAN), (X, x)), np.roll(x, 2, axis=1))
    best = torch.from_numpy(x).topk(3, dim=1)
    values, index = compute(lambda b, v: b.top(v, const(3), T, K, SPAN), (X, x))
    np.testing.assert_array_equal(values, best.values.numpy())
    np.testing.assert_array_equal(index, best.indices.numpy())


def test_einsum() -> None:
    other, third = floats(4, 6, 2), floats(5)
    found = compute(lambda b, u, v, w: b.einsum([u, v, w], [D], SPAN), (X, x), (value(E, D, B), other), (value(T), third))
    np.testing.assert_allclose(found, np.einsum("btd,edb,t->bte", x, other, third))
    lonely = compute(lambda b, u, v: b.einsum([u, v], [D, T, E], SPAN), (X, x), (value(E, D, B), other))
    np.testing.assert_allclose(lonely, np.einsum("btd,edb->b", x, other))


def test_split_flatten_unflatten() -> None:
    a, c = Label("a"), Label("c")
    first, second = compute(lambda b, v: b.split(v, D, [const(2), const(4)], [D, E], SPAN), (X, x))
    np.testing.assert_array_equal(first, x[..., :2])
    np.testing.assert_array_equal(second, x[..., 2:])
    np.testing.assert_array_equal(
        compute(lambda b, v: b.unflatten(v, D, [Axis(a, const(2)), Axis(c, const(3))], SPAN), (X, x)), x.reshape(2, 5, 2, 3)
    )
    np.testing.assert_array_equal(compute(lambda b, v: b.flatten(v, [D, B], a, SPAN), (X, x)), x.transpose(2, 0, 1).reshape(12, 5))
    with pytest.raises(InterpreterError, match="should be"):
        run(program(module("root", [X], [X])), {}, {"x0": floats(2, 5, 7)})


def test_rearranging() -> None:
    new = Label("new")
    np.testing.assert_array_equal(compute(lambda b, v: b.transpose(v, [D, B, T], SPAN), (X, x)), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(compute(lambda b, v: b.rename(v, [T], [new], SPAN), (X, x)), x)
    np.testing.assert_array_equal(compute(lambda b, v: b.expand(v, [axis(E)], SPAN), (X, x)), np.broadcast_to(x, (4, 2, 5, 6)))
    np.testing.assert_array_equal(compute(lambda b, v: b.squeeze(b.expand(v, [Axis(new, ONE)], SPAN), new, SPAN), (X, x)), x)
    np.testing.assert_array_equal(
        compute(lambda b, v: b.stack([v, b.elementwise("neg", [v], SPAN)], new, SPAN), (X, x)), np.stack([x, -x], -1)
    )
    slices = compute(lambda b, v: b.unstack(v, D, SPAN), (X, x))
    np.testing.assert_array_equal(slices[4], x[..., 4])


def test_concat_pad_slice() -> None:
    other = floats(3, 5)
    joined = Value(Type((Axis(D, const(3)), axis(T))), "y", SPAN)
    found = compute(lambda b, v, w: b.concat([v, w], D, SPAN), (X, x), (joined, other))
    np.testing.assert_array_equal(found, np.concatenate([x, np.broadcast_to(other.T, (2, 5, 3))], -1))
    np.testing.assert_array_equal(
        compute(lambda b, v: b.pad(v, T, const(1), const(2), const(7), SPAN), (X, x)),
        np.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=7),
    )
    np.testing.assert_array_equal(compute(lambda b, v: b.slice(v, T, ONE, sym(TIME) - ONE, SPAN), (X, x)), x[:, 1:-1])


def test_take_replaces_the_axis_and_aligns() -> None:
    table, index = floats(6, 4), RNG.integers(0, 6, (2, 5))
    np.testing.assert_array_equal(
        compute(lambda b, v, i: b.take(v, [D], [i], SPAN), (value(D, E), table), (value(B, T, dtype="int"), index)), table[index]
    )
    shared = RNG.integers(0, 5, (2, 3))
    found = compute(lambda b, v, i: b.take(v, [T], [i], SPAN), (X, x), (value(B, K, dtype="int"), shared))
    np.testing.assert_array_equal(found, np.take_along_axis(x, shared[:, :, None], axis=1))
    last = compute(lambda b, v: b.take(v, [T], [const(-1)], SPAN), (X, x))
    np.testing.assert_array_equal(last, x[:, -1])
    rows, columns = RNG.integers(0, 5, 3), RNG.integers(0, 6, 3)
    both = compute(
        lambda b, v, i, j: b.take(v, [T, D], [i, j], SPAN), (X, x), (value(K, dtype="int"), rows), (value(K, dtype="int"), columns)
    )
    np.testing.assert_array_equal(both, x[:, rows, columns])
    with pytest.raises(InterpreterError, match=r"the axis `\w+` has \d+ entries"):
        compute(lambda b, v, i: b.take(v, [D], [i], SPAN), (value(D, E), table), (value(B, T, dtype="int"), index + 3))


def test_scatter_add() -> None:
    index, added = RNG.integers(0, 6, (2, 3)), floats(2, 3, 5)
    wanted = np.zeros((2, 5, 6))
    for n in range(2):
        for k in range(3):
            wanted[n, :, index[n, k]] += added[n, k]
    found = compute(lambda b, v, i, w: b.scatter_add(v, i, w, D, SPAN), (X, x), (value(B, K, dtype="int"), index), (value(B, K, T), added))
    np.testing.assert_allclose(found, x + wanted)


def test_one_hot_unfold_and_recurrence() -> None:
    index = RNG.integers(0, 4, (2, 5))
    np.testing.assert_array_equal(
        compute(lambda b, v: b.one_hot(v, axis(E), SPAN), (value(B, T, dtype="int"), index)), index[..., None] == np.arange(4)
    )
    wide = floats(2, 11, 6)
    found = compute(lambda b, v: b.unfold(v, T, axis(K), const(2), const(3), SPAN), (X, wide))
    np.testing.assert_array_equal(found, np.stack([wide[:, k * 3 : k * 3 + 5 : 2] for k in range(3)], -1))
    a, state = np.abs(floats(2, 6)), np.zeros((2, 6))
    steps = []
    for t in range(5):
        state = a * state + x[:, t]
        steps.append(state)
    np.testing.assert_allclose(compute(lambda b, u, v: b.linear_recurrence(u, v, T, SPAN), (value(B, D), a), (X, x)), np.stack(steps, 1))


# ---------------------------------------------------------------- attention


def _attend(mask=None, score=None, weights=None):
    """Grouped self attention: q [b, t, h, k, d], keys and values [b, t, h, d]."""
    key = Label("s")
    span = SPAN

    def build(b: Body, q: Value, k: Value, v: Value) -> Value:
        i, j = Value(Type((axis(T),), "int"), "i", span), Value(Type((Axis(key, sym(TIME)),), "int"), "j", span)
        regions = []
        scores = Type((*q.type.without(D).axes, Axis(key, sym(TIME))), "float32")
        s, h = Value(scores, "s", span), Value(Type((axis(H), axis(K)), "int"), "h", span)
        for make, params in ((mask, (i, j)), (score, (s, h, i, j)), (weights, (s,))):
            if make is None:
                regions.append(None)
                continue
            inner = b.inner()
            result = make(inner, *params)
            regions.append(Region(params=params, body=tuple(inner.nodes), result=result))
        return b.attend(q, k, v, T, T, key, const(0.5), *regions, span)

    return build


Q, KEYS, VALUES = value(B, T, H, K, D), value(B, T, H, D), value(B, T, H, D)
q, k, v = floats(2, 5, 2, 3, 6), floats(2, 5, 2, 6), floats(2, 5, 2, 6)
GIVEN = ((Q, q), (KEYS, k), (VALUES, v))


def _reference(bias: torch.Tensor | None = None, causal: bool = False) -> np.ndarray:
    queries = torch.from_numpy(q).permute(0, 2, 3, 1, 4).flatten(1, 2)
    keys, values = (torch.from_numpy(a).transpose(1, 2).repeat_interleave(3, 1) for a in (k, v))
    found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, is_causal=causal, scale=0.5)
    return found.unflatten(1, (2, 3)).permute(0, 3, 1, 2, 4).numpy()


def test_attend_is_scaled_dot_product_attention() -> None:
    np.testing.assert_allclose(compute(_attend(), *GIVEN), _reference(), rtol=1e-10)
    causal = _attend(mask=lambda b, i, j: b.elementwise("le", [j, i], SPAN))
    np.testing.assert_allclose(compute(causal, *GIVEN), _reference(causal=True), rtol=1e-10)


def test_attend_with_a_score_by_head() -> None:
    def score(b: Body, s: Value, h: Value, i: Value, j: Value) -> Value:
        distance = b.elementwise("sub", [i, j], SPAN)
        return b.elementwise("sub", [s, b.elementwise("mul", [b.elementwise("div", [h, const(7)], SPAN), distance], SPAN)], SPAN)

    distance = torch.arange(5)[:, None] - torch.arange(5)[None, :]
    bias = -(torch.arange(6.0, dtype=torch.float64)[:, None, None] / 7) * distance
    np.testing.assert_allclose(compute(_attend(score=score), *GIVEN), _reference(bias), rtol=1e-9)


def test_a_row_without_keys_gives_zero() -> None:
    strict = _attend(mask=lambda b, i, j: b.elementwise("lt", [j, i], SPAN))
    found = compute(strict, *GIVEN)
    assert not found[:, 0].any() and np.isfinite(found).all() and found[:, 1].any()


def test_attend_with_weights_of_its_own() -> None:
    found = compute(
        _attend(weights=lambda b, s: b.elementwise("sigmoid", [s], SPAN), mask=lambda b, i, j: b.elementwise("le", [j, i], SPAN)), *GIVEN
    )
    s = 0.5 * np.einsum("bthkd,bshd->bthks", q, k)
    w = 1 / (1 + np.exp(-s)) * (np.arange(5)[:, None] >= np.arange(5))[:, None, None]
    np.testing.assert_allclose(found, np.einsum("bthks,bshd->bthkd", w, v))


# ---------------------------------------------------------------- modules


def _scale(rest: bool = False) -> Module:
    """y = weight * x, with a weight along d."""
    inside = Value(Type((Axis(REST, ONE), axis(D))), "x", SPAN) if rest else value(B, T, D)
    weight = Param(name="weight", value=value(D, hint="weight"), init=Init(kind="ones"), trainable=True, span=SPAN)
    made = body()
    out = made.elementwise("mul", [inside, weight.value], SPAN)
    return module("scale", [inside], [out], made.nodes, [weight])


def _call(target: str | Module, args, outs) -> ir.Call:
    return ir.Call(outs=tuple(outs), span=SPAN, target=target, args=tuple(args))


def test_children_and_rest_at_two_ranks() -> None:
    norm = _scale(rest=True)
    pair, wide = value(B, D), value(B, T, H, D)
    outs = value(B, D), value(B, T, H, D)
    root = module(
        "root",
        [pair, wide],
        outs,
        [_call("norm", [pair], outs[:1]), _call("norm", [wide], outs[1:])],
        children=[Child(name="norm", module=norm)],
    )
    made = program(root)
    params = initial_params(made, 3)
    assert list(params) == ["norm.weight"] and (params["norm.weight"] > 1).all()
    one, two = floats(2, 6), floats(2, 5, 2, 6)
    found = run(made, params, {"x0": one, "x1": two})
    np.testing.assert_allclose(found["y0"], one * params["norm.weight"])
    np.testing.assert_allclose(found["y1"], two * params["norm.weight"])


def test_a_stack_cycles_and_exact_patterns_do_not() -> None:
    layers = Sym("layers", 5)
    added = body()
    inside = value(B, T, D)
    shift = module("shift", [inside], [added.elementwise("add", [inside, const(10.0)], SPAN)], added.nodes)
    stack = Stack(name="blocks", slots=((_scale(), const(2)), (shift, ONE)), count=sym(layers), cycle=True)
    out = value(B, T, D)
    fold = ir.Fold(outs=(out,), span=SPAN, target="blocks", args=(X,), carried=1, inputs=((0,), (0,)))
    made = program(module("root", [X], [out], [fold], children=[stack]), config=[("layers", layers)])
    params = initial_params(made)
    assert list(params) == [f"blocks.{n}.weight" for n in (0, 1, 3, 4)]
    w = [params[f"blocks.{n}.weight"] for n in (0, 1, 3, 4)]
    np.testing.assert_allclose(run(made, params, {"x0": x})["y0"], (x * w[0] * w[1] + 10) * w[2] * w[3])
    assert [p.name for p in places(made, {layers: 4})] == [f"blocks.{n}.weight" for n in (0, 1, 3)]
    np.testing.assert_allclose(run(made, params, {"x0": x}, under={layers: 3})["y0"], x * w[0] * w[1] + 10)


def test_routing_weighs_the_chosen_experts() -> None:
    experts = Label("expert")
    bank = Bank(name="experts", module=_scale(rest=True), axis=Axis(experts, const(4)))
    index, weight, out = value(B, T, K, dtype="int"), value(B, T, K), value(B, T, D)
    route = ir.Route(outs=(out,), span=SPAN, target="experts", x=X, index=index, weight=weight, choice=K, args=())
    made = program(module("root", [X, index, weight], [out], [route], children=[bank]))
    params = initial_params(made)
    assert params["experts.weight"].shape == (4, 6)
    chosen, gates = RNG.integers(0, 4, (2, 5, 3)), floats(2, 5, 3)
    found = run(made, params, {"x0": x, "x1": chosen, "x2": gates})["y0"]
    np.testing.assert_allclose(found, (params["experts.weight"][chosen] * gates[..., None]).sum(2) * x)


def test_a_bank_applied_to_its_axis_is_pairwise() -> None:
    bank = Bank(name="experts", module=_scale(), axis=axis(E))
    given, out = value(B, E, T, D), value(E, B, T, D)
    node = ir.Pairwise(outs=(out,), span=SPAN, target="experts", args=(given,))
    made = program(module("root", [given], [out], [node], children=[bank]))
    params = initial_params(made)
    array = floats(2, 4, 5, 6)
    np.testing.assert_allclose(run(made, params, {"x0": array})["y0"], (array * params["experts.weight"][:, None]).transpose(1, 0, 2, 3))


def test_parameters_of_children_and_tables() -> None:
    made = body()
    index = made.index(axis(D), SPAN)
    table = Region(params=(), body=tuple(made.nodes), result=index)
    kept = Param(name="table", value=value(D, hint="table"), init=Init(kind="table", table=table), trainable=False, span=SPAN)
    read, again = value(D), body()
    nodes = [ir.ChildParam(outs=(read,), span=SPAN, path=("inner", "table"))]
    out = again.elementwise("add", [X, read], SPAN)
    root = module("root", [X], [out], [*nodes, *again.nodes], children=[Child(name="inner", module=module("inner", [], [], params=[kept]))])
    params = initial_params(program(root), 0, np.float32)
    np.testing.assert_array_equal(params["inner.table"], np.arange(6, dtype=np.float32))
    np.testing.assert_allclose(run(program(root), params, {"x0": x})["y0"], x + np.arange(6))
    with pytest.raises(InterpreterError, match=r"inner\.table"):
        run(program(root), {}, {"x0": x})


def test_losses_need_their_labels_and_defaults_fill_inputs() -> None:
    made = body()
    target, keep = value(B, T, dtype="int", hint="labels"), value(B, T, hint="keep")
    loss = made.cross_entropy(X, target, D, SPAN)
    out = made.elementwise("mul", [X, keep], SPAN)
    ones = body()
    default = Region(params=(), body=(), result=ones.full([], ONE, "float", SPAN))
    default = Region(params=(), body=tuple(ones.nodes), result=default.result)
    inputs = (
        ModelInput(name="x", value=X, bound=None, default=None, training=False),
        ModelInput(name="keep", value=keep, bound=None, default=default, training=False),
        ModelInput(name="labels", value=target, bound=const(6), default=None, training=True),
    )
    root = module("root", [X, keep, target], [out], made.nodes)
    whole = program(root, [ir.Loss(name="lm", value=loss)], inputs)
    assert set(run(whole, {}, {"x": x})) == {"y0"}
    labels = RNG.integers(0, 6, (2, 5))
    labels[0, 1] = -100
    found = run(whole, {}, {"x": x, "labels": labels})
    wanted = F.cross_entropy(torch.from_numpy(x).flatten(0, 1), torch.from_numpy(labels).flatten())
    np.testing.assert_allclose(found["loss"], wanted)
    np.testing.assert_array_equal(found["y0"], x)
    with pytest.raises(InterpreterError, match="missing"):
        run(whole, {}, {"keep": x[..., 0]})


def test_dropout_only_in_training() -> None:
    build = lambda b, v: b.dropout(v, const(0.5), SPAN)  # noqa: E731
    np.testing.assert_array_equal(compute(build, (X, x)), x)
    dropped = compute(build, (X, x), training=True)
    assert 0.2 < (dropped == 0).mean() < 0.8
    np.testing.assert_allclose(dropped[dropped != 0], 2 * x[dropped != 0])


def test_the_trace_sees_every_node_and_a_wrong_size_is_refused() -> None:
    seen: list[str] = []
    compute(
        lambda b, v: b.elementwise("exp", [b.along("cumsum", v, T, SPAN)], SPAN),
        (X, x),
        trace=lambda path, node, outs: seen.append(type(node).__name__),
    )
    assert seen == ["Along", "Elementwise"]
    wrong = Value(Type((axis(B), axis(T), Axis(D, apply("floor_div", const(7), const(2))))), "y", SPAN)
    node = ir.StopGradient(outs=(wrong,), span=Span(Source("test.xf", "some\nspec\n"), 7, 9), x=X)
    with pytest.raises(InterpreterError, match=r"StopGradient of %y\.\d+ at line 2:"):
        run(program(module("root", [X], [wrong], [node])), {}, {"x0": x})
    assert const(0) == ZERO
