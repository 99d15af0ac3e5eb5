"""A component's body while it is written: tensors with their axes, the lines so far, and what must still be used.

Every tensor made must reach the result (the language refuses what nobody reads), so `settle` folds the unused ones into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from .choices import Choices


class Unfit(Exception):  # noqa: N818 -- not a failure: another operation is chosen
    """No tensor here fits an operation."""


@dataclass(frozen=True, slots=True)
class Axis:
    """`label: size`; `count` is the size's value, none for a dynamic one."""

    label: str
    size: str
    count: int | None = None

    def __str__(self) -> str:
        return self.label if self.label == self.size else f"{self.label}: {self.size}"


@dataclass(frozen=True, slots=True)
class Tensor:
    """`name` is a name or, for what is used once, an expression. `reach` bounds the entries, roughly; `tied`: some may be equal."""

    name: str
    axes: tuple[Axis, ...]
    dtype: str = "float"
    reach: float = 3.0
    tied: bool = False
    once: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(a.label for a in self.axes)

    def axis(self, label: str) -> Axis:
        return next(a for a in self.axes if a.label == label)


@dataclass
class Spec:
    """The declarations of a spec while it is written. `depth` bounds how far components contain components."""

    choices: Choices
    parts: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    givens: set[str] = field(default_factory=set)
    offered: frozenset[str] = frozenset(("attention_mask", "positions", "document_ids"))

    def name(self, prefix: str) -> str:
        number = self.numbers.get(prefix, 0)
        self.numbers[prefix] = number + 1
        return f"{prefix}{number}" if number else prefix

    def text(self) -> str:
        return "\n\n".join(self.parts) + "\n"


