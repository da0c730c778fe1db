"""Rotations before quantization, which spread the variance over all dimensions of a code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError
from nestvec.quantization.quantizer import Codes, Float32s, Quantizer, check_vectors
from nestvec.vectors import check_dims

__all__ = ["RotatedQuantizer", "itq_rotation", "random_rotation"]

_ITERATIONS = 20
_MOST_ROWS = 8_192


@dataclass(frozen=True)
class RotatedQuantizer(Quantizer):
    """Rotates vectors before another quantizer stores them, and back after it restores them.

    Codes can be cut only at a size whose leading dimensions the rotation does not mix with later ones.

    Attributes:
        inner: What stores the rotated vectors.
        rotation: Orthogonal matrix that vectors are multiplied with, [full_dim, full_dim].
    """

    inner: Quantizer
    rotation: Float32s

    def __post_init__(self) -> None:
        """Check the matrix.

        Raises:
            DimensionError: The rotation has another size.
        """
        if self.rotation.shape != (self.full_dim, self.full_dim):
            raise DimensionError(
                f"Vectors of {self.full_dim} dimensions take a rotation of {self.full_dim} by {self.full_dim}, "
                f"not {list(self.rotation.shape)}."
            )

    @property
    def code_type(self) -> np.dtype[Any]:
        """That of the inner quantizer."""
        return self.inner.code_type

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return what was fitted, by name, the rotation beside what is of the inner quantizer."""
        return {**self.inner.arrays(), "rotation": self.rotation}

    def cut(self, codes: Codes, dim: int | None = None) -> Codes:
        """Keep the codes of the first numbers, as `Quantizer.cut` says.

        Raises:
            DimensionError: `dim` is outside, the codes hold fewer numbers, or the rotation mixes these with others.
            VectorError: The codes are not of this quantizer's type.
        """
        kept = super().cut(codes, dim)
        self._check_rotation(self.full_dim if dim is None else dim)
        return kept

    def rotate(self, vectors: Float32s) -> Float32s:
        """Rotate vectors, as they are before they are stored.

        Args:
            vectors: [n, dim], float32, whole vectors or prefixes that the rotation keeps apart from the rest.

        Returns:
            [n, dim], float32.

        Raises:
            DimensionError: There are more dimensions than the rotation has, or it mixes these with later ones.
        """
        dim = vectors.shape[1]
        self._check_dim(dim)
        self._check_rotation(dim)
        rotated: Float32s = vectors @ self.rotation[:dim, :dim]
        return rotated

    def score(self, queries: NDArray[np.floating[Any]], codes: Codes) -> Float32s:
        """Compare queries with stored codes, as `Quantizer.score` says: the queries are rotated, not what is stored.

        Raises:
            DimensionError: The codes hold fewer numbers than the queries, or the rotation mixes these with others.
            VectorError: The queries are no finite vectors, or the codes not of this quantizer's type.
        """
        return self.inner.score(self.rotate(check_vectors(queries)), codes)

    def _encode(self, vectors: Float32s) -> Codes:
        return self.inner._encode(self.rotate(vectors))

    def _decode(self, codes: Codes, dim: int) -> Float32s:
        restored: Float32s = self.inner._decode(codes, dim) @ self.rotation[:dim, :dim].T
        return restored

    def _clear_padding(self, codes: Codes, dim: int) -> Codes:
        return self.inner._clear_padding(codes, dim)

    def _check_rotation(self, dim: int) -> None:
        if self.rotation[:dim, dim:].any():
            raise DimensionError(
                f"The rotation mixes the first {dim} dimensions with later ones, so codes cannot be cut there. "
                f'Fit with rotation="random" and {dim} among rotated_dims.'
            )


def random_rotation(full_dim: int, *, dims: Sequence[int] | None = None, seed: int = 0) -> Float32s:
    """Draw a rotation, each as likely as any other.

    Args:
        full_dim: Dimensions.
        dims: Mix dimensions only between one of these sizes and the next, so that codes can still be cut at them; None
            mixes all.
        seed: Of the draw.

    Returns:
        Orthogonal matrix, [full_dim, full_dim].

    Raises:
        DimensionError: A dim is outside, repeated or out of order.

    Source:
        Mezzadri 2007, arXiv:math-ph/0609050, by the QR decomposition of normal numbers.
    """
    ends = sorted({*(() if dims is None else check_dims(dims, full_dim)), full_dim})
    generator = np.random.default_rng(seed)
    rotation = np.zeros((full_dim, full_dim), np.float32)
    start = 0
    for end in ends:
        orthogonal, upper = np.linalg.qr(generator.normal(size=(end - start, end - start)))
        rotation[start:end, start:end] = orthogonal * np.sign(np.diag(upper))
        start = end
    return rotation


def itq_rotation(vectors: NDArray[np.floating[Any]], *, seed: int = 0) -> Float32s:
    """Rotate vectors so that they lie near the corners of a cube, which bits stand for.

    Args:
        vectors: A sample, [n, dim], floating point; 8,192 rows at most, evenly spread, are looked at.
        seed: Of the rotation that it begins with.

    Returns:
        Orthogonal matrix, [dim, dim].

    Raises:
        VectorError: The vectors are no finite vectors.

    Source:
        Iterative quantization: Gong and Lazebnik 2011, with 20 iterations.
    """
    sample = check_vectors(vectors)
    sample = sample[:: -(-len(sample) // _MOST_ROWS)]
    centered = sample - sample.mean(axis=0)
    rotation = random_rotation(sample.shape[1], seed=seed)
    for _ in range(_ITERATIONS):
        corners = np.sign(centered @ rotation)
        left, _, right = np.linalg.svd(centered.T @ corners)
        rotation = (left @ right).astype(np.float32)
    return rotation
