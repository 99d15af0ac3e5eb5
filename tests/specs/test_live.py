"""Every argument that a shipped spec gives is live: another value changes the program, or is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.find_model import find_model
from xfc.compiler.library import shipped_models
from xfc.compiler.print_ir import print_program
from xfc.grammar import tree


def leaves(node: tree.Expr, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Paths of numbers and bools, each with another value."""
    match node:
        case tree.Block(lets=lets, arguments=arguments):
            for let in lets:
                yield from leaves(let.value, (*path, let.targets[0].id))
            for argument in arguments:
                yield from leaves(argument.value, (*path, argument.name or ""))
        case tree.Call(arguments=arguments):
            for argument in arguments:
                if argument.name is not None:
                    yield from leaves(argument.value, (*path, argument.name))
        case tree.Number():
            yield ".".join(path), repr(node.value * 2 or 0.5)
        case tree.Name(id="true"):
            yield ".".join(path), "false"
        case tree.Name(id="false"):
            yield ".".join(path), "true"


def printed(name: str, sets: list[str]) -> str | None:
    program = elaborate_file(name, sets, Diagnostics())
    return None if program is None else print_program(program)


LAST = {path: name for name, path in shipped_models().items()}


@pytest.mark.parametrize("name", sorted(LAST.values()))
def test_every_argument_is_live(name: str) -> None:
    found = find_model(name, [], Diagnostics())
    assert found is not None
    model = found[0]
    arguments = model.arguments
    if model.component is not None:  # a model with a body: its hyperparameters have defaults
        own = [p for p in model.component.parameters if p.default is not None]
        arguments = (*arguments, *(tree.Argument(span=p.span, name=p.name.id, value=p.default) for p in own if p.default is not None))
    block = tree.Block(span=model.span, base=model.base, lets=model.lets, arguments=arguments)
    before = printed(name, [])
    assert before is not None
    inert = [path for path, value in leaves(block, ()) if printed(name, [f"{path}={value}"]) == before]
    assert not inert
