"""What cannot be derived is refused at its construct."""

from __future__ import annotations

from pathlib import Path

import pytest

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
