"""`nestvec train`: the main job, from a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nestvec.cli.console import console, draw_progress, quiet_libraries, say
from nestvec.cli.options import trust_option

if TYPE_CHECKING:
    from nestvec.training.recipe import Recipe

__all__ = ["run_job", "train"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results.  [default: runs/ and the recipe's name]"
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value: training.epochs=2.")
@click.option("--preset", type=click.Choice(["small", "balanced", "full"]), help="Which sizes matter most.")
@trust_option
@click.option("--resume", is_flag=True, help="Continue an interrupted run, or start if there is none.")
@click.option("--overwrite", is_flag=True, help="Replace the results, or the unfinished run, in --out.")
def train(
    recipe: Path,
    out: Path | None,
    overrides: Sequence[str],
    preset: str | None,
    trust_remote_code: bool,
    resume: bool,
    overwrite: bool,
) -> None:
    """Measure a base model at every size, train it nested, and measure it again.

    RECIPE is a TOML file, or the name of a built-in one: quickstart-minilm, quickstart-static, msmarco-bge.

    \b
    Example:
      nestvec train msmarco-bge --out runs/msmarco --set training.batch_size=128
    """
    from nestvec.jobs import built_in_recipe
    from nestvec.training import load_recipe

    is_name = not recipe.suffix and len(recipe.parts) == 1 and not recipe.exists()
    path = built_in_recipe(str(recipe)) if is_name else recipe
    if trust_remote_code:
        overrides = [*overrides, "model.trust_remote_code=true"]
    run_job(
        load_recipe(path, overrides, preset=preset), out or Path("runs") / path.stem, resume=resume, overwrite=overwrite
    )


def run_job(recipe: Recipe, out: Path, *, resume: bool, overwrite: bool) -> None:
    """Run the main job in the terminal and print its table and examples.

    Args:
        recipe: What to do.
        out: Folder for the results.
        resume: Continue an interrupted run.
        overwrite: Replace what `out` holds.
    """
    from nestvec.report import terminal_examples, terminal_table

    quiet_libraries()
    with draw_progress("loading libraries", None):
        from nestvec.jobs.train_and_measure import train_and_measure
    try:
        report = train_and_measure(recipe, out, resume=resume, overwrite=overwrite, progress=draw_progress)
    except KeyboardInterrupt:
        if (out / "work").is_dir():
            say(f"Interrupted. Continue with the same command and --resume; the run is in {out}.")
        else:
            say("Interrupted before training began: nothing was written.")
        raise SystemExit(130) from None
    screen = console()
    screen.print()
    screen.print(terminal_table(report, width=screen.width))
    if report.examples:
        screen.print()
        screen.print(terminal_examples(report.examples))
    screen.print(f"Written to {out}: model/, benchmark/, report.json, report.md, plot.png, recipe.toml", soft_wrap=True)
    parts = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in report.seconds.items())
    screen.print(f"Wall time: {parts}", style="dim", soft_wrap=True)
