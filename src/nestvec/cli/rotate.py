"""`nestvec rotate`: a better nested model out of any that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nestvec.cli.console import console, draw_progress, quiet_libraries
from nestvec.cli.options import rows_options, separated, trust_option

__all__ = ["rotate"]


@click.command()
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="Queries with documents: file of records or BEIR folder.")
@click.option("--docs", type=click.Path(path_type=Path), help="Documents alone; spans of them measure the model.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The model to write.")
@click.option(
    "--dims",
    callback=separated(int),
    help="Such as 384,64,16; default: those it was trained for, or full size and powers of two.",
)
@click.option("--rows", type=click.IntRange(min=1), default=4000, show_default=True, help="Rows to use at most.")
@click.option("--queries", type=click.IntRange(min=2), default=500, show_default=True, help="Queries to measure by.")
@click.option(
    "--documents", type=click.IntRange(min=1), default=2000, show_default=True, help="Documents to search among."
)
@click.option("--precisions", callback=separated(str), help="Of the grid.  [default: float32,int8,binary]")
@rows_options
@click.option("--cache/--no-cache", default=True, show_default=True, help="Keep vectors on disk for the next time.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Texts encoded at once.")
@trust_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of every draw.")
@click.option("--overwrite", is_flag=True, help="Replace --out, whatever it is.")
def rotate(model: str, data: Path | None, docs: Path | None, out: Path, overwrite: bool, **options: Any) -> int:
    """Rotate the vectors of MODEL so that truncated ones retrieve better; cosines at the full size do not change.

    MODEL is a folder, a hub id, minilm or static. Nothing is trained but an orthogonal matrix, within the model that is
    written. Where nothing gains on held-out data, nothing is written, and the exit status is 1; nor is anything for
    documents alone where the leading dimensions matter more already.

    \b
    Example:
      nestvec rotate minilm --docs docs.jsonl --out rotated
    """
    if (data is None) == (docs is None):
        raise click.UsageError("Give --data, queries with documents, or --docs, documents alone.")
    for name in ("split", "positives"):
        source = click.get_current_context().get_parameter_source(name)
        if docs is not None and source == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} goes with --data.")
    quiet_libraries()
    with draw_progress("loading libraries", None):
        from nestvec.jobs.rotate import RotateSettings
        from nestvec.jobs.rotate import rotate as run
        from nestvec.report import adaptor_outcome, terminal_grid

    given = {name: value for name, value in options.items() if value is not None}
    settings = RotateSettings(**given)
    found = run(model, out, data=data, docs=docs, settings=settings, overwrite=overwrite, progress=draw_progress)
    screen = console()
    screen.print(terminal_grid(found.report, width=screen.width))
    if found.adaptor.method == "raw":
        screen.print(f"Nothing was written. {adaptor_outcome(found.adaptor)}")
        return 1
    screen.print(adaptor_outcome(found.adaptor))
    screen.print(f"Written: {out}", soft_wrap=True)
    return 0
