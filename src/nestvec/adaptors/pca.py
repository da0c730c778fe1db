"""Principal components: the rotation that puts the directions of most variance first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, VectorError
from nestvec.vectors import normalize

__all__ = ["PCA", "fit_pca"]

Float32s = NDArray[np.float32]


@dataclass(frozen=True)
class PCA:
    """A rotation of vectors onto their principal components.

    Attributes:
        mean: Subtracted first, [full_dim].
        components: One direction a row, that of most variance first, [full_dim, full_dim].
    """

    mean: Float32s
    components: Float32s

    def transform(self, vectors: NDArray[np.floating[Any]]) -> Float32s:
        """Rotate vectors.

        Args:
            vectors: [n, full_dim].

        Returns:
            Unit vectors, [n, full_dim], float32.

        Raises:
            DimensionError: They have another size than those it was fitted on.
        """
        if vectors.shape[-1] != len(self.mean):
            raise DimensionError(f"This rotation is of vectors with {len(self.mean)} numbers, not {vectors.shape[-1]}.")
        rotated: Float32s = (vectors.astype(np.float32, copy=False) - self.mean) @ self.components.T
        return normalize(rotated)


def fit_pca(vectors: NDArray[np.floating[Any]]) -> PCA:
    """Fit principal components.

    Args:
        vectors: A sample, [n, full_dim].

    Returns:
        The rotation. Directions without variance, where there are fewer rows than numbers, come last.

    Raises:
        VectorError: There are less than two vectors, or one is not finite.

    Source:
        Pearson 1901; by the eigenvectors of the covariance matrix, summed in float64.
    """
    if vectors.ndim != 2 or len(vectors) < 2 or not np.isfinite(vectors).all():
        raise VectorError(f"Principal components need two or more finite vectors [n, dim], not {list(vectors.shape)}.")
    wide = vectors.astype(np.float64)
    mean = wide.mean(axis=0)
    wide -= mean
    _, directions = np.linalg.eigh(wide.T @ wide)  # of least variance first
    return PCA(mean.astype(np.float32), np.ascontiguousarray(directions[:, ::-1].T, dtype=np.float32))
