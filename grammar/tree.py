"""The syntax tree that both surfaces (.xf and YAML) parse to.

Nodes are immutable and carry the span of the words they came from. They say what was written, never what it means: names are not
resolved here. Equality ignores spans, so that a tree printed and parsed again compares equal to itself.

    file      ::= import* declaration*
    declare   ::= component | model | checkpoint | config
    statement ::= bind | let | shared | given | return | if | loss | emit | next | assume | expression
    expr      ::= number | string | name | list | tuple | call | index | attribute | unary | binary | choose | axis | range | repeat
"""

from __future__ import annotations

from dataclasses import field

from .frozen import frozen


@frozen
class Source:
    """One text that was read: its path as the user wrote it, and its content (for diagnostics)."""

    path: str
    text: str


@frozen
class Span:
    """Half-open range of characters `[start, end)` in a source."""

    source: Source = field(repr=False)
    start: int
    end: int

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of another in the same source."""
        return Span(self.source, self.start, max(self.end, other.end))

    def line_column(self) -> tuple[int, int]:
        """1-based line and column of the start."""
        before = self.source.text[: self.start]
        return before.count("\n") + 1, self.start - (before.rfind("\n") + 1) + 1


@frozen(kw_only=True)
class Node:
    span: Span = field(compare=False, repr=False)


# ---------------------------------------------------------------- expressions


@frozen(kw_only=True)
class Number(Node):
    """An int or a float literal; `text` is how it was written (`1e4`, `0.02`, `128256`)."""

    text: str

    @property
    def value(self) -> int | float:
        return int(self.text.replace("_", "")) if self.text.replace("_", "").isdigit() else float(self.text)


@frozen(kw_only=True)
class String(Node):
    value: str


@frozen(kw_only=True)
class Name(Node):
    """`d`, `true`, `none`, or a primed label `d'` (a second axis of the same size); `...` is the name of the rest of the axes."""

    id: str


@frozen(kw_only=True)
class List(Node):
    """`[a, b: 2, ...]`: axes, pieces or patterns."""

    items: tuple[Expr, ...]


@frozen(kw_only=True)
class Tuple(Node):
    """`a, b` after `return` or on the right of `=`."""

    items: tuple[Expr, ...]


@frozen(kw_only=True)
class Argument(Node):
    """One argument of a call, an index or a block: `name = value`, or a bare value (name is none).

    In a block (`model m = f:` followed by indented lines) `name` may be a dotted path (`decoder.layers`)."""

    name: str | None
    name_span: Span | None = field(default=None, compare=False, repr=False)
    value: Expr


@frozen(kw_only=True)
class Call(Node):
    """`function(arguments)`."""

    function: Expr
    arguments: tuple[Argument, ...]


@frozen(kw_only=True)
class Index(Node):
    """`x[t = j]`, `x[s = 0]`, `x[t = 1 ..]`, `table[i]`."""

    value: Expr
    arguments: tuple[Argument, ...]


@frozen(kw_only=True)
class Attribute(Node):
    """`embed.weight`."""

    value: Expr
    name: str


@frozen(kw_only=True)
class Unary(Node):
    """`-x`, `not x`."""

    op: str
    value: Expr


@frozen(kw_only=True)
class Binary(Node):
    """`+ - * / // % ^`, `== != < <= > >=`, `and or`."""

    op: str
    left: Expr
    right: Expr


@frozen(kw_only=True)
class Choose(Node):
    """`then if condition else other`: resolved while elaborating."""

    condition: Expr
    then: Expr
    other: Expr


@frozen(kw_only=True)
class Axis(Node):
    """`label: size` inside a list."""

    label: str
    size: Expr


@frozen(kw_only=True)
class Range(Node):
    """`start .. stop` inside an index; either end may be missing."""

    start: Expr | None
    stop: Expr | None


@frozen(kw_only=True)
class Repeat(Node):
    """`count of pattern`: fresh weights each time; a list pattern cycles."""

    count: Expr
    pattern: Expr


@frozen(kw_only=True)
class Block(Node):
    """An indented block of arguments (.xf) or a mapping (YAML) as a value.

    `base` is the component it calls (`type:` in YAML, `path = base:` in .xf), or none to refine the parameter's default recipe."""

    base: Expr | None
    lets: tuple[Let, ...]
    arguments: tuple[Argument, ...]


Expr = Number | String | Name | List | Tuple | Call | Index | Attribute | Unary | Binary | Choose | Axis | Range | Repeat | Block


# ---------------------------------------------------------------- statements


