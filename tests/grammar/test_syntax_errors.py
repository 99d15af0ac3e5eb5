"""What is said about a mistake: its code, the words it points at, and the help. The rest of the file is read all the same."""

import pytest

from xfc.grammar.load import load
from xfc.grammar.parse import parse_xf
from xfc.grammar.tree import Source

HEADER = "component f(a)(x: [..., d]) -> [..., d]:\n"

# (text, code, line, column, words under the caret, a part of the message or of the help)
OUTERMOST = [
    ("modle a = f\n", "E011", 1, 1, "modle", "did you mean `model`?"),
    ("component(a)(x: [d]):\n    return x\n", "E011", 1, 1, "component", "needs a name"),
    ("vocab = 3\n", "E011", 1, 1, "vocab", "a declaration was needed"),
    ("let x = 3\n", "E011", 1, 1, "let", "inside a component or a model"),
    ("    x = 3\n", "E016", 1, 5, "x", "indented more"),
    ("component f(a: [d])(x: [d]) -> [d]:\n    return x\n", "E020", 1, 13, "a: [d]", "cannot have axes"),
    ("component f(a)(x: [d] strange) -> [d]:\n    return x\n", "E020", 1, 23, "strange", "`float`, `int` or `bool`"),
    ("component f(a, a)(x: [d]) -> [d]:\n    return x\n", "E022", 1, 16, "a", "stands twice"),
    ("component f(a)(x: d) -> [d]:\n    return x\n", "E010", 1, 19, "d", "`x: [b, t, d]`"),
    ("component f(a)(x: [d]) -> d, e:\n    return x\n", "E010", 1, 28, ",", "in parentheses"),
    ("component f(a)(x: [d])\n    return x\n", "E010", 1, 23, "", "end the line with `:`"),
    ("component f a:\n    return x\n", "E010", 1, 13, "a", "write `component name(parameters)(inputs)`"),
    ("fn f(x) = x +\n", "E010", 1, 14, "", "an expression was needed"),
    ("model a:\n    b = 3\n", "E010", 1, 8, ":", "write `model name = component:`"),
    ("model a = b:\n", "E016", 1, 13, "", "nothing is indented"),
    ("model a = b:\n    c = 3, 4\n", "E010", 2, 10, ",", "`[a, b]`"),
    ("model a = b:\n    c = 3\n    c = 4\n", "E022", 3, 5, "c", "given twice"),
    ("model a = b:\n    return x\n", "E010", 2, 5, "return", "cannot stand in a model's block"),
    ('model a = b:\n    c:\n        assume causal: "x"\n        d = 3\n', "E023", 3, 9, 'assume causal: "x"', "whole model"),
    ("model a = b:\n    c: 3\n", "E010", 2, 8, "3", "`c = 3`"),
    ("model a = b\n    c = 3\n", "E016", 2, 5, "c", "end the line above it with `:`"),
    ("model a = b:\n    layers.0 = 3\n", "E010", 2, 12, "0", "names only"),
    ('checkpoint huggingface:\n    "x" = y\n', "E010", 1, 23, ":", "`checkpoint huggingface for model:`"),
    ('checkpoint huggingface for a:\n    "x" = a .b\n', "E014", 2, 13, ".", "has no blanks"),
    ("import a\n", "E010", 1, 8, "a", 'write `import "other.xf"`'),
]
BODIES = [
    ("    y = \n", "E010", 1, 8, "", "an expression was needed"),
    ("    y = f(x\n    z = 3\n", "E012", 1, 10, "(", "never closed"),
    ("    y = f(x))\n", "E013", 1, 13, ")", "closes nothing"),
    ("    y = f(x]\n", "E013", 1, 12, "]", "`]` cannot close `(`"),
    ("    f(x)\n", "E010", 1, 6, "(", "a line binds a name"),
    ("    y == 3\n", "E010", 1, 7, "==", "a line binds a name"),
    ("    if a = 3:\n        y = 1\n", "E010", 1, 10, "=", "compare with `==`"),
    ("    if a\n        y = 1\n", "E010", 1, 9, "", "end the line with `:`"),
    ("    if a == 3: y = 1\n", "E010", 1, 16, "y", "an indented line of its own"),
    ("    y = a < b < c\n", "E024", 1, 15, "<", "write `a < b and b < c`"),
    ("    y = x ** 2\n", "E010", 1, 12, "*", "write `^` for powers"),
    ("    y = +2\n", "E010", 1, 9, "+", "leave the `+` out"),
    ("    y = .5\n", "E010", 1, 9, ".", "a digit before the point"),
    ("    y = 5.\n", "E010", 1, 11, "", "a digit after the point"),
    ("    y = a if b\n", "E010", 1, 15, "", "needs its `else`"),
    ("    y = a b\n", "E010", 1, 11, "b", "an operator or a comma is missing"),
    ("    of = 3\n", "E019", 1, 5, "of", "a word of the language"),
    ("    y = f(in = 3)\n", "E019", 1, 11, "in", "a word of the language"),
    ("    y = 'abc'\n", "E014", 1, 9, "'", "strings take double quotes"),
    ('    y = "abc\n', "E015", 1, 9, '"', "does not end on its line"),
    ('    y = "a\\d"\n', "E015", 1, 11, "\\d", "is no escape"),
    ('    y = "a\x07"\n', "E015", 1, 11, "\x07", "U+0007"),
    ("    y = a && b\n", "E014", 1, 11, "&&", "write `and`"),
    ("    y = a \N{MINUS SIGN} 1\n", "E014", 1, 11, "\N{MINUS SIGN}", "write `-`"),
    ("    else:\n        y = 1\n", "E010", 1, 5, "else", "no `if` above it"),
    ("    y = 1\n      z = 2\n", "E016", 2, 7, "z", "indented more"),
    ("    if a:\n            y = 1\n        z = 2\n", "E016", 3, 1, "        ", "indented less"),
    ("\ty = 1\n", "E016", 1, 1, "\t", "indent with spaces"),
    ("    y = 2d\n", "E017", 1, 9, "2d", "is not a number"),
    ("    y = 1e999\n", "E017", 1, 9, "1e999", "too large"),
    ("    y = 1 .. 2\n", "E010", 1, 11, "..", "a range stands in an index"),
    ("    y = x[]\n", "E020", 1, 9, "x[]", "at least one position"),
    ("    y = f(a = 1, 2)\n", "E021", 1, 18, "2", "follows a named one"),
    ("    y = f(a = 1, a = 2)\n", "E022", 1, 18, "a", "given twice"),
    ("    given mask: b\n", "E010", 1, 17, "b", "axes stand in brackets"),
]
CASES = OUTERMOST + [(HEADER + text + "    return x\n", code, line + 1, *rest) for text, code, line, *rest in BODIES]


