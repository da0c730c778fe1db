"""What one commit made of an index: its segments, open, and which of their rows count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError
from nestvec.index.building import SEGMENTS, IndexSettings, load_codec, load_settings
from nestvec.index.manifest import Manifest, Version
from nestvec.index.search_settings import SearchSettings
from nestvec.index.segments import Codec, Segment, open_segment
from nestvec.index.two_stages import Candidates, Stages

__all__ = ["Mask", "State", "alive_rows", "load_state"]

Mask = NDArray[np.bool_]

_ATTEMPTS = 20  # to open files that a writer may be replacing


@dataclass(frozen=True)
class State:
    """What one commit made of the index."""

    version: Version
    segments: list[Segment]
    alive: list[Mask | None]
    """Which rows of each segment are not deleted; None where all are."""
    settings: IndexSettings
    codec: Codec
    search: SearchSettings

    def __len__(self) -> int:
        """Documents that are not deleted."""
        return self.searched()[1]

    def search_with(
        self, *, dim: int | None = None, shortlist: int | None = None, probes: int | None = None, **given: Any
    ) -> SearchSettings:
        """Return how a search is done that is told some settings, and left to choose the rest.

        Fewer numbers need more candidates for the same recall: as many times more as there are fewer numbers, which
        keeps most of it on real sets down to an eighth (`benchmarks/tuned_recall.py`). A shortlist that is given, or
        longer for fewer numbers, is not cut short by a margin that is not given, nor a number of lists by a ratio.
        """
        ours, chosen = self.search.dim or self.settings.stored_dim, self.search
        if dim is not None and shortlist is None and chosen.shortlist is not None and 0 < dim < ours:
            shortlist = math.ceil(chosen.shortlist * ours / dim)
        if shortlist is not None:
            chosen = replace(chosen, margin=None)
        if probes is not None:
            chosen = replace(chosen, probe_ratio=None)
        return chosen.replaced(dim=dim, shortlist=shortlist, probes=probes, **given)

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
            with manifest.reading():
                return _read(folder, manifest, before)
        except FileNotFoundError as error:
            # A writer has merged these files away since we read their names; once more, with the new ones.
            if attempt == _ATTEMPTS - 1:
                raise DamagedIndexError(f"{folder} is damaged: {error.filename or error} is not there.") from error
    raise AssertionError("unreachable")


def _read(folder: Path, manifest: Manifest, before: State | None) -> State:
    settings, named = load_settings(manifest), manifest.needed("codec")
    codec = load_codec(folder, named)
    records, version = manifest.segments(), manifest.version()
    known = {} if before is None else {one.record.name: one for one in before.segments}
    segments = [known.get(one.name) or open_segment(folder / SEGMENTS, one, codec) for one in records]
    segments.sort(key=lambda one: int(one.identities.numbers[0]) if len(one) else 0)
    deleted = manifest.deleted()
    alive = [alive_rows(segment, deleted) for segment in segments]
    return State(version, segments, alive, settings, codec, _read_search(manifest.needed("search")))


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
