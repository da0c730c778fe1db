"""How vectors are stored, by name, and what that costs."""

from __future__ import annotations

import re
from typing import NamedTuple

from nestvec.errors import DimensionError, PrecisionError

__all__ = [
    "BITS_PER_DIMENSION",
    "PRECISIONS",
    "ProductCode",
    "bytes_per_vector",
    "check_precision",
    "check_trainable",
    "product_code",
    "why_impossible",
]

BITS_PER_DIMENSION = {"float32": 32, "float16": 16, "int8": 8, "int4": 4, "binary": 1}
"""Bits of one dimension at each precision; the names are those of sentence-transformers' `quantize_embeddings`."""
PRECISIONS = (*BITS_PER_DIMENSION, "pq64", "pq32", "pq16", "pq8")
"""Precisions that a grid measures by default; `pq` goes with any other number of bytes too."""
_PRODUCT = re.compile(r"pq([1-9][0-9]{0,3})(x8)?")


class ProductCode(NamedTuple):
    """What the name of a product quantization says."""

    n_bytes: int
    """Of a vector's codes."""
    bits: int
    """Of each code: 4, whose tables fit into registers and are scanned fast, or 8."""

    @property
    def n_codebooks(self) -> int:
        """How many codebooks fill the bytes."""
        return self.n_bytes * 8 // self.bits


def product_code(precision: str) -> ProductCode | None:
    """Read the name of a product quantization.

    Args:
        precision: A name: `pq16` is 16 bytes of 4-bit codes, `pq16x8` is 16 bytes of 8-bit codes.

    Returns:
        What it says; None for a precision that stores each dimension by itself, and for what is no precision.

    Example:
        >>> product_code("pq16").n_codebooks, product_code("pq16x8").n_codebooks, product_code("int8")
        (32, 16, None)
    """
    found = _PRODUCT.fullmatch(precision)
    return None if found is None else ProductCode(int(found[1]), 8 if found[2] else 4)


def bytes_per_vector(dim: int, precision: str = "float32") -> int:
    """Return what one stored vector costs, in bytes: dim x bits / 8, rounded up, or what a pq precision says.

    Args:
        dim: Dimensions kept, at least 1.
        precision: A name in `BITS_PER_DIMENSION`, or `pq` and a number of bytes.

    Returns:
        Bytes.

    Raises:
        DimensionError: `dim` is below 1, or has fewer dimensions than a product quantization has codebooks.
        PrecisionError: The precision is not known.

    Example:
        >>> bytes_per_vector(64), bytes_per_vector(100, "binary"), bytes_per_vector(384, "pq16")
        (256, 13, 16)
    """
    if dim < 1:
        raise DimensionError(f"A vector of {dim} dimensions cannot be stored. Choose a dim from 1.")
    check_precision(precision)
    code = product_code(precision)
    if code is None:
        return -(-dim * BITS_PER_DIMENSION[precision] // 8)
    if reason := why_impossible(dim, precision):
        raise DimensionError(reason)
    return code.n_bytes


def check_precision(precision: str) -> str:
    """Return a precision's name, or say which there are.

    Args:
        precision: A name.

    Returns:
        The same name.

    Raises:
        PrecisionError: It is neither in `BITS_PER_DIMENSION` nor `pq` and a number of bytes.
    """
    if precision not in BITS_PER_DIMENSION and product_code(precision) is None:
        raise PrecisionError(
            f"Unknown precision {precision!r}. Precisions are: {', '.join(BITS_PER_DIMENSION)}, and pq with a number "
            "of bytes, such as pq16 (pq16x8 has 8-bit codebooks)."
        )
    return precision


def check_trainable(precision: str) -> str:
    """Return a precision whose quantizer one batch is enough for.

    Raises:
        PrecisionError: It is not known, or is product quantization, whose codebooks thousands of vectors teach.
    """
    check_precision(precision)
    if precision not in BITS_PER_DIMENSION:
        raise PrecisionError(
            f"{precision} cannot be trained for: its codebooks are learned from thousands of vectors, and one batch is "
            f"too few. Precisions of training are {', '.join(BITS_PER_DIMENSION)}."
        )
    return precision


def why_impossible(dim: int, precision: str) -> str | None:
    """Say why vectors of a size cannot be stored at a precision.

    Args:
        dim: Their dimensions.
        precision: The precision.

    Returns:
        A sentence; None where they can.

    Example:
        >>> why_impossible(32, "pq32")
        'pq32 has 64 codebooks, and vectors of 32 dimensions have too few for one each. Choose pq16 or less.'
    """
    code = product_code(precision)
    if code is None or dim >= code.n_codebooks:
        return None
    most, ending = dim * code.bits // 8, "" if code.bits == 4 else "x8"
    advice = f"Choose pq{most}{ending} or less." if most else "Choose another precision."
    return (
        f"{precision} has {code.n_codebooks} codebooks, and vectors of {dim} dimensions have too few for one each. "
        f"{advice}"
    )
