"""The library is open: a std file that a model does not use is not needed to compile it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xfc.compiler import ir, library
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.find_model import find_model

SPECS = library.SPECS


def one_of_each_file() -> list[str]:
    return sorted({path: model for model, path in sorted(library.shipped_models().items(), reverse=True)}.values())


def used(model: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The library files that compiling a model reads."""
    seen: list[library.Library] = []
    original = library.Library.__init__

    def note(self: library.Library, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        seen.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(library.Library, "__init__", note)
        elaborate_file(model, [], Diagnostics())
    return {p.name for lib in seen for p in lib._loaded}


@pytest.mark.parametrize("model", one_of_each_file())
def test_without(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a model does not read are not needed: it elaborates with the rest of std gone."""
    need = used(model, monkeypatch)
    shutil.copytree(SPECS, tmp_path / "specs")
    for path in (tmp_path / "specs" / "std").glob("*.xf"):
        if path.name not in need:
            path.unlink()
    monkeypatch.setattr(library, "SPECS", tmp_path / "specs")
    library.shipped.cache_clear()
    try:
        diagnostics = Diagnostics()
        assert elaborate_file(model, [], diagnostics) is not None, (model, diagnostics.found)
    finally:
        library.shipped.cache_clear()


def test_every_shipped_spec_has_a_model() -> None:
    for model in library.shipped_models():
        diagnostics = Diagnostics()
        assert find_model(model, [], diagnostics) is not None, diagnostics.found


def modules_of(spec: Path) -> dict[str, ir.Module]:
    """What the model of a spec is made of, by name."""
    diagnostics = Diagnostics()
    program = elaborate_file(str(spec), [], diagnostics)
    assert program is not None, diagnostics.found
    return dict(ir.children_of(program.root))


def test_a_spec_does_not_change_what_the_library_is_made_of(tmp_path: Path) -> None:
    """A name means what it means in the file where it stands: the spec's own `linear` is not the one in the library's `gated`."""
    spec = tmp_path / "m.xf"
    spec.write_text(
        "component linear(out)(x: [..., d]) -> [..., out]:\n    scale = param([out, d])\n    return einsum(x, scale, over = d)\n\n"
        "model m(d = 8)(x: [b, t, d]) -> (y: [b, t, d]):\n    mine = linear(8)\n    inner = gated(hidden = 16)\n    return inner(mine(x))\n"
    )
    modules = modules_of(spec)
    assert [p.name for p in modules["mine"].params] == ["scale"]
    assert all([p.name for p in module.params] == ["weight"] for _, module in ir.children_of(modules["inner"]))


def test_nor_by_the_name_of_an_operation(tmp_path: Path) -> None:
    """`plain` takes the operation `gelu` where nothing else is said, whatever a spec calls so."""
    spec = tmp_path / "m.xf"
    spec.write_text(
        "component gelu(x: [b, t, d]) -> [b, t, d]:\n    scale = param([d])\n    return x * scale\n\n"
        "model m(d = 8)(x: [b, t, d]) -> (y: [b, t, d]):\n    mine = gelu\n    inner = plain(hidden = 16)\n    return inner(mine(x))\n"
    )
    modules = modules_of(spec)
    assert [p.name for p in modules["mine"].params] == ["scale"]
    assert {name for name, _ in ir.children_of(modules["inner"])} == {"up_proj", "down_proj"}
