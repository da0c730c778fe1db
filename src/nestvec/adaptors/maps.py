"""What an adaptor does to the vectors of one side: a matrix, and perhaps one hidden layer beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, VectorError
from nestvec.vectors import find_unusable, normalize, unit_float32

__all__ = ["HiddenLayer", "Map", "Towers", "check_rows"]

Float32s = NDArray[np.float32]

_NUMBERS_AT_A_TIME = 8_000_000  # 32 MiB of float32
_NAMED = 3


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
            dim: Leading dimensions to compute; None takes all.

        Returns:
            Unit vectors, [n, dim], float32.

        Raises:
            DimensionError: They have another size than those it was fitted on.
            VectorError: Vectors are zero or not finite; the first such rows are named.
        """
        mapped = np.empty((len(vectors), self.full_dim if dim is None else dim), np.float32)
        self.transform_into(mapped, vectors)
        return mapped

    def transform_into(self, mapped: Float32s, vectors: NDArray[np.floating[Any]]) -> None:
        """Map vectors into an array that is there, such as a memory-mapped file.

        Args:
            mapped: [n, dim], float32; receives unit vectors of the first `dim` dimensions.
            vectors: [n, input_dim], floating point.

        Raises:
            DimensionError: They have another size than those it was fitted on.
            VectorError: Vectors are zero or not finite; the first such rows are named.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.input_dim:
            raise DimensionError(
                f"This map takes vectors [n, {self.input_dim}], not {list(vectors.shape)}. "
                "Give vectors of the encoder that it was fitted on, whole."
            )
        check_rows("vectors", vectors)
        width = max(self.input_dim, self.full_dim, 0 if self.hidden is None else len(self.hidden.bias))
        block = max(1, _NUMBERS_AT_A_TIME // width)
        for first in range(0, len(vectors), block):
            rows = slice(first, first + block)
            mapped[rows] = self._apply(unit_float32(np.asarray(vectors[rows])), mapped.shape[1])

    def cut(self, dim: int) -> Map:
        """Keep what gives the first `dim` dimensions."""
        hidden = None if self.hidden is None else self.hidden._replace(output=self.hidden.output[:, :dim])
        return Map(self.weight[:, :dim], None if self.bias is None else self.bias[:dim], hidden)

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

    def cut(self, dim: int) -> Towers:
        """Keep what gives the first `dim` dimensions; a shared map stays shared."""
        query = self.query.cut(dim)
        return Towers(query, query if self.document is self.query else self.document.cut(dim))


def check_rows(name: str, vectors: NDArray[np.floating[Any]]) -> None:
    """Refuse rows that have no direction, a block at a time.

    Args:
        name: What to call the vectors in an error.
        vectors: [n, dim], floating point.

    Raises:
        VectorError: Rows are zero, or not finite; how many and the first are named.
    """
    bad: dict[str, list[int]] = {"not finite": [], "zero": []}
    block = max(1, _NUMBERS_AT_A_TIME // max(1, vectors.shape[1]))
    for first in range(0, len(vectors), block):
        for what, found in find_unusable(np.asarray(vectors[first : first + block])).items():
            bad[what] += (first + found).tolist()
    for what, rows in bad.items():
        if rows:
            shown = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
            raise VectorError(f"{len(rows)} of {len(vectors)} {name} are {what}, in rows {shown}. Leave them out.")
