"""Cached decoding in generated PyTorch: a call at a time equals all at once, for every model whose causality is proved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from xfc.backends import interpreter
from xfc.backends.torch import emit
from xfc.backends.verify_decoding import calls_of
from xfc.backends.verify_inputs import Inputs, input_sets
from xfc.backends.verify_modules import TorchModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler import ir
from xfc.compiler.count_cache import count_cache
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.pipeline import run

from ..compiler.test_decoding import CARRIED, SHORT_AND_LONG
from ..decoding import DECODED, DECODED_OPEN, axis_of, chunks, derived, elaborated, written

Calls = list[dict[str, Tensor]]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Operations of a few numbers are not worth two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def shrunk(name: str) -> Shrunk:
    return shrink(elaborated(name))


@cache
def source(name: str) -> str:
    return emit(run(derived(shrunk(name).program)))


@contextmanager
def model_of(name: str, dtype: str) -> Iterator[tuple[torch.nn.Module, Shrunk, ModuleType]]:
    """The small model with weights of its own, in evaluation."""
    chosen = shrunk(name)
    program = chosen.program
    with loaded(source(name), f"decoded_{name}_{dtype}") as module, torch.no_grad():
        names = tuple(n or "output" for n in program.root.output_names)
        model = TorchModule.build(module, chosen.config(), dtype, names)
        under = {s: v for s, v in chosen.under.items() if s.value is not None}
        model.load(interpreter.initial_params(program, 0, dtype, under))
        yield model.model, chosen, module


def calls(program: ir.Program, inputs: Inputs, lengths: list[int]) -> Calls:
    """The inputs of calls of some lengths: what does not run along the tokens in the first only."""
    given = {i.name: inputs[i.name] for i in program.inputs if i.name in inputs and not i.training}
    return [{name: torch.as_tensor(array) for name, array in part.items()} for part in calls_of(program, given, lengths, repeats=False)]


def logits_of(result: object) -> Tensor:
    found = getattr(result, "logits", result if isinstance(result, Tensor) else None)
    return found if found is not None else result[0]  # type: ignore[index]


def decoded(model: torch.nn.Module, parts: Calls, axis: int, batch: int, length: int) -> Tensor:
    held = model.init_cache(batch, length)
    found = torch.cat([logits_of(model(**part, cache=held)) for part in parts], axis)
    assert int(held.position) == length
    return found


def compare(name: str, dtype: str, prompts: dict[str, list[tuple[int, int]]]) -> None:
    """For prompts of some lengths and chunks of some sizes after them, by kind of inputs."""
    with model_of(name, dtype) as (model, chosen, _):
        step = derived(shrunk(name).program)
        assert step.decoding is not None
        rows = step.decoding.rows
        total = int(chosen.under[rows])
        out = step.root.outputs[step.root.output_names.index("logits") if "logits" in step.root.output_names else 0]
        axis = axis_of(out, rows)
        assert axis is not None
        for case, inputs in input_sets(chosen.program, chosen.under, 0).items():
            inputs = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in inputs.items()}
            (whole,) = calls(step, inputs, [total])
            want = logits_of(model(**whole))
            for prompt, size in prompts.get(case, []):
                if prompt >= total:
                    continue
                parts = calls(step, inputs, chunks(total, prompt, size))
                got = decoded(model, parts, axis, next(iter(parts[0].values())).shape[0], total)
                worst = float((got - want).abs().max() / (1 + want.abs().max()))
                assert worst < (1e-10 if dtype == "float64" else 1e-5), f"{case}: a prompt of {prompt}, then {size} at a time: {worst}"


THOROUGH = ("gemma3_1b", "llama3_8b", "mistral_7b", "gated_linear", "t5_small", "token_shift")


@pytest.mark.parametrize("name", DECODED + DECODED_OPEN)
def test_step_equals_forward(name: str) -> None:
    """Prompts of one token, shorter and longer than a window; then one, three, five or seven at a time."""
    first = 4 if name == "top_k_attention" else 1  # it looks for the four largest of at least four
    more = [(first, 7), (first, 5), (8, 1)] if name in THOROUGH else []
    compare(name, "float64", {"required inputs": [(first, 1), *more], "all inputs": [(4, 3)]})


@pytest.mark.parametrize("name", ["mamba2_130m", "llama3_8b", "gemma3_1b", "deepseek_v3", "t5_small"])
def test_step_equals_forward_in_float32(name: str) -> None:
    compare(name, "float32", {"required inputs": [(1, 1), (4, 3)]})


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODED + DECODED_OPEN)
def test_step_equals_forward_in_all_chunks(name: str) -> None:
    first = 4 if name == "top_k_attention" else 1
    pairs = [(prompt, size) for size in (1, 3, 7) for prompt in (first, 5, 8)]
    compare(name, "float64", {"required inputs": pairs, "all inputs": pairs})


# ---------------------------------------------------------------- batches of unequal prompts


@pytest.mark.parametrize("name", ["llama3_8b", "gemma3_1b", "gpt2", "bloom_560m", "mistral_7b"])
def test_left_padding_is_no_padding(name: str) -> None:
    with model_of(name, "float64") as (model, _, _):
        ids = torch.randint(0, 7, (1, 13))
        padded = torch.cat((torch.zeros(1, 3, dtype=torch.long), ids[:, :10]), 1)
        rows = torch.cat((padded, ids), 0)
        mask = torch.ones_like(rows)
        mask[0, :3] = 0
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        held = model.init_cache(2, 13)
        got = [model(rows[:, :6], attention_mask=mask[:, :6], position_ids=positions[:, :6], cache=held)]
        for k in range(6, 13):  # a mask may be left out, or be of all tokens so far
            seen = mask[:, : k + 1] if k % 2 else None
            got.append(model(rows[:, k : k + 1], attention_mask=seen, position_ids=positions[:, k : k + 1], cache=held))
        found = torch.cat(got, 1)
        torch.testing.assert_close(found[1:], model(ids), atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(found[:1, 3:], model(ids[:, :10]), atol=1e-10, rtol=1e-10)


PADDED = """
component kept_step(h: [b, c], x: [b, c], kept: [b]) -> (h: [b, c], y: [b, c]):
    a = param([c], init = 0.5)
    h = where(kept == 1, a * h + (1 - a) * x, h)
    return h, h

