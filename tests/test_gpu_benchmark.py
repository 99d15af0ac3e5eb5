"""benchmarks/gpu.py where there is no GPU: what it says, and that the code of its rows runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def started(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    done = started("--only", "rates")
    assert done.returncode == 1 and done.stderr.startswith("no CUDA device here")


@pytest.mark.slow
def test_rows_without_a_gpu(tmp_path: Path) -> None:
    rows = ("rates", "flex_bloom", "train_1b", "decode_1b")
    done = started("--device", "cpu", "--size", "tiny", "--eager", "--rounds", "1", "--out", str(tmp_path), "--only", *rows)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["rows"].keys() == {*rows} and all(row["ok"] and row["command"] for row in report["rows"].values())
    assert report["torch"] == torch.__version__


@pytest.mark.slow
def test_a_row_that_takes_too_long(tmp_path: Path) -> None:
    done = started(
        "--device", "cpu", "--size", "tiny", "--only", "train_1b", "--limit", "30.5", "--out", str(tmp_path), "--rounds", "100000"
    )
    assert done.returncode == 1 and "not done after" in done.stdout
