"""How a search is done: what an index keeps, and what one search may be told otherwise."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any

import numpy as np

from nestvec.errors import VectorError

__all__ = ["SearchSettings"]


@dataclass(frozen=True)
class SearchSettings:
    """How a search is done.

    Attributes:
        shortlist: Documents that the first stage hands over, at most; None trusts its order and reranks nothing.
        margin: Of these, what codes say is no more below what they say of the k-th is handed over; None hands over all.
        probes: Lists of an inverted file to scan, at most; None scans all.
        probe_ratio: Of these, those whose centre is at least so many times as similar to the query as the nearest one
            are scanned; None scans all.
        dim: Leading numbers to compare in the second stage; None compares all.
        middle: Leading numbers that a stage between looks at, and how many documents it hands over; None leaves it out.
        threads: Threads that scan codes for many queries.
        complete: Whether what codes do not say is made up for: more lists are scanned where these hold fewer documents
            than are to be found, and few documents are compared in full, whatever their codes say.
    """

    shortlist: int | None
    _: KW_ONLY
    margin: float | None = None
    probes: int | None = None
    probe_ratio: float | None = None
    dim: int | None = None
    middle: tuple[int, int] | None = None
    threads: int = 1
    complete: bool = True

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            VectorError: One of them is outside its range.
        """
        counts = (self.shortlist, self.probes, self.threads, *(self.middle or ()))
        if any(value is not None and (not isinstance(value, (int, np.integer)) or value < 1) for value in counts):
            raise VectorError("shortlist, probes, threads and the two of middle are whole numbers of 1 or more.")
        for name in ("shortlist", "probes", "threads", "middle"):
            value = getattr(self, name)
            if value is not None:  # faiss and JSON take no whole numbers of numpy's
                object.__setattr__(self, name, tuple(map(int, value)) if name == "middle" else int(value))
        if self.margin is not None and not self.margin >= 0:
            raise VectorError(f"A margin is a difference of similarities, 0 or more, not {self.margin}.")
        if self.probe_ratio is not None and not self.probe_ratio <= 1:
            raise VectorError(f"A probe ratio is 1 at most, for the nearest list alone, not {self.probe_ratio}.")

    def __str__(self) -> str:
        """Say what a search does, in words.

        >>> str(SearchSettings(200, margin=0.05, probe_ratio=0.4))
        'shortlist of 200, up to 0.05 below the k-th by codes, in lists 40% as near as the nearest, reranked'
        """
        if self.shortlist is None:
            words = ["the scan alone"]
        else:
            words = [f"shortlist of {self.shortlist:,}"]
            if self.margin is not None:
                words.append(f"up to {self.margin:.4g} below the k-th by codes")
        if self.probes is not None:
            words.append(f"in {self.probes:,} lists")
        if self.probe_ratio is not None:
            words.append(f"in lists {self.probe_ratio:.0%} as near as the nearest")
        if self.middle is not None:
            words.append(f"of which {self.middle[1]:,} by {self.middle[0]} numbers")
        if self.shortlist is not None:
            words.append("reranked" if self.dim is None else f"reranked by {self.dim} numbers")
        return ", ".join(words)

    def replaced(self, **given: Any) -> SearchSettings:
        """Return these settings with those in place that are given, which is all that are not None."""
        changed = {name: value for name, value in given.items() if value not in (None, getattr(self, name))}
        return replace(self, **changed) if changed else self

    def kept(self) -> dict[str, Any]:
        """Return what an index keeps of them, JSON values by name."""
        return {name: value for name, value in asdict(self).items() if name not in ("threads", "complete")}

    def within(self, dim: int) -> SearchSettings:
        """Return these settings for vectors that have no more numbers."""
        middle = None if self.middle is None else (min(self.middle[0], dim), self.middle[1])
        return replace(self, dim=None if self.dim is None or self.dim >= dim else self.dim, middle=middle)
