"""A fault put into a lowering is named: the operation, its line in the spec, its place, and by how much it is off."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.numpy import pointwise as numpy_pointwise
from xfc.backends.torch import pointwise as torch_pointwise
from xfc.backends.verify import verify
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.ir import Program

SPEC = """
component block(gain)(x: [..., d]) -> [..., d]:
    inner = linear(d)
    y = sigmoid(inner(x)) * gain
    return x + cos(y)

model small(width = 6)(x: [b, t, width]) -> (out: [b, t, width]):
    first = linear(width)
    layers = 3 of block(gain = 0.5)
    return layers(tanh(first(x))) * 2
"""


def report(tmp_path: Path):  # type: ignore[no-untyped-def]
    path = tmp_path / "small.xf"
    path.write_text(SPEC)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    return verify(program, dtype="float64")


def test_what_agrees_parts_nowhere(tmp_path: Path) -> None:
    assert report(tmp_path).ok and not report(tmp_path).parted


def test_a_fault_in_a_layer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch_pointwise.apply_function
    monkeypatch.setattr(torch_pointwise, "apply_function", lambda f, args, operands: right("sin" if f == "cos" else f, args, operands))
    found = report(tmp_path)
    assert not found.ok
    (told,) = found.parted
    assert told.startswith("torch parts at `cos` in layers.0, ") and "small.xf:5, by " in told and told.endswith("return x + cos(y)")


def test_a_fault_in_the_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = numpy_pointwise.apply_function
    monkeypatch.setattr(numpy_pointwise, "apply_function", lambda f, args, operands: right("abs" if f == "tanh" else f, args, operands))
    found = report(tmp_path)
    (told,) = found.parted
    assert told.startswith("numpy parts at `tanh`, ") and "small.xf:10" in told
    assert found.document()["parted"] == [told] and f"  first: {told}" in found.lines()


# ---------------------------------------------------------------- in steps, in losses, in gradients, in memory

DECODER = """
component mixer(gain)(x: [b, t, d]) -> [b, t, d]:
    inner = linear(d)
    so_far = cumsum(inner(x), t)
    y = tanh(so_far) * gain
    return x + cos(y)

component layer(gain)(x: [b, t, d]) -> [b, t, d]:
    mixer = mixer(gain)
    q_proj = linear([heads: 2, e: 4])
    o_proj = linear(d, over = [heads, e])
    z = mixer(x)
    q = q_proj(z)
    return sin(z) + o_proj(attend(q, q, q, causal, over = t))

model small(vocab = 11, d_model = 8)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    layers = 2 of layer(gain = 0.5)
    head = linear(vocab)
    logits = head(sigmoid(layers(embed(input_ids))))
    loss tokens = cross_entropy(logits[t = .. -1], labels[t = 1 ..], over = vocab)
    loss size = 0.1 * sum(logits ^ 2, [b, t, vocab])
    return logits
"""

MEMORY = """
component remembering(memory)(x: [b, t, d]) -> [b, t, d]:
    state past: [b, memory, d] = zeros
    inner = linear(d)
    old = tanh(mean(past, memory))
    all = concat(rename(past, memory = s), rename(inner(x), t = s), over = s)
    next past = rename(all[s = t ..], s = memory)
    return x + old

model small(width = 6)(x: [b, t, width]) -> (out: [b, t, width]):
    layers = 2 of remembering(memory = 3)
    return layers(x)
"""

TRAINED = """
component batch_norm(momentum = 0.1)(x: [b, t, d]) -> [b, t, d]:
    centre = buffer([d], init = zeros)
    now = mean(x, [b, t])
    next centre = (1 - momentum) * centre + momentum * now
    return x - where(training, cos(now), centre)

model small(width = 6)(x: [b, t, width]) -> (out: [b, t, width]):
    first = linear(width)
    norm = batch_norm()
    return norm(first(x))
"""

CELLS = """
component cell(hidden)(h: [b, hidden], x: [b, d]) -> (h: [b, hidden], y: [b, hidden]):
    from_x = linear(hidden)
    from_h = linear(hidden)
    grown = sigmoid(from_x(x))
    h = tanh(grown + from_h(h))
    return h, cos(h)

