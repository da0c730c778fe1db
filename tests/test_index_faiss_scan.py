"""faiss holds the codes that nestvec makes, and finds what they say. Run: pytest tests/test_index_faiss_scan.py (seconds)."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nestvec.errors import DimensionError, MissingExtraError, PrecisionError, VectorError
from nestvec.evaluation import CellKey, Rerank, TaskVectors, measure_latency
from nestvec.index import FaissScan, SecondStage, faiss_threads
from nestvec.quantization import BITS_PER_NUMBER, bytes_per_vector, fit_quantizer
from nestvec.vectors import normalize, truncate


def vectors(n: int, dim: int = 30, seed: int = 0) -> np.ndarray:
    return normalize(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32) + 0.2)


@pytest.mark.parametrize("precision", BITS_PER_NUMBER)
@pytest.mark.parametrize("dim", [30, 13, 8, 1])
def test_a_scan_finds_what_the_codes_of_a_precision_say(precision: str, dim: int) -> None:
    documents, queries = vectors(300), vectors(20, seed=1)
    scan = FaissScan(documents, dim, precision)
    hits = scan.search(queries, 5)
    cut = truncate(documents, dim)
    quantizer = fit_quantizer(cut, precision)
    expected = truncate(queries, dim) @ quantizer.decode(quantizer.encode(cut)).T
    best = -np.sort(-expected, axis=1)[:, :5]
    # faiss rounds the tables of a fast scan to 8 bits
    np.testing.assert_allclose(hits.scores, best, atol=0.02 if precision == "binary" else 1e-4)
    np.testing.assert_allclose(
        np.take_along_axis(expected, hits.indices, axis=1), best, atol=0.03 if precision == "binary" else 1e-4
    )


@pytest.mark.parametrize("precision", BITS_PER_NUMBER)
def test_codes_take_the_bytes_that_the_grid_counts(precision: str) -> None:
    scan = FaissScan(vectors(64, dim=32), 32, precision)
    assert scan._first.sa_code_size() == bytes_per_vector(32, precision)


@pytest.mark.parametrize("second", BITS_PER_NUMBER)
@pytest.mark.parametrize("first", ["float32", "int4", "binary"])
@pytest.mark.parametrize("full_dim", [30, 32, 27])
def test_a_second_stage_orders_the_shortlist_by_the_full_vectors(first: str, second: str, full_dim: int) -> None:
    documents, queries = vectors(300, full_dim), vectors(20, full_dim, seed=1)
    scan = FaissScan(documents, 13, first, second=SecondStage(documents, second))
    everything = scan.search(queries, 5, shortlist=300)
    quantizer = fit_quantizer(documents, second)
    expected = queries @ quantizer.decode(quantizer.encode(documents)).T
    found = np.take_along_axis(expected, everything.indices, axis=1)
    np.testing.assert_allclose(found, -np.sort(-expected, axis=1)[:, :5], atol=1e-5)
    few = scan.search(queries, 5, shortlist=5)
    assert [set(row) for row in few.indices] == [set(row) for row in scan.search(queries, 5).indices]


def test_a_scan_is_fast_to_ask_wrongly() -> None:
    documents = vectors(30)
    with pytest.raises(VectorError, match="give a second stage"):
        FaissScan(documents, 8, "int8").search(documents, 5, shortlist=10)
    with pytest.raises(VectorError, match="Cannot rerank 3 documents for the best 5"):
        FaissScan(documents, 8, "int8", second=SecondStage(documents, "int8")).search(documents, 5, shortlist=3)
    with pytest.raises(DimensionError):
        FaissScan(documents, 31, "int8")
    with pytest.raises(PrecisionError):
        FaissScan(documents, 8, "int5")
    with pytest.raises(PrecisionError):
        SecondStage(documents, "int5")
    with pytest.raises(VectorError, match="not finite"):
        FaissScan(np.full_like(documents, np.nan), 8, "int8")


def test_without_faiss_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[index\]'"):
        FaissScan(vectors(30), 8, "int8")
    with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[index\]'"):
        measure_latency(TaskVectors(vectors(5), vectors(30)), [CellKey(8)])


def test_threads_are_put_back() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    with faiss_threads(1):
        assert faiss.omp_get_max_threads() == 1
    assert faiss.omp_get_max_threads() == before


def test_every_cell_is_timed_and_more_work_takes_longer() -> None:
    task_vectors = TaskVectors(vectors(40, 64, seed=1), vectors(20000, 64))
    keys = [
        CellKey(64),
        CellKey(8, "int8"),
        CellKey(8, "int8", Rerank("float16", 50)),
        CellKey(8, "int8", Rerank("float16", 5000)),
    ]
    times = measure_latency(task_vectors, keys)
    assert list(times) == keys
    for one in times.values():
        assert 0 < one.median_ms <= one.p95_ms
        assert one.queries_per_second > 0
    assert times[keys[3]].median_ms > times[keys[2]].median_ms
