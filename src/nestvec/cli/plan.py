"""`nestvec plan`: the cheapest cell of a grid that is good enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nestvec.cli.console import console
from nestvec.cli.options import read_count
from nestvec.errors import NoPlanError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nestvec.jobs.plan import MadePlan

__all__ = ["plan"]

_NO_CELL = 3


@click.command()
@click.argument("grid", type=click.Path(path_type=Path))
@click.option("--target", help="What quality to keep, such as 'retention>=0.99' or 'MRR@10>=0.6'.")
@click.option("--budget", "budgets", multiple=True, help="What may be spent, such as 'bytes<=64' or 'p95_ms<=5'.")
@click.option("--model", help="Which model of the grid; default: the one evaluated, or trained.")
@click.option("--corpus-size", callback=read_count, help="Vectors that will be stored, such as 10e6.")
@click.option("--price-per-gb", type=click.FloatRange(min=0), help="Of memory; the cheapest is then by money.")
@click.option("--disk-price-per-gb", type=click.FloatRange(min=0), default=0.0, help="Of disk, beside --price-per-gb.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("plan.toml"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace --out even if it is no plan.")
def plan(
    grid: Path,
    target: str | None,
    budgets: tuple[str, ...],
    model: str | None,
    corpus_size: int | None,
    price_per_gb: float | None,
    disk_price_per_gb: float,
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

    prices = None if price_per_gb is None else Prices(price_per_gb, disk_price_per_gb)
    try:
        made = make_plan(grid, target=target, budgets=budgets, model=model, corpus_size=corpus_size, prices=prices)
    except NoPlanError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(_NO_CELL) from None
    write_plan(made.plan, out, overwrite=overwrite)
    screen = console()
    screen.print(made.plan.reason, style="bold", soft_wrap=True)
    screen.print()
    screen.print(_draw(made))
    screen.print(f"Written: {out}", soft_wrap=True)


def _draw(made: MadePlan) -> RenderableType:
    """The chosen cell, the runners-up and the full vector, with what each costs."""
    from rich.table import Table

    from nestvec.planning import describe_cell, expenses
    from nestvec.report import spell, spell_bytes, spell_percent

    headline = made.report.headline
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    titles = ["", "cell", headline, "kept", "bytes", "memory", "disk"]
    titles += (["cost"] if made.prices else []) + (["p95 ms"] if made.choice.cell.latency else [])
    for title in titles:
        table.add_column(title, justify="left" if title in {"", "cell"} else "right")
    labelled = [("plan", made.choice.cell), *(("next", cell) for cell in made.choice.runners_up)]
    labelled.append(("full", made.choice.full))
    full = expenses(made.choice.full, made.corpus_size, made.prices)
    for label, cell in labelled:
        spent = expenses(cell, made.corpus_size, made.prices)
        row = [label, describe_cell(cell), spell(cell.metrics[headline]).line(bounds=True)]
        row += [spell_percent(cell.retention).line(bounds=True), f"{cell.bytes_per_vector:,}"]
        row += [spell_bytes(spent.memory_gb * 1e9), spell_bytes(spent.disk_gb * 1e9)]
        row += [f"{spent.money:,.2f}"] if spent.money is not None else []
        if made.choice.cell.latency:
            row.append("" if cell.latency is None else f"{cell.latency.p95_ms:.2f}")
        table.add_row(*row, style="" if label == "plan" else "dim")
    spent = expenses(made.choice.cell, made.corpus_size, made.prices)
    saved = f"Saves {1 - spent.memory_gb / full.memory_gb:.1%} of the memory of full float32 vectors"
    table.caption = f"{saved}, for {made.corpus_size:,} vectors."
    table.caption_justify = "left"
    return table