component run(hidden, reverse)(x: [b, t, d]) -> [b, t, d]:
    step = cell(hidden)
    back = linear(d)
    h, y = scan(step, zeros([b, hidden]), x, over = t, reverse = reverse)
    return x + back(y)

component plain_layer()(x: [b, t, d]) -> [b, t, d]:
    up = linear(d)
    return x + relu(up(x))

model small(width = 6)(x: [b, t, width]) -> (out: [b, t, width]):
    layers = 5 of [plain_layer * 2, run(4, REVERSE)]
    return layers(x)
"""

FAULTS = {
    "a nested component, torch": (DECODER, torch_backend, "y.cos()", "y.sin()", "torch parts at `cos` in layers.0.mixer, ", "return x + cos(y)"),
    "a nested component, numpy": (DECODER, numpy_backend, "np.cos(y)", "np.sin(y)", "numpy parts at `cos` in layers.0.mixer, ", "return x + cos(y)"),
    "the first operation of several": (DECODER, numpy_backend, "np.tanh(so_far)", "np.tanh(2 * so_far)", "numpy parts at `tanh` in layers.0.mixer, ", "y = tanh(so_far) * gain"),
    "a step, torch": (DECODER, torch_backend, "so_far + cache.so_far", "so_far - cache.so_far", "torch parts at `cumsum` in layers.0.mixer, ", "so_far = cumsum(inner(x), t)"),
    "a step, numpy": (DECODER, numpy_backend, "x = x + cache.kept[name]", "x = x - cache.kept[name]", "numpy parts at `cumsum` in layers.0.mixer, ", "so_far = cumsum(inner(x), t)"),
    "a step of attention": (DECODER, torch_backend, "q2 = cache.q.keep(q2, slots)", "q2 = cache.q.keep(2 * q2, slots)", "torch parts at `attend` in layers.0, ", "attend(q, q, q, causal, over = t)"),
    "a loss, torch": (DECODER, torch_backend, "logits.square()", "logits.abs()", "torch parts at `pow`, ", "loss size = "),
    "a loss, numpy": (DECODER, numpy_backend, "return -picked[kept].sum()", "return picked[kept].sum()", "numpy parts at `crossentropy`, ", "loss tokens = "),
    "a gradient": (DECODER, torch_backend, ".cos()", ".detach().cos()", "torch's gradient parts at `cos` in layers.1.mixer, ", "return x + cos(y)"),
    "a gradient of the model's body": (DECODER, torch_backend, ".sigmoid()", ".detach().sigmoid()", "torch's gradient parts at `sigmoid`, ", "logits = head(sigmoid(layers(embed(input_ids))))"),
    "training, torch": (TRAINED, torch_backend, ".cos()", ".sin()", "torch parts at `cos` in norm, ", "return x - where(training, cos(now), centre)"),
    "a scan, torch": (CELLS.replace("REVERSE", "false"), torch_backend, ".tanh()", ".sin()", "torch parts at `tanh` in layers.2.step, ", "h = tanh(grown + from_h(h))"),
    "a scan from the end, numpy": (CELLS.replace("REVERSE", "true"), numpy_backend, "np.tanh(", "np.sin(", "numpy parts at `tanh` in layers.2.step, ", "h = tanh(grown + from_h(h))"),
    "memory, torch": (MEMORY, torch_backend, ".tanh()", ".sin()", "torch parts at `tanh` in layers.0, ", "old = tanh(mean(past, memory))"),
}  # fmt: skip


SLOW = ("a nested component, numpy", "the first operation of several", "a step, numpy", "a loss, torch", "a scan from the end, numpy")


@pytest.mark.parametrize("fault", [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in FAULTS])
def test_a_fault_is_named_wherever_it_is(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, backend, right, wrong, named, line = FAULTS[fault]
    path = tmp_path / "small.xf"
    path.write_text(spec)
    emit = backend.emit
    assert right in emit_with_cache(elaborated(path), emit)[0]
    monkeypatch.setattr(backend, "emit", lambda program: emit(program).replace(right, wrong))
    found = verify(elaborated(path), dtype="float64")
    assert not found.ok
    (told,) = found.parted
    number = next(k for k, text in enumerate(spec.splitlines(), 1) if line in text)
    assert told.startswith(named) and f"small.xf:{number}, by " in told and line in told


def elaborated(path: Path) -> Program:
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    return program
