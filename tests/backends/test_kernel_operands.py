"""What attention's fused kernels take: tensors of four dimensions, and a bias of as many with its keys next to each other in memory (on the CPU)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from xfc.backends import interpreter
from xfc.backends import torch as torch_backend
from xfc.backends.verify_modules import loaded
from xfc.compiler.pipeline import run as run_passes

from .test_join_biases import SPEC, program_of

ROWS = """
component of_rows(heads)(x: [b, r, t, d]) -> [b, r, t, d]:
    q_proj = linear([heads, e: d / heads])
    k_proj = linear([heads, e: d / heads])
    v_proj = linear([heads, e: d / heads])
    o_proj = linear(d, over = [heads, e])
    keep = sum(x, d) > 0
    {mask}
    return o_proj(attend(q_proj(x), k_proj(x), v_proj(x), {seen}, over = t))

model rows(d = 8)(x: [b, r, t, d]) -> (y):
    attention = of_rows(heads = 2)
    return attention(x)
"""


MASKS = {"of_row": "mask of_row(j) = keep[t = j]", "all": "mask all(j) = keep[t = j] or not keep[t = j]"}


@contextmanager
def calls(found: list[tuple[Tensor, Tensor | None]]) -> Iterator[None]:
    """The queries of each attention, and what is added to its scores."""
    plain = torch.nn.functional.scaled_dot_product_attention

    def seen(*args: Tensor, attn_mask: Tensor | None = None, **options: float) -> Tensor:
        found.append((args[0], attn_mask))
        return plain(*args, attn_mask=attn_mask, **options)  # type: ignore[arg-type]

    torch.nn.functional.scaled_dot_product_attention = seen
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = plain


CASES = [
    SPEC.format(mask=mask, score=score, more="positions = index(t)" if "alibi" in score else "")
    for score in ("bucketed_bias(heads = 4)", "alibi(heads = 4)")
    for mask in ("padding", "causal and padding", "causal")
]


@pytest.mark.parametrize("text", CASES)
def test_keys_are_neighbours(text: str, tmp_path: Path) -> None:
    found: list[tuple[Tensor, Tensor | None]] = []
    with loaded(torch_backend.emit(run_passes(program_of(text, tmp_path))), "ordered") as module, calls(found), torch.no_grad():
        model = module.Model()
        ids = torch.arange(14).reshape(2, 7)
        model(ids)
        model(ids, attention_mask=(ids != 0).long()) if "padding" in text else model(ids)
    assert len(found) == 6
    assert all(bias is not None and bias.stride(-1) == 1 and bias.dim() == 4 for _, bias in found), found


@pytest.mark.parametrize("seen", ["causal and all", "all", "of_row", "causal and of_row"])
def test_several_batch_axes_are_one(seen: str, tmp_path: Path) -> None:
    program = run_passes(program_of(ROWS.format(seen=seen, mask=MASKS[seen.split()[-1]]), tmp_path))
    given = {"x": torch.randn(2, 3, 5, 8, dtype=torch.float64)}
    params = interpreter.initial_params(program, 0, "float64", {})
    said = interpreter.run(program, params, {k: v.numpy() for k, v in given.items()}, dtype="float64", under={})
    found: list[tuple[Tensor, Tensor | None]] = []
    with loaded(torch_backend.emit(program), "rows") as module, calls(found):
        model = module.Model().double()
        model.load_state_dict({n: torch.from_numpy(params[n]).reshape(v.shape) for n, v in model.state_dict().items()})
        y = model(**given)
    assert [q.dim() for q, _ in found] == [4]
    torch.testing.assert_close(y, torch.from_numpy(next(iter(said.values()))), rtol=1e-10, atol=1e-12)
