"""The passes keep the meaning, keep the IR well formed, and do what their headers say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xfc.backends.interpreter import initial_params, run
from xfc.compiler import ir
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.dims import ONE, const
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.ir import Fold, Module, Node, Program, walk
from xfc.compiler.passes.hoist_invariants import hoist_invariants
from xfc.compiler.passes.merge_common_nodes import merge_common_nodes
from xfc.compiler.passes.remove_dead_nodes import remove_dead_nodes
from xfc.compiler.pipeline import PASSES
from xfc.compiler.print_ir import print_module, print_program
from xfc.compiler.verify_ir import IRError, verify

OPEN = sorted((Path(__file__).parents[1] / "open").glob("*.xf"))

SLOTS = """
score slopes(heads)(s, h, i, j):
    return s - 2 ^ (-8 * (h + 1) / heads) * (i - j)

model slots = causal_lm:
    vocab = 13
    d_model = 24
    let near = pre_norm(norm = rms_norm, ffn = gated(hidden = 10),
                        attention = grouped_query(heads = HEADS, kv_heads = GROUPS, rotate = rope(THETA), mask = sliding(3), score = slopes(HEADS)))
    let far = pre_norm(norm = rms_norm, ffn = gated(hidden = 10),
                       attention = grouped_query(heads = HEADS, kv_heads = GROUPS, rotate = rope(THETA), mask = causal and padding, score = slopes(HEADS)))
    decoder:
        blocks = 5 of [near * 2, far]
"""

TABLE = """
model table = causal_lm:
    vocab = 13
    d_model = 24
    decoder = biased_transformer:
        layers = 3
        attention = grouped_query(heads = 4, mask = causal)
        ffn = gated(hidden = 10)
        bias = bucketed_bias(4, buckets = 6, max_distance = 9, bidirectional = false)
"""


def elaborate(path: Path) -> Program:
    diagnostics = Diagnostics()
    found = elaborate_file(str(path), [], diagnostics)
    assert found is not None, [d.message for d in diagnostics.found]
    verify(found)
    return found


def written(tmp_path: Path, text: str) -> Program:
    path = tmp_path / "spec.xf"
    path.write_text(text)
    return elaborate(path)


def slots(tmp_path: Path) -> Program:
    """Two kinds of layers whose numbers are the same symbols, by way of lets."""
    text = fill(SLOTS, "heads", "groups", "theta")
    return written(tmp_path, text.replace("    let near", "    let heads = 4\n    let groups = 2\n    let theta = 100.0\n    let near"))


def fill(text: str, heads: str, groups: str, theta: str) -> str:
    return text.replace("HEADS", heads).replace("GROUPS", groups).replace("THETA", theta)


def after(program: Program, *passes: Callable[[Program], Program]) -> Program:
    for change in passes:
        program = change(program)
        verify(program)
    return program


def outputs(program: Program) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sizes: dict[ir.Label, int] = {}
    inputs = {}
    for item in program.inputs:
        if not item.required:
            continue
        shape = []
        for axis in item.value.type.axes:
            known = axis.size.value()
            shape.append(int(known) if known is not None else sizes.setdefault(axis.label, 2 if not shape else 7))
        if item.value.type.dtype == "int":
            inputs[item.name] = rng.integers(0, int(item.bound.value() or 2) if item.bound else 2, size=shape)
        else:
            inputs[item.name] = rng.normal(size=shape)
    return run(program, initial_params(program, seed=1), inputs)


def module(program: Program, name: str) -> Module:
    return next(m for m in walk(program.root) if m.name == name)


def kinds(nodes: tuple[Node, ...]) -> list[str]:
    return [n.function if isinstance(n, ir.Elementwise) else type(n).__name__ for n in nodes]


# ---------------------------------------------------------------- all passes


@pytest.mark.parametrize("path", OPEN, ids=lambda p: p.stem)
def test_passes_keep_the_meaning_of_open_specs(path: Path) -> None:
    program = elaborate(path)
    expected = outputs(program)
    found = outputs(after(program, *PASSES))
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", [TABLE, fill(SLOTS, "4", "2", "100.0")])
def test_passes_keep_the_meaning_of_what_is_hoisted(tmp_path: Path, text: str) -> None:
    program = written(tmp_path, text)
    np.testing.assert_allclose(outputs(after(program, *PASSES))["logits"], outputs(program)["logits"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", OPEN, ids=lambda p: p.stem)
def test_passes_are_idempotent(path: Path) -> None:
    once = after(elaborate(path), *PASSES)
    assert print_program(after(once, *PASSES)) == print_program(once)


# ---------------------------------------------------------------- hoist_invariants


def test_what_two_slots_want_is_computed_once(tmp_path: Path) -> None:
    program = after(slots(tmp_path), hoist_invariants, remove_dead_nodes)
    owner = module(program, "transformer")
    made = kinds(owner.body)
    assert [made.count(f) for f in ("cos", "sin", "pow", "Fold")] == [1, 1, 2, 1]
    fold = next(n for n in owner.body if isinstance(n, Fold))
    assert sorted(v.hint for v in fold.args)[:2] == ["attention_mask", "bias"] and len(fold.args) == 5
    for name in ("grouped_query", "rope"):
        for below in (m for m in walk(program.root) if m.name == name):
            assert not {"cos", "sin", "pow"} & set(kinds(below.body))


def test_masks_stay_with_their_attention(tmp_path: Path) -> None:
    program = after(slots(tmp_path), hoist_invariants, remove_dead_nodes)
    attends = [n for m in walk(program.root) for n in m.body if isinstance(n, ir.Attend)]
    assert [kinds(n.mask.body) for n in attends if n.mask] == [["le", "sub", "lt", "and"], ["le", "Take", "eq", "and"]]
    assert [kinds(n.score.body) for n in attends if n.score] == [["sub"], ["sub"]]


def test_a_shared_table_is_looked_up_once(tmp_path: Path) -> None:
    program = after(written(tmp_path, TABLE), hoist_invariants, remove_dead_nodes)
    owner = module(program, "biased_transformer")
    take = next(n for n in owner.body if isinstance(n, ir.Take))
    assert take.out.hint == "bias" and len(take.out.type.axes) == 4
    slots_ = [n for n in owner.body if isinstance(n, ir.Index) and n.slot]
    assert len(slots_) == 2 and slots_[0].out.type.labels != slots_[1].out.type.labels
    (attend,) = [n for m in walk(program.root) for n in m.body if isinstance(n, ir.Attend)]
    assert attend.score is not None and kinds(attend.score.body) == ["add"]


def test_what_depends_on_a_layers_own_weights_stays(tmp_path: Path) -> None:
    text = TABLE.replace("biased_transformer", "transformer").replace(
        ", mask = causal", ", mask = causal, score = bucketed_bias(4, buckets = 8)"
    )
    program = after(
        written(tmp_path, text.replace("        bias = bucketed_bias(4, buckets = 6, max_distance = 9, bidirectional = false)\n", "")),
        *PASSES,
    )
    assert "Take" not in kinds(module(program, "transformer").body)
    (attend,) = [n for m in walk(program.root) for n in m.body if isinstance(n, ir.Attend)]
    assert attend.score is not None and kinds(attend.score.body) == ["Take", "add"]


# ---------------------------------------------------------------- merge_common_nodes, remove_dead_nodes

TWICE = """
component twice()(x: [b, t, d]) -> [b, t, d]:
    given positions: [b, t]
    a = exp(x) + cos(index(d))
    c = dropout(x, 0.5) + dropout(x, 0.5)
    return a * exp(x) + c + float(positions) * 0 + cos(index(d))

