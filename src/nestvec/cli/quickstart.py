"""`nestvec quickstart`: the main job with a built-in recipe."""

from __future__ import annotations

from pathlib import Path

import click

from nestvec.cli.options import trust_option
from nestvec.cli.train import run_job

__all__ = ["quickstart"]


@click.command()
@click.option("--base", default="minilm", show_default=True, help="minilm, static, a model folder, or a hub id.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/quickstart"), show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help="Seed of the whole run.")
@trust_option
@click.option("--resume", is_flag=True, help="Continue an interrupted run, or start if there is none.")
@click.option("--overwrite", is_flag=True, help="Replace the results, or the unfinished run, in --out.")
def quickstart(base: str, out: Path, seed: int, trust_remote_code: bool, resume: bool, overwrite: bool) -> None:
    """Train and measure on the API documentation of the packages installed here.

    Takes about five minutes on two cores with the base minilm, and under one with static.

    \b
    Example:
      nestvec quickstart --base static --out runs/static
    """
    from nestvec.jobs import quickstart_recipe

    recipe = quickstart_recipe(base, seed=seed, trust_remote_code=trust_remote_code)
    run_job(recipe, out, resume=resume, overwrite=overwrite)
