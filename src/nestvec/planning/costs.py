"""What storing a corpus in a cell costs: memory, disk and money."""

from __future__ import annotations

from typing import NamedTuple

from nestvec.evaluation import Cell
from nestvec.index import IDENTITY_BYTES, LENGTH_BYTES, default_lists

__all__ = ["Corpus", "Expenses", "Prices", "disk_bytes", "expenses", "lists_of", "memory_bytes"]

_GIGABYTE = 1e9


class Prices(NamedTuple):
    """What a gigabyte costs, in whatever currency and period the user thinks in."""

    memory_per_gb: float
    disk_per_gb: float = 0.0


class Corpus(NamedTuple):
    """What will be stored, beside what was measured."""

    size: int
    """Vectors that will be stored."""
    measured: int
    """Vectors that the grid was measured, and timed, on."""
    prices: Prices | None = None


class Expenses(NamedTuple):
    """What a corpus costs in one cell."""

    memory_gb: float
    """Codes of the first stage, in memory, with the row numbers of IVF lists where there are some."""
    disk_gb: float
    """Codes of both stages, on disk, with lengths; without a second one those of the first are kept for it too."""
    money: float | None
    """At the stated prices; None without prices."""


def lists_of(cell: Cell, corpus: Corpus) -> int | None:
    """Return how many IVF lists an index of a cell would have for a corpus; None to scan all codes."""
    return default_lists(cell.precision, corpus.size)


def memory_bytes(cell: Cell, corpus: Corpus) -> int:
    """Return the bytes of a vector in memory: its code, and its row number where a corpus has IVF lists."""
    return cell.bytes_per_vector + (0 if lists_of(cell, corpus) is None else IDENTITY_BYTES)


def disk_bytes(cell: Cell, corpus: Corpus) -> int:
    """Return the bytes of a vector on disk: what is in memory, and what is rescored, with its length.

    Where nothing is reranked the codes are kept for that as well.
    """
    return memory_bytes(cell, corpus) + (cell.rerank_bytes_per_vector or cell.bytes_per_vector) + LENGTH_BYTES


def expenses(cell: Cell, corpus: Corpus) -> Expenses:
    """Say what a corpus costs in a cell.

    Args:
        cell: The cell.
        corpus: What will be stored, and at which prices.

    Returns:
        Memory and disk in gigabytes of 10^9 bytes, and money where there are prices.
    """
    memory_gb = memory_bytes(cell, corpus) * corpus.size / _GIGABYTE
    disk_gb = disk_bytes(cell, corpus) * corpus.size / _GIGABYTE
    prices = corpus.prices
    money = None if prices is None else memory_gb * prices.memory_per_gb + disk_gb * prices.disk_per_gb
    return Expenses(memory_gb, disk_gb, money)
