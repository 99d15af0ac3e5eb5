"""A short seeded run of the fuzzer, and what no spec may do: become code, leave its folders, wait for ever.

`python -m tests.fuzz.run --minutes 60` goes on for longer."""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from xfc.backends import numpy as numpy_backend
from xfc.backends import torch as torch_backend
from xfc.backends.python.name_attributes import TAKEN
from xfc.compiler import library
from xfc.compiler.commands.check_program import check_program
from xfc.compiler.diagnostics import Diagnostics, SpecError
from xfc.compiler.pipeline import run as run_passes
from xfc.grammar.print_expression import text_of
from xfc.grammar.tree import Source, Span, String

from ..random.agree import check_spec
from .texts import KINDS
from .try_text import Fault, try_text


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_too_much(kind: str, tmp_path: Path) -> None:
    for seed in range(8 if kind == "nested" else 25):
        try_text(*KINDS[kind](Random(seed)), tmp_path, seconds=10)  # the machine may be busy; the long run allows one second


def test_a_fault_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xfc.compiler import elaborate

    text = b"model a(n = 3)(x: [b, n]) -> [b, n]:\n    return x\n"
    assert try_text(".xf", text, tmp_path, seconds=10)

    def broken(*_: object) -> None:
        raise IndexError("nothing there")

    monkeypatch.setattr(elaborate, "check_unused", broken)
    with pytest.raises(Fault, match="IndexError"):
        try_text(".xf", text, tmp_path, seconds=10)


# ---------------------------------------------------------------- strings

EVIL = [
    '"""\nimport os; os.abort()\n"""',
    "'''; import os #",
    'a " b \' c \\ d \\" e',
    "ends with a backslash \\",
    'ends with a quote "',
    '""""',
    "two\nlines\tand\ra\x0bbit",
    "{{ 1 / 0 }} {% raise %} {0} {x!r} %s %(x)s ${x}",
    "\\N{BULLET} \\u0041 \\x41 \\n",
    "\u202e right to left \u2028 \u2029 \x85 \ufeff",
    "# type: ignore",
    "\N{PILE OF POO}" * 3,
    "x" * 500,
]
DOCUMENTED = """
component scaled(gain)(x: [..., d]) -> [..., d]:
    STRING
    weight = param([d], init = ones)
    return x * gain * weight

model small(width = 6)(x: [b, t, width]) -> (out: [b, t, width]):
    STRING
    assume causal: STRING
    first = scaled(0.5)
    other = scaled(0.25)
    return other(first(x))

checkpoint huggingface for small:
    STRING = first.weight
    "plain" or STRINGB = other.weight
    ignore STRING
"""


def program_of(path: Path):  # type: ignore[no-untyped-def]
    diagnostics = Diagnostics()
    checked = check_program(str(path), (), diagnostics)
    return (None if checked is None else run_passes(checked.program)), diagnostics


def quoted(text: str) -> str:
    span = Span(Source("", ""), 0, 0)
    return text_of(String(span=span, value=text))


def skeleton(code: str) -> str:
    """The module's structure, whatever its strings say."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_strings_stay_strings(evil: str, tmp_path: Path) -> None:
    made = []
    for text in ("harmless words", evil):
        path = tmp_path / "small.xf"
        path.write_text(DOCUMENTED.replace("STRINGB", quoted(text + "b")).replace("STRING", quoted(text)), encoding="utf-8")
        program, diagnostics = program_of(path)
        if any(d.code == "E015" for d in diagnostics.found):  # a character that no string may hold
            return
        if program is None:  # a published name that says more than a name is refused
            assert text == evil and all(d.code.startswith("E5") for d in diagnostics.found), diagnostics.found
            path.write_text(path.read_text(encoding="utf-8").partition("checkpoint")[0], encoding="utf-8")
            program, diagnostics = program_of(path)
            (tmp_path / "plain.xf").write_text(DOCUMENTED.replace("STRING", '"harmless"').partition("checkpoint")[0], encoding="utf-8")
            plain, _ = program_of(tmp_path / "plain.xf")
            made = [[torch_backend.emit(plain), numpy_backend.emit(plain)]]
        assert program is not None, diagnostics.found
        made.append([torch_backend.emit(program), numpy_backend.emit(program)])
    for plain, other in zip(*made, strict=True):
        assert skeleton(plain) == skeleton(other)


# ---------------------------------------------------------------- names

NAMED = """
component NAME(NUMBER)(x: [..., d]) -> [..., d]:
    WEIGHT = param([d], init = ones)
    LOCAL = x * NUMBER
    return LOCAL * WEIGHT

component block(NUMBER)(x: [b, t, d]) -> [b, t, d]:
    CHILD = NAME(NUMBER)
    return x + CHILD(x)

model small(WIDTH = 6)(INPUT: [b, AXIS, WIDTH]) -> (OUTPUT: [b, AXIS, WIDTH]):
    layers = 2 of block(NUMBER = 0.5)
    return layers(tanh(INPUT))
