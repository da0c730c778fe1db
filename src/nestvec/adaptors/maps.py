"""What an adaptor does to the vectors of one side: a matrix, and perhaps one hidden layer beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, VectorError
from nestvec.vectors import normalize

__all__ = ["HiddenLayer", "Map", "Towers"]

Float32s = NDArray[np.float32]

_NUMBERS_AT_A_TIME = 8_000_000  # 32 MiB of float32


class HiddenLayer(NamedTuple):
    """`relu(x @ weight + bias) @ output`: what is added to a linear map."""

    weight: Float32s
    """[input_dim, width]."""
    bias: Float32s
    """[width]."""
    output: Float32s
    """[width, full_dim]."""


@dataclass(frozen=True, eq=False)
class Map:
    """`x @ weight + bias`, plus a hidden layer where there is one, at unit length.

    Attributes:
        weight: [input_dim, full_dim].
        bias: [full_dim]; None is none.
        hidden: The hidden layer; None for a linear map.
    """

    weight: Float32s
    bias: Float32s | None = None
    hidden: HiddenLayer | None = None

    @property
    def input_dim(self) -> int:
        """Numbers in the vectors that it takes."""
        return int(self.weight.shape[0])

    @property
    def full_dim(self) -> int:
        """Numbers in the vectors that it gives."""
        return int(self.weight.shape[1])

    def digest(self) -> str:
        """Digest the numbers of the map, 64 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=32)
        for array in (self.weight, self.bias, *(self.hidden or ())):
            digest.update(
                b"none" if array is None else f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
            )
        return digest.hexdigest()

    def transform(self, vectors: NDArray[np.floating[Any]], dim: int | None = None) -> Float32s:
        """Map vectors, a block of rows at a time; they may be a memory-mapped file.

        Args:
            vectors: [n, input_dim], floating point. They count at unit length.
            dim: Leading numbers to compute; None takes all.

        Returns:
            Unit vectors, [n, dim], float32.

        Raises:
            DimensionError: They have another size than those it was fitted on.
            VectorError: A number is not finite; the first such row is named.
        """
        dim = self.full_dim if dim is None else dim
        if vectors.ndim != 2 or vectors.shape[1] != self.input_dim:
            raise DimensionError(
                f"This map takes vectors [n, {self.input_dim}], not {list(vectors.shape)}. "
                "Give vectors of the encoder that it was fitted on, whole."
            )
        mapped = np.empty((len(vectors), dim), np.float32)
        width = max(self.input_dim, self.full_dim, 0 if self.hidden is None else len(self.hidden.bias))
        block = max(1, _NUMBERS_AT_A_TIME // width)
        for first in range(0, len(vectors), block):
            rows = slice(first, first + block)
            part = np.asarray(vectors[rows], dtype=np.float32)
            finite = np.isfinite(part).all(axis=1)
            if not finite.all():
                raise VectorError(
                    f"The vector in row {first + int(np.argmin(finite))} holds a number that is not finite."
                )
            mapped[rows] = self._apply(normalize(part), dim)
        return mapped

    def _apply(self, vectors: Float32s, dim: int) -> Float32s:
        found: Float32s = vectors @ self.weight[:, :dim]
        if self.bias is not None:
            found += self.bias[:dim]
        if self.hidden is not None:
            inner = vectors @ self.hidden.weight
            inner += self.hidden.bias
            np.maximum(inner, 0.0, out=inner)
            found += inner @ self.hidden.output[:, :dim]
        return normalize(found)


class Towers(NamedTuple):
    """The map of each side; one and the same where both sides share it."""

    query: Map
    document: Map
