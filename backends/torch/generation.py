"""`generate` and `stream`: for models whose decoded output scores the tokens that they read."""

from __future__ import annotations

import textwrap

from ...compiler import ir
from ...compiler.decoding.find_running_values import find_running_values
from ...compiler.ir import Decoding, ModelInput, Program, Value
from ...grammar.frozen import frozen
from ..python.code import WIDTH, Text, call, wrap
from ..python.write_body import Numbers
from .cache.limits import prompt_limit
from .write_class import signature_lines

OPTIONS = {
    "max_new_tokens": "int",
    "temperature": "float = 0.0",
    "top_k": "int | None = None",
    "top_p": "float | None = None",
    "eos_token_id": "int | Sequence[int] | None = None",
    "generator": "torch.Generator | None = None",
}
_INDICES = (ir.Index, ir.Rename, ir.Expand, ir.Transpose, ir.Cast)


@frozen
class Generation:
    """What the template asks for. `ids`: the input that grows. `mask`: the one that says which tokens of a prompt count; `positions`: the one
    that counts them. `later`: inputs of a prompt that are left out with its next tokens. `step` is the call of the model, `passed` that of
    `stream`, over several lines if need be; `output` is the name among several outputs."""

    ids: str
    mask: str
    positions: str
    later: str
    step: list[str]
    passed: list[str]
    output: str
    generate: list[str]
    stream: list[str]
    doc: list[str]
    limit: list[str]


def find_generation(program: Program, numbers: Numbers, keeps_logits: bool) -> Generation | None:
    """How a derived program generates tokens; none if its first decoded output is no score of each token of an input, or if later tokens
    would need an input that the tokens do not give."""
    decoding = program.decoding
    if decoding is None:
        return None
    found = _tokens(program, decoding)
    if found is None:
        return None
    ids, number = found
    running = find_running_values(program)
    given = [i for i in program.inputs if i.value in running and i is not ids]
    along = [i for i in given if _runs(i.value, decoding)]
    if any(i.required for i in along):
        return None
    counted = next((i for i in along if _counts(i)), None)
    same = [i for i in along if i.value.type.dtype == "int" and i.value.type.labels == ids.value.type.labels]
    mask = next((i for i in same if _constant(i) == 1), None)
    positions = next((i for i in same if _counts(i)), None) if mask is not None else None
    beside = [i for i in along if i is not mask and i.default is not None and _constant(i) is not None]
    once = [i for i in given if i not in along]
    inputs = [ids, *once, *([mask] if mask is not None else []), *beside]
    inputs.sort(key=lambda i: (not i.required, program.inputs.index(i)))
    arguments = [f"{i.name}: Tensor" if i.required else f"{i.name}: Tensor | None = None" for i in inputs]
    called = [i.name for i in (*inputs, *([positions] if positions is not None else []))]
    step = {name: Text("ids" if name == ids.name else name) for name in called} | {"cache": Text("cache")}
    if keeps_logits:
        step["logits_to_keep"] = Text("1")
    passed = {name: Text(name) for name in (*(i.name for i in inputs), *OPTIONS)}
    options = ["*", *(f"{name}: {kind}" for name, kind in OPTIONS.items())]
    several = len(program.root.outputs) > 1
    return Generation(
        ids=ids.name,
        mask=mask.name if mask is not None else "",
        positions=positions.name if positions is not None else "",
        later=" = ".join([*(i.name for i in (mask, *beside) if i is not None), "None"]) if mask is not None or beside else "",
        step=wrap("found = " if several else "logits = ", call("self", **step), lambda v: v.hint, 12),
        passed=wrap("steps = ", call("self.stream", **passed), lambda v: v.hint, 8),
        output=program.root.output_names[number] if several else "",
        generate=signature_lines("def generate", ["self", *arguments, *options], "Tensor", 4),
        stream=signature_lines("def stream", ["self", *arguments, *options], "Iterator[Tensor]", 4),
        limit=prompt_limit(program, numbers, counted, ids.name, mask.name if mask is not None and positions is not None else ""),
        doc=textwrap.wrap(_doc(ids, mask), WIDTH - 11, initial_indent=" " * 8, subsequent_indent=" " * 8),
    )


def _doc(ids: ModelInput, mask: ModelInput | None) -> str:
    text = (
        f'"""`{ids.name}` and the tokens that come next: the likeliest at temperature 0, else drawn, from the `top_k` likeliest or from those '
        "that together have the probability `top_p`. A row that has ended goes on with the (first) `eos_token_id`."
    )
    return text if mask is None else f"{text} Prompts of several lengths are padded on the left, where `{mask.name}` is 0."


def _tokens(program: Program, decoding: Decoding) -> tuple[ModelInput, int] | None:
    """The input of tokens, and the number of the output that has a score for each value of the next one."""
    for item in program.inputs:
        if item.required and item.bound is not None and len(item.value.type.axes) == 2 and _runs(item.value, decoding):
            for number in decoding.outputs:
                kind = program.root.outputs[number].type
                sizes = [a.size for a in kind.axes]
                if kind.dtype.startswith("float") and sizes == [*(a.size for a in item.value.type.axes), item.bound]:
                    return item, number
    return None


def _runs(value: Value, decoding: Decoding) -> bool:
    return any(decoding.rows in a.size.symbols or decoding.length in a.size.symbols for a in value.type.axes)


def _constant(item: ModelInput) -> int | None:
    """The number that an input is full of where it is left out."""
    last = item.default.body[-1] if item.default is not None and item.default.body else None
    value = last.value.value() if isinstance(last, ir.Full) else None
    return None if value is None else int(value)


def _counts(item: ModelInput) -> bool:
    """Whether an input that is left out is 0, 1, ... along the tokens, whatever else is given."""
    body = item.default.body if item.default is not None else ()
    return any(isinstance(n, ir.Index) for n in body) and all(isinstance(n, _INDICES) for n in body)