"""
PLAIN = {n: n.lower() + "_" for n in ("NAME", "NUMBER", "WEIGHT", "LOCAL", "CHILD", "WIDTH", "INPUT", "OUTPUT", "AXIS")}
OURS = ["torch", "nn", "F", "np", "math", "Tensor", "Config", "Model", "config", "forward", "params", "self", "cls", "super", "Path", "layer", "part", "load",
        "cache", "state_dict", "parameters", "train", "T", "B", "i", "x", "__init__", "__class__", "_", "__", "device", "dtype", "init_weights", "Output", "json"]  # fmt: skip
WORDS = sorted({*keyword.kwlist, *keyword.softkwlist, *OURS, *(n for n in dir(builtins) if n[0].islower())})


def with_name(place: str, word: str) -> str:
    text = NAMED
    for name, plain in PLAIN.items():
        text = text.replace(name, word if name == place else plain)
    return text


@pytest.mark.parametrize("place", PLAIN)
def test_names_of_python_and_of_the_modules_are_harmless(place: str, tmp_path: Path) -> None:
    """A few words at each place, others at other places; all of them in the slow test."""
    random = Random(place)
    _try_names(place, [*random.sample(sorted(keyword.kwlist), 2), *random.sample(OURS, 3)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLAIN)
def test_every_name_is_harmless(place: str, tmp_path: Path) -> None:
    _try_names(place, WORDS, tmp_path)


def _try_names(place: str, words: list[str], tmp_path: Path) -> None:
    for word in words:
        path = tmp_path / "small.xf"
        path.write_text(with_name(place, word), encoding="utf-8")
        diagnostics = Diagnostics()
        if check_program(str(path), (), diagnostics) is None:  # a word of the language, or one that is no name there
            assert all(d.code != "E999" for d in diagnostics.found)
            continue
        try:
            check_spec(path.read_text(encoding="utf-8"), tmp_path, 3)
        except SpecError as refused:  # by a backend, at its line: torch's modules have something of that name
            assert refused.diagnostics[0].code == "E601"
        except Exception as error:
            raise AssertionError(f"`{word}` for {place}: {type(error).__name__}: {error}") from error


def test_what_torch_has_is_known() -> None:
    import torch

    public = {n for n in dir(torch.nn.Module) if not n.startswith("_")} | {"training"}
    assert public <= TAKEN


# ---------------------------------------------------------------- files

IMPORTING = 'import "{}"\n\nmodel a(d = 8)(x: [b, t, d]) -> (y: [b, t, d]):\n    return two(x)\n'


def codes(path: Path) -> list[str]:
    diagnostics = Diagnostics()
    check_program(str(path), (), diagnostics)
    return [d.code for d in diagnostics.found]


def test_imports_stay_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    (inside / "below").mkdir()
    outside.mkdir()
    for folder in (inside, inside / "below", outside):
        (folder / "other.xf").write_text("fn two(x) = x * 2\n")
    (inside / "link.xf").symlink_to(outside / "other.xf")
    (inside / "loop.xf").symlink_to(inside / "loop.xf")
    (inside / "linked").symlink_to(outside)
    spec = inside / "spec.xf"

    def found(target: str) -> list[str]:
        spec.write_text(IMPORTING.format(target))
        return codes(spec)

    assert found("other.xf") == found("below/other.xf") == found("below/../other.xf") == []
    for target in (
        "../outside/other.xf",
        str(outside / "other.xf"),
        "link.xf",
        "linked/other.xf",
        "/etc/passwd",
        "../../../../etc/passwd",
        "loop.xf",
    ):
        assert found(target)[0] in ("E309", "E301", "E001"), target
    for target in ("../outside/other.xf", "link.xf", "linked/other.xf"):
        assert found(target)[0] == "E309"
    monkeypatch.setattr(library, "IMPORT_ROOTS", [outside])
    assert found("../outside/other.xf") == found("link.xf") == []
    monkeypatch.setattr(library, "IMPORT_ROOTS", [])
    monkeypatch.chdir(tmp_path)  # where one works, folders side by side may be read
    assert found("../outside/other.xf") == []


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xf")
    (tmp_path / "device.xf").symlink_to("/dev/zero")
    (tmp_path / "huge.xf").write_bytes(b"#" * 17_000_000)
    for name in ("pipe.xf", "device.xf", "huge.xf"):
        spec = tmp_path / "spec.xf"
        spec.write_text(IMPORTING.format(name))
        for path in (tmp_path / name, spec):
            done = subprocess.run(
                [sys.executable, "-m", "xfc.compiler.command_line", "check", str(path)], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 1 and "Traceback" not in done.stderr and "error[E" in done.stdout + done.stderr


def test_a_ring_and_a_chain_of_imports_end(tmp_path: Path) -> None:
    count = 200
    for k in range(count):
        (tmp_path / f"f{k}.xf").write_text(f'import "f{(k + 1) % count}.xf"\n\nfn g{k}(x) = x + {k}\n')
    spec = tmp_path / "spec.xf"
    spec.write_text(IMPORTING.format("f0.xf").replace("two(x)", f"g{count - 1}(x)"))
    assert codes(spec) in ([], ["E901"])
