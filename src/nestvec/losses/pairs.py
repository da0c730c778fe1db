"""Losses on pairs, at every nested size: scores to match or to order, and pairs that belong together or do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nestvec.errors import DimensionError, LossInputError
from nestvec.losses.prefixes import (
    Distance,
    check_binary_labels,
    check_distance,
    check_margin,
    check_temperature,
    check_vectors,
    nested_prefixes,
    widen,
)
from nestvec.vectors import truncate

__all__ = [
    "check_even",
    "check_scores",
    "nested_angle",
    "nested_contrastive",
    "nested_cosent",
    "nested_cosine_regression",
    "nested_online_contrastive",
    "pair_distance",
]


def nested_cosine_regression(
    left: Tensor, right: Tensor, scores: Tensor, *, dims: Sequence[int], weights: Sequence[float] | None = None
) -> Tensor:
    """Mean squared difference between each pair's cosine similarity and its score, summed over dims by weight.

    Args:
        left: [batch, dim], floating point.
        right: [batch, dim], the other half of each pair.
        scores: [batch], from -1 to 1.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.

    Returns:
        Scalar, 0 to 4 a dim.

    Raises:
        LossInputError: Shapes or weights do not fit, a score is outside -1..1, or an embedding is not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Reimers and Gurevych 2019, arXiv:1908.10084.

    Example:
        >>> left, right = torch.eye(2), torch.ones(2, 2)
        >>> round(nested_cosine_regression(left, right, torch.tensor([1.0, 0.0]), dims=[2]).item(), 4)
        0.2929
    """
    scores = check_scores(scores, len(left), lowest=-1.0, highest=1.0)
    return _over_prefixes(
        left, right, dims, weights, lambda a, b: ((a * b).sum(dim=1) - scores.to(a.dtype)).square().mean()
    )


def nested_cosent(
    left: Tensor,
    right: Tensor,
    scores: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    temperature: float = 0.05,
) -> Tensor:
    """CoSENT: pairs with a higher score should have a higher cosine similarity than those with a lower one.

    `log(1 + sum over pairs i, j with scores_i > scores_j of exp((cosine_j - cosine_i) / temperature))` a dim, in
    O(batch log batch) by sorting.

    Args:
        left: [batch, dim], floating point.
        right: [batch, dim], the other half of each pair.
        scores: [batch], finite; only their order counts, and ties are not compared.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        temperature: What similarities are divided by, above 0; 0.05 is the usual scale of 20.

    Returns:
        Scalar, in nats.

    Raises:
        LossInputError: Shapes, weights or temperature do not fit, a score is not finite, or an embedding is not.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Su 2022, https://kexue.fm/archives/8847; in linear memory as sentence-transformers 6 does.

    Example:
        >>> left, right = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> round(nested_cosent(left, right, torch.tensor([0.0, 1.0]), dims=[2], temperature=1.0).item(), 4)
        1.3133
    """
    scores = check_scores(scores, len(left))
    check_temperature(temperature)
    return _over_prefixes(
        left, right, dims, weights, lambda a, b: _ordering_loss((a * b).sum(dim=1) / temperature, scores)
    )


def nested_angle(
    left: Tensor,
    right: Tensor,
    scores: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    temperature: float = 0.05,
) -> Tensor:
    """AnglE: CoSENT on the similarity of angles in complex space, whose gradient does not vanish near cosine 1 or -1.

    Each prefix is one complex vector: its first half the real parts, its second half the imaginary ones.

    Args:
        left: [batch, dim], floating point.
        right: [batch, dim], the other half of each pair.
        scores: [batch], finite; only their order counts.
        dims: Prefix sizes, even, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        temperature: What similarities are divided by, above 0.

    Returns:
        Scalar, in nats.

    Raises:
        LossInputError: Shapes, weights or temperature do not fit, a score is not finite, or an embedding is not.
        DimensionError: A dim is odd, outside the vector, repeated or out of order.

    Source:
        Li and Li 2023, arXiv:2309.12871, in the form of sentence-transformers: |cosine + sine|.

    Example:
        >>> left, right = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> round(nested_angle(left, right, torch.tensor([0.0, 1.0]), dims=[2], temperature=1.0).item(), 4)
        0.6931
    """
    scores = check_scores(scores, len(left))
    check_temperature(temperature)
    check_even(dims)
    return _over_prefixes(
        left, right, dims, weights, lambda a, b: _ordering_loss(_angle_similarity(a, b) / temperature, scores)
    )


def nested_contrastive(
    left: Tensor,
    right: Tensor,
    labels: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    margin: float = 0.5,
    distance: Distance = "cosine",
) -> Tensor:
    """Contrastive loss: pairs that belong together are pulled together, others pushed at least `margin` apart.

    Mean over pairs of half the squared distance, or of half of what is missing to the margin, squared.

    Args:
        left: [batch, dim], floating point.
        right: [batch, dim], the other half of each pair.
        labels: [batch], 1 for a pair that belongs together, else 0.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        margin: Distance that other pairs should have, above 0.
        distance: `cosine` (1 - cosine similarity), `euclidean` or `manhattan`, between unit vectors.

    Returns:
        Scalar.

    Raises:
        LossInputError: Shapes, weights, margin or distance do not fit, a label is neither 0 nor 1, or an embedding is
            not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Hadsell et al. 2006, Dimensionality Reduction by Learning an Invariant Mapping.

    Example:
        >>> left, right = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> nested_contrastive(left, right, torch.tensor([1, 0]), dims=[2]).item()
        0.0625
    """
    together = check_binary_labels(labels, len(left))
    check_margin(margin)
    check_distance(distance)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        distances = pair_distance(a, b, distance)
        return torch.where(together, distances, (margin - distances).relu()).square().mean() / 2

    return _over_prefixes(left, right, dims, weights, loss)


def nested_online_contrastive(
    left: Tensor,
    right: Tensor,
    labels: Tensor,
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    margin: float = 0.5,
    distance: Distance = "cosine",
) -> Tensor:
    """Contrastive loss on the hard pairs of the batch alone, chosen anew for every prefix.

    Hard are pairs that belong together but are further apart than the closest other pair, and other pairs that are
    closer than the furthest pair that belongs together. Where a batch has only one kind, those beyond its mean are.

    Args:
        left: [batch, dim], floating point.
        right: [batch, dim], the other half of each pair.
        labels: [batch], 1 for a pair that belongs together, else 0.
        dims: Prefix sizes, strictly rising or falling.
        weights: One weight a dim; None weighs each 1.
        margin: Distance that other pairs should have, above 0.
        distance: `cosine` (1 - cosine similarity), `euclidean` or `manhattan`, between unit vectors.

    Returns:
        Scalar: the sum over hard pairs, as in sentence-transformers; 0 if there are none.

    Raises:
        LossInputError: Shapes, weights, margin or distance do not fit, a label is neither 0 nor 1, or an embedding is
            not finite.
        DimensionError: A dim is outside the vector, repeated or out of order.

    Source:
        Reimers and Gurevych, sentence-transformers' OnlineContrastiveLoss.

    Example:
        >>> left, right = torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
        >>> round(nested_online_contrastive(left, right, torch.tensor([1, 0]), dims=[2]).item(), 4)
        0.3358
    """
    together = check_binary_labels(labels, len(left))
    check_margin(margin)
    check_distance(distance)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        distances = pair_distance(a, b, distance)
        positives, negatives = distances[together], distances[~together]
        closest_other = negatives.min() if len(negatives) else positives.mean()
        furthest_own = positives.max() if len(positives) else negatives.mean()
        hard_positives = positives[positives > closest_other]
        hard_negatives = negatives[negatives < furthest_own]
        return hard_positives.square().sum() + (margin - hard_negatives).relu().square().sum()

    return _over_prefixes(left, right, dims, weights, loss)


def pair_distance(left: Tensor, right: Tensor, distance: Distance) -> Tensor:
    """Measure how far apart the halves of pairs are.

    Args:
        left: [..., dim], unit vectors.
        right: [..., dim], unit vectors.
        distance: `cosine` (1 - cosine similarity), `euclidean` or `manhattan`.

    Returns:
        [...]. The gradient at distance 0 is 0.

    Example:
        >>> pair_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), "manhattan")
        tensor([2.])
    """
    if distance == "cosine":
        return 1.0 - (left * right).sum(dim=-1)
    distances: Tensor = torch.linalg.vector_norm(left - right, ord=2 if distance == "euclidean" else 1, dim=-1)
    return distances


def check_even(dims: Sequence[int]) -> None:
    """Check that every size can be halved.

    Args:
        dims: Prefix sizes.

    Raises:
        DimensionError: One is odd.
    """
    odd = [dim for dim in dims if dim % 2]
    if odd:
        raise DimensionError(
            f"Dim {odd[0]} is odd. AnglE halves every size into real and imaginary parts: choose even."
        )


def check_scores(
    scores: Tensor | None, batch: int, *, lowest: float = -torch.inf, highest: float = torch.inf
) -> Tensor:
    """Check one score a pair.

    Args:
        scores: [batch], finite numbers.
        batch: Pairs there are.
        lowest: Smallest score allowed.
        highest: Largest score allowed.

    Returns:
        [batch], float32, or float64 if the scores are.

    Raises:
        LossInputError: Another shape, a score that is not finite, or one out of range.
    """
    if scores is None:
        raise LossInputError("There are no labels. Give each pair a score in a column named label or score.")
    if scores.numel() != batch or scores.is_complex():
        raise LossInputError(f"Got scores {list(scores.shape)} for {batch} pairs. Give each pair one number.")
    scores = scores.reshape(batch)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    wrong = scores[~(torch.isfinite(scores) & (scores >= lowest) & (scores <= highest))]
    if len(wrong):
        allowed = "finite" if highest == torch.inf else f"from {lowest:g} to {highest:g}"
        raise LossInputError(f"A score is {wrong[0].item():g}. Scores here are {allowed}: rescale them.")
    return scores


def _over_prefixes(
    left: Tensor,
    right: Tensor,
    dims: Sequence[int],
    weights: Sequence[float] | None,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Sum `loss(left prefix, right prefix)` over the sizes, in float32 or wider."""
    full_dim = check_vectors(left=left, right=right)
    if len(left) != len(right):
        raise LossInputError(f"Got {len(left)} vectors on the left and {len(right)} on the right. Pairs have one each.")
    with torch.autocast(device_type=left.device.type, enabled=False):
        left, right = widen(left, right)
        total = left.new_zeros(())
        for prefix in nested_prefixes(dims, weights, full_dim):
            total = total + prefix.weight * loss(truncate(left, prefix.dim), truncate(right, prefix.dim))
    return total


def _ordering_loss(similarities: Tensor, scores: Tensor) -> Tensor:
    """log(1 + sum over scores_i > scores_j of exp(similarity_j - similarity_i))."""
    scores, order = scores.sort()
    similarities = similarities[order]
    # For each pair j, the sum of exp(-similarity_i) over all pairs with a strictly higher score: a suffix sum that
    # starts behind the ties of j.
    suffix = torch.logcumsumexp(-similarities.flip(0), dim=0).flip(0)
    suffix = torch.cat([suffix, suffix.new_full((1,), -torch.inf)])
    behind_ties = torch.searchsorted(scores, scores, right=True)
    compared = behind_ties < len(scores)
    terms = similarities[compared] + suffix[behind_ties[compared]]
    return torch.logsumexp(torch.cat([terms.new_zeros(1), terms]), dim=0)


def _angle_similarity(left: Tensor, right: Tensor) -> Tensor:
    real_left, imaginary_left = left.chunk(2, dim=1)
    real_right, imaginary_right = right.chunk(2, dim=1)
    cosines = (left * right).sum(dim=1)
    sines = (imaginary_left * real_right - real_left * imaginary_right).sum(dim=1)
    return (cosines + sines).abs()
