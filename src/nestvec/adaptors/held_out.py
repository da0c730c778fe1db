"""How good maps are, at every size, on data that they were not fitted on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.maps import Map, Towers
from nestvec.adaptors.training_data import AdaptorData, Split
from nestvec.errors import AdaptorError
from nestvec.exact_search import search_prefixes
from nestvec.extras import require
from nestvec.vectors import truncate, unit_float32

__all__ = ["HeldOut", "is_nested", "make_held_out"]

Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

_DEPTH = 10
_MOST_DOCUMENTS = 20_000
_MOST_UNLABELED = 1_000
_DOCUMENTS_TO_COMPARE, _ROWS_TO_COMPARE, _ORDERS_TO_COMPARE = 2_000, 1_000, 20
_NESTED = 3.0  # standard deviations


class HeldOut(ABC):
    """A measure of towers on held-out data.

    Attributes:
        metric: What it is called.
    """

    metric: ClassVar[str]
    groups: Rows | None = None
    """Which units belong together, such as queries with one answer, [n_units]; None where each is alone."""

    @abstractmethod
    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, Floats]:
        """Score towers.

        Args:
            towers: The maps.
            dims: Sizes to cut their vectors to.

        Returns:
            What each query, pair or document says, [n_units], by dim; the mean is the score, higher is better.
        """


def make_held_out(data: AdaptorData, split: Split, seed: int) -> HeldOut:
    """Choose what fits the labels there are.

    Args:
        data: Vectors and labels.
        split: Its rows that were held out.
        seed: Of which documents are searched, where there are very many.

    Returns:
        Mean reciprocal rank of the first relevant document for pairs; Spearman correlation for pairs with scores; and
        without labels that of the document which was nearest, by the vectors as they were.
    """
    if data.pairs is not None and data.scores is not None:
        return _Correlation(data, data.pairs[split.held_out], data.scores[split.held_out])
    if data.pairs is not None:
        return _Ranks(data, data.pairs, split, seed)
    return _Nearest(data, split.held_out, seed)


def is_nested(documents: NDArray[np.floating[Any]], dims: Sequence[int], *, seed: int = 0) -> bool:
    """Tell whether leading dimensions matter more than the others, as in vectors that were trained or rotated for it.

    Args:
        documents: [n, dim], floating point, none of them zero; 2,000 of them are drawn.
        dims: Sizes to cut them to.
        seed: Of every draw.

    Returns:
        Whether the leading dimensions rank the nearest neighbour of a document higher than as many dimensions drawn at
        random do: the mean over the sizes lies three standard deviations of those draws above theirs. False where all
        documents have the same vector.
    """
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.permutation(len(documents))[:_DOCUMENTS_TO_COMPARE])
    data = AdaptorData(documents[:0], documents[drawn])
    short = [dim for dim in dims if dim < data.dim]
    if not short or len(np.unique(data.document_copies)) < 2:
        return False
    measure = _Nearest(data, np.sort(generator.permutation(len(drawn))[:_ROWS_TO_COMPARE]), seed)
    identity = np.eye(data.dim, dtype=np.float32)

    def mean_rank(order: Rows) -> float:
        one = Map(identity[:, order])
        return float(np.mean(list(measure.measure(Towers(one, one), short).values())))

    others = [mean_rank(generator.permutation(data.dim)) for _ in range(_ORDERS_TO_COMPARE)]
    above = mean_rank(np.arange(data.dim)) - float(np.mean(others))
    return above > _NESTED * float(np.std(others, ddof=1))


class _Ranks(HeldOut):
    """Search for the documents of held-out queries: each document once, and all that is known to answer counts."""

    metric = f"MRR@{_DEPTH}"

    def __init__(self, data: AdaptorData, pairs: Rows, split: Split, seed: int) -> None:
        held_out = pairs[split.held_out]
        query_kinds, first_queries = np.unique(data.query_copies[held_out[:, 0]], return_index=True)
        self.groups = data.document_copies[held_out[first_queries, 1]]
        self._queries = _unit(data.queries, held_out[first_queries, 0])
        answers = pairs[np.isin(data.query_copies[pairs[:, 0]], query_kinds), :2]
        answer_kinds = data.document_copies[answers[:, 1]]
        kinds, rows = np.unique(data.document_copies, return_index=True)  # each document once
        documents = _sample_with(rows[np.searchsorted(kinds, np.unique(answer_kinds))], rows, seed)
        self._documents = _unit(data.documents, documents)
        order = np.argsort(data.document_copies[documents])
        places = order[np.searchsorted(data.document_copies[documents], answer_kinds, sorter=order)]
        asked = np.searchsorted(query_kinds, data.query_copies[answers[:, 0]])
        self._answers = np.unique(asked * len(documents) + places)

    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, Floats]:
        queries, documents = towers.query.transform(self._queries), towers.document.transform(self._documents)
        values = {}
        for dim, top in search_prefixes(queries, documents, dims=dims, k=_DEPTH).items():
            hits = np.isin(np.arange(len(queries))[:, None] * len(documents) + top.indices, self._answers)
            values[dim] = _reciprocal_ranks(hits)
        return values


class _Correlation(HeldOut):
    metric = "Spearman"

    def __init__(self, data: AdaptorData, pairs: Rows, scores: NDArray[np.floating[Any]]) -> None:
        self._left, self._right = _unit(data.queries, pairs[:, 0]), _unit(data.documents, pairs[:, 1])
        self._ranks = _standard_ranks(scores)
        if np.ptp(scores) == 0:
            raise AdaptorError(
                f"All {len(scores)} held-out scores are {scores[0]}: there is nothing to measure by. Give more pairs, "
                "or hold more out."
            )

    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, Floats]:
        left, right = towers.query.transform(self._left), towers.document.transform(self._right)
        values = {}
        for dim in dims:
            similarities = np.einsum("ij,ij->i", truncate(left, dim), truncate(right, dim))
            # The correlation of ranks is the mean of the products of standard ranks; no order at all counts as none.
            values[dim] = _standard_ranks(similarities) * self._ranks
        return values


class _Nearest(HeldOut):
    """Search for what was nearest to each document, by the vectors as they were.

    The share of the ten nearest that are found again would not do: principal components find as many as a trained map,
    and rank the nearest one, whose place decides what is retrieved, far lower.
    """

    metric = f"MRR@{_DEPTH} of the nearest neighbour"

    def __init__(self, data: AdaptorData, rows: Rows, seed: int) -> None:
        kinds, firsts = np.unique(data.document_copies, return_index=True)  # each document once
        if len(kinds) < 2:
            raise AdaptorError(f"All {len(data.documents)} documents have the same vector: none is nearer than others.")
        own = firsts[np.searchsorted(kinds, np.unique(data.document_copies[rows])[:_MOST_UNLABELED])]
        documents = _sample_with(own, firsts, seed)
        self._documents = _unit(data.documents, documents)
        self._rows = np.searchsorted(documents, np.sort(own))
        self._nearest = self._others(self._documents, [data.dim])[data.dim][:, :1]

    def measure(self, towers: Towers, dims: Sequence[int]) -> dict[int, Floats]:
        found = self._others(towers.document.transform(self._documents), dims)
        return {dim: _reciprocal_ranks(others == self._nearest) for dim, others in found.items()}

    def _others(self, documents: Float32s, dims: Sequence[int]) -> dict[int, Rows]:
        """The nearest others of each held-out document, [n_rows, depth] by dim."""
        depth = min(_DEPTH, len(documents) - 1)
        nearest = {}
        for dim, top in search_prefixes(documents[self._rows], documents, dims=dims, k=depth + 1).items():
            own = top.indices == self._rows[:, None]
            own[~own.any(axis=1), -1] = True  # it is not among the nearest of a short prefix
            nearest[dim] = top.indices[~own].reshape(-1, depth)
        return nearest


def _reciprocal_ranks(hits: NDArray[np.bool_]) -> Floats:
    """1 / the rank of the first hit of each row, 0 where there is none, [n_rows]."""
    return np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)


def _standard_ranks(values: NDArray[np.floating[Any]]) -> Floats:
    """Ranks with mean 0 and variance 1, [n]; zeros where all values are equal."""
    ranks = require("scipy.stats", extra="train").rankdata(values)
    centered: Floats = ranks - ranks.mean()
    spread = float(np.sqrt((centered**2).mean()))
    return centered / spread if spread > 0 else centered


def _sample_with(rows: Rows, all_rows: Rows, seed: int) -> Rows:
    """Rising rows of a corpus to search: those given, and others up to a limit."""
    others = np.setdiff1d(all_rows, rows)
    wanted = max(0, _MOST_DOCUMENTS - len(rows))
    if len(others) > wanted:
        others = np.random.default_rng(seed).permutation(others)[:wanted]
    return np.union1d(rows, others)


def _unit(vectors: NDArray[np.floating[Any]], rows: Rows) -> Float32s:
    return unit_float32(vectors[rows])