@frozen(kw_only=True)
class Bind(Node):
    """`a, b = value`. Binding a recipe to a name makes an instance of that name; `shared` makes one that may be passed around.

    `axes` are those of `a: [b, t, d] = value`: they name the axes of the result."""

    targets: tuple[Name, ...]
    value: Expr
    shared: bool = False
    axes: List | None = None


@frozen(kw_only=True)
class Let(Node):
    """`let a = value`: a local name; a recipe stays a recipe."""

    targets: tuple[Name, ...]
    value: Expr


@frozen(kw_only=True)
class Given(Node):
    """`given name: [axes] = default`: a stream that the model provides by name."""

    name: Name
    axes: List
    default: Expr | None


@frozen(kw_only=True)
class Return(Node):
    value: Expr


@frozen(kw_only=True)
class If(Node):
    """`if condition:` ... `else:`; static. An `elif` is an `If` alone in `other`."""

    condition: Expr
    then: tuple[Statement, ...]
    other: tuple[Statement, ...]


@frozen(kw_only=True)
class For(Node):
    """`for name in list:`; static, unrolled."""

    targets: tuple[Name, ...]
    values: Expr
    body: tuple[Statement, ...]


@frozen(kw_only=True)
class Effect(Node):
    """`loss name = value`, `emit name = value`, `next name = value`; `kind` is that word."""

    kind: str
    name: Name
    value: Expr


@frozen(kw_only=True)
class State(Node):
    """`state name: [axes] = initial`: carried from segment to segment."""

    name: Name
    axes: List
    initial: Expr


@frozen(kw_only=True)
class Assume(Node):
    """`assume causal: "reason"`: a stated, unproved property; in a component's or a model's body or block."""

    property: str
    reason: str


@frozen(kw_only=True)
class Define(Node):
    """A component, mask, score or fn defined inside a body; it sees the body's names."""

    component: Component


Statement = Bind | Let | Given | Return | If | For | Effect | State | Assume | Define


# ---------------------------------------------------------------- declarations


@frozen(kw_only=True)
class Parameter(Node):
    """A hyperparameter: `heads`, `bias = false`."""

    name: Name
    default: Expr | None


@frozen(kw_only=True)
class Input(Node):
    """A tensor input: `x: [b, t, d]`, `input_ids: [b, t] int in vocab`, `labels: [b, t] int = none`, or a bare `i` of an index function."""

    name: Name
    axes: List | None
    dtype: str | None
    bound: Expr | None
    default: Expr | None


@frozen(kw_only=True)
class Output(Node):
    """One result: `[b, t, d]`, `name: [b, t, d]` or a bare `name` whose axes are inferred."""

    name: Name | None
    axes: List | None


@frozen(kw_only=True)
class Component(Node):
    """`kind name(parameters)(inputs) -> outputs: body`; kind is component, mask, score, weights or fn.

    A one-line form (`mask causal(i, j) = j <= i`) has a body of one `Return`. `mask`, `score` and `fn` may leave out the
    hyperparameter list: with a single list of names it holds the inputs (`parameters` is empty)."""

    kind: str
    name: Name
    parameters: tuple[Parameter, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    body: tuple[Statement, ...]
    paper: str | None = None


@frozen(kw_only=True)
class Model(Node):
    """`model name = base:` or `model name extends other:` followed by arguments; or, with a body, a component named as a model.

    Exactly one of `base` (a component expression), `extends` (a model's name) and `component` is set."""

    name: Name
    base: Expr | None
    extends: Name | None
    component: Component | None
    lets: tuple[Let, ...] = ()
    arguments: tuple[Argument, ...] = ()
    assumes: tuple[Assume, ...] = ()
    paper: str | None = None


@frozen(kw_only=True)
class Row(Node):
    """One line of a checkpoint or config map: `left = right`. `left` is the string or dotted path before `=`."""

    left: Expr
    right: Expr


@frozen(kw_only=True)
class Map(Node):
    """`checkpoint huggingface for model:` or `config huggingface for model:`; `kind` is checkpoint or config.

    `ignored` are the patterns after `ignore`."""

    kind: str
    format: str
    model: Name
    rows: tuple[Row, ...]
    ignored: tuple[String, ...] = ()


@frozen(kw_only=True)
class Import(Node):
    """`import "path.xf"`: the declarations of another file, by relative path."""

    path: str


Declaration = Component | Model | Map


@frozen(kw_only=True)
class File(Node):
    """A whole source."""

    imports: tuple[Import, ...]
    declarations: tuple[Declaration, ...]
