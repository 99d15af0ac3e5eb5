"""Where a component stands, and how its text is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..body import Axis, Body, Spec, Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """Where a component will stand."""

    d: int
    depth: int
    masked: bool
    causal: bool
    effects: bool = True

    def inside(self, **changes: object) -> Place:
        from dataclasses import replace

        return replace(self, depth=self.depth - 1, **changes)  # type: ignore[arg-type]


def started(spec: Spec, place: Place) -> tuple[Body, tuple[Axis, ...], Tensor]:
    axes = Axis("b", "b"), Axis("t", "t"), Axis("d", "d", place.d)
    body = Body(spec, axes, depth=place.depth, masked=place.masked)
    x = Tensor("x", axes)
    body.pool.append(x)
    return body, axes, x


def declared(
    spec: Spec, body: Body, name: str, *, inputs: str = "x: [b, t, d]", outputs: str = "[b, t, d]", recipes: dict[str, str] | None = None
) -> str:
    """Write the component; the recipe that gives it its hyperparameters, some by default."""
    c = spec.choices
    text = "\n".join(body.lines)
    given = {**(recipes or {}), **{n: v for n, v in body.hyper.items() if re.search(rf"\b{n}\b", text)}}
    parameters, arguments = [], []
    for k, (parameter_, value) in enumerate(given.items()):
        if parameter_ not in (recipes or {}) and c.chance(3):
            parameters.append(f"{parameter_} = {value}")
        else:
            parameters.append(parameter_)
            arguments.append(
                value
                if len(arguments) == k and c.below(2) == 0 and all("=" not in a.split("(")[0] for a in arguments)
                else f"{parameter_} = {value}"
            )
    order = sorted(parameters, key=lambda p: "=" in p)
    if order != parameters:
        names = [p.split(" ")[0] for p in parameters if "=" not in p]
        arguments = [a if "=" in a.split("(")[0] else f"{names[k]} = {a}" for k, a in enumerate(arguments)]
    header = (
        f"component {name}({', '.join(order)})({inputs}) -> {outputs}:"
        if order or c.below(2)
        else f"component {name}({inputs}) -> {outputs}:"
    )
    doc = c.pick(["", "", '    "A paper\'s idea, arXiv:0000.00000"\n'])
    spec.parts.append(header + "\n" + doc + "\n".join("    " + line for line in body.lines))
    if not arguments:
        return name if c.below(2) else f"{name}()"
    return f"{name}({', '.join(arguments)}{c.pick(['', '', '', ','])})"


def finish(spec: Spec, body: Body, x: Tensor, axes: tuple[Axis, ...], name: str, recipes: dict[str, str] | None = None) -> str:
    total = body.total(x, axes)
    names = ", ".join(a.label for a in axes)
    body.say(f"return transpose({total}, [{names}])" if spec.choices.below(2) else f"return {total}")
    if "transpose(" not in body.lines[-1]:  # the order of a sum's axes is that of its widest operand
        body.lines[-1] = f"return transpose({total}, [{names}])"
    return declared(spec, body, name, recipes=recipes, outputs=spec.choices.pick(["[b, t, d]", "[b, t, d]", "[b, t, d]", "y", "(y)"]))
