"""The PyTorch backend: what it emits is formatted, lint-clean, the same bytes each time, and means what the interpreter says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from xfc.backends import interpreter
from xfc.backends.torch import emit
from xfc.backends.verify import ENOUGH, difference, parameter_count, verify
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import TorchModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink, unshrunk
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.emit_with_cache import emit_with_cache
from xfc.compiler.ir import Program
from xfc.compiler.pipeline import run

FAMILIES = (
    "bert_base",
    "bloom_560m",
    "deepseek_v3",
    "gemma3_1b",
    "gpt2",
    "gpt_neox_20b",
    "llama3_8b",
    "mamba2_130m",
    "mixtral_8x7b",
    "t5_small",
    "vit_base",
)


def program_of(name: str, *sets: str) -> Program:
    diagnostics = Diagnostics()
    program = elaborate_file(name, list(sets), diagnostics)
    assert program is not None and not diagnostics.failed, diagnostics.found
    return program


def written(program: Program) -> str:
    """As `xfc compile` writes it."""
    return emit_with_cache(program, emit)[0]


def small(name: str) -> Shrunk:
    program = program_of(name)
    return shrink(program) if parameter_count(program) > ENOUGH else unshrunk(program)


@pytest.mark.parametrize("name", FAMILIES)
def test_formatted_and_lint_clean(name: str, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if ruff is None:
        pytest.skip("ruff is not installed")
    file = tmp_path / f"{name}.py"
    file.write_text(written(program_of(name)))
    options = ["--isolated", "--line-length", "120"]
    shown = subprocess.run([ruff, "format", *options, "--diff", file], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout
    found = subprocess.run([ruff, "check", *options, file], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_means_what_the_interpreter_says(name: str, dtype: str) -> None:
    chosen = small(name)
    emitted = run(chosen.program)
    names = tuple(n or "output" for n in emitted.root.output_names)
    with loaded(written(chosen.program), f"emitted_{name}_{dtype}") as module:
        model = TorchModule.build(module, chosen.config(), dtype, names)
        params = interpreter.initial_params(chosen.program, 0, dtype, chosen.under)
        model.load(params)
        kept = {i.name for i in emitted.inputs}
        for case, inputs in input_sets(chosen.program, chosen.under, 0).items():
            want = interpreter.run(chosen.program, params, inputs, dtype=dtype, under=chosen.under)
            got = model({n: a for n, a in inputs.items() if n in kept})
            if case == "loss":
                assert difference(next(iter(got.values())), want["loss"]) < 1e-5
                continue
            tolerance = 1e-5 if dtype == "float32" else 1e-10
            for output, array in want.items():
                if not output.startswith("loss"):
                    assert difference(got.get(output), array) < tolerance, (case, output)


def model_of(name: str) -> tuple[torch.nn.Module, object]:
    chosen = small(name)
    manager = loaded(written(chosen.program), f"model_{name}")
    module = manager.__enter__()
    fields = {n: v for n, v in chosen.config().items() if n in module.Config.__dataclass_fields__}
    torch.manual_seed(0)
    return module.Model(module.Config(**fields)).eval(), manager


@pytest.mark.parametrize("name", ["llama3_8b", "gemma3_1b", "gemma2_2b"])
def test_left_padding_changes_nothing_that_is_kept(name: str) -> None:
    """Rows of padding see no key at all: they must stay finite, forwards and backwards, and move nothing."""
    model, _ = model_of(name)
    ids = torch.randint(0, 7, (2, 6))
    padded = torch.cat((torch.zeros(2, 3, dtype=torch.long), ids), 1)
    mask = torch.cat((torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 6, dtype=torch.long)), 1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(padded, attention_mask=mask, position_ids=positions)
    assert out.isfinite().all()
    torch.testing.assert_close(out[:, 3:], model(ids), rtol=1e-4, atol=1e-5)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_logits_to_keep() -> None:
    model, _ = model_of("llama3_8b")
    ids = torch.randint(0, 7, (2, 5))
    torch.testing.assert_close(model(ids, logits_to_keep=1), model(ids)[:, -1:])


def test_save_and_load(tmp_path: Path) -> None:
    model, _ = model_of("llama3_8b")
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, model.config).eval()
    ids = torch.randint(0, 7, (2, 5))
    torch.testing.assert_close(again(ids), model(ids))


@pytest.mark.parametrize("name", ["llama3_8b", "mixtral_8x7b", "mamba2_130m"])
def test_low_precision_autocast_and_meta(name: str) -> None:
    model, _ = model_of(name)
    ids = torch.randint(0, 7, (2, 5))
    exact = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(ids).float(), exact, rtol=0.1, atol=0.05)
    with torch.device("meta"):
        empty = type(model)(model.config)
    assert all(p.is_meta for p in empty.parameters())
    empty.load_state_dict(model.state_dict(), assign=True)
    torch.testing.assert_close(empty(ids), exact)
    assert model.bfloat16()(ids).dtype == torch.bfloat16


def test_same_bytes_and_no_torch() -> None:
    """Emission depends on no hash seed and imports no torch."""
    code = (
        "import sys; from xfc.backends.torch import emit; from xfc.compiler.elaborate import elaborate_file; from xfc.compiler.pipeline import run;"
        "from xfc.compiler.diagnostics import Diagnostics; import hashlib;"
        "texts = [emit(run(elaborate_file(n, [], Diagnostics()))) for n in ('t5_small', 'deepseek_v3', 'gemma3_1b')];"
        "assert 'torch' not in sys.modules; print(hashlib.sha256(''.join(texts).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_names_are_all_that_a_renaming_changes(tmp_path: Path) -> None:
    """Structure decides what is native, never a component's name."""
    spec = tmp_path / "renamed.xf"
    spec.write_text(
        "component zip(out)(x: [..., d]) -> [..., out]:\n"
        "    weight = param([out, d'], init = normal(0.02))\n"
        "    return einsum(rename(x, d = d'), weight, over = d')\n"
        "component zap()(x: [..., d]) -> [..., d]:\n"
        "    weight = param([d], init = ones)\n"
        "    y = float32(x)\n"
        "    return like(y * rsqrt(mean(y * y, d) + 1e-6), x) * weight\n"
        "model renamed(width = 12, hidden = 20)(x: [b, t, width]) -> (output: [b, t, width]):\n"
        "    norm = zap()\n"
        "    up = zip(hidden)\n"
        "    down = zip(width)\n"
        "    return x + down(silu(up(norm(x))))\n"
    )
    text = emit(run(program_of(str(spec))))
    assert "nn.Linear(config.width, config.hidden, bias=False)" in text
    assert "nn.RMSNorm(config.width, eps=1e-6)" in text
    assert np.array([word not in text for word in ("Zip", "zap", "einsum")]).all()