component kept_average(x: [b, t, d]) -> [b, t, d]:
    given attention_mask: [b, t]
    step = kept_step()
    h, y = scan(step, zeros([b, d]), x, attention_mask, over = t)
    return y

model padded_lm = causal_lm:
    vocab = 19
    d_model = 12
    positions = slots
    decoder:
        layers = 2
        attention = kept_average
        ffn = gated(hidden = 17)
"""


def test_what_is_padded_does_not_move_what_is_carried(tmp_path: Path) -> None:
    step = derived(written(tmp_path, PADDED))
    with loaded(emit(run(step)), "decoded_padded") as module, torch.no_grad():
        model = module.Model().eval().double()
        ids, mask = torch.randint(0, 19, (2, 9)), torch.ones(2, 9, dtype=torch.long)
        mask[0, :3] = 0
        held = model.init_cache(2, 9)
        parts = [model(ids[:, :2], mask[:, :2], cache=held), model(ids[:, 2:5], mask[:, 2:5], cache=held)]
        found = torch.cat([*parts, *(model(ids[:, k : k + 1], cache=held) for k in range(5, 9))], 1)
        torch.testing.assert_close(found[1:], model(ids[1:]), atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(found[:1, 3:], model(ids[:1, 3:]), atol=1e-10, rtol=1e-10)
        alone = model.generate(ids[:1, 3:], max_new_tokens=4)
        assert model.generate(ids, mask, max_new_tokens=4)[0, 3:].tolist() == alone[0].tolist()


@pytest.mark.parametrize("text", [CARRIED, SHORT_AND_LONG], ids=["carried", "short and long"])
def test_what_goes_on_from_token_to_token(text: str, tmp_path: Path) -> None:
    """Also where a scan hands on, or changes the places of, what it began with; also axes longer or shorter than the tokens."""
    step = derived(written(tmp_path, text))
    with loaded(emit(run(step)), "decoded_carried") as module, torch.no_grad():
        model = module.Model().eval().double()
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        ids = torch.randint(0, 19, (2, 11))
        want = logits_of(model(ids))
        for lengths in (chunks(11, 1, 1), chunks(11, 4, 3), chunks(11, 2, 7)):
            held = model.init_cache(2, 11)
            parts = [logits_of(model(part, cache=held)) for part in ids.split(lengths, 1)]
            torch.testing.assert_close(torch.cat(parts, 1), want, atol=1e-10, rtol=1e-10)


LOOKING_AGAIN = """
component look_step(w: [b, s], x: [b, c], keys: [b, s, c]) -> (w: [b, s], y: [b, c]):
    w = softmax(einsum(x, keys, over = c) + w, s)
    return w, einsum(w, keys, over = s)

