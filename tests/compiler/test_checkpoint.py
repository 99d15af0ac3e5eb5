"""Checkpoint maps: rows as data, what `check` proves of them, and the arithmetic of a row against a plain reading of its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfc.compiler.checkpoint import own_tensors
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import CheckpointRow, Program

MODEL = """
component block(heads, hidden)(x: [b, t, d]) -> [b, t, d]:
    q = linear([heads, head_dim: d / heads])
    k = linear([heads, head_dim: d / heads])
    up = linear(hidden, bias = true)
    down = linear(d)
    a = einsum(q(x), k(x), over = head_dim)
    return down(up(x)) * mean(a, heads)

component tiny(layers, heads, hidden)(x: [b, t, d]) -> [b, t, d]:
    layers = layers of block(heads, hidden)
    return layers(x)

model m = causal_lm:
    vocab = 11
    d_model = 6
    decoder = tiny(layers = 3, heads = 2, hidden = 5)
"""
ROWS = """
    "emb" = embed.weight
    "l.{i}.qk" = concat(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight)
    "l.{i}.up.w" = transpose(decoder.layers.{i}.up.weight)
    "l.{i}.up.b" or "l.{i}.up.bias" = decoder.layers.{i}.up.bias
    "l.{i}.down" = decoder.layers.{i}.down.weight
    "head" = head.weight
