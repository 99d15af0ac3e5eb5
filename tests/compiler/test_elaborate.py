"""What specs mean: names, instances, sharing, axes, arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.verify_ir import verify

OPEN = sorted((Path(__file__).parent.parent / "open").glob("*.xf"))


def build(tmp_path: Path, text: str, sets: list[str] | None = None) -> tuple[ir.Program | None, list[str]]:
    path = tmp_path / "spec.xf"
    path.write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), sets or [], diagnostics)
    if program is not None:
        verify(program)
    return program, [d.code for d in diagnostics.found]


def parameters(module: ir.Module, prefix: str = "") -> dict[str, tuple[int | float | None, ...]]:
    """Names of the parameters (one layer of each slot of a stack) with their shapes."""
    found = {prefix + p.name: tuple(a.size.value() for a in p.type.axes) for p in module.params}
    for name, below in ir.children_of(module):
        if name:
            found |= parameters(below, f"{prefix}{name}.")
    return found


def wrap(body: str, signature: str = "(x: [b, t, d: 12]) -> (y)") -> str:
    return f"model m(){signature}:\n" + "".join(f"    {line}\n" for line in body.splitlines())


@pytest.mark.parametrize("path", OPEN, ids=lambda p: p.stem)
def test_mechanisms_of_users(path: Path) -> None:
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    verify(program)


def test_two_names_are_two_sets_of_weights(tmp_path: Path) -> None:
    program, _ = build(tmp_path, wrap("let f = linear(7)\na = f\nb = f\nreturn a(x) + b(x)"))
    assert program and parameters(program.root) == {"a.weight": (7, 12), "b.weight": (7, 12)}


def test_one_instance_applied_twice_is_one_set(tmp_path: Path) -> None:
    program, _ = build(tmp_path, wrap("f = linear(12)\nreturn f(f(x))"))
    assert program and parameters(program.root) == {"f.weight": (12, 12)}


def test_one_instance_cannot_have_two_widths(tmp_path: Path) -> None:
    assert build(tmp_path, wrap("f = linear(7)\nreturn f(f(x))"))[1] == ["E339"]


def test_a_recipe_parameter_applied_twice_is_refused(tmp_path: Path) -> None:
    text = "component twice(f)(x: [b, t, d]) -> [b, t, d]:\n    return f(f(x))\n\n" + wrap("g = twice(linear(12))\nreturn g(x)")
    assert build(tmp_path, text)[1] == ["E375"]


def test_late_defaults_see_parameters_and_not_what_the_body_binds(tmp_path: Path) -> None:
    text = (
        "component f(norm, g = pre(norm))(x: [b, t, d]) -> [b, t, d]:\n    norm = norm\n    g = g\n    return g(norm(x))\n\n"
        "component pre(norm)(x: [b, t, d]) -> [b, t, d]:\n    inner = norm\n    return inner(x)\n\n"
    )
    program, codes = build(tmp_path, text + wrap("f = f(rms_norm())\nreturn f(x)"))
    assert program and not codes
    assert sorted(parameters(program.root)) == ["f.g.inner.weight", "f.norm.weight"]


def test_shared_is_one_table_for_all_layers(tmp_path: Path) -> None:
    text = wrap(
        "shared table = bucketed_bias(heads = 3)\nlayers = 5 of pre_norm(multi_head(heads = 3, score = table), plain(17), rms_norm)\nreturn layers(x)"
    )
    program, codes = build(tmp_path, text)
    assert program and not codes
    assert [n for n in parameters(program.root) if n.endswith("table")] == ["table.table"]


def test_a_score_with_weights_belongs_to_its_attention(tmp_path: Path) -> None:
    text = wrap("layers = 5 of pre_norm(multi_head(heads = 3, score = bucketed_bias(heads = 3)), plain(17), rms_norm)\nreturn layers(x)")
    program, codes = build(tmp_path, text)
    assert program and not codes
    assert [n for n in parameters(program.root) if n.endswith("table")] == ["layers.attention.score.table"]


def test_numbers_that_choose_are_not_fields(tmp_path: Path) -> None:
    text = (
        "component f(kind, size)(x: [b, t, d]) -> [b, t, size]:\n"
        "    p = linear(size)\n    if kind == 2:\n        return relu(p(x))\n    return p(x)\n\n"
        + wrap("f = f(kind = 2, size = 9)\nreturn f(x)")
    )
    program, _ = build(tmp_path, text)
    assert program and "size" in dict(program.config) and "kind" not in dict(program.config)


def test_fields_of_one_name_are_told_apart_by_their_path(tmp_path: Path) -> None:
    text = "model m = causal_lm:\n    vocab = 11\n    d_model = 12\n    decoder:\n        blocks = [pre_norm(multi_head(3), gated(hidden = 5), rms_norm) * 1, pre_norm(multi_head(4), gated(hidden = 7), rms_norm) * 2]\n"
    program, codes = build(tmp_path, text)
    assert program and not codes
    names = [n for n, _ in program.config]
    assert len(set(names)) == len(names)
    assert sorted(s.value for n, s in program.config if "hidden" in n) == [5, 7]


def test_extends_replaces_at_paths_and_keeps_the_rest(tmp_path: Path) -> None:
    text = (
        "model a = causal_lm:\n    vocab = 11\n    d_model = 12\n    decoder:\n        layers = 2\n        attention = multi_head(heads = 3)\n        ffn = gated(hidden = 5)\n\n"
        "model b extends a:\n    decoder.attention.heads = 4\n    decoder.ffn = plain(hidden = 7)\n"
    )
    program, codes = build(tmp_path, text, ["decoder.layers=3"])
    assert program and not codes
    values = {n: s.value for n, s in program.config}
    assert values["heads"] == 4 and values["layers"] == 3 and values["hidden"] == 7
    assert "decoder.layers.ffn.up_proj.weight" in parameters(program.root)


def test_replacing_a_component_drops_its_old_arguments(tmp_path: Path) -> None:
    text = (
        "model a = causal_lm:\n    vocab = 11\n    d_model = 12\n    decoder:\n        layers = 2\n        attention = multi_head(heads = 3)\n"
        "        ffn = gated(hidden = 5, bias = true)\n\nmodel b extends a:\n    decoder.ffn = plain(hidden = 7)\n"
    )
    program, _ = build(tmp_path, text)
    assert program and not any("ffn" in n and n.endswith("bias") for n in parameters(program.root))


def test_axes_align_by_label_and_not_by_place(tmp_path: Path) -> None:
    program, _ = build(tmp_path, wrap("w = param([d, e: 5])\nv = param([e: 5])\nreturn einsum(x, w, over = d) * v"))
    assert program is not None
    assert [a.label.name for a in program.root.outputs[0].type.axes] == ["b", "t", "e"]


def test_an_optional_input_nobody_reads_is_not_in_the_signature(tmp_path: Path) -> None:
    program, codes = build(tmp_path, wrap("return x", "(x: [b, t, d: 3], mask: [b, t] int = 1) -> (y)"))
    assert program and not codes and [i.name for i in program.inputs] == ["x"]


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("return linear(7)(x)", ["E337"]),
        ("f = linear(7)\nreturn x", ["E316"]),
        ("y = x * 2\nreturn x", ["E318"]),
        ("f = linear(7)\nreturn f(x) + x", []),
        ("return x[t = 0] + foo", ["E310"]),
        ("let f = none\nreturn f(x)", ["E374"]),
        ("if x > 0:\n    return x\nreturn -x", ["E326"]),
        ("a, b, c = split(x, d = [4, 8])\nreturn a + b + c", ["E382"]),
        ("a, b = split(x, d = [5, 8])\nreturn a", ["E205"]),
        ("return unflatten(x, d = [h: 5, e: d / 5])", ["E210"]),
        ("p = param([t])\nreturn x + p", ["E369"]),
        ("return attend(x, x, x, causal, scale = 1)", []),
        ("return sum(x, z)", ["E322"]),
        ("return x\ny = 2 * x", ["E318"]),
        ("return x * where(x > 0 or true, 1.0, 0.0)", ["E318"]),
        ("y = x\nfor k in [0, 1]:\n    last = k == 1\n    y = y + where(y > 0 or last, 1.0, 0.0)\nreturn y", []),
        ("y = x\nfor k in [0, 1]:\n    more = k == 0\n    y = y + where(y > 0 and more, 1.0, 0.0)\nreturn y", []),
        ("return where(true, x, x, x)", ["E363"]),
        ("return dropout(x, 1.5)", ["E207"]),
        ("return pad(x, t = [-1, 0])", ["E207"]),
        ("return unfold(x, t, k: 0)", ["E220"]),
        ("return einsum(x, x, over = z)", ["E322"]),
        ("return attend(int(x), x, x, over = t)", ["E204"]),
        ("return x[d = -12] + x[d = 11]", []),
        ("return x[d = -13]", ["E207"]),
        ("return x[d = 12]", ["E207"]),
        ("return x[z = 1 .. 2]", ["E322"]),
        ("return unflatten(x, z = [h: 5, e: 2])", ["E322"]),
    ],
)
def test_bodies(tmp_path: Path, body: str, codes: list[str]) -> None:
    assert build(tmp_path, wrap(body))[1] == codes


USE = "component use(a)(x: [b, t, d]) -> [b, t, d]:\n    return a(x)\n\n"


@pytest.mark.parametrize(
    "body",
    [
        "w = use(one)\nreturn w(x) + one(x)",
        "w = use(one)\nreturn one(x) + w(x)",
        "w = use(one)\nv = use(one)\nreturn w(x) + v(x)",
        "layers = 3 of use(one)\nreturn layers(one(x))",
    ],
)
def test_a_shared_instance_is_one_set_of_weights_wherever_it_is_applied(tmp_path: Path, body: str) -> None:
    program, codes = build(tmp_path, USE + wrap("shared one = gated(5)\n" + body))
    assert program and not codes
    assert parameters(program.root) == {"one.gate_proj.weight": (5, 12), "one.up_proj.weight": (5, 12), "one.down_proj.weight": (12, 5)}


@pytest.mark.parametrize(
    ("given", "condition"),
    [("[false, true]", "item"), ('["no", "yes"]', 'item == "yes"'), ("[none, silu]", "item != none")],
)
def test_a_list_of_anything_may_be_given(tmp_path: Path, given: str, condition: str) -> None:
    """Only those of `label: size` are axes."""
    text = "component each_of(items)(x: [b, t, d]) -> (y):\n    for item in items:\n        let n = 5 if CONDITION else 7\n"
    text = text.replace("CONDITION", condition) + "        f = linear(n)\n        x = f(x)\n    return x\n"
    program, codes = build(tmp_path, text + wrap(f"part = each_of({given})\nreturn part(x)"))
    assert program and not codes and parameters(program.root) == {"part.f_0.weight": (7, 12), "part.f_1.weight": (5, 7)}


def test_a_round_of_a_for_has_sizes_of_its_own(tmp_path: Path) -> None:
    """The axis that a number names is not that of the round before."""
    program, codes = build(
        tmp_path, wrap("for count in [5, 7]:\n    table = embedding(count, d)\n    x = x + table(index(t) % count)\nreturn x")
    )
    assert program and not codes
    assert parameters(program.root) == {"table_0.weight": (5, 12), "table_1.weight": (7, 12)}


def test_what_is_alike_for_these_numbers_must_stay_alike(tmp_path: Path) -> None:
    text = "component halves(n, e)(x: [b, t, d: n * e]) -> [b, t, d]:\n    return 2 * x\n"
    model = "model m(width = 8, n = 2, e = 4)(x: [b, t, width]) -> (y: [b, t, width]):\n    double = halves(n, e)\n    return double(x)\n"
    program, _ = build(tmp_path, text + model)
    assert program and [(f.kind, str(f.a), str(f.b)) for f in program.facts] == [("equal", "8", "width")], "n and e are no fields"
    program, _ = build(tmp_path, text + model.replace("return double(x)", "f = linear(n)\n    return double(x) + mean(f(x), n) * e"))
    assert program and [(f.kind, str(f.a), str(f.b)) for f in program.facts] == [("equal", "n * e", "width")]


@pytest.mark.parametrize(("operator", "holds"), [("==", True), ("<=", True), (">=", True), ("!=", False), ("<", False), (">", False)])
@pytest.mark.parametrize("pair", ["t {} t", "2 * t - t {} t", "d {} 12"])
def test_alike_sizes_are_compared_without_a_length(tmp_path: Path, operator: str, holds: bool, pair: str) -> None:
    program, codes = build(tmp_path, wrap(f"let width = 5 if {pair.format(operator)} else 7\nf = linear(width)\nreturn f(x)"))
    assert program and not codes and parameters(program.root) == {"f.weight": (5 if holds else 7, 12)}


CELL = """
component cell(s: [b, d], x: [b, d]) -> (s: [b, d], y: [b, d]):
    s = s + x
    return s, s * 2

