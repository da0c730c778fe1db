"""Intervals, tests and cells: what they claim holds in simulations. Run: pytest tests/test_evaluation_cells.py (ten seconds)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from nestvec.errors import DataError, GridError
from nestvec.evaluation import (
    AveragePrecision,
    Cell,
    CellKey,
    GridScores,
    Latency,
    MeanScore,
    Rerank,
    Score,
    SpearmanCorrelation,
    VMeasure,
    compare,
    interval,
    make_cells,
    resample,
)

# Binomial limits that a true rate leaves once in a thousand simulations of this many trials.
TRIALS = 400
FULL, SHORT = CellKey(8), CellKey(4, "int8", Rerank("float16", 20))


def limits(rate: float) -> tuple[float, float]:
    low, high = stats.binom.interval(0.999, TRIALS, rate)
    return low / TRIALS, high / TRIALS


def coverage(draw: Callable[[np.random.Generator], Score], truth: float, confidence: float) -> float:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(TRIALS):
        score = draw(generator)
        bounds = interval(score.value, resample([score], samples=400, seed=trial)[0], confidence=confidence)
        covered += bounds.low <= truth <= bounds.high
    return covered / TRIALS


def test_intervals_of_means_cover_the_truth_as_often_as_they_say() -> None:
    covered = coverage(lambda generator: MeanScore(generator.beta(2, 2, size=100)), 0.5, 0.9)
    assert limits(0.885)[0] <= covered <= limits(0.9)[1]  # percentile intervals of 100 units run a little narrow


def test_intervals_of_correlations_cover_the_truth_as_often_as_they_say() -> None:
    truth = 6 / math.pi * math.asin(0.6 / 2)  # Spearman of a bivariate normal whose Pearson is 0.6

    def draw(generator: np.random.Generator) -> Score:
        x, y = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=100).T
        return SpearmanCorrelation(x, y)

    assert limits(0.88)[0] <= coverage(draw, truth, 0.9) <= limits(0.9)[1]


def test_intervals_of_average_precision_cover_the_truth_as_often_as_they_say() -> None:
    labels = np.tile([0, 1], 60)

    def draw(generator: np.random.Generator) -> Score:
        return AveragePrecision(labels + generator.normal(size=120), labels)

    generator = np.random.default_rng(5)
    truth = float(np.mean([draw(generator).value for _ in range(4000)]))
    assert limits(0.87)[0] <= coverage(draw, truth, 0.9) <= limits(0.91)[1]


def test_intervals_of_a_v_measure_cover_the_truth_and_hold_the_score_itself() -> None:
    def draw(generator: np.random.Generator) -> Score:
        labels = generator.integers(0, 20, 400)
        return VMeasure(labels, np.where(generator.random(400) < 0.6, labels, generator.integers(0, 20, 400)))

    generator = np.random.default_rng(5)
    truth = float(np.mean([draw(generator).value for _ in range(1000)]))
    assert limits(0.88)[0] <= coverage(draw, truth, 0.9) <= limits(0.95)[1]
    for trial in range(20):
        score = draw(generator)
        bounds = interval(score.value, resample([score], samples=200, seed=trial)[0])
        assert bounds.low < score.value < bounds.high


def test_intervals_of_retention_cover_the_truth_as_often_as_they_say() -> None:
    """The ratio of two means over the same queries, which plans rest on."""
    generator = np.random.default_rng(2)
    covered, below = 0, 0
    for trial in range(TRIALS):
        full = generator.beta(3, 2, size=200)
        short = full * generator.beta(18, 2, size=200)  # 0.9 of it on average
        grid = GridScores(8, {FULL: {"MRR@10": MeanScore(full)}, SHORT: {"MRR@10": MeanScore(short)}})
        retention = make_cells("x", grid, samples=400, confidence=0.9, seed=trial)[1].retention
        covered += retention.low <= 0.9 <= retention.high
        below += retention.low > 0.9
    assert limits(0.885)[0] <= covered / TRIALS <= limits(0.9)[1]
    assert below / TRIALS <= limits(0.06)[1]  # a plan is wrong no more often than half of what is left


def false_positives(draw: Callable[[np.random.Generator], tuple[Score, Score]], level: float) -> float:
    generator = np.random.default_rng(1)
    found = [compare(*draw(generator), samples=400, seed=trial).p_value for trial in range(TRIALS)]
    return float(np.mean(np.array(found) <= level))


def test_the_test_of_means_finds_a_difference_by_chance_as_often_as_it_says() -> None:
    def draw(generator: np.random.Generator) -> tuple[Score, Score]:
        hardness = generator.random(60)  # both systems see the same queries, and answer in steps as MRR does
        first, second = (np.round(np.clip(hardness + generator.normal(0, 0.3, 60), 0, 1) * 4) / 4 for _ in range(2))
        return MeanScore(first), MeanScore(second)

    for level in (0.05, 0.2):
        low, high = limits(level)
        assert low <= false_positives(draw, level) <= high


def test_the_test_of_correlations_finds_a_difference_by_chance_as_often_as_it_says() -> None:
    def draw(generator: np.random.Generator) -> tuple[Score, Score]:
        truth = generator.normal(size=150)
        first, second = (SpearmanCorrelation(truth + generator.normal(size=150), truth) for _ in range(2))
        return first, second

    assert limits(0.05)[0] <= false_positives(draw, 0.05) <= limits(0.07)[1]


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(0)
    hardness = generator.random(200)
    better = np.clip(hardness + 0.05 + generator.normal(0, 0.1, 200), 0, 1)
    found = compare(MeanScore(better), MeanScore(hardness))
    assert found.value == pytest.approx((better - hardness).mean())
    assert found.p_value < 0.001
    assert 0 < found.low < found.value < found.high
    exact = stats.ttest_rel(better, hardness).pvalue
    assert exact < 0.001
    labels = np.tile([0, 1], 100)
    alike = labels + generator.normal(0, 0.6, 200)
    found = compare(AveragePrecision(alike, labels), AveragePrecision(generator.random(200), labels))
    assert found.p_value < 0.01
    assert found.low > 0


def test_the_p_value_of_means_is_that_of_every_swap() -> None:
    """Few units: all swaps can be counted, and a random sample of them must agree."""
    generator = np.random.default_rng(3)
    first, second = generator.random((2, 10))
    differences = first - second
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    exact = np.mean(np.abs(differences @ signs) >= abs(differences.sum()) - 1e-12)
    found = compare(MeanScore(first), MeanScore(second), samples=20000).p_value
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20000))


def test_equal_scores_do_not_differ() -> None:
    score = MeanScore([0.5, 1.0, 0.0])
    assert compare(score, score) == (0.0, 0.0, 0.0, 1.0)


def test_a_paired_interval_is_narrower_than_two_of_their_own() -> None:
    generator = np.random.default_rng(0)
    hardness = generator.normal(size=200)
    before, after = hardness, hardness + 0.1 + 0.01 * generator.normal(size=200)
    first, second = resample([MeanScore(before), MeanScore(after)], samples=500, seed=1)
    paired = interval(0.1, second - first)
    alone = interval(after.mean(), second)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)
    assert paired.low > 0


def test_resamples_do_not_depend_on_how_many_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    scores = [MeanScore(generator.normal(size=50)), SpearmanCorrelation(*generator.normal(size=(2, 50)))]
    whole = resample(scores, samples=100, seed=5)
    monkeypatch.setattr("nestvec.evaluation.bootstrap._DRAWS_IN_MEMORY", 700)
    np.testing.assert_allclose(resample(scores, samples=100, seed=5), whole, rtol=1e-12)


def scores_of(*headline: Sequence[float]) -> GridScores:
    return GridScores(
        8, {key: {"MRR@10": MeanScore(values)} for key, values in zip((FULL, SHORT), headline, strict=True)}
    )


def test_retention_and_gain_are_of_the_headline_metric() -> None:
    before, after = scores_of([0.5, 0.5], [0.25, 0.25]), scores_of([1.0, 0.6], [0.5, 0.5])
    full, short = make_cells("after", after, before=before)
    assert (full.key, full.bytes_per_vector, full.rerank_bytes_per_vector) == (FULL, 32, 0)
    assert (short.key, short.bytes_per_vector, short.rerank_bytes_per_vector) == (SHORT, 4, 16)
    assert full.retention.value == 1.0
    assert full.gain.value == pytest.approx(0.3)
    assert short.retention.value == pytest.approx(0.625)
    assert short.reference_retention.value == pytest.approx(1.0)
    assert short.gain.value == pytest.approx(0.25)
    assert short.gain.low == short.gain.high == pytest.approx(0.25)  # every query gains the same


def test_a_cell_has_the_shape_that_reports_keep() -> None:
    latency = Latency(0.5, 0.75, 4000.0)
    cell = make_cells("mine", dataclasses.replace(scores_of([1.0, 0.0], [0.5, 0.0]), latencies={SHORT: latency}))[
        1
    ].as_json()
    assert cell["metrics"]["MRR@10"].keys() == {"value", "low", "high"}
    assert cell["retention"] == 0.5
    assert cell["retention_interval"].keys() == {"value", "low", "high"}
    assert Cell.from_json(json.loads(json.dumps(cell))).as_json() == cell
    for broken in ({**cell, "precision": "int3"}, {**cell, "metrics": 3}, {"model": "mine"}, []):
        with pytest.raises(GridError, match="no cell of a grid"):
            Cell.from_json(broken)
    wanted = {"model": "mine", "dim": 4, "precision": "int8", "rerank": "float16:20", "bytes_per_vector": 4}
    assert wanted.items() <= cell.items()
    assert (cell["latency_ms"], cell["p95_ms"], cell["queries_per_second"]) == (0.5, 0.75, 4000.0)
    assert (cell["gain"], cell["reference_retention"]) == (None, None)


def test_retention_of_a_model_that_finds_nothing_is_not_a_number_made_up() -> None:
    cells = make_cells("before", scores_of([0.0, 0.0], [0.0, 0.0]))
    assert [cell.retention for cell in cells] == [None, None]
    assert cells[0].as_json()["retention"] is None


def test_the_interval_of_the_full_vectors_retention_has_no_width() -> None:
    cell = make_cells("before", scores_of([0.5, 0.1], [0.25, 0.3]))[0]
    assert cell.retention == (1.0, 1.0, 1.0)


def test_what_cannot_be_compared_is_refused() -> None:
    after = scores_of([1.0, 0.5], [1.0, 0.5])
    assert make_cells("after", after, before=GridScores(8, {FULL: after.scores[FULL]}))[1].gain is None
    with pytest.raises(GridError, match=r"scores of \[2, 3\] units"):
        make_cells("after", after, before=scores_of([1.0, 0.5, 0.0], [1.0, 0.5, 0.0]))
    with pytest.raises(DataError, match="need the same units"):
        compare(MeanScore([1.0]), MeanScore([1.0, 2.0]))
    with pytest.raises(DataError, match="need the same units"):
        resample([], samples=10, seed=0)
    with pytest.raises(DataError, match="not defined on any resample"):
        interval(0.5, np.full(10, np.nan))


def test_the_seed_decides_which_units_are_drawn() -> None:
    score = MeanScore(np.random.default_rng(0).normal(size=50))
    first, again, other = (resample([score], samples=100, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
