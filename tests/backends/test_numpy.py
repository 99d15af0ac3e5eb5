"""The NumPy file of a spec computes what the interpreter does, needs NumPy alone, and stays as the formatter would leave it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xfc.backends import interpreter
from xfc.backends.numpy import emit
from xfc.backends.numpy.helpers import HELPERS, used_helpers
from xfc.backends.verify import difference, verify
from xfc.backends.verify_inputs import input_sets
from xfc.backends.verify_modules import NumpyModule, loaded
from xfc.backends.verify_shrink import Shrunk, shrink
from xfc.compiler import pipeline
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file

ROOT = Path(__file__).resolve().parents[2]
OPEN = sorted((ROOT / "tests" / "open").glob("*.xf"))
SHIPPED = [ROOT / "specs" / f"{name}.xf" for name in ("gpt2", "llama", "t5", "deepseek_v3", "mamba2", "gemma3")]


def small(spec: Path) -> Shrunk:
    diagnostics = Diagnostics()
    program = elaborate_file(str(spec), [], diagnostics)
    assert program is not None, diagnostics.found
    return shrink(program)


def under(chosen: Shrunk) -> dict:
    return {s: v for s, v in chosen.under.items() if s.value is not None}


def shapes(module, config) -> dict[str, tuple[int, ...]]:
    found = module.shapes(config)
    return {name: tuple(int(n) for n in shape) for name, shape in found.items()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("spec", [*SHIPPED, *OPEN], ids=lambda p: p.stem)
def test_it_computes_what_the_interpreter_does(spec: Path, dtype: str) -> None:
    chosen = small(spec)
    program = pipeline.run(chosen.program)
    params = interpreter.initial_params(chosen.program, 0, dtype, under(chosen))
    names = tuple(n or "output" for n in chosen.program.root.output_names) or ("output",)
    with loaded(emit(program), "reference") as module:
        config = module.Config(**chosen.config())
        stored = {name: params[name].reshape(shape) for name, shape in shapes(module, config).items()}
        reference = NumpyModule(module, stored, config, dtype, names)
        kept = {i.name for i in program.inputs}
        for kind, inputs in input_sets(chosen.program, chosen.under, 0).items():
            want = interpreter.run(chosen.program, params, inputs, dtype=dtype, under=under(chosen))
            got = reference({n: a for n, a in inputs.items() if n in kept})
            if kind == "loss":
                got, want = {"loss": next(iter(got.values()))}, {"loss": want["loss"]}
            for name, array in got.items():
                assert array.dtype == dtype or array.dtype.kind != "f", f"{name} is {array.dtype}"
                assert difference(array, want[name]) < (1e-10 if dtype == "float64" else 1e-5), f"{kind}: {name}"


@pytest.mark.parametrize("spec", SHIPPED, ids=lambda p: p.stem)
def test_the_file_needs_numpy_alone_and_is_the_same_every_time(spec: Path, tmp_path: Path) -> None:
    text = emit(pipeline.run(small(spec).program))
    assert text == emit(pipeline.run(small(spec).program))
    imported = {
        name.split(".")[0]
        for node in ast.parse(text).body
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}
    path = tmp_path / "reference.py"
    path.write_text(text)
    checks = "F,B006,SIM,UP,C4,PIE,RET"
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--select", checks, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_saved_folder_is_loaded_by_its_own_names(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    chosen = small(ROOT / "specs" / "gpt2.xf")
    params = interpreter.initial_params(chosen.program, 0, np.float32, under(chosen))
    save_file({n: np.ascontiguousarray(a) for n, a in params.items()}, tmp_path / "model.safetensors")
    with loaded(emit(pipeline.run(chosen.program)), "reference") as module:
        config = module.Config(**chosen.config())
        found = module.load(tmp_path, config)
        assert {n: a.shape for n, a in found.items()} == shapes(module, config)
        assert all((found[n].reshape(-1) == params[n].reshape(-1)).all() for n in params)
        name = next(iter(params))
        index = {"weight_map": dict.fromkeys(params, "a.safetensors") | {name: "b.safetensors"}}
        save_file({n: np.ascontiguousarray(a) for n, a in params.items() if n != name}, tmp_path / "a.safetensors")
        save_file({name: params[name]}, tmp_path / "b.safetensors")
        (tmp_path / "model.safetensors").unlink()
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert set(module.load(tmp_path, config)) == set(params)
        (tmp_path / "b.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match=r"b\.safetensors"):
            module.load(tmp_path, config)


def test_helpers_bring_those_they_use() -> None:
    found = "\n".join(used_helpers("y = gelu(x)\nz = log_softmax(y, -1)"))
    assert "def erf(" in found and "def logsumexp(" in found and "def softmax(" not in found
    assert used_helpers('w = params["linear(x)"] + x.softmax(1)') == []
    for name, source in HELPERS.items():
        assert source.startswith(f"def {name}(")


def helper(name: str):
    scope: dict = {}
    text = "import math\nimport numpy as np\nArray = np.ndarray\nParams = dict\n" + "\n".join(used_helpers(f"{name}("))
    exec(text, scope)
    return scope[name]


def test_helpers_compute_what_torch_does() -> None:
    import torch
    import torch.nn.functional as F  # noqa: N812

    x = np.random.default_rng(0).normal(size=(2, 7, 5)) * 6
    t = torch.from_numpy(x)
    for name, reference in {
        "sigmoid": torch.sigmoid, "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"), "softplus": F.softplus,
        "erf": torch.erf,
    }.items():  # fmt: skip
        np.testing.assert_allclose(helper(name)(x), reference(t).numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
        assert helper(name)(x.astype(np.float32)).dtype == np.float32, name
    for name, reference in {"softmax": torch.softmax, "log_softmax": torch.log_softmax, "logsumexp": torch.logsumexp}.items():
        np.testing.assert_allclose(helper(name)(x, 1), reference(t, 1).numpy(), rtol=1e-12, atol=1e-12, err_msg=name)
    windows = helper("windows")(x, 1, 2, 2, 3)
    np.testing.assert_array_equal(windows, np.stack([x[:, k * 3 : k * 3 + 4 : 2] for k in range(2)], -1))
    np.testing.assert_array_equal(
        helper("windows")(x.swapaxes(1, 2), -1, 2, 2, 3), np.stack([x.swapaxes(1, 2)[..., k * 3 : k * 3 + 4 : 2] for k in range(2)], -1)
    )
    np.testing.assert_array_equal(helper("pad")(x, 1, 2, 1, 4), np.pad(x, ((0, 0), (2, 1), (0, 0)), constant_values=4))
    empty = np.full((2, 3), -np.inf)
    assert not helper("softmax")(empty, -1).any()


LENGTHS = """
component shorten(factor, outer, inner)(x: [b, t, d]) -> [b, t, d]:
    before = outer
    middle = inner
    x = before(x)
    pieces = unflatten(x, t = [s: t / factor, w: factor])
    long = pieces + middle(mean(pieces, w))
    return flatten(long, [s, w], t)

model m(d_model = 8, length = 12)(x: [b, length, d_model]) -> (y):
    body = shorten(3, multi_head(heads = 2, mask = causal), multi_head(heads = 2, mask = causal))
    return body(x)
"""


def test_one_function_serves_several_lengths(tmp_path: Path) -> None:
    """A mask over a static axis: its size is an argument, since another use has another."""
    path = tmp_path / "lengths.xf"
    path.write_text(LENGTHS)
    program = elaborate_file(str(path), [], Diagnostics())
    assert program is not None and verify(program).ok
    assert emit(pipeline.run(program)).count("np.arange(t)") == 2
