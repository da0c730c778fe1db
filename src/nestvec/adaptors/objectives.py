"""What a step of fitting an adaptor minimises, by the labels that there are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nestvec.adaptors.networks import TowersNetwork
from nestvec.adaptors.settings import ResolvedSettings
from nestvec.adaptors.training_data import AdaptorData, Split
from nestvec.exact_search import search_prefixes
from nestvec.losses import (
    FalseNegatives,
    mean_over_precisions,
    nested_cosent,
    nested_info_nce,
    nested_similarity_distillation,
)
from nestvec.vectors import unit_float32

__all__ = ["Objective", "make_objective", "mine_negatives"]

Rows = NDArray[np.int64]
_ROWS_AT_A_TIME = 16_384
_NEIGHBOURS = 10
_LEAST_FAITHFUL = 64  # dims
_MOST_DOCUMENTS = 30_000
_MOST_MINED, _MINED_DEPTH = 12_000, 20
_MOST_PRODUCTS = 1_000_000_000  # of queries and documents in a search for near ones: seconds


class Objective(ABC):
    """A loss of a network on some rows.

    Attributes:
        rows: What is trained on: rows of pairs, or of documents where there are none.
        least_batch: Rows in a step at least, where there are so many.
        least_steps: In an epoch; 0 leaves them to the batch.
    """

    rows: Rows
    least_batch: ClassVar[int] = 64
    least_steps: ClassVar[int] = 0

    @abstractmethod
    def __call__(self, network: TowersNetwork, batch: Rows, generator: np.random.Generator) -> Tensor:
        """Compute the loss.

        Args:
            network: Maps of both sides.
            batch: Some of the rows.
            generator: Where everything else that is drawn comes from.

        Returns:
            Scalar.
        """


def make_objective(
    data: AdaptorData, split: Split, dims: Sequence[int], settings: ResolvedSettings, *, labeled: bool = True
) -> Objective:
    """Choose the loss of a batch.

    Args:
        data: Vectors and labels.
        split: What is trained on.
        dims: Sizes that count.
        settings: How to fit.
        labeled: Use the labels there are.

    Returns:
        Nested InfoNCE for pairs, nested CoSENT for pairs with scores, and for vectors alone how far the similarities of
        every prefix are from those of the vectors as they were; both where `settings.distillation` mixes them.
    """
    if data.pairs is None or not labeled:
        return _Neighbourhoods(data, split, dims, settings)
    by_labels: Objective = _Paired(data, data.pairs, split.train, dims, settings)
    if data.scores is not None:
        by_labels = _Scored(data, data.pairs, data.scores, split.train, dims, settings)
    if not settings.distillation:
        return by_labels
    return _Both(by_labels, _Neighbourhoods(data, split, dims, settings), settings)


class _Both(Objective):
    """What labels say, and by weight what the vectors say."""

    def __init__(self, labeled: Objective, neighbourhoods: Objective, settings: ResolvedSettings) -> None:
        self.rows = labeled.rows
        self._labeled, self._neighbourhoods, self._weight = labeled, neighbourhoods, settings.distillation

    def __call__(self, network: TowersNetwork, batch: Rows, generator: np.random.Generator) -> Tensor:
        labeled = self._labeled(network, batch, generator)
        return labeled + self._weight * self._neighbourhoods(network, batch, generator)


class _Paired(Objective):
    """Nested InfoNCE; copies of a positive, and other documents of the same query, are no negatives.

    Of a document that answers several queries, one is remembered beside those of the batch.
    """

    def __init__(
        self, data: AdaptorData, pairs: Rows, trained: Rows, dims: Sequence[int], settings: ResolvedSettings
    ) -> None:
        self.rows = trained
        self._data, self._pairs, self._dims, self._settings = data, pairs, dims, settings
        self._answers = np.full(len(data.copies), -1)
        self._answers[data.document_copies[pairs[:, 1]]] = data.query_copies[pairs[:, 0]]
        self._mined_queries, self._mined = np.empty(0, np.int64), np.empty((0, 1), np.int64)
        if settings.mined_negatives:
            self._mined_queries, self._mined = mine_negatives(data, pairs, trained, settings.seed)

    def __call__(self, network: TowersNetwork, batch: Rows, generator: np.random.Generator) -> Tensor:
        pairs, settings = self._pairs[batch], self._settings
        query_rows = pairs[:, 0]
        columns = [pairs[:, 1:]]
        if settings.mined_negatives:
            near = self._mined[np.searchsorted(self._mined_queries, query_rows)]
            columns.append(near[:, generator.permutation(near.shape[1])[: settings.mined_negatives]])
        document_rows = np.hstack(columns).T.reshape(-1)  # positives first, then negatives
        queries, documents = _unit(self._data.queries, query_rows), _unit(self._data.documents, document_rows)
        mapped_queries, mapped_documents = network.query(queries), network.document(documents)
        document_ids = self._data.document_copies[document_rows]
        false_negatives = FalseNegatives(
            query_ids=torch.from_numpy(self._data.query_copies[query_rows]),
            document_ids=torch.from_numpy(document_ids),
            answers=torch.from_numpy(self._answers[document_ids]),
        )

        def rank(stored: Tensor, dims: Sequence[int], weights: Sequence[float]) -> Tensor:
            return nested_info_nce(
                mapped_queries,
                stored,
                dims=dims,
                weights=weights,
                temperature=settings.temperature,
                symmetric=settings.symmetric,
                false_negatives=false_negatives,
            )

        return mean_over_precisions(
            rank,
            mapped_documents,
            dims=self._dims,
            weights=settings.weights,
            precisions=settings.precisions,
            shortest_code=settings.shortest_code,
        )


class _Scored(Objective):
    """Nested CoSENT."""

    def __init__(
        self,
        data: AdaptorData,
        pairs: Rows,
        scores: NDArray[np.floating[Any]],
        trained: Rows,
        dims: Sequence[int],
        settings: ResolvedSettings,
    ) -> None:
        self.rows = trained
        self._data, self._pairs, self._dims, self._settings = data, pairs, dims, settings
        self._scores = np.asarray(scores, np.float32)

    def __call__(self, network: TowersNetwork, batch: Rows, generator: np.random.Generator) -> Tensor:
        left, right = self._pairs[batch].T
        return nested_cosent(
            network.query(_unit(self._data.queries, left)),
            network.document(_unit(self._data.documents, right)),
            torch.from_numpy(self._scores[batch]),
            dims=self._dims,
            weights=self._settings.weights,
            temperature=self._settings.temperature,
        )


class _Neighbourhoods(Objective):
    """Every prefix is to give the similarities of the vectors as they were, to near neighbours and to others."""

    least_batch, least_steps = 1024, 8  # more to compare with teaches more, and no row is an example that wears out

    def __init__(self, data: AdaptorData, split: Split, dims: Sequence[int], settings: ResolvedSettings) -> None:
        self._data = data
        self._loss_options: dict[str, Any] = {
            "dims": dims,
            "weights": settings.weights,
            "temperature": [settings.distillation_temperature * _spread(dim) for dim in dims],
            "teacher_temperature": settings.distillation_temperature,
        }
        generator = np.random.default_rng(settings.seed)
        queries, documents = data.unseen(split.held_out)
        self.rows = self._documents = _draw(documents, _MOST_DOCUMENTS, generator)
        self._queries = _draw(queries, _MOST_DOCUMENTS, generator)
        unit = _unit(data.documents, self._documents).numpy()
        near = _nearest(data.documents, self._documents, unit, _NEIGHBOURS + 1)
        self._near_documents = self._documents[near[:, 1:]]  # the first is itself, or a copy
        if len(self._queries):
            self._near_queries = self._documents[_nearest(data.queries, self._queries, unit, _NEIGHBOURS)]

    def __call__(self, network: TowersNetwork, batch: Rows, generator: np.random.Generator) -> Tensor:
        share = max(1, len(batch) // 3)
        places = generator.integers(0, len(self._documents), share)
        documents_drawn, near = [self._documents[places]], [(self._near_documents, places)]
        queries = None
        if len(self._queries):
            query_places = generator.integers(0, len(self._queries), share)
            near.append((self._near_queries, query_places))
            queries = _unit(self._data.queries, np.unique(self._queries[query_places]))
        documents_drawn += [table[place, generator.integers(0, table.shape[1], share)] for table, place in near]
        documents = _unit(self._data.documents, np.unique(np.concatenate(documents_drawn)))
        mapped = network.document(documents)
        among = nested_similarity_distillation(mapped, teacher_queries=documents, **self._loss_options)
        if queries is None:
            return among
        across = nested_similarity_distillation(
            network.query(queries), mapped, teacher_queries=queries, teacher_documents=documents, **self._loss_options
        )
        return (among + across) / 2


def _spread(dim: int) -> float:
    """How much further apart the similarities of so short a prefix lie: those of random vectors go by 1 / root of dim.

    Counted from where it starts to matter: below 64 dimensions a prefix cannot follow the full vector any more.
    """
    return math.sqrt(max(1.0, _LEAST_FAITHFUL / dim))


def mine_negatives(data: AdaptorData, pairs: Rows, trained: Rows, seed: int) -> tuple[Rows, Rows]:
    """Find documents near each query that are not known to belong to it.

    Args:
        data: Vectors and what is a copy of what.
        pairs: All pairs; what belongs together in any of them, copies included, is no negative.
        trained: Rows of the pairs to mine for, and to mine from.
        seed: Of the documents that are looked through, where there are very many.

    Returns:
        Queries, rising, and for each the rows of the nearest such documents, nearest first, [n_queries, depth].
    """
    generator = np.random.default_rng(seed)
    queries = np.unique(pairs[trained, 0])
    most = max(1_000, min(_MOST_MINED, _MOST_PRODUCTS // len(queries)))
    documents = _draw(np.unique(pairs[trained, 1]), most, generator)
    near = documents[
        _nearest(data.queries, queries, _unit(data.documents, documents).numpy(), min(2 * _MINED_DEPTH, len(documents)))
    ]
    n_ids = len(data.copies)  # ids are below it
    known = np.unique(data.query_copies[pairs[:, 0]] * n_ids + data.document_copies[pairs[:, 1]])
    belongs = np.isin(data.query_copies[queries][:, None] * n_ids + data.document_copies[near], known)
    order = np.argsort(belongs, axis=1, kind="stable")[:, :_MINED_DEPTH]  # what does not belong comes first
    mined, still = np.take_along_axis(near, order, axis=1), np.take_along_axis(belongs, order, axis=1)
    mined = np.where(still, mined[:, :1], mined)  # where hardly anything near is left, the nearest takes more places
    hopeless = still[:, 0]  # what belongs to the query is all that is near it
    mined[hopeless] = generator.choice(documents, (int(hopeless.sum()), mined.shape[1]))
    return queries, mined


def _draw(rows: Rows, limit: int, generator: np.random.Generator) -> Rows:
    return np.sort(generator.permutation(rows)[:limit])


def _nearest(vectors: NDArray[np.floating[Any]], rows: Rows, documents: NDArray[np.float32], depth: int) -> Rows:
    """Places of the nearest documents of each row, a block of rows at a time, [n_rows, depth]."""
    dim = documents.shape[1]
    found = [
        search_prefixes(_unit(vectors, part).numpy(), documents, dims=[dim], k=depth)[dim].indices
        for part in np.array_split(rows, max(1, len(rows) // _ROWS_AT_A_TIME))
    ]
    return np.concatenate(found)


def _unit(vectors: NDArray[np.floating[Any]], rows: Rows) -> Tensor:
    return torch.from_numpy(unit_float32(np.asarray(vectors[rows])))
