"""The cheapest search that finds enough: shortlist and lists, measured against the exact scan."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import SearchIndexError
from nestvec.progress import Progress, silent

if TYPE_CHECKING:
    from nestvec.index.index import Index
    from nestvec.index.two_stages import Candidates, SearchSettings

__all__ = ["FEWEST_TO_TUNE", "Trial", "Tuned", "check_recall", "tune"]

Float32s = NDArray[np.float32]

FEWEST_TO_TUNE = 11
"""Documents of which the best ten of a document are all others."""

_QUERIES = 400
_TIMED = 50
_LONGEST = 5_000  # documents of a shortlist that is tried
_GROWTH = 1.25
_EQUAL = 1e-5  # cosines that differ by less are equally good
_LOWER_BOUND = 1.645  # standard errors below the mean: 95 of 100 samples would not be lower


class Trial(NamedTuple):
    """A setting that was measured."""

    shortlist: int
    probes: int | None
    recall: float
    """Share of the exact best k that were found, mean over the queries."""
    low: float
    """Lower bound of that, at 95%."""
    median_ms: float
    """Of one query, on one thread."""


class Tuned(NamedTuple):
    """What tuning found, and set."""

    best: Trial
    reached: bool
    """Whether the lower bound of its recall is enough; otherwise it is the highest there is."""
    trials: list[Trial]
    """The shortest shortlist that is enough, for each number of lists."""


def tune(
    index: Index,
    *,
    recall: float = 0.99,
    k: int = 10,
    queries: Float32s | None = None,
    dim: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Tuned:
    """Find the fastest setting whose recall is high enough, and make it the one that the index is searched with.

    Exact is what a scan of all stored vectors finds; equal similarities count as equally right.

    Args:
        index: The index.
        recall: Share of the exact best k to find, above 0 and below 1; its lower bound is to be as high.
        k: Documents of a search.
        queries: Vectors of queries, [n, full_dim], as they will come; None draws documents, whose own place does not
            count, and asks half as many misses of them: real queries are harder.
        dim: Leading numbers to compare; None compares all.
        seed: Of the draw of queries.
        progress: How to report progress, in trials.

    Returns:
        What was found.

    Raises:
        SearchIndexError: `recall` is outside its range, nothing is reranked, or there are too few documents.
        IndexBusyError: Another process is changing the index.
    """
    check_recall(recall)
    settings = replace(index.search_settings, dim=dim, middle=None)
    if settings.shortlist is None:
        raise SearchIndexError("Nothing is reranked in this index: its plan scans only. There is nothing to tune.")
    own = queries is None
    # Documents are nearer to each other than queries are to them: they may miss half as many.
    enough = (1 + recall) / 2 if own else recall
    found = k + own
    if len(index) <= found:
        raise SearchIndexError(f"There are {len(index)} documents, too few to tune a search for {k}.")
    asked = index.draw(_QUERIES, seed) if queries is None else queries[:_QUERIES]
    if not len(asked):
        raise SearchIndexError("There are no queries to tune a search on.")
    exact = index.exact(asked, found, dim=dim)
    least = exact.scores[:, -1]
    longest = min(len(index) - 1, _LONGEST)  # a shortlist of all would be no shortlist
    lists = index.codes.lists
    ladder = [None] if lists is None else _steps(lists)
    trials: list[Trial] = []
    with progress("tuning", len(ladder)) as advance:
        for probes in ladder:
            tried = replace(settings, probes=probes, shortlist=longest, complete=False)
            ranks = _ranks(index.candidates(asked, longest, tried), least, found, own=own)
            shortlist = _shortest(ranks, k, enough)
            mean, low = _recall(ranks, shortlist)
            chosen = replace(tried, shortlist=shortlist, complete=True)
            trials.append(Trial(shortlist, probes, round(mean, 4), round(low, 4), _median_ms(index, asked, k, chosen)))
            advance(1)
    fit = [trial for trial in trials if trial.low >= enough]
    best = min(fit, key=lambda trial: trial.median_ms) if fit else max(trials, key=lambda trial: trial.low)
    measured = {
        "target": recall,
        "needed": enough,
        "k": k,
        "measured_on": "documents" if own else "queries",
        "documents": len(index),
        **best._asdict(),
    }
    index.set_search(replace(settings, shortlist=best.shortlist, probes=best.probes), measured)
    return Tuned(best, bool(fit), trials)


def check_recall(recall: float) -> None:
    """Raise SearchIndexError where a recall is nothing to tune for."""
    if not 0 < recall < 1:
        raise SearchIndexError(f"Recall is above 0 and below 1, not {recall}.")


def _steps(lists: int) -> list[int]:
    """How many lists to try, each half as many again as the one before at most."""
    doubled = [2**power for power in range(lists.bit_length())]
    return sorted(count for count in {*doubled, *(3 * count for count in doubled), lists} if count <= lists)


def _ranks(found: Candidates, least: Float32s, k: int, *, own: bool) -> NDArray[np.float64]:
    """Place in the shortlist of each of the exact best, infinite for those that are not in it, [n_queries, k]."""
    right = (found.rows >= 0) & (found.scores >= least[:, None] - _EQUAL)
    ranks = np.sort(np.where(right, found.shortlist_ranks, np.inf), axis=1)[:, :k]
    ranks = np.pad(ranks, [(0, 0), (0, k - ranks.shape[1])], constant_values=np.inf)
    # A document that is its own query is found first of all.
    return ranks[:, 1:] if own else ranks


def _recall(ranks: NDArray[np.float64], shortlist: int) -> tuple[float, float]:
    """Mean over the queries, and its lower bound."""
    shares = (ranks <= shortlist).mean(axis=1)
    # A query more that is missed altogether: where all are right, the spread says nothing of how sure that is.
    errors = np.append(shares, 0.0) if shares.std() == 0 else shares
    return float(shares.mean()), float(shares.mean() - _LOWER_BOUND * errors.std() / np.sqrt(len(errors)))


def _shortest(ranks: NDArray[np.float64], k: int, recall: float) -> int:
    """The shortest shortlist whose recall is surely enough; where none is, the shortest of the highest recall."""
    reached = ranks[np.isfinite(ranks)]
    longest = int(reached.max()) if len(reached) else k
    sizes, size = [], float(k)
    while size < longest:
        sizes.append(int(np.ceil(size)))
        size *= _GROWTH
    sizes.append(max(k, longest))
    return next((size for size in sizes if _recall(ranks, size)[1] >= recall), sizes[-1])


def _median_ms(index: Index, queries: Float32s, k: int, settings: SearchSettings) -> float:
    times = []
    for query in queries[:_TIMED]:
        started = time.perf_counter()
        index.candidates(query[None], k, settings)
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)) * 1000, 4)
