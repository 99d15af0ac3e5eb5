"""Every example of docs/language.md is checked, and the axes in its comments are those that the compiler infers; what docs/tutorial.md shows is
what the commands print. `python tests/test_language_doc.py` puts the real output into both.

A fenced block of .xf is a file with models, unless a comment before it says what it is:

    body        statements of a model with the inputs x: [b, t, d: 12] and ids: [b, t]
    use: lines  components, and the statements that use them
    same        a file whose first model is the one of the YAML before it
    wrong: E201 statements that are refused with this code
    config      a config map, which turns the JSON after it into the YAML after that
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from xfc.compiler import import_config, ir, library
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.print_ir import print_program
from xfc.compiler.verify_ir import verify

ROOT = Path(__file__).resolve().parent.parent
LANGUAGE, TUTORIAL = ROOT / "docs" / "language.md", ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_AXES = r"(?:(?:int|bool|float32|float) )?\[[^\]]*\]"
_TYPED = re.compile(rf"^\s*((?:\w+, )*\w+)(?:: \[[^\]]*\])? = .*# ({_AXES}(?:, {_AXES})*)(?::|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    line: int
    kind: str
    language: str
    text: str

    @property
    def word(self) -> str:
        return self.kind.partition(":")[0]

    @property
    def rest(self) -> str:
        return self.kind.partition(":")[2].strip()

    def __str__(self) -> str:
        return f"line {self.line}"


def blocks(text: str) -> list[Block]:
    return [Block(text.count("\n", 0, m.start(2)) + 1, m[1] or "", m[2], m[3]) for m in _BLOCK.finditer(text)]


BLOCKS = blocks(LANGUAGE.read_text(encoding="utf-8"))


def of(*kinds: tuple[str, str]) -> list[Block]:
    return [b for b in BLOCKS if (b.word, b.language) in kinds]


def compiled(path: Path) -> tuple[ir.Program | None, list[str]]:
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    if program is not None:
        verify(program)
    return program, [f"{d.code} {d.message}" for d in diagnostics.found]


def clean(path: Path) -> ir.Program:
    program, found = compiled(path)
    assert program is not None and not found, found
    return program


def model(statements: str, above: str = "") -> str:
    """A file with these statements as a model's body, returning every tensor whose axes a comment tells, or `y` and `z`."""
    typed = [name for match in _TYPED.finditer(statements) for name in match[1].split(", ") if name != "_"]
    results = list(dict.fromkeys(typed)) or [n for n in ("y", "z") if re.search(rf"^{n} = ", statements, re.MULTILINE)]
    inputs = [text for word, text in (("x", "x: [b, t, d]"), ("ids", "ids: [b, t] int in 11")) if re.search(rf"\b{word}\b", statements)]
    body = "".join(f"    {line}\n" if line else "\n" for line in [*statements.splitlines(), f"return {', '.join(results)}"])
    return f"{above}\nmodel example(d = 12)({', '.join(inputs)}) -> ({', '.join(results)}):\n{body}"


def shown(kind: ir.Type) -> str:
    return ("" if kind.dtype == "float" else f"{kind.dtype} ") + f"[{', '.join(label.name for label in kind.labels)}]"


def check_axes(text: str, program: ir.Program) -> None:
    """The axes that comments tell are those of some tensor of that name."""
    known: dict[str, set[str]] = {}
    for module in ir.walk(program.root):
        values = [v for n in module.body for v in n.outs]
        for value in (*values, *module.inputs, *(p.value for p in module.params)):
            known.setdefault(value.hint, set()).add(shown(value.type))
    for name, value in zip(program.root.output_names, program.root.outputs, strict=True):
        known.setdefault(name, set()).add(shown(value.type))
    for match in _TYPED.finditer(text):
        for name, told in zip(match[1].split(", "), re.findall(_AXES, match[2]), strict=True):
            assert name == "_" or told in known.get(name, set()), f"{name} is {known.get(name)}, not {told}"


# ---------------------------------------------------------------- the language


@pytest.mark.parametrize("block", of(("", "xf"), ("", "yaml"), ("same", "xf")), ids=str)
def test_file(block: Block, tmp_path: Path) -> None:
    path = tmp_path / f"block.{block.language}"
    path.write_text(block.text)
    check_axes(block.text, clean(path))
    for name in re.findall(r"^model (\w+)", block.text, re.MULTILINE):
        one = tmp_path / "one.xf"
        one.write_text(f'import "{path.name}"\n\nmodel one extends {name}\n')
        clean(one)


def test_both_surfaces_are_one_tree(tmp_path: Path) -> None:
    (yaml,), (xf,) = of(("", "yaml")), of(("same", "xf"))
    (tmp_path / "a.yaml").write_text(yaml.text)
    (tmp_path / "b.xf").write_text(xf.text)
    for name in ("a.yaml", "b.xf"):
        (tmp_path / f"{name}.xf").write_text(f'import "{name}"\n\nmodel one extends small_llama\n')
    one, two = (print_program(clean(tmp_path / f"{name}.xf")) for name in ("a.yaml", "b.xf"))
    assert one == two