"""


def program(tmp_path: Path, rows: str, model: str = MODEL, name: str = "m") -> tuple[Program | None, Diagnostics]:
    path = tmp_path / "spec.xf"
    path.write_text(f"{model}\ncheckpoint huggingface for {name}:\n{rows}", encoding="utf-8")
    diagnostics = Diagnostics()
    return elaborate_file(str(path), [], diagnostics), diagnostics


def row(found: Program | None, published: str) -> CheckpointRow:
    assert found is not None
    return next(r for r in found.checkpoint if published in r.published)


def test_rows_are_data(tmp_path: Path) -> None:
    found, diagnostics = program(tmp_path, ROWS)
    assert not diagnostics.found
    joined = row(found, "l.{i}.qk")
    assert joined.own == ("decoder.layers.{i}.q.weight", "decoder.layers.{i}.k.weight")
    assert (joined.groups.value(), joined.transposed, joined.each) == (1, False, None)
    assert row(found, "l.{i}.up.w").transposed
    assert row(found, "l.{i}.up.bias").published == ("l.{i}.up.b", "l.{i}.up.bias")


def test_interleave_groups_by_the_axes_up_to_its_label(tmp_path: Path) -> None:
    found, _ = program(tmp_path, ROWS.replace("concat(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight)",
                                              "interleave(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight, by = heads)"))  # fmt: skip
    assert row(found, "l.{i}.qk").groups.value() == 2


def test_concat_of_transposed_is_transposed_concat(tmp_path: Path) -> None:
    rows = ROWS.replace("concat(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight)",
                        "concat(transpose(decoder.layers.{i}.q.weight), transpose(decoder.layers.{i}.k.weight), axis = 1)")  # fmt: skip
    found, _ = program(tmp_path, rows)
    joined = row(found, "l.{i}.qk")
    assert (joined.groups.value(), joined.transposed) == (1, True)


def test_optional_part_of_a_name_gives_both_spellings(tmp_path: Path) -> None:
    found, _ = program(tmp_path, ROWS.replace('"emb"', '"[model.]emb"'))
    assert row(found, "emb").published == ("model.emb", "emb")


def test_row_may_name_one_layer(tmp_path: Path) -> None:
    rows = ROWS.replace(
        '"l.{i}.down" = decoder.layers.{i}.down.weight', "\n    ".join(f'"down{k}" = decoder.layers.{k}.down.weight' for k in range(3))
    )
    found, diagnostics = program(tmp_path, rows)
    assert not diagnostics.found
    assert row(found, "down2").own == ("decoder.layers.2.down.weight",)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"emb" = embed.weight', "", "E503"),
        ('"emb" = embed.weight', '"emb" = embed.wieght', "E503"),
        ('"head" = head.weight', '"head" = head.weight\n    "tail" = head.weight', "E504"),
        ("transpose(decoder.layers.{i}.up.weight)", "transposed(decoder.layers.{i}.up.weight)", "E501"),
        ("decoder.layers.{i}.up.bias", "transpose(decoder.layers.{i}.up.bias)", "E505"),
        ("decoder.layers.{i}.k.weight)", "decoder.layers.{i}.kk.weight)", "E502"),
        ("decoder.layers.{i}.k.weight)", "decoder.layers.{i}.k.weight, axis = 2)", "E501"),
        ('"l.{i}.down"', '"l.{j}.down"', "E506"),
        ('"l.{i}.down"', '"l.down"', "E506"),
        ("decoder.layers.{i}.down.weight", "decoder.layers.{i}.down.weight[{i}]", "E505"),
        ("concat(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight)",
         "interleave(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight, by = hidden)", "E505"),
        ("concat(decoder.layers.{i}.q.weight, decoder.layers.{i}.k.weight)",
         "interleave(decoder.layers.{i}.q.weight, decoder.layers.{i}.up.weight, by = heads)", "E505"),
    ],
)  # fmt: skip
def test_wrong_rows_are_reported_with_a_place(tmp_path: Path, old: str, new: str, code: str) -> None:
    assert old in ROWS
    found, diagnostics = program(tmp_path, ROWS.replace(old, new))
    assert found is None
    assert code in {d.code for d in diagnostics.found}
    assert all(d.span is not None for d in diagnostics.found)


def test_missing_tensor_points_at_the_row_with_a_slip(tmp_path: Path) -> None:
    _, diagnostics = program(tmp_path, ROWS.replace("{i}.down.weight", "{i}.dwon.weight"))
    (found,) = diagnostics.found
    assert found.code == "E503"
    assert any("dwon" in n.message and n.span is not None for n in found.notes)


def test_variant_inherits_rows_and_replaces_its_own(tmp_path: Path) -> None:
    variant = MODEL + "\nmodel deeper extends m:\n    decoder.layers = 4\n"
    (tmp_path / "spec.xf").write_text(
        f'{variant}\ncheckpoint huggingface for m:{ROWS}\ncheckpoint huggingface for deeper:\n    "output" = head.weight\n',
        encoding="utf-8",
    )
    diagnostics = Diagnostics()
    found = elaborate_file(str(tmp_path / "spec.xf"), [], diagnostics)
    assert not diagnostics.found
    assert row(found, "output").own == ("head.weight",)
    assert found is not None and not any("head" in r.published for r in found.checkpoint)


def test_variant_that_outgrows_its_map_is_warned(tmp_path: Path) -> None:
    variant = MODEL + "\nmodel other extends m:\n    head_bias = true\n"
    found, diagnostics = program(tmp_path, ROWS, variant)
    assert found is not None and not found.checkpoint
    assert [(d.code, d.severity) for d in diagnostics.found] == [("E503", "warning")]


def test_own_tensors_count_layers_and_banks() -> None:
    found = elaborate_file("mixtral_8x7b", ["decoder.layers=2"], Diagnostics())
    assert found is not None
    tensors = {t.name: t for t in own_tensors(found)}
    experts = tensors["decoder.layers.*.ffn.experts.gate_proj.weight"]
    assert experts.banks == 1 and experts.axes[0].size.value() == 8
    assert experts.layers == {(0,), (1,)}


def test_a_copy_stands_beside_the_row_that_stores(tmp_path: Path) -> None:
    found, diagnostics = program(tmp_path, ROWS + '    "again" or "[more.]again" = copy(embed.weight)\n')
    assert not diagnostics.found
    again = row(found, "again")
    assert again.copy and again.own == ("embed.weight",) and set(again.published) == {"again", "more.again"}
    assert not row(found, "emb").copy


def test_a_copy_where_a_weight_is_lacking(tmp_path: Path) -> None:
    rows = ROWS.replace('"head" = head.weight', '"head" = head.weight or copy(embed.weight)')
    untied, _ = program(tmp_path, rows)
    assert not row(untied, "head").copy and row(untied, "head").own == ("head.weight",)
    tied, diagnostics = program(tmp_path, rows, MODEL.replace("    d_model = 6\n", "    d_model = 6\n    tied = true\n"))
    assert not diagnostics.found and row(tied, "head").copy and row(tied, "head").own == ("embed.weight",)


def test_a_copy_stores_nothing_and_is_of_one_tensor(tmp_path: Path) -> None:
    _, diagnostics = program(tmp_path, ROWS.replace('"head" = head.weight', '"head" = copy(head.weight)'))
    assert {d.code for d in diagnostics.found} == {"E503"}
    _, diagnostics = program(tmp_path, ROWS + '    "l.{i}.again" = copy(decoder.layers.{i}.down.weight)\n')
    assert {d.code for d in diagnostics.found} == {"E501"}