model looking_lm(vocab = 19, d_model = 12)(
        input_ids: [b, s] int in vocab, decoder_input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    step = look_step()
    head = linear(vocab)
    w, y = scan(step, zeros([b, s]), embed(decoder_input_ids), embed(input_ids), over = t)
    logits = head(y)
    loss lm = cross_entropy(logits, labels, over = vocab)
    return logits
"""


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    """A state as long as another input has no room in a cache that is made before that input is there."""
    code, decodes = emit_with_cache(written(tmp_path, LOOKING_AGAIN), emit, diagnostics=(found := Diagnostics()))
    assert not decodes and "Cache" not in code
    (warning,) = found.found
    assert (warning.code, warning.severity) == ("E601", "warning")
    assert warning.message.startswith("written without a cache: ")
    assert warning.span is not None and warning.span.source.text[warning.span.start : warning.span.end] == "zeros([b, s])"


# ---------------------------------------------------------------- the cache itself


def element_count(part: object) -> int:
    if isinstance(part, Tensor):
        return part.numel() if part.is_floating_point() else 0
    if isinstance(part, list):
        return sum(map(element_count, part))
    return sum(element_count(getattr(part, f.name)) for f in fields(part)) if is_dataclass(part) else 0


COUNTED = ("llama3_8b", "gemma3_1b", "deepseek_v3", "mamba2_130m", "bamba_9b", "gpt2", "mistral_7b", "gated_linear")


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_kept_is_what_is_counted(name: str) -> None:
    """At full size, on no device."""
    step = derived(elaborated(name))
    counts = count_cache(step)
    with loaded(emit(run(step)), f"counted_{name}") as module, torch.device("meta"):
        model = module.Model()
        for length in (3, 7000):
            assert element_count(model.init_cache(2, length)) == 2 * sum(e.total(length) for e in counts.entries)


def test_a_ring_is_as_long_as_its_window() -> None:
    with model_of("gemma3_1b", "float64") as (model, _, _):
        held = model.init_cache(2, 50)
        lengths = [layer.k.tensor.shape[layer.k.dim] for layer in held.decoder.layers]
        assert set(lengths) == {model.config.window, 50}
        short = model.init_cache(2, 2)
        assert {layer.k.tensor.shape[layer.k.dim] for layer in short.decoder.layers} == {2}


def test_past_the_end() -> None:
    with model_of("llama3_8b", "float64") as (model, _, _):
        ids = torch.randint(0, 7, (1, 9))
        with pytest.raises(ValueError, match="a cache for 8 has no room for 9 more"):
            model(ids, cache=model.init_cache(1, 8))
        held = model.init_cache(1, 8)
        model(ids[:, :8], cache=held)
        with pytest.raises(ValueError, match="after 8 tokens, a cache for 8 has no room for 1 more"):
            model(ids[:, 8:], cache=held)


def test_rewinding() -> None:
    with model_of("llama3_8b", "float64") as (model, _, _):
        ids, other = torch.randint(0, 7, (2, 9)), torch.randint(0, 7, (2, 6))
        held = model.init_cache(2, 9)
        model(ids, cache=held)
        held.position.fill_(3)
        torch.testing.assert_close(model(other, cache=held), model(torch.cat((ids[:, :3], other), 1))[:, 3:])
        held.position.fill_(0)
        torch.testing.assert_close(model(other, cache=held), model(other))


@pytest.mark.parametrize("name", ["gemma3_1b", "mamba2_130m", "t5_small"])
def test_beams(name: str) -> None:
    """A cache whose sequences change places goes on as if they had always stood there."""
    with model_of(name, "float64") as (model, _, _):
        index = torch.tensor([2, 0, 0])
        ids = torch.randint(0, 7, (3, 9))
        if name == "t5_small":
            source = torch.randint(0, 7, (3, 5))
            first, moved = {"input_ids": source, "decoder_input_ids": ids}, {"input_ids": source[index]}
        else:
            first, moved = {"input_ids": ids}, {}
        key = "decoder_input_ids" if name == "t5_small" else "input_ids"
        held = model.init_cache(3, 12)
        model(**first, cache=held)
        held.reorder(index)
        more = torch.randint(0, 7, (3, 3))
        want = logits_of(model(**moved, **{key: torch.cat((ids[index], more), 1)}))[:, 9:]
        torch.testing.assert_close(logits_of(model(**{key: more}, cache=held)), want, atol=1e-10, rtol=1e-10)


def test_inputs_of_a_first_call() -> None:
    with model_of("t5_small", "float64") as (model, _, _):
        ids = torch.randint(0, 7, (1, 4))
        with pytest.raises(ValueError, match="a first call needs input_ids"):
            model(decoder_input_ids=ids, cache=model.init_cache(1, 8))
        with pytest.raises(ValueError, match="decoder_input_ids is needed"):
            model(input_ids=ids)


NAMES = """
component rows(heads, head_dim)(slots: [b, t, d], cache: [b, t, d]) -> [b, t, d]:
    query = linear([heads, head_dim])
    key = linear([heads, head_dim])
    value = linear([heads, head_dim])
    out = linear(d, over = [heads, head_dim])
    class = key(slots + cache)
    v' = value(cache)
    return slots + out(attend(query(slots), class, v', causal, scale = head_dim ^ -0.5, over = t))

component rows_cache(heads, head_dim)(x: [b, t, d]) -> [b, t, d]:
    ring = rows(heads, head_dim)
    return ring(x, x)

component latest()(x: [b, t, d]) -> [b, t, d]:
    empty = pad(x[t = .. -1], t = [1, 0])
    return x + empty

component counted(h: [b, c], g: [b, c], x: [b, c]) -> (h: [b, c], g: [b, c], y: [b, c]):
    return g, x, h + 0.5 * x

component behind()(x: [b, t, d]) -> [b, t, d]:
    step = counted()
    h, g, y = scan(step, zeros([b, d]), zeros([b, d]), x, over = t)
    return y

model names_lm(vocab = 19, d_model = 12)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    position = rows_cache(heads = 3, head_dim = 5)
    max_length = latest()
    empty = rows_cache(heads = 3, head_dim = 5)
    slots = 2 of rows_cache(heads = 3, head_dim = 5)
    state_1 = 2 of rows_cache(heads = 3, head_dim = 5)
    advance = rows_cache(heads = 3, head_dim = 5)
    tensors = rows_cache(heads = 3, head_dim = 5)
    reorder = behind()
    head = linear(vocab)
    x = slots(empty(max_length(position(embed(input_ids)))))
    logits = head(reorder(tensors(advance(state_1(x)))))
    loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)
    return logits
"""


def test_names_of_a_spec_are_its_own(tmp_path: Path) -> None:
    """Also those that the cache's classes and arguments have; without a mask, later calls make one."""
    step = derived(written(tmp_path, NAMES))
    with loaded(emit(run(step)), "decoded_names") as module, torch.no_grad():
        model = module.Model().eval()
        ids = torch.randint(0, 19, (2, 9))
        held = model.init_cache(2, 9)
        parts = [model(ids[:, :3], cache=held), model(ids[:, 3:5], cache=held)]
        parts += [model(ids[:, k : k + 1], cache=held) for k in range(5, 9)]
        torch.testing.assert_close(torch.cat(parts, 1), model(ids), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- compiled


@pytest.mark.parametrize("name", ["llama3_8b", "gemma3_1b", "mamba2_130m", "mixtral_8x7b", "t5_small"])
def test_a_step_is_compiled_once(name: str) -> None:
    """In one graph, for all positions, to what it is uncompiled."""
    with model_of(name, "float32") as (model, _, _):
        count = 0

        def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
            nonlocal count
            count += 1
            return graph.forward

        def step(ids: Tensor, held: object) -> Tensor:
            key = "decoder_input_ids" if name == "t5_small" else "input_ids"
            return logits_of(model(**{key: ids}, cache=held, logits_to_keep=1))

        torch._dynamo.reset()
        compiled = torch.compile(step, fullgraph=True, backend=backend)
        ids = torch.randint(0, 7, (2, 17))
        first = {"input_ids": ids, "decoder_input_ids": ids[:, :5]} if name == "t5_small" else {"input_ids": ids[:, :5]}
        ones, others = model.init_cache(2, 20), model.init_cache(2, 20)
        model(**first, cache=ones)
        model(**first, cache=others)
        for k in range(5, 17):
            torch.testing.assert_close(compiled(ids[:, k : k + 1], ones), step(ids[:, k : k + 1], others), atol=1e-5, rtol=1e-5)
        assert count == 1
