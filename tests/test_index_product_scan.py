"""Codes are chosen so that no document looks nearer to its queries than it is. Run: pytest tests/test_index_product_scan.py (seconds)."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nestvec import threads
from nestvec.errors import MissingExtraError, PrecisionError
from nestvec.index import CodeSettings, FirstStage
from nestvec.index.embedded.product_scan import ProductScan
from nestvec.quantization import ProductQuantizer, product
from nestvec.quantization.product import choose_codes
from nestvec.threads import faiss_threads, one_thread_for_products
from nestvec.vectors import normalize


def vectors(count: int, dim: int = 48, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    lengths = 1 / np.sqrt(np.arange(1, dim + 1))
    return normalize((generator.normal(size=(count, dim)) * lengths).astype(np.float32))


def in_turn(vector: np.ndarray, centroids: np.ndarray, target: float) -> np.ndarray:
    """The oracle: the loss as it is written, in float64, one codebook after another from the nearest centroids on."""
    parts, centroids = vector.astype(np.float64).reshape(len(centroids), -1), centroids.astype(np.float64)
    count = centroids.shape[1]
    chosen = ((parts[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)

    def loss(codes: np.ndarray) -> float:
        y = centroids[np.arange(len(codes)), codes]
        return float(((parts - y) ** 2).sum() + 8 * (target - (parts * y).sum()) ** 2)

    for place in range(len(chosen)):
        tries = np.repeat(chosen[None], count, axis=0)
        tries[:, place] = np.arange(count)
        chosen = tries[np.argmin([loss(one) for one in tries])]
    return chosen


@pytest.mark.parametrize("count", [16, 256])
def test_codes_are_those_of_the_loss_as_it_is_written(count: int) -> None:
    generator = np.random.default_rng(0)
    documents, centroids = vectors(60), generator.normal(size=(12, count, 4)).astype(np.float32) / 7
    found = choose_codes(documents, centroids, 0.6)
    expected = np.stack([in_turn(one, centroids, 0.6) for one in documents])
    assert (found == expected).mean() > 0.99  # bits that make way for places decide near ties


@pytest.mark.parametrize(
    ("precision", "lists"),
    [
        ("pq6", None),
        ("pq6", 8),
        ("pq5", None),
        ("pq5", 5),
        ("pq2", 7),
        ("pq12", 16),
        ("pq12", None),
        ("pq24", None),
        ("pq24", 4),
        ("pq8x8", None),
    ],
)
def test_what_is_stored_are_the_assigned_codes_in_the_nearest_lists(precision: str, lists: int | None) -> None:
    documents = vectors(3000)
    first = FirstStage.train(documents, CodeSettings(48, precision, lists))
    quantizer = first.quantizer
    assert isinstance(quantizer, ProductQuantizer)
    codes = quantizer.assign(documents)
    first.add(documents[:1100])
    first.add_codes(quantizer.encode(documents[1100:]))
    assert len(first) == first._index.ntotal == 3000
    index = faiss.downcast_index(first._index.index)
    padded = index.d // index.pq.M
    stand_ins = np.pad(quantizer.stand_ins(codes).reshape(3000, index.pq.M, -1), [(0, 0), (0, 0), (0, 9)])[
        :, :, :padded
    ]
    written = index.pq.compute_codes(np.ascontiguousarray(stand_ins.reshape(3000, -1)))
    np.testing.assert_array_equal(quantizer.unpack(written), codes)
    if lists is not None:
        held = [faiss.rev_swig_ptr(index.invlists.get_ids(one), index.invlists.list_size(one)) for one in range(lists)]
        product = ProductScan(first._index, quantizer)
        known = documents.copy()
        known[1100:] = quantizer.decode(quantizer.encode(documents[1100:]))  # all that codes say
        nearest = product.similarities(product.transform(known)).argmax(axis=1)
        for one, rows in enumerate(held):
            np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(nearest == one))


@pytest.mark.parametrize("lists", [None, 8])
def test_codes_stand_for_all_vectors_alike(lists: int | None) -> None:
    documents = vectors(3000)
    first = FirstStage.train(documents, CodeSettings(48, "pq6", lists))
    quantizer = first.quantizer
    assert isinstance(quantizer, ProductQuantizer)
    projected = quantizer.project(documents)
    chosen = quantizer.stand_ins(quantizer.assign(documents))
    first.add(documents)
    queries = vectors(40, seed=1)
    expected = quantizer.project(queries) @ chosen.T
    found = first.search(queries, 20)
    best = -np.sort(-expected, axis=1)[:, :20]
    np.testing.assert_allclose(found.scores, best, atol=0.02)  # faiss rounds its tables to 8 bits
    np.testing.assert_allclose(np.take_along_axis(expected, found.rows, axis=1), best, atol=0.03)
    # x y spreads less than for the nearest centroids, and what is left out hardly grows.
    plain = dataclasses.replace(quantizer, target=None)
    nearest = plain.stand_ins(plain.assign(documents))
    spreads, errors = (
        [float(measure(one)) for one in (chosen, nearest)]
        for measure in (
            lambda one: (one * projected).sum(axis=1).std(),
            lambda one: ((one - projected) ** 2).sum(axis=1).mean(),
        )
    )
    assert spreads[0] < 0.6 * spreads[1]
    assert errors[0] < 1.15 * errors[1]


@pytest.mark.parametrize("lists", [None, 8])
def test_faiss_alone_reads_the_codes_and_finds_the_same(tmp_path: Path, lists: int | None) -> None:
    documents, queries = vectors(3000), vectors(20, seed=1)
    first = FirstStage.train(documents, CodeSettings(48, "pq6", lists))
    first.add(documents)
    first.save(tmp_path / "codes")
    alone = faiss.read_index(str(tmp_path / "codes"))
    if lists is not None:
        faiss.extract_index_ivf(alone).nprobe = lists
    scores, rows = alone.search(queries, 10)
    found = first.search(queries, 10)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


@pytest.mark.parametrize("lists", [None, 8])
def test_any_number_of_threads_stores_the_same(tmp_path: Path, lists: int | None) -> None:
    documents = vectors(20_000)
    first = FirstStage.train(documents[:3000], CodeSettings(48, "pq6", lists))
    for count in (1, 4):
        codes = first.empty()
        with faiss_threads(count):
            codes.add(documents)
        codes.save(tmp_path / str(count))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "4").read_bytes()


def test_an_error_in_a_thread_is_raised_and_what_was_stored_before_it_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = FirstStage.train(vectors(3000), CodeSettings(48, "pq6", 8))
    before = threadpool_info()

    def fails_late(projected: np.ndarray, centroids: np.ndarray, target: float) -> np.ndarray:
        if projected[0, 0] == last:
            raise MemoryError
        return choose_codes(projected, centroids, target)

    documents = vectors(20_000, seed=1)
    quantizer = first.quantizer
    assert isinstance(quantizer, ProductQuantizer)
    with one_thread_for_products():
        last = quantizer.project(documents[18 * 1024 : 19 * 1024])[0, 0]
    monkeypatch.setattr(product, "choose_codes", fails_late)
    with faiss_threads(4), pytest.raises(MemoryError):
        first.add(documents)
    assert first._index.ntotal == 16 * 1024
    assert threadpool_info() == before


def test_products_take_one_thread_and_leave_those_of_faiss_alone() -> None:
    def counts() -> list[Any]:
        ours = [one for one in threadpool_info() if "numpy" in one["filepath"]]  # scipy brings a library of its own
        return [one["num_threads"] for one in ours if one.get("threading_layer") == "pthreads"]

    with threadpool_limits(3, user_api="blas"):
        before = counts()
        if not before:
            pytest.skip("numpy's products take the threads of OpenMP here, which are counted with those of faiss")
        first, second = one_thread_for_products(), one_thread_for_products()
        with faiss_threads(3):
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)  # two that overlap
            assert set(counts()) == {1}
            assert faiss.omp_get_max_threads() == 3
            second.__exit__(None, None, None)
        assert counts() == before


def test_lists_need_codes_that_can_number_them() -> None:
    with pytest.raises(PrecisionError, match="pq1 is too short for 16 lists. Choose pq2"):
        FirstStage.train(vectors(300), CodeSettings(48, "pq1", 16))


def test_without_threadpoolctl_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    threads._products.cache_clear()
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nestvec\[index\]'"), one_thread_for_products():
        pass
    monkeypatch.undo()
    threads._products.cache_clear()
    with one_thread_for_products():
        pass
