"""Static values: what expressions mean while a spec is elaborated.

value ::= Expr (a number) | bool | str | NONE | ir.Value (a tensor) | tuple of tensors (several results)
        | ListValue | Recipe | Pattern | Times | BankRecipe | MaskOp | Initial | Instance | Builtin | POISON
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from ..grammar import tree
from ..grammar.frozen import frozen, mutable
from . import ir
from .dims import Expr

if TYPE_CHECKING:
    from .builder import Builder
    from .scope import Frame, Thunk


class Absent:
    """`none`: absence. Applying it is an error."""

    def __repr__(self) -> str:
        return "none"


class Poisoned:
    """The value of a name whose definition has already been reported as wrong."""


NONE = Absent()
POISON = Poisoned()


@frozen(eq=False)
class ListValue:
    """A list as written; read as axes or as values where it is used."""

    node: tree.List
    frame: Frame


@frozen(eq=False)
class Recipe:
    """A component with some of its hyperparameters; `span` is where it was named last."""

    component: tree.Component
    frame: Frame
    arguments: dict[str, Thunk] = field(default_factory=dict)
    span: tree.Span | None = None

    @property
    def name(self) -> str:
        return self.component.name.id


@frozen(eq=False)
class Times:
    """`recipe * 5` inside a pattern."""

    recipe: Recipe
    count: Expr


@frozen(eq=False)
class Pattern:
    """`count of [a * 5, b]` (cycle) or `[a * 3, b * 58]` (exact)."""

    slots: tuple[tuple[Recipe, Expr], ...]
    count: Expr
    cycle: bool


@frozen(eq=False)
class BankRecipe:
    """`bank(n, recipe)`: copies on a leading axis."""

    axis: ir.Axis
    recipe: Recipe


@frozen(eq=False)
class MaskOp:
    """`a and b`, `a or b`, `not a` of masks."""

    op: Literal["and", "or", "not"]
    masks: tuple[Recipe | MaskOp | Instance, ...]


@frozen(eq=False)
class Initial:
    """`normal(std)`, `uniform(low, high)`: how a parameter starts."""

    init: ir.Init


@mutable(eq=False, slots=True)
class Instance:
    """A submodule: a recipe bound to a name in a body. `builder` is its first elaboration, if any."""

    name: str
    recipe: Recipe | Pattern | BankRecipe
    owner: Builder
    span: tree.Span
    shared: bool = False
    builder: Builder | None = None
    applied: bool = False
    emitted: dict[str, ir.Value] = field(default_factory=dict)


@frozen(eq=False)
class Builtin:
    """A primitive by name."""

    name: str
    run: Callable[..., Static]


Static = (
    Expr | bool | str | Absent | ir.Value | tuple[ir.Value, ...] | ListValue | Recipe | Times | Pattern | BankRecipe | MaskOp | Initial
    | Instance | Builtin | Poisoned
)  # fmt: skip


def describe(value: Static) -> str:
    """What a value is, in the words of the language."""
    match value:
        case bool():
            return "a bool"
        case str():
            return "a string"
        case Expr():
            number = value.value()
            return f"the number {value}" if number is None or str(number) == str(value) else f"the number {value} ({number})"
        case Absent():
            return "none"
        case ir.Value():
            return f"a tensor {value.type!r}"
        case tuple():
            return f"{len(value)} tensors"
        case ListValue():
            return "a list"
        case Recipe():
            return f"the {value.component.kind} `{value.name}`"
        case Times() | Pattern():
            return "a pattern of layers"
        case BankRecipe():
            return "a bank of experts"
        case MaskOp():
            return "a mask"
        case Initial():
            return "an initialisation"
        case Instance():
            return f"the instance `{value.name}`"
        case Builtin():
            return f"the operation `{value.name}`"
        case Poisoned():
            return "a value that is wrong"
