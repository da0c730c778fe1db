"""How fast a cell is searched on this machine."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.index import SearchSettings, Stages, search_stages
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


def measure_latency(searched: Stages, queries: NDArray[np.float32], settings: SearchSettings) -> Latency:
    """Time the search for the best 10 documents, as an index does it, codes and vectors in memory.

    Queries are given one by one and as one batch, both as vectors: encoding a text is not part of it.

    Args:
        searched: What to search.
        queries: Unit vectors, [n, dim], float32, as the second stage compares them; the first 200 are asked.
        settings: How to search.

    Returns:
        Times among as many documents as there are.
    """
    k = min(_FOUND, len(searched.first))
    asked = queries[:_MOST]
    times = []
    with faiss_threads(1):
        for query in asked[:_WARM_UP]:
            search_stages([searched], query[None], k, settings)
        started = time.perf_counter()
        for query in asked:
            before = time.perf_counter()
            search_stages([searched], query[None], k, settings)
            times.append(time.perf_counter() - before)
            if len(times) >= _FEWEST and times[-1] + before - started > _SECONDS:
                break
    with one_thread_for_products():
        started = time.perf_counter()
        search_stages([searched], asked, k, settings)
        per_second = len(asked) / (time.perf_counter() - started)
    median, p95 = np.quantile(times, [0.5, 0.95]) * 1000
    return Latency(round(float(median), 4), round(float(p95), 4), round(per_second, 1))
