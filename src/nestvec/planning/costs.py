"""What storing a corpus in a cell costs: memory, disk and money."""

from __future__ import annotations

from typing import NamedTuple

from nestvec.evaluation import Cell

__all__ = ["Corpus", "Expenses", "Prices", "expenses"]

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

    @property
    def growth(self) -> float:
        """How many times longer a scan of it takes than of what was measured; not below 1."""
        return max(1.0, self.size / self.measured)


class Expenses(NamedTuple):
    """What a corpus costs in one cell."""

    memory_gb: float
    """Codes of the first stage, in memory."""
    disk_gb: float
    """Codes of both stages, on disk."""
    money: float | None
    """At the stated prices; None without prices."""


def expenses(cell: Cell, corpus: Corpus) -> Expenses:
    """Say what a corpus costs in a cell.

    Args:
        cell: The cell.
        corpus: What will be stored, and at which prices.

    Returns:
        Memory and disk in gigabytes of 10^9 bytes, and money where there are prices.
    """
    memory_gb = cell.bytes_per_vector * corpus.size / _GIGABYTE
    disk_gb = (cell.bytes_per_vector + cell.rerank_bytes_per_vector) * corpus.size / _GIGABYTE
    prices = corpus.prices
    money = None if prices is None else memory_gb * prices.memory_per_gb + disk_gb * prices.disk_per_gb
    return Expenses(memory_gb, disk_gb, money)
