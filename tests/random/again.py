"""The same spec compiled another way: under names that the written files have for something of their own, and with attention by index."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.torch import flex
from xfc.backends.verify import difference
from xfc.backends.verify_modules import loaded
from xfc.compiler import ir
from xfc.compiler.diagnostics import SpecError

from .choices import Choices
from .executions import Disagreement, Executions, Grown, Refused
from .numbers import lengths
from .surface import write_spec
from .ties import watched

OWN = re.compile(r"^(?:component|fn|mask|score|weights) ([a-z]\w*)", re.MULTILINE)
LOCAL = re.compile(r"^ +(part\d+|(?:proj|gain|table|q|y|z|g|[qkvo]_proj)\d*) = ", re.MULTILINE)
FIXED = frozenset(["x", "b", "t", "d", "e", "s", "i", "j", "h", "m", "n", "training", "model", "component", "fn", "import"])
"""Names that specs at random have for axes and inputs, and words of the language."""


# ---------------------------------------------------------------- other names


def check_renamed(text: str, codes: tuple[str, str], folder: Path, seed: int) -> list[str]:
    """Components and instances take names that stand in the written files: nothing is taken for anything else."""
    from .agree import compiled, proved

    c = Choices.seeded(seed)
    changed = renamed(text, codes, c)
    if changed == text:
        return []
    folder.mkdir(exist_ok=True)
    path = folder / "spec.xf"
    write_spec(changed, path)
    try:
        program, flow = proved(path)
    except Refused as refused:  # a word of the language, or a name of the library
        return [f"renamed, {str(refused)[:4]}"]
    try:
        made = compiled(program, flow)
    except SpecError as refused:  # an input keeps its name, and the file needs that one
        if "of its own" not in str(refused):
            raise
        return ["renamed, an input"]
    with loaded(made.codes[0], "renamed_torch") as torch_module, loaded(made.codes[1], "renamed_numpy") as numpy_module:
        under = lengths(program, seed, {})
        params = interpreter.initial_params(program, seed, np.float64, under)
        run = Executions(program, made.emitted, torch_module, numpy_module, params, under, seed)
        last = list(run.sets.items())[-1]
        try:
            run.forward(*last)
        except Grown:
            return ["renamed, too large to compare"]
        except Exception:
            if not run.undecided():
                raise
    return ["renamed"]


def renamed(text: str, codes: tuple[str, str], c: Choices) -> str:
    """Each name of the spec's own becomes one of the files', where the text has none that is alike."""
    words = set(re.findall(r"\w+", text)) | FIXED
    offered = [sorted(names - words) for names in map(names_of, codes)]
    for pattern in (OWN, LOCAL):
        for name in dict.fromkeys(pattern.findall(text)):
            pool = c.pick(offered)
            if not pool:
                continue
            other = pool[c.below(len(pool))]
            text = re.sub(rf"(?<![\w\"]){name}\b", other, text)
            offered = [[n for n in names if n != other] for names in offered]
    return text


def names_of(code: str) -> set[str]:
    """What a file defines and imports, and what its functions call things."""
    found = set[str]()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name) | ast.arg(arg=name):
                found.add(name)
            case ast.alias(name=name, asname=asname):
                found.add(asname or name.partition(".")[0])
            case _:
                pass
    return {n for n in found if not n.startswith("_")}


# ---------------------------------------------------------------- plain numbers

NUMBER = r"(\d[\d.e-]*)"
PLAIN: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (rf"rsqrt\({NUMBER}\)", lambda m: repr(1 / math.sqrt(float(m[1])))),
    (rf"\(1\.0 / {NUMBER}\)", lambda m: repr(1 / float(m[1]))),
    (
        rf"\(2 \* {NUMBER} // 2\)|\({NUMBER} \+ 1 - 1\)|maximum\({NUMBER}, 1\)|\({NUMBER} if true else 7\)",
        lambda m: next(filter(None, m.groups())),
    ),
    (rf"smaller\d*\({NUMBER}\)", lambda m: m[1]),
    (r"\((\w+) \* \1 \^ 0\)", lambda m: m[1]),
    (r"\(([\w.]+) if \1 [=!]= [\w.]+ else 7\)", lambda m: m[1]),
)
"""Ways to say a number, and the number: by arithmetic that is not the compiler's."""


def check_plain(text: str, program: ir.Program, folder: Path, seed: int) -> list[str]:
    """With its numbers said plainly a spec computes the same."""
    from .agree import elaborated

    plain = text
    for pattern, number in PLAIN:
        plain = re.sub(pattern, number, plain)
    if plain == text or any(isinstance(n, ir.Dropout) for m in ir.walk(program.root) for n in m.body):
        return []
    folder.mkdir(exist_ok=True)
    path = folder / "spec.xf"
    write_spec(plain, path)
    other = elaborated(path)
    under = lengths(program, seed, {})
    params = interpreter.initial_params(program, seed, np.float64, under)
    rng = np.random.default_rng(seed)
    sizes = [tuple(int(a.size.value(under) or 0) for a in i.value.type.axes) for i in program.inputs if i.required]
    inputs = {
        i.name: rng.normal(size=s)
        if i.value.type.dtype == "float"
        else rng.integers(0, int(i.bound.value(under) or 1) if i.bound else 2, s)
        for i, s in zip((i for i in program.inputs if i.required), sizes, strict=True)
    }
    try:
        want, got = (interpreter.run(p, params, inputs) for p in (program, other))
    except interpreter.InterpreterError:  # the least of nothing
        return []
    near: list[str] = []
    for name, array in want.items():
        if not difference(got.get(name), array) <= 1e-7 and not near:
            with watched(near):
                interpreter.run(program, params, inputs)
            if not near:
                raise Disagreement(f"with plain numbers, {name}: {difference(got.get(name), array):.1e}")
    return ["plain numbers"]


# ---------------------------------------------------------------- attention by index


@contextmanager
def small_kernels() -> Iterator[None]:
    """Heads of any width go to the kernel that takes functions of indices; torch computes what it means."""
    from torch.nn.attention import flex_attention

    kept = flex.SMALLEST, flex_attention._validate_device, flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG
    flex.SMALLEST = 1
    flex_attention._validate_device = lambda *tensors: None
    flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True
    try:
        yield
    finally:
        flex.SMALLEST, flex_attention._validate_device, flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = kept


def check_by_index(run: Executions, emitted: ir.Program, code: str) -> list[str]:
    """The file with attention by index, as on a GPU, gives what the interpreter gives."""
    attends = (n for m in ir.walk(emitted.root) for n in m.body if isinstance(n, ir.Attend))
    if not any(n.mask is not None or n.score is not None for n in attends):
        return []
    with small_kernels():
        try:
            other = torch_backend.emit(emitted, flex=True)
        except SpecError:  # a cache that this backend cannot write
            return []
        if other == code:
            return []
        with loaded(other, "by_index") as module:
            forced(module)
            by_index = run.again(module)
            for name in run.sets:
                if name != "loss":
                    run.same(f"torch by index, {name}", by_index(run.given(run.sets[name])), run.wanted[name])
    return ["by index"]


def forced(module: ModuleType) -> None:
    """As on a GPU, not compiled."""
    if hasattr(module, "flex"):
        module.runs_flex = lambda x: True  # type: ignore[attr-defined]
        module.flex = getattr(module.flex, "_torchdynamo_orig_callable", module.flex)  # type: ignore[attr-defined]
