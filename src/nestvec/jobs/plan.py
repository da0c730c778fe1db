"""From the file of a grid to the file of a plan: what `nestvec plan` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nestvec.errors import OutputExistsError, PlanError
from nestvec.files import write_text
from nestvec.plan import Plan, dump_plan, read_plan
from nestvec.planning import Choice, Limit, Prices, choose, expenses, parse_budget, parse_target
from nestvec.report import GridReport, read_grid

__all__ = ["MadePlan", "make_plan", "write_plan"]


class MadePlan(NamedTuple):
    """A plan, and what it was chosen from."""

    plan: Plan
    choice: Choice
    report: GridReport
    corpus_size: int
    prices: Prices | None
    target: Limit | None


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
    if not cells:
        raise PlanError(f"{grid} has no model {name!r}. Its models are: {', '.join(report.models)}.")
    size = report.corpus_size if corpus_size is None else corpus_size
    asked = None if target is None else parse_target(target, list(cells[0].metrics))
    choice = choose(
        cells,
        headline=report.headline,
        target=asked,
        budgets=[parse_budget(budget) for budget in budgets],
        corpus_size=size,
        prices=prices,
    )
    cell = choice.cell
    stages: dict[str, Any] = {"first_stage": {"dim": cell.dim, "precision": cell.precision}}
    if cell.rerank is not None:
        stages["second_stage"] = cell.rerank._asdict()
    plan = Plan(
        model=report.models[name],
        full_dim=choice.full.dim,
        reason=choice.reason,
        measured=_measured(report, choice, asked, budgets, size, prices),
        **stages,
    )
    return MadePlan(plan, choice, report, size, prices, asked)


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


def _measured(
    report: GridReport,
    choice: Choice,
    target: Limit | None,
    budgets: Sequence[str],
    corpus_size: int,
    prices: Prices | None,
) -> dict[str, Any]:
    cell = choice.cell
    spent, before = (expenses(one, corpus_size, prices) for one in (cell, choice.full))
    scores = {name: value._asdict() for name, value in cell.metrics.items()}
    if cell.retention is not None:
        scores["retention"] = cell.retention._asdict()
    return {
        "benchmark": str(report.benchmark.get("name", "")),
        "asked": [*([str(target)] if target else []), *budgets],
        "scores": scores,
        "corpus_size": corpus_size,
        "bytes_per_vector": cell.bytes_per_vector,
        "rerank_bytes_per_vector": cell.rerank_bytes_per_vector,
        **{name: round(value, 6) for name, value in spent._asdict().items() if value is not None},
        **{f"saved_{name}": round(old - new, 6) for name, old, new in _savings(before, spent)},
        **({"p95_ms": cell.latency.p95_ms} if cell.latency else {}),
        "confidence": report.confidence,
    }


def _savings(before: Any, spent: Any) -> list[tuple[str, float, float]]:
    pairs = zip(spent._asdict().items(), before, strict=True)
    return [(name, old, new) for (name, new), old in pairs if new is not None]
