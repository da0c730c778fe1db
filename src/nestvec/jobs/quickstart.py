"""The main job with a built-in recipe, on the documentation of the packages on this machine."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from nestvec.encoders import is_static
from nestvec.errors import SourceNotFoundError
from nestvec.training.recipe import Recipe, load_recipe

__all__ = ["built_in_recipe", "quickstart_recipe"]


def built_in_recipe(name: str) -> Path:
    """Return the file of a recipe that comes with nestvec.

    Args:
        name: Its name, such as `quickstart-minilm`.

    Returns:
        Path of the TOML file.

    Raises:
        SourceNotFoundError: There is no such recipe.
    """
    folder = Path(str(importlib.resources.files("nestvec"))) / "recipes"
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        raise SourceNotFoundError(f"There is no built-in recipe {name!r}. Built in are: {known}.")
    return path


def quickstart_recipe(base: str, *, seed: int, trust_remote_code: bool = False) -> Recipe:
    """Return the built-in quickstart for a base.

    Args:
        base: `minilm`, `static`, a folder or a hub id; a static table and a transformer are trained with different
            settings.
        seed: Seed of the whole run.
        trust_remote_code: Run code that comes with the base, where it needs some.

    Returns:
        The recipe.
    """
    kind = "static" if is_static(base) else "minilm"
    recipe = load_recipe(built_in_recipe(f"quickstart-{kind}"), [f"seed={seed}"])
    chosen = {"base": base, "trust_remote_code": trust_remote_code}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=chosen)})
