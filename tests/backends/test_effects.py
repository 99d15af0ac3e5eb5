"""Recurrences, running statistics, memories and auxiliary losses against other people's code and against the formulas, three ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xfc.backends import interpreter, numpy, verify
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.count import count
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.passes.prove_causality import prove
from xfc.compiler.pipeline import run as run_passes
from xfc.compiler.print_ir import print_program
from xfc.compiler.verify_ir import verify as verify_ir

RECURRENT = """
model recurrent(width = 6, hidden = 5)(x: [b, t, width]) -> (y):
    layer = {component}(hidden)
    return layer(x)
"""

NORMALISED = """
model normalised(width = 6)(x: [b, t, width]) -> (y):
    norm = batch_norm()
    return norm(x)
"""

MEMORY = """
component segment_attention(heads, length)(x: [b, t, d]) -> [b, t, d]:
    "Transformer-XL, arXiv:1901.02860, without its relative positions"
    state past: [b, length, d] = zeros
    q_proj = linear([heads, e: d / heads])
    k_proj = linear([heads, e: d / heads])
    v_proj = linear([heads, e: d / heads])
    o_proj = linear(d, over = [heads, e: d / heads])
    all = concat(rename(past, length = s), rename(x, t = s), over = s)
    next past = stop_gradient(rename(all[s = -length ..], s = length))
    mask seen(i, j) = j <= i + length
    return o_proj(attend(q_proj(x), k_proj(all), v_proj(all), seen, scale = (d / heads) ^ -0.5, over = [t, s]))

component residual(heads, length)(x: [b, t, d]) -> [b, t, d]:
    attention = segment_attention(heads, length)
    return x + attention(x)

model segments(vocab = 31, width = 12, heads = 3, length = 6, layers = 2)(input_ids: [b, t] int in vocab) -> (y):
    embed = embedding(vocab, width)
    stack = layers of residual(heads, length)
    return stack(embed(input_ids))
"""

SWITCH = """
component switch(experts, hidden, top_k = 1)(x: [b, t, d]) -> [b, t, d]:
    "Switch Transformers, arXiv:2101.03961, equations 4 to 6"
    gate = linear(experts)
    bank = bank(experts, plain(hidden))
    scores = softmax(gate(x), experts)
    best = top(scores, top_k, experts)
    chosen = like(squeeze(one_hot(best.index, experts), top_k), x)
    loss balance = 0.01 * experts * sum(mean(chosen, [b, t]) * mean(scores, [b, t]), experts)
    emit load = mean(chosen, [b, t])
    return route(x, bank, best.index, best.values)

component block(experts, hidden)(x: [b, t, d]) -> [b, t, d]:
    ffn = switch(experts, hidden)
    return x + ffn(x)

model switched(width = 6, experts = 4, hidden = 5, layers = 3)(x: [b, t, width]) -> (y, load):
    blocks = layers of block(experts, hidden)
    y = blocks(x)
    return y, blocks.load
