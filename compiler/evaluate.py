"""Expressions: static numbers, recipes and tensors."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

from ..grammar import tree
from . import ir
from .dims import Expr, apply, const, sym
from .habits import of_attribute
from .names import Names, literal
from .operations import Body, Poison
from .scope import Frame, Thunk
from .values import NONE, POISON, Absent, BankRecipe, Builtin, Instance, ListValue, MaskOp, Pattern, Recipe, Static, Times, describe

COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
MOST_LAYERS = 100_000
LARGEST = 2**63
ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floor_div", "%": "mod", "^": "pow"}
_TEST = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Results(tuple[ir.Value, ...]):
    """Several results; `names` lets them be read as `top(...).index`."""

    names: tuple[str, ...] = ()

    @staticmethod
    def of(values: tuple[ir.Value, ...], names: tuple[str, ...]) -> Results:
        made = Results(values)
        made.names = names
        return made


class Evaluator(Names):
    """`evaluate` gives the value of any expression in a frame."""

    def call(self, node: tree.Call, frame: Frame) -> Static:
        raise NotImplementedError

    def index(self, node: tree.Index, frame: Frame) -> Static:
        raise NotImplementedError

    def evaluate(self, node: tree.Expr, frame: Frame) -> Static:
        match node:
            case tree.Number():
                return const(node.value)
            case tree.String():
                return node.value
            case tree.Name():
                return self.lookup(node, frame)
            case tree.List():
                return ListValue(node, frame)
            case tree.Tuple():
                return tuple(self.tensor(item, frame) for item in node.items)
            case tree.Call():
                return self.call(node, frame)
            case tree.Index():
                return self.index(node, frame)
            case tree.Attribute():
                return self.attribute(node, frame)
            case tree.Unary():
                return self.unary(node, frame)
            case tree.Binary():
                return self.binary(node, frame)
            case tree.Choose():
                chosen = node.then if self.condition(node.condition, frame) else node.other
                return self.evaluate(chosen, frame)
            case tree.Repeat():
                return self.repeat(node, frame)
            case tree.Block():
                return self.block(node, Thunk(node, frame, "", self.path, False))
            case tree.Axis():
                return ListValue(tree.List(span=node.span, items=(node,)), frame)
            case tree.Range():
                raise self.error("E324", "a range is not a value here", node.span, help="`a .. b` stands in an index: `x[t = 1 ..]`")

    # ------------------------------------------------ kinds of value

    def tensor(self, node: tree.Expr, frame: Frame) -> ir.Value:
        return self.as_tensor(self.evaluate(node, frame), node.span, frame)

    def as_tensor(self, value: Static, span: tree.Span, frame: Frame) -> ir.Value:
        match value:
            case ir.Value():
                return value
            case Expr() if frame.builder is not None:
                return frame.builder.body.full((), value, "float" if value.is_real else "int", span)
            case tuple() if len(value) == 1:
                return value[0]
            case Instance() | Recipe():
                raise self.error("E325", f"a tensor is needed here, found {describe(value)}", span, help="apply it: `name(x)`")
            case Builtin():
                help = f"apply it: `{value.name}(...)`"
                raise self.error("E325", f"a tensor is needed here, found {describe(value)}", span, help=help)
            case _:
                raise self.error("E325", f"a tensor is needed here, found {describe(value)}", span)

    def operand(self, node: tree.Expr, frame: Frame) -> ir.Operand:
        return self.operand_of(self.evaluate(node, frame), node, frame)

    def operand_of(self, value: Static, node: tree.Expr, frame: Frame) -> ir.Operand:
        """What an expression was evaluated to, as a tensor or a number."""
        match value:
            case ir.Value() | Expr():
                return value
            case bool():
                return const(int(value))
            case _:
                return self.as_tensor(value, node.span, frame)

    def number(self, node: tree.Expr, frame: Frame) -> Expr:
        value = self.evaluate(node, frame)
        if not isinstance(value, Expr):
            raise self.wrong_value("E323", f"a number is needed here, found {describe(value)}", node, frame)
        return value

    def condition(self, node: tree.Expr, frame: Frame) -> bool:
        """A static condition."""
        value = self.evaluate(node, frame)
        if isinstance(value, ir.Value):
            raise self.error(
                "E326",
                "`if` is resolved when the model is built, and this is data",
                node.span,
                help="choose by data with `where(condition, a, b)`",
            )
        if not isinstance(value, bool):
            raise self.wrong_value("E326", f"a condition is needed here, found {describe(value)}", node, frame)
        return value

    # ------------------------------------------------ operators

    def unary(self, node: tree.Unary, frame: Frame) -> Static:
        value = self.evaluate(node.value, frame)
        if node.op == "-":
            if isinstance(value, Expr):
                return -value
            return self.body(frame, node).elementwise("neg", [self.as_tensor(value, node.value.span, frame)], node.span)
        match value:
            case bool():
                return not value
            case Recipe() | MaskOp() | Instance():
                return MaskOp("not", (value,))
            case _:
                return self.body(frame, node).elementwise("not", [self.as_tensor(value, node.value.span, frame)], node.span)

    def binary(self, node: tree.Binary, frame: Frame) -> Static:
        if node.op in ("and", "or"):
            return self.logic(node, frame)
        left = self.evaluate(node.left, frame)
        right = self.evaluate(node.right, frame)
        if node.op in COMPARE:
            return self.compare(node, left, right, frame)
        if isinstance(left, Expr) and isinstance(right, Expr):
            return self.finite(lambda: self.arithmetic(node, left, right, frame), node)
        if node.op == "*" and isinstance(left, Recipe) and isinstance(right, Expr):
            return Times(left, right)
        a = left if isinstance(left, Expr) else self.as_tensor(left, node.left.span, frame)
        b = right if isinstance(right, Expr) else self.as_tensor(right, node.right.span, frame)
        return self.body(frame, node).elementwise(ARITHMETIC[node.op], [a, b], node.span)

    def logic(self, node: tree.Binary, frame: Frame) -> Static:
        """A side that decides alone when the model is built leaves nothing of the other, unless it is written as `true` or
        `false`: then the other is there for nothing, and is reported."""
        written = len(self.body(frame, node).nodes) if frame.builder is not None else 0
        left = self.evaluate(node.left, frame)
        if isinstance(left, bool):
            return left if left == (node.op == "or") else self.evaluate(node.right, frame)
        right = self.evaluate(node.right, frame)
        masks = (Recipe, MaskOp, Instance)
        if isinstance(left, masks) and isinstance(right, masks):
            return MaskOp("and" if node.op == "and" else "or", (left, right))
        if isinstance(left, Absent) or isinstance(right, Absent):
            return right if isinstance(left, Absent) else left
        if isinstance(right, bool):
            written_out = isinstance(node.right, tree.Name) and node.right.id in ("true", "false")
            if right == (node.op == "or") and frame.builder is not None and not written_out:
                del self.body(frame, node).nodes[written:]
            return right if right == (node.op == "or") else left
        values: list[ir.Operand] = [self.as_tensor(left, node.left.span, frame), self.as_tensor(right, node.right.span, frame)]
        return self.body(frame, node).elementwise(node.op, values, node.span)

    def compare(self, node: tree.Binary, left: Static, right: Static, frame: Frame) -> Static:
        if (left is NONE or right is NONE) and node.op in ("==", "!="):
            return (left is right) == (node.op == "==")
        tensors = isinstance(left, ir.Value | tuple) or isinstance(right, ir.Value | tuple)
        if tensors:
            a = left if isinstance(left, Expr) else self.as_tensor(left, node.left.span, frame)
            b = right if isinstance(right, Expr) else self.as_tensor(right, node.right.span, frame)
            return self.body(frame, node).elementwise(COMPARE[node.op], [a, b], node.span)
        if isinstance(left, Expr) and isinstance(right, Expr):
            if left == right:
                return node.op in ("==", "<=", ">=")
            a_value, b_value = left.value(), right.value()
            if a_value is None or b_value is None:
                raise self.error(
                    "E327",
                    f"`{left} {node.op} {right}` is not known when the model is built",
                    node.span,
                    help="`where(...)` chooses by data",
                )
            self.symbols.choose(left, right)
            return bool(_TEST[node.op](a_value, b_value))
        if node.op not in ("==", "!="):
            raise self.error("E328", f"cannot order {describe(left)} and {describe(right)}", node.span)
        if isinstance(left, Recipe) and isinstance(right, Recipe):
            same = left.component is right.component
        elif isinstance(left, bool | str) and isinstance(right, bool | str):
            same = left == right
        else:
            same = left is right
        return same == (node.op == "==")

    def arithmetic(self, node: tree.Binary, a: Expr, b: Expr, frame: Frame) -> Expr:
        match node.op:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
            case "/":
                return self.divide(a, b, node.span)
            case "^":
                return apply("pow", a, b)
            case _:
                if b.value() == 0:
                    raise self.error("E329", f"division by zero: `{a} {node.op} {b}`", node.span)
                return apply("floor_div" if node.op == "//" else "mod", a, b)

    def finite(self, compute: Callable[[], Expr], node: tree.Expr) -> Expr:
        """The number that these words are, or E329 where code could not hold it: `log(0)`, `1e308 * 10`."""
        text = node.span.source.text[node.span.start : node.span.end]
        number: int | float | None
        try:
            result = compute()
            number = result.value()
        except (OverflowError, ZeroDivisionError, ValueError):
            raise self.error("E329", f"`{text}` is not a number", node.span) from None
        if isinstance(number, complex | float) and (isinstance(number, complex) or not isfinite(number)):
            raise self.error("E329", f"`{text}` is not a number", node.span, *self.diagnostics.written(result))
        if isinstance(number, int) and abs(number) >= LARGEST:
            help = "make it a number with a point, if it is no count: `1.0 * ...`"
            raise self.error("E329", f"`{text}` is too large for a whole number", node.span, *self.diagnostics.written(result), help=help)
        return result

    def divide(self, a: Expr, b: Expr, span: tree.Span) -> Expr:
        raise NotImplementedError

    def repeat(self, node: tree.Repeat, frame: Frame) -> Pattern:
        number = literal(node.count)
        name = "layers" if number is not None else ""
        count = sym(self.symbols.at(node.count.span, name, number, self.path)) if number is not None else self.number(node.count, frame)
        slots = self.slots(node.pattern, frame)
        total = count.value()
        if total is not None and total > MOST_LAYERS:
            raise self.wrong_value("E331", f"a stack has at most {MOST_LAYERS:,} layers, found {total:,}", node.count, frame)
        if total is None or total <= 0 or not isinstance(total, int):
            shown = count if total is None else total
            raise self.wrong_value("E331", f"a number of layers is needed here, 1 or more, found {shown}", node.count, frame)
        return Pattern(slots, count, cycle=True)

    def slots(self, node: tree.Expr, frame: Frame) -> tuple[tuple[Recipe, Expr], ...]:
        """The items of a pattern: recipes, each with how many in a row."""
        value = self.evaluate(node, frame)
        match value:
            case Recipe():
                return ((value, const(1)),)
            case Times():
                return ((value.recipe, value.count),)
            case ListValue():
                return tuple(slot for item in value.node.items for slot in self.slots(item, value.frame))
            case Pattern() if not value.cycle:
                return value.slots
            case _:
                raise self.wrong_value("E332", f"a component is needed in a pattern of layers, found {describe(value)}", node, frame)

    def attribute(self, node: tree.Attribute, frame: Frame) -> Static:
        path = [node.name]
        inner = node.value
        while isinstance(inner, tree.Attribute):
            path.insert(0, inner.name)
            inner = inner.value
        if len(path) > 1 and isinstance(base := self.evaluate(inner, frame), Instance):
            return self.parameter_at(base, tuple(path), node.span, frame)
        value = self.evaluate(node.value, frame)
        if isinstance(value, Results) and node.name in value.names:
            return value[value.names.index(node.name)]
        if isinstance(value, Instance):
            return self.parameter_of(value, node.name, node.span, frame)
        names = ", ".join(f"`{n}`" for n in value.names) if isinstance(value, Results) else ""
        help = f"it has {names}" if names else of_attribute(node.name, self.builtins) if isinstance(value, ir.Value) else None
        raise self.error("E333", f"{describe(value)} has no `{node.name}`", node.span, help=help)

    def parameter_at(self, instance: Instance, path: tuple[str, ...], span: tree.Span, frame: Frame) -> ir.Value:
        raise NotImplementedError

    def parameter_of(self, instance: Instance, name: str, span: tree.Span, frame: Frame) -> ir.Value:
        raise NotImplementedError

    def body(self, frame: Frame, node: tree.Expr) -> Body:
        """Where operations of this frame go."""
        if frame.builder is None:
            raise self.error("E334", "a tensor operation has no place in an argument", node.span)
        body = frame.builder.body
        body.name_of_axis = frame.name_of
        return body


__all__ = ["NONE", "POISON", "BankRecipe", "Builtin", "Evaluator", "Poison", "Results"]
