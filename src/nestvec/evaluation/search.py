"""Exact search at every prefix of the same vectors, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, VectorError
from nestvec.progress import Progress, silent
from nestvec.vectors import check_dims

__all__ = ["TopK", "search_prefixes"]

_SCORES_IN_MEMORY = 8_000_000  # 32 MiB of float32 similarities at a time


class TopK(NamedTuple):
    """The best documents of every query, best first."""

    indices: NDArray[np.int64]
    """Row of each document, [n_queries, k]."""
    scores: NDArray[np.float32]
    """Cosine similarity, [n_queries, k]."""


def search_prefixes(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
    *,
    dims: Sequence[int],
    k: int,
    progress: Progress = silent,
) -> dict[int, TopK]:
    """Find the nearest documents by cosine at every size, from one pass over the numbers.

    The un-normalised similarity of a prefix is that of the next shorter one plus one block product, so the products
    of all dims cost as much as those of the largest; finding the best k is done once a dim. Memory beyond the vectors
    stays under 200 MiB up to 8 million documents.

    Args:
        queries: [n_queries, full_dim], float32.
        documents: [n_documents, full_dim], float32.
        dims: Prefix sizes, strictly rising or falling.
        k: Documents to return for each query; fewer where the corpus is smaller.
        progress: How to report progress, in queries.

    Returns:
        The nearest documents for each dim, in the order of `dims`. Equal scores are ordered by row, first first.

    Raises:
        DimensionError: A dim is outside the vectors, repeated or out of order, or the two have different sizes.
        VectorError: There are no documents, k is below 1, or a number is not finite.

    Example:
        >>> vectors = np.eye(3, dtype=np.float32)
        >>> search_prefixes(vectors[:1], vectors, dims=[3, 2], k=1)[2].indices
        array([[0]])
    """
    checked = check_dims(dims, queries.shape[1])
    if queries.shape[1] != documents.shape[1]:
        raise DimensionError(f"Queries have {queries.shape[1]} numbers and documents {documents.shape[1]}.")
    if len(documents) == 0 or k < 1:
        raise VectorError(f"Cannot find {k} of {len(documents)} documents. Give documents, and a k from 1.")
    if not (np.isfinite(queries).all() and np.isfinite(documents).all()):
        raise VectorError("Vectors hold numbers that are not finite. Encode again, or leave those texts out.")
    n_queries, n_documents = len(queries), len(documents)
    k = min(k, n_documents)
    found = {dim: TopK(np.empty((n_queries, k), np.int64), np.empty((n_queries, k), np.float32)) for dim in checked}
    document_scales = {dim: _inverse_lengths(documents[:, :dim]) for dim in checked}  # [n_documents]
    query_scales = {dim: _inverse_lengths(queries[:, :dim]) for dim in checked}  # [n_queries]
    block = max(1, _SCORES_IN_MEMORY // n_documents)
    with progress("searching", n_queries) as advance:
        for first in range(0, n_queries, block):
            rows = slice(first, min(first + block, n_queries))
            products = np.zeros((rows.stop - rows.start, n_documents), np.float32)
            start = 0
            for dim in sorted(checked):
                products += queries[rows, start:dim] @ documents[:, start:dim].T
                start = dim
                scores = products * document_scales[dim]
                scores *= query_scales[dim][rows, None]
                indices = _largest(scores, k)
                found[dim].indices[rows] = indices
                found[dim].scores[rows] = np.take_along_axis(scores, indices, axis=1)
            advance(rows.stop - rows.start)
    return found


def _inverse_lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    inverse: NDArray[np.float64] = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return inverse.astype(np.float32)


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k largest values of each row, largest first; equal values by column, [n_rows, k]."""
    chosen = np.argpartition(scores, -k, axis=1)[:, -k:]
    values = np.take_along_axis(scores, chosen, axis=1)
    smallest = values.min(axis=1, keepdims=True)  # [n_rows, 1]
    # argpartition takes any of several columns that tie for the last place; the first ones are wanted.
    tied = np.flatnonzero((scores >= smallest).sum(axis=1) > k)
    for row in tied:
        above = np.flatnonzero(scores[row] > smallest[row])
        equal = np.flatnonzero(scores[row] == smallest[row])
        chosen[row] = np.concatenate([above, equal[: k - len(above)]])
        values[row] = scores[row, chosen[row]]
    order = np.lexsort((chosen, -values), axis=1)
    return np.take_along_axis(chosen, order, axis=1)
