"""Whole jobs: what a command or a notebook calls. `train_and_measure` imports torch; the recipes do not."""

from nestvec.jobs.quickstart import built_in_recipe, quickstart_recipe

__all__ = ["built_in_recipe", "quickstart_recipe"]
