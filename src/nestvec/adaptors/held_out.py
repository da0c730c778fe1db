"""How good maps are, at every size, on data that they were not fitted on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.maps import Towers
from nestvec.adaptors.training_data import AdaptorData, Split
from nestvec.errors import AdaptorError
from nestvec.exact_search import search_prefixes
from nestvec.extras import require
from nestvec.vectors import normalize, truncate

__all__ = ["HeldOut", "make_held_out"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

_DEPTH = 10
_MOST_DOCUMENTS = 20_000
_MOST_UNLABELED = 1_000


class HeldOut(ABC):
    """A measure of towers on held-out data.

    Attributes:
        metric: What it is called.
    """

    metric: ClassVar[str]

    @abstractmethod
    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, float]:
        """Score towers.

        Args:
            towers: The maps.
            dims: Sizes to cut their vectors to.

        Returns:
            A score by dim; higher is better.
        """


def make_held_out(data: AdaptorData, split: Split, seed: int) -> HeldOut:
    """Choose what fits the labels there are.

    Args:
        data: Vectors and labels.
        split: Its rows that were held out.
        seed: Of which documents are searched, where there are very many.

    Returns:
        Mean reciprocal rank of the first relevant document for pairs, Spearman correlation for pairs with scores, and
        without labels the share of the ten nearest neighbours of the vectors as they were that are found again.
    """
    if data.pairs is not None and data.scores is not None:
        return _Correlation(data, data.pairs[split.held_out], data.scores[split.held_out])
    if data.pairs is not None:
        return _Ranks(data, data.pairs[split.held_out, :2], seed)
    return _Neighbours(data, split.held_out, seed)


class _Ranks(HeldOut):
    metric = f"MRR@{_DEPTH}"

    def __init__(self, data: AdaptorData, pairs: Rows, seed: int) -> None:
        relevant = np.unique(pairs[:, 1])
        documents = _sample_with(relevant, len(data.documents), seed)
        queries, query_places = np.unique(pairs[:, 0], return_inverse=True)
        self._queries = _unit(data.queries, queries)
        self._documents = _unit(data.documents, documents)
        places = np.searchsorted(documents, pairs[:, 1])
        self._pairs = np.unique(query_places.reshape(-1) * len(documents) + places)

    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, float]:
        queries, documents = towers.query.transform(self._queries), towers.document.transform(self._documents)
        scores = {}
        for dim, top in search_prefixes(queries, documents, dims=dims, k=_DEPTH).items():
            hits = np.isin(np.arange(len(queries))[:, None] * len(documents) + top.indices, self._pairs)
            ranks = hits.argmax(axis=1) + 1
            scores[dim] = float(np.where(hits.any(axis=1), 1 / ranks, 0.0).mean())
        return scores


class _Correlation(HeldOut):
    metric = "Spearman"

    def __init__(self, data: AdaptorData, pairs: Rows, scores: NDArray[np.floating[Any]]) -> None:
        self._left, self._right = _unit(data.queries, pairs[:, 0]), _unit(data.documents, pairs[:, 1])
        self._scores = scores
        if np.ptp(scores) == 0:
            raise AdaptorError(
                f"All {len(scores)} held-out scores are {scores[0]}: there is nothing to measure by. Give more pairs, "
                "or hold more out."
            )

    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, float]:
        stats = require("scipy.stats", extra="train")
        left, right = towers.query.transform(self._left), towers.document.transform(self._right)
        scores = {}
        for dim in dims:
            similarities = np.einsum("ij,ij->i", truncate(left, dim), truncate(right, dim))
            constant = np.ptp(similarities) == 0  # no order at all, as in one dimension
            scores[dim] = 0.0 if constant else float(stats.spearmanr(similarities, self._scores).statistic)
        return scores


class _Neighbours(HeldOut):
    metric = f"neighbours@{_DEPTH}"

    def __init__(self, data: AdaptorData, rows: Rows, seed: int) -> None:
        rows = rows[:_MOST_UNLABELED]
        documents = _sample_with(rows, len(data.documents), seed)
        self._documents = _unit(data.documents, documents)
        self._rows = np.searchsorted(documents, rows)
        found = self._nearest(self._documents, [data.dim])
        self._expected = found[data.dim]

    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, float]:
        found = self._nearest(towers.document.transform(self._documents), dims)
        n = len(self._documents)
        offsets = np.arange(len(self._rows))[:, None] * n
        expected = offsets + self._expected
        return {dim: float(np.isin(offsets + nearest, expected).mean()) for dim, nearest in found.items()}

    def _nearest(self, documents: Float32s, dims: Sequence[int]) -> dict[int, Rows]:
        """The nearest others of each held-out document, [n_rows, depth] by dim."""
        depth = min(_DEPTH, len(documents) - 1)
        nearest = {}
        for dim, top in search_prefixes(documents[self._rows], documents, dims=dims, k=depth + 1).items():
            own = top.indices == self._rows[:, None]
            own[~own.any(axis=1), -1] = True  # a copy stands in its place
            nearest[dim] = top.indices[~own].reshape(-1, depth)
        return nearest


def _sample_with(rows: Rows, count: int, seed: int) -> Rows:
    """Rising rows of a corpus to search: those given, and others up to a limit."""
    others = np.setdiff1d(np.arange(count), rows, assume_unique=True)
    wanted = max(0, _MOST_DOCUMENTS - len(rows))
    if len(others) > wanted:
        others = np.random.default_rng(seed).permutation(others)[:wanted]
    return np.union1d(rows, others)


def _unit(vectors: NDArray[np.floating[Any]], rows: Rows) -> Float32s:
    return normalize(np.asarray(vectors[rows], np.float32))
