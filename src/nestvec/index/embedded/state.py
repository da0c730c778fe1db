"""What one commit made of an index: its segments, open, and which of their rows count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError, DimensionError
from nestvec.index.embedded.codec import IndexSettings, load_codec, load_settings
from nestvec.index.embedded.documents import check_queries
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.segments import SEGMENTS, Codec, Segment, draw_vectors, open_segment
from nestvec.index.embedded.two_stages import Stages, search_exact, search_stages
from nestvec.index.embedded.view import Version, View
from nestvec.index.results import Candidates
from nestvec.index.settings import SearchSettings, check_k
from nestvec.threads import faiss_threads, one_thread_for_products
from nestvec.vectors import check_dims

__all__ = ["Mask", "State", "alive_rows", "load_state", "snapshot"]

Float32s = NDArray[np.float32]
Mask = NDArray[np.bool_]

_ATTEMPTS = 20  # to open files that a writer may be replacing


@dataclass(frozen=True)
class State:
    """What one commit made of the index; nothing of it changes, so that any number of threads may use it."""

    version: Version
    manifest: Manifest
    """The one that this was read from."""
    segments: list[Segment]
    alive: list[Mask | None]
    """Which rows of each segment are not deleted; None where all are."""
    settings: IndexSettings
    codec: Codec
    codec_name: str
    """Of its files; another codec has another one."""
    search: SearchSettings

    def __len__(self) -> int:
        """Documents that are not deleted."""
        return self.searched()[1]

    def search_with(
        self, *, dim: int | None = None, shortlist: int | None = None, probes: int | None = None, **given: Any
    ) -> SearchSettings:
        """Return how a search is done that is told some settings, and left to choose the rest.

        Fewer dimensions need more candidates for the same recall: as many times more as there are fewer, which
        keeps most of it on real sets down to an eighth (`benchmarks/tuned_recall.py`). A shortlist that is given, or
        longer for fewer dimensions, is not cut short by a margin that is not given, nor a number of lists by a ratio.
        """
        ours, chosen = self.search.dim or self.settings.stored_dim, self.search
        if dim is not None and shortlist is None and chosen.shortlist is not None and 0 < dim < ours:
            shortlist = math.ceil(chosen.shortlist * ours / dim)
        if shortlist is not None:
            chosen = replace(chosen, margin=None)
        if probes is not None:
            chosen = replace(chosen, probe_ratio=None)
        return chosen.replaced(dim=dim, shortlist=shortlist, probes=probes, **given)

    @property
    def lists(self) -> int | None:
        """IVF lists of the first stage; None where all codes are scanned."""
        return self.codec.first.settings.lists

    def candidates(
        self, queries: NDArray[Any], k: int, settings: SearchSettings, masks: Sequence[Mask | None] | None = None
    ) -> Candidates:
        """Search, and return what each stage said of what it found.

        Args:
            queries: [n_queries, full_dim] or [full_dim], floating point.
            k: Documents to find for each.
            settings: How.
            masks: Rows of each segment that count; None counts all that are not deleted.

        Raises:
            VectorError: The queries are of another width, zero, or not finite, or k is below 1.
            DimensionError: `settings.dim` is outside what is stored.
        """
        if settings.dim is not None and not 1 <= settings.dim <= self.settings.stored_dim:
            raise DimensionError(f"Cannot compare {settings.dim} dimensions: {self.settings.stored_dim} are stored.")
        unit = check_queries(queries, self.settings)
        stages, documents = self.searched(masks)
        k = check_k(k, documents)
        if len(unit) == 1:  # whose products are too small for threads
            with faiss_threads(settings.threads):
                return search_stages(stages, unit, k, settings)
        with faiss_threads(settings.threads), one_thread_for_products():
            return search_stages(stages, unit, k, settings)

    def exact(self, queries: NDArray[Any], k: int, dim: int | None = None) -> Candidates:
        """Find the nearest of all stored vectors by comparing every one; see `Index.exact`."""
        return search_exact(self.searched()[0], check_queries(queries, self.settings), check_k(k, len(self)), dim)

    def draw(self, count: int, seed: int = 0) -> Float32s:
        """Return so many of the stored vectors, drawn at random, [n, stored_dim], at the width that queries have."""
        return self.widened(draw_vectors(self.parts(), count, seed))

    def widened(self, vectors: Float32s) -> Float32s:
        """Return stored vectors at the width that queries have, [n, full_dim]; what is not stored is zero."""
        return np.pad(vectors, [(0, 0), (0, self.settings.full_dim - vectors.shape[1])])

    def probe_ratio(self, queries: NDArray[Any], probes: int, *, dim: int | None = None) -> float:
        """Return the `probe_ratio` at which a query scans so many IVF lists, on average; see `Index.probe_ratio`."""
        check_dims([self.settings.stored_dim if dim is None else dim], self.settings.stored_dim)
        return self.codec.first.probe_ratio(check_queries(queries, self.settings), probes, dim=dim)

    def parts(self) -> list[tuple[Segment, Mask | None]]:
        """Return every segment with its rows that count."""
        return list(zip(self.segments, self.alive, strict=True))

    def searched(self, masks: Sequence[Mask | None] | None = None) -> tuple[list[Stages], int]:
        """Return what is searched, and how many documents that are: the rows of masks, or all that are not deleted."""
        return self._all if masks is None else self._stages(masks)

    @cached_property
    def _all(self) -> tuple[list[Stages], int]:
        return self._stages(self.alive)

    def _stages(self, masks: Sequence[Mask | None]) -> tuple[list[Stages], int]:
        stages = [Stages(one.first, one.second, mask) for one, mask in zip(self.segments, masks, strict=True)]
        return stages, sum(one.remaining for one in stages)

    def numbers(self, found: Candidates, query: int) -> list[int]:
        """Return the numbers of the documents that were found for a query."""
        there = found.rows[query] >= 0
        places, rows = found.places[query, there].tolist(), found.rows[query, there].tolist()
        return [int(self.segments[place].identities.numbers[row]) for place, row in zip(places, rows, strict=True)]

    def vector_of(self, number: int) -> Float32s:
        """Return the vector of a document that is there, [1, full_dim]."""
        segment, row = self._place_of(number)
        return self.widened(segment.second.decode(row))

    def codes_of(self, number: int) -> bytes:
        """Return what the second stage stores of a document that is there."""
        segment, row = self._place_of(number)
        return segment.second.take(row).codes.tobytes()

    def _place_of(self, number: int) -> tuple[Segment, NDArray[np.int64]]:
        for segment in self.segments:
            row = segment.identities.rows(np.array([number]))
            if len(row):
                return segment, row
        raise DamagedIndexError(f"Document {number} of {self.manifest.folder} has no vector. Build the index anew.")

    def ids(self, found: Candidates) -> list[list[str]]:
        """Return the ids of what was found, for every query."""
        if len(self.segments) == len(found.rows) == 1 and found.whole:
            return [self.segments[0].identities.ids(found.rows[0])]
        there = found.rows >= 0
        places, rows = found.places[there], found.rows[there]
        ids = [""] * len(rows)
        for place, segment in enumerate(self.segments):
            here = np.flatnonzero(places == place)
            for at, id_ in zip(here.tolist(), segment.identities.ids(rows[here]), strict=True):
                ids[at] = id_
        ends = np.cumsum(there.sum(axis=1)).tolist()
        return [ids[start:end] for start, end in itertools.pairwise([0, *ends])]


def load_state(folder: Path, manifest: Manifest, before: State | None = None) -> State:
    """Open what the last commit names.

    Args:
        folder: The index.
        manifest: Its manifest.
        before: What was open before; segments that are still there stay as they are.

    Returns:
        The state.

    Raises:
        DamagedIndexError: A file is not there, or damaged.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with manifest.reading() as view:
                return _read(folder, manifest, view, before)
        except FileNotFoundError as error:
            # A writer has merged these files away since we read their names; once more, with the new ones.
            if attempt == _ATTEMPTS - 1:
                raise DamagedIndexError(f"{folder} is damaged: {error.filename or error} is not there.") from error
    raise AssertionError("unreachable")


