"""Convolutions: windows along one axis, contracted with a weight."""

from __future__ import annotations

from functools import lru_cache

from ...compiler import ir
from ...compiler.dims import ONE, ZERO
from ...compiler.ir import REST, Label, Value
from ..python.bind_calls import apart_from
from ..python.code import Attribute, Call, Code, Items, Subscript, Text, call, number
from ..python.layouts import Dim, Layout, Tensor, flat
from ..python.write_body import BodyWriter
from .pointwise import to_dtype


def lower_convolution(w: BodyWriter, node: ir.Einsum) -> bool:
    """`F.conv1d` for windows that nothing else reads; false, and nothing written, where the axes are not those of a convolution.

    The weight has the window and, for a full convolution, what is contracted besides and what the input lacks; for one that treats channels
    apart (`groups`), the one other axis of the windows but batch and place."""
    made = _makers(w.module)
    for windows, weight in (node.args, node.args[::-1]) if len(node.args) == 2 else ():
        unfold = made.get(windows)
        if isinstance(unfold, ir.Unfold) and unfold.window.label in node.over and not w.is_read_often(windows):
            return _Convolution(w, node, unfold, weight, made).write()
    return False


@lru_cache(maxsize=4)
def _makers(module: ir.Module) -> dict[Value, ir.Node]:
    return {out: n for n in module.body for out in n.outs}


class _Convolution:
    def __init__(self, w: BodyWriter, node: ir.Einsum, unfold: ir.Unfold, weight: Value, made: dict[Value, ir.Node]) -> None:
        self.w, self.node, self.unfold, self.weight = w, node, unfold, weight
        self.source = unfold.x
        pad = made.get(unfold.x)
        self.pad = pad if isinstance(pad, ir.Pad) and self.is_zero_pad(pad) and not w.is_read_often(pad.out) else None
        if self.pad is not None:
            self.source = self.pad.x

    def is_zero_pad(self, pad: ir.Pad) -> bool:
        return pad.over is self.unfold.over and pad.value.constant == 0 and not pad.entry

    def write(self) -> bool:
        w, place, window = self.w, self.unfold.over, self.unfold.window.label
        t, kernel = w.read(self.source), w.read(self.weight)
        inside = tuple(label for label in self.node.over if label is not window)
        outside = tuple(label for label in kernel.labels if label is not window and label not in inside)
        apart = not inside and len(outside) == 1 and outside[0] in t.labels
        channels = outside if apart else inside
        if not channels or place in kernel.labels or window not in kernel.labels or any(label not in t.labels for label in channels):
            return False
        if not apart and (
            not outside or any(label in t.labels for label in outside) or any(label not in kernel.labels for label in inside)
        ):
            return False
        rest = tuple(d for d in apart_from(t.layout, {place, *channels}) if not set(d) & {place, *channels})
        if len(rest) > 1 or REST in flat(rest):
            return False
        self.define(t, kernel, rest, channels, (*outside, *(() if apart else inside), window), apart)
        return True

    def define(self, t: Tensor, kernel: Tensor, rest: Layout, channels: Dim, order: tuple[Label, ...], apart: bool) -> None:
        w, place, unfold = self.w, self.unfold.over, self.unfold
        dtype = self.node.out.type.dtype
        outside = order[: len(order) - 1 - (0 if apart else len(channels))]
        shape: Layout = (outside, (order[-1],)) if apart else (outside, channels, (order[-1],))
        weight = w.arranged(kernel, shape)
        if apart:
            weight = Subscript(weight, (Text(":"), Text("None")))
        x = w.arranged(t, (*rest, channels, (place,)))
        named: dict[str, Code] = {}
        if self.pad is not None and self.pad.before == self.pad.after and self.pad.before != ZERO:
            named["padding"] = w.number(self.pad.before)
        elif self.pad is not None:
            x = call("F.pad", x, Items((w.number(self.pad.before), w.number(self.pad.after))))
        if unfold.stride != ONE:
            named["stride"] = w.number(unfold.stride)
        if unfold.dilation != ONE:
            named["dilation"] = w.number(unfold.dilation)
        if apart:
            count = t.sizes[outside[0]] if outside[0] in t.sizes else w.axis_sizes[outside[0]]
            at = next(k for k, dim in enumerate(kernel.layout) if outside[0] in dim)
            named["groups"] = w.number(count) if w.numbers.has_name(count) else Subscript(Attribute(kernel.code, "shape"), (number(at),))
        x = to_dtype(w, x, self.source.type.dtype, dtype)
        code: Code = Call(Text("F.conv1d"), (x, to_dtype(w, weight, self.weight.type.dtype, dtype)), tuple(named.items()))
        layout: Layout = (*rest, outside, (place,))
        wanted = next((v.type.labels for v in w.module.outputs if {place, outside[0]} <= set(v.type.labels)), self.node.out.type.labels)
        if wanted.index(place) < wanted.index(outside[0]):
            swapped = [*range(len(rest)), len(rest) + 1, len(rest)]
            code, layout = w.moves.permute(code, swapped, rest=None), (*rest, (place,), outside)
        w.define(self.node.out, code, layout)
