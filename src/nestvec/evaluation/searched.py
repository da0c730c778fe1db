"""Cells of tasks that search a corpus: measured, and timed, by the search that an index does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.evaluation.cell_keys import CellKey, Rerank, TaskVectors
from nestvec.evaluation.latency import Latency, measure_latency
from nestvec.evaluation.tasks import Retrieval, Scores
from nestvec.exact_search import TopK
from nestvec.index import (
    DEFAULT_SHORTLIST,
    CodeSettings,
    FirstStage,
    SearchSettings,
    Stages,
    Stored,
    StoredVectors,
    encode,
    search_stages,
)
from nestvec.progress import Progress, silent
from nestvec.quantization import ProductQuantizer, Quantizer, fit_quantizer
from nestvec.threads import one_thread_for_products
from nestvec.vectors import truncate

__all__ = ["SearchedCell", "measure_searches"]

Float32s = NDArray[np.float32]

_QUERIES_AT_A_TIME = 2_000  # whose shortlists are in memory


class SearchedCell(NamedTuple):
    """One cell, as it was searched."""

    key: CellKey
    scores: Scores
    latency: Latency | None


def measure_searches(
    task: Retrieval,
    vectors: TaskVectors,
    firsts: Sequence[tuple[int, str]],
    reranks: Sequence[Rerank | None],
    *,
    sample: Float32s,
    timed: bool = False,
    progress: Progress = silent,
) -> Iterator[SearchedCell]:
    """Search a task's corpus in every cell, as an index of the same plan does.

    Codes are scanned by faiss, and the shortlist is rescored with the stored vectors of the second stage; without one,
    with what the codes stand for.

    Args:
        task: What to search.
        vectors: Its texts as the model sees them.
        firsts: Dimensions and precision of each first stage.
        reranks: Second stages, None for none; each is measured behind every first stage.
        sample: What quantizers are fitted on, [n, full_dim], unit vectors of float32.
        timed: Measure how long a search takes too.
        progress: How to report progress, in cells.

    Yields:
        The cells, as they are measured.

    Raises:
        MissingExtraError: faiss is not installed.
    """
    half = fit_quantizer(sample, "float16")
    kept = StoredVectors(half, encode(half, vectors.documents))

    def blocks(precision: str) -> Iterable[Float32s]:
        """Documents as an index has them when it encodes them: as float16, until it can fit a quantizer to all."""
        return [vectors.documents] if precision in ("float32", "float16") else kept.blocks()

    seconds: dict[str, StoredVectors] = {"float16": kept}
    for stage in reranks:
        if stage is not None and stage.precision not in seconds:
            seconds[stage.precision] = _stored(fit_quantizer(sample, stage.precision), blocks(stage.precision))
    with progress("searching", len(firsts) * len(reranks)) as advance:
        for dim, precision in firsts:
            first = FirstStage.train(sample, CodeSettings(dim, precision))
            alone: Stages | None = None
            if None in reranks:  # what codes stand for is rescored, as where an index stores nothing else
                alone = _alone(first, (truncate(block, dim) for block in blocks(precision)))
            if any(reranks) and (alone is None or alone.first is not first):
                for block in blocks(precision):
                    first.add(block)
            for stage in reranks:
                if stage is None and alone is not None:
                    searched, queries = alone, truncate(vectors.queries, dim)
                elif stage is not None:
                    searched, queries = Stages(first, seconds[stage.precision]), vectors.queries
                settings = SearchSettings(DEFAULT_SHORTLIST if stage is None else stage.shortlist)
                found = _search(task, searched, queries, settings)
                latency = measure_latency(searched, queries, settings) if timed else None
                yield SearchedCell(CellKey(dim, precision, stage), task.score(task.without_own(found)), latency)
                advance(1)


def _search(task: Retrieval, searched: Stages, queries: Float32s, settings: SearchSettings) -> TopK:
    parts, k = [], task.search_depth
    with one_thread_for_products():
        for first in range(0, len(queries), _QUERIES_AT_A_TIME):
            found = search_stages([searched], queries[first : first + _QUERIES_AT_A_TIME], k, settings)
            missing = [(0, 0), (0, k - found.rows.shape[1])]
            rows = np.pad(found.rows, missing, constant_values=-1)
            parts.append(TopK(rows, np.pad(found.scores, missing, constant_values=-np.inf)))
    return TopK(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _alone(first: FirstStage, blocks: Iterable[Float32s]) -> Stages:
    """A search of codes that are all that is stored, of documents that are cut to what they encode."""
    quantizer = first.quantizer
    if isinstance(quantizer, ProductQuantizer):  # whose codes are other ones where longer vectors rescore them
        quantizer = quantizer.nearest()
        first = FirstStage.of(quantizer, first.settings)
    stored = _stored(quantizer, blocks)
    first.add_codes(stored.codes)
    return Stages(first, stored)


def _stored(quantizer: Quantizer, blocks: Iterable[Float32s]) -> StoredVectors:
    parts = zip(*(encode(quantizer, block) for block in blocks), strict=True)
    return StoredVectors(quantizer, Stored(*map(np.concatenate, parts)))
