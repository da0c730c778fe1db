"""How much longer a search takes among more documents than were measured, by the index that would be built."""

from __future__ import annotations

import math

import numpy as np

from nestvec.evaluation import Cell
from nestvec.planning.costs import Corpus, lists_of

__all__ = ["FIXED_MS", "LISTS_SHARE", "times_longer"]

FIXED_MS = 0.09
"""Time of a search that does not grow with the corpus, of MiniLM vectors as pq32 with a recall of 99%: where the line
through the times at 58,000 and at a million documents meets zero (benchmarks/search.py)."""
LISTS_SHARE = {1_000_000: 0.41, 10_000_000: 0.12}
"""Time of a search in IVF lists as a share of that without, by documents (benchmarks/search.py, search_large.py)."""


def times_longer(cell: Cell, corpus: Corpus) -> float:
    """Return how many times longer a search takes among a whole corpus than among what was measured.

    A scan takes as much longer as there are more documents, beside what every search takes. Where an index would have
    IVF lists, as of product quantization beyond 800,000 documents, it takes the measured share of that.

    Args:
        cell: The cell; 1 where it was not timed.
        corpus: What will be stored.

    Returns:
        1 or more.
    """
    growth = max(1.0, corpus.size / corpus.measured)
    if cell.latency is None or growth == 1:
        return 1.0
    fixed = min(FIXED_MS, cell.latency.median_ms / 2) / cell.latency.median_ms
    longer = fixed + (1 - fixed) * growth
    if lists_of(cell, corpus) is not None:
        longer *= _lists_share(corpus.size)
    return max(1.0, longer)


def _lists_share(documents: int) -> float:
    """Time with IVF lists as a share of that without, between and beyond the measured numbers of documents."""
    sizes, shares = zip(*sorted(LISTS_SHARE.items()), strict=True)
    slope = math.log(shares[-1] / shares[0]) / math.log(sizes[-1] / sizes[0])
    return float(min(1.0, shares[0] * np.exp(slope * math.log(documents / sizes[0]))))
