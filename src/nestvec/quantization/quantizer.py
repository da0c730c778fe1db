"""What a quantizer is: fitted once, it stores vectors as codes of fewer bytes, and restores them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, VectorError
from nestvec.quantization.precisions import bytes_per_vector
from nestvec.vectors import normalize

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Codes", "Float32s", "Quantizer", "check_vectors"]

_ROWS_AT_A_TIME = 65_536

Float32s = NDArray[np.float32]
Codes = NDArray[Any]
"""Stored vectors, [n, width]: float32, float16, int8, or uint8 with several numbers a byte."""


@dataclass(frozen=True)
class Quantizer(ABC):
    """Turns vectors into codes and back.

    Where every dimension has a code of its own, the codes of a vector begin with the codes of each of its prefixes:
    what was stored at 512 dimensions can be cut to 128 without encoding again. Product quantization, and rotations that
    mix dimensions, know whole vectors only.

    Attributes:
        precision: A name in `BITS_PER_DIMENSION`, or `pq` and a number of bytes.
        full_dim: Dimensions of the vectors it was fitted on.
    """

    precision: str
    full_dim: int

    parameters: ClassVar[tuple[str, ...]] = ()
    """Fields that hold arrays, saved with the codes."""

    def encode(self, vectors: NDArray[np.floating[Any]]) -> Codes:
        """Turn vectors into codes.

        Args:
            vectors: [n, dim], floating point, finite, with dim at most `full_dim`: whole vectors or their prefixes,
                on the scale of those the quantizer was fitted on.

        Returns:
            [n, width], of `bytes_per_vector(dim, precision)` bytes a row.

        Raises:
            DimensionError: The vectors have more numbers than those the quantizer was fitted on.
            VectorError: They are not [n, dim] floating-point numbers, or hold numbers that are not finite.
        """
        checked = check_vectors(vectors)
        self._check_dim(checked.shape[1])
        return self._encode(checked)

    def decode(self, codes: Codes, dim: int | None = None) -> Float32s:
        """Turn codes into the vectors they stand for.

        Args:
            codes: [n, width], from `encode`.
            dim: Dimensions to decode, from the first; None decodes `full_dim`. Needed where the codes hold fewer.

        Returns:
            [n, dim], float32; near the vectors that were encoded, not of unit length.

        Raises:
            DimensionError: `dim` is outside 1..full_dim, or the codes hold fewer numbers.
            VectorError: The codes are not of this quantizer's type.
        """
        return self._decode(self.cut(codes, dim), self.full_dim if dim is None else dim)

    def cut(self, codes: Codes, dim: int | None = None) -> Codes:
        """Keep the codes of the first numbers: the codes of a truncated vector, without encoding again.

        Args:
            codes: [n, width], from `encode`.
            dim: Numbers to keep; None keeps `full_dim`.

        Returns:
            [n, width of dim]; a view where no bit has to be cleared.

        Raises:
            DimensionError: `dim` is outside 1..full_dim, or the codes hold fewer numbers.
            VectorError: The codes are not of this quantizer's type.
        """
        kept = self.full_dim if dim is None else dim
        self._check_dim(kept)
        self.check_codes(codes)
        width = self.width(kept)
        if codes.shape[1] < width:
            raise DimensionError(
                f"Codes of {codes.shape[1]} columns do not hold {kept} dimensions, which take {width}."
            )
        return self._clear_padding(codes[:, :width], kept)

    def check_codes(self, codes: Codes) -> None:
        """Check the type of codes.

        Args:
            codes: [n, width].

        Raises:
            VectorError: They are not of this quantizer's type.
            DimensionError: They have no column.
        """
        if codes.ndim != 2 or codes.dtype != self.code_type:
            raise VectorError(
                f"Codes of {self.precision} are {self.code_type} [n, width], not {codes.dtype} {list(codes.shape)}."
            )
        if not codes.shape[1]:
            raise DimensionError("Codes without a column hold no numbers.")

    def score(self, queries: NDArray[np.floating[Any]], codes: Codes) -> Float32s:
        """Compare queries, which stay as they are, with stored codes (asymmetric scoring).

        Args:
            queries: [n_queries, dim], floating point; need not be of unit length.
            codes: [n, width], of at least dim numbers.

        Returns:
            Cosine similarity of each query with what each code stands for, both cut to dim, [n_queries, n]; 0 where
            either is zero.

        Raises:
            DimensionError: The codes hold fewer numbers than the queries.
            VectorError: The queries are no finite vectors, or the codes not of this quantizer's type.

        Source:
            Asymmetric distance: Jegou, Douze, Schmid 2011, "Product quantization for nearest neighbor search".
        """
        checked = check_vectors(queries)
        unit = normalize(checked)
        scores = np.empty((len(checked), len(codes)), np.float32)
        for first in range(0, len(codes), _ROWS_AT_A_TIME):
            rows = slice(first, first + _ROWS_AT_A_TIME)
            scores[:, rows] = unit @ normalize(self.decode(codes[rows], checked.shape[1])).T
        return np.clip(scores, -1, 1, out=scores)

    def width(self, dim: int) -> int:
        """Return how many columns the codes of `dim` dimensions have."""
        return bytes_per_vector(dim, self.precision) // self.code_type.itemsize

    @property
    @abstractmethod
    def code_type(self) -> np.dtype[Any]:
        """Type of one column of the codes."""

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return what was fitted, by name."""
        return {name: getattr(self, name) for name in self.parameters if getattr(self, name) is not None}

    @classmethod
    def from_arrays(cls, precision: str, full_dim: int, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the quantizer that arrays were taken from.

        Args:
            precision: A name of its precision.
            full_dim: Dimensions of the vectors it was fitted on.
            arrays: What was fitted, by name.

        Raises:
            DimensionError: They are of other dimensions.
            TypeError: One is missing, or has another name.
        """
        if any(array.shape[0] != full_dim for array in arrays.values()):
            raise DimensionError(f"They are said to have {full_dim} dimensions, and their arrays have others.")
        return cls(precision, full_dim, **arrays)

    @abstractmethod
    def _encode(self, vectors: Float32s) -> Codes: ...

    @abstractmethod
    def _decode(self, codes: Codes, dim: int) -> Float32s: ...

    def _clear_padding(self, codes: Codes, dim: int) -> Codes:  # codes without padding keep all
        return codes

    def _check_dim(self, dim: int) -> None:
        if not 1 <= dim <= self.full_dim:
            raise DimensionError(
                f"This quantizer was fitted on vectors of {self.full_dim} dimensions and got {dim}. "
                f"Give 1 to {self.full_dim}, or fit another."
            )


def check_vectors(vectors: NDArray[np.floating[Any]]) -> Float32s:
    """Check an array of vectors and return it as float32.

    Args:
        vectors: [n, dim], floating point.

    Returns:
        The same values as float32; the same array where it is float32 already.

    Raises:
        VectorError: It is not [n, dim] floating-point numbers, or holds numbers that are not finite.
    """
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        what = f"{vectors.dtype} {list(vectors.shape)}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise VectorError(f"Vectors are a floating-point array [n, dim], not {what}.")
    if 0 in vectors.shape:
        raise VectorError(f"There are no vectors in an array of shape {list(vectors.shape)}.")
    with np.errstate(over="ignore"):
        found = vectors.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        beyond = bool(np.isfinite(vectors[bad]).all())
        what = "beyond float32: scale them to unit length" if beyond else "that are not finite"
        raise VectorError(f"{len(bad)} vectors hold numbers {what}, the first in row {bad[0]}.")
    return found
