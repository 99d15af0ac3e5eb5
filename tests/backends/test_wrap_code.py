"""Long lines are broken without a change of what they say."""

from __future__ import annotations

import ast
from random import Random

import pytest

from xfc.backends.python.code import Attribute, Binary, Call, Choice, Code, Items, Subscript, Text, Unary, Var, number, render, wrap

VARS = [Var(hint=f"a_rather_long_name_{k}") for k in range(4)]


def code(random: Random, depth: int) -> Code:
    """Any code, but deep enough to fill lines."""
    if depth == 0:
        return random.choice([*VARS, number(random.randint(1, 99))])
    below = [code(random, random.randint(0, depth - 1)) for _ in range(3)]
    match random.randrange(8):
        case 0 | 1:
            return Binary(random.choice(["+", "-", "*", "/", "&", "|", "**", "@", "<", "=="]), below[0], below[1])
        case 2:
            return Unary(random.choice(["-", "~"]), below[0])
        case 3:
            return Call(Text("function"), tuple(below), (("option", below[0]),))
        case 4:
            return Call(
                Attribute(below[0] if not isinstance(below[0], Text) else VARS[0], "method"), tuple(below[1 : random.randint(1, 3)]), ()
            )
        case 5:
            return Subscript(below[0] if not isinstance(below[0], Text) else VARS[1], (Text(":"), Text("None"), below[1]))
        case 6:
            return Choice(*below)
        case _:
            return Call(Text("function"), (Items(tuple(below), square=True),), ())


@pytest.mark.parametrize("seed", range(5))
def test_broken_lines_say_the_same(seed: int) -> None:
    random = Random(seed)
    names = dict(zip(VARS, (v.hint for v in VARS), strict=True))
    for _ in range(300):
        tree = code(random, random.randint(2, 5))
        flat = f"result = {render(tree, lambda v: names[v])}"
        broken = "\n".join(wrap("result = ", tree, lambda v: names[v], 0))
        assert ast.dump(ast.parse(broken)) == ast.dump(ast.parse(flat)), broken
