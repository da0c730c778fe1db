"""binary: one bit a number, whether it lies above the centre of its dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import PrecisionError, VectorError
from nestvec.quantization.quantizer import Codes, Float32s, Quantizer, check_vectors

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BinaryQuantizer", "hamming"]

_ROWS_AT_A_TIME = 65_536


@dataclass(frozen=True)
class BinaryQuantizer(Quantizer):
    """Keeps of every number whether it is above the centre of its dimension.

    Attributes:
        center: What separates 0 from 1 in each dimension, [full_dim].
        below: Mean of what is stored as 0, [full_dim].
        above: Mean of what is stored as 1, [full_dim].
    """

    center: Float32s
    below: Float32s
    above: Float32s

    parameters = ("center", "below", "above")

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.floating[Any]],
        precision: str = "binary",
        *,
        centered: bool = True,
    ) -> Self:
        """Find the centre of every dimension and what the numbers on either side of it are worth.

        Args:
            vectors: A sample, [n, full_dim].
            precision: `binary`.
            centered: Separate at the mean of each dimension, which splits the sample about evenly; else at 0, as
                sentence-transformers and most engines do.

        Returns:
            The quantizer.

        Raises:
            PrecisionError: The precision is another.
            VectorError: The vectors are no finite vectors.

        Source:
            Reconstruction by conditional means: Max 1960, "Quantizing for minimum distortion", for one bit.
        """
        sample = check_vectors(vectors)
        if precision != "binary":
            raise PrecisionError(f"One bit a number is binary, not {precision}.")
        full_dim = sample.shape[1]
        center = sample.mean(axis=0) if centered else np.zeros(full_dim, np.float32)
        bits = sample > center
        count = bits.sum(axis=0)
        above = np.where(bits, sample, 0).sum(axis=0, dtype=np.float64)
        below = sample.sum(axis=0, dtype=np.float64) - above
        return cls(
            precision,
            full_dim,
            center=center,
            # A side that the sample never visits is worth what separates it from the other.
            below=np.where(count < len(sample), below / np.maximum(len(sample) - count, 1), center).astype(np.float32),
            above=np.where(count > 0, above / np.maximum(count, 1), center).astype(np.float32),
        )

    @property
    def code_type(self) -> np.dtype[Any]:
        """uint8 with eight numbers a byte, the first in the highest bit."""
        return np.dtype(np.uint8)

    def _encode(self, vectors: Float32s) -> Codes:
        return np.packbits(vectors > self.center[: vectors.shape[1]], axis=1)

    def _decode(self, codes: Codes, dim: int) -> Float32s:
        bits = np.unpackbits(codes, axis=1, count=dim)
        return np.where(bits, self.above[:dim], self.below[:dim])

    def _clear_padding(self, codes: Codes, dim: int) -> Codes:
        if dim % 8 == 0:
            return codes
        cut: Codes = codes.copy()
        cut[:, -1] &= 0xFF << (8 - dim % 8) & 0xFF
        return cut


def hamming(queries: Codes, documents: Codes) -> NDArray[np.int64]:
    """Count the bits in which binary codes differ.

    Args:
        queries: [n_queries, width], uint8 of `BinaryQuantizer`.
        documents: [n_documents, width], uint8.

    Returns:
        [n_queries, n_documents], from 0 to 8 x width.

    Raises:
        VectorError: They are not uint8 codes of one width.

    Example:
        >>> hamming(np.array([[0b1100]], np.uint8), np.array([[0b1010], [0b1100]], np.uint8))
        array([[2, 0]])
    """
    if queries.dtype != np.uint8 or documents.dtype != np.uint8 or queries.shape[1:] != documents.shape[1:]:
        raise VectorError(
            f"Binary codes are uint8 [n, width] of one width, not {queries.dtype} {list(queries.shape)} and "
            f"{documents.dtype} {list(documents.shape)}."
        )
    left = _signs(queries)
    distances = np.empty((len(queries), len(documents)), np.int64)
    for first in range(0, len(documents), _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        # For bits of +1 and -1 the dot product is width - 2 x distance; float32 is exact far beyond any width.
        distances[:, rows] = (left.shape[1] - left @ _signs(documents[rows]).T) / 2
    return distances


def _signs(codes: Codes) -> Float32s:
    signs: Float32s = np.where(np.unpackbits(codes, axis=1), np.float32(1), np.float32(-1))
    return signs
