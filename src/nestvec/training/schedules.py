"""How much each size counts, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

__all__ = ["Order", "weights_at"]

Order: TypeAlias = Literal["together", "large-first", "small-first"]
"""When sizes begin to count."""


def weights_at(
    progress: float,
    dims: Sequence[int],
    weights: Sequence[float],
    final_weights: Sequence[float] | None = None,
    order: Order = "together",
) -> tuple[float, ...]:
    """Weigh the sizes at some point of a run.

    Args:
        progress: Share of the steps that are done, from 0 to below 1.
        dims: Sizes.
        weights: One weight a dim, at the beginning.
        final_weights: One a dim, towards which they move evenly; None keeps them.
        order: `together`: every size counts all the time. Otherwise as many parts of equal length as there are sizes;
            in each part one more counts, from the largest (`large-first`) or from the smallest (`small-first`) on.

    Returns:
        One weight a dim.

    Source:
        One size after another, from the largest: Zhang et al. 2025, arXiv:2510.12474, who then freeze what the larger
        ones have learned; here they go on.

    Example:
        >>> weights_at(0.5, [64, 32], [1.0, 1.0], [1.0, 3.0])
        (1.0, 2.0)
        >>> weights_at(0.4, [64, 32], [1.0, 1.0], order="large-first")
        (1.0, 0.0)
    """
    final = weights if final_weights is None else final_weights
    now = [first + (last - first) * progress for first, last in zip(weights, final, strict=True)]
    if order == "together":
        return tuple(now)
    ranked = sorted(range(len(dims)), key=lambda index: dims[index], reverse=order == "large-first")
    counting = ranked[: 1 + int(progress * len(dims))]
    return tuple(weight if index in counting else 0.0 for index, weight in enumerate(now))
