"""Parameter counts at full size against tables of papers, as counted on other people's classes with the papers' hyperparameters."""

from __future__ import annotations

import pytest

from xfc.compiler.count import count, whole
from xfc.compiler.diagnostics import Diagnostics
from xfc.compiler.elaborate import elaborate_file

SINUSOIDS = 2 * 512  # rows of the two tables that the other class holds as frozen parameters; here they are computed

PARAMETERS = {
    "transformer_base": 63_606_784 - SINUSOIDS * 512,  # arXiv:1706.03762, table 3
    "transformer_big": 215_293_952 - SINUSOIDS * 1024,
    "t5_small": 60_506_624,  # arXiv:1910.10683, section 3.7
    "t5_base": 222_903_552,
    "t5_large": 737_668_096,
    "t5_3b": 2_851_598_336,
    "t5_11b": 11_307_321_344,
    "bart_base": 139_420_416,  # arXiv:1910.13461
    "bart_large": 406_291_456,
    "switch_base_7b": 4_980_423_936,  # arXiv:2101.03961, table 9, without gates
    "whisper_tiny": 37_760_640,  # arXiv:2212.04356, table 1
    "whisper_large": 1_543_304_960,
    "swin_tiny": 28_288_354,  # arXiv:2103.14030, table 1
    "swin_base": 87_768_224,
    "clip_vit_b_32": 151_277_313,  # arXiv:2103.00020, tables 19 and 20
    "clip_vit_l_14": 427_616_513,
    "llama_7b": 6_738_415_616,  # arXiv:2302.13971, table 2
    "llama_13b": 13_015_864_320,
    "llama_33b": 32_528_943_616,
    "llama_65b": 65_285_660_672,
    "llama2_7b": 6_738_415_616,  # arXiv:2307.09288
    "llama2_70b": 68_976_648_192,
    "llama3_1_8b": 8_030_261_248,  # arXiv:2407.21783, table 3
    "llama3_1_70b": 70_553_706_496,
    "llama3_1_405b": 405_853_388_800,
    "llama3_2_1b": 1_235_814_400,
    "llama3_2_3b": 3_212_749_824,
    "deepseek_v3": 671_026_404_352,  # arXiv:2412.19437
    "mamba2_2_7b": 2_702_599_680,  # arXiv:2405.21060
    "gpt_oss_20b": 20_914_757_184,  # arXiv:2508.10925, table 1
    "gpt_oss_120b": 116_829_156_672,
    "jamba_v0_1": 51_570_323_328,  # arXiv:2403.19887
    "reformer_crime_and_punishment": 2_748_224,  # arXiv:2001.04451
}

ACTIVE = {
    "switch_base_7b": 186_334_464,
    "mixtral_8x7b": 12_879_925_248,  # arXiv:2401.04088
    "mixtral_8x22b": 39_161_468_928,
    "qwen3_30b_a3b": 3_353_032_704,  # arXiv:2505.09388
    "qwen3_235b_a22b": 22_190_763_520,
    "deepseek_v3": 37_552_282_624,
    "gpt_oss_20b": 4_187_440_704,
    "gpt_oss_120b": 5_711_982_912,
    "jamba_v0_1": 12_110_311_296,
}


@pytest.mark.parametrize("name", sorted(PARAMETERS | ACTIVE))
def test_parameters(name: str) -> None:
    diagnostics = Diagnostics()
    program = elaborate_file(name, [], diagnostics)
    assert program is not None, diagnostics.found
    counts = count(program)
    assert whole(counts.parameters) == PARAMETERS.get(name, whole(counts.parameters))
    assert whole(counts.active_parameters) == ACTIVE.get(name, whole(counts.active_parameters))
