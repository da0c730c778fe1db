"""faiss holds the codes that nestvec makes, and finds what they say. Run: pytest tests/test_index_codes.py (seconds)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from nestvec.data import Benchmark
from nestvec.errors import DimensionError, MissingExtraError, PrecisionError, SearchIndexError, VectorError
from nestvec.evaluation import Retrieval, TaskVectors, measure_latency
from nestvec.evaluation.searched import measure_searches
from nestvec.index import (
    Candidates,
    CodeSettings,
    FirstStage,
    SearchSettings,
    Stages,
    StoredVectors,
    encode,
    search_stages,
)
from nestvec.index.settings import default_codes
from nestvec.quantization import BITS_PER_DIMENSION, RotatedQuantizer, bytes_per_vector, fit_codes, fit_quantizer
from nestvec.threads import faiss_threads
from nestvec.vectors import normalize, truncate

TASK = Retrieval(Benchmark({"q": "x"}, {"d": "y"}, {"q": {"d": 1}}))


def vectors(n: int, dim: int = 30, seed: int = 0) -> np.ndarray:
    return normalize(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32) + 0.2)


def scan(documents: np.ndarray, dim: int, precision: str) -> FirstStage:
    first = FirstStage.train(documents, CodeSettings(dim, precision))
    first.add(documents)
    return first


def stored(documents: np.ndarray, precision: str) -> StoredVectors:
    quantizer = fit_quantizer(documents, precision)
    return StoredVectors(quantizer, encode(quantizer, documents))


def search(stages: Stages, queries: np.ndarray, k: int, shortlist: int | None) -> Candidates:
    return search_stages([stages], queries, k, SearchSettings(shortlist))


@pytest.mark.parametrize("precision", BITS_PER_DIMENSION)
@pytest.mark.parametrize("dim", [30, 13, 8, 1])
def test_a_scan_finds_what_the_codes_of_a_precision_say(precision: str, dim: int) -> None:
    documents, queries = vectors(300), vectors(20, seed=1)
    found = scan(documents, dim, precision).search(queries, 5)
    cut = truncate(documents, dim)
    quantizer = fit_quantizer(cut, precision)
    expected = truncate(queries, dim) @ quantizer.decode(quantizer.encode(cut)).T
    best = -np.sort(-expected, axis=1)[:, :5]
    # faiss rounds the tables of a fast scan to 8 bits
    np.testing.assert_allclose(found.scores, best, atol=0.02 if precision == "binary" else 1e-4)
    np.testing.assert_allclose(
        np.take_along_axis(expected, found.rows, axis=1), best, atol=0.03 if precision == "binary" else 1e-4
    )


@pytest.mark.parametrize("precision", ["binary", "int4"])
def test_a_scan_of_rotated_codes_finds_what_they_say(precision: str, tmp_path: Path) -> None:
    scales = np.linspace(2, 0.05, 32) ** 2  # most bits would say nothing as they are
    documents, queries = (
        normalize(vectors(n, 32, seed) * scales).astype(np.float32) for n, seed in ((3000, 0), (20, 1))
    )
    quantizer = fit_codes(documents, 24, precision)
    assert isinstance(quantizer, RotatedQuantizer) == (precision == "binary")
    first = scan(documents, 24, precision)
    assert first.table_bytes == {"binary": 24 * 24 + 3 * 24, "int4": 2 * 24}[precision] * 4
    found = first.search(queries, 5)
    expected = truncate(queries, 24) @ quantizer.decode(quantizer.encode(truncate(documents, 24))).T
    best = -np.sort(-expected, axis=1)[:, :5]
    np.testing.assert_allclose(found.scores, best, atol=0.02)
    first.save(tmp_path / "codes")
    again = FirstStage.load(tmp_path / "codes", first.settings, first.quantizer).search(queries, 5)
    np.testing.assert_array_equal(again.rows, found.rows)


@pytest.mark.parametrize("lists", [None, 8])
def test_product_codes_say_nearly_what_the_vectors_say(lists: int | None) -> None:
    documents, queries = vectors(4000), vectors(50, seed=1)
    settings = CodeSettings(30, "pq5", lists)
    first = FirstStage.train(documents, settings)
    first.add(documents)
    expected = queries @ documents.T
    everything = first.search(queries, 4000)
    error = everything.scores - np.take_along_axis(expected, everything.rows, axis=1)
    assert np.abs(error).mean() < 0.09
    assert np.abs(error.mean(axis=1)).max() < 0.04  # of .2 or so: of the cosine itself, nearly all of the mean included
    found = first.search(queries, 300)
    top = np.argsort(-expected, axis=1)[:, :5]
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(top, found.rows, strict=True)]) > 0.97
    # A query that is cut is compared with as much of the documents.
    cut = queries[:, :10] @ documents[:, :10].T
    top = np.argsort(-cut, axis=1)[:, :5]
    near = first.search(queries, 400, dim=10).rows
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(top, near, strict=True)]) > 0.9
    assert settings.bytes_per_vector == 5 + (0 if lists is None else 8)
    if lists is not None:
        few = [len(set(a) & set(b)) for a, b in zip(first.search(queries, 200, probes=1).rows, found.rows, strict=True)]
        assert np.mean(few) < 150


def test_queries_are_compared_with_as_many_as_each_has_and_few_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    second, queries = stored(vectors(5000), "float16"), vectors(64, seed=1)
    generator = np.random.default_rng(0)
    rows = generator.integers(5000, size=(64, 900))
    counts = np.minimum(900, (10 + generator.pareto(1, size=64) * 30).astype(np.int64))
    compared, plain = [], StoredVectors._score
    monkeypatch.setattr(
        StoredVectors,
        "_score",
        lambda self, prefixes, some: (compared.append(some.size), plain(self, prefixes, some))[1],
    )
    found = second.score_some(queries, rows, counts)
    assert sum(compared) < 1.6 * counts.sum()
    expected = np.where(np.arange(900) < counts[:, None], second.score(queries, rows), -np.inf)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        second.score_some(queries[:1], rows[:1], counts[:1])[0], expected[0, : counts[0]], atol=1e-6
    )


def test_lists_that_are_near_enough_are_scanned_and_no_others() -> None:
    documents = vectors(4000)
    queries = np.concatenate([vectors(50, seed=1), -vectors(10, seed=1)])  # the last are far from every list
    first = FirstStage.train(documents, CodeSettings(30, "pq5", 16))
    first.add(documents)
    # One list of each query, then two, and so on: what the lists hold, nearest list first.
    nested = [first.search(queries, 4000, probes=probes).rows for probes in range(1, 17)]
    held = np.stack([(rows >= 0).sum(axis=1) for rows in nested], axis=1)  # [queries, 16]
    sizes = []
    for ratio in (1.0, 0.8, 0.5, 0.0, -50.0):
        with faiss_threads(1):
            found = first.search(queries, 4000, probe_ratio=ratio)
        with faiss_threads(3):
            again = first.search(queries, 4000, probe_ratio=ratio)
        np.testing.assert_allclose(again.scores, found.scores, rtol=1e-4, atol=1e-5)
        count = (found.rows >= 0).sum(axis=1)
        probes = [int(np.flatnonzero(held[query] == count[query])[0]) for query in range(60)]
        for query, place in enumerate(probes):
            assert set(found.rows[query]) == set(nested[place][query])
            alone = first.search(queries[query : query + 1], 4000, probe_ratio=ratio)
            np.testing.assert_allclose(alone.scores[0], found.scores[query], atol=2e-3)  # a step of rounded tables
        places = np.array(probes)
        for some in (slice(0, 60), slice(3, 4)):
            # One half of the documents counts: twice as many lists.
            twice = first.search(queries[some], 4000, probe_ratio=ratio, share=0.5)
            expected = np.take_along_axis(held, np.minimum(15, 2 * places + 1)[:, None], axis=1)[some, 0]
            np.testing.assert_array_equal((twice.rows >= 0).sum(axis=1), expected)
            capped = first.search(queries[some], 4000, probe_ratio=ratio, probes=2)
            expected = np.take_along_axis(held, np.minimum(1, places)[:, None], axis=1)[some, 0]
            np.testing.assert_array_equal((capped.rows >= 0).sum(axis=1), expected)
        sizes.append(1 + np.mean(probes))
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[-1] == 16
    assert len(set(sizes)) > 3
    for probes in (1, 3, 7):
        ratio = first.probe_ratio(queries, probes)
        scanned = [(row >= 0).sum() for row in first.search(queries, 4000, probe_ratio=ratio - 1e-6).rows]
        lists = [1 + int(np.flatnonzero(held[query] == count)[0]) for query, count in enumerate(scanned)]
        assert np.mean(lists) == pytest.approx(probes, abs=0.1)
    with pytest.raises(VectorError, match="one query at least"):
        first.probe_ratio(queries[:0], 3)
    with pytest.raises(VectorError, match="one list or more"):
        first.probe_ratio(queries, 0)
    with pytest.raises(SearchIndexError, match="in no lists"):
        FirstStage.train(documents, CodeSettings(30, "pq5")).probe_ratio(queries, 3)


@pytest.mark.parametrize("precision", [*BITS_PER_DIMENSION, "pq5", "pq5x8"])
def test_codes_are_the_same_after_a_file(tmp_path: Path, precision: str) -> None:
    documents, queries = vectors(300, dim=32), vectors(9, dim=32, seed=1)
    first = scan(documents, 24, precision)
    first.save(tmp_path / "codes")
    again = FirstStage.load(tmp_path / "codes", first.settings, first.quantizer)
    assert len(again) == 300
    for one, other in zip(first.search(queries, 7), again.search(queries, 7), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(again.empty()) == 0
    (tmp_path / "codes").write_bytes((tmp_path / "codes").read_bytes()[:100])
    with pytest.raises(SearchIndexError, match="damaged"):
        FirstStage.load(tmp_path / "codes", first.settings, first.quantizer)
    with pytest.raises(FileNotFoundError):
        FirstStage.load(tmp_path / "none", first.settings, first.quantizer)


@pytest.mark.parametrize("precision", BITS_PER_DIMENSION)
def test_codes_take_the_bytes_that_the_grid_counts(precision: str) -> None:
    first = scan(vectors(64, dim=32), 32, precision)
    assert first._index.sa_code_size() == bytes_per_vector(32, precision) == first.settings.bytes_per_vector


@pytest.mark.parametrize("second", BITS_PER_DIMENSION)
@pytest.mark.parametrize("first", ["float32", "int4", "binary"])
@pytest.mark.parametrize("full_dim", [30, 32, 27])
def test_a_second_stage_orders_the_shortlist_by_the_full_vectors(first: str, second: str, full_dim: int) -> None:
    documents, queries = vectors(300, full_dim), vectors(20, full_dim, seed=1)
    codes = scan(documents, 13, first)
    stages = Stages(codes, stored(documents, second))
    quantizer = fit_quantizer(documents, second)
    expected = queries @ normalize(quantizer.decode(quantizer.encode(documents))).T
    found = search(stages, queries, 5, 299)
    np.testing.assert_allclose(found.scores, -np.sort(-expected, axis=1)[:, :5], atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(expected, found.rows, axis=1), found.scores, atol=2e-6)
    few = search(stages, queries, 5, 5)
    assert [set(row) for row in few.rows] == [set(row) for row in codes.search(queries, 5).rows]
    # Of part of the numbers
    cut = truncate(queries, 7) @ truncate(quantizer.decode(quantizer.encode(documents)), 7).T
    scores = stages.second.score(queries, np.tile(np.arange(300), (20, 1)), 7)
    np.testing.assert_allclose(scores, cut, atol=2e-6)


def test_what_cannot_be_scanned_is_refused() -> None:
    documents = vectors(30)
    with pytest.raises(VectorError, match="no second stage"):
        search(Stages(scan(documents, 8, "int8"), None), documents, 5, 10)
    with pytest.raises(DimensionError):
        scan(documents, 31, "int8")
    with pytest.raises(PrecisionError):
        scan(documents, 8, "int5")
    with pytest.raises(VectorError, match="not finite"):
        scan(np.full_like(documents, np.nan), 8, "int8")


def test_without_faiss_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[index\]'"):
        scan(vectors(30), 8, "int8")
    with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[index\]'"):
        list(measure_searches(TASK, TaskVectors(vectors(5), vectors(30)), [(8, "int8")], [None], sample=vectors(30)))


@pytest.mark.parametrize(
    ("full_dim", "count", "expected"),
    [
        (384, 58_000, CodeSettings(384, "pq32")),
        (384, 800_000, CodeSettings(384, "pq32")),
        (384, 1_000_000, CodeSettings(384, "pq32", 4096)),
        (1024, 10_000_000, CodeSettings(1024, "pq85", 8192)),
        (3072, 10**9, CodeSettings(3072, "pq128", 8192)),
        (384, 1999, CodeSettings(384, "int8")),
        (23, 10**6, CodeSettings(23, "int8")),
    ],
)
def test_the_first_stage_suits_how_many_vectors_there_are(full_dim: int, count: int, expected: CodeSettings) -> None:
    assert default_codes(full_dim, count) == expected


def test_threads_are_put_back() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    with faiss_threads(before + 1):
        assert faiss.omp_get_max_threads() == before + 1
    assert faiss.omp_get_max_threads() == before


def test_every_cell_is_timed_and_more_work_takes_longer() -> None:
    documents = vectors(20000, 64)
    queries = vectors(40, 64, seed=1)
    first, second = scan(documents, 8, "int8"), stored(documents, "float16")
    times = [measure_latency(Stages(first, second), queries, SearchSettings(count)) for count in (50, 5000)]
    for one in times:
        assert 0 < one.median_ms <= one.p95_ms
        assert one.queries_per_second > 0
    assert times[1].median_ms > times[0].median_ms
