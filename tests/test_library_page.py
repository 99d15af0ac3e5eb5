"""docs/library.md lists what specs/std declares, from the files themselves. `python tests/test_library_page.py` writes it anew."""

from __future__ import annotations

from pathlib import Path

from xfc.compiler.library import SPECS
from xfc.grammar import tree
from xfc.grammar.load import load

PAGE = Path(__file__).parent.parent / "docs" / "library.md"
HEAD = """# The component library

What [specs/std](../specs/std) declares, a section for each file; always visible, no import needed. All of it is written in the language (`xfc info` and the
files themselves show the bodies), and may be replaced by a component of your own. First the hyperparameters, given where a component is named
(`linear(64, bias = true)`), then its inputs and results. This page is written by `python tests/test_library_page.py`.
"""


def page() -> str:
    """The page as the files say it."""
    return HEAD + "".join(section(path) for path in sorted((SPECS / "std").glob("*.xf")))


def section(path: Path) -> str:
    file, problems = load(path)
    assert file is not None and not problems, path
    text = path.read_text(encoding="utf-8")
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    name = path.stem.replace("_", " ").capitalize()
    lines = [
        f"\n## [{name}](../specs/std/{path.name})",
        "",
        " ".join(comment),
        "",
        "| name | inputs and results | |",
        "| --- | --- | --- |",
    ]
    for declared in file.declarations:
        if isinstance(declared, tree.Component):
            lines.append(f"| `{call(declared)}` | `{signature(declared)}` | {about(declared, text)} |")
    return "\n".join(lines) + "\n"


def words(node: tree.Node) -> str:
    """A node as the file has it, on one line."""
    return " ".join(node.span.source.text[node.span.start : node.span.end].split()).replace("|", "\\|")


def call(component: tree.Component) -> str:
    given = [p.name.id if p.default is None else f"{p.name.id} = {words(p.default)}" for p in component.parameters]
    return f"{component.name.id}({', '.join(given)})" if given else component.name.id


def signature(component: tree.Component) -> str:
    inputs = f"({', '.join(words(i) for i in component.inputs)})"
    results = [": ".join(x for x in (o.name.id if o.name else "", words(o.axes) if o.axes else "") if x) for o in component.outputs]
    kind = "" if component.kind == "component" else f"{component.kind} "
    if not results:
        return f"{kind}{inputs}"
    alone = len(component.outputs) == 1 and not (component.outputs[0].name and component.outputs[0].axes)
    return f"{kind}{inputs} -> {results[0] if alone else '(' + ', '.join(results) + ')'}"


def about(component: tree.Component, text: str) -> str:
    """Its docstring; else the comment at its first line, or above it."""
    start = text.rfind("\n", 0, component.name.span.start) + 1
    first = text[start : text.find("\n", start)]
    above = text[:start].rstrip("\n").rsplit("\n", 1)[-1] if not text[:start].endswith("\n\n") else ""
    comment = first.partition(" # ")[2] or (above[2:] if above.startswith("# ") else "")
    return (component.paper or comment).strip().replace("|", "\\|")


def test_the_page_of_the_library_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python tests/test_library_page.py`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
