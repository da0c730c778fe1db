"""What a step of fitting an adaptor minimises, by the labels that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nestvec.adaptors.networks import TowersNetwork
from nestvec.adaptors.settings import ResolvedSettings
from nestvec.adaptors.training_data import AdaptorData
from nestvec.exact_search import search_prefixes
from nestvec.losses import (
    FalseNegatives,
    mean_over_precisions,
    nested_cosent,
    nested_info_nce,
    nested_similarity_distillation,
)
from nestvec.vectors import normalize

__all__ = ["Objective", "make_objective"]

Rows = NDArray[np.int64]
Objective: TypeAlias = Callable[[TowersNetwork, Rows, np.random.Generator], Tensor]
"""Loss of a network on some rows of the data; what else it draws comes from the generator."""

_NEIGHBOURS = 10
_MINED, _MINED_DEPTH = 30_000, 20


def make_objective(data: AdaptorData, rows: Rows, dims: Sequence[int], settings: ResolvedSettings) -> Objective:
    """Choose the loss of a batch.

    Args:
        data: Vectors and labels.
        rows: What is trained on: rows of pairs, or of documents where there are none.
        dims: Sizes that count.
        settings: How to fit.

    Returns:
        Nested InfoNCE for pairs, nested CoSENT for pairs with scores, and for vectors alone how far the similarities of
        every prefix are from those of the vectors as they were; both where `settings.distillation` mixes them.
    """
    if data.pairs is None:
        return _Neighbourhoods(data, rows, dims, settings)
    labeled: Objective = _Paired(data, data.pairs, rows, dims, settings)
    if data.scores is not None:
        labeled = _Scored(data, data.pairs, data.scores, dims, settings)
    if not settings.distillation:
        return labeled
    held_out = np.setdiff1d(np.arange(len(data.pairs)), rows)
    free = np.setdiff1d(np.arange(len(data.documents)), data.pairs[held_out, 1])
    neighbourhoods = _Neighbourhoods(data, free, dims, settings)

    def both(network: TowersNetwork, batch: Rows, generator: np.random.Generator) -> Tensor:
        return labeled(network, batch, generator) + settings.distillation * neighbourhoods(network, batch, generator)

    return both


class _Paired:
    """Nested InfoNCE; copies of a positive, and other documents of the same query, are no negatives."""

    def __init__(
        self, data: AdaptorData, pairs: Rows, trained: Rows, dims: Sequence[int], settings: ResolvedSettings
    ) -> None:
        self._data, self._pairs, self._dims, self._settings = data, pairs, dims, settings
        self._mined_queries, self._mined = np.empty(0, np.int64), np.empty((0, 1), np.int64)
        if settings.mined_negatives:
            self._mined_queries, self._mined = _mine(data, pairs[trained], settings.seed)

    def __call__(self, network: TowersNetwork, rows: Rows, generator: np.random.Generator) -> Tensor:
        pairs, settings = self._pairs[rows], self._settings
        query_rows = pairs[:, 0]
        columns = [pairs[:, 1:]]
        if settings.mined_negatives:
            near = self._mined[np.searchsorted(self._mined_queries, query_rows)]
            columns.append(near[:, generator.permutation(near.shape[1])[: settings.mined_negatives]])
        document_rows = np.hstack(columns).T.reshape(-1)  # positives first, then negatives
        queries, documents = _unit(self._data.queries, query_rows), _unit(self._data.documents, document_rows)
        mapped_queries, mapped_documents = network.query(queries), network.document(documents)
        false_negatives = FalseNegatives(
            query_ids=torch.from_numpy(self._data.query_copies[query_rows]),
            document_ids=torch.from_numpy(self._data.document_copies[document_rows]),
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
            weights=settings.weights or (1.0,) * len(self._dims),
            precisions=settings.precisions,
            shortest_code=settings.shortest_code,
        )


class _Scored:
    """Nested CoSENT."""

    def __init__(
        self,
        data: AdaptorData,
        pairs: Rows,
        scores: NDArray[np.floating[Any]],
        dims: Sequence[int],
        settings: ResolvedSettings,
    ) -> None:
        self._data, self._pairs, self._dims, self._settings = data, pairs, dims, settings
        self._scores = np.asarray(scores, np.float32)

    def __call__(self, network: TowersNetwork, rows: Rows, generator: np.random.Generator) -> Tensor:
        left, right = self._pairs[rows].T
        return nested_cosent(
            network.query(_unit(self._data.queries, left)),
            network.document(_unit(self._data.documents, right)),
            torch.from_numpy(self._scores[rows]),
            dims=self._dims,
            weights=self._settings.weights,
            temperature=self._settings.temperature,
        )


class _Neighbourhoods:
    """Every prefix is to give the similarities of the vectors as they were, to near neighbours and to others."""

    def __init__(self, data: AdaptorData, documents: Rows, dims: Sequence[int], settings: ResolvedSettings) -> None:
        self._data, self._dims, self._settings = data, dims, settings
        generator = np.random.default_rng(settings.seed)
        self._documents = _draw(documents, _MINED, generator)
        self._queries = _draw(np.arange(len(data.queries)), _MINED, generator)
        unit = _unit(data.documents, self._documents).numpy()
        self._near_documents = self._documents[
            _nearest(unit, unit, _NEIGHBOURS + 1)[:, 1:]
        ]  # the first is itself, or a copy
        self._near_queries = self._documents[_nearest(_unit(data.queries, self._queries).numpy(), unit, _NEIGHBOURS)]

    def __call__(self, network: TowersNetwork, rows: Rows, generator: np.random.Generator) -> Tensor:
        settings = self._settings
        share = max(1, len(rows) // 3)
        places = generator.integers(0, len(self._documents), share)
        query_places = generator.integers(0, len(self._queries), share)
        near = [
            table[place, generator.integers(0, table.shape[1], share)]
            for table, place in ((self._near_documents, places), (self._near_queries, query_places))
        ]
        documents = _unit(self._data.documents, np.unique(np.concatenate([self._documents[places], *near])))
        queries = _unit(self._data.queries, np.unique(self._queries[query_places]))
        mapped = network.document(documents)
        options: dict[str, Any] = {
            "dims": self._dims,
            "weights": settings.weights,
            "temperature": settings.distillation_temperature,
        }
        among = nested_similarity_distillation(mapped, teacher_queries=documents, **options)
        across = nested_similarity_distillation(
            network.query(queries), mapped, teacher_queries=queries, teacher_documents=documents, **options
        )
        return (among + across) / 2


def _mine(data: AdaptorData, pairs: Rows, seed: int) -> tuple[Rows, Rows]:
    """Queries of pairs, rising, and for each the documents nearest to it; its own among them, which no loss counts."""
    queries = np.unique(pairs[:, 0])
    documents = _draw(np.unique(pairs[:, 1]), _MINED, np.random.default_rng(seed))
    near = _nearest(_unit(data.queries, queries).numpy(), _unit(data.documents, documents).numpy(), _MINED_DEPTH)
    return queries, documents[near]


def _draw(rows: Rows, limit: int, generator: np.random.Generator) -> Rows:
    return np.sort(generator.permutation(rows)[:limit])


def _nearest(queries: NDArray[np.float32], documents: NDArray[np.float32], depth: int) -> Rows:
    dim = documents.shape[1]
    return search_prefixes(queries, documents, dims=[dim], k=depth)[dim].indices


def _unit(vectors: NDArray[np.floating[Any]], rows: Rows) -> Tensor:
    return torch.from_numpy(normalize(np.asarray(vectors[rows], np.float32)))
