"""What cannot be derived is refused at its construct."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from xfc.compiler.command_line import xfc
from xfc.compiler.passes.derive_decoding import Refusal, derive_decoding

from ..decoding import written

QUERIES_AGAINST_QUERIES = """
score summed(s: [b, h, t, j]) -> [b, h, t, j]:
    return s - {inside}

model m = causal_lm:
    vocab = 17
    d_model = 12
    decoder:
        layers = 1
        attention = multi_head(heads = 2, score = summed)
        ffn = plain(hidden = 8)
"""


@pytest.mark.parametrize("inside", ["cumsum(where(index(j) <= index(t), s, 0.0), t)", "pad(s[t = .. -1], t = [1, 0])"])
def test_what_goes_on_along_queries_is_refused_where_it_has_the_keys(inside: str, tmp_path: Path) -> None:
    refusal = derive_decoding(written(tmp_path, QUERIES_AGAINST_QUERIES.format(inside=inside)))
    assert isinstance(refusal, Refusal)
    assert refusal.what.startswith(("`cumsum` along the queries `t`", "`pad` along the queries `t`"))


OF_BLOCKS = """
component block_means(heads, block)(x: [b, t, d]) -> [b, t, d]:
    head_dim = d / heads
    q_proj = linear([heads, head_dim])
    k_proj = linear([heads, head_dim])
    v_proj = linear([heads, head_dim])
    o_proj = linear(d, over = [heads, head_dim])
    q, k = q_proj(x), k_proj(x)
    let blocks = (t + block - 1) // block
    whole = pad(k, t = [0, blocks * block - t])
    means = mean(unflatten(whole, t = [n: blocks, block]), block)
    seen = index(n: blocks) < index(t) // block
    gate = where(seen, einsum(q, means, over = head_dim), -1e30)
    rank = argsort(argsort(-gate, n), n)
    score among(s, h, i, j) = where(i // block == j // block, s, s + rank[t = i, n = j // block, heads = h])
    return o_proj(attend(q, k, v_proj(x), causal, among, head_dim ^ -0.5))

component shifted(hidden)(x: [b, t, d]) -> [b, t, d]:
    up = linear([hidden: hidden])
    down = linear(d, over = hidden)
    return down(gelu(up(pad(x[t = .. -1], t = [1, 0]))))

model m = causal_lm:
    vocab = 17
    d_model = 12
    decoder:
        layers = 2
        attention = {attention}
        ffn = {ffn}
"""


@pytest.mark.parametrize(
    ("attention", "ffn", "what", "where"),
    [
        ("block_means(heads = 2, block = 4)", "plain(8)", "padding after the end of `t`", "pad(k, t = [0, blocks * block - t])"),
        ("multi_head(heads = 2)", "mixture(experts = 4, expert = shifted(8), router = softmax_router(4, 2))",
         "`shifted`, applied to parts of the tokens", "pad(x[t = .. -1], t = [1, 0])"),
    ],
)  # fmt: skip
def test_the_innermost_construct_is_named_not_the_librarys_call(attention: str, ffn: str, what: str, where: str, tmp_path: Path) -> None:
    """The layers, and the bank of experts, are applied in the library: its line is no help."""
    refusal = derive_decoding(written(tmp_path, OF_BLOCKS.format(attention=attention, ffn=ffn)))
    assert isinstance(refusal, Refusal)
    assert refusal.what == what
    assert refusal.span.source.path == str(tmp_path / "model.xf")
    assert refusal.span.source.text[refusal.span.start : refusal.span.end] == where


def test_commands_say_what_and_where(tmp_path: Path) -> None:
    text = OF_BLOCKS.format(attention="block_means(heads = 2, block = 4)", ffn="plain(8)")
    (path := tmp_path / "model.xf").write_text(text)
    said = "padding after the end of `t`, at `pad(k, t = [0, blocks * block - t])` (model.xf:10)"
    for command, words in (
        (["check"], "no cache: it cannot be decoded a token at a time"),
        (["info"], "cache             none"),
        (["compile", "--emit", "ir"], "no decoding"),
    ):
        done = CliRunner().invoke(xfc, [*command, str(path)], standalone_mode=False)
        assert f"{words}: {said}" in done.stdout, command
