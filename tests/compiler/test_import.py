"""Configs become specs: values, omitted defaults, layer lists, and what is said when a config does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xfc.compiler.diagnostics import Diagnostics, SpecError
from xfc.compiler.elaborate import elaborate_file
from xfc.compiler.import_config import import_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "intermediate_size": 41,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
}


def imported(tmp_path: Path, **changes: Any) -> tuple[str, Diagnostics]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in (LLAMA | changes).items() if v is not ...}), encoding="utf-8")
    diagnostics = Diagnostics()
    return import_config(str(path), diagnostics), diagnostics


def refused(tmp_path: Path, **changes: Any) -> set[str]:
    with pytest.raises(SpecError) as caught:
        imported(tmp_path, **changes)
    assert all(d.span is not None for d in caught.value.diagnostics)
    return {d.code for d in caught.value.diagnostics}


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    text, diagnostics = imported(tmp_path, rms_norm_eps=1e-5)
    assert not diagnostics.found
    assert text.splitlines()[:4] == ["model: llama", "extends: llama2_7b", "vocab: 97", "d_model: 24"]
    assert "eps" not in text and "theta" not in text and "tied" not in text and "bias" not in text


def test_import_of_a_shipped_models_own_config_says_nothing_else(tmp_path: Path) -> None:
    own = {"vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": ...,
           "intermediate_size": 11008, "rms_norm_eps": 1e-5}  # fmt: skip
    text, _ = imported(tmp_path, **own)
    assert text == "model: llama\nextends: llama2_7b\n"


def test_the_result_is_a_valid_spec(tmp_path: Path) -> None:
    text, _ = imported(tmp_path)
    spec = tmp_path / "made.yaml"
    spec.write_text(text, encoding="utf-8")
    diagnostics = Diagnostics()
    program = elaborate_file(str(spec), [], diagnostics)
    assert program is not None and not diagnostics.found
    assert {n: s.value for n, s in program.config}.items() >= {
        "vocab": 97,
        "d_model": 24,
        "layers": 2,
        "heads": 6,
        "kv_heads": 3,
        "hidden": 41,
    }.items()
    assert program.checkpoint


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                  "original_max_position_embeddings": 8192}},
        {"rope_theta": ..., "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}},
    ],
    ids=["older", "newer"],
)  # fmt: skip
def test_both_forms_of_rotary_settings(tmp_path: Path, rope: dict[str, Any]) -> None:
    text, diagnostics = imported(tmp_path, **rope)
    assert not diagnostics.found
    assert "theta: 500000.0" in text and "llama3_scaling" in text and "8192" in text


def test_infinity_is_read(tmp_path: Path) -> None:
    _, diagnostics = imported(tmp_path, unheard_of=[0.0, {"__float__": "Infinity"}])
    assert "inf" in diagnostics.found[0].message


def test_unread_keys_are_reported_by_name_and_value(tmp_path: Path) -> None:
    _, diagnostics = imported(tmp_path, sandwich_norms=True, rope_scaling={"rope_type": "linear", "factor": 2.0, "surprise": 3})
    (warning,) = diagnostics.found
    assert warning.code == "E514" and warning.severity == "warning"
    assert (
        "`sandwich_norms` (true)" in warning.message
        and "`rope_scaling.surprise` (3)" in warning.message
        and "factor" not in warning.message
    )


def test_null_is_absent(tmp_path: Path) -> None:
    text, diagnostics = imported(tmp_path, head_dim=None, rope_scaling=None)
    assert not diagnostics.found and "head_dim" not in text


def test_unknown_value_of_an_enumeration(tmp_path: Path) -> None:
    assert refused(tmp_path, hidden_act="mish") == {"E512"}


def test_guard(tmp_path: Path) -> None:
    assert refused(tmp_path, rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5}) == {"E513"}


def test_unknown_architecture_suggests(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        imported(tmp_path, architectures=["LamaForCausalLM"])
    (found,) = caught.value.diagnostics
    assert found.code == "E511" and found.help is not None and "LlamaForCausalLM" in found.help


def test_wrong_type(tmp_path: Path) -> None:
    assert refused(tmp_path, rope_parameters={"rope_theta": {"a": 1}}) == {"E516"}


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "nul", '{"a": 1} x', "\ufeff{}", "[" * 100000])
def test_files_that_are_no_config(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        import_config(str(path))
    assert {d.code for d in caught.value.diagnostics} <= {"E510", "E511"}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        import_config(str(tmp_path / "nothing.json"))


def test_layer_lists_become_runs(tmp_path: Path) -> None:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    config = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 26,
        "layer_types": (kinds * 5)[:26],
        "head_dim": 256,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert "blocks" not in import_config(str(path))  # the same as the base's
    path.write_text(json.dumps(config | {"num_hidden_layers": 4, "layer_types": kinds[3:] + kinds[:1]}), encoding="utf-8")
    assert "[local * 2, global, local]" in import_config(str(path))
