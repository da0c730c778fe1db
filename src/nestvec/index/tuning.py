"""The fastest search that finds enough: shortlist and lists, measured against the exact scan."""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import SearchIndexError
from nestvec.index.protocol import Tunable
from nestvec.index.results import Candidates
from nestvec.index.settings import SearchSettings
from nestvec.progress import Progress, silent
from nestvec.vectors import normalize

__all__ = ["FEWEST_TO_TUNE", "Trial", "Tuned", "check_recall", "tune"]

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Rows = NDArray[np.int64]
Found: TypeAlias = tuple[Candidates, NDArray[np.bool_]]

FEWEST_TO_TUNE = 11
"""Documents of which the best ten of a document are all others."""

_QUERIES = 400
_QUERIES_GIVEN = 1000  # at most
_BETWEEN = 3  # documents: as near to the nearest ones as queries of the benchmarks are
_TIMED = 50
_QUERIES_AT_A_TIME = 100  # whose candidates are in memory
_LONGEST = 5_000  # documents of a shortlist that is tried
_GROWTH = 1.25
_LONGER = (1, 1.5, 2, 3, 4)  # times as long as without a margin: what a shortlist may be that has one
_HARDLY_LONGER = 1.03  # than another setting: what one run on a busy machine does not tell
_EQUAL = 1e-5  # cosines that differ by less are equally good
_EQUALLY_NEAR = 64  # documents beyond the best k that are looked at
_LOWER_BOUND = 1.645  # standard errors below the mean: 95 of 100 samples would not be lower


class Trial(NamedTuple):
    """A setting that was measured; see `SearchSettings`."""

    shortlist: int
    margin: float | None
    probes: int | None
    """Lists that were scanned for a query, on average; None where all are."""
    probe_ratio: float | None
    recall: float
    """Share of the exact best k that were found, mean over the queries."""
    low: float
    """Lower bound of that, at 95%."""
    mean_ms: float
    """Of one query, on one thread."""


class Tuned(NamedTuple):
    """What tuning found."""

    best: Trial
    reached: bool
    """Whether the lower bound of its recall is enough; otherwise it is the highest there is."""
    trials: list[Trial]
    """The fastest that is enough, for each number of lists."""
    settings: SearchSettings
    """How to search."""
    measured: dict[str, Any]
    """What that was measured to do, and on what: JSON values."""


