"""Numbers of parameters as they are read: three digits and a unit."""

from __future__ import annotations

import pytest

from xfc.backends.python.count_parameters import readable_count


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 K"),
        (124_439_808, "124 M"),
        (8_030_261_248, "8.03 B"),
        (999_600_000, "1.00 B"),
        (1_026_000_000_000, "1.03 T"),
        (15_500_000_000_000, "15.5 T"),
    ],
)
def test_a_count_has_three_digits_and_a_unit(number: int, text: str) -> None:
    assert readable_count(number) == text
