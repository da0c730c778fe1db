"""Whether a difference between two cells or two models is more than chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError
from nestvec.evaluation.bootstrap import interval, resample
from nestvec.evaluation.scores import MeanScore, Score

__all__ = ["Difference", "compare", "difference"]

Floats = NDArray[np.float64]
_NUMBERS_IN_MEMORY = 4_000_000


class Difference(NamedTuple):
    """How much one score is above another, on the same units."""

    value: float
    low: float
    high: float
    p_value: float
    """How often chance alone gives a difference at least as large, in either direction."""


def compare(score: Score, other: Score, *, samples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Difference:
    """Compare two scores of the same units.

    The interval is that of the paired bootstrap. The p-value of two means is that of the randomisation test, which
    swaps the two systems' values unit by unit; where a score is no mean (correlations, average precision), that
    would mix similarities of different scales, and the p-value is that of the bootstrap: the smallest risk at
    which its interval leaves 0 out.

    Args:
        score: The score.
        other: What it is compared with, on the same units in the same order.
        samples: Resamples, and random swaps.
        confidence: Confidence of the interval, between 0 and 1.
        seed: Seed of the draws.

    Returns:
        score - other.

    Raises:
        DataError: They are of different units, or a score is not defined on any resample.

    Source:
        Smucker, Allan, Carterette 2007, "A comparison of statistical significance tests for information retrieval
        evaluation"; Efron and Tibshirani 1993, chapter 15.
    """
    resampled = resample([score, other], samples=samples, seed=seed)
    return difference(score, other, resampled[0], resampled[1], confidence=confidence, seed=seed)


def difference(
    score: Score, other: Score, resampled: Floats, resampled_other: Floats, *, confidence: float, seed: int
) -> Difference:
    """Compare two scores whose resamples are known, as `compare` does.

    Args:
        score: The score.
        other: What it is compared with.
        resampled: The score on each resample, [samples].
        resampled_other: The other on the same resamples, [samples].
        confidence: Confidence of the interval, between 0 and 1.
        seed: Seed of the random swaps.

    Returns:
        score - other.

    Raises:
        DataError: They are of different units, or a score is not defined on any resample.
    """
    if score.n_units != other.n_units:
        raise DataError(f"Cannot pair scores of {score.n_units} and {other.n_units} units.")
    differences = resampled - resampled_other
    bounds = interval(score.value - other.value, differences, confidence=confidence)
    if isinstance(score, MeanScore) and isinstance(other, MeanScore):
        p_value = _randomisation_test(score.values - other.values, samples=len(resampled), seed=seed)
    else:
        defined = differences[np.isfinite(differences)]
        beyond = min((defined <= 0).sum(), (defined >= 0).sum())
        p_value = min(1.0, 2 * float(beyond + 1) / (len(defined) + 1))
    return Difference(*bounds, p_value)


def _randomisation_test(differences: Floats, *, samples: int, seed: int) -> float:
    """Share of random swaps that give a mean difference at least as large as the observed one."""
    units = differences[differences != 0]  # swapping equal values changes nothing
    if not len(units):
        return 1.0
    generator = np.random.default_rng(seed)
    observed = abs(units.sum()) * (1 - 1e-12)  # the same sum in another order is no smaller one
    as_large = 0
    block = max(1, _NUMBERS_IN_MEMORY // len(units))
    for first in range(0, samples, block):
        kept = generator.integers(0, 2, size=(min(block, samples - first), len(units)), dtype=np.int8)
        as_large += int((np.abs(2 * (kept @ units) - units.sum()) >= observed).sum())
    return (as_large + 1) / (samples + 1)
