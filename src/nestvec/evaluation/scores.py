"""Scores that can be resampled: what a metric is on the units as they are, and on any bootstrap resample of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nestvec.errors import DataError

__all__ = ["AveragePrecision", "MeanScore", "PearsonCorrelation", "Score", "SpearmanCorrelation", "VMeasure"]

Floats = NDArray[np.float64]
_NO_SPREAD = 1e-12


class Score(ABC):
    """One metric of one cell, over units (queries, pairs, texts) that can be drawn again with replacement."""

    n_units: int
    """Units it was measured on."""

    @property
    def value(self) -> float:
        """The metric on the units as they are."""
        return float(self.resampled(np.ones((1, self.n_units)))[0])

    @abstractmethod
    def resampled(self, counts: Floats) -> Floats:
        """Compute the metric on resamples.

        Args:
            counts: How often each unit was drawn, [n_samples, n_units].

        Returns:
            [n_samples]; NaN where a resample leaves it undefined.
        """


class MeanScore(Score):
    """The mean of one value a unit: accuracy, and every retrieval metric."""

    def __init__(self, values: ArrayLike) -> None:
        """Keep the values.

        Args:
            values: One a unit, [n_units].

        Raises:
            DataError: There are none.
        """
        self.values = np.asarray(values, dtype=np.float64)
        self.n_units = _require_units(self.values)

    @property
    def value(self) -> float:
        """The mean."""
        return float(self.values.mean())

    def resampled(self, counts: Floats) -> Floats:
        """Return the mean of each resample, [n_samples]."""
        means: Floats = counts @ self.values / counts.sum(axis=1)
        return means


class PearsonCorrelation(Score):
    """Correlation of the similarities of pairs with their labels; 0 where all similarities are the same."""

    def __init__(self, similarities: ArrayLike, labels: ArrayLike) -> None:
        """Keep both.

        Args:
            similarities: [n_pairs].
            labels: [n_pairs].

        Raises:
            DataError: There are none, their numbers differ, or all labels are the same.
        """
        self.similarities = np.asarray(similarities, dtype=np.float64)
        self.labels = np.asarray(labels, dtype=np.float64)
        self.n_units = _require_units(self.similarities, self.labels)
        if self.labels.min() == self.labels.max():
            raise DataError(f"Every pair has the score {self.labels[0]:g}: there is no order to find.")

    def resampled(self, counts: Floats) -> Floats:
        """Return the correlation of each resample, [n_samples]."""
        shape = counts.shape
        return _weighted_pearson(np.broadcast_to(self.similarities, shape), np.broadcast_to(self.labels, shape), counts)


class SpearmanCorrelation(PearsonCorrelation):
    """Correlation of the ranks of the similarities of pairs with those of their labels; ties share their mean rank.

    Source: Spearman 1904. A resample is ranked anew, without sorting it again: the order of its units is known.
    """

    def resampled(self, counts: Floats) -> Floats:
        """Return the correlation of each resample, [n_samples]."""
        return _weighted_pearson(_midranks(self.similarities, counts), _midranks(self.labels, counts), counts)


class AveragePrecision(Score):
    """Area under the curve of precision over recall, as pairs are accepted by falling similarity.

    Source: Sum over thresholds of (rise in recall) x precision, without interpolation, as scikit-learn computes it.
    """

    def __init__(self, similarities: ArrayLike, labels: ArrayLike) -> None:
        """Keep both, in falling order of similarity.

        Args:
            similarities: [n_pairs].
            labels: 1 or 0, [n_pairs].

        Raises:
            DataError: There are none, their numbers differ, a label is neither 1 nor 0, or all are equal.
        """
        similarities = np.asarray(similarities, dtype=np.float64)
        labels = np.asarray(labels, dtype=np.float64)
        self.n_units = _require_units(similarities, labels)
        if set(np.unique(labels)) != {0.0, 1.0}:
            raise DataError(
                f"Average precision needs labels 1 and 0, both of them; found {np.unique(labels)[:5].tolist()}."
            )
        self._order = np.argsort(-similarities, kind="stable")
        ordered = similarities[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of each threshold
        self._positive = labels[self._order]

    def resampled(self, counts: Floats) -> Floats:
        """Return the average precision of each resample, [n_samples]."""
        ordered = counts[:, self._order]
        accepted = np.add.reduceat(ordered, self._starts, axis=1).cumsum(axis=1)
        gained = np.add.reduceat(ordered * self._positive, self._starts, axis=1)
        right = gained.cumsum(axis=1)
        precision = _ratio(right, accepted, 0.0)
        return _ratio((gained * precision).sum(axis=1), right[:, -1], np.nan)


class VMeasure(MeanScore):
    """Harmonic mean of homogeneity and completeness of a clustering.

    A text that is drawn twice is always in one cluster with itself, so that resamples of the texts score higher than
    the texts themselves. What is resampled are therefore the jackknife's pseudo-values, one a text: how much the score
    changes without it. Their mean is the score.

    Source: Rosenberg and Hirschberg 2007; pseudo-values: Tukey 1958.
    """

    def __init__(self, labels: Sequence[int] | NDArray[np.int64], clusters: Sequence[int] | NDArray[np.int64]) -> None:
        """Compute the score, and what it is without each text.

        Args:
            labels: Number of the true class of each text, [n_texts].
            clusters: Number of its cluster, [n_texts].

        Raises:
            DataError: There are none, or their numbers differ.
        """
        classes, found = np.asarray(labels), np.asarray(clusters)
        n_texts = _require_units(classes, found)
        together = classes * (found.max() + 1) + found
        counted = [_counted(grouping) for grouping in (classes, found, together)]
        measure = _v_measure([total for total, _ in counted], n_texts)
        without = measure if n_texts == 1 else _v_measure([total + change for total, change in counted], n_texts - 1)
        pseudo_values = n_texts * measure - (n_texts - 1) * without
        super().__init__(pseudo_values - np.mean(pseudo_values) + measure + np.zeros(n_texts))


def _require_units(*arrays: NDArray[np.generic]) -> int:
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays) or not len(arrays[0]):
        raise DataError(f"A score needs values of the same units, at least one; got {[a.shape for a in arrays]}.")
    return len(arrays[0])


def _ratio(part: Floats, whole: Floats, undefined: float) -> Floats:
    """Divide; where the whole is not above rounding, the given value."""
    ratio: Floats = np.divide(part, whole, out=np.full_like(part, undefined), where=whole > _NO_SPREAD)
    return ratio


def _weighted_pearson(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Correlation of x with the labels y in each resample, [n_samples] from [n_samples, n_units]."""
    total = counts.sum(axis=1, keepdims=True)
    x = x - (counts * x).sum(axis=1, keepdims=True) / total
    y = y - (counts * y).sum(axis=1, keepdims=True) / total
    covariance = (counts * x * y).sum(axis=1)
    spread_x, spread_y = ((counts * z * z).sum(axis=1) for z in (x, y))
    correlation = _ratio(covariance, np.sqrt(spread_x * spread_y), 0.0)
    correlation[spread_y <= _NO_SPREAD] = np.nan
    return correlation


