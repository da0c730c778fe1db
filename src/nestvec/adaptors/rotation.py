"""Rotations: orthogonal maps that keep every full-size cosine and put first what search needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.maps import Map
from nestvec.errors import VectorError
from nestvec.vectors import unit_float32

__all__ = ["fit_pair_rotation", "nearest_rotation"]

Vectors = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]

_ROWS_AT_A_TIME = 16_384
_NOTHING = 1e-12  # what rounding leaves of vectors that are all alike


def fit_pair_rotation(queries: Vectors, documents: Vectors, *, noise_weight: float = 0.5) -> Map:
    """Rotate so that the leading dimensions hold what queries and their documents agree on.

    The axes are eigenvectors of the symmetrised cross-covariance of both sides, less a share of the covariance of their
    differences: a dimension counts by what it adds to the similarity of a pair, not by its variance, which may be that
    of a topic, a style or a side.

    Args:
        queries: [n, dim], floating point, at least two rows; they count at unit length.
        documents: [n, dim]; row i belongs to query i.
        noise_weight: Weight of the covariance of the differences; 0 counts agreement alone.

    Returns:
        An orthogonal map without bias: all cosines at the full size stay as they are, up to rounding.

    Raises:
        VectorError: There are fewer than two pairs, the two sides differ in shape, or no direction varies.

    Source:
        The maximum margin criterion, scatter between classes less scatter within: Li, Jiang and Zhang 2006, "Efficient
        and robust feature extraction by maximum margin criterion", with a pair as a class; we weigh the scatter within.

    Example:
        >>> queries = np.array([[1.0, 0.1, 0.3], [-1.0, 0.1, -0.3], [1.0, -0.1, 0.3], [-1.0, -0.1, -0.3]])
        >>> documents = queries * [1.0, -1.0, 1.0]  # they disagree in the second dimension
        >>> abs(fit_pair_rotation(queries, documents).weight[1]).round(3)
        array([0., 0., 1.], dtype=float32)
    """
    if queries.shape != documents.shape or queries.ndim != 2 or len(queries) < 2:
        raise VectorError(
            f"A rotation by pairs needs two or more queries [n, dim] with a document each, not {list(queries.shape)} "
            f"and {list(documents.shape)}."
        )
    dim = queries.shape[1]
    means, cross, noise = np.zeros((2, dim)), np.zeros((dim, dim)), np.zeros((dim, dim))
    for left, right in _blocks(queries, documents):
        means += [left.sum(axis=0), right.sum(axis=0)]
        cross += left.T @ right
        noise += (left - right).T @ (left - right)
    means /= len(queries)
    cross = cross / len(queries) - np.outer(*means)
    difference = means[0] - means[1]
    noise = noise / len(queries) - np.outer(difference, difference)
    agreement = cross + cross.T - noise_weight * noise
    if np.abs(agreement).max() < _NOTHING:
        raise VectorError(f"All {len(queries)} pairs have the same vectors: no direction tells them apart.")
    directions = np.linalg.eigh(agreement)[1][:, ::-1]  # of most agreement first
    return Map(np.ascontiguousarray(directions, dtype=np.float32))


def nearest_rotation(one: Map) -> Map:
    """Replace a linear map by the orthogonal one that is nearest to it.

    Args:
        one: [dim, dim]; its bias is dropped.

    Returns:
        The orthogonal factor of its polar decomposition.

    Source:
        Schoenemann 1966, "A generalized solution of the orthogonal Procrustes problem".
    """
    left, _, right = np.linalg.svd(one.weight.astype(np.float64))
    return Map(np.ascontiguousarray(left @ right, dtype=np.float32))


def _blocks(queries: Vectors, documents: Vectors) -> Iterator[tuple[Matrix, Matrix]]:
    for first in range(0, len(queries), _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        left, right = (unit_float32(np.asarray(side[rows])).astype(np.float64) for side in (queries, documents))
        yield left, right