def tune(
    index: Tunable,
    *,
    recall: float = 0.99,
    k: int = 10,
    queries: Float32s | None = None,
    dim: int | None = None,
    shortlist: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Tuned:
    """Find the fastest setting whose recall is high enough.

    Exact is what a scan of all stored vectors finds, or, with a shortlist that is given, what a search finds that scans
    all codes and rescores the whole shortlist; equal similarities count as equally right.

    Args:
        index: One state of an index.
        recall: Share of the exact best k to find, above 0 and below 1; its lower bound is to be as high.
        k: Documents of a search.
        queries: Vectors of queries, [n, full_dim], as they will come; the first 1,000 are asked. None draws documents,
            whose own place does not count, or what lies between three of them where there are lists, and allows a third
            of the misses: real queries are harder.
        dim: Leading dimensions to compare; None compares all.
        shortlist: Keep this one, as a plan does, and find lists and a margin; None finds the shortlist as well.
        seed: Of the draw of queries.
        progress: How to report progress, in trials.

    Returns:
        What was found.

    Raises:
        SearchIndexError: `recall` is outside its range, nothing is reranked, or there are too few documents.
    """
    check_recall(recall)
    settings = replace(index.search, dim=dim, middle=None)
    if settings.shortlist is None:
        raise SearchIndexError("Nothing is reranked in this index: its plan scans only. There is nothing to tune.")
    lists = index.lists
    # Documents are nearer to each other than queries are to them: they may miss a third as many. Where there are lists
    # what lies between several documents stands in for queries, which have neighbours in more lists than documents do.
    enough = recall if queries is not None else 1 - (1 - recall) / 3
    own = queries is None and lists is None
    if len(index) <= k + own:
        raise SearchIndexError(f"There are {len(index)} documents, too few to tune a search for {k}.")
    if queries is not None:
        asked = queries[:_QUERIES_GIVEN]
    elif own:
        asked = index.draw(_QUERIES, seed)
    else:
        drawn = np.random.default_rng(seed).permutation(index.draw(_BETWEEN * _QUERIES, seed))
        count = len(drawn) // _BETWEEN
        asked = normalize(drawn[: _BETWEEN * count].reshape(_BETWEEN, count, drawn.shape[1]).sum(axis=0))
    if queries is None:
        asked = asked[asked.any(axis=1)]  # of some vectors the leading dimensions that are stored may be zero
    if not len(asked):
        raise SearchIndexError("There are no queries to tune a search on.")
    # One of all would be no shortlist.
    longest = min(len(index) - 1, _LONGEST if shortlist is None else max(k + own, shortlist))
    right = _Right.of(index, asked, k + own, settings, shortlist)
    ladder = [None] if lists is None else [*_steps(lists)[:-1], None]
    trials: list[Trial] = []
    with progress("tuning", len(ladder)) as advance:
        for probes in ladder:
            ratio = None if probes is None else round(index.probe_ratio(asked, probes, dim=dim), 4)
            scanned = replace(settings, margin=None, probes=None, probe_ratio=ratio)
            codes_alone = replace(scanned, complete=False)
            near = _Neighbours.of(index, asked, right, longest, k, codes_alone, own=own)
            tried = []
            shortest = near.shortest(enough, longest) if shortlist is None else near.margins(enough, [longest])
            for length, margin in shortest:
                whole = shortlist is not None and margin is None and probes is None  # what recall is measured by
                mean, low = (1.0, 1.0) if whole else near.recall(length, margin)
                spent = _mean_ms(index, asked, k, replace(scanned, shortlist=length, margin=margin))
                tried.append(Trial(length, margin, probes, ratio, round(mean, 4), round(low, 4), spent))
            trials.append(_fastest(tried))
            advance(1)
    fit = [trial for trial in trials if trial.low >= enough]
    best = _fastest(fit) if fit else max(trials, key=lambda trial: trial.low)
    measured = {
        "target": recall,
        "needed": enough,
        "k": k,
        "measured_on": "documents" if queries is None else "queries",
        "documents": len(index),
        **best._asdict(),
    }
    kept = best.shortlist if shortlist is None else shortlist  # also where there are fewer documents yet
    chosen = replace(settings, shortlist=kept, margin=best.margin, probes=None, probe_ratio=best.probe_ratio)
    return Tuned(best, bool(fit), trials, chosen, measured)


class _Right(NamedTuple):
    """What counts as right for every query: documents that are as near as the least near of the best."""

    least: Float32s
    """Similarity of that one, [n_queries]."""
    keys: list[Rows] | None
    """Which these are, for each query, as `_keys` has them; None where that takes a look at their similarity."""

    @staticmethod
    def of(index: Tunable, queries: Float32s, k: int, settings: SearchSettings, shortlist: int | None) -> _Right:
        """Find the best k by the exact scan, or by the whole shortlist where one is given."""
        if shortlist is not None:
            whole = replace(settings, shortlist=shortlist, margin=None, probes=None, probe_ratio=None)
            parts = [index.candidates(queries[some], k, whole).scores[:, -1] for some in _slices(len(queries))]
            return _Right(np.concatenate(parts), None)
        known = min(k + _EQUALLY_NEAR, len(index))
        found = index.exact(queries, known, settings.dim)
        least = found.scores[:, k - 1]
        near = found.scores >= least[:, None] - _EQUAL
        if known < len(index) and near[:, -1].any():  # and there may be more
            return _Right(least, None)
        return _Right(least, [keys[some] for keys, some in zip(_keys(found), near, strict=True)])

    def search(self, index: Tunable, queries: Float32s, some: slice, shortlist: int, settings: SearchSettings) -> Found:
        """Search for some of the queries; return their shortlists, and which of these is right, [n_queries, n]."""
        if self.keys is None:
            found = index.candidates(queries[some], shortlist, replace(settings, shortlist=shortlist))
            return found, (found.rows >= 0) & (found.scores >= self.least[some, None] - _EQUAL)
        # Which are right is known: nothing is rescored.
        found = index.candidates(queries[some], shortlist, replace(settings, shortlist=None))
        right = [np.isin(keys, known) for keys, known in zip(_keys(found), self.keys[some], strict=True)]
        return found, np.stack(right)


def _keys(found: Candidates) -> Rows:
    """One number for every document that was found, -1 in places without, [n_queries, n]."""
    keys: Rows = (found.places.astype(np.int64) << 40) | found.rows
    return keys


def _slices(count: int) -> list[slice]:
    return [slice(first, first + _QUERIES_AT_A_TIME) for first in range(0, count, _QUERIES_AT_A_TIME)]


def _fastest(trials: Sequence[Trial]) -> Trial:
    """The fastest, or of those that take hardly longer, the one with the fewest settings and the shortest shortlist."""
    least = min(trial.mean_ms for trial in trials)
    near = [trial for trial in trials if trial.mean_ms <= _HARDLY_LONGER * least]
    return min(near, key=lambda one: (-(one.margin, one.probe_ratio).count(None), one.shortlist, one.mean_ms))


def check_recall(recall: float) -> None:
    """Raise SearchIndexError where a recall is nothing to tune for."""
    if not 0 < recall < 1:
        raise SearchIndexError(f"Recall is above 0 and below 1, not {recall}.")


def _steps(lists: int) -> list[int]:
    """How many lists to try, each half as many again as the one before at most."""
    doubled = [2**power for power in range(lists.bit_length())]
    return sorted(count for count in {*doubled, *(3 * count for count in doubled), lists} if count <= lists)


class _Neighbours(NamedTuple):
    """Where the first stage sees the exact best k of every query."""

    ranks: Float64s
    """In the shortlist, infinite for those that are not in it, [n_queries, k]."""
    gaps: Float64s
    """What their codes say, below what those of the k-th in the shortlist do, [n_queries, k]."""

    @staticmethod
    def of(
        index: Tunable,
        queries: Float32s,
        right: _Right,
        shortlist: int,
        k: int,
        settings: SearchSettings,
        *,
        own: bool,
    ) -> _Neighbours:
        """Look for them in shortlists."""
        parts = [
            _Neighbours._among(*right.search(index, queries, some, shortlist, settings), k, own=own)
            for some in _slices(len(queries))
        ]
        return _Neighbours(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    @staticmethod
    def _among(found: Candidates, right: NDArray[np.bool_], k: int, *, own: bool) -> _Neighbours:
        with np.errstate(invalid="ignore"):  # where lists hold fewer than k, both are minus infinity
            gaps = np.where(right, found.kth_scores(k + own)[:, None] - found.prefix_scores, np.inf)
        ranks = np.where(right, found.shortlist_ranks, np.inf)
        order = np.argsort(ranks, axis=1, kind="stable")[:, own : k + own]  # one that is its own query is the first
        missing = [(0, 0), (0, k - order.shape[1])]
        return _Neighbours(
            *(np.pad(np.take_along_axis(one, order, axis=1), missing, constant_values=np.inf) for one in (ranks, gaps))
        )

    def recall(self, shortlist: float, margin: float | None = None) -> tuple[float, float]:
        """Mean over the queries, and its lower bound."""
        shares = ((self.ranks <= shortlist) & (self.gaps <= (np.inf if margin is None else margin))).mean(axis=1)
        # A query more that is missed altogether: where all are right, the spread says nothing of how sure that is.
        errors = np.append(shares, 0.0) if shares.std() == 0 else shares
        return float(shares.mean()), float(shares.mean() - _LOWER_BOUND * errors.std() / np.sqrt(len(errors)))

    def shortest(self, recall: float, longest: int) -> list[tuple[int, float | None]]:
        """The shortest shortlist whose recall is surely enough, and longer ones with the least margin that is.

        Where none is enough, the shortest of the highest recall.
        """
        k, reached = self.ranks.shape[1], self.ranks[np.isfinite(self.ranks)]
        last = int(reached.max()) if len(reached) else k
        sizes, size = [], float(k)
        while size < last:
            sizes.append(int(np.ceil(size)))
            size *= _GROWTH
        sizes.append(max(k, last))
        shortest = next((size for size in sizes if self.recall(size)[1] >= recall), sizes[-1])
        longer = sorted({min(math.ceil(times * shortest), longest) for times in _LONGER})
        return [(shortest, None), *(one for one in self.margins(recall, longer) if one[1] is not None)]

    def margins(self, recall: float, shortlists: Sequence[int]) -> list[tuple[int, float | None]]:
        """The longest shortlist whole, and each with the least margin whose recall is surely enough."""
        found: list[tuple[int, float | None]] = [(max(shortlists), None)]
        for shortlist in shortlists:
            gaps = np.unique(np.maximum(self.gaps[self.ranks <= shortlist], 0))
            least = bisect.bisect_left(gaps, recall, key=lambda gap: self.recall(shortlist, gap)[1])
            if least < len(gaps):
                found.append((shortlist, math.ceil(gaps[least] * 10_000) / 10_000))
        return found


def _mean_ms(index: Tunable, queries: Float32s, k: int, settings: SearchSettings) -> float:
    """Of the faster of two tries of each query."""
    times = []
    for query in queries[:_TIMED]:
        tries = []
        for _ in range(2):
            started = time.perf_counter()
            index.candidates(query[None], k, settings)
            tries.append(time.perf_counter() - started)
        times.append(min(tries))
    return round(float(np.mean(times)) * 1000, 4)
