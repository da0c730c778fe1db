"""Hybrid search (BM25 and reciprocal rank fusion) and deduplication, over any engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nestvec.index.protocol import Snapshot
from nestvec.index.results import Found, Hit
from nestvec.index.settings import SearchSettings

__all__ = ["DEFAULT_DEPTH", "find_distinct", "fuse_rankings", "merge_copies", "search_hybrid"]

DEFAULT_DEPTH = 100
"""Hits of each ranking that are fused, at least."""
_FUSION = 60  # added to ranks in reciprocal rank fusion


def search_hybrid(
    snapshot: Snapshot, query: NDArray[np.floating], text: str, k: int, settings: SearchSettings, *, distinct: bool
) -> Found:
    """Find documents by a vector and by words.

    Args:
        snapshot: What is searched.
        query: Vector of the query, [full_dim], floating point.
        text: Its text.
        k: Documents to find.
        settings: How to search by the vector.
        distinct: Of documents with the same contents, find the best alone.

    Returns:
        The best of both rankings, by reciprocal rank fusion.
    """
    depth = max(k, DEFAULT_DEPTH)
    started = time.perf_counter()
    by_words = snapshot.best_by_words(text, depth)
    seconds = time.perf_counter() - started
    by_vectors = (
        find_distinct(snapshot, query, depth, settings) if distinct else snapshot.nearest(query, depth, settings)
    )
    started = time.perf_counter()
    hits = fuse_rankings(by_vectors.hits, by_words)
    if distinct:
        hits = merge_copies(hits, snapshot.contents([hit.id for hit in hits]))
    return Found(hits[:k], {**by_vectors.seconds, "words": seconds + time.perf_counter() - started})


def find_distinct(snapshot: Snapshot, query: NDArray[np.floating], k: int, settings: SearchSettings) -> Found:
    """Find k documents of different contents.

    Args:
        snapshot: What is searched.
        query: Vector of the query, [full_dim], floating point.
        k: Documents to find.
        settings: How to search.

    Returns:
        The best of each contents, with the ids of the copies that were found with it.
    """
    depth = k
    while True:
        found = snapshot.nearest(query, depth, settings)
        hits = merge_copies(found.hits, snapshot.contents([hit.id for hit in found.hits]))
        if len(hits) >= k or depth >= snapshot.documents:
            return Found(hits[:k], found.seconds)
        depth = min(2 * depth, snapshot.documents)


def fuse_rankings(by_vectors: Sequence[Hit], by_words: Sequence[tuple[str, float]]) -> list[Hit]:
    """Order documents by what two rankings say together.

    Args:
        by_vectors: What was found by vectors, best first.
        by_words: Ids and BM25 of what was found by words, best first.

    Returns:
        All of them, by the sum of 1 / (60 + rank) over both.

    Source:
        Reciprocal rank fusion: Cormack, Clarke, Buettcher 2009.

    Example:
        >>> hits = fuse_rankings([Hit("a", 0.9), Hit("b", 0.8)], [("b", 7.1)])
        >>> [(hit.id, round(hit.score, 3)) for hit in hits]
        [('b', 0.033), ('a', 0.016)]
    """
    ranks = {id_: (rank, score) for rank, (id_, score) in enumerate(by_words, start=1)}
    known = {hit.id: (rank, hit) for rank, hit in enumerate(by_vectors, start=1)}
    fused = []
    for id_ in dict.fromkeys([*known, *ranks]):
        vector_rank, hit = known.get(id_, (None, Hit(id_, 0.0)))
        words_rank, words_score = ranks.get(id_, (None, None))
        details = hit.details._replace(vector_rank=vector_rank, words_rank=words_rank, words_score=words_score)
        score = sum(1 / (_FUSION + rank) for rank in (vector_rank, words_rank) if rank is not None)
        fused.append(hit._replace(score=score, score_kind="reciprocal rank fusion", details=details))
    return sorted(fused, key=lambda hit: -hit.score)


def merge_copies(hits: Iterable[Hit], contents: Mapping[str, object]) -> list[Hit]:
    """Keep the first of documents that are the same, with the ids of the others.

    Args:
        hits: Documents, best first.
        contents: What makes each id's document the same as another.

    Returns:
        Those that are kept, in the same order.
    """
    same: dict[object, list[Hit]] = {}
    for hit in hits:
        same.setdefault(contents.get(hit.id, (hit.id,)), []).append(hit)
    merged = []
    for first, *others in same.values():
        # Two rankings may have found the same copies.
        copies = dict.fromkeys([*first.copies, *(id_ for other in others for id_ in (other.id, *other.copies))])
        copies.pop(first.id, None)
        merged.append(first._replace(copies=tuple(copies)))
    return merged
