"""Losses over many classes that are no plain cross entropy: never all logits at once, and the loss and gradients of the formula."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

from xfc.backends import interpreter
from xfc.backends.verify_modules import loaded
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Program
from xfc.compiler.pipeline import run as run_passes

emitting = import_module("xfc.backends.torch.emit")  # the package has the function under this name
CLASSES = 4099
SPEC = """
model tagger(width = 6, share = 0.25)(
    input_ids: [b, t] int in 11, labels: [b, t] int = none
) -> (logits: [b, t, classes: {classes}]):
    embed = embedding(11, width)
    head = linear([classes: {classes}], bias = {bias})
    found = head(embed(input_ids))
    logits = {logits}
{loss}
    return logits
"""
SMOOTHED = "    loss lm = smoothed_cross_entropy(smoothing = share)(logits[t = 0 .. -1], labels[t = 1 ..])"
PLAIN = "    loss lm = cross_entropy(logits, labels, over = classes)"
PRICED = PLAIN + "\n    loss z = share * mean(logsumexp(float32(logits), classes) ^ 2, [b, t])"
CAPPED = "share * tanh(found / share)"


def program_of(text: str, folder: Path) -> Program:
    (folder / "spec.xf").write_text(text)
    diagnostics = Diagnostics()
    program = elaborate_file(str(folder / "spec.xf"), [], diagnostics)
    assert program is not None, diagnostics.found
    return program


@pytest.mark.parametrize(
    ("logits", "loss", "bias"),
    [
        ("found", SMOOTHED, "true"),
        ("found", PRICED, "false"),
        (CAPPED, PLAIN, "true"),
        (CAPPED, SMOOTHED, "false"),
        (CAPPED, PRICED, "true"),
    ],
    ids=["smoothed", "priced", "capped", "capped_smoothed", "capped_priced"],
)
def test_never_all_logits(logits: str, loss: str, bias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(SPEC.format(classes=CLASSES, bias=bias, logits=logits, loss=loss), tmp_path)
    code = emitting.emit(run_passes(program))
    monkeypatch.setattr(emitting, "read_statistics", lambda p: p)
    plain_code = emitting.emit(run_passes(program))
    assert "linear_statistics(" in code and "linear_statistics(" not in plain_code
    torch.manual_seed(0)
    ids = torch.randint(0, 11, (3, 130))
    labels = torch.randint(0, CLASSES, (3, 130))
    labels[torch.rand(3, 130) < 0.2] = -100
    params = interpreter.initial_params(program, 0, "float64", {})
    found = []
    for text in (code, plain_code):
        with loaded(text, "tagger") as module:
            model = module.Model().double()
            model.load_state_dict({n: torch.from_numpy(3 * params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
            value = model(ids, labels=labels)
            found.append((value, torch.autograd.grad(3 * value, list(model.parameters()))))
            nothing = model(ids, labels=torch.full_like(labels, -100))
            assert nothing.isfinite()
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-12, atol=0)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)


def test_logits_that_are_read_otherwise_stay(tmp_path: Path) -> None:
    loss = PLAIN + "\n    loss most = share * mean(max(logits, classes), [b, t])"
    program = program_of(SPEC.format(classes=CLASSES, bias="true", logits="found", loss=loss), tmp_path)
    assert "linear_statistics(" not in emitting.emit(run_passes(program))
