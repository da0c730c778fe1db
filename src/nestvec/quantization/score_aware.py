"""Which centroid of every codebook stands for a vector: the nearest one, or the one that scores are kept best by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nestvec.quantization.quantizer import Float32s

__all__ = ["choose_codes", "nearest_codes"]

Rows = NDArray[np.int64]

_PARALLEL_WEIGHT = 8.0


def nearest_codes(projected: Float32s, centroids: Float32s) -> Rows:
    """Assign the nearest centroid of every codebook.

    Args:
        projected: Vectors, [n, n_codebooks x sub_dim], float32.
        centroids: Of the codebooks, [n_codebooks, n_centroids, sub_dim].

    Returns:
        A code for each codebook, [n, n_codebooks].
    """
    return np.ascontiguousarray(_least(_distances(projected, centroids)[1]).T)


def _distances(projected: Float32s, centroids: Float32s) -> tuple[Float32s, Float32s]:
    """Dot products of sub-vectors with all centroids of their codebooks, and squared distances to them and 1 more.

    [n_codebooks, n_centroids, n] each.
    """
    n_codebooks, _, sub_dim = centroids.shape
    blocks = projected.reshape(-1, n_codebooks, sub_dim).transpose(1, 2, 0)
    products: Float32s = np.matmul(centroids, blocks)
    distances = np.einsum("cjn,cjn->cj", centroids, centroids)[:, :, None] - 2 * products
    distances += 1 + np.einsum("cjn,cjn->cn", blocks, blocks)[:, None]  # above 0 by 1: see `_least`
    return products, distances


def choose_codes(projected: Float32s, centroids: Float32s, target: float) -> Rows:
    """Assign codes with a score-aware loss, so that no vector looks nearer to its queries than it is beside others.

    Let y stand for x. The nearest centroids leave more of some vectors out than of others, and x y, the share of x
    that is left, differs among them. Documents are looked for by queries that lie near them, so that this changes their
    order, more than other errors of the same size. Here |x - y|^2 + 8 (t - x y)^2 is made small, where t, the target,
    is the same for all. Codes start from the nearest centroids and are chosen anew, one codebook after another, once: a
    second round, or a weight of 4 or 16, finds as much.

    Args:
        projected: Vectors, [n, n_codebooks x sub_dim], float32.
        centroids: Of the codebooks, [n_codebooks, n_centroids, sub_dim].
        target: What x y is to be near: its mean over vectors whose nearest centroids stand for them.

    Returns:
        A code for each codebook, [n, n_codebooks].

    Source:
        The weight of errors along a vector is that of Guo et al. 2020, anisotropic vector quantization,
        arXiv:1908.10396; there t is that of each vector itself, and centroids are learned with the same weight.
    """
    products, distances = _distances(projected, centroids)
    chosen = _least(distances.copy())
    along = np.take_along_axis(products, chosen[:, None], axis=1)[:, 0]  # [n_codebooks, n]
    missing = np.float32(target) - along.sum(axis=0)  # t - x y
    rows = np.arange(len(projected))
    for place in range(len(centroids)):
        missing += along[place]
        losses = missing - products[place]
        losses *= losses
        losses *= _PARALLEL_WEIGHT
        losses += distances[place]
        chosen[place] = _least(losses)
        missing -= products[place][chosen[place], rows]
    return np.ascontiguousarray(chosen.T)


def _least(losses: Float32s) -> Rows:
    """Places of the least of 16 or 256, [..., n] of [..., n_centroids, n] above 0, which are overwritten.

    The last bits of each make way for its place, and whole numbers of the same bits are compared, which have the same
    order: twice as fast as `argmin`.
    """
    count = losses.shape[-2]
    bits = losses.view(np.int32)
    bits &= -count
    bits |= np.arange(count, dtype=np.int32)[:, None]
    places: Rows = (np.minimum.reduce(bits, axis=-2) & (count - 1)).astype(np.int64)
    return places
