"""How sure a score is: intervals from resampling the queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nestvec.errors import DataError

__all__ = ["Interval", "interval", "resampled_means"]

Floats = NDArray[np.float64]
_DRAWS_IN_MEMORY = 4_000_000


class Interval(NamedTuple):
    """A value and the bounds it lies between with the stated confidence."""

    value: float
    low: float
    high: float


def resampled_means(values: ArrayLike, *, samples: int, seed: int) -> Floats:
    """Means of many series over the same bootstrap resamples of the queries.

    Because every series sees the same resamples, ratios and differences of the results are paired.

    Args:
        values: One value a query for each series, [n_series, n_queries].
        samples: Resamples to draw.
        seed: Seed of the draw.

    Returns:
        [n_series, samples].

    Raises:
        DataError: There are no values.

    Source:
        Efron 1979; on retrieval metrics: Sakai 2006, "Evaluating evaluation metrics based on the bootstrap".
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    n_series, n_queries = values.shape
    if n_queries == 0:
        raise DataError("There are no values to resample. Measure at least one query.")
    generator = np.random.default_rng(seed)
    means = np.empty((n_series, samples))
    block = max(1, _DRAWS_IN_MEMORY // n_queries)
    for first in range(0, samples, block):
        size = min(block, samples - first)
        # How often each query is drawn, [size, n_queries]
        counts = np.empty((size, n_queries))
        for row in range(size):
            counts[row] = np.bincount(generator.integers(0, n_queries, n_queries), minlength=n_queries)
        means[:, first : first + size] = values @ counts.T / n_queries
    return means


def interval(value: float, resampled: Floats, *, confidence: float = 0.95) -> Interval:
    """Percentile interval of a statistic.

    Args:
        value: The statistic on the queries as they are.
        resampled: The same statistic on each resample, [samples].
        confidence: Share of resamples between the bounds, between 0 and 1.

    Returns:
        The value with its bounds.

    Example:
        >>> interval(0.5, np.array([0.0, 0.25, 0.5, 0.75, 1.0]), confidence=0.5)
        Interval(value=0.5, low=0.25, high=0.75)
    """
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Interval(float(value), float(low), float(high))
