"""Exact search at every prefix of the same vectors, in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, VectorError
from nestvec.progress import Progress, silent
from nestvec.vectors import check_dims, hash_factors, hash_rows

__all__ = ["TopK", "search_prefixes"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

_SCORES_IN_MEMORY = 4_000_000  # 16 MiB of float32 similarities at a time
_NUMBERS_IN_MEMORY = 4_000_000
_GROUPING = 16  # looking a column up costs this many times what comparing one does
_DECIMALS = 6  # of a cosine that float32 is sure of


class TopK(NamedTuple):
    """The best documents of every query, best first."""

    indices: Rows
    """Row of each document, [n_queries, k]."""
    scores: Float32s
    """Cosine similarity, from -1 to 1, [n_queries, k]."""


def search_prefixes(
    queries: Float32s,
    documents: Float32s,
    *,
    dims: Sequence[int],
    k: int,
    progress: Progress = silent,
) -> dict[int, TopK]:
    """Find the nearest documents by cosine at every size, from one pass over the numbers.

    The un-normalised similarity of a prefix is that of the next shorter one plus one block product, so the products
    of all dims cost as much as those of the largest; finding the best k is done once a dim. Memory beyond the vectors
    stays under 300 MiB up to 8 million documents.

    Args:
        queries: [n_queries, full_dim], float32.
        documents: [n_documents, full_dim], float32: the vectors themselves, or what their codes stand for.
        dims: Prefix sizes, strictly rising or falling.
        k: Documents to return for each query; fewer where the corpus is smaller.
        progress: How to report progress, in queries.

    Returns:
        The nearest documents for each dim, in the order of `dims`. Scores that agree to six decimals, which is what
        float32 can tell, are equal, and ordered by row, first first; documents that are equal up to a dim have equal
        scores there.

    Raises:
        DimensionError: A dim is outside the vectors, repeated or out of order, or the two have different sizes.
        VectorError: There are no documents, k is below 1, or a number is not finite.

    Example:
        >>> vectors = np.eye(3, dtype=np.float32)
        >>> search_prefixes(vectors[:1], vectors, dims=[3, 2], k=1)[2].indices
        array([[0]])
    """
    checked = check_dims(dims, queries.shape[1])
    _check(queries, documents, k)
    n_queries, n_documents = len(queries), len(documents)
    k = min(k, n_documents)
    found = {dim: TopK(np.empty((n_queries, k), np.int64), np.empty((n_queries, k), np.float32)) for dim in checked}
    repeated = _repeated_rows(documents, checked)
    document_scales = {dim: _inverse_lengths(documents[:, :dim]) for dim in checked}  # [n_documents]
    for dim, (again, first_rows) in repeated.items():
        document_scales[dim][again] = document_scales[dim][first_rows]
    query_scales = {dim: _inverse_lengths(queries[:, :dim]) for dim in checked}  # [n_queries]
    block = max(1, _SCORES_IN_MEMORY // n_documents)
    products, parts = np.empty((2, min(block, n_queries), n_documents), np.float32)
    with progress("searching", n_queries) as advance:
        for first in range(0, n_queries, block):
            rows = slice(first, min(first + block, n_queries))
            # The same memory for every block and dim: fresh memory would cost more than what is written to it.
            products, parts = products[: rows.stop - first], parts[: rows.stop - first]
            start = 0
            for dim in sorted(checked):
                out = parts if start else products
                np.matmul(queries[rows, start:dim], documents[:, start:dim].T, out=out)
                if start:
                    products += parts
                start = dim
                again, first_rows = repeated[dim]
                products[:, again] = products[:, first_rows]  # rounding must not tell equal documents apart
                found[dim].indices[rows], found[dim].scores[rows] = _largest(
                    products, k, query_scales[dim][rows], document_scales[dim]
                )
            advance(rows.stop - rows.start)
    return found


def _check(queries: Float32s, documents: Float32s, k: int) -> None:
    if queries.shape[1] != documents.shape[1]:
        raise DimensionError(f"Queries have {queries.shape[1]} dimensions and documents {documents.shape[1]}.")
    if len(documents) == 0 or k < 1:
        raise VectorError(f"Cannot find {k} of {len(documents)} documents. Give documents, and a k from 1.")
    if not (np.isfinite(queries).all() and np.isfinite(documents).all()):
        raise VectorError("Vectors hold numbers that are not finite. Encode again, or leave those texts out.")


def _inverse_lengths(vectors: Float32s) -> Float32s:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    inverse: NDArray[np.float64] = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return inverse.astype(np.float32)


def _repeated_rows(vectors: Float32s, dims: Sequence[int]) -> dict[int, tuple[Rows, Rows]]:
    """Rows whose first `dim` dimensions stand in an earlier row too, and the first of those, by dim."""
    hashes = np.zeros(len(vectors), np.uint64)
    factors = hash_factors(vectors.shape[1])
    found = {}
    alike = np.arange(len(vectors))  # rows with an equal so far; a row without one has none further on
    start = 0
    for dim in sorted(dims):
        block = max(1, _NUMBERS_IN_MEMORY // (dim - start))
        for first in range(0, len(alike), block):
            rows = alike[first : first + block]
            hashes[rows] += hash_rows(vectors[rows, start:dim], factors[start:dim])
        start = dim
        repeated, first_rows = _repeats(hashes[alike], vectors, alike, dim)
        found[dim] = repeated, first_rows
        alike = np.union1d(repeated, first_rows)
    return found


def _repeats(hashes: NDArray[np.uint64], vectors: Float32s, rows: Rows, dim: int) -> tuple[Rows, Rows]:
    """Those of some rising rows that repeat an earlier one, and the earlier one; hashes find them, numbers decide."""
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    first_rows = rows[first[group]]
    again = first_rows != rows
    if not (vectors[rows[again], :dim] == vectors[first_rows[again], :dim]).all():  # different rows share a hash
        _, first, group = np.unique(vectors[rows, :dim], axis=0, return_index=True, return_inverse=True)
        first_rows = rows[first[group.reshape(-1)]]
        again = first_rows != rows
    return rows[again], first_rows[again]


def _largest(products: Float32s, k: int, row_scales: Float32s, column_scales: Float32s) -> tuple[Rows, Float32s]:
    """Columns and values of the k largest of each row, largest first; values that round alike by column, [n_rows, k].

    A value is a product times the scale of its column, [n_columns], and then that of its row, [n_rows]. They are
    computed a piece at a time, which stays in the processor's cache, and again for the few that matter.
    """
    n_rows, n_columns = products.shape
    width = min(n_columns, math.isqrt(_GROUPING * k * n_columns))  # a group is every width-th column
    maxima = products[:, :width] * column_scales[:width]
    piece = np.empty_like(maxima)
    for first in range(width, n_columns, width):
        columns = slice(first, min(first + width, n_columns))
        some = piece[:, : columns.stop - first]
        np.multiply(products[:, columns], column_scales[columns], out=some)
        np.maximum(maxima[:, : some.shape[1]], some, out=maxima[:, : some.shape[1]])
    # k groups have a value of at least the k-th largest group maximum, so no smaller value is among the k largest.
    bounds = np.partition(maxima, width - k, axis=1)[:, width - k]
    # Values a little below that bound may round to the same.
    bounds -= np.divide(10.0**-_DECIMALS, row_scales, out=np.zeros_like(bounds), where=row_scales > 0)
    rows, groups = np.divmod(np.flatnonzero(maxima >= bounds[:, None]), width)
    members = groups[:, None] + np.arange(0, n_columns, width)  # [n_found, group size]
    inside = members < n_columns
    members[~inside] = 0
    values = products[rows[:, None], members] * column_scales[members]
    kept = inside & (values >= bounds[rows, None])
    rows, columns = np.broadcast_to(rows[:, None], kept.shape)[kept], members[kept]
    values = np.clip(values[kept] * row_scales[rows], -1, 1)
    order = np.lexsort((columns, -values.round(_DECIMALS), rows))
    # At least k of each row were kept.
    best = order[np.searchsorted(rows[order], np.arange(n_rows))[:, None] + np.arange(k)]
    return columns[best], values[best]