class Body:
    """Lines of one body. `hyper` are the hyperparameters it asked for, with the values its maker gives."""

    def __init__(self, spec: Spec, axes: Sequence[Axis], *, depth: int, masked: bool = True, batched: bool = True) -> None:
        self.spec, self.choices, self.depth, self.masked = spec, spec.choices, depth, masked
        self.batched = batched
        self.axes = {a.label: a for a in axes}
        self.hyper: dict[str, str] = {}
        self.lines: list[str] = []
        self.pool: list[Tensor] = []
        self.unused: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.taken = {"x", *self.axes}

    # ------------------------------------------------ names, numbers, axes

    def name(self, prefix: str) -> str:
        while True:
            number = self.numbers.get(prefix, 0)
            self.numbers[prefix] = number + 1
            name = f"{prefix}{number}" if number else prefix
            if name not in self.taken and name not in self.axes and name not in self.hyper:
                return name

    def say(self, line: str) -> None:
        self.lines.append(line)

    def number(self, value: float, *, plain: bool = False) -> str:
        """The value as a literal, a local number, a hyperparameter, or an expression."""
        text = repr(value) if value >= 0 else f"({value!r})"
        match 0 if plain else self.choices.below(5):
            case 1 | 2:
                name = self.name("count" if isinstance(value, int) else "rate")
                self.hyper[name] = repr(value)
                return self.choices.pick([name, name, f"({name} * {name} ^ 0)", f"({name} if {name} == {text} else 7)"])
            case 3:
                name = self.name("amount")
                self.say(f"let {name} = {value!r}")
                return name
            case 4 if isinstance(value, int) and value > 0:
                if self.choices.chance(3):
                    if "smaller" not in self.spec.numbers:
                        self.spec.parts.append(f"fn {self.spec.name('smaller')}(one, other = 9) = minimum(one, other)")
                    return f"smaller({value})"
                return self.choices.pick([f"(2 * {value} // 2)", f"({value} + 1 - 1)", f"maximum({value}, 1)", f"({value} if true else 7)"])
            case 4 if value > 0:
                return self.choices.pick([f"(1.0 / {1 / value!r})", f"rsqrt({1 / value**2!r})", f"({value} if {value} != 0 else 7)"])
            case _:
                return text

    def axis(self, value: int) -> Axis:
        """A new axis of a known size."""
        label = self.name(self.choices.pick(["u", "w", "heads", "e"]))
        axis = Axis(label, self.number(value), value)
        return axis

    def fresh(self, old: Axis) -> Axis:
        """An axis of the size of another."""
        return Axis(self.name(self.choices.pick(["s", "v"])), old.size, old.count)

    # ------------------------------------------------ tensors

    def add(self, tensor: Tensor) -> Tensor:
        self.pool.append(tensor)
        self.unused.add(tensor.name)
        for axis in tensor.axes:
            self.axes.setdefault(axis.label, axis)
        return tensor

    def put(
        self, expression: str, axes: Iterable[Axis], dtype: str = "float", *, reach: float = 3.0, tied: bool = False, typed: bool = False
    ) -> Tensor:
        """A new tensor: a line, or (where its axes have their names already) an expression to be used once."""
        axes = tuple(axes)
        if typed:  # names that mean an axis of another size in this body stay what they are
            axes = tuple(a if self.axes.get(a.label, a) == a else Axis(self.name("v"), a.size, a.count) for a in axes)
        if dtype == "float" and reach > 40:
            expression, reach = f"tanh(0.1 * ({expression}))", 1.0
        if not typed and self.choices.chance(4):
            return self.add(Tensor(f"({expression})", axes, dtype, reach, tied, once=True))
        name = self.name(self.choices.pick(["x", "y", "z", "q", "g"]))
        if typed:
            self.say(f"{name}: [{', '.join(a.label for a in axes)}] = {expression}")
        else:
            self.say(f"{name} = {expression}")
        return self.add(Tensor(name, axes, dtype, reach, tied))

    def use(self, tensor: Tensor) -> str:
        self.unused.discard(tensor.name)
        if tensor.once:
            self.pool = [t for t in self.pool if t is not tensor]
        return tensor.name

    def pick(self, fits: Callable[[Tensor], bool]) -> Tensor:
        """A tensor that fits; those not used yet come first."""
        found = [t for t in self.pool if fits(t)]
        if not found:
            raise Unfit
        found.sort(key=lambda t: t.name not in self.unused)
        return found[min(self.choices.below(2 * len(found)) // 2, len(found) - 1)] if self.choices.below(2) else found[0]

    def pick_float(self, fits: Callable[[Tensor], bool] = lambda t: True) -> Tensor:
        return self.pick(lambda t: t.dtype == "float" and fits(t))

    def named(self, tensor: Tensor) -> Tensor:
        """The tensor under a name, to be used more than once."""
        if not tensor.once:
            return tensor
        name = self.name("m")
        self.say(f"{name} = {self.use(tensor)}")
        return self.add(replace(tensor, name=name, once=False))

    def instance(self, recipe: str, prefix: str = "f") -> str:
        name = self.name(prefix)
        self.say(f"{name} = {recipe}")
        return name

    # ------------------------------------------------ the end

    def settle(self, tensor: Tensor, axes: Sequence[Axis]) -> str:
        """A tensor as something float to add to one of these axes: axes that are not among them are reduced."""
        text = self.use(tensor)
        kept = {(a.label, a.size) for a in axes}
        extra = [a for a in tensor.axes if (a.label, a.size) not in kept]
        if tensor.dtype != "float":
            text = f"tanh(0.3 * float({text}))" if tensor.dtype == "int" else f"float({text})"
        for axis in extra:
            how = self.choices.below(5)
            if how == 1 and axis.count is not None:
                text = f"{_bracket(text)}[{axis.label} = {self.choices.pick([0, -1, axis.count - 1])}]"
            elif how == 2:
                text = f"{_bracket(text)}[{axis.label} = 0]"
            else:
                text = f"{self.choices.pick(['mean', 'mean', 'mean', 'max', 'min'])}({text}, {axis.label})"
        return text

    def total(self, start: Tensor, axes: Sequence[Axis]) -> str:
        """Everything that nobody used yet, added to a tensor of these axes."""
        text = self.use(start) if start.name in self.unused or not start.once else start.name
        for tensor in [t for t in self.pool if t.name in self.unused]:
            term = self.settle(tensor, axes)
            text = f"{text} + {self.number(0.25, plain=self.choices.below(2) == 0)} * {_bracket(term)}"
        return text


def _bracket(text: str) -> str:
    return text if text.replace("_", "").isalnum() else f"({text})"
