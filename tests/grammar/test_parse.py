"""What is read is what was written: precedence, soft words, forms, and the place of every node."""

from dataclasses import fields

import pytest

from xfc.grammar import tree
from xfc.grammar.parse import parse_expression, parse_xf
from xfc.grammar.print_expression import text_of
from xfc.grammar.tree import Source, Span


def parsed(text: str) -> tree.File:
    file, problems = parse_xf(Source("test.xf", text))
    assert file is not None and not problems, problems
    return file


def value_of(text: str) -> tree.Expr:
    value, problems = parse_expression(Source("test.xf", text), 0, text)
    assert value is not None and not problems, problems
    return value


def spelled(value: tree.Expr) -> str:
    """With every operation in parentheses."""
    match value:
        case tree.Binary(op=op, left=left, right=right):
            return f"({spelled(left)} {op} {spelled(right)})"
        case tree.Unary(op=op, value=inner):
            return f"({op} {spelled(inner)})"
        case tree.Choose(condition=condition, then=then, other=other):
            return f"({spelled(then)} if {spelled(condition)} else {spelled(other)})"
        case tree.Repeat(count=count, pattern=pattern):
            return f"({spelled(count)} of {spelled(pattern)})"
        case tree.List(items=items):
            return "[" + ", ".join(spelled(item) for item in items) + "]"
        case _:
            return text_of(value)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a - b - c", "((a - b) - c)"),
        ("a / b // c % d", "(((a / b) // c) % d)"),
        ("-x ^ 2", "(- (x ^ 2))"),
        ("x ^ -0.5", "(x ^ (- 0.5))"),
        ("2 ^ 3 ^ 4", "(2 ^ (3 ^ 4))"),
        ("-a * b", "((- a) * b)"),
        ("a * -b", "(a * (- b))"),
        ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
        ("a and b or c and d", "((a and b) or (c and d))"),
        ("j <= i and i - j < window", "((j <= i) and ((i - j) < window))"),
        ("a if b else c if d else e", "(a if b else (c if d else e))"),
        ("2 * n of f", "((2 * n) of f)"),
        ("26 of [local * 5, global]", "(26 of [(local * 5), global])"),
        ("n of f if a else b", "((n of f) if a else b)"),
        ("2 of 3 of f", "(2 of (3 of f))"),
        ("(a + b) * c", "((a + b) * c)"),
    ],
)
def test_precedence(text: str, meaning: str) -> None:
    assert spelled(value_of(text)) == meaning
    assert value_of(text_of(value_of(text))) == value_of(text)


WORDS = str.split(
    "component mask score weights fn model checkpoint config import let shared given loss emit next state assume ignore extends "
    "causal layer none true"
)


@pytest.mark.parametrize("word", WORDS)
def test_declaration_words_stay_names(word: str) -> None:
    text = f"""
component f({word} = none)({word}: [{word}, d]) -> ({word}: [d]):
    {word} = {word}({word}, {word} = {word})
    {word}, x = {word}.{word}[{word} = {word}] + {word}
    let {word} = {word}
    given {word}: [{word}]
    for {word} in [{word}]:
        emit {word} = {word} if {word} else {word}
    return {word}

model m = f:
    {word} = {word}
    {word}.{word} = {word}
    x.{word}:
        {word} = {word}
"""
    component, model = parsed(text).declarations
    assert isinstance(component, tree.Component) and isinstance(model, tree.Model)
    assert component.parameters[0].name.id == component.inputs[0].name.id == word
    assert [argument.name for argument in model.arguments] == [word, f"{word}.{word}", f"x.{word}"]


def test_single_list_holds_the_inputs() -> None:
    sliding, causal, model = parsed("mask a(window)(i, j) = i\nmask b(i, j) = i\nmodel m(x: [b]) -> y:\n    return x\n").declarations
    assert isinstance(sliding, tree.Component) and isinstance(causal, tree.Component) and isinstance(model, tree.Model)
    assert [p.name.id for p in sliding.parameters] == ["window"] and len(sliding.inputs) == 2
    assert causal.parameters == () and len(causal.inputs) == 2
    assert model.component is not None and model.component.inputs[0].name.id == "x" and model.component.kind == "model"


def test_input_has_axes_type_bound_and_default() -> None:
    (model,) = parsed("model m(a: [b, t] int in vocab = none, k) -> (x: [b], y):\n    return a\n").declarations
    assert isinstance(model, tree.Model) and model.component is not None
    first, second = model.component.inputs
    assert first.dtype == "int" and first.bound is not None and text_of(first.bound) == "vocab"
    assert first.default is not None and text_of(first.default) == "none"
    assert second.axes is None and second.dtype is None
    assert [output.name and output.name.id for output in model.component.outputs] == ["x", "y"]


