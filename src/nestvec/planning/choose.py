"""From a grid and what is asked of it to one cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nestvec.errors import NoPlanError, PlanError
from nestvec.evaluation import Cell
from nestvec.planning.costs import Corpus, expenses
from nestvec.planning.limits import COSTS, Limit, check_limits, score_of

__all__ = ["Choice", "choose"]

_RUNNERS_UP = 4


@dataclass(frozen=True)
class Choice:
    """The cell that was chosen, and what it was chosen from.

    Attributes:
        cell: The cell.
        reason: Why this one, in one sentence.
        runners_up: The next ones that would do, best first.
        full: The full float32 vector without a second stage, which savings are relative to.
    """

    cell: Cell
    reason: str
    runners_up: Sequence[Cell]
    full: Cell


def choose(
    cells: Sequence[Cell],
    *,
    headline: str,
    target: Limit | None = None,
    budgets: Sequence[Limit] = (),
    corpus: Corpus,
) -> Choice:
    """Choose the cheapest cell that meets the target, or without a target the best that the budgets allow.

    A cell meets the target if the lower bound of its interval does: its score alone would meet it by luck half the
    time. Cheapest is the least memory, then the least disk; with prices, the least money.

    Args:
        cells: The grid of one model.
        headline: Metric that is best without a target.
        target: What quality is asked for.
        budgets: What may be spent.
        corpus: What will be stored, and at which prices; times are scaled to its size.

    Returns:
        The cell.

    Raises:
        PlanError: Nothing is asked for, budgets exclude each other, or a quantity was not measured.
        NoPlanError: No cell will do; the message says by how much the nearest one misses.
    """
    if target is None and not budgets:
        raise PlanError("Nothing is asked of the plan. Give a target, such as retention>=0.99, a budget, or both.")
    check_limits(budgets)
    full = max(cells, key=lambda cell: (cell.dim, cell.precision == "float32", cell.rerank is None))
    _require_measured(cells, target, budgets, corpus)
    affordable = [cell for cell in cells if _keeps_to(cell, budgets, corpus)]
    if not affordable:
        raise NoPlanError(_no_budget(cells, budgets, corpus))

    def cost(cell: Cell) -> tuple[float, ...]:
        spent = expenses(cell, corpus)
        money = () if spent.money is None else (spent.money,)
        shortlist = 0 if cell.rerank is None else cell.rerank.shortlist
        return (*money, spent.memory_gb, spent.disk_gb, shortlist, -cell.metrics[headline].value)

    if target is None:
        ranked = sorted(affordable, key=lambda cell: (-cell.metrics[headline].value, *cost(cell)))
        reason = _reason_best(ranked, headline, budgets)
        return Choice(ranked[0], reason, ranked[1 : 1 + _RUNNERS_UP], full)
    good = sorted((cell for cell in affordable if target.met_by(_low(cell, target))), key=cost)
    if not good:
        raise NoPlanError(_no_quality(affordable, target, budgets))
    reason = _reason_cheapest(good[0], sorted(affordable, key=cost), target, cost, by_money=corpus.prices is not None)
    return Choice(good[0], reason, good[1 : 1 + _RUNNERS_UP], full)


def _describe(cell: Cell) -> str:
    """Name a cell in words, such as `128 x binary, the best 100 reranked by int8`."""
    second = "" if cell.rerank is None else f", the best {cell.rerank.shortlist} reranked by {cell.rerank.precision}"
    return f"{cell.dim} x {cell.precision}{second}"


def _low(cell: Cell, target: Limit) -> float:
    score = score_of(cell, target.quantity)
    return float("-inf") if score is None else score.low


def _cost_of(cell: Cell, budget: Limit, corpus: Corpus) -> float:
    value = COSTS[budget.quantity](cell, corpus)
    return float("nan") if value is None else value


def _keeps_to(cell: Cell, budgets: Sequence[Limit], corpus: Corpus) -> bool:
    return all(budget.met_by(_cost_of(cell, budget, corpus)) for budget in budgets)


def _require_measured(cells: Sequence[Cell], target: Limit | None, budgets: Sequence[Limit], corpus: Corpus) -> None:
    if target is not None and all(score_of(cell, target.quantity) is None for cell in cells):
        how = "with --reference" if target.quantity == "reference_retention" else "on data it gets anything right on"
        raise PlanError(f"No cell of this grid has the {target.quantity}. Measure it again {how}.")
    for budget in budgets:
        if all(COSTS[budget.quantity](cell, corpus) is None for cell in cells):
            raise PlanError(f"No cell of this grid was timed, so {budget} cannot be told. Measure with --latency.")


def _no_budget(cells: Sequence[Cell], budgets: Sequence[Limit], corpus: Corpus) -> str:
    """Say which cell comes nearest to the budgets: relative to each bound, the worst of its misses is least."""

    def worst(cell: Cell) -> tuple[float, Limit]:
        misses = []
        for budget in budgets:
            value = _cost_of(cell, budget, corpus)
            # What was not timed is no candidate; a bound of 0 has no relative miss.
            miss = float("inf") if math.isnan(value) else budget.missed_by(value) / max(abs(budget.bound), 1e-9)
            misses.append((miss, budget))
        return max(misses, key=lambda miss: miss[0])

    nearest = min(cells, key=lambda cell: worst(cell)[0])
    _, budget = worst(nearest)
    value = _cost_of(nearest, budget, corpus)
    return (
        f"No cell keeps to {_join(budgets)}. Nearest: {_describe(nearest)}, whose {budget.quantity} of "
        f"{value:,.4g} misses {budget} by {budget.missed_by(value):,.4g}."
    )


def _no_quality(affordable: Sequence[Cell], target: Limit, budgets: Sequence[Limit]) -> str:
    nearest = max(affordable, key=lambda cell: _low(cell, target))
    score = score_of(nearest, target.quantity)
    within = f" within {_join(budgets)}" if budgets else ""
    if score is None:
        return f"No cell{within} has a {target.quantity} to compare with {target}."
    return (
        f"No cell{within} meets {target}. Nearest: {_describe(nearest)} has {score.value:.4f} with a lower bound "
        f"of {score.low:.4f}, which misses by {target.missed_by(score.low):.4f}."
    )


def _reason_best(ranked: Sequence[Cell], headline: str, budgets: Sequence[Limit]) -> str:
    best = ranked[0]
    reason = f"{_capital(_describe(best))} has the highest {headline}, {best.metrics[headline].value:.4f}, of the "
    reason += f"{len(ranked)} cells that keep to {_join(budgets)}"
    if len(ranked) > 1:
        reason += f"; the next, {_describe(ranked[1])}, has {ranked[1].metrics[headline].value:.4f}"
    return reason + "."


def _reason_cheapest(
    chosen: Cell,
    by_cost: Sequence[Cell],
    target: Limit,
    cost: Callable[[Cell], tuple[float, ...]],
    *,
    by_money: bool,
) -> str:
    kind = "cheapest" if by_money else "smallest"
    low = _low(chosen, target)
    reason = f"{_capital(_describe(chosen))} is the {kind} cell that meets {target}: its lower bound is {low:.4f}"
    cheaper = [cell for cell in by_cost if cost(cell) < cost(chosen)]
    if cheaper:
        nearest = max(cheaper, key=lambda cell: _low(cell, target))
        reason += f"; of the {len(cheaper)} {kind.replace('est', 'er')} ones the best, {_describe(nearest)}, "
        reason += f"reaches {_low(nearest, target):.4f}"
    return reason + "."


def _join(limits: Sequence[Limit]) -> str:
    return " and ".join(map(str, limits))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
