"""Principal components: the rotation that puts the directions of most variance first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.maps import Map
from nestvec.errors import VectorError
from nestvec.vectors import normalize

__all__ = ["fit_pca"]

_ROWS_AT_A_TIME = 16_384
_LEAST_SHARE = 1e-4  # of the mean variance; whitening does not blow up what has less


def fit_pca(vectors: NDArray[np.floating[Any]], *, centered: bool = True, whitened: bool = False) -> Map:
    """Fit principal components.

    Args:
        vectors: A sample, [n, full_dim], floating point. They count at unit length.
        centered: Subtract the mean. Without, the map is a rotation about the origin, which keeps every cosine at the
            full size.
        whitened: Give every direction the same variance.

    Returns:
        The map. Directions without variance, where there are fewer rows than numbers, come last.

    Raises:
        VectorError: There are less than two vectors, or one is not finite.

    Source:
        Pearson 1901; by the eigenvectors of the covariance matrix, summed in float64. Whitened sentence embeddings: Su
        et al. 2021, arXiv:2103.15316; we let no variance count as less than 1/10,000 of the mean one.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> abs(fit_pca(vectors).weight)
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise VectorError(f"Principal components need two or more finite vectors [n, dim], not {list(vectors.shape)}.")
    total, products = np.zeros(vectors.shape[1]), np.zeros((vectors.shape[1],) * 2)
    for first in range(0, len(vectors), _ROWS_AT_A_TIME):
        part = vectors[first : first + _ROWS_AT_A_TIME].astype(np.float64)
        if not np.isfinite(part).all():
            raise VectorError("Principal components need finite vectors, and a number here is not.")
        unit = normalize(part)
        total += unit.sum(axis=0)
        products += unit.T @ unit
    mean = total / len(vectors) if centered else np.zeros_like(total)
    covariance = products / len(vectors) - np.outer(mean, mean)
    variances, directions = np.linalg.eigh(covariance)  # of least variance first
    variances, directions = variances[::-1], directions[:, ::-1]
    if whitened:
        directions = directions / np.sqrt(np.maximum(variances, _LEAST_SHARE * variances.mean()))
    bias = (-mean @ directions).astype(np.float32) if centered else None
    return Map(np.ascontiguousarray(directions, dtype=np.float32), bias)
