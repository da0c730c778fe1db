"""What a first stage encodes, and how a search is done: what an index keeps, and what one search may be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nestvec.errors import DimensionError, VectorError
from nestvec.quantization import bytes_per_vector, product_code

__all__ = [
    "DEFAULT_SHORTLIST",
    "IDENTITY_BYTES",
    "LENGTH_BYTES",
    "CodeSettings",
    "SearchSettings",
    "check_k",
    "default_codes",
    "default_lists",
    "lists_of_plan",
    "longer_codes",
    "read_codes",
    "rows_to_train",
]

DEFAULT_SHORTLIST = 100
"""Candidates that are rescored until an index is tuned, and where codes are all that is stored."""
IDENTITY_BYTES = 8
"""Of a row number, which faiss keeps beside each code in IVF lists."""
LENGTH_BYTES = 4
"""Of the length of what a code stands for, which is kept beside each code of the second stage."""

_ROWS_TO_TRAIN = 100_000
_ROWS_PER_LIST_TO_TRAIN = 20
_FLOATS_TO_TRAIN = 1 << 28  # 1 GiB, in memory while an index is built
_FEWEST_OF_MANY = 16_384
_DIMENSIONS_PER_BYTE = 12  # half the dimensions as components, three to a 4-bit codebook
_LONGEST_DEFAULT = 128  # bytes
_SHORTEST_TO_LEARN = 24
_FEWEST_TO_LEARN = 2_000
_MOST_TO_SCAN = 800_000
_BITS_IN_LISTS = 4
_MOST_LISTS = 2**13  # by default: every query is compared with all their centres
_EARLIER = "product"  # what codes of 3 dimensions to a codebook were called, with the number of components for dim


class CodeSettings(NamedTuple):
    """What the first stage encodes."""

    dim: int
    """Leading dimensions of a vector."""
    precision: str
    """How: a precision of `nestvec.quantization`, such as pq32 or binary."""
    lists: int | None = None
    """IVF lists (nlist), of which a query scans the nearest; None scans all codes."""

    @property
    def bytes_per_vector(self) -> int:
        """Memory for each vector."""
        return bytes_per_vector(self.dim, self.precision) + (0 if self.lists is None else IDENTITY_BYTES)

    @property
    def fewest_to_train(self) -> int:
        """Vectors to learn from, at least: as many as a codebook has centroids, or as there are lists."""
        code = product_code(self.precision)
        return 1 if code is None else max(2**code.bits, self.lists or 0)

    def why_too_few(self, count: int) -> str | None:
        """Say why codebooks, or IVF lists, cannot be learned from so many vectors; None where they can."""
        if count >= self.fewest_to_train:
            return None
        lists = "" if self.lists is None else f" in {self.lists:,} IVF lists"
        fewest = f"{self.fewest_to_train:,} vectors at least"
        return f"{self.precision}{lists} is learned from {fewest}, and there are {count:,}."


def rows_to_train(full_dim: int, lists: int | None = None) -> int:
    """Return how many vectors of a size codes are learned from at most, or IVF lists, each of which needs some."""
    wanted = _ROWS_TO_TRAIN if lists is None else max(_ROWS_TO_TRAIN, lists * _ROWS_PER_LIST_TO_TRAIN)
    return min(wanted, max(_FEWEST_OF_MANY, _FLOATS_TO_TRAIN // full_dim))


def lists_of_plan(codes: CodeSettings, count: int) -> int | None:
    """Return how many IVF lists a plan's first stage has for so many vectors.

    Args:
        codes: The first stage.
        count: Vectors.

    Returns:
        What the plan says, where every list gets some vectors; else, and where it says nothing, what suits so many.
    """
    if codes.lists is not None and codes.lists * _ROWS_PER_LIST_TO_TRAIN <= count:
        return codes.lists
    return default_lists(codes.precision, count)


def default_codes(full_dim: int, count: int) -> CodeSettings:
    """Return what suits so many vectors of a size.

    Args:
        full_dim: Dimensions of a vector.
        count: Vectors.

    Returns:
        Product quantization with a byte for 12 dimensions, 128 bytes at most, in IVF lists beyond 800,000 vectors; int8
        where there are too few vectors, or too few dimensions, to learn codebooks from.
    """
    if count < _FEWEST_TO_LEARN or full_dim < _SHORTEST_TO_LEARN:
        return CodeSettings(full_dim, "int8")
    precision = f"pq{min(full_dim // _DIMENSIONS_PER_BYTE, _LONGEST_DEFAULT)}"
    return CodeSettings(full_dim, precision, default_lists(precision, count))


def longer_codes(full_dim: int, codes: CodeSettings) -> list[CodeSettings]:
    """Return longer codes than the default ones, rising: they take longer to scan, and need shorter shortlists."""
    code = product_code(codes.precision)
    if code is None:
        return []
    sizes = [code.n_bytes * times // 2 for times in (3, 4, 6)]
    return [codes._replace(precision=f"pq{size}") for size in sizes if 2 * size <= full_dim]


def default_lists(precision: str, count: int) -> int | None:
    """Return how many IVF lists suit so many vectors of a precision; None to scan all codes."""
    code = product_code(precision)
    if count <= _MOST_TO_SCAN or code is None or code.bits != _BITS_IN_LISTS:
        return None
    return int(min(_MOST_LISTS, 2 ** round(math.log2(count) / 2 + 2), 2**code.n_codebooks))


def read_codes(kept: Sequence[Any], stored_dim: int) -> CodeSettings:
    """Return the settings that an index keeps, also an earlier one, whose precision may be called `product`."""
    dim, precision, lists = kept
    if precision != _EARLIER:
        return CodeSettings(dim, precision, lists)
    n_codebooks = dim // 3
    return CodeSettings(stored_dim, f"pq{-(-n_codebooks // 2)}", lists)


@dataclass(frozen=True)
class SearchSettings:
    """How a search is done.

    Attributes:
        shortlist: Documents that the first stage hands over, at most; None trusts its order and reranks nothing.
        margin: Of these, what codes say is no more below what they say of the k-th is handed over; None hands over all.
        probes: Lists of an inverted file to scan, at most; None scans all.
        probe_ratio: Of these, those whose centre is at least so many times as similar to the query as the nearest one
            are scanned; None scans all.
        dim: Leading dimensions to compare in the second stage; None compares all.
        middle: Leading dimensions that a stage between looks at, and how many documents it hands over; None leaves it
            out.
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
            DimensionError: `dim` is no whole number.
        """
        counts = (self.shortlist, self.probes, self.threads, *(self.middle or ()))
        if any(value is not None and (not isinstance(value, (int, np.integer)) or value < 1) for value in counts):
            raise VectorError("shortlist, probes, threads and the two of middle are whole numbers of 1 or more.")
        if self.dim is not None and not isinstance(self.dim, (int, np.integer)):
            raise DimensionError(f"dim is a whole number of leading dimensions, not {self.dim!r}.")
        for name in ("shortlist", "probes", "threads", "dim", "middle"):
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
            words.append(f"of which {self.middle[1]:,} by {self.middle[0]} dimensions")
        if self.shortlist is not None:
            words.append("reranked" if self.dim is None else f"reranked by {self.dim} dimensions")
        return ", ".join(words)

    def replaced(self, **given: Any) -> SearchSettings:
        """Return these settings with those in place that are given, which is all that are not None."""
        changed = {name: value for name, value in given.items() if value not in (None, getattr(self, name))}
        return replace(self, **changed) if changed else self

    def kept(self) -> dict[str, Any]:
        """Return what an index keeps of them, JSON values by name."""
        return {name: value for name, value in asdict(self).items() if name not in ("threads", "complete")}

    def within(self, dim: int) -> SearchSettings:
        """Return these settings for vectors that have no more dimensions."""
        middle = None if self.middle is None else (min(self.middle[0], dim), self.middle[1])
        return replace(self, dim=None if self.dim is None or self.dim >= dim else self.dim, middle=middle)


def check_k(k: int, documents: int) -> int:
    """Documents to find: as many as are asked for, and no more than there are.

    Raises:
        VectorError: k is no whole number of 1 or more.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise VectorError(f"k is a whole number of 1 or more, not {k}.")
    return min(int(k), max(1, documents))
