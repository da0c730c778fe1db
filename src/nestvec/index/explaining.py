"""Why a document was found: what every stage said of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nestvec.index.search_settings import SearchSettings
from nestvec.index.two_stages import Candidates

__all__ = ["Explanation", "HitDetails", "describe_hits", "fuse_words", "merge_copies"]

_FUSION = 60  # added to ranks in reciprocal rank fusion


class HitDetails(NamedTuple):
    """A document that was found, and why it stands where it does."""

    id: str
    score: float
    """What it is ordered by: its cosine, or in a search by words as well, what its two ranks add up to."""
    cosine: float | None
    """What the second stage says, or the codes where there is none; None if only its words brought it here."""
    prefix_score: float | None
    """What the first stage says of the cosine; None where it was not asked."""
    shortlist_rank: int | None
    """Its place in the first stage's shortlist, from 1."""
    vector_rank: int | None
    """Its place by cosine, from 1."""
    words_rank: int | None
    """Its place by BM25, from 1; None where no word of the query is in it, or words were not asked."""
    words_score: float | None
    """BM25, higher is better."""
    copies: tuple[str, ...] = ()
    """Ids of documents with the same text or vector, which were found too and left out."""


class Explanation(NamedTuple):
    """What a search found, and what each stage did."""

    hits: list[HitDetails]
    seconds: dict[str, float]
    """Time of each stage."""
    documents: int
    """How many were searched: those that the filter left."""
    settings: SearchSettings


def describe_hits(found: Candidates, ids: Sequence[str]) -> list[HitDetails]:
    """Return what a search said of each document that it found for its one query, best first."""
    described = []
    for place, id_ in enumerate(ids):
        cosine, prefix = (float(np.clip(one[0, place], -1, 1)) for one in (found.scores, found.prefix_scores))
        asked = not math.isnan(prefix)
        rank = int(found.shortlist_ranks[0, place])
        described.append(
            HitDetails(
                id=id_,
                score=cosine,
                cosine=cosine,
                prefix_score=prefix if asked else None,
                shortlist_rank=rank if asked else None,
                vector_rank=place + 1,
                words_rank=None,
                words_score=None,
            )
        )
    return described


def fuse_words(by_vectors: Sequence[HitDetails], by_words: Sequence[tuple[str, float]]) -> list[HitDetails]:
    """Order documents by what two rankings say together.

    Args:
        by_vectors: What was found by vectors, best first.
        by_words: Ids and BM25 of what was found by words, best first.

    Returns:
        All of them, by the sum of 1 / (60 + rank) over both.

    Source:
        Reciprocal rank fusion: Cormack, Clarke, Buettcher 2009.
    """
    hits = {hit.id: hit for hit in by_vectors}
    for place, (id_, score) in enumerate(by_words, start=1):
        known = hits.get(id_, HitDetails(id_, 0.0, None, None, None, None, None, None))
        hits[id_] = known._replace(words_rank=place, words_score=score)
    fused = [hit._replace(score=_fused(hit)) for hit in hits.values()]
    return sorted(fused, key=lambda hit: -hit.score)


def merge_copies(hits: Iterable[HitDetails], contents: Mapping[str, object]) -> list[HitDetails]:
    """Keep the first of documents that are the same, with the ids of the others.

    Args:
        hits: Documents, best first.
        contents: What makes each id's document the same as another.

    Returns:
        Those that are kept, in the same order.
    """
    same: dict[object, list[HitDetails]] = {}
    for hit in hits:
        # What was deleted since it was found has no content any more.
        same.setdefault(contents.get(hit.id, (hit.id,)), []).append(hit)
    return [first._replace(copies=tuple(other.id for other in others)) for first, *others in same.values()]


def _fused(hit: HitDetails) -> float:
    return sum(1 / (_FUSION + rank) for rank in (hit.vector_rank, hit.words_rank) if rank is not None)
