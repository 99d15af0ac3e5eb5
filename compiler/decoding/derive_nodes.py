"""Operations of a body that is run on the tokens of one call: those that look across get what they look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from .. import ir
from ..dims import ZERO, Expr, sym
from ..ir import Axis, Label, Node, Region, Type, Value
from .choose_kept import choose_kept
from .common import Kind, Refused
from .find_whole_axes import across
from .module_values import ModuleValues
from .read_added_keys import moved_by_added_keys
from .read_window import read_window


class NodeDeriver(ModuleValues):
    def plain(self, node: Node, emit: Callable[[Node], None]) -> None:
        """A node that works token by token, or along whole axes; what goes on from the call before gets an entry."""
        self.check(node)
        self.check_entry(node)
        match node:
            case ir.Slice() if self.is_row(node.x, node.over) and self.is_short(node.out.type.axis(node.over)):
                self.uncut(node, emit)
            case ir.Pad() if self.is_row(node.x, node.over) and node.before != ZERO:
                self.shifted(node, emit)
            case ir.Concat() if self.is_row(node.out, node.over):
                self.prefixed(node, emit)
            case ir.LinearRecurrence() if self.is_row(node.out, node.over):
                emit(replace(self.copied(node), entry=self.entry(node.out.hint or "state")))  # type: ignore[arg-type]
            case ir.Along() if self.is_row(node.x, node.over):
                emit(replace(self.copied(node), entry=self.entry(node.out.hint or "total")))  # type: ignore[arg-type]
            case _:
                emit(self.copied(node))

    def check(self, node: Node) -> None:
        """Refuse what cannot be done a call at a time."""
        rows = self.length.rows
        numbers = [a for a in node.args if isinstance(a, Expr)] if isinstance(node, ir.Elementwise) else []
        numbers += [node.value] if isinstance(node, ir.Full | ir.Pad) else []
        numbers += [i for i in node.indices if isinstance(i, Expr)] if isinstance(node, ir.Take) else []
        if any(rows in n.symbols for n in numbers):
            raise Refused(f"the number of tokens, `{rows.name}`, in a formula", node.span)
        for value in node.outs:
            for axis in value.type.axes:
                if self.length.runs(axis) and not self.is_whole(axis) and rows in self.length.lead(axis.size).symbols:
                    raise Refused(f"an axis `{axis.label.name}` of {axis.size}, which depends on the number of tokens", node.span)
        if isinstance(node, ir.Unfold) and self.is_row(node.x, node.over) and self.is_short(node.out.type.axis(node.over)):
            raise Refused(f"windows along `{node.over.name}` without padding before it", node.span)
        fixed = isinstance(node, ir.Slice) and (rows in node.start.symbols or rows not in node.stop.symbols)
        if isinstance(node, ir.Slice) and fixed and self.is_row(node.x, node.over):
            raise Refused(f"the range {node.start} .. {node.stop} of `{node.over.name}`", node.span)
        summed = isinstance(node, ir.Reduce | ir.Einsum | ir.ScatterAdd | ir.Top | ir.Squeeze)
        looked = [a for v in ir.operands(node) for a in v.type.axes if self.is_whole(a)] if summed else []
        gone = [a for a in looked if not any(v.type.has(a.label) for v in node.outs)]
        if gone and not any(self.length.runs(a) and not self.is_whole(a) for v in node.outs for a in v.type.axes):
            own = next((f"{what} `{label.name}`" for label, what in across(node) if label is gone[0].label), self.whole[gone[0].label].what)
            raise Refused(own, node.span)

    def check_entry(self, node: Node) -> None:
        """Refuse what would go on, along the tokens, from an entry that is itself as long as all tokens so far, and grows."""
        match node:
            case ir.Along() | ir.Pad():
                value, what = node.x, f"`{node.function}`" if isinstance(node, ir.Along) else "`pad`"
            case ir.LinearRecurrence() | ir.Concat():
                value, what = node.out, "`concat`" if isinstance(node, ir.Concat) else "`linear_recurrence`"
            case _:
                return
        others = [a.label.name for a in value.type.axes if a.label is not node.over and self.length.runs(a)]
        if others and self.is_row(value, node.over) and not (isinstance(node, ir.Pad) and node.before == ZERO):
            along = f"{what} along the queries `{node.over.name}` of what has the keys `{others[0]}` too"
            raise Refused(f"{along}: a later call has more keys than what it would go on from", node.span)

    def uncut(self, node: ir.Slice, emit: Callable[[Node], None]) -> None:
        """Tokens cut off at the end stay, as far as they are of this call: what is made of them is cut off where it meets others."""
        if node.start != ZERO:
            raise Refused(f"`{node.over.name}` from {node.start} on, shorter than the tokens", node.span)
        x, size = self.read(node.x), sym(self.length.rows)
        if x.type.axis(node.over).size == size:
            self.new[node.out] = x
            return
        emit(ir.Slice(outs=(self.renew(node.out),), span=node.span, x=x, over=node.over, start=ZERO, stop=size))

    def shifted(self, node: ir.Pad, emit: Callable[[Node], None]) -> None:
        """Padding in front: in its place stand the tokens before."""
        if not self.is_short(node.x.type.axis(node.over)):
            emit(replace(self.copied(node), entry=self.entry(node.x.hint or "before")))  # type: ignore[arg-type]
            return
        x = self.read(node.x)
        long = self.longer(node.out, node.over, x.type.axis(node.over).size + node.before)
        emit(replace(node, outs=(long,), x=x, entry=self.entry(node.x.hint or x.hint or "before")))
        self.cut(node, long, node.over, emit)

    def cut(self, node: Node, long: Value, over: Label, emit: Callable[[Node], None]) -> None:
        """What a node gives, of what came out longer."""
        out = self.renew(node.outs[0])
        emit(ir.Slice(outs=(out,), span=node.span, x=long, over=over, start=ZERO, stop=out.type.axis(over).size))

    def longer(self, value: Value, label: Label, size: Expr) -> Value:
        axes = tuple(Axis(a.label, size) if a.label is label else a for a in value.type.axes)
        return Value(Type(axes, value.type.dtype), value.hint, value.span)

    def prefixed(self, node: ir.Concat, emit: Callable[[Node], None]) -> None:
        """Constants in front of the tokens: in later calls, the tokens before."""
        front = [a for a in node.args if not self.length.runs(a.type.axis(node.over))]
        if len(node.args) != 2 or front != [node.args[0]]:
            raise Refused(f"joining along `{node.over.name}`", node.span)
        x = node.args[1]
        if not self.is_short(x.type.axis(node.over)):
            emit(replace(self.copied(node), entry=self.entry(x.hint or "before")))  # type: ignore[arg-type]
            return
        args = (self.read(node.args[0]), self.read(x))
        long = self.longer(node.out, node.over, args[0].type.axis(node.over).size + args[1].type.axis(node.over).size)
        emit(replace(node, outs=(long,), args=args, entry=self.entry(x.hint or args[1].hint or "before")))
        self.cut(node, long, node.over, emit)

    def rename(self, node: ir.Rename) -> None:
        """Where a second axis of the tokens begins, all of them are kept."""
        x, old = node.x, list(node.old)
        made = next((n for n in self.steps if x in n.outs), None)
        if isinstance(made, ir.Index) and self.is_whole(node.out.type.axes[0]) and not self.is_whole(x.type.axes[0]):
            self.body.append(replace(made, outs=(self.renew(node.out),), span=node.span))
            return
        source = self.read(x)
        for k, (before, after) in enumerate(zip(node.old, node.new, strict=True)):
            axis = x.type.axis(before)
            if after in self.whole and self.length.runs(axis) and not self.is_whole(axis):
                if source is not self.new.get(x, x):
                    raise Refused(f"two names for `{before.name}` at once", node.span)
                source = self.kept(x, before, "", None)
                old[k] = self.key_label(before)
        self.body.append(replace(node, outs=tuple(map(self.renew, node.outs)), x=source, old=tuple(old)))

    def take(self, node: ir.Take, emit: Callable[[Node], None]) -> None:
        """Indexing along the tokens reads all so far."""
        self.check(node)
        over, source = list(node.over), self.read(node.x)
        for k, label in enumerate(node.over):
            axis = node.x.type.axis(label)
            if self.length.runs(axis) and self.kinds.get(node.x) is Kind.ROWS and not self.is_whole(axis):
                index = node.indices[k]
                if isinstance(index, Expr) and (index.value() is None or (index.value() or 0) < 0):
                    raise Refused(f"an entry of `{label.name}` counted from the end", node.span)
                if node.x not in self.kinds or source is not self.new.get(node.x, node.x):
                    raise Refused(f"indexing along `{label.name}`", node.span)
                source = self.kept(node.x, label, "", None)
                over[k] = self.key_label(label)
        changed = self.copied(node)
        emit(replace(changed, x=source, over=tuple(over)))  # type: ignore[arg-type]

    def attend(self, node: ir.Attend) -> None:
        self.check(node)
        k_axis = node.k_axis
        k, v = self.read(node.k, "k"), self.read(node.v, "v")
        axis = node.k.type.axis(k_axis)
        if self.length.runs(axis) and not self.is_whole(axis):
            if (moved := moved_by_added_keys(node, self.module.body)) is not None:
                raise Refused("weights that change with the number of keys", moved.span)
            k, v = self.keys_and_values(node)
            k_axis = self.key_label(node.k_axis)
        regions = {f.name: self.region(r) for f in fields(node) if isinstance(r := getattr(node, f.name), Region)}
        scale = self.read(node.scale) if isinstance(node.scale, Value) else node.scale
        made = replace(node, outs=tuple(map(self.renew, node.outs)), q=self.read(node.q), k=k, v=v, k_axis=k_axis, scale=scale, **regions)  # type: ignore[arg-type]
        self.body.append(made)

    def keys_and_values(self, node: ir.Attend) -> tuple[Value, Value]:
        """Keys and values of all tokens so far, made of what the cut keeps."""
        window = read_window(node)
        cut = choose_kept(node, self.module, self.kinds, self.length)
        there: dict[Value, Value] = {}
        for value in cut.values:
            hint = {node.k: "k", node.v: "v"}.get(value, "latent")
            there[value] = self.kept(value, node.k_axis, hint, window) if value.type.has(node.k_axis) else self.read(value)
        keys = Axis(self.key_label(node.k_axis), sym(self.length.length))
        for part in cut.path:
            for out in part.outs:
                axes = tuple(keys if a.label is node.k_axis else a for a in out.type.axes)
                there[out] = Value(Type(axes, out.type.dtype), out.hint, out.span)
            moved = ir.replace_values(part, {v: there[v] for v in ir.operands(part) if v in there})
            self.body.append(replace(moved, outs=tuple(there[v] for v in part.outs)))
            if isinstance(part, ir.Call) and isinstance(part.target, str):
                self.version(part.target, self.below(part.target), part)
        return there[node.k], there[node.v]

    def region(self, region: Region) -> Region:
        body: list[Node] = []
        params = tuple(map(self.renew, region.params))
        inside: set[Value] = set(region.params)
        for node in region.body:
            if isinstance(node, ir.Take) and node.x not in inside:
                self.take(node, body.append)
            else:
                self.plain(node, body.append)
            inside.update(node.outs)
        return Region(params=params, body=tuple(body), result=self.new.get(region.result, region.result))