"""


@dataclass(frozen=True)
class Made:
    """A program with random weights: the PyTorch model, the NumPy module with its parameters."""

    program: Program
    weights: dict[str, np.ndarray]
    torch: Any
    numpy: Any
    params: dict[str, np.ndarray]


@contextmanager
def made(text: str, folder: Path) -> Iterator[Made]:
    program = program_of(text, folder)
    weights = interpreter.initial_params(program, 0)
    emitted = run_passes(program)
    verify_ir(emitted)
    with ExitStack() as stack:
        torch_module = stack.enter_context(loaded(torch_backend.emit(emitted), "effects_torch"))
        numpy_module = stack.enter_context(loaded(numpy.emit(emitted), "effects_numpy"))
        model = torch_module.Model().double()
        own = model.state_dict()
        model.load_state_dict({n: torch.from_numpy(weights[n]).reshape(v.shape) for n, v in own.items()})
        yield Made(program, weights, model, numpy_module, {n: v.numpy().copy() for n, v in model.state_dict().items()})


def program_of(text: str, folder: Path) -> Program:
    path = folder / "spec.xf"
    path.write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None and not diagnostics.found, diagnostics.found
    return program


def same(got: Any, want: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(got), want.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "text", [RECURRENT.format(component="bidirectional_gru"), NORMALISED, MEMORY, SWITCH], ids=["scan", "updates", "states", "losses"]
)
def test_three_ways(text: str, tmp_path: Path) -> None:
    program = program_of(text, tmp_path)
    report = verify.verify(program, dtype="float64")
    assert report.ok, str(report)
    assert print_program(program) == print_program(program_of(text, tmp_path))


# ---------------------------------------------------------------- scans


@pytest.mark.parametrize(
    ("component", "reference", "both"),
    [("lstm", nn.LSTM, False), ("gru", nn.GRU, False), ("bidirectional_lstm", nn.LSTM, True), ("bidirectional_gru", nn.GRU, True)],
)
def test_recurrences_are_those_of_torch(component: str, reference: type[nn.Module], both: bool, tmp_path: Path) -> None:
    with made(RECURRENT.format(component=component), tmp_path) as m:
        theirs = reference(6, 5, batch_first=True, bidirectional=both).double()
        for suffix, path in (("", "layer.ahead"), ("_reverse", "layer.back")) if both else (("", "layer"),):
            for their, our in (("ih", "from_x"), ("hh", "cell.from_h")):
                getattr(theirs, f"weight_{their}_l0{suffix}").data = torch.from_numpy(m.params[f"{path}.{our}.weight"])
                getattr(theirs, f"bias_{their}_l0{suffix}").data = torch.from_numpy(m.params[f"{path}.{our}.bias"])
        x = torch.randn(2, 7, 6, dtype=torch.float64, requires_grad=True)
        want, _ = theirs(x)
        got = m.torch(x)
        same(got, want)
        same(m.numpy.forward(m.params, x.detach().numpy()), want)
        same(interpreter.run(m.program, m.weights, {"x": x.detach().numpy()})["y"], want)
        (mine,) = torch.autograd.grad(got.square().sum(), x, retain_graph=True)
        (others,) = torch.autograd.grad(want.square().sum(), x)
        same(mine, others)


@pytest.mark.parametrize(("component", "answer"), [("lstm", "proved"), ("bidirectional_lstm", "refuted")])
def test_a_scan_sees_the_past_and_backwards_the_rest(component: str, answer: str, tmp_path: Path) -> None:
    text = f"""
model reader(vocab = 31, width = 6, hidden = 5)(input_ids: [b, t] int in vocab) -> (logits):
    embed = embedding(vocab, width)
    layer = {component}(hidden)
    head = linear(vocab)
    return head(layer(embed(input_ids)))
