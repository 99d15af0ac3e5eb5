"""Every argument that a shipped spec gives is live: another value changes parameters, code or outputs, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from xfc.compiler.change_fields import change_fields
from xfc.compiler.command_line import xfc as command
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.library import shipped_models

LAST = {path: name for name, path in shipped_models().items()}


@pytest.mark.parametrize("name", sorted(LAST.values()))
def test_every_argument_is_live(name: str) -> None:
    diagnostics = Diagnostics()
    found = change_fields(name, [], diagnostics)
    assert found, diagnostics.found
    assert not [str(f) for f in found if f.effect == "inert"]


SPEC = """
component scaled(gain, shown)(x: [..., d]) -> [..., d]:
    return x * gain if shown else x + gain

model small(width = 6, classes = 3)(x: [b, t, width]) -> (logits: [b, t, classes]):
    scaled = scaled(gain = GAIN, shown = true)
    head = linear(classes)
    return head(scaled(x))
"""


def test_what_a_change_does_is_told(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(SPEC.replace("GAIN", "0.5"))
    diagnostics = Diagnostics()
    found = change_fields(str(path), [], diagnostics)
    assert found is not None, diagnostics.found
    effects = {f.path.rpartition(".")[2]: f.effect for f in found}
    assert effects == {"width": "parameters", "classes": "parameters", "gain": "outputs", "shown": "code"}
    assert "line 5" in str(found[0]) and "6 -> 12" in str(found[0])


def test_what_changes_nothing_is_found(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(SPEC.replace("GAIN", "1.0 if 2 > 1 else 3.0"))
    found = change_fields(str(path), [], Diagnostics())
    assert found is not None
    assert [f.was for f in found if f.effect == "inert"] == ["3.0"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(shipped_models()) - set(LAST.values())))
def test_every_argument_of_the_other_models_is_live(name: str) -> None:
    test_every_argument_is_live(name)


YAML = """
model: small
extends: llama3_2_1b
d_model: 96
decoder:
  layers: 2
  attention: {heads: 6, kv_heads: 2}
  ffn:
    type: gated
    hidden: 4 * d_model
    act: silu
"""


def test_arguments_in_yaml_are_live_too(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(YAML)
    diagnostics = Diagnostics()
    found = change_fields(str(path), [], diagnostics)
    assert found is not None, diagnostics.found
    effects = {f.path: (f.effect, f.span.line_column()[0]) for f in found if f.span.source.path == str(path)}
    assert effects == {
        "d_model": ("parameters", 4),
        "decoder.layers": ("parameters", 6),
        "decoder.attention.heads": ("parameters", 7),
        "decoder.attention.kv_heads": ("parameters", 7),
        "decoder.ffn.hidden": ("parameters", 10),
    }
    assert not [f for f in found if f.effect == "inert"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("d_model: 96", "d_modle: 96"),
        ("layers: 2", "layers: 2\n  depth: 2"),
        ("heads: 6,", "heads: 6, head_width: 16,"),
        ("    act: silu", "    act: silu\n    gate: true"),
        ("    act: silu", "    act: silu\n    note:\n      written: by hand"),
        ("extends: llama3_2_1b", "extends: llama3_2_1b\nversion: 3"),
    ],
)
def test_a_field_that_nothing_reads_is_refused_in_both_surfaces(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(YAML.replace(old, new))
    diagnostics = Diagnostics()
    assert elaborate_file(str(path), [], diagnostics) is None or diagnostics.failed
    (first,) = [d for d in diagnostics.found if d.severity == "error"][:1]
    word = new.replace(old, "").replace(":", " ").replace("{", " ").split()
    assert first.span is not None and first.span.source.path == str(path), first
    assert any(w in first.message for w in word), first
    written = tmp_path / "small.xf"
    done = CliRunner().invoke(command, ["convert", str(path), "--to", "xf", "-o", str(written)])
    if done.exit_code == 0:  # what is not even a tree is refused there
        again = Diagnostics()
        assert elaborate_file(str(written), [], again) is None or again.failed
        assert {d.code for d in again.found} == {d.code for d in diagnostics.found}


SPARE = """
component narrow(hidden)(x: [..., d]) -> [..., d]:
    let half = hidden // 2                     # nothing reads it, nor the argument
    inner = linear(d)
    return inner(x)

model small = causal_lm:
    vocab = 11
    d_model = 8
    let spare = 5
    decoder:
        layers = 2
        attention = multi_head(heads = 2)
        ffn = narrow(hidden = 8)
"""


def test_local_names_that_reach_nothing_are_inert(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(SPARE)
    done = CliRunner().invoke(command, ["verify", "--fields", str(path), "--format", "concise"])
    assert done.exit_code == 1
    assert "small.xf:10:17: E702 `spare` is inert" in done.output and "`decoder.ffn.hidden` is inert" in done.output
    written = CliRunner().invoke(command, ["convert", str(path), "--to", "yaml", "-o", str(tmp_path / "small.yaml")])
    assert written.exit_code == 0, written.output
    done = CliRunner().invoke(command, ["verify", "--fields", str(tmp_path / "small.yaml"), "--format", "concise"])
    assert done.exit_code == 1 and "`spare` is inert" in done.output and "`decoder.ffn.hidden` is inert" in done.output
