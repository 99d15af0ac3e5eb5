"""What `xfc verify` says besides the comparison: what is proved, against whom it was tested, what is assumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from xfc.backends.verify_trust import Trust, trust_in
from xfc.compiler.command_line import xfc as command
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file

ROOT = Path(__file__).resolve().parents[2]


def trust(spec: str, *, changed: bool = False, smaller: bool = True) -> Trust:
    diagnostics = Diagnostics()
    program = elaborate_file(spec, [], diagnostics)
    assert program is not None, diagnostics.found
    return trust_in(program, changed=changed, smaller=smaller)


def test_what_is_proved_of_a_decoder() -> None:
    found = trust("llama3_2_1b")
    assert any("no position of `logits` sees later positions of `input_ids`" in text for text in found.proved)
    assert any("exactly once by the 11 rows" in text for text in found.proved)
    assert any("derived from the same program" in text for text in found.proved)
    assert found.tested[0].startswith("llama_7b to llama_65b") and "LlamaForCausalLM" in found.tested[0]
    assert "elaborated as it is meant" in found.assumed[0] and any("small sizes" in text for text in found.assumed)


def test_what_is_assumed_is_never_called_proved() -> None:
    found = trust("expert_choice_lm")
    assert not any("later positions" in text for text in found.proved)
    assert any(text.startswith("causal: which tokens an expert takes") for text in found.assumed)


@pytest.mark.parametrize(("spec", "sees"), [("bert_base", "attention_mask"), ("t5_small", "decoder_input_ids")])
def test_what_sees_everything_is_not_proved_causal(spec: str, sees: str) -> None:
    assert any(f"`{sees}`" in text for text in trust(spec).proved if "later positions" in text) is (spec == "t5_small")


def test_what_was_changed_has_no_witness() -> None:
    assert trust("gpt2", changed=True).tested[-1] == "what `--set` changed has had no witness"


def test_a_spec_of_ones_own_has_no_witness(tmp_path: Path) -> None:
    spec = tmp_path / "small.xf"
    spec.write_text("model small(d = 4)(x: [b, t, d]) -> (y: [b, t, d]):\n    inner = linear(d)\n    return inner(x)\n")
    done = CliRunner().invoke(command, ["verify", str(spec)])
    assert done.exit_code == 0, done.output
    assert "  proved   " in done.output and "  tested   by no witness" in done.output and "  assumed  " in done.output
    document = json.loads(CliRunner().invoke(command, ["verify", str(spec), "--format", "json"]).output)
    assert document["tested"][0].startswith("by no witness") and document["proved"] and document["assumed"]


def test_the_page_names_files_that_are_there() -> None:
    text = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    for name in {word.strip("`") for word in text.replace(",", " ").split() if word.startswith(("`tests/", "`compiler/"))}:
        assert (ROOT / name.rstrip("`.:;|")).exists(), name