WHOLE_BANK = """
component around(size)(x: [b, t, d]) -> [b, t, d]:
    given positions: [b, t]
    q = linear(size)
    k = linear(size)
    v = linear(d, init = zeros)
    gain = param([d], init = normal(1.0))
    y = attend(q(x), k(x), v(x), mask = causal)
    return x + gain * y * float32(positions)

model small(d_model = 8, experts = 3)(x: [b, t, d_model]) -> (y: [b, t, d_model]):
    let positions = index(t)
    many = bank(experts, around(6))
    return mean(many(expand(x, experts)), experts)
"""


def test_banks_of_what_sees_other_tokens(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(WHOLE_BANK)
    program = program_of(str(path))
    assert verify(program).ok
    with loaded(emit(run(program)), "whole_bank") as module:
        model = module.Model()
        assert model.state_dict()["many.q.weight"].shape == (3, 6, 8)
        assert not model.many.v.weight.any() and (model.many.gain[0] != model.many.gain[1]).all()
        with torch.device("meta"):
            assert module.Model().state_dict().keys() == model.state_dict().keys()


def test_heads_that_are_read_as_one_stay_one(tmp_path: Path) -> None:
    (tmp_path / "m.xf").write_text(
        "model m(d = 8, n = 2, e = 4)(x: [b, t, d]) -> (y: [b, t, n, e]):\n"
        "    one = linear([n, e])\n"
        "    two = linear([n, e])\n"
        "    turned = tanh(flatten(one(x), [n, e], all))\n"
        "    return unflatten(turned, all = [n, e]) * two(x)\n"
    )
    text = written(program_of(str(tmp_path / "m.xf")))
    assert text.count("unflatten(") == 2 and "flatten(2)" not in text, text
    assert verify(program_of(str(tmp_path / "m.xf")), seed=1).ok


def test_ceil_of_a_tensor(tmp_path: Path) -> None:
    (tmp_path / "m.xf").write_text("model m(d = 4)(x: [b, t, d]) -> (y: [b, t, d]):\n    return ceil(3 * x) + ceil(d / 8.0)\n")
    assert verify(program_of(str(tmp_path / "m.xf")), seed=1).ok
