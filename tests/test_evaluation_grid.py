"""Intervals and cells. Run: pytest tests/test_evaluation_grid.py (seconds)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from nestvec.data import Benchmark
from nestvec.errors import DataError, DimensionError, MetricError, ModelError, VectorError
from nestvec.evaluation import encode_benchmark, interval, make_cells, measure_run, measure_sizes, resampled_means
from nestvec.evaluation.grid import QueryScores
from nestvec.vectors import truncate


class TableEncoder:
    """Looks vectors up: what a text means is known exactly."""

    full_dim = 8

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.table: dict[str, np.ndarray] = {}

    def _encode(self, texts: Sequence[str], **_: object) -> np.ndarray:
        for text in texts:
            if text not in self.table:
                vector = self.generator.normal(size=8)
                self.table[text] = (vector / np.linalg.norm(vector)).astype(np.float32)
        return np.stack([self.table[text] for text in texts])

    encode_queries = encode_documents = _encode


def random_benchmark(seed: int = 0, n_queries: int = 40, n_documents: int = 60) -> Benchmark:
    generator = np.random.default_rng(seed)
    corpus = {f"d{i}": f"document {i}" for i in range(n_documents)}
    qrels = {
        f"q{i}": {f"d{j}": int(generator.integers(0, 3)) for j in generator.choice(n_documents, 6, replace=False)}
        for i in range(n_queries)
    }
    qrels["q0"]["d0"] = 1
    return Benchmark({f"q{i}": f"query {i}" for i in range(n_queries)}, corpus, qrels)


def test_a_cell_equals_scoring_a_run_of_truncated_vectors() -> None:
    benchmark, encoder = random_benchmark(), TableEncoder()
    scores = measure_sizes(encode_benchmark(benchmark, encoder), [4, 2])
    assert list(scores.values) == [8, 4, 2]  # the full size is always measured
    for dim in (8, 4, 2):
        run: dict[str, dict[str, float]] = {}
        for query, text in benchmark.queries.items():
            q = truncate(encoder.table[text].astype(np.float64), dim)
            run[query] = {
                document: float(q @ truncate(encoder.table[body].astype(np.float64), dim))
                for document, body in benchmark.corpus.items()
            }
        expected = measure_run(benchmark.qrels, run, ["MRR@10", "Recall@10", "nDCG@10"])
        for metric, values in expected.items():
            np.testing.assert_allclose(scores.values[dim][metric], list(values.values()), atol=1e-9)


def test_equal_vectors_are_ordered_as_trec_eval_orders_them() -> None:
    encoder = TableEncoder()
    benchmark = Benchmark({"q": "x"}, {"a": "same", "b": "same", "c": "other"}, {"q": {"a": 1}})
    encoder.table = {
        "x": np.eye(8, dtype=np.float32)[0],
        "same": np.eye(8, dtype=np.float32)[0],
        "other": np.eye(8, dtype=np.float32)[1],
    }
    scores = measure_sizes(encode_benchmark(benchmark, encoder), [8])
    assert scores.values[8]["MRR@10"] == [0.5]  # b is before a


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    truth, covered, trials = 0.5, 0, 400
    for trial in range(trials):
        values = generator.beta(2, 2, size=60)
        bounds = interval(values.mean(), resampled_means(values, samples=400, seed=trial)[0], confidence=0.9)
        covered += bounds.low <= truth <= bounds.high
    # A binomial of 400 at 0.9 lies within 0.85..0.94 all but once in a thousand; percentile intervals run narrow.
    assert 0.84 <= covered / trials <= 0.95


def test_a_paired_interval_is_narrower_than_two_of_their_own() -> None:
    generator = np.random.default_rng(0)
    hardness = generator.normal(size=200)
    before, after = hardness, hardness + 0.1 + 0.01 * generator.normal(size=200)
    first, second = resampled_means([before, after], samples=500, seed=1)
    paired = interval(0.1, second - first)
    alone = interval(after.mean(), second)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)
    assert paired.low > 0


def test_resamples_do_not_depend_on_how_many_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(3, 50))
    whole = resampled_means(values, samples=100, seed=5)
    monkeypatch.setattr("nestvec.evaluation.bootstrap._DRAWS_IN_MEMORY", 700)
    np.testing.assert_allclose(resampled_means(values, samples=100, seed=5), whole)


def scores_of(*headline: Sequence[float]) -> QueryScores:
    values = {dim: {"MRR@10": np.array(one, dtype=float)} for dim, one in zip((8, 4), headline, strict=True)}
    return QueryScores(8, values)


def test_retention_and_gain_are_of_the_headline_metric() -> None:
    before, after = scores_of([0.5, 0.5], [0.25, 0.25]), scores_of([1.0, 0.6], [0.5, 0.5])
    full, short = make_cells("after", after, before=before)
    assert (full.dim, full.bytes_per_vector, full.retention.value, full.gain.value) == (8, 32, 1.0, pytest.approx(0.3))
    assert short.retention.value == pytest.approx(0.625)
    assert short.gain.value == pytest.approx(0.25)
    assert short.gain.low == short.gain.high == pytest.approx(0.25)  # every query gains the same


def test_a_cell_has_the_shape_that_reports_keep() -> None:
    cell = make_cells("before", scores_of([1.0, 0.0], [0.5, 0.0]))[1].as_json()
    assert set(cell) == {"model", "dim", "precision", "bytes_per_vector", "metrics", "retention", "retention_interval"}
    assert set(cell["metrics"]["MRR@10"]) == {"value", "low", "high"}
    assert cell["retention"] == 0.5


def test_retention_of_a_model_that_finds_nothing_is_not_a_number_made_up() -> None:
    cells = make_cells("before", scores_of([0.0, 0.0], [0.0, 0.0]))
    assert [cell.retention for cell in cells] == [None, None]
    assert cells[0].as_json()["retention"] is None


def test_one_query_gives_an_interval_of_no_width() -> None:
    cell = make_cells("before", scores_of([0.5], [0.25]))[0]
    assert cell.metrics["MRR@10"] == (0.5, 0.5, 0.5)
    assert not math.isnan(cell.retention.low)


def test_what_cannot_be_measured_is_refused() -> None:
    vectors = encode_benchmark(random_benchmark(), TableEncoder())
    with pytest.raises(DimensionError):
        measure_sizes(vectors, [16])
    with pytest.raises(MetricError):
        measure_sizes(vectors, [4], metrics=["accuracy"])
    with pytest.raises(MetricError, match="No metrics given"):
        measure_sizes(vectors, [4], metrics=[])
    with pytest.raises(DataError, match="no values to resample"):
        resampled_means(np.zeros((2, 0)), samples=10, seed=0)
    with pytest.raises(DimensionError, match="same dims"):
        make_cells("after", scores_of([1.0], [1.0]), before=QueryScores(8, {8: {"MRR@10": np.ones(1)}}))


def test_a_model_that_gives_every_text_the_same_vector_is_refused() -> None:
    encoder = TableEncoder()
    encoder.encode_documents = lambda texts, **_: np.ones((len(texts), 8), np.float32)
    with pytest.raises(VectorError, match="the same vector"):
        encode_benchmark(random_benchmark(), encoder)


def test_a_model_error_passes_through() -> None:
    encoder = TableEncoder()

    def fail(texts: Sequence[str], **_: object) -> np.ndarray:
        raise ModelError("broken")

    encoder.encode_queries = fail
    with pytest.raises(ModelError, match="broken"):
        encode_benchmark(random_benchmark(), encoder)
