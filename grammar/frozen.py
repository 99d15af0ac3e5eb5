"""`@frozen` and `@mutable`: what `@dataclass(frozen=True, slots=True)` and `@dataclass` give, declared at a fraction of their cost, which start-up
pays for every class of the compiler.

The standard library compiles three to six methods for each class when it is declared; here one is compiled, `__init__`, when the first object is
made, and the others are shared. The classes are dataclasses in every other respect: `fields`, `replace`, `match` and type checkers treat them so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from functools import cache
from operator import attrgetter
from reprlib import recursive_repr
from typing import TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def frozen(cls: type[T], /) -> type[T]: ...


@overload
def frozen(*, kw_only: bool = False, eq: bool = True) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T] | None = None, /, *, kw_only: bool = False, eq: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """An immutable class with slots. With `eq`, two objects are equal if their compared fields are; without it, if they are one object."""

    def declare(cls: type[T]) -> type[T]:
        cls.__doc__ = cls.__doc__ or cls.__name__
        made: type[T] = dataclass(init=False, repr=False, eq=False, kw_only=kw_only, slots=True)(cls)
        _share(made, (*_SHARED, *_FROZEN, *(_EQUALITY if eq else ())))
        _initialise_later(made, frozen=True)
        return made

    return declare if cls is None else declare(cls)


@overload
def mutable(cls: type[T], /) -> type[T]: ...


@overload
def mutable(*, kw_only: bool = False, eq: bool = True, slots: bool = False) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(field_specifiers=(field,))
def mutable(
    cls: type[T] | None = None, /, *, kw_only: bool = False, eq: bool = True, slots: bool = False
) -> type[T] | Callable[[type[T]], type[T]]:
    """A class whose fields may be assigned. With `eq`, two objects are equal if their compared fields are, and have no hash."""

    def declare(cls: type[T]) -> type[T]:
        cls.__doc__ = cls.__doc__ or cls.__name__
        made: type[T] = dataclass(init=False, repr=False, eq=False, kw_only=kw_only, slots=slots)(cls)
        _share(made, (*_SHARED, "__eq__") if eq else _SHARED)
        if eq:
            made.__hash__ = None  # type: ignore[assignment]
        _initialise_later(made, frozen=False)
        return made

    return declare if cls is None else declare(cls)


def _share(cls: type, names: tuple[str, ...]) -> None:
    """Give a class the methods that all such classes share, where it has none of its own."""
    for name in names:
        if name not in cls.__dict__:
            setattr(cls, name, vars(_Methods)[name])


def _initialise_later(cls: type, *, frozen: bool) -> None:
    """An `__init__` that is compiled when it is called first: a command makes objects of half the classes that it declares."""

    def __init__(self: object, *values: object, **named: object) -> None:  # noqa: N807
        cls.__init__ = _initialiser(cls, frozen=frozen)  # type: ignore[misc]
        cls.__init__(self, *values, **named)  # type: ignore[misc]

    cls.__init__ = __init__  # type: ignore[misc]


def _initialiser(cls: type, *, frozen: bool) -> Callable[..., None]:
    """`__init__(self, a, b=default, *, c)`, which sets each field: of a frozen class, the slot itself."""
    names: dict[str, object] = {"MISSING": MISSING}
    signature: dict[bool, list[str]] = {False: ["self"], True: []}
    body: list[str] = []
    for f in fields(cls):
        value, text = f.name, f.name
        if f.default is not MISSING:
            names[f"default_{f.name}"] = f.default
            text = f"{f.name}=default_{f.name}"
        elif f.default_factory is not MISSING:
            names[f"make_{f.name}"] = f.default_factory
            text, value = f"{f.name}=MISSING", f"make_{f.name}() if {f.name} is MISSING else {f.name}"
        signature[f.kw_only is True].append(text)
        if frozen:
            names[f"set_{f.name}"] = getattr(cls, f.name).__set__
            body.append(f" set_{f.name}(self, {value})")
        else:
            body.append(f" self.{f.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    parameters = [*signature[False], *(["*", *signature[True]] if signature[True] else [])]
    exec(f"def __init__({', '.join(parameters)}):\n" + ("\n".join(body) or " pass"), names)
    made: Callable[..., None] = names["__init__"]  # type: ignore[assignment]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


class _Methods:
    """What all such classes share."""

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    @recursive_repr()
    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        kind: type = type(self)
        return restore, (kind, *[getattr(self, name) for name in field_names(kind)])

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        kind: type = type(self)
        return bool(_compared(kind)(self) == _compared(kind)(other))

    def __hash__(self) -> int:
        kind: type = type(self)
        return hash(_compared(kind)(self))


_SHARED = ("__repr__",)
_FROZEN = ("__setattr__", "__delattr__", "__reduce__")
_EQUALITY = ("__eq__", "__hash__")


_NAMES: dict[type, tuple[str, ...]] = {}


def field_names(cls: type) -> tuple[str, ...]:
    """Of a dataclass; `dataclasses.fields` makes its answer anew at each call, which walks over a whole program feel."""
    if cls not in _NAMES:
        _NAMES[cls] = tuple(f.name for f in fields(cls))
    return _NAMES[cls]


@cache
def _compared(cls: type) -> Callable[[object], object]:
    names = [f.name for f in fields(cls) if f.compare]
    return attrgetter(*names) if names else lambda _: ()


@cache
def _setters(cls: type) -> tuple[Callable[[object, object], None], ...]:
    return tuple(getattr(cls, name).__set__ for name in field_names(cls))


def restore(cls: type, *values: object) -> object:
    """The object with these fields, for pickles, which hold thousands of them."""
    made: object = object.__new__(cls)
    for assign, value in zip(_setters(cls), values, strict=True):
        assign(made, value)
    return made
