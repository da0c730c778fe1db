"""What searches return: candidates by row, hits by id, and what every stage said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nestvec.index.settings import SearchSettings

__all__ = ["Candidates", "Document", "Explanation", "Found", "Hit", "Hits", "ScoreKind", "StageDetails", "is_whole"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

ScoreKind: TypeAlias = Literal["cosine", "reciprocal rank fusion"]
"""What hits are ordered by."""


class Document(NamedTuple):
    """A stored document, without its vector."""

    id: str
    text: str | None = None
    metadata: Mapping[str, Any] | None = None


class StageDetails(NamedTuple):
    """What the stages of a search said of a document."""

    cosine: float | None = None
    """What the second stage says; None if only its words brought it here."""
    prefix_score: float | None = None
    """What the first stage says of the cosine; None where it was not asked."""
    shortlist_rank: int | None = None
    """Its place in the first stage's shortlist, from 1."""
    vector_rank: int | None = None
    """Its place by cosine, from 1."""
    words_rank: int | None = None
    """Its place by BM25, from 1; None where no word of the query is in it, or the search was not hybrid."""
    words_score: float | None = None
    """BM25, higher is better."""


class Hit(NamedTuple):
    """A document that was found."""

    id: str
    score: float
    score_kind: ScoreKind = "cosine"
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    details: StageDetails = StageDetails()
    copies: tuple[str, ...] = ()
    """Ids of documents with the same text or vector, which were found too and left out."""


@dataclass(frozen=True)
class Hits:
    """The best documents of every query, best first.

    Attributes:
        ids: [n_queries][up to k].
        scores: [n_queries, k], or as many as there are documents; nan beyond what is found.
        score_kind: What scores are: cosine similarity, from -1 to 1, or the sum of reciprocal ranks of a hybrid search.
    """

    ids: list[list[str]]
    scores: Float32s
    score_kind: ScoreKind = "cosine"
    _found: Callable[[], Sequence[Sequence[Hit]]] | None = None

    @cached_property
    def hits(self) -> list[list[Hit]]:
        """The same with texts and metadata, [n_queries][up to k]; read when they are first asked for.

        A document that was deleted or replaced since it was found has neither.
        """
        if self._found is not None:
            return [list(line) for line in self._found()]
        return [
            [Hit(id_, float(score), self.score_kind) for id_, score in zip(line, row, strict=False)]
            for line, row in zip(self.ids, self.scores, strict=True)
        ]


class Explanation(NamedTuple):
    """What one search found, and what each stage did."""

    hits: list[Hit]
    seconds: dict[str, float]
    """Time of each stage."""
    documents: int
    """How many were searched: those that the filter left."""
    settings: SearchSettings


class Found(NamedTuple):
    """What a search by one vector found, best first."""

    hits: list[Hit]
    seconds: Mapping[str, float]


class Candidates(NamedTuple):
    """What a search found for every query, best first; where there are fewer, the last places hold row -1."""

    places: Rows
    """Which of the parts that were searched each document is in, [n_queries, n]."""
    rows: Rows
    """Row in it, [n_queries, n]."""
    scores: Float32s
    """Cosine, or where nothing was reranked what the codes say of it, [n_queries, n]; -inf in places without."""
    prefix_scores: Float32s
    """What the first stage said; nan where it was not asked, [n_queries, n]."""
    shortlist_ranks: Rows
    """Place in the shortlist, from 1; 1 as well for what was not scored by a first stage, [n_queries, n]."""
    seconds: Mapping[str, float] = {}
    """Time of each stage, of all queries together."""

    @property
    def whole(self) -> bool:
        """Whether there is a document in every place."""
        return is_whole(self.rows)

    def kth_scores(self, k: int) -> Float32s:
        """Return what codes say of the k-th of every shortlist, [n_queries]; -inf where they say nothing of so many."""
        there = (self.shortlist_ranks == k) & (self.rows >= 0)
        scores: Float32s = np.fmax.reduce(np.where(there, self.prefix_scores, -np.inf), axis=1, initial=-np.inf)
        return scores


def is_whole(rows: Rows) -> bool:
    """Tell whether there is a row in every place of [n_queries, n], where -1 stands in the last ones of some."""
    if len(rows) == 1:  # a third of the time
        return bool(rows.size) and bool(rows[0, -1] >= 0)
    return bool(rows[:, -1:].min(initial=0) >= 0) and bool(rows.size)
