"""Documents and queries as they are given: checked, and cut into batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError, VectorError
from nestvec.files import is_unicode
from nestvec.index.embedded.codec import IndexSettings
from nestvec.index.embedded.stored import ROWS_AT_A_TIME
from nestvec.index.embedded.writing import listed
from nestvec.index.protocol import Batch
from nestvec.index.results import Document
from nestvec.vectors import find_unusable, truncate, unit_float32

__all__ = ["as_batches", "check_batch", "check_documents", "check_ids", "check_queries", "unit_vectors"]

Float32s = NDArray[np.float32]

_TINY = 1e-20  # squared lengths down to here have all digits of float32


def check_batch(batch: Batch, full_dim: int) -> list[Document]:
    """Check documents before anything is written.

    Args:
        batch: The documents.
        full_dim: Dimensions that their vectors must have.

    Returns:
        The documents without vectors.

    Raises:
        VectorError: Vectors are of another width, not finite, or zero; every bad one is named by its id.
        DataError: An id is missing, no text or repeated, or lists are of different lengths, or metadata are no JSON.
    """
    vectors = batch.vectors
    if not isinstance(vectors, np.ndarray):
        raise VectorError(f"Vectors are an array of floating-point numbers, not a {type(vectors).__name__}.")
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or vectors.shape[1] != full_dim:
        raise VectorError(
            f"Vectors are floating-point numbers [n, {full_dim}], not {vectors.dtype} {list(vectors.shape)}."
        )
    found = check_documents(len(vectors), batch.ids, batch.texts, batch.metadata)
    wrong = _unusable_rows(vectors)
    if len(wrong):
        raise VectorError(
            f"{len(wrong):,} vectors are zero or hold numbers that are not finite, of the documents "
            f"{listed([batch.ids[row] for row in wrong.tolist()])}."
        )
    return found


def check_documents(
    count: int,
    ids: Sequence[str],
    texts: Sequence[str | None] | None,
    metadata: Sequence[Mapping[str, Any] | None] | None,
) -> list[Document]:
    """Check what documents have beside their vectors.

    Args:
        count: How many there are.
        ids: [count].
        texts: [count]; None where there are none.
        metadata: [count]; None where there are none.

    Returns:
        The documents.

    Raises:
        DataError: An id is missing, no text or repeated, or lists are of different lengths, or metadata are no JSON.
    """
    _check_lengths(count, ids, texts, metadata)
    check_ids(ids)
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = [id_ for id_ in ids if id_ in seen or seen.add(id_)]  # type: ignore[func-returns-value]
        raise DataError(f"Ids that are repeated in one batch: {listed(sorted(set(twice)))}. Give each document once.")
    texts = [None] * count if texts is None else texts
    metadata = [None] * count if metadata is None else metadata
    found = []
    for id_, text, facts in zip(ids, texts, metadata, strict=True):
        if not (text is None or (isinstance(text, str) and is_unicode(text))):
            raise DataError(f"The text of document {id_} is no text of whole characters.")
        if not (facts is None or isinstance(facts, Mapping)):
            raise DataError(f"The metadata of document {id_} are no JSON object, but a {type(facts).__name__}.")
        found.append(Document(str(id_), None if text is None else str(text), None if facts is None else dict(facts)))
    return found


def check_ids(ids: Sequence[str]) -> None:
    """Check ids.

    Raises:
        DataError: They are one text in place of a list, or some are no texts with a character at least.
    """
    if isinstance(ids, str):
        raise DataError(f"Ids are a list of texts, not the one text {ids!r}.")
    bad = [row for row, id_ in enumerate(ids) if not isinstance(id_, str) or not id_ or not is_unicode(id_)]
    if bad:
        raise DataError(f"Ids are texts with a character at least. These are not, by row: {listed(bad)}.")


def unit_vectors(vectors: NDArray[Any], settings: IndexSettings) -> Float32s:
    """Return what the second stage stores of vectors, before it is encoded: unit length, [n, stored_dim], float32."""
    return truncate(unit_float32(np.asarray(vectors)), settings.stored_dim)


def check_queries(vectors: NDArray[Any], settings: IndexSettings, name: str = "Queries") -> Float32s:
    """Check queries before anything is searched, or other vectors that are not to be stored.

    Args:
        vectors: [n, full_dim] or [full_dim], floating point.
        settings: Of the index.
        name: What an error calls them.

    Returns:
        Queries as segments are asked, [n, stored_dim], float32, of unit length.

    Raises:
        VectorError: They are of another width, zero, or not finite.
    """
    queries = np.asarray(vectors)
    queries = queries[None] if queries.ndim == 1 else queries
    if queries.dtype == np.float32 and queries.shape[1:] == (settings.full_dim,) == (settings.stored_dim,):
        # What nearly all queries are: looked at and scaled in a third of the time that all checks take.
        squares = np.einsum("ij,ij->i", queries, queries)
        if all(_TINY < square < 1 / _TINY for square in squares.tolist()):
            unit: Float32s = queries / np.sqrt(squares)[:, None]
            return unit
    if queries.ndim != 2 or not np.issubdtype(queries.dtype, np.floating) or queries.shape[1] != settings.full_dim:
        raise VectorError(
            f"{name} are floating-point numbers [n, {settings.full_dim}], not {queries.dtype} {list(queries.shape)}. "
            "Encode them with the model that encoded the documents."
        )
    bad = _unusable_rows(queries)
    if len(bad):
        raise VectorError(
            f"{name} must be finite and not zero. {len(bad):,} of them are not, the first in row {bad[0]}."
        )
    return unit_vectors(queries, settings)


def as_batches(
    vectors: NDArray[Any] | Iterable[Batch],
    ids: Sequence[str] | None,
    texts: Sequence[str | None] | None,
    metadata: Sequence[Mapping[str, Any] | None] | None,
) -> tuple[Iterable[Batch], int]:
    """Return documents as batches, and the dimensions of their vectors; see `Index.build` for the arguments.

    Raises:
        DataError: There are no documents, or lists are of different lengths, or given together with batches.
        VectorError: The vectors are no [n, dim].
    """
    if not isinstance(vectors, np.ndarray):
        batches = iter(vectors)
        first = next(batches, None)
        if first is None:
            raise DataError("There are no documents. An index needs one at least; more can be added later.")
        if not isinstance(first, Batch):
            raise VectorError(f"Vectors are an array [n, dim], or batches, and not a list of {type(first).__name__}.")
        if not isinstance(first.vectors, np.ndarray) or first.vectors.ndim != 2:
            raise VectorError("Vectors of a batch are an array [n, dim].")
        if not (ids is None and texts is None and metadata is None):
            raise DataError("Batches come with their own ids, texts and metadata: give them there.")
        return itertools.chain([first], batches), first.vectors.shape[-1]
    if vectors.ndim != 2:
        raise VectorError(f"Vectors are floating-point numbers [n, dim], not {vectors.dtype} {list(vectors.shape)}.")
    _check_lengths(len(vectors), ids, texts, metadata)

    def cut() -> Iterator[Batch]:
        for first in range(0, len(vectors), ROWS_AT_A_TIME):
            rows = slice(first, first + ROWS_AT_A_TIME)
            named = list(map(str, range(*rows.indices(len(vectors))))) if ids is None else ids[rows]
            yield Batch(
                vectors[rows],
                named,
                None if texts is None else texts[rows],
                None if metadata is None else metadata[rows],
            )

    return cut(), vectors.shape[1]


def _check_lengths(
    count: int, ids: Sequence[object] | None, texts: Sequence[object] | None, metadata: Sequence[object] | None
) -> None:
    for name, given in (("ids", ids), ("texts", texts), ("metadata", metadata)):
        if isinstance(given, (str, Mapping)):
            raise DataError(f"{name} are a list, one for each vector, not a {type(given).__name__}.")
        if given is not None and len(given) != count:
            raise DataError(f"There are {count:,} vectors and {len(given):,} {name}. Give one for each vector.")


def _unusable_rows(vectors: NDArray[Any]) -> NDArray[np.int64]:
    """Rows that are zero, or hold numbers that are not finite."""
    return np.sort(np.concatenate(list(find_unusable(vectors).values())))