def test_block_that_says_no_more_than_a_call_is_the_call() -> None:
    block = "model m = f:\n    norm = rms_norm:\n        eps = 1e-5\n        act = silu(x)\n"
    call = "model m = f:\n    norm = rms_norm(eps = 1e-5, act = silu(x))\n"
    assert parsed(block) == parsed(call)
    (model,) = parsed("model m = f:\n    norm = rms_norm:\n        inner:\n            eps = 1\n    rest:\n        a = 1\n").declarations
    assert isinstance(model, tree.Model)
    first, second = (argument.value for argument in model.arguments)
    assert isinstance(first, tree.Block) and first.base is not None and isinstance(second, tree.Block) and second.base is None


def test_checkpoint_rows_hold_paths_with_braces() -> None:
    (found,) = parsed(
        'checkpoint huggingface for m:\n    "a" or "b" = transpose(layers.{i}.q.weight)\n    "e" = experts.{i}[{e}]\n    ignore "x", "y"\n'
    ).declarations
    assert isinstance(found, tree.Map) and found.kind == "checkpoint" and found.format == "huggingface"
    first, second = found.rows
    assert isinstance(first.left, tree.Binary) and first.left.op == "or"
    assert isinstance(first.right, tree.Call) and first.right.arguments[0].value == name("layers.{i}.q.weight")
    assert isinstance(second.right, tree.Index) and second.right.value == name("experts.{i}")
    assert second.right.arguments[0].value == name("{e}")
    assert [pattern.value for pattern in found.ignored] == ["x", "y"]


def test_config_rows_hold_expressions() -> None:
    (found,) = parsed("config huggingface for m:\n    decoder.layers = a.b // 2 if c == 1 else d\n").declarations
    assert isinstance(found, tree.Map)
    assert found.rows[0].left == name("decoder.layers")
    assert isinstance(found.rows[0].right, tree.Choose) and isinstance(found.rows[0].right.then, tree.Binary)
    assert isinstance(found.rows[0].right.then.left, tree.Attribute)


def test_text_in_the_first_line_is_the_paper() -> None:
    component, model = parsed('component f(x):\n    "arXiv:1"\n    return x\nmodel m = f:\n    "arXiv:2"\n    a = 1\n').declarations
    assert isinstance(component, tree.Component) and component.paper == "arXiv:1"
    assert isinstance(model, tree.Model) and model.paper == "arXiv:2"


def name(text: str) -> tree.Name:
    return tree.Name(span=Span(Source("", ""), 0, 0), id=text)


def nodes(value: object) -> list[tree.Node]:
    """A node and all under it."""
    found: list[tree.Node] = []
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack += node
        elif isinstance(node, tree.Node):
            found.append(node)
            stack += [getattr(node, field.name) for field in fields(node) if field.name != "span"]
    return found


def test_spans_are_the_words(canonical: Source) -> None:
    file, problems = parse_xf(canonical)
    assert file is not None and not problems
    seen = 0
    for node in nodes(file.declarations):
        words = canonical.text[node.span.start : node.span.end]
        assert words == words.strip() and words
        match node:
            case tree.Name(id=expected) | tree.Number(text=expected):
                assert words == expected
            case tree.String():
                assert words.startswith('"') and words.endswith('"')
            case tree.Argument(name=str(expected), name_span=Span() as place):
                assert canonical.text[place.start : place.end] == expected and words.startswith(expected)
            case tree.Call() if words.endswith(")") and "{" not in words and ":\n" not in words:
                assert value_of(words) == node
            case tree.Binary() | tree.Unary() | tree.List() | tree.Choose() | tree.Repeat() if "{" not in words:
                assert value_of(words) == node
            case tree.Component():
                assert words.startswith(node.kind)
            case tree.Return() | tree.If() | tree.For() | tree.Given() | tree.State() | tree.Effect() | tree.Assume() | tree.Let():
                assert words.split()[0] in ("return", "if", "elif", "for", "given", "state", "loss", "emit", "next", "assume", "let") or (
                    isinstance(node, tree.Return)
                )
            case _:
                continue
        seen += 1
    assert seen > 300


def test_line_and_column_count_from_one() -> None:
    text = "# ä\nmodel m = f:\n    é = 1\n    b = ?\n"
    _, problems = parse_xf(Source("test.xf", text))
    assert [(problem.code, problem.span and problem.span.line_column()) for problem in problems] == [("E014", (3, 5)), ("E014", (4, 9))]


def test_windows_line_ends() -> None:
    text = "component f(x):\r\n    # c\r\n    y = g(x,\r\n          1)\r\n\r\n    return y\r\n"
    assert parsed(text) == parsed(text.replace("\r\n", "\n"))


def test_expression_spans_point_into_the_whole_text() -> None:
    text = "hidden: 4 * d_model"
    value, _ = parse_expression(Source("a.yaml", text), 8, text[8:])
    assert isinstance(value, tree.Binary) and text[value.right.span.start : value.right.span.end] == "d_model"
