"""A search in full over one state of any engine: of texts, vectors or a stored document; by words too; distinct."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import SearchIndexError, VectorError
from nestvec.index.hybrid import find_distinct, search_hybrid
from nestvec.index.protocol import QueryEncoder, Snapshot
from nestvec.index.results import Document, Explanation, Found, Hits, ScoreKind
from nestvec.index.settings import SearchSettings

__all__ = ["Queries", "hits_of", "read_queries", "search_in_full"]

Float32s = NDArray[np.float32]


class Queries(NamedTuple):
    """What is searched for."""

    vectors: NDArray[Any]
    """[n_queries, full_dim] or [full_dim], floating point."""
    texts: list[str] | None = None
    """[n_queries], for search by words; None where that is not asked for."""
    like: str | None = None
    """Id of the stored document that is the query, and no answer to itself."""


def read_queries(
    query: NDArray[Any] | str | Sequence[str] | None,
    like: str | None,
    *,
    hybrid: bool,
    encoder: QueryEncoder | None,
    stored: Callable[[str], tuple[Float32s, str | None]],
) -> Queries:
    """Turn what a search is given into vectors.

    Args:
        query: One text or several, or vectors; None with `like`.
        like: Id of a stored document, in place of a query.
        hybrid: Whether words are searched for as well.
        encoder: What encodes texts; None takes vectors alone.
        stored: Returns the vector, [1, full_dim], and the text of a document by its id.

    Returns:
        The queries.

    Raises:
        VectorError: There is neither or both of query and like, or the query is no text and no array.
        SearchIndexError: Queries are texts, and there is no encoder; or they have no text, and hybrid.
    """
    if (query is None) == (like is None):
        raise VectorError("Give a query, or the id of a document in like, and not both.")
    if like is not None:
        vector, text = stored(like)
        if hybrid and not text:
            raise SearchIndexError(f"Document {like} has no text, so there are no words to search for.")
        return Queries(vector, [text or ""] if hybrid else None, like)
    if isinstance(query, np.ndarray):
        if hybrid:
            raise SearchIndexError("hybrid=True needs the text of each query. Give texts, or leave hybrid out.")
        return Queries(query)
    texts = [query] if isinstance(query, str) else list(query or ())
    if not all(isinstance(text, str) for text in texts):
        raise VectorError("Queries are an array of floating-point numbers, or texts.")
    if encoder is None:
        raise SearchIndexError(
            "Queries are texts, and the index has no encoder. Open it with one: nestvec.open_index(path), or "
            "Index.open(path, encoder=...)."
        )
    return Queries(encoder.encode_queries(texts), texts if hybrid else None)


def search_in_full(
    snapshot: Snapshot, queries: Queries, k: int, settings: SearchSettings, *, distinct: bool
) -> list[Explanation]:
    """Do one search for every query, with texts and metadata of what it finds.

    Args:
        snapshot: What is searched.
        queries: What for; with texts by BM25 as well.
        k: Documents to find.
        settings: How.
        distinct: Of documents with the same contents, find the best alone.

    Returns:
        What was found and said, for each query.
    """
    searched = snapshot if queries.like is None else _Others(snapshot, queries.like)
    explained = []
    for place, vector in enumerate(np.atleast_2d(queries.vectors)):
        if queries.texts is not None:
            found = search_hybrid(searched, vector, queries.texts[place], k, settings, distinct=distinct)
        elif distinct:
            found = find_distinct(searched, vector, k, settings)
        else:
            found = searched.nearest(vector, k, settings)
        known = snapshot.get([hit.id for hit in found.hits])
        hits = [hit._replace(text=known[hit.id].text, metadata=known[hit.id].metadata) for hit in found.hits]
        explained.append(Explanation(hits, dict(found.seconds), snapshot.documents, settings))
    return explained


class _Others:
    """All documents but one: that which is the query."""

    def __init__(self, snapshot: Snapshot, id_: str) -> None:
        self._snapshot, self._id = snapshot, id_

    @property
    def documents(self) -> int:
        """How many there are; one more where the filter leaves it out."""
        return self._snapshot.documents

    def nearest(self, query: NDArray[Any], k: int, settings: SearchSettings) -> Found:
        """Find the nearest of them, whose places are those beside each other."""
        found = self._snapshot.nearest(query, k + 1, settings)
        hits = [hit for hit in found.hits if hit.id != self._id][:k]
        ranked = [hit._replace(details=hit.details._replace(vector_rank=rank)) for rank, hit in enumerate(hits, 1)]
        return Found(ranked, found.seconds)

    def best_by_words(self, text: str, k: int) -> list[tuple[str, float]]:
        """Find those that share words with a text, best first."""
        return [hit for hit in self._snapshot.best_by_words(text, k + 1) if hit[0] != self._id][:k]

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents by id."""
        return self._snapshot.get(ids)

    def contents(self, ids: Sequence[str]) -> dict[str, object]:
        """Return what makes each document the same as another."""
        return self._snapshot.contents(ids)


def hits_of(explained: Sequence[Explanation], k: int, *, hybrid: bool) -> Hits:
    """Return what was found for all queries, with k places each: those that are not filled have no score."""
    scores = np.full((len(explained), k), np.nan, np.float32)
    for query, one in enumerate(explained):
        scores[query, : len(one.hits)] = [hit.score for hit in one.hits]
    kind: ScoreKind = "reciprocal rank fusion" if hybrid else "cosine"
    found = [one.hits for one in explained]
    return Hits([[hit.id for hit in hits] for hits in found], scores, kind, _found=lambda: found)
