"""Layers whose inputs can be computed back from what they give: y + f(x) and then x + g(y) ("The reversible residual network", arXiv:1707.04585)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from ...compiler import ir
from ...compiler.ir import Module, Node, Program, Value
from ...grammar.frozen import frozen

METHODS = {
    "added_first": "What is added to the first stream, of the second.",
    "added_second": "What is added to the second stream, of what the first became.",
    "handed_on": "What else the next layer is given.",
}


@frozen
class Coupling:
    """What a layer adds to its first input, of its second; then to its second, of what the first became; and what else it gives, of neither."""

    first: Module
    second: Module
    others: Module | None

    @property
    def parts(self) -> tuple[tuple[str, Module], ...]:
        """The methods that these are, by name."""
        found = zip(METHODS, (self.first, self.second, self.others), strict=True)
        return tuple((name, module) for name, module in found if module is not None)


@lru_cache(maxsize=4)
def reversible_layers(program: Program) -> frozenset[int]:
    """Identities of layers that can be gone back through, in the order in which their stacks carry the two streams."""
    found: set[int] = set()
    for owner in ir.walk(program.root):
        for node in owner.body:
            if isinstance(node, ir.Fold) and node.carried > 1 and not node.collected:
                stack = owner.child(node.target)
                assert isinstance(stack, ir.Stack)
                found |= {
                    id(m)
                    for (m, _), places in zip(stack.slots, node.inputs, strict=True)
                    if places[:2] == (0, 1) and len(m.outputs) == node.carried and coupling_of(m) is not None
                }
    return frozenset(found)


@lru_cache(maxsize=64)
def coupling_of(module: Module) -> Coupling | None:
    if len(module.inputs) < 2 or len(module.outputs) < 2 or ir.has_effects(module) or {c.name for c in module.children} & set(METHODS):
        return None
    (one, two), rest = module.inputs[:2], module.inputs[2:]
    sums = {n.out: n for n in module.body if isinstance(n, ir.Elementwise) and n.function == "add"}
    both = [sums.get(v) for v in module.outputs[:2]]
    f, g = (_other(node, own) for node, own in zip(both, (one, two), strict=True))
    if f is None or g is None or any(isinstance(n, ir.Once) for n in module.body):
        return None
    inside = [n for n in module.body if n not in both]
    became = module.outputs[0]
    made = (
        _part(module, inside, (two, *rest), (f,)),
        _part(module, inside, (became, *rest), (g,)),
        _part(module, inside, rest, module.outputs[2:]) if module.outputs[2:] else None,
    )
    first, second, others = made
    if first is None or second is None or (module.outputs[2:] and others is None):
        return None
    used = {n for part in made if part is not None for n in part.body}
    return Coupling(first, second, others) if used == set(inside) else None


def _other(node: Node | None, own: Value) -> Value | None:
    """What is added to `own`."""
    match node:
        case ir.Elementwise(args=(Value() as a, Value() as b)) if (a is own) != (b is own):
            return b if a is own else a
        case _:
            return None


def _part(module: Module, nodes: Iterable[Node], inputs: tuple[Value, ...], outputs: tuple[Value, ...]) -> Module | None:
    """What computes these of those alone."""
    wanted = ir.made_by(nodes, outputs)
    body = tuple(n for n in module.body if n in wanted)
    known = {*inputs, *(p.value for p in module.params), *(v for n in body for v in n.outs)}
    if any(v not in known for n in body for v in ir.operands(n)) or any(v not in known for v in outputs):
        return None
    names = tuple(v.hint or f"y{k}" for k, v in enumerate(outputs))
    return replace(module, inputs=inputs, outputs=outputs, output_names=names, body=body)


REVERSED_LAYER = '''class Streams:
    """What a layer gave: here until the next layer has it, and again once that one has computed it back."""

    def __init__(self) -> None:
        self.tensors: tuple[Tensor, Tensor] | None = None


class ReversedLayer(torch.autograd.Function):
    """y + f(x), then x + g(y): neither is kept, but computed back from what they became. arXiv:1707.04585, algorithm 1."""

    @staticmethod
    def forward(ctx, layer, before, after, count, y, x, *given):  # type: ignore[no-untyped-def]
        ctx.layer, ctx.before, ctx.after, ctx.given, ctx.count = layer, before, after, given, count
        kind = x.device.type
        ctx.autocast = {"device_type": kind, "enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}
        ctx.random = []
        rest = [v if v is None else v.detach() for v in given[:count]]

        def added(add: Callable[..., Tensor], read: Tensor) -> Tensor:
            """With gradients, as on the way back: what is drawn at random, and how long sequences are cut, is the same."""
            ctx.random.append(random_states(read))
            with torch.enable_grad():
                return add(read.detach(), *rest).detach()

        y = y + added(layer.added_first, x)
        x = x + added(layer.added_second, y)
        after.tensors = (y.detach(), x.detach())
        return y, x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_y, grad_x):  # type: ignore[no-untyped-def]
        if ctx.after.tensors is None:
            raise RuntimeError("a reversed layer goes back once, after the layers that read what it gave")
        y, x = ctx.after.tensors
        ctx.after.tensors = None
        needed = ctx.needs_input_grad[6:]
        given = [v if v is None else v.detach() for v in ctx.given[: ctx.count]]
        leaves = [v for v, need in zip([*given, *ctx.given[ctx.count :]], needed, strict=True) if need]
        for leaf in leaves:
            leaf.requires_grad_()

        def back(add: Callable[..., Tensor], read: Tensor, grad: Tensor, state: list[Tensor]) -> tuple[Tensor, ...]:
            """What was added, computed again of what it reads; the gradients of that, and of the leaves."""
            devices = [read.device] if read.is_cuda else []
            with torch.random.fork_rng(devices), torch.enable_grad(), torch.autocast(**ctx.autocast):
                set_random_states(state, read)
                read = read.detach().requires_grad_()
                added = add(read, *given)
            grads = torch.autograd.grad(added, (read, *leaves), grad.to(added.dtype), allow_unused=True, materialize_grads=True)
            return added.detach(), *grads

        added, grad, *of_second = back(ctx.layer.added_second, y, grad_x, ctx.random[1])
        x, grad_y = x - added, grad_y + grad
        added, grad, *of_first = back(ctx.layer.added_first, x, grad_y, ctx.random[0])
        y, grad_x = y - added, grad_x + grad
        if ctx.before is not None:
            ctx.before.tensors = (y, x)
        found = iter([a + b for a, b in zip(of_first, of_second, strict=True)])
        return None, None, None, None, grad_y, grad_x, *(next(found) if need else None for need in needed)


def random_states(x: Tensor) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(x.device)] if x.is_cuda else [])]


def set_random_states(states: list[Tensor], x: Tensor) -> None:
    torch.set_rng_state(states[0])
    if x.is_cuda:
        torch.cuda.set_rng_state(states[1], x.device)


def reversed_layer(layer: nn.Module, y: Tensor, x: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
    """The layer's forward, keeping neither y nor x. With a cache, without gradients and while torch.compile traces, as it is."""
    cached = any(not isinstance(v, Tensor) and v is not None for v in given)
    if cached or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return type(layer).forward(layer, y, x, *given)
    before = getattr(x, "streams", None)
    before = before if getattr(y, "streams", None) is before else None
    after = Streams()
    own = [p for p in layer.parameters() if p.requires_grad]
    out = ReversedLayer.apply(layer, before, after, len(given), y, x, *given, *own)
    for stream in out:
        stream.streams = after
    if before is not None:
        before.tensors = None
    others = getattr(layer, "handed_on", lambda *_: ())(*given)
    return *out, *(others if isinstance(others, tuple) else (others,))'''
