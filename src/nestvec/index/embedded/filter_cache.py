"""Which documents meet a filter, kept from one search to the next."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.index.embedded.view import View
from nestvec.index.filters import Condition

__all__ = ["FilterCache"]

RowKeys = NDArray[np.int64]

_FILTERS_KEPT = 64
_KEYS_KEPT = 1 << 23  # of all filters together


class _Answer(NamedTuple):
    commit: int
    """When it was asked for first or last."""
    highest: int
    """The highest row key at that time."""
    keys: RowKeys
    """Of the documents that meet the filter, also of some that were deleted since."""


class FilterCache:
    """Answers to filters on one manifest, for any number of threads: the metadata of a row key never change."""

    def __init__(self) -> None:
        """Begin without any."""
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def matching(self, text: str, condition: Condition, view: View) -> RowKeys:
        """Return the row keys of documents that meet a filter, and of some that are deleted as of the view.

        Args:
            text: The filter.
            condition: What it means.
            view: Where to look for those that are not kept.

        Returns:
            [n], ascending.
        """
        commit = view.version[-1]
        kept = self._answers.get(text)
        if kept is None:
            kept = _Answer(commit, 0, np.empty(0, np.int64))
        elif kept.commit > commit:
            return view.matching(condition, 0)  # documents that were deleted in between may be missing from it
        highest = view.highest()
        if highest == kept.highest:
            return kept.keys
        found = _Answer(commit, highest, np.concatenate([kept.keys, view.matching(condition, kept.highest)]))
        self._keep(text, found)
        return found.keys

    def _keep(self, text: str, found: _Answer) -> None:
        with self._lock:
            before = self._answers.get(text)
            if before is not None and before.commit >= found.commit:
                return
            self._answers.pop(text, None)
            self._answers[text] = found
            kept = sum(len(one.keys) for one in self._answers.values())
            while len(self._answers) > 1 and (kept > _KEYS_KEPT or len(self._answers) > _FILTERS_KEPT):
                kept -= len(self._answers.pop(next(iter(self._answers))).keys)  # the one that is kept longest