@pytest.mark.parametrize("block", of(("body", "xf"), ("use", "xf")), ids=str)
def test_part(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "block.xf"
    path.write_text(model(block.text) if block.word == "body" else model(block.rest.replace(" ; ", "\n"), block.text))
    check_axes(block.text, clean(path))


@pytest.mark.parametrize("block", of(("wrong", "xf")), ids=str)
def test_wrong(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "block.xf"
    path.write_text(model(re.sub("^z = .*", "", block.text, flags=re.MULTILINE)).replace("    return", _last(block) + "    return"))
    assert [found.split()[0] for found in compiled(path)[1]] == [block.rest]


def _last(block: Block) -> str:
    """A line for `z`, which nothing returns."""
    return "".join(f"    {line}\n" for line in block.text.splitlines() if line.startswith("z = "))


def test_nothing_is_left_out() -> None:
    known = {(w, lang) for w in ("", "body", "use", "same", "wrong", "config", "imported") for lang in ("xf", "yaml", "json")}
    assert [str(b) for b in BLOCKS if (b.word, b.language) not in known] == []
    assert len(of(("body", "xf"), ("use", "xf"))) > 9


def test_every_operation_is_told() -> None:
    from xfc.compiler.call_arguments import SIGNATURES

    text = LANGUAGE.read_text(encoding="utf-8")
    assert [name for name in SIGNATURES if not re.search(rf"`[^`]*\b{name}\b[^`]*`", text)] == []


def test_every_code_is_in_a_range_of_the_table() -> None:
    from xfc.compiler.codes import TITLES

    text = LANGUAGE.read_text(encoding="utf-8")
    ranges = [(int(a), int(b)) for a, b in re.findall(r"E(\d{3})-E(\d{3})", text)]
    ranges += [(int(a), int(a)) for row in re.findall(r"^\| (E.*?) \|", text, re.MULTILINE) for a in re.findall(r"E(\d{3})", row)]
    assert [code for code in TITLES if not any(low <= int(code[1:]) <= high for low, high in ranges)] == []


@contextmanager
def library_with(text: str, folder: Path) -> Iterator[None]:
    """The shipped specs and one more."""
    shutil.copytree(library.SPECS, folder / "specs")
    (folder / "specs" / "added.xf").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "SPECS", folder / "specs")
        patch.setattr(import_config, "SPECS", folder / "specs")
        library.shipped.cache_clear()
        yield
    library.shipped.cache_clear()


def imported(text: str, folder: Path) -> str:
    found = blocks(text)
    at = next(k for k, b in enumerate(found) if b.word == "config")
    (folder / "config.json").write_text(next(b.text for b in found[at:] if b.language == "json"))
    with library_with(found[at - 1].text + "\n" + found[at].text, folder):
        diagnostics = Diagnostics()
        made = import_config.import_config(str(folder / "config.json"), diagnostics)
        assert not diagnostics.found, diagnostics.found
        (folder / "made.yaml").write_text(made)
        clean(folder / "made.yaml")
    return made


def test_import(tmp_path: Path) -> None:
    (block,) = of(("imported", "yaml"))
    assert imported(LANGUAGE.read_text(encoding="utf-8"), tmp_path) == block.text


# ---------------------------------------------------------------- the tutorial

XFC = Path(sys.executable).with_name("xfc")
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^```(?:xf|python)\n# (\S+)\n.*?^```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"^<!-- class (\w+) of (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def retold(text: str, folder: Path) -> str:
    """The tutorial with the output of its commands, and the classes that they write, as they are."""
    parts: list[str] = []
    end = 0
    for match in re.finditer(r"(?:^<!-- [^\n]* -->\n)?^```\w+\n.*?^```$", text, re.MULTILINE | re.DOTALL):
        parts += [text[end : match.start()], _retold(match[0], folder)]
        end = match.end()
    return "".join([*parts, text[end:]])


def _retold(block: str, folder: Path) -> str:
    if named := _NAMED.fullmatch(block):
        (folder / named[1]).write_text(block.split("\n", 1)[1].rsplit("\n", 1)[0] + "\n", encoding="utf-8")
    if shown := _SHOWN.fullmatch(block):
        text = (folder / shown[2]).read_text(encoding="utf-8")
        found = re.search(rf"^class {shown[1]}\(.*?(?=\n\n\n)", text, re.MULTILINE | re.DOTALL)
        assert found is not None, shown[1]
        return block.split("\n", 1)[0] + f"\n```python\n{found[0]}\n```"
    if console := _CONSOLE.fullmatch(block):
        commands = [line[2:] for line in console[1].splitlines() if line.startswith("$ ")]
        new = "```console\n" + "".join(f"$ {command}\n{_run(command, folder)}" for command in commands) + "```"
        return block if _steady(new) == _steady(block) else new
    return block


def _steady(text: str) -> str:
    """Without the rounding errors, which differ from machine to machine."""
    return re.sub(r"\d\.\de[-+]\d\d|worst at .*", "", text)


def _run(command: str, folder: Path) -> str:
    word, *rest = command.split()
    program = {"xfc": [str(XFC)], "python": [sys.executable]}[word]
    done = subprocess.run([*program, *rest], capture_output=True, text=True, cwd=folder)
    return done.stdout + done.stderr


def test_the_tutorial_is_true(tmp_path: Path) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    assert retold(text, tmp_path) == text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        TUTORIAL.write_text(retold(TUTORIAL.read_text(encoding="utf-8"), Path(name)), encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        page = LANGUAGE.read_text(encoding="utf-8")
        new = "<!-- imported -->\n```yaml\n" + imported(page, Path(name)) + "```"
        LANGUAGE.write_text(re.sub(r"<!-- imported -->\n```yaml\n.*?```", lambda _: new, page, flags=re.DOTALL), encoding="utf-8")
