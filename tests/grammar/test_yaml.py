"""The YAML surface: the same tree as .xf, the same places, and what it refuses."""

import pytest

from xfc.grammar import tree
from xfc.grammar.load import load
from xfc.grammar.tree import Span

YAML = """\
# é: a comment moves no column
model: llama3_8b
type: causal_lm
paper: "Llama 3"
import: [other.xf, "more.xf"]
assume: {causal: "stated"}
let:
  local: {type: sandwich, rotate: rope(1e4)}
  a, b: f(x), 2
vocab: 128256
"d_model": '4 * hidden'
blocks: "26 of [local * 5, global]"
decoder:
  layers: 32
  norm: {type: rms_norm, eps: 1e-5}
  attention: {type: grouped_query, heads: 32, rotate: {type: rope, theta: 500000}}
  ffn:
    type: gated(hidden)
    act: silu
  ffn.norm: none
  axes: [..., heads, e: d / heads, {type: f, x: 1}, "g(a, b)", [a, b]]
long: |
  f(
    a,
    b
  )
folded: a +
  b
"""
XF = """\
import "other.xf"
import "more.xf"
model llama3_8b = causal_lm:
    "Llama 3"
    assume causal: "stated"
    let local = sandwich(rotate = rope(1e4))
    let a, b = f(x), 2
    vocab = 128256
    d_model = 4 * hidden
    blocks = 26 of [local * 5, global]
    decoder:
        layers = 32
        norm = rms_norm(eps = 1e-5)
        attention = grouped_query(heads = 32, rotate = rope(theta = 500000))
        ffn = gated(hidden, act = silu)
        ffn.norm = none
        axes = [..., heads, e: d / heads, f(x = 1), g(a, b), [a, b]]
    long = f(a, b)
    folded = a + b
"""


def read(text: str) -> tree.File:
    file, problems = load("test.yaml", text)
    assert file is not None and not problems, problems
    return file


def test_both_surfaces_give_one_tree() -> None:
    file, problems = load("test.xf", XF)
    assert not problems and read(YAML) == file


def test_declarations_stand_where_their_keys_do() -> None:
    file = read("components: |\n  mask m(i) = i\nmodel: a\ntype: f\nmaps: |\n  config huggingface for a:\n      x = y\n")
    assert [type(declaration).__name__ for declaration in file.declarations] == ["Component", "Model", "Map"]
    file = read("model: a\nextends: b\ncomponents: |\n  mask m(i) = i\n")
    assert [type(declaration).__name__ for declaration in file.declarations] == ["Model", "Component"]


def test_scalars_are_text_and_not_yaml_values() -> None:
    (model,) = read("model: m\ntype: f\na: no\nb: 0777\nc: 1e-5\nd: null\ne: 2024-01-01\n").declarations
    assert isinstance(model, tree.Model)
    values = [argument.value for argument in model.arguments]
    assert [getattr(value, "id", getattr(value, "text", None)) for value in values] == ["no", "0777", "1e-5", "null", None]
    assert isinstance(values[4], tree.Binary)


def words(text: str, wanted: str) -> list[str]:
    """The words under the spans of the nodes whose text is `wanted`."""
    (model,) = read(text).declarations
    found: list[str] = []
    stack: list[object] = [model]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack += node
        elif isinstance(node, tree.Node):
            stack += [getattr(node, name) for name in node.__dataclass_fields__ if name != "span"]
            if isinstance(node, tree.Name) and node.id == wanted:
                found.append(text[node.span.start : node.span.end])
    return found


@pytest.mark.parametrize(
    "value",
    [
        "a + wanted",
        '"a + wanted"',
        "'a + wanted'",
        "a +\n   wanted",
        '"f(\\"s\\") + wanted"',
        "'f(\"it''s\") + wanted'",
        "|\n    a +\n     wanted\n",
        "|2\n      a +\n   wanted\n",
        "{type: f, x: wanted}",
        "[a, wanted]",
        "[wanted: 3 + wanted]",
    ],
)
def test_spans_in_scalars_of_every_style(value: str) -> None:
    text = f"# é\nmodel: m\ntype: f\nx: {value}\n"
    assert words(text, "wanted") == ["wanted"]


def test_spans_in_a_block_of_definitions() -> None:
    text = "model: m\ntype: f\ncomponents: |\n   component f(x):\n       y = 1\n\n       return missing\n"
    component = read(text).declarations[1]
    assert isinstance(component, tree.Component) and isinstance(component.body[1], tree.Return)
    span = component.body[1].value.span
    assert text[span.start : span.end] == "missing" and span.line_column() == (7, 15)


REFUSED = [
    ("a: &x [1]\nb: *x\n", "E032", "&x ["),
    ("model: m\ntype: f\na: !!python/object:os.system x\n", "E032", None),
    ("model: m\ntype: f\n---\nmodel: n\n", "E033", None),
    ("model: m\ntype: f\na: 1\na: 2\n", "E031", "a"),
    ("model: m\ntype: f\na: {b: 1, b: 2}\n", "E031", "b"),
    ("model: m\ntype: f\na: {rotate: rope(theta = 1e4, x = 2)}\n", "E034", "rope(theta = 1e4"),
    ("model: m\ntype: f\na: [f(b, c), d]\n", "E034", "f(b"),
    ("model: m\ntype: f\na: {rotate: rope(theta = [1, 2])}\n", "E030", None),
    ("model: m\ntype: f\n[a]: 1\n", "E035", "[a]"),
    ("model: m\ntype: f\n1: 1\n", "E035", "1"),
    ("model: m\ntype: f\n<<: {a: 1}\n", "E035", "<<"),
    ("- a\n", "E035", "- a"),
    ("type: f\na: 1\n", "E036", ""),
    ("model: m\na: 1\n", "E036", "m"),
    ("model: m\ntype: f\nextends: g\n", "E036", "g"),
    ("model: m-1\ntype: f\n", "E037", "m-1"),
    ("model: m\ntype: f\na:\n", "E037", ""),
    ("model: m\ntype: f\na: {}\n", "E037", "{}"),
    ("model: m\ntype: f\na: 1, 2\n", "E037", "1, 2"),
    ("model: m\ntype: f\na: [{b: 1, c: 2}]\n", "E037", "{b: 1, c: 2}"),
    ("model: m\ntype: f\ncomponents: mask a(i) = i\n", "E037", "mask a(i) = i"),
    ("model: m\ntype: f\nlet: {a: {b: 1}}\n", "E037", "{b: 1}"),
    ("model: m\ntype: {type: f}\n", "E037", "{type: f}"),
    ("model: m\n\ttype: f\n", "E030", None),
    ("model: m\ntype: f\na: 'b\n", "E030", None),
    ("a: " + "[" * 60 + "]" * 60, "E018", None),
]


@pytest.mark.parametrize(("text", "code", "under"), REFUSED, ids=[text[-30:] for text, _, _ in REFUSED])
def test_refused(text: str, code: str, under: str | None) -> None:
    _, problems = load("test.yaml", text)
    assert [problem.code for problem in problems] == [code]
    span = problems[0].span
    assert isinstance(span, Span) and problems[0].help
    assert under is None or text[span.start : span.end] == under


def test_split_call_says_what_to_quote() -> None:
    _, problems = load("test.yaml", "model: m\ntype: f\na: {rotate: rope(theta = 1e4, x = 2), b: 1}\n")
    assert problems[0].help == 'quote the whole value: "rope(theta = 1e4, x = 2)"'
