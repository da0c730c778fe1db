"""How fast each cell is searched on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import NamedTuple

import numpy as np

from nestvec.evaluation.grid import CellKey, TaskVectors
from nestvec.index import (
    CodeSettings,
    FirstStage,
    SearchSettings,
    Stages,
    StoredVectors,
    encode,
    search_stages,
)
from nestvec.progress import Progress, silent
from nestvec.quantization import fit_quantizer
from nestvec.threads import faiss_threads, one_thread_for_products

__all__ = ["Latency", "measure_latency"]

_FOUND = 10  # documents that a search returns
_WARM_UP = 5
_FEWEST, _MOST = 20, 200  # queries that are timed
_SECONDS = 1.0  # after which no further query of a cell is timed


class Latency(NamedTuple):
    """How fast a cell is searched on the machine that measured it."""

    median_ms: float
    """Time of one query, alone, on one thread, in milliseconds."""
    p95_ms: float
    """Time that 95 of 100 such queries stay under, in milliseconds."""
    queries_per_second: float
    """Queries answered in a second when many are given at once, on all threads."""


def measure_latency(
    vectors: TaskVectors, keys: Iterable[CellKey], *, progress: Progress = silent
) -> dict[CellKey, Latency]:
    """Time the search for the best 10 documents in each cell, as an index does it, codes and vectors in memory.

    Queries are given one by one and as one batch, both from ready vectors: encoding a text is not part of it. Times
    are those of the corpus as it is; a scan of twice as many documents takes twice as long. The codes that are scanned
    are fitted to the cut vectors, and those of the second stage are in memory too.

    Args:
        vectors: Queries and documents of a task.
        keys: Cells to time.
        progress: How to report progress, in cells.

    Returns:
        Times by cell.

    Raises:
        MissingExtraError: faiss is not installed.
    """
    found = {}
    wanted = list(dict.fromkeys(keys))
    k = min(_FOUND, len(vectors.documents))
    seconds: dict[str | None, StoredVectors | None] = {None: None}
    with progress("timing", len(wanted)) as advance:
        for (dim, precision), cells in groupby(sorted(wanted, key=_first_stage), key=_first_stage):
            first = FirstStage.train(vectors.documents, CodeSettings(dim, precision))
            first.add(vectors.documents)
            for key in cells:
                stored_as = None if key.rerank is None else key.rerank.precision
                if stored_as is not None and stored_as not in seconds:
                    quantizer = fit_quantizer(vectors.documents, stored_as)
                    seconds[stored_as] = StoredVectors(quantizer, encode(quantizer, vectors.documents))
                settings = SearchSettings(None if key.rerank is None else key.rerank.shortlist)
                stages = [Stages(first, seconds[stored_as])]
                found[key] = _time(
                    lambda queries, stages=stages, settings=settings: search_stages(stages, queries, k, settings),
                    vectors,
                )
                advance(1)
    return {key: found[key] for key in wanted}


def _first_stage(key: CellKey) -> tuple[int, str]:
    return key.dim, key.precision


def _time(search: Callable[..., object], vectors: TaskVectors) -> Latency:
    queries = vectors.queries[:_MOST]
    times = []
    with faiss_threads(1):
        for query in queries[:_WARM_UP]:
            search(query[None])
        started = time.perf_counter()
        for query in queries:
            before = time.perf_counter()
            search(query[None])
            times.append(time.perf_counter() - before)
            if len(times) >= _FEWEST and times[-1] + before - started > _SECONDS:
                break
    with one_thread_for_products():
        started = time.perf_counter()
        search(queries)
        per_second = len(queries) / (time.perf_counter() - started)
    median, p95 = np.quantile(times, [0.5, 0.95]) * 1000
    return Latency(round(float(median), 4), round(float(p95), 4), round(per_second, 1))
