"""Verification: what it shrinks keeps every fact, what agrees is said to, and what does not is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xfc.backends import interpreter
from xfc.backends import numpy as numpy_backend
from xfc.backends.verify import difference, parameter_count, verify
from xfc.backends.verify_inputs import changed_after, input_sets
from xfc.backends.verify_report import Report, Row
from xfc.backends.verify_shrink import shrink, unshrunk
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics, SpecError
from xfc.compiler.elaborate import elaborate_file

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "specs").glob("*.xf"))


def elaborated(spec: Path | str, *sets: str) -> ir.Program:
    diagnostics = Diagnostics()
    program = elaborate_file(str(spec), list(sets), diagnostics)
    assert program is not None, diagnostics.found
    return program


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_small_values_keep_every_fact(spec: Path) -> None:
    program = elaborated(spec)
    chosen = shrink(program)
    for fact in program.facts:
        a, b = fact.a.value(chosen.under), fact.b.value(chosen.under)
        assert a is not None and b is not None, fact
        held = b % a == 0 if fact.kind == "divides" else a == b if fact.kind == "equal" else a >= b
        assert held, f"{fact.kind} {fact.a} ({a}) {fact.b} ({b})"
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    assert parameter_count(chosen.program, under) < 2_000_000
    for name, (old, new) in chosen.changes().items():
        assert 1 < new < old, name
    assert all(isinstance(old, int) for old, _ in chosen.changes().values())


def test_layers_come_down_to_every_slot_twice_and_one_more() -> None:
    program = elaborated(ROOT / "specs" / "gemma3.xf")
    chosen = shrink(program)
    under = {s: v for s, v in chosen.under.items() if s.value is not None}
    stacks = [c for m in ir.walk(chosen.program.root) for c in m.children if isinstance(c, ir.Stack) and c.cycle]
    assert stacks
    for stack in stacks:
        slots = interpreter.layer_slots(stack, under)
        assert (
            all(slots.count(k) >= 2 for k in range(len(stack.slots))) and len(slots) % sum(int(n.value() or 0) for _, n in stack.slots) == 1
        )


def test_a_small_model_keeps_its_sizes() -> None:
    program = elaborated(ROOT / "tests" / "open" / "retention.xf")
    chosen = unshrunk(program)
    assert not chosen.changes()
    assert all(s in chosen.under for s in program.dynamic)


def test_agreement_is_reported() -> None:
    report = verify(elaborated(ROOT / "specs" / "gpt2.xf"), dtype="float64")
    assert report.ok, str(report)
    said = [row.what for row in report.rows]
    assert {"torch, required inputs, logits", "numpy, padded inputs, logits", "torch, loss", "torch, gradients"} <= set(said)
    assert any(what.startswith("flow") for what in said)
    assert "d_model" in report.changed
    document = json.loads(json.dumps(report.document()))
    assert document["ok"] and document["rows"][0]["what"] == said[0]
    assert "made smaller" in str(report)


def test_what_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = numpy_backend.emit
    monkeypatch.setattr(
        numpy_backend, "emit", lambda program: right(program).replace("x + causal", "x - causal").replace("return x + ", "return x - ")
    )
    report = verify(elaborated(ROOT / "specs" / "gpt2.xf"), dtype="float64")
    assert not report.ok
    wrong = {row.what.split(",")[0] for row in report.rows if not row.ok}
    assert wrong == {"numpy"}
    monkeypatch.setattr(numpy_backend, "emit", lambda program: right(program).replace("    return logits\n", "    return logits.nothing\n"))
    report = verify(elaborated(ROOT / "specs" / "gpt2.xf"))
    assert any("AttributeError" in row.note and row.error == float("inf") for row in report.rows)
    assert report.document()["rows"][1]["error"] is None
    monkeypatch.setattr(numpy_backend, "emit", lambda program: "raise ValueError('no')")
    report = verify(elaborated(ROOT / "specs" / "gpt2.xf"))
    assert not report.ok and "no" in report.rows[0].note


def test_differences_are_relative_and_never_hidden() -> None:
    want = np.array([1000.0, 1.0])
    assert difference(want + 1, want) == pytest.approx(1e-3)
    assert difference(np.array([np.nan, 1.0]), want) == float("inf")
    assert difference(None, want) == float("inf")
    assert difference(want[:1], want) == float("inf")
    assert difference(np.array([1, 2]), np.array([1, 3])) == 1
    infinite = np.array([-np.inf, 1.0])
    assert difference(infinite, infinite) == 0


def test_inputs_stay_in_their_bounds() -> None:
    program = elaborated(ROOT / "specs" / "gpt2.xf")
    chosen = shrink(program)
    sets = input_sets(program, chosen.under, 0)
    assert set(sets) == {"required inputs", "padded inputs", "optional inputs", "loss"}
    padded = sets["padded inputs"]["attention_mask"]
    assert padded[0].all() and not padded[1].all() and padded[1][:2].all()
    assert (sets["loss"]["labels"] == -100).any()
    item = program.inputs[0]
    changed = changed_after(sets["required inputs"], item, 1, 4, chosen.under)[item.name]
    before = sets["required inputs"][item.name]
    assert item.bound is not None
    assert (
        (changed[:, :5] == before[:, :5]).all()
        and (changed[:, 5:] != before[:, 5:]).all()
        and changed.max() < item.bound.value(chosen.under)
    )


def test_a_report_without_rows_is_not_ok() -> None:
    empty = Report(model="m", dtype="float64", seed=0, parameters=1)
    assert not empty.ok
    row = Row(what="torch", error=2e-5, tolerance=1e-5)
    assert not row.ok and "DIFFERS" in str(row)


OPTIONAL = """
model small(vocab = 11, d_model = 8)(
    ids: [b, t] int in vocab, prefix_length: [b] int = 0, document_ids: [b, t] int = 0, kind: [b, t] int in 3 = 0
) -> (y: [b, t, d_model]):
    embed = embedding(vocab, d_model)
    x = embed(ids) + float32(document_ids) + float32(kind)
    return x + where(index(t) < prefix_length, 1.0, 0.0)