@pytest.mark.parametrize(("text", "code", "line", "column", "words", "said"), CASES, ids=lambda value: repr(value)[-40:] if value else "")
def test_mistake(text: str, code: str, line: int, column: int, words: str, said: str) -> None:
    _, problems = parse_xf(Source("test.xf", text))
    problem = problems[0]
    assert problem.span is not None
    assert (problem.code, *problem.span.line_column()) == (code, line, column), problem
    assert text[problem.span.start : problem.span.end] == words
    assert said in f"{problem.message} {problem.help}"
    assert len(problems) == 1


def test_each_mistake_is_reported_once_and_the_rest_is_read() -> None:
    text = (
        "component a(x):\n    y = ?\n    z = x +\n    return z\n\nmodle b = a\n\nmodel c = a:\n    d = 1\n    e ==\n    f = 2\n\n"
        "component g(x):\n    y = (x\n\nmask causal(i, j) = j <= i\n"
    )
    file, problems = parse_xf(Source("test.xf", text))
    assert [(p.code, p.span and p.span.line_column()[0]) for p in problems] == [
        ("E014", 2),
        ("E010", 3),
        ("E011", 6),
        ("E010", 10),
        ("E012", 14),
    ]
    assert file is not None
    assert [declaration.name.id for declaration in file.declarations if not hasattr(declaration, "rows")] == ["a", "c", "causal"]  # type: ignore[union-attr]


def test_unclosed_bracket_does_not_swallow_the_next_declaration() -> None:
    file, problems = parse_xf(Source("test.xf", "fn f(x) = g(x, (1\n\nfn g(x) = x\nmodel m = g\n"))
    assert [problem.code for problem in problems] == ["E012"]
    assert file is not None and len(file.declarations) == 2


def test_mistakes_in_yaml_point_into_the_yaml() -> None:
    text = 'model: m\ntype: f\na: 1 +\nb: {c: "x ? 2"}\n'
    _, problems = load("test.yaml", text)
    assert [(p.code, p.span and p.span.line_column()) for p in problems] == [("E010", (3, 7)), ("E014", (4, 11))]