model m(width = 4)(x: [b, t, width], positions: [b, t] int = index(t)) -> (y: [b, t, width]):
    part = twice()
    y = part(x)
    return y
"""


def test_equal_nodes_are_one_and_draws_are_two(tmp_path: Path) -> None:
    program = after(written(tmp_path, TWICE), merge_common_nodes)
    made = kinds(module(program, "twice").body)
    assert [made.count(f) for f in ("exp", "cos", "Index", "Dropout")] == [1, 1, 1, 2]


def test_dead_inputs_go_with_their_arguments(tmp_path: Path) -> None:
    program = written(tmp_path, TWICE)

    def forget(m: Module) -> Module:
        if m.name != "twice":
            return m
        return replace(m, outputs=(next(n for n in m.body if isinstance(n, ir.Elementwise) and n.function == "exp").out,))

    clean = after(replace(program, root=ir.rewrite(program.root, forget)), remove_dead_nodes)
    left = module(clean, "twice")
    assert kinds(left.body) == ["exp"] and left.captured == 0 and [v.hint for v in left.inputs] == ["x"]
    (call,) = clean.root.body
    assert isinstance(call, ir.Call) and len(call.args) == 1
    assert len(clean.root.inputs) == 2


# ---------------------------------------------------------------- printing and verifying


def test_printing_does_not_depend_on_objects(tmp_path: Path) -> None:
    assert print_program(written(tmp_path, TWICE)) == print_program(written(tmp_path, TWICE))
    text = print_program(written(tmp_path, TWICE))
    assert "module twice(x: float[b, t, width] | positions: int[b, t]) -> float[b, t, width]" in text
    assert "  exp: float[b, t, width] = exp(x)\n" in text and "%" not in text


def test_a_module_prints_alone() -> None:
    program = elaborate(OPEN[0])
    assert print_module(program.root).startswith("module ")


def broken(program: Program, change: Callable[[Module], Module]) -> str:
    with pytest.raises(IRError) as caught:
        verify(replace(program, root=change(program.root)))
    return str(caught.value)


def test_verify_names_what_is_broken(tmp_path: Path) -> None:
    program = written(tmp_path, TWICE)
    (call,) = program.root.body
    assert isinstance(call, ir.Call) and isinstance(call.target, Module)
    inner = call.target

    def inside(new: Module) -> Callable[[Module], Module]:
        return lambda root: replace(root, body=(replace(call, target=new),))

    assert "read where it is not defined" in broken(program, inside(replace(inner, body=inner.body[1:])))
    assert "assigned twice" in broken(program, inside(replace(inner, body=(inner.body[0], *inner.body))))
    assert "has 2 inputs" in broken(program, lambda root: replace(root, body=(replace(call, args=call.args[:1]),)))
    assert "does not fit" in broken(program, lambda root: replace(root, body=(replace(call, args=call.args[::-1]),)))
    wrong = ir.Full(outs=(ir.Value(ir.Type((ir.Axis(ir.Label("d"), const(2)),)), "f"),), span=program.span, value=ONE)
    narrow = ir.Reduce(
        outs=(ir.Value(ir.Type((), "int"), "r"),), span=program.span, function="sum", x=wrong.out, over=wrong.out.type.labels
    )
    assert "the type rule's result" in broken(program, inside(replace(inner, body=(wrong, narrow, *inner.body))))
