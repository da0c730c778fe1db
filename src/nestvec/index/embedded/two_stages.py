"""Shortlist on short codes, rerank on stored vectors: one search over all segments of an index."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import VectorError
from nestvec.index.embedded.first_stage import FirstStage, Scanned
from nestvec.index.embedded.stored import StoredVectors
from nestvec.index.results import Candidates, is_whole
from nestvec.index.settings import SearchSettings
from nestvec.vectors import truncate

__all__ = ["Stages", "search_exact", "search_stages"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

_SHARE_TO_SCORE_ALL = 50  # where a filter leaves fewer than one in so many, all that are left are scored
_SHARE_TO_PROBE = 0.5  # of an inverted file that must be left for few of its lists to be enough
_SURPLUS = 1.1  # asked of the first stage beyond what is left of it on average
_GROWTH = 8  # of what it is asked for, where that was not enough
_CELLS = 1 << 20  # candidates of all queries together that are put in order at once
_QUERIES_AT_A_TIME = 512  # compared with all documents, block by block
_DECIMALS = 6
_TIES = 256  # documents beyond the best k that are put in order with them


class Stages(NamedTuple):
    """Documents to search: their codes, their vectors, and which of them count."""

    first: FirstStage
    second: StoredVectors | None
    """The same documents; None where nothing is reranked."""
    allowed: Mask | None = None
    """[n_documents]; None where all count."""

    @property
    def remaining(self) -> int:
        """How many count."""
        return len(self.first) if self.allowed is None else int(np.count_nonzero(self.allowed))


def search_stages(parts: Sequence[Stages], queries: Float32s, k: int, settings: SearchSettings) -> Candidates:
    """Find the best documents of all parts.

    Args:
        parts: What is searched, as one.
        queries: Unit vectors, [n_queries, full_dim], float32.
        k: Documents to find for each.
        settings: How.

    Returns:
        For each query up to k documents; of equal scores the one that was written first comes first.

    Raises:
        VectorError: There is a shortlist, and no second stage to rerank it with.
    """
    if settings.shortlist is not None and any(part.second is None for part in parts):
        raise VectorError("There is no second stage to rerank with: search without a shortlist.")
    if not parts or not len(queries):
        return _nothing(len(queries))
    started = time.perf_counter()
    wanted = k if settings.shortlist is None else max(k, settings.shortlist)
    if len(parts) == len(queries) == 1 and parts[0].allowed is None and settings.middle is None:
        alone = _search_one(parts[0], queries, k, wanted, settings)
        if alone is not None:
            return alone
    found = [_shortlist(part, place, queries, k, wanted, settings) for place, part in enumerate(parts)]
    scanned = time.perf_counter()
    if len(found) == 1 and found[0].whole and settings.middle is None:
        best = _rerank_whole(found[0], parts[0], queries, k, settings)
    else:
        best = _nothing(0)
        step = max(1, _CELLS // max(1, sum(one.rows.shape[1] for one in found)))
        for first in range(0, len(queries), step):
            some = slice(first, first + step)
            merged = _merge([one.of(some) for one in found], wanted)
            if settings.shortlist is not None or np.isnan(merged.scores).any():
                merged = _rerank(merged, parts, queries[some], k, settings)
            best = _below(best, _best(merged, k))
    ended = time.perf_counter()
    return best._replace(seconds={"first stage": scanned - started, "second stage": ended - scanned})


def _search_one(part: Stages, query: Float32s, k: int, wanted: int, settings: SearchSettings) -> Candidates | None:
    """Do what `search_stages` does, for one query of one part that counts whole; None where its codes find too few.

    A scan leaves little else in the processor's cache, and each step after it waits for memory: this one has few.
    """
    started = time.perf_counter()
    if len(part.first) <= wanted:
        return None
    rows, prefix_scores = part.first.search(
        query, wanted, probes=settings.probes, probe_ratio=settings.probe_ratio, dim=settings.dim
    )
    if rows[0, -1] < 0:
        there = int(np.count_nonzero(rows >= 0))
        if there < k:
            return None
        rows, prefix_scores = rows[:, :there], prefix_scores[:, :there]
    scanned = time.perf_counter()
    best = _rerank_whole(_Shortlist(0, rows, prefix_scores, whole=True), part, query, k, settings)
    return best._replace(seconds={"first stage": scanned - started, "second stage": time.perf_counter() - scanned})


def search_exact(parts: Sequence[Stages], queries: Float32s, k: int, dim: int | None = None) -> Candidates:
    """Find the best documents by comparing every stored vector, block by block.

    Args:
        parts: What is searched, as one.
        queries: Unit vectors, [n_queries, stored_dim], float32.
        k: Documents to find for each.
        dim: Leading dimensions to compare; None compares all.

    Returns:
        As `search_stages`, without what a first stage would say; which of equal scores are found at the very end is
        left open.

    Raises:
        VectorError: There are no stored vectors.
    """
    cut = queries if dim is None else truncate(queries, dim)
    if len(cut) > _QUERIES_AT_A_TIME:
        found = _nothing(0)
        for first in range(0, len(cut), _QUERIES_AT_A_TIME):
            found = _below(found, search_exact(parts, queries[first : first + _QUERIES_AT_A_TIME], k, dim))
        return found
    best = _nothing(len(queries))
    for place, part in enumerate(parts):
        if part.second is None:
            raise VectorError("There are no stored vectors to compare.")
        start = 0
        for block in part.second.blocks():
            scores = _rounded(cut @ (block if dim is None else truncate(block, dim)).T)
            rows = np.arange(start, start + len(block))
            start += len(block)
            if part.allowed is not None:
                scores[:, ~part.allowed[rows]] = -np.inf
            near = np.argpartition(-scores, k - 1, axis=1)[:, :k] if k < len(block) else None
            scores = scores if near is None else _taken(scores, near)
            shape = scores.shape
            here = Candidates(
                np.full(shape, place),
                np.where(np.isfinite(scores), rows if near is None else rows[near], -1),
                scores,
                np.full(shape, np.nan, np.float32),
                np.ones(shape, np.int64),
            )
            best = _best(_join([best, here]), k)
    return best


class _Shortlist(NamedTuple):
    """What the first stage of one part hands over for every query."""

    place: int
    rows: Rows
    """[n_queries, n], -1 where there are fewer; [1, n] where they are the same for all."""
    scores: Float32s
    """nan where the first stage was not asked."""
    whole: bool = False
    """Whether the first stage was asked by every query, and there are as many documents for each, best first."""

    def of(self, some: slice) -> Candidates:
        shared = len(self.rows) == 1
        rows, scores = (self.rows, self.scores) if shared else (self.rows[some], self.scores[some])
        return Candidates(np.full(rows.shape, self.place), rows, scores, scores, np.ones(rows.shape, np.int64))


def _shortlist(
    part: Stages, place: int, queries: Float32s, k: int, wanted: int, settings: SearchSettings
) -> _Shortlist:
    n_rows, remaining = len(part.first), part.remaining
    few = wanted if part.allowed is None else max(wanted, n_rows // _SHARE_TO_SCORE_ALL)
    if not remaining or (settings.shortlist is not None and settings.complete and remaining <= few):
        return _all_that_are_left(part, place)
    left = remaining / n_rows
    # What few lists hold may be what a filter leaves out: then all are scanned.
    few_lists = left >= _SHARE_TO_PROBE
    count = math.ceil((1 if part.allowed is None else _SURPLUS) * wanted / left)
    found = part.first.search(
        queries,
        count,
        probes=settings.probes if few_lists else None,
        probe_ratio=settings.probe_ratio if few_lists else None,
        share=left,
        dim=settings.dim,
    )
    # Lists may hold fewer, and a fast scan leaves out what no code is worse than, which may be every document.
    if part.allowed is None and is_whole(found.rows):
        return _Shortlist(place, found.rows, found.scores, whole=True)
    rows, scores = _keep_allowed(found, part.allowed, wanted)
    # Lists that hold fewer are not to blame; what is left out is to be made up for.
    needed = min(k if part.allowed is None else wanted, remaining) if settings.complete else 0
    short = np.flatnonzero((rows >= 0).sum(axis=1) < needed)
    if not len(short):
        return _Shortlist(place, rows, scores, whole=rows.min(initial=0) >= 0)
    more = [_ask_for_more(part, place, queries[query], count, needed, wanted, settings) for query in short]
    width = max(wanted, *(one.rows.shape[1] for one in more))
    rows, scores = _widened(rows, width, -1), _widened(scores, width, -np.inf)
    for query, one in zip(short, more, strict=True):
        rows[query], scores[query] = -1, np.nan
        rows[query, : one.rows.shape[1]], scores[query, : one.rows.shape[1]] = one.rows[0], one.scores[0]
    return _Shortlist(place, rows, scores)


def _ask_for_more(
    part: Stages, place: int, query: Float32s, count: int, needed: int, wanted: int, settings: SearchSettings
) -> _Shortlist:
    """Documents of a query most of whose neighbours are left out, or in lists that were not scanned."""
    n_rows = len(part.first)
    while count < n_rows:
        count = min(count * _GROWTH, n_rows)
        if count > n_rows // 2 and settings.shortlist is not None and part.allowed is not None:
            break
        found = part.first.search(query[None], count, dim=settings.dim)
        rows, scores = _keep_allowed(found, part.allowed, wanted)
        if (rows >= 0).sum() >= needed:
            return _Shortlist(place, rows, scores)
    return _all_that_are_left(part, place)


def _all_that_are_left(part: Stages, place: int) -> _Shortlist:
    """All rows that count, to be compared in full: faster than to look for them, and nothing can be missed."""
    rows = np.arange(len(part.first)) if part.allowed is None else np.flatnonzero(part.allowed)
    return _Shortlist(place, rows[None], np.full((1, len(rows)), np.nan, np.float32))


def _keep_allowed(found: Scanned, allowed: Mask | None, wanted: int) -> tuple[Rows, Float32s]:
    """The first rows that count, [n_queries, wanted], -1 where there are fewer."""
    kept = found.rows >= 0
    if allowed is not None:
        kept &= allowed[found.rows]
    order = np.argsort(~kept, axis=1, kind="stable")[:, :wanted]
    there = np.take_along_axis(kept, order, axis=1)
    rows = np.where(there, np.take_along_axis(found.rows, order, axis=1), -1)
    scores = np.where(there, np.take_along_axis(found.scores, order, axis=1), np.float32(-np.inf))
    width = max(wanted, rows.shape[1])
    return _widened(rows, width, -1), _widened(scores, width, -np.inf)


def _merge(shortlists: Sequence[Candidates], wanted: int) -> Candidates:
    """The best of several shortlists; what no first stage has scored comes first, and takes no place among them."""
    found = shortlists[0] if len(shortlists) == 1 else _join(shortlists)
    unscored = np.isnan(found.scores)
    if len(shortlists) == 1 and not unscored.any():
        return found._replace(shortlist_ranks=np.broadcast_to(np.arange(1, found.rows.shape[1] + 1), found.rows.shape))
    free = unscored & (found.rows >= 0)
    if len(shortlists) > 1:
        order = np.argsort(
            np.where(free, -np.inf, np.where(found.rows < 0, np.inf, -found.scores)), axis=1, kind="stable"
        )
        found = _take(found, order[:, : wanted + int(free.sum(axis=1).max(initial=0))])
        free = np.isnan(found.scores) & (found.rows >= 0)
    ranks = np.arange(1, found.rows.shape[1] + 1) - free.sum(axis=1, keepdims=True)
    return found._replace(shortlist_ranks=np.maximum(ranks, 1))


def _rerank_whole(found: _Shortlist, part: Stages, queries: Float32s, k: int, settings: SearchSettings) -> Candidates:
    """Do what `_merge`, `_rerank` and `_best` do, for the only shortlist, without gaps, in a third of their time."""
    rows, scores = found.rows, found.scores
    if settings.shortlist is not None and part.second is not None:
        if settings.margin is None:
            scores = _rounded(part.second.score(queries, rows, settings.dim))
        else:
            counts = (scores >= scores[:, k - 1 : k] - np.float32(settings.margin)).sum(axis=1)
            scores = _rounded(part.second.score_some(queries, rows[:, : counts.max()], counts, settings.dim))
    order = _order(scores, (rows[:, : scores.shape[1]],), k)
    return Candidates(
        np.zeros(order.shape, np.int64),
        _taken(rows, order),
        _taken(scores, order),
        _taken(found.scores, order),
        order + 1,
    )


def _rerank(
    found: Candidates, parts: Sequence[Stages], queries: Float32s, k: int, settings: SearchSettings
) -> Candidates:
    """Compare the shortlist with what the second stage stores."""
    if settings.margin is not None:
        # What no first stage has scored is nan, and stays.
        far = found.prefix_scores < found.kth_scores(k)[:, None] - np.float32(settings.margin)
        found = found._replace(rows=np.where(far, -1, found.rows))
    if settings.middle is not None:
        dim, kept = settings.middle
        found = _best(_score(found, parts, queries, dim), max(k, kept))
    return _score(found, parts, queries, settings.dim)


def _score(found: Candidates, parts: Sequence[Stages], queries: Float32s, dim: int | None) -> Candidates:
    if len(found.rows) < len(queries):  # the same rows for all of them
        found = _of(np.repeat(one, len(queries), axis=0) for one in found[:5])
    there = found.rows >= 0
    if len(parts) == 1 and parts[0].second is not None and there.all():
        return found._replace(scores=_rounded(parts[0].second.score(queries, found.rows, dim)))
    scores = np.full(found.rows.shape, -np.inf, np.float32)
    for place, part in enumerate(parts):
        if part.second is None:
            continue
        wanted = there & (found.places == place)
        for query in np.flatnonzero(wanted.any(axis=1)):
            here = wanted[query]
            scores[query, here] = part.second.score(queries[query, None], found.rows[query][None, here], dim)[0]
    return found._replace(scores=_rounded(scores))


def _rounded(scores: Float32s) -> Float32s:
    """Cosines to the six decimals that float32 is sure of, so that equal documents have equal scores."""
    rounded: Float32s = scores.round(_DECIMALS)
    return rounded


def _best(found: Candidates, k: int) -> Candidates:
    found = found._replace(scores=np.where(found.rows >= 0, found.scores, -np.inf))
    return _take(found, _order(found.scores, (found.rows, found.places), k))


def _order(scores: Float32s, ties: Sequence[Rows], k: int) -> Rows:
    """Places of the best k of every query, [n_queries, k]; of equal scores the lowest of the last of `ties` first."""
    if scores.shape[1] <= k + _TIES:
        keys: list[NDArray[Any]] = [*ties, -scores]
        order: Rows = np.lexsort(keys, axis=1)[:, :k]
        return order
    near = np.argpartition(-scores, k + _TIES - 1, axis=1)[:, : k + _TIES]
    return _taken(near, _order(_taken(scores, near), [_taken(one, near) for one in ties], k))


def _take(found: Candidates, order: Rows) -> Candidates:
    return _of(_taken(one, order) for one in found[:5])


def _taken(array: NDArray[Any], order: Rows) -> NDArray[Any]:
    """Other columns of every row, [n, columns]; several times as fast as numpy's `take_along_axis` for one row."""
    return array.take(order[0], axis=1) if len(order) == 1 else np.take_along_axis(array, order, axis=1)


