"""What a stored vector costs. Run: pytest tests/test_quantization.py (a second)."""

from __future__ import annotations

import pytest

from nestvec.errors import DimensionError, PrecisionError
from nestvec.quantization import BITS_PER_NUMBER, bytes_per_vector


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", 400), ("float16", 200), ("int8", 100), ("int4", 50), ("binary", 13)]
)
def test_bytes_are_bits_rounded_up(precision: str, expected: int) -> None:
    assert bytes_per_vector(100, precision) == expected


def test_every_precision_has_a_cost() -> None:
    assert [bytes_per_vector(8, precision) for precision in BITS_PER_NUMBER] == [32, 16, 8, 4, 1]


def test_what_has_no_cost_is_refused() -> None:
    with pytest.raises(DimensionError, match="0 numbers cannot be stored"):
        bytes_per_vector(0)
    with pytest.raises(PrecisionError, match="float32, float16, int8, int4, binary"):
        bytes_per_vector(8, "int3")
