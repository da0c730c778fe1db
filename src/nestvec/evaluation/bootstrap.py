"""How sure a score is: intervals from drawing its units again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError
from nestvec.evaluation.scores import MeanScore, Score

__all__ = ["Interval", "interval", "resample"]

Floats = NDArray[np.float64]
_DRAWS_IN_MEMORY = 2_000_000


class Interval(NamedTuple):
    """A value and the bounds it lies between with the stated confidence."""

    value: float
    low: float
    high: float


def resample(scores: Sequence[Score], *, samples: int, seed: int) -> Floats:
    """Compute many scores of the same units on the same bootstrap resamples.

    Because every score sees the same resamples, ratios and differences of the results are paired.

    Args:
        scores: Scores of the same units, in the same order.
        samples: Resamples to draw.
        seed: Seed of the draw.

    Returns:
        [n_scores, samples]; NaN where a resample leaves a score undefined.

    Raises:
        DataError: There are no scores, or they are of different units.

    Source:
        Efron 1979; on retrieval metrics: Sakai 2006, "Evaluating evaluation metrics based on the bootstrap".
    """
    counts_of_units = {score.n_units for score in scores}
    if len(counts_of_units) != 1:
        raise DataError(f"Scores to resample need the same units; these have {sorted(counts_of_units) or 'none'}.")
    n_units = counts_of_units.pop()
    # Means, which most scores are, take one matrix product together.
    means = [place for place, score in enumerate(scores) if isinstance(score, MeanScore)]
    others = [place for place in range(len(scores)) if place not in set(means)]
    values = np.stack([score.values for score in scores if isinstance(score, MeanScore)]) if means else None
    resampled = np.empty((len(scores), samples))
    for part, counts in _draw_counts(n_units, samples, seed):
        if values is not None:
            resampled[means, part] = values @ counts.T / n_units
        for place in others:
            resampled[place, part] = scores[place].resampled(counts)
    return resampled


def interval(value: float, resampled: Floats, *, confidence: float = 0.95) -> Interval:
    """Percentile interval of a statistic.

    Args:
        value: The statistic on the units as they are.
        resampled: The same statistic on each resample, [samples]; those where it is not defined (NaN) do not count.
        confidence: Share of resamples between the bounds, between 0 and 1.

    Returns:
        The value with its bounds.

    Raises:
        DataError: The statistic is not defined on any resample.

    Example:
        >>> interval(0.5, np.array([0.0, 0.25, 0.5, 0.75, 1.0]), confidence=0.5)
        Interval(value=0.5, low=0.25, high=0.75)
    """
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):
        raise DataError("The score is not defined on any resample of so few units. Measure on more.")
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Interval(float(value), float(low), float(high))


def _draw_counts(n_units: int, samples: int, seed: int) -> Iterator[tuple[slice, Floats]]:
    """How often each unit is drawn in each resample, in blocks [block, n_units], with the place of the block."""
    generator = np.random.default_rng(seed)
    block = max(1, _DRAWS_IN_MEMORY // n_units)
    for first in range(0, samples, block):
        part = slice(first, min(first + block, samples))
        counts = np.empty((part.stop - first, n_units))
        for row in counts:
            row[:] = np.bincount(generator.integers(0, n_units, n_units), minlength=n_units)
        yield part, counts
