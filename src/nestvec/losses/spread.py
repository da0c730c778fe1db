"""Spread-out regularisation: vectors that have nothing to do with each other should look unrelated at every size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestvec.losses.prefixes import check_vectors, nested_prefixes, widen
from nestvec.vectors import truncate

__all__ = ["nested_spread_out"]


def nested_spread_out(vectors: Tensor, *, dims: Sequence[int], weights: Sequence[float] | None = None) -> Tensor:
    """How far the cosines between rows are from those of directions drawn at random, summed over dims by weight.

    At each size that is the squared mean of the cosines of all pairs, plus what their mean square has above 1 / dim,
    which is that of random directions. Rows of a batch count as unrelated: give documents, each once.

    The pairs are never formed: means and squares follow from the sum of the rows and from their second moments, in
    memory of dim x dim.

    Args:
        vectors: [batch, dim], floating point. Need not be unit length.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.

    Returns:
        Scalar, 0 or more; 0, with a gradient of zero, for a single row.

    Raises:
        LossInputError: Weights do not fit, or a number is not finite.
        DimensionError: A dim is outside the vectors, repeated or out of order.

    Source:
        Zhang et al. 2017, arXiv:1708.06320 (global orthogonal regularisation), at every prefix.

    Example:
        >>> nested_spread_out(torch.eye(3), dims=[3])
        tensor(0.)
        >>> nested_spread_out(torch.ones(2, 4), dims=[4])
        tensor(1.7500)
    """
    prefixes = nested_prefixes(dims, weights, check_vectors(vectors=vectors))
    if len(vectors) < 2:
        return widen(vectors)[0][:0].sum()
    n_pairs = len(vectors) * (len(vectors) - 1)
    with torch.autocast(device_type=vectors.device.type, enabled=False):
        (vectors,) = widen(vectors)
        total = vectors.new_zeros(())
        for prefix in prefixes:
            unit = truncate(vectors, prefix.dim)
            own = unit.square().sum(dim=1)  # 1, or 0 for a zero vector
            mean = (unit.sum(dim=0).square().sum() - own.sum()) / n_pairs
            mean_square = ((unit.T @ unit).square().sum() - own.square().sum()) / n_pairs
            total = total + prefix.weight * (mean.square() + (mean_square - 1 / prefix.dim).clamp(min=0))
    return total
