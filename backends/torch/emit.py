"""`emit`: a program as one standalone PyTorch file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ...compiler import ir
from ...compiler.dims import Expr
from ...compiler.passes.remove_dead_nodes import remove_dead_nodes
from ..python.block_biases import block_biases
from ..python.checkpoint_table import checkpoint_view, write_checkpoint
from ..python.code import Code, Text, number, render
from ..python.count_parameters import count_layers, count_parameters, readable_count, widths
from ..python.docstring import docstring
from ..python.find_classes import bank_axes
from ..python.inline_functions import inline_functions
from ..python.join_addends import join_addends
from ..python.keep_whole_axes import keep_whole_axes, keep_whole_scores
from ..python.merge_heads import merge_heads
from ..python.name_parameters import name_parameters, native_of
from ..python.natives import Fused, Linear
from ..python.numbers import expression
from ..python.order_biases import order_biases
from ..python.plan_classes import plan_classes
from ..python.prepare_masks import prepare_masks
from ..python.sinks import read_sinks
from ..python.templates import template
from ..python.write_body import Numbers
from .cache.helpers import cache_helpers
from .cache.prepare import prepare_cache
from .cache.slot_tables import functions_of_positions, keep_of_slots, left_out, reads_slots
from .cache.thread_slots import thread_slots
from .chunk_losses import chunk_losses
from .file_names import FILE_NAMES, RESERVED
from .flex import find_by_index
from .fuse_linear_maps import fuse_linear_maps
from .generation import find_generation
from .helpers import FUSED_CLASSES, chosen_helpers
from .initial_weights import init_rules
from .join_biases import join_biases
from .loss_statistics import read_statistics
from .state_space import read_states_by_chunks
from .states_by_parts import read_states_by_parts
from .write_class import ClassView, write_class
from .write_model import write_model


def emit(program: ir.Program, *, flex: bool = False, fuse: bool = False) -> str:
    """Requires: a verified program, after the passes. Ensures: a file that needs torch alone, formatted, the same bytes for the same program.

    `flex`: on CUDA, masks and scores that are functions of indices go to FlexAttention, with all tokens so far at hand.
    `fuse`: linear maps of one value are one map; a checkpoint's tensors are put together when they are loaded.

    Raises SpecError (E601) where this backend cannot write an operation."""
    given = program
    program = order_biases(join_addends(keep_whole_axes(inline_functions(program))))
    program, kept = prepare_cache(read_sinks(program), by_blocks=not flex)
    program, windows = (program, ()) if flex else block_biases(program)
    program = program if flex else keep_whole_scores(program)
    program, masks = prepare_masks(program, for_kernels=True, by_index=find_by_index(program) if flex else None, windows=windows)
    program = thread_slots(join_biases(program, masks))
    program = read_states_by_chunks(chunk_losses(read_statistics(name_parameters(keep_of_slots(remove_dead_nodes(program))))))
    program = read_states_by_parts(program)
    program, fused = fuse_linear_maps(program) if fuse else (program, {})
    program, merged = merge_heads(program)
    masks.maybe_none |= left_out(program)
    plans = plan_classes(program, _is_native(program, fused), FILE_NAMES, merged, masks.inputs, fused=fused)
    functions = {p.name for p in plans.plans if p.is_function}
    reserved = RESERVED | functions
    helpers: set[str] = set()
    views = [write_class(p, plans, masks, reserved, helpers) for p in plans.plans if not p.is_native and program.root not in p.of.uses]
    outputs = "Output" if len(program.root.outputs) > 1 else ""
    model = write_model(program, plans.of(program.root), plans, masks, kept, reserved, helpers, outputs)
    root = Numbers(plans, plans.of(program.root), is_root=True)
    generation = find_generation(given, root, any("logits_to_keep" in line for line in model.signature))
    rules = init_rules(plans)
    checkpoint = checkpoint_view(program, model.name, fused=" | ".join(name for helper, name in FUSED_CLASSES if helper in helpers))
    text = template("torch", "module.py.j2").render(
        generation=generation, config=_config(program), asserts=_asserts(program), helpers=chosen_helpers(helpers),
        classes=views, model=model, init_rules=rules, recomputes=recomputes_layers(program),
        reversible=[v.name for v in views if v.goes_back],
        outputs={"name": outputs, "fields": _output_fields(program)} if outputs else None,
        caches=[v.cache for v in (*views, model) if v.cache is not None], cache_helpers=cache_helpers(program, helpers), reads_slots=reads_slots(program),
        loss_helpers=chosen_helpers(helpers, apart=True), checkpoint=write_checkpoint(checkpoint, "torch"), builds_on_meta=not checkpoint.has_tables,
    )  # fmt: skip
    return _assemble(_header(program), text)


def recomputes_layers(program: ir.Program) -> bool:
    """Whether there are layers that can be computed a second time: none changes a state or a buffer."""
    layers = [m for owner in ir.walk(program.root) for c in owner.children if isinstance(c, ir.Stack) for m, _ in c.slots]
    return bool(layers) and not any(map(ir.has_effects, layers))


def _output_fields(program: ir.Program) -> list[str]:
    """Those of a whole sequence are none where there is a cache."""
    decoded = range(len(program.root.outputs)) if program.decoding is None else program.decoding.outputs
    return [f"{name}: Tensor{'' if k in decoded else ' | None'}" for k, name in enumerate(program.root.output_names)]


def _is_native(program: ir.Program, fused: Mapping[ir.Value, Fused]) -> Callable[[ir.Module], bool]:
    """What torch has; of what stands in a bank, linear maps; what stands for several linear maps."""
    banks = bank_axes(program.root)
    methods = functions_of_positions(program)

    def test(module: ir.Module) -> bool:
        if id(module) in methods or (module.params and module.params[0].value in fused):
            return True
        native = native_of(module)
        return isinstance(native, Linear) or (native is not None and id(module) not in banks)

    return test


def _header(program: ir.Program) -> str:
    """What the model is, and what generated it from what."""
    layers = " + ".join(map(str, count_layers(program.root)))
    facts = [f"{readable_count(count_parameters(program.root))} parameters", *([f"{layers} layers"] if layers else []), *widths(program)]
    return f"{program.name}: {', '.join(facts)}.\n\nGenerated by xfc from {docstring(program.source)}.\n"


def _config(program: ir.Program) -> list[str]:
    return [
        f"{n}: {'float' if s.is_real else 'int'} = {render(number(s.value), lambda v: v.hint)}"
        for n, s in program.config
        if s.value is not None
    ]


def _asserts(program: ir.Program) -> list[str]:
    names = {s: n for n, s in program.config}

    def text(e: Expr, own: bool) -> str:
        def look(s):  # type: ignore[no-untyped-def]
            return Text(f"self.{names[s]}" if own else names[s])

        return render(expression(e, look), lambda v: v.hint)

    found: list[str] = []
    for fact in program.facts:
        known = fact.a.symbols | fact.b.symbols
        if any(s not in names for s in known) or not known:
            continue
        turned = fact.kind == "equal" and fact.a.constant is not None  # what is compared stands on the left
        one, two = (fact.b, fact.a) if turned else (fact.a, fact.b)
        a, b = _bracket(text(one, True)), _bracket(text(two, True))
        say_a, say_b = text(one, False), text(two, False)
        match fact.kind:
            case "divides":
                found += _assert(f"{b} % {a} == 0", f"{say_a} must divide {say_b}")
            case "equal":
                found += _assert(f"{text(one, True)} == {text(two, True)}", f"{say_a} must equal {say_b}")
            case "at_least":
                found += _assert(f"{text(one, True)} >= {text(two, True)}", f"{say_a} must be at least {say_b}")
    return found


def _assert(condition: str, message: str) -> list[str]:
    flat = f'assert {condition}, "{message}"'
    return [flat] if len(flat) <= 112 else [f"assert {condition}, (", f'    "{message}"', ")"]


def _bracket(text: str) -> str:
    return f"({text})" if " " in text and not re.fullmatch(r"\w+\([^()]*\)", text) else text


IMPORTS = (
    ("json", "", "json."),
    ("math", "", "math."),
    ("operator", "", "operator."),
    ("re", "", "re."),
    ("collections.abc", "Callable", "Callable["),
    ("collections.abc", "Collection", "Collection["),
    ("collections.abc", "Iterator", "Iterator["),
    ("collections.abc", "Sequence", "Sequence["),
    ("contextlib", "AbstractContextManager", "AbstractContextManager["),
    ("contextlib", "nullcontext", "nullcontext("),
    ("dataclasses", "dataclass", "@dataclass"),
    ("dataclasses", "field", "field(init="),
    ("dataclasses", "fields", "fields(part)"),
    ("dataclasses", "is_dataclass", "is_dataclass("),
    ("fnmatch", "fnmatch", "fnmatch("),
    ("functools", "partial", "partial("),
    ("itertools", "accumulate", "accumulate("),
    ("pathlib", "Path", "Path"),
    ("typing", "NamedTuple", "NamedTuple"),
)
"""Modules, names of theirs (none: the module itself), and what uses them, in the formatter's order."""
THIRD = (
    ("torch", "", "torch."),
    ("torch.nn.functional as F", "", "F."),
    ("torch", "Tensor", "Tensor"),
    ("torch", "nn", "nn."),
    ("torch.nn.attention.flex_attention", "BlockMask", "BlockMask"),
    ("torch.nn.attention.flex_attention", "create_block_mask", "create_block_mask("),
    ("torch.nn.attention.flex_attention", "flex_attention", "flex_attention("),
    ("torch.utils.checkpoint", "checkpoint", "partial(checkpoint,"),
    ("torch.utils.checkpoint", "create_selective_checkpoint_contexts", "create_selective_checkpoint_contexts"),
)


