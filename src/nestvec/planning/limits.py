"""Targets and budgets: what is asked of a cell, such as `retention>=0.99` or `bytes<=64`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nestvec.errors import PlanError
from nestvec.evaluation import Cell, Interval
from nestvec.planning.costs import Corpus, disk_bytes, expenses, memory_bytes
from nestvec.planning.growth import times_longer

__all__ = ["COSTS", "Limit", "check_limits", "parse_budget", "parse_target", "score_of"]


class Limit(NamedTuple):
    """One thing that is asked of a cell."""

    quantity: str
    """A cost, a score, or `retention`."""
    at_least: bool
    """Whether the bound is a lower one."""
    bound: float

    def __str__(self) -> str:
        """Write it as it was given: `bytes<=64`."""
        return f"{self.quantity}{'>=' if self.at_least else '<='}{self.bound:.12g}"

    def met_by(self, value: float) -> bool:
        """Tell whether a value keeps to it."""
        return value >= self.bound if self.at_least else value <= self.bound

    def missed_by(self, value: float) -> float:
        """Return how far a value is on the wrong side, 0 where it is on the right one."""
        return max(0.0, self.bound - value if self.at_least else value - self.bound)


COSTS: dict[str, Callable[[Cell, Corpus], float | None]] = {
    "bytes": memory_bytes,
    "disk_bytes": disk_bytes,
    "memory_gb": lambda cell, corpus: expenses(cell, corpus).memory_gb,
    "disk_gb": lambda cell, corpus: expenses(cell, corpus).disk_gb,
    "dim": lambda cell, _: cell.dim,
    "latency_ms": lambda cell, corpus: (
        None if cell.latency is None else cell.latency.median_ms * times_longer(cell, corpus)
    ),
    "p95_ms": lambda cell, corpus: None if cell.latency is None else cell.latency.p95_ms * times_longer(cell, corpus),
    "queries_per_second": lambda cell, corpus: (
        None if cell.latency is None else cell.latency.queries_per_second / times_longer(cell, corpus)
    ),
}
"""What a cell costs, by the name that a budget gives it; None if it was not measured.

`bytes` are those of one vector in memory, where the first stage scans it; on disk those that are rescored come on top.
Times grow with the corpus, as those of the index that would be built."""


def parse_target(text: str, scores: Sequence[str]) -> Limit:
    """Read what quality is asked for.

    Args:
        text: A score, `retention` or `reference_retention`, `>=` and a number, which may be a percentage.
        scores: Names of the metrics of the grid.

    Returns:
        The limit.

    Raises:
        PlanError: It cannot be read, or names nothing of the grid.

    Example:
        >>> parse_target("retention >= 99%", ["MRR@10"])
        Limit(quantity='retention', at_least=True, bound=0.99)
    """
    known = {name.lower(): name for name in (*scores, "retention", "reference_retention")}
    limit = _parse(text, known, "retention>=0.99")
    if not limit.at_least:
        raise PlanError(f"The target {text!r} would limit quality from above. Write >=.")
    return limit


def parse_budget(text: str) -> Limit:
    """Read what may be spent.

    Args:
        text: A name in `COSTS`, `<=` or `>=`, and a number.

    Returns:
        The limit.

    Raises:
        PlanError: It cannot be read, or names no cost.

    Example:
        >>> parse_budget("bytes<=64")
        Limit(quantity='bytes', at_least=False, bound=64.0)
    """
    return _parse(text, {name: name for name in COSTS}, "bytes<=64")


def check_limits(budgets: Sequence[Limit]) -> None:
    """Refuse budgets that no cell of any grid could keep to.

    Args:
        budgets: What may be spent.

    Raises:
        PlanError: Two of them exclude each other, or one allows nothing at all.
    """
    for quantity in dict.fromkeys(budget.quantity for budget in budgets):
        own = [budget for budget in budgets if budget.quantity == quantity]
        least = max((budget for budget in own if budget.at_least), key=lambda budget: budget.bound, default=None)
        most = min((budget for budget in own if not budget.at_least), key=lambda budget: budget.bound, default=None)
        if least is not None and most is not None and least.bound > most.bound:
            raise PlanError(f"The budgets {least} and {most} exclude each other. Drop one of them.")
        if most is not None and most.bound <= 0:
            raise PlanError(f"The budget {most} allows nothing at all: every cell costs more. Raise it.")


def score_of(cell: Cell, quantity: str) -> Interval | None:
    """Return the score that a target speaks of, with its bounds; None where the cell has none."""
    if quantity in {"retention", "reference_retention"}:
        found: Interval | None = getattr(cell, quantity)
        return found
    return cell.metrics.get(quantity)


def _parse(text: str, known: dict[str, str], example: str) -> Limit:
    match = re.fullmatch(r"\s*([^<>=]+?)\s*(>=|<=)\s*([0-9.eE+-]+)\s*(%?)\s*", text)
    try:
        bound = math.nan if match is None else float(match[3]) / (100 if match[4] else 1)
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise PlanError(f"Cannot read {text!r}. Write a quantity, >= or <=, and a number, such as {example}.")
    if match[1].lower() not in known:
        raise PlanError(f"Unknown quantity {match[1]!r}. Here these can be named: {', '.join(known.values())}.")
    return Limit(known[match[1].lower()], match[2] == ">=", bound)
