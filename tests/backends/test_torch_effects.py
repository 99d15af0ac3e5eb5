"""What layers surface, scans, memories from call to call, and training mode, in PyTorch."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends.torch import emit
from xfc.backends.verify import difference
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import TorchModule, loaded
from xfc.backends.verify_shrink import unshrunk
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.pipeline import run

EMITS = """
component noisy(hidden)(x: [b, t, d]) -> [b, t, d]:
    norm = rms_norm()
    ffn = gated(hidden)
    y = ffn(norm(x))
    loss small = mean(y ^ 2, [b, t, d])
    return x + y

model emitting(vocab = 31, d_model = 24)(input_ids: [b, t] int in vocab, labels: [b, t] int = none) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    layers = 3 of noisy(17)
    x = layers(embed(input_ids))
    head = linear(vocab)
    logits = head(x)
    loss lm = cross_entropy(logits[t = 0 .. -1], labels[t = 1 ..], over = vocab)
    return logits
"""

LSTM = """
component lstm_cell(hidden)(h: [b, hidden], c: [b, hidden], x: [b, d]) -> (h: [b, hidden], c: [b, hidden], y: [b, hidden]):
    from_x = linear([gates: 4, hidden], bias = true)
    from_h = linear([gates: 4, hidden])
    i, f, g, o = unstack(from_x(x) + from_h(h), gates)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, c, h

model lstm(vocab = 31, d_model = 24, hidden = 17)(input_ids: [b, t] int in vocab) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    cell = lstm_cell(hidden)
    zero = zeros([b, hidden])
    h, c, y = scan(cell, zero, zero, embed(input_ids), over = t)
    head = linear(vocab)
    return head(y)
"""

MEMORY = """
component memory_attention(heads, memory)(x: [b, t, d]) -> [b, t, d]:
    state past: [b, memory, d] = zeros
    q = linear([heads, e: d / heads])
    k = linear([heads, e: d / heads])
    v = linear([heads, e: d / heads])
    o = linear(d, over = [heads, e: d / heads])
    both = concat(rename(past, memory = s), rename(x, t = s), over = s)
    next past = stop_gradient(rename(both[s = -memory ..], s = memory))
    mask seen(i, j) = j <= i + memory
    return o(attend(q(x), k(both), v(both), seen, scale = 1.0, over = [t, s]))

model remembering(vocab = 31, d_model = 24)(input_ids: [b, t] int in vocab) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    layers = 2 of pre_norm(memory_attention(heads = 3, memory = 5), gated(hidden = 17), rms_norm())
    head = linear(vocab)
    return head(layers(embed(input_ids)))
"""

TRAINED = """
component running_norm(momentum = 0.25)(x: [b, t, d]) -> [b, t, d]:
    scale = param([d], init = ones)
    running = buffer([d], init = zeros)
    mu = where(training, mean(x, [b, t]), running)
    next running = (1 - momentum) * running + momentum * mu
    return (x - mu) * scale

model trained(vocab = 31, d_model = 24)(input_ids: [b, t] int in vocab) -> (logits: [b, t, vocab]):
    embed = embedding(vocab, d_model)
    norm = running_norm()
    head = linear(vocab)
    return head(norm(embed(input_ids)))
"""


def program_of(text: str, folder: Path) -> Program:
    path = folder / "spec.xf"
    path.write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None and not diagnostics.failed, diagnostics.found
    return program


@pytest.mark.parametrize("text", [EMITS, LSTM], ids=["emits", "scan"])
def test_means_what_the_interpreter_says(text: str, tmp_path: Path) -> None:
    chosen = unshrunk(program_of(text, tmp_path))
    emitted = run(chosen.program)
    with loaded(emit(emitted), "effects") as module:
        model = TorchModule.build(module, chosen.config(), "float64", ("logits",))
        params = interpreter.initial_params(chosen.program, 0, "float64", chosen.under)
        model.load(params)
        for case, inputs in input_sets(chosen.program, chosen.under, 0).items():
            want = interpreter.run(chosen.program, params, inputs, dtype="float64", under=chosen.under)
            got = next(iter(model(inputs).values()))
            assert difference(got, want["loss" if case == "loss" else "logits"]) < 1e-9, case


def built(text: str, folder: Path, stack: ExitStack) -> Any:
    module = stack.enter_context(loaded(emit(run(program_of(text, folder))), "effects"))
    torch.manual_seed(0)
    return module.Model()


def test_memory_is_carried(tmp_path: Path) -> None:
    with ExitStack() as stack:
        model = built(MEMORY, tmp_path, stack).eval()
        first, second = torch.randint(0, 31, (2, 2, 7)).unbind(0)
        state = model.init_state(2)
        assert list(state) == ["layers.0.attention.past", "layers.1.attention.past"]
        torch.testing.assert_close(model(first, state=state), model(first))
        torch.testing.assert_close(state["layers.0.attention.past"], model.layers[0].attention_norm(model.embed(first))[:, -5:])
        assert not torch.allclose(model(second, state=state), model(second))
        assert not any(t.requires_grad for t in state.values())


def test_buffers_move_in_training_only(tmp_path: Path) -> None:
    with ExitStack() as stack:
        model = built(TRAINED, tmp_path, stack).eval()
        ids = torch.randint(0, 31, (2, 7))
        model(ids)
        assert model.norm.running.abs().max() == 0
        model.train()(ids)
        torch.testing.assert_close(model.norm.running, 0.25 * model.embed(ids).mean((0, 1)).detach())
        assert np.isfinite(model(ids).detach().numpy()).all()