@contextmanager
def snapshot(current: Callable[[], State]) -> Iterator[tuple[State, View]]:
    """See the vectors and the documents of one commit meanwhile.

    Args:
        current: Returns the state as of the last commit.

    Yields:
        The state, and a view of the same commit.
    """
    while True:
        state = current()
        with state.manifest.reading() as view:
            if view.version == state.version:
                yield state, view
                return


def _read(folder: Path, manifest: Manifest, view: View, before: State | None) -> State:
    settings, named = load_settings(view), view.needed("codec")
    name = str(named["name"])
    same = before is not None and before.codec_name == name
    codec = before.codec if before is not None and same else load_codec(folder, named, settings)
    known = {} if before is None else {one.record.name: one for one in before.segments}
    segments = [known.get(one.name) or open_segment(folder / SEGMENTS, one, codec) for one in view.segments()]
    segments.sort(key=lambda one: int(one.identities.numbers[0]) if len(one) else 0)
    deleted = view.deleted()
    alive = [alive_rows(segment, deleted) for segment in segments]
    return State(view.version, manifest, segments, alive, settings, codec, name, _read_search(view.needed("search")))


def _read_search(kept: dict[str, Any]) -> SearchSettings:
    middle = kept["middle"]
    return SearchSettings(**{**kept, "middle": None if middle is None else tuple(middle)})


def alive_rows(segment: Segment, deleted: NDArray[np.int64]) -> Mask | None:
    """Return which rows are none of the deleted documents; None where all are."""
    gone = segment.identities.rows(deleted)
    if not len(gone):
        return None
    alive = np.ones(len(segment), np.bool_)
    alive[gone] = False
    return alive
