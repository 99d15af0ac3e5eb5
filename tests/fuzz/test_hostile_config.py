"""Configs that mean harm, or nothing: diagnostics and no more, and a name in one becomes nothing but a name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import pytest
import transformers

from xfc.compiler.diagnostics import SpecError
from xfc.compiler.import_config import import_config

from .guided_inputs import HOSTILE
from .guided_target import run_all

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 97, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 3, "intermediate_size": 41, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
    "rope_scaling": {"rope_type": "default"}, "_name_or_path": "a/b",
}  # fmt: skip
NAMES = (
    "x\n    import os",
    "__class__",
    "_9",
    "1e5",
    "ll-ama/../../etc",
    "{{ 7 * 7 }}{% raw %}",
    '"""',
    "клод",
    "class",
    "a" * 3000,
    "model: b",
    "&a [*a]",
    "\u2028",
    "-",
    "\x00",
)


@pytest.mark.parametrize("names", [NAMES[:4], pytest.param(NAMES, marks=pytest.mark.slow)], ids=("few", "all"))
def test_a_name_is_a_name(names: tuple[str, ...], tmp_path: Path) -> None:
    for k, name in enumerate(names):
        values = {k: v for k, v in CONFIG.items() if k != "model_type"} | {("model_type", "_name_or_path")[k % 2]: name}
        done = run_all(".json", json.dumps(values).encode(), tmp_path)
        assert done.fault is None, (name, done.fault)
        assert done.right or done.codes, name


def test_a_value_is_answered(tmp_path: Path) -> None:
    random = Random(5)
    for key, value in [("vocab_size", [{}]), *random.sample([(k, v) for k in CONFIG for v in HOSTILE], 15)]:
        done = run_all(".json", json.dumps(CONFIG | {key: value}).encode(), tmp_path)
        assert done.fault is None, (key, value, done.fault)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 90000, "deep"),
        ('{"vocab_size": ' + "9" * 6000 + "}", "6,000 digits"),
        ('{"eps": NaN}', "NaN"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "`c` twice"),
        ('{"a": "' + "x" * 16_000_000 + '"}', "larger"),
        ('{"a": "\xff"}', "utf-8"),
    ],
    ids=("nested", "digits", "no number", "twice", "large", "bytes"),
)
def test_a_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecError, match=said):
        import_config(str(path))


@pytest.mark.parametrize("family", ["Gemma3Text", "Jamba"])
def test_layers_that_nobody_builds(family: str, tmp_path: Path) -> None:
    """What a map says of layers one by one ends."""
    config = getattr(transformers, f"{family}Config")().to_dict()
    kept = {k: v for k, v in config.items() if k not in ("layer_types", "layers_block_type")}
    kept |= {"architectures": [family.removesuffix("Text") + "ForCausalLM"], "num_hidden_layers": 1 << 70}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(kept))
    with pytest.raises(SpecError, match="layers are more than"):
        import_config(str(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "config.json", tmp_path / "zero.json"):
        with pytest.raises(SpecError, match="no plain file"):
            import_config(str(path))


@pytest.mark.slow
def test_every_value_is_answered(tmp_path: Path) -> None:
    for key in CONFIG:
        for value in [*HOSTILE, *({"a": v} for v in HOSTILE), *([v] for v in HOSTILE)]:
            done = run_all(".json", json.dumps(CONFIG | {key: value}).encode(), tmp_path)
            assert done.fault is None, (key, value, done.fault)
