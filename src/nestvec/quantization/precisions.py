"""How one number of a vector is stored, and what that costs."""

from __future__ import annotations

from nestvec.errors import DimensionError, PrecisionError

__all__ = ["BITS_PER_NUMBER", "bytes_per_vector", "check_precision"]

BITS_PER_NUMBER = {"float32": 32, "float16": 16, "int8": 8, "int4": 4, "binary": 1}
"""Bits of one number at each precision; the names are those of sentence-transformers' `quantize_embeddings`."""


def bytes_per_vector(dim: int, precision: str = "float32") -> int:
    """Return what one stored vector costs, in bytes: dim x bits / 8, rounded up.

    Args:
        dim: Numbers kept, at least 1.
        precision: A name in `BITS_PER_NUMBER`.

    Returns:
        Bytes.

    Raises:
        DimensionError: `dim` is below 1.
        PrecisionError: The precision is not known.

    Example:
        >>> bytes_per_vector(64), bytes_per_vector(100, "binary")
        (256, 13)
    """
    if dim < 1:
        raise DimensionError(f"A vector of {dim} numbers cannot be stored. Choose a dim from 1.")
    check_precision(precision)
    return -(-dim * BITS_PER_NUMBER[precision] // 8)


def check_precision(precision: str) -> str:
    """Return a precision's name, or say which there are.

    Args:
        precision: A name.

    Returns:
        The same name.

    Raises:
        PrecisionError: It is not in `BITS_PER_NUMBER`.
    """
    if precision not in BITS_PER_NUMBER:
        raise PrecisionError(f"Unknown precision {precision!r}. Precisions are: {', '.join(BITS_PER_NUMBER)}.")
    return precision