def _used(group: tuple[tuple[str, str, str], ...], body: str) -> list[str]:
    """The import lines that the body needs."""
    found: dict[str, list[str]] = {}
    for module, name, use in group:
        if _stands_in(use, body):
            found.setdefault(f"from {module} import " if name else f"import {module}", []).append(name)
    return [line + ", ".join(names) for line, names in found.items()]


def _stands_in(use: str, body: str) -> bool:
    """Whether the text stands there, and not as a part of a longer word."""
    at = body.find(use)
    while at >= 0:
        around = (body[at - 1 : at] + use[0], use[-1] + body[at + len(use) : at + len(use) + 1])
        if not any(len(two) == 2 and two.replace("_", "a").isalnum() for two in around):
            return True
        at = body.find(use, at + 1)
    return False


def _assemble(header: str, body: str) -> str:
    """The header, the imports that the body uses in the formatter's order, and the body with two empty lines between its parts."""
    lines = ["from __future__ import annotations", ""]  # annotations name classes that stand further down
    for group in (IMPORTS, THIRD):
        lines += [*_used(group, body), ""]
    body = re.sub(r"\n{4,}", "\n\n\n", body.strip("\n"))
    return f'"""{header}"""\n\n' + "\n".join(lines) + "\n\n" + body + "\n"


__all__ = ["ClassView", "Code", "emit"]
