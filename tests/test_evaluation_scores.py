"""Scores and their resamples against scipy and scikit-learn on the drawn units. Run: pytest tests/test_evaluation_scores.py (seconds)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, v_measure_score

from nestvec.errors import DataError
from nestvec.evaluation.scores import (
    AveragePrecision,
    MeanScore,
    PearsonCorrelation,
    Score,
    SpearmanCorrelation,
    VMeasure,
)


def similarities(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.integers(-8, 9, size=n) / 8  # with many ties


def binary(generator: np.random.Generator, n: int) -> np.ndarray:
    return np.r_[0, 1, generator.integers(0, 2, size=n - 2)]


Case = tuple[type[Score], Callable[..., np.ndarray], Callable[..., float]]
CASES: dict[str, Case] = {
    "mean": (lambda x, _: MeanScore(x), similarities, lambda x, _: np.mean(x)),
    "pearson": (PearsonCorrelation, lambda g, n: g.integers(0, 6, n), lambda x, y: stats.pearsonr(x, y).statistic),
    "spearman": (SpearmanCorrelation, lambda g, n: g.integers(0, 6, n), lambda x, y: stats.spearmanr(x, y).statistic),
    "average precision": (AveragePrecision, binary, lambda x, y: average_precision_score(y, x)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(5))
def test_a_score_and_its_resamples_equal_the_reference_on_the_drawn_units(name: str, seed: int) -> None:
    make, labels_of, reference = CASES[name]
    generator = np.random.default_rng(seed)
    n = int(generator.integers(12, 60))
    x, y = similarities(generator, n), labels_of(generator, n)
    score = make(x, y)
    assert score.n_units == n
    assert score.value == pytest.approx(reference(x, y), abs=1e-12)
    counts = np.stack([np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(8)]).astype(float)
    for one, count in zip(score.resampled(counts), counts.astype(int), strict=True):
        assert one == pytest.approx(reference(np.repeat(x, count), np.repeat(y, count)), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_v_measure_is_that_of_scikit_learn_and_its_values_are_those_of_the_jackknife(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = 60
    labels, clusters = generator.integers(0, 5, size=n), generator.integers(0, 7, size=n)
    clusters = np.where(generator.random(n) < 0.6, labels, clusters)
    score = VMeasure(labels, clusters)
    measure = v_measure_score(labels, clusters)
    assert score.value == pytest.approx(measure, abs=1e-12)
    without = np.array([v_measure_score(np.delete(labels, place), np.delete(clusters, place)) for place in range(n)])
    pseudo_values = n * measure - (n - 1) * without
    np.testing.assert_allclose(score.values, pseudo_values - pseudo_values.mean() + measure, atol=1e-9)


def test_the_extremes_of_clustering_are_those_of_scikit_learn() -> None:
    for labels, clusters in (([0, 0, 0], [0, 0, 0]), ([0, 1, 2], [0, 0, 0]), ([0, 0, 0], [0, 1, 2]), ([0, 1], [1, 0])):
        assert VMeasure(labels, clusters).value == pytest.approx(v_measure_score(labels, clusters))


def test_a_resample_that_leaves_a_score_undefined_is_not_a_number() -> None:
    drawn_once = np.array([[2.0, 0.0], [1.0, 1.0]])
    assert np.isnan(PearsonCorrelation([0.1, 0.9], [0, 1]).resampled(drawn_once)).tolist() == [True, False]
    assert np.isnan(SpearmanCorrelation([0.1, 0.9], [0, 1]).resampled(drawn_once)).tolist() == [True, False]
    assert np.isnan(AveragePrecision([0.1, 0.9], [0, 1]).resampled(drawn_once)).tolist() == [True, False]


def test_similarities_that_are_all_the_same_follow_nothing() -> None:
    for make in (PearsonCorrelation, SpearmanCorrelation):
        assert make([0.5, 0.5, 0.5], [0, 1, 2]).value == 0.0


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="labels 1 and 0, both"):
        AveragePrecision([0.1, 0.2], [1, 1])
    with pytest.raises(DataError, match=r"found \[0.0, 0.5, 1.0\]"):
        AveragePrecision([0.1, 0.2, 0.3], [1, 0, 0.5])
    with pytest.raises(DataError, match="Every pair has the score 3: there is no order"):
        SpearmanCorrelation([0.1, 0.2], [3, 3])
    for make in (MeanScore, lambda x: PearsonCorrelation(x, [1, 2]), lambda x: VMeasure(x, [0, 1])):
        with pytest.raises(DataError, match="same units"):
            make([])