def _midranks(values: Floats, counts: Floats) -> Floats:
    """Mean rank of each unit within each resample, [n_samples, n_units]."""
    _, groups = np.unique(values, return_inverse=True)  # groups of equal values, in rising order
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) > 0])
    drawn = np.add.reduceat(counts[:, order], starts, axis=1)  # [n_samples, n_groups]
    ranks: Floats = (drawn.cumsum(axis=1) - (drawn - 1) / 2)[:, groups]
    return ranks


def _counted(groups: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Sum of n log n over the sizes of groups, [], and its change without each unit, [n_units]."""
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    before, after = (_n_log_n(counts.astype(np.float64)) for counts in (sizes, sizes - 1))
    return np.asarray(before.sum()), (after - before)[group_of]


def _n_log_n(counts: Floats) -> Floats:
    return counts * np.log(counts, out=np.zeros_like(counts), where=counts > 0)


def _v_measure(totals: Sequence[Floats], n_texts: int) -> Floats:
    """V-measure from the sums of `_counted` for classes, clusters and both; entropies are log n - sum / n."""
    of_classes, of_clusters, of_both = (np.log(n_texts) - total / n_texts for total in totals)
    shared = of_classes + of_clusters - of_both  # mutual information
    homogeneity = _ratio(shared, of_classes, 1.0)
    completeness = _ratio(shared, of_clusters, 1.0)
    return _ratio(2 * homogeneity * completeness, homogeneity + completeness, 0.0)