def _join(found: Sequence[Candidates]) -> Candidates:
    """Side by side."""
    most = max(len(one.rows) for one in found)
    wide = [[np.repeat(part, most, axis=0) if len(part) < most else part for part in one[:5]] for one in found]
    return _of(np.concatenate(arrays, axis=1) for arrays in zip(*wide, strict=True))


def _below(above: Candidates, found: Candidates) -> Candidates:
    """What was found for some queries, and for those after them."""
    if not len(above.rows):
        return found
    width = max(above.rows.shape[1], found.rows.shape[1])
    fills = (0, -1, -np.inf, np.nan, 1)
    sides: list[tuple[NDArray[Any], ...]] = [above[:5], found[:5]]
    both = [[_widened(one, width, fill) for one, fill in zip(side, fills, strict=True)] for side in sides]
    return _of(np.concatenate(columns) for columns in zip(*both, strict=True))


def _widened(array: NDArray[Any], width: int, fill: float) -> NDArray[Any]:
    return np.pad(array, [(0, 0), (0, width - array.shape[1])], constant_values=fill)


def _of(columns: Iterable[NDArray[Any]]) -> Candidates:
    places, rows, scores, prefix_scores, shortlist_ranks = columns
    return Candidates(places, rows, scores, prefix_scores, shortlist_ranks)


def _nothing(n_queries: int) -> Candidates:
    rows, scores = np.empty((n_queries, 0), np.int64), np.empty((n_queries, 0), np.float32)
    return Candidates(rows, rows, scores, scores, rows)
