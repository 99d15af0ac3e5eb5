"""The examples: a training that is cut off goes on as if it had not been, and what it made can be sampled from."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = [
    "--set",
    "d_model=16",
    "--set",
    "decoder.layers=1",
    "--set",
    "decoder.ffn.hidden=24",
    "--tokens",
    "16",
    "--batch",
    "2",
    "--device",
    "cpu",
]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("train")


def losses(train: ModuleType, monkeypatch: pytest.MonkeyPatch, run: Path, steps: int, *more: str) -> list[float]:
    monkeypatch.setattr(sys, "argv", ["train.py", str(run), "--steps", str(steps), "--warmup", "1", *SMALL, *more])
    a = train.arguments()
    a.rate = 1e-2
    found: list[float] = train.train(a)
    return found


def test_a_training_that_was_cut_off_goes_on_exactly(train: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(train, "rate", lambda a, step: a.rate)  # the schedule's end is not that of the shorter run
    whole = losses(train, monkeypatch, tmp_path / "whole", 4)
    losses(train, monkeypatch, tmp_path / "cut", 2)
    assert losses(train, monkeypatch, tmp_path / "cut", 4) == whole
    a, b = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("whole", "cut"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert "<polyline" in (tmp_path / "cut" / "loss.svg").read_text()
    generate = importlib.import_module("generate")
    monkeypatch.setattr(sys, "argv", ["generate.py", str(tmp_path / "cut"), "ab", "--tokens", "3"])
    generate.main()


def test_smoothing_changes_the_loss(train: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = losses(train, monkeypatch, tmp_path / "plain", 1)
    assert losses(train, monkeypatch, tmp_path / "smooth", 1, "--smoothing", "0.1") != plain
