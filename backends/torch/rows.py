"""What acts on each position alone goes through long sequences a part at a time, where nothing else needs memory for all of them at once.

Without gradients the hidden values of a part are freed before the next (arXiv:2001.04451, section 3: chunks of the feed-forward layer)."""

from __future__ import annotations

from ...compiler import ir
from ...compiler.ir import REST

_ON_ROWS = (
    ir.Elementwise, ir.Cast, ir.Einsum, ir.Reduce, ir.Split, ir.Unflatten, ir.Flatten, ir.Rename, ir.StopGradient, ir.Dropout, ir.ChildParam, ir.Call,
)  # fmt: skip


def is_for_long_sequences(program: ir.Program) -> bool:
    """Whether there are lengths, and no value, score or mask has two axes of lengths: then all work grows linearly with each."""
    lengths = set(program.dynamic[1:])

    def many(*axes: ir.Axis) -> bool:
        return sum(bool(a.size.symbols & lengths) for a in axes) > 1

    nodes = [n for m in ir.walk(program.root) for n in m.body]
    if not lengths or any(many(*v.type.axes) for n in nodes for v in n.outs):
        return False
    return not any(isinstance(n, ir.Attend) and many(n.q.type.axis(n.query), n.k.type.axis(n.k_axis)) for n in nodes)


def widens_rows(module: ir.Module) -> bool:
    """Whether it maps [..., d] to [..., e], row by row, by way of something wider."""
    if len(module.inputs) != 1 or len(module.outputs) != 1 or not module.children:
        return False
    x, y = module.inputs[0], module.outputs[0]
    if any(len(v.type.labels) != 2 or v.type.labels[0] is not REST or v.type.dtype != "float" for v in (x, y)):
        return False
    if any(m.states or m.updates or any(isinstance(c, ir.Bank) for c in m.children) for m in ir.walk(module)):
        return False
    nodes = [n for m in ir.walk(module) for n in m.body]
    if not all(isinstance(n, _ON_ROWS) and not getattr(n, "entry", "") for n in nodes):
        return False
    if any(v.type.has(REST) and not n.out.type.has(REST) for n in nodes for v in ir.operands(n)):
        return False
    return _width(x) < max(_width(v) for n in module.body for v in n.outs if v.type.has(REST))


def _width(value: ir.Value) -> float:
    """How many numbers a row has."""
    found = 1.0
    for axis in value.type.axes:
        found *= 1 if axis.label is REST else axis.size.value() or 0
    return found


BY_ROWS = '''def by_rows(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Without gradients x [..., t, d] goes through 512 tokens at a time (on a GPU 2,048): never the hidden values of a long sequence."""

    def in_parts(self: nn.Module, x: Tensor) -> Tensor:
        size = 2048 if x.is_cuda else 512
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.ndim < 2 or x.shape[-2] <= size:
            return forward(self, x)
        return torch.cat([forward(self, part) for part in x.split(size, -2)], -2)

    return in_parts'''
