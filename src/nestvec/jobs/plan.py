"""From the file of a grid to the file of a plan: what `nestvec plan` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nestvec.errors import OutputExistsError, PlanError
from nestvec.evaluation import Cell
from nestvec.files import write_text
from nestvec.jobs.evaluate import PCA_PREFIX
from nestvec.plan import Plan, dump_plan, read_plan
from nestvec.planning import (
    Choice,
    Corpus,
    Prices,
    choose,
    expenses,
    lists_of,
    parse_budget,
    parse_target,
    times_longer,
)
from nestvec.report import GridReport, read_grid
from nestvec.sources import absolute_source

__all__ = ["MadePlan", "make_plan", "write_plan"]

_GROWTH_TO_MENTION = 10
_UNITS_TO_TRUST = 50


class MadePlan(NamedTuple):
    """A plan, and what it was chosen from."""

    plan: Plan
    choice: Choice
    report: GridReport
    corpus: Corpus
    notes: list[str]
    """What the plan rests on that may not hold, a sentence each."""


def make_plan(
    grid: str | Path,
    *,
    target: str | None = None,
    budgets: Sequence[str] = (),
    model: str | None = None,
    corpus_size: int | None = None,
    prices: Prices | None = None,
) -> MadePlan:
    """Choose the cheapest cell of a grid that meets a target, or the best one within budgets.

    Args:
        grid: A file of `nestvec evaluate --json`, or the `report.json` of a training run.
        target: Such as `retention>=0.99`.
        budgets: Such as `bytes<=64` and `p95_ms<=5`.
        model: Which model of the grid; None is the one evaluated, or trained.
        corpus_size: Vectors that will be stored; None is what the grid was measured for.
        prices: What a gigabyte costs.

    Returns:
        The plan with what it was chosen from.

    Raises:
        SourceNotFoundError: There is no such file.
        GridError: It holds no grid.
        PlanError: Target, budgets or model cannot be read or fit the grid.
        NoPlanError: No cell will do; the message says by how much the nearest one misses.
    """
    report = read_grid(grid)
    name = next(iter(report.models)) if model is None else model
    cells = [cell for cell in report.cells if cell.model == name]
    if not cells or name not in report.models:
        raise PlanError(f"{grid} has no model {name!r}. Its models are: {', '.join(report.models)}.")
    source = report.models[name]
    if source.startswith(PCA_PREFIX):
        raise PlanError(
            f"{name} is a baseline made for this grid, not a model that an index could use. Plan another one."
        )
    corpus = Corpus(report.corpus_size if corpus_size is None else corpus_size, report.measured_size, prices)
    asked = None if target is None else parse_target(target, list(cells[0].metrics))
    choice = choose(
        cells,
        headline=report.headline,
        target=asked,
        budgets=[parse_budget(budget) for budget in budgets],
        corpus=corpus,
    )
    notes = _notes(report, choice, corpus)
    cell = choice.cell
    lists = lists_of(cell, corpus)
    stages: dict[str, Any] = {"first_stage": {"dim": cell.dim, "precision": cell.precision, "lists": lists}}
    if cell.rerank is not None:
        stages["second_stage"] = cell.rerank._asdict()
    plan = Plan(
        model=absolute_source(source, report.folder or None),
        full_dim=choice.full.dim,
        fitted_on=report.fitted_on.source,
        reason=choice.reason,
        measured={
            "benchmark": str(report.benchmark.get("name", "")),
            "asked": [*([str(asked)] if asked else []), *budgets],
            "notes": notes,
            **_describe_costs(choice, corpus),
            "confidence": report.confidence,
            "scores": _describe_scores(cell),
        },
        **stages,
    )
    return MadePlan(plan, choice, report, corpus, notes)


def write_plan(plan: Plan, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a plan; an older plan is replaced, anything else is not.

    Args:
        plan: The plan.
        path: Where.
        overwrite: Replace whatever is there.

    Raises:
        OutputExistsError: There is a file that is no plan.
        StorageError: The disk is full, or the folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        try:
            read_plan(path)
        except (PlanError, OSError) as error:
            raise OutputExistsError(
                f"{path} exists and is no plan. Choose another --out, or pass --overwrite."
            ) from error
    write_text(path, dump_plan(plan))


def _describe_scores(cell: Cell) -> dict[str, Any]:
    scores = {name: value._asdict() for name, value in cell.metrics.items()}
    if cell.retention is not None:
        scores["retention"] = cell.retention._asdict()
    return scores


def _describe_costs(choice: Choice, corpus: Corpus) -> dict[str, Any]:
    """Costs of the chosen cell, and what it saves against the full float32 vector."""
    cell = choice.cell
    spent, full = expenses(cell, corpus), expenses(choice.full, corpus)
    costs = {name: getattr(spent, name) for name in spent._fields}
    saved = {f"saved_{name}": getattr(full, name) - value for name, value in costs.items() if value is not None}
    rounded = {name: round(value, 6) for name, value in {**costs, **saved}.items() if value is not None}
    times = {} if cell.latency is None else {"p95_ms": round(cell.latency.p95_ms * times_longer(cell, corpus), 3)}
    return {
        "corpus_size": corpus.size,
        "bytes_per_vector": cell.bytes_per_vector,
        "rerank_bytes_per_vector": cell.rerank_bytes_per_vector,
        **rounded,
        **times,
    }


def _notes(report: GridReport, choice: Choice, corpus: Corpus) -> list[str]:
    notes = []
    cell, growth = choice.cell, corpus.size / corpus.measured
    larger = f"{corpus.measured:,} vectors were measured and {corpus.size:,} will be stored"
    if growth > 1 and cell.latency is not None:
        lists = lists_of(cell, corpus)
        how = "a scan of all codes" if lists is None else f"a search of {lists:,} IVF lists"
        notes.append(
            f"{larger}: times are those of {how}, {times_longer(cell, corpus):,.1f} times as long as measured."
        )
    if growth > _GROWTH_TO_MENTION and cell.rerank is not None:
        notes.append(
            f"{larger}: among more documents a shortlist of {cell.rerank.shortlist} misses more of the right ones. "
            "Measure on as large a part of your corpus as you can."
        )
    units = report.benchmark.get(report.benchmark.get("unit", "queries"), _UNITS_TO_TRUST)
    if units < _UNITS_TO_TRUST:
        notes.append(
            f"Only {units} {report.benchmark.get('unit', 'queries')} were measured: intervals of so few are rough."
        )
    return notes