"""


def test_optional_inputs_are_given_too(tmp_path: Path) -> None:
    path = tmp_path / "small.xf"
    path.write_text(OPTIONAL)
    diagnostics = Diagnostics()
    program = elaborate_file(str(path), [], diagnostics)
    assert program is not None, diagnostics.found
    given = input_sets(program, unshrunk(program).under, 0)["optional inputs"]
    assert all(given[name].any() for name in ("prefix_length", "document_ids", "kind")) and given["kind"].max() < 3
    report = verify(program)
    assert report.ok and {r.what for r in report.rows if "optional" in r.what}, str(report)


def test_a_definition_that_gives_nan_is_not_verified(tmp_path: Path) -> None:
    """Masked scores are -inf in `weights`: mixed over heads they are no numbers, in all three executions alike."""
    spec = tmp_path / "mixed.xf"
    spec.write_text("""component mixed(heads)(x: [b, t, d]) -> [b, t, d]:
    q_proj = linear([heads, e: d / heads])
    o_proj = linear(d, over = [heads, e])
    weights mixing(s: [b, h, t, j]) -> [b, h, t, j]:
        mix = param([h, h'], init = normal(0.5))
        return softmax(rename(einsum(s, mix, over = h), h' = h), j)
    q = q_proj(x)
    return o_proj(attend(q, q, q, causal, weights = mixing))

model m(vocab = 11, d_model = 8)(input_ids: [b, t] int in vocab) -> (y: [b, t, d_model]):
    embed = embedding(vocab, d_model)
    stack = 2 of mixed(heads = 2)
    return stack(embed(input_ids))
""")
    report = verify(elaborated(spec))
    assert not report.ok
    assert all(np.isnan(row.error) for row in report.rows)
    assert [text.split(": ")[0] for text in report.parted] == [f"the definition gives NaN from `attend` in stack.0, {spec}:8"]


def test_an_index_beyond_its_axis_is_said_where_the_spec_has_it(tmp_path: Path) -> None:
    path = tmp_path / "m.xf"
    path.write_text(
        "model m(vocab = 7, d = 4)(input_ids: [b, t] int in vocab) -> (y: [b, t, d]):\n"
        "    embed = embedding(vocab, d)\n"
        "    x = embed(input_ids)\n"
        "    table = param([places: 4])\n"
        "    score near(s, i, j) = s + table[places = i - j]\n"
        "    return attend(x, x, x, causal, near, over = t)\n"
    )
    with pytest.raises(SpecError) as raised:
        verify(elaborated(path), seed=1)
    (found,) = raised.value.diagnostics
    assert found.code == "E207" and found.span is not None and found.span.line_column()[0] == 5, found
    assert "`places` has 4 entries" in found.message and found.help is not None and "clamp" in found.help
