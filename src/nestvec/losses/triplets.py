"""Triplet losses at every nested size: an anchor is nearer to what belongs to it than to what does not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestvec.errors import LossInputError
from nestvec.losses.engine import nearest_and_furthest
from nestvec.losses.pairs import pair_distance
from nestvec.losses.prefixes import (
    Distance,
    check_class_labels,
    check_distance,
    check_margin,
    check_rows,
    check_vectors,
    chosen,
    nested_prefixes,
    widen,
)
from nestvec.vectors import truncate

__all__ = ["nested_batch_hard_triplet", "nested_triplet"]


def nested_triplet(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    margin: float = 0.5,
    distance: Distance = "cosine",
) -> Tensor:
    """Mean of how much further than `margin` each negative ought to be than its positive, summed over dims by weight.

    Args:
        anchors: [batch, dim], floating point.
        positives: [batch, dim].
        negatives: [batch, dim], or [batch * n, dim] with the first negatives of all anchors, then the second ones.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        margin: By how much a negative should be further away, above 0.
        distance: `cosine` (1 - cosine similarity), `euclidean` or `manhattan`, between unit vectors.

    Returns:
        Scalar.

    Raises:
        LossInputError: Shapes, weights, margin or distance do not fit, or an embedding is not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Schroff et al. 2015, arXiv:1503.03832.

    Example:
        >>> anchors, positives, negatives = torch.eye(2)[:1], torch.eye(2)[:1], torch.ones(1, 2)
        >>> round(nested_triplet(anchors, positives, negatives, dims=[2]).item(), 4)
        0.2071
    """
    full_dim = check_vectors(anchors=anchors, positives=positives, negatives=negatives)
    batch = len(anchors)
    if len(positives) != batch or len(negatives) % batch:
        raise LossInputError(
            f"Got {batch} anchors, {len(positives)} positives and {len(negatives)} negatives. Each anchor needs one "
            "positive, and as many negatives as every other."
        )
    check_margin(margin)
    check_distance(distance)
    anchors, positives, negatives = widen(anchors, positives, negatives)
    negatives = negatives.reshape(-1, batch, full_dim)  # [n, batch, dim]
    loss = anchors.new_zeros(())
    with torch.autocast(device_type=anchors.device.type, enabled=False):
        for prefix in nested_prefixes(dims, weights, full_dim):
            a, p, n = (truncate(vectors, prefix.dim) for vectors in (anchors, positives, negatives))
            excess = pair_distance(a, p, distance) - pair_distance(a, n, distance) + margin  # [n, batch]
            loss = loss + prefix.weight * excess.relu().mean()
    return loss


def nested_batch_hard_triplet(
    vectors: Tensor,
    labels: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    margin: float = 0.5,
    distance: Distance = "cosine",
    rows: slice | None = None,
) -> Tensor:
    """Triplet loss of each row with its furthest fellow and its nearest stranger in the batch, at each prefix anew.

    Who is hard is found in one pass of tiles without gradients; memory grows with the batch and not with its square.

    Args:
        vectors: [batch, dim], floating point.
        labels: [batch], the class of each row, whole numbers.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        margin: By how much the stranger should be further away, above 0.
        distance: `cosine` (1 - cosine similarity), `euclidean` or `manhattan`, between unit vectors.
        rows: Which rows are anchors; None takes all. A process that has gathered the batches of all gives its own.

    Returns:
        Scalar: the mean over anchors that have a fellow and a stranger; 0, with a gradient of zero, where none has.

    Raises:
        LossInputError: Shapes, weights, margin, distance or rows do not fit, or an embedding is not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Hermans et al. 2017, arXiv:1703.07737. Rows without a fellow or a stranger do not count there either;
        sentence-transformers counts them with distance 0.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> round(nested_batch_hard_triplet(vectors, torch.tensor([0, 0, 1]), dims=[2]).item(), 4)
        0.25
    """
    prefixes = nested_prefixes(dims, weights, check_vectors(vectors=vectors))
    labels = check_class_labels(labels, len(vectors))
    check_margin(margin)
    check_distance(distance)
    (vectors,) = widen(vectors)
    _, kinds, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    has_both = (sizes[kinds] > 1) & (sizes[kinds] < len(vectors))
    n_rows = check_rows(rows, len(vectors))
    anchors = chosen(torch.arange(len(vectors), device=vectors.device), rows)
    anchors = anchors[has_both[anchors]]
    # Mean over the anchors of all slices, so that slices of equal size average to the whole batch.
    share = len(vectors) / n_rows
    loss = vectors[:0].sum()
    if len(anchors) == 0:
        return loss
    with torch.autocast(device_type=vectors.device.type, enabled=False):
        furthest, nearest = nearest_and_furthest(vectors.detach(), labels, anchors, prefixes, distance)
        for k, prefix in enumerate(prefixes):
            unit = truncate(vectors, prefix.dim)
            excess = (
                pair_distance(unit[anchors], unit[furthest[k]], distance)
                - pair_distance(unit[anchors], unit[nearest[k]], distance)
                + margin
            )
            loss = loss + prefix.weight * share * excess.relu().sum() / has_both.sum()
    return loss
