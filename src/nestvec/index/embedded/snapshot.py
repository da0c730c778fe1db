"""One state of an embedded index, seen through a filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.index.embedded.state import Mask, State
from nestvec.index.embedded.view import View
from nestvec.index.filters import Condition
from nestvec.index.results import Candidates, Document, Found, Hit, StageDetails
from nestvec.index.settings import SearchSettings

__all__ = ["EmbeddedSnapshot", "describe_hits"]


class EmbeddedSnapshot:
    """The vectors of one commit, and its documents in a transaction that others are not kept waiting by."""

    def __init__(
        self, state: State, view: View, condition: Condition | None, masks: Sequence[Mask | None] | None
    ) -> None:
        """Put them together.

        Args:
            state: The vectors.
            view: The documents of the same commit.
            condition: The filter; None for none.
            masks: The rows of every segment that it leaves.
        """
        self._state = state
        self._view = view
        self._condition = condition
        self._masks = masks

    @property
    def documents(self) -> int:
        """How many the filter leaves."""
        return self._state.searched(self._masks)[1]

    def nearest(self, query: NDArray[Any], k: int, settings: SearchSettings) -> Found:
        """Find the documents nearest to one vector; see `State.candidates`."""
        found = self._state.candidates(query, k, settings, self._masks)
        return Found(describe_hits(found, self._state.ids(found)[0]), found.seconds)

    def best_by_words(self, text: str, k: int) -> list[tuple[str, float]]:
        """Return ids and BM25 of documents that share words with a text, best first."""
        return self._view.best_by_words(text, k, self._condition)

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """Return documents with their texts and metadata, by id; those that there are."""
        return self._view.get(ids)

    def contents(self, ids: Sequence[str]) -> dict[str, object]:
        """Return what makes each document the same as another: its text, or without one its stored vector."""
        found: dict[str, object] = {id_: one.text for id_, one in self._view.get(ids).items()}
        bare = [id_ for id_, text in found.items() if not text]
        for id_, number in self._view.find(bare).items():
            found[id_] = self._state.codes_of(number)
        return found


def describe_hits(found: Candidates, ids: Sequence[str], query: int = 0) -> list[Hit]:
    """Return what a search said of each document that it found for a query, best first."""
    scores, prefixes, ranks = found.scores[query], found.prefix_scores[query], found.shortlist_ranks[query]
    described = []
    for place, id_ in enumerate(ids):
        cosine = float(np.clip(scores[place], -1, 1))
        prefix = float(np.clip(prefixes[place], -1, 1))
        asked = not np.isnan(prefix)
        details = StageDetails(
            cosine=cosine,
            prefix_score=prefix if asked else None,
            shortlist_rank=int(ranks[place]) if asked else None,
            vector_rank=place + 1,
        )
        described.append(Hit(id_, cosine, details=details))
    return described
