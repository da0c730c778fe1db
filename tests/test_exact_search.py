"""Search at every prefix against sorting float64 similarities. Run: pytest tests/test_exact_search.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestvec import exact_search as search_module
from nestvec.errors import DimensionError, VectorError
from nestvec.exact_search import search_prefixes


def whole_numbers(seed: int, n: int, dim: int) -> np.ndarray:
    """Vectors with only a few different numbers: many similarities tie exactly."""
    return np.random.default_rng(seed).integers(-1, 2, size=(n, dim)).astype(np.float32)


def brute_force(queries: np.ndarray, documents: np.ndarray, dim: int) -> np.ndarray:
    q, d = queries[:, :dim].astype(np.float64), documents[:, :dim].astype(np.float64)
    lengths = np.linalg.norm(d, axis=1)
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    q_lengths = np.linalg.norm(q, axis=1, keepdims=True)
    return np.divide(q, q_lengths, out=np.zeros_like(q), where=q_lengths > 0) @ d.T * scale


@given(seed=st.integers(0, 10_000), n=st.integers(1, 400), k=st.integers(1, 12), ties=st.booleans())
@settings(deadline=None, max_examples=80)
def test_every_dim_finds_what_sorting_finds(seed: int, n: int, k: int, ties: bool) -> None:
    generator = np.random.default_rng(seed)
    documents = whole_numbers(seed, n, 8) if ties else generator.normal(size=(n, 8)).astype(np.float32)
    queries = whole_numbers(seed + 1, 5, 8) if ties else generator.normal(size=(5, 8)).astype(np.float32)
    for dim, found in search_prefixes(queries, documents, dims=[8, 5, 2], k=k).items():
        exact = brute_force(queries, documents, dim)
        order = np.lexsort((np.broadcast_to(np.arange(n), exact.shape), -exact), axis=1)[:, :k]
        # Cosines that float32 rounds alike, by accident or by design, may change places: ranks are compared by value.
        np.testing.assert_allclose(
            np.take_along_axis(exact, found.indices, 1), np.take_along_axis(exact, order, 1), atol=1e-6
        )
        np.testing.assert_allclose(found.scores, np.take_along_axis(exact, found.indices, 1), atol=1e-6)
        assert all(len(set(row)) == len(row) for row in found.indices.tolist())


def test_equal_scores_are_ordered_by_row() -> None:
    documents = np.tile(np.eye(4, dtype=np.float32), (5, 1))  # every document five times
    found = search_prefixes(np.eye(4, dtype=np.float32), documents, dims=[4], k=3)[4]
    np.testing.assert_array_equal(found.indices, [[i, i + 4, i + 8] for i in range(4)])


def test_scores_that_round_alike_are_equal_even_at_the_last_rank() -> None:
    cosines = np.zeros(40)
    cosines[[3, 4]] = 0.5, 0.5 + 2e-7  # the later is larger, by less than float32 can be sure of
    documents = np.column_stack([cosines, np.sqrt(1 - cosines**2)]).astype(np.float32)
    found = search_prefixes(np.float32([[1, 0]]), documents, dims=[2], k=1)[2]
    assert found.indices.tolist() == [[3]]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    queries, documents = (generator.normal(size=(n, 16)).astype(np.float32) for n in (23, 50))
    whole = search_prefixes(queries, documents, dims=[16, 4], k=5)
    monkeypatch.setattr(search_module, "_SCORES_IN_MEMORY", 200)
    for dim, found in search_prefixes(queries, documents, dims=[16, 4], k=5).items():
        np.testing.assert_array_equal(found.indices, whole[dim].indices)


@pytest.mark.parametrize(
    ("documents", "k", "message"),
    [
        (np.zeros((0, 4)), 1, "1 of 0 documents"),
        (np.eye(4), 0, "0 of 4 documents"),
        (np.full((2, 4), np.nan), 1, "not finite"),
    ],
)
def test_what_cannot_be_searched_is_refused(documents: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        search_prefixes(np.eye(4, dtype=np.float32), documents.astype(np.float32), dims=[4], k=k)


def test_vectors_of_different_sizes_are_refused() -> None:
    with pytest.raises(DimensionError, match="Queries have 4 dimensions and documents 3"):
        search_prefixes(np.eye(4, dtype=np.float32), np.eye(3, dtype=np.float32), dims=[2], k=1)


def test_dims_outside_the_vectors_are_refused() -> None:
    with pytest.raises(DimensionError):
        search_prefixes(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32), dims=[5], k=1)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_repeated_rows_are_found_at_every_size(trusted: bool, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.integers(-1, 2, size=(200, 6)).astype(np.float32)
    vectors[vectors == 0] *= np.where(generator.random((vectors == 0).sum()) < 0.5, -1, 1)  # -0 is 0
    if not trusted:  # every row has the hash of every other
        monkeypatch.setattr(search_module, "hash_rows", lambda rows, _: np.zeros(len(rows), np.uint64))
    found = search_module._repeated_rows(vectors, [6, 3, 1])
    for dim in (6, 3, 1):
        firsts: dict[tuple[float, ...], int] = {}
        expected = [
            (row, firsts[key])
            for row, key in enumerate(map(tuple, vectors[:, :dim] + 0.0))
            if firsts.setdefault(key, row) != row
        ]
        assert list(zip(*(side.tolist() for side in found[dim]), strict=True)) == expected