"""
    decoded = prove(program_of(text, tmp_path)).decoded
    assert decoded is not None and decoded.answer == answer
    if answer == "refuted":
        assert decoded.cause is not None and "backwards" in decoded.cause.what


def test_a_cell_is_counted_at_every_position(tmp_path: Path) -> None:
    counts = count(program_of(RECURRENT.format(component="lstm"), tmp_path))
    assert counts.flops_per_token.value() == 2 * 4 * 5 * (6 + 5)


# ---------------------------------------------------------------- training and buffers


def test_batch_norm_is_that_of_torch(tmp_path: Path) -> None:
    with made(NORMALISED, tmp_path) as m:
        theirs = nn.BatchNorm1d(6).double()
        theirs.load_state_dict({n.removeprefix("norm."): torch.from_numpy(a) for n, a in m.params.items()}, strict=False)
        buffers: dict[str, np.ndarray] = {}
        weights = dict(m.weights)
        for _ in range(3):
            x = torch.randn(2, 7, 6, dtype=torch.float64)
            want = theirs.train()(x.transpose(1, 2)).transpose(1, 2)
            same(m.torch.train()(x), want)
            same(interpreter.run(m.program, weights, {"x": x.numpy()}, training=True, buffers=buffers)["y"], want)
            weights |= buffers
            for name in ("running_mean", "running_var"):
                same(getattr(m.torch.norm, name), getattr(theirs, name))
                same(buffers[f"norm.{name}"], getattr(theirs, name))
        want = theirs.eval()(x.transpose(1, 2)).transpose(1, 2)
        same(m.torch.eval()(x), want)
        same(interpreter.run(m.program, weights, {"x": x.numpy()})["y"], want)
        same(m.numpy.forward({n: v.numpy() for n, v in m.torch.state_dict().items()}, x.numpy()), want)


# ---------------------------------------------------------------- memory


def test_segments_in_turn_are_one_long_computation(tmp_path: Path) -> None:
    length, sizes = 6, (4, 7, 3)
    with made(MEMORY, tmp_path) as m:
        ids = torch.randint(0, 31, (2, sum(sizes)))
        want = _long_run({n: torch.from_numpy(a) for n, a in m.params.items()}, ids, sizes, length, heads=3)
        state, arrays, meant = m.torch.eval().init_state(2), m.numpy.init_state(m.params, 2), dict[str, np.ndarray]()
        start = 0
        for size in sizes:
            part = ids[:, start : start + size]
            same(m.torch(part, state=state), want[:, start : start + size])
            same(m.numpy.forward(m.params, part.numpy(), state=arrays), want[:, start : start + size])
            same(interpreter.run(m.program, m.weights, {"input_ids": part.numpy()}, state=meant)["y"], want[:, start : start + size])
            start += size
        assert list(state) == list(arrays) == list(meant) == [f"stack.{k}.attention.past" for k in range(2)]
        same(m.torch(ids[:, :4]), want[:, :4])  # without a state, as at the start
        assert not any(t.requires_grad for t in state.values())


def _long_run(params: dict[str, Tensor], ids: Tensor, sizes: tuple[int, ...], length: int, heads: int) -> Tensor:
    """All segments at once: each query sees what was remembered at the start of its segment, and its segment up to itself."""
    x = params["embed.weight"][ids]
    starts = torch.cat([torch.full((size,), sum(sizes[:k])) for k, size in enumerate(sizes)])[:, None]
    i, j = torch.arange(ids.shape[1])[:, None], torch.arange(ids.shape[1] + length)[None]
    seen = (j >= starts) & (j <= i + length)
    for layer in range(2):
        proj = {n: params[f"stack.{layer}.attention.{n}_proj.weight"].flatten(1) for n in "qkvo"}
        padded = torch.cat((torch.zeros(2, length, x.shape[2], dtype=x.dtype), x), 1)
        q, k, v = ((y @ proj[n].T).unflatten(-1, (heads, -1)).transpose(1, 2) for n, y in (("q", x), ("k", padded), ("v", padded)))
        scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
        y = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
        x = x + y.transpose(1, 2).flatten(2) @ proj["o"].T
    return x


# ---------------------------------------------------------------- losses and what layers emit


def test_switch_balance_is_the_formula(tmp_path: Path) -> None:
    with made(SWITCH, tmp_path) as m:
        x = torch.randn(2, 7, 6, dtype=torch.float64)
        y, loads, total = x, [], torch.zeros((), dtype=torch.float64)
        for block in m.torch.blocks:
            scores = block.ffn.gate(y).softmax(-1)
            fraction = nn.functional.one_hot(scores.argmax(-1), 4).double().mean((0, 1))
            total = total + 0.01 * 4 * (fraction * scores.mean((0, 1))).sum()
            loads.append(fraction)
            y = block(y)[0]
        output = m.torch(x)
        same(output.y, y)
        same(output.load, torch.stack(loads))
        same(m.torch(x, return_loss=True), total)
        same(m.numpy.forward(m.params, x.numpy(), return_loss=True), total)
        same(m.numpy.forward(m.params, x.numpy()).load, torch.stack(loads))
        meant = interpreter.run(m.program, m.weights, {"x": x.numpy()})
        same(meant["loss"], total)
        same(meant["load"], torch.stack(loads))


def test_what_nobody_reads_leaves_no_trace(tmp_path: Path) -> None:
    text = SWITCH.replace("-> (y, load)", "-> (y)").replace("return y, blocks.load", "return y")
    code = torch_backend.emit(run_passes(program_of(text, tmp_path)))
    assert "load" not in code.split("def load_weights")[0].replace("load_weights", "")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("loss small = mean(x ^ 2, [b, d])", "`cell` is scanned, and what it surfaces has no place"),
        ("state past: [b, d] = zeros\n    next past = x", "`cell` is scanned and keeps a state or running statistics"),
    ],
)
def test_a_cell_has_no_effects(line: str, message: str, tmp_path: Path) -> None:
    text = f"""
component cell_of()(h: [b, d], x: [b, d]) -> (h: [b, d], y: [b, d]):
    {line}
    return x + h, x

