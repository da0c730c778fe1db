"""Records and a loss to a model: recipes, runs and their determinism.

Reading a recipe does not import torch; `nestvec.training.run` and `nestvec.training.determinism` do.
"""

from nestvec.training.recipe import Recipe, dump_recipe, load_recipe, parse_recipe

__all__ = ["Recipe", "dump_recipe", "load_recipe", "parse_recipe"]
