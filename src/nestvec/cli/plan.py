"""`nestvec plan`: the cheapest cell of a grid that is good enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nestvec.cli.console import console, say
from nestvec.cli.options import read_count
from nestvec.errors import NoPlanError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nestvec.jobs.plan import MadePlan

__all__ = ["plan"]

_NO_CELL = 3
_WIDTH_FOR_GAPS = 94
_WIDTH_FOR_ALL = 80


@click.command()
@click.argument("grid", type=click.Path(path_type=Path))
@click.option("--target", help="What quality to keep, such as 'retention>=0.99' or 'MRR@10>=0.6'.")
@click.option("--budget", "budgets", multiple=True, help="What may be spent, such as 'bytes<=64' or 'p95_ms<=5'.")
@click.option("--model", help="Which model of the grid; default: the one evaluated, or trained.")
@click.option("--corpus-size", callback=read_count, help="Vectors that will be stored, such as 10e6.")
@click.option("--price-per-gb", type=click.FloatRange(min=0), help="Of memory; the cheapest is then by money.")
@click.option("--disk-price-per-gb", type=click.FloatRange(min=0), help="Of disk, beside --price-per-gb.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("plan.toml"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace --out even if it is no plan.")
def plan(
    grid: Path,
    target: str | None,
    budgets: tuple[str, ...],
    model: str | None,
    corpus_size: int | None,
    price_per_gb: float | None,
    disk_price_per_gb: float | None,
    out: Path,
    overwrite: bool,
) -> None:
    """Choose the cheapest cell of GRID whose quality is sure enough, and write it as a plan.

    GRID is a file of nestvec evaluate --json, or the report.json of a training run. A target counts as met when the
    lower bound of its interval meets it. Exit code 3: no cell will do.

    \b
    Example:
      nestvec plan runs/quickstart/grid.json --target 'retention>=0.95' --budget 'bytes<=64' --corpus-size 10e6
    """
    from nestvec.jobs.plan import make_plan, write_plan
    from nestvec.planning import Prices

    if disk_price_per_gb is not None and price_per_gb is None:
        raise click.UsageError("--disk-price-per-gb goes with --price-per-gb: give both, or neither.")
    prices = None if price_per_gb is None else Prices(price_per_gb, disk_price_per_gb or 0.0)
    try:
        made = make_plan(grid, target=target, budgets=budgets, model=model, corpus_size=corpus_size, prices=prices)
    except NoPlanError as error:
        say(f"Error: {error}")
        raise SystemExit(_NO_CELL) from None
    write_plan(made.plan, out, overwrite=overwrite)
    screen = console()
    screen.print(made.plan.reason, style="bold", soft_wrap=True)
    screen.print()
    screen.print(_draw(made, screen.width))
    screen.print(_savings(made), soft_wrap=True)
    for note in made.notes:
        screen.print(f"Note: {note}", style="yellow", soft_wrap=True)
    screen.print(f"Written: {out}", soft_wrap=True)


def _draw(made: MadePlan, width: int) -> RenderableType:
    """The chosen cell, the runners-up and the full vector, with what each costs; in a narrow terminal less of that."""
    from nestvec.planning import expenses, times_longer
    from nestvec.report import WIDTH_FOR_BOUNDS, draw_cells, spell, spell_bytes, spell_percent

    headline = made.report.headline
    labelled = [("plan", made.choice.cell), *(("next", cell) for cell in made.choice.runners_up)]
    rows: list[dict[str, str]] = []
    for label, cell in [*labelled, ("full", made.choice.full)]:
        spent, bounds = expenses(cell, made.corpus), width >= WIDTH_FOR_BOUNDS
        longer = times_longer(cell, made.corpus)
        rows.append(
            {
                "": label,
                "dim": str(cell.dim),
                "precision": cell.precision,
                "rerank": "" if cell.rerank is None else str(cell.rerank),
                headline: spell(cell.metrics[headline]).line(bounds=bounds),
                "kept": spell_percent(cell.retention).line(bounds=bounds),
                "bytes": f"{cell.bytes_per_vector:,}",
                "memory": spell_bytes(spent.memory_gb * 1e9),
                "disk": spell_bytes(spent.disk_gb * 1e9),
                "cost": "" if spent.money is None else f"{spent.money:,.2f}",
                "p95 ms": "" if cell.latency is None else f"{cell.latency.p95_ms * longer:,.2f}",
            }
        )
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    if width < _WIDTH_FOR_ALL:
        titles = [title for title in titles if title not in {headline, "bytes", "disk"}]
    return draw_cells(titles, [(row, row[""] == "plan") for row in rows], gap=2 if width >= _WIDTH_FOR_GAPS else 1)


def _savings(made: MadePlan) -> str:
    """What the plan saves against full float32 vectors, or costs on top."""
    from nestvec.planning import expenses

    spent, full = expenses(made.choice.cell, made.corpus), expenses(made.choice.full, made.corpus)
    parts = []
    for name, new, old in (("memory", spent.memory_gb, full.memory_gb), ("disk", spent.disk_gb, full.disk_gb)):
        share = 1 - new / old
        parts.append(f"saves {share:.1%} of the {name}" if share >= 0 else f"takes {-share:.1%} more {name}")
    if spent.money is not None and full.money is not None:
        parts.append(f"costs {spent.money:,.2f} in place of {full.money:,.2f}")
    *first, last = parts
    return f"Against full float32 vectors it {', '.join(first)} and {last}, for {made.corpus.size:,} vectors."