model scanned(width = 6)(x: [b, t, width]) -> (y):
    cell = cell_of()
    h, y = scan(cell, zeros([b, width]), x, over = t)
    return y
"""
    path = tmp_path / "spec.xf"
    path.write_text(text)
    diagnostics = Diagnostics()
    elaborate_file(str(path), [], diagnostics)
    assert [(d.code, d.message) for d in diagnostics.found] == [("E391", message)]


@pytest.mark.parametrize(
    ("lines", "code", "message"),
    [
        (
            ["mlps = bank(experts, moving())", "y = mlps(expand(x, experts))"],
            "E342",
            "the copies of the bank `mlps` keep a state or running statistics",
        ),
        (["shared norm = moving()", "y = norm(norm(x))"], "E340", "`norm` keeps a state or running statistics, and is applied twice"),
    ],
)
def test_effects_have_one_place(lines: list[str], code: str, message: str, tmp_path: Path) -> None:
    text = """
component moving()(x: [..., d]) -> [..., d]:
    centre = buffer([d], init = zeros)
    next centre = 0.9 * centre
    return x - centre

model placed(width = 6, experts = 3)(x: [b, t, width]) -> (y):
    LINES
    return y
"""
    path = tmp_path / "spec.xf"
    path.write_text(text.replace("LINES", "\n    ".join(lines)))
    diagnostics = Diagnostics()
    elaborate_file(str(path), [], diagnostics)
    assert [(d.code, d.message) for d in diagnostics.found] == [(code, message)]


LAYERED = """
component reading(n)(x: [b, t, d]) -> [b, t, d]:
    state past: [b, n, d] = ones
    all = concat(rename(past, n = s), rename(x, t = s), over = s)
    next past = stop_gradient(rename(all[s = t ..], s = n))
    loss near = mean((past - mean(past, n)) ^ 2, [b, n, d])
    emit read = mean(past, n)
    return x + mean(past, n)

component centring(p)(x: [b, t, d]) -> [b, t, d]:
    f = linear(d)
    norm = batch_norm()
    y = dropped(p)
    return x + y(f(norm(x)))

component dropped(p)(x: [..., d]) -> [..., d]:
    y = sin(dropout(x, p)) + cos(x) * 2
    return where(training, y, x) + y * exp(where(not training, x, y))

model layered(vocab = 31, width = 12, layers = 5, n = 4)(input_ids: [b, t] int in vocab) -> (y, reads):
    embed = embedding(vocab, width)
    start = param([n, width])
    state seen: [b, n, width] = start
    blocks = layers of [centring(p = 0), reading(n = 3) * 2]
    y = blocks(embed(input_ids))
    loss drift = mean(seen ^ 2, [b, n, width])
    next seen = seen * 0.5 + mean(y, t)
    return y, blocks.read
"""


def test_all_of_it_in_layers_of_two_kinds(tmp_path: Path) -> None:
    report = verify.verify(program_of(LAYERED, tmp_path), dtype="float64")
    assert report.ok, str(report)
    assert sum("segment" in row.what for row in report.rows) == 12
    assert sum("in training" in row.what or "after training" in row.what for row in report.rows) == 6


TWO_LOSSES = """
model two(d = 3)(x: [b, d], first: [b, d] = none, second: [b, d] = none) -> (y: [b, d]):
    up = linear(d)
    y = up(x)
    loss one = mean((y - first) ^ 2, [b, d])
    loss other = mean(abs(y - second), [b, d])
    return y
"""


def test_the_loss_names_the_inputs_that_it_needs(tmp_path: Path) -> None:
    with made(TWO_LOSSES, tmp_path) as m:
        x, first, second = torch.randn(3, 2, 3, dtype=torch.float64)
        loss = m.torch(x, first=first, second=second)
        y = m.torch(x)
        same(loss, ((y - first) ** 2).mean() + (y - second).abs().mean())
        same(m.numpy.forward(m.params, x.numpy(), first=first.numpy(), second=second.numpy()), loss)
        for given in ({"first": first}, {"second": second}):
            with pytest.raises(ValueError, match="the loss needs `first` and `second`"):
                m.torch(x, **given)
            with pytest.raises(ValueError, match="the loss needs `first` and `second`"):
                m.numpy.forward(m.params, x.numpy(), **{n: v.numpy() for n, v in given.items()})