model runner(d = 8)(x: [b, t, d]) -> (y):
    step = cell
    _, y = scan(step, zeros([b, d]), x, over = t)
    return y
"""


def test_what_a_cell_carries_has_its_name_where_nobody_wants_it(tmp_path: Path) -> None:
    """`_` is no name: generated code would read it."""
    (tmp_path / "cell.xf").write_text(CELL)
    program = elaborate_file(str(tmp_path / "cell.xf"), [], Diagnostics())
    assert program is not None
    (scan,) = (n for n in program.root.body if isinstance(n, ir.Scan))
    assert [out.hint for out in scan.outs] == ["s", "y"]


def test_indices_reach_no_further_than_what_they_read(tmp_path: Path) -> None:
    text = """
model m(vocab = 9, rows = 9, d_model = 4, k = 2)(ids: [b, t] int in vocab, x: [b, t, e: 5]) -> (y: [b, t, d_model]):
    embed = embedding(rows, d_model)
    table = param([n: 5, d_model])
    best = top(x, k, e)
    return embed(ids) + table[n = best.index[k = 0]]
"""
    program, codes = build(tmp_path, text)
    assert codes == [] and program is not None
    assert ("at_least", "rows", "vocab") in [(f.kind, str(f.a), str(f.b)) for f in program.facts]
    assert build(tmp_path, text, ["rows=8"])[1] == ["E207"]
    assert build(tmp_path, text.replace("n: 5", "n: 4"))[1] == ["E207"]
    assert build(tmp_path, text.replace("embed(ids)", "embed(ids % 8)"), ["rows=8"])[1] == []
