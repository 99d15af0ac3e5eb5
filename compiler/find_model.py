"""Which model a user means: a file or a shipped name, with what it extends and `--set` merged in."""

from __future__ import annotations

import os
from pathlib import Path

from ..grammar import tree
from .diagnostics import Diagnostics
from .library import SPECS, Library, shipped_models, suggest
from .model_tree import flatten


def find_model(path_or_name: str, sets: list[str], diagnostics: Diagnostics) -> tuple[tree.Model, Library] | None:
    """The model a user means, with its `extends` and `--set` merged in."""
    library = Library(diagnostics)
    if path_or_name not in shipped_models():
        diagnostics.shipped = str(SPECS)
    path = Path(path_or_name)
    if not path.suffix and path_or_name in shipped_models():
        model = library.model(path_or_name)
    else:
        if not path.suffix and not os.path.exists(path):
            diagnostics.error(
                "E306",
                f"there is no file or shipped spec `{path_or_name}`",
                None,
                help=suggest(path_or_name, shipped_models()) or "`xfc list` shows the shipped specs",
            )
            return None
        file = library.load(path)
        models = [d for d in file.declarations if isinstance(d, tree.Model)] if file else []
        if file is not None and not models and not diagnostics.failed:
            diagnostics.error("E307", f"{path_or_name} declares no model", None, help="add `model name = component:`")
            from . import builtins
            from .check_names import check_names

            check_names(file, library, builtins.table(), diagnostics)
        model = models[-1] if models else None
    if model is None:
        return None
    arguments = parse_sets(sets, diagnostics)
    if diagnostics.failed:
        return None
    flat = flatten(model, library, arguments, diagnostics)
    return (flat, library) if flat is not None and not diagnostics.failed else None


def parse_sets(sets: list[str], diagnostics: Diagnostics) -> list[tree.Argument]:
    """`--set path=value` as arguments."""
    from ..grammar.parse import parse_expression
    from .problems import report

    found: list[tree.Argument] = []
    for text in sets:
        path, sign, value = text.partition("=")
        source = tree.Source(f"--set {text}", text)
        span = tree.Span(source, 0, len(path))
        if not sign or not path.strip():
            diagnostics.error("E308", f"`--set {text}` is not `path=value`", span)
            continue
        node, problems = parse_expression(source, len(path) + 1, value)
        report(problems, diagnostics)
        if node is not None:
            found.append(tree.Argument(span=span, name=path.strip(), name_span=span, value=node))
    return found
