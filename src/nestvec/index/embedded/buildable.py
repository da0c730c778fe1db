"""What can be built, told before there are vectors, which take long to encode."""

from __future__ import annotations

from pathlib import Path

from nestvec.errors import OutputExistsError, SearchIndexError
from nestvec.index.embedded.codec import settings_of
from nestvec.index.embedded.first_stage import check_enough
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.settings import CodeSettings
from nestvec.index.tuning import check_recall
from nestvec.plan import Plan

__all__ = ["check_buildable", "check_free"]


def check_buildable(
    full_dim: int,
    count: int | None = None,
    *,
    plan: Plan | None = None,
    codes: CodeSettings | None = None,
    precision: str | None = None,
    recall: float | None = None,
    learned: bool = False,
) -> None:
    """Check what is to be built before there are vectors, which take long to encode; see `Index.build`.

    Args:
        full_dim: Dimensions of the vectors.
        count: How many documents there are; None where that is not known yet.
        plan: What to store and how to search.
        codes: The first stage, in place of the plan's.
        precision: Of the second stage, likewise.
        recall: Share of the exact best to find; None tunes nothing.
        learned: Whether there are vectors to learn ranges and codebooks from.

    Raises:
        DimensionError: The plan is for vectors of another width, or these have too few dimensions for its codes.
        PrecisionError: A precision is not known, or cannot be kept in IVF lists.
        SearchIndexError: `recall` is outside its range, there are too few documents to learn codes from, or the plan
            learns them from a file and there are no vectors of it.
    """
    settings, _ = settings_of(full_dim, plan, codes, precision)
    if recall is not None:
        check_recall(recall)
    if learned:
        return
    if plan is not None and plan.fitted_on != "documents":
        raise SearchIndexError(
            f"The plan's codes are learned from {plan.fitted_on}: give its vectors in learn_from, or build with "
            "nestvec index build --plan, which encodes it."
        )
    if count is not None:
        scanned = settings.codes_for(count)
        check_enough(scanned if codes is not None else scanned._replace(lists=None), count)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that an index may be made at a place.

    Raises:
        OutputExistsError: There is something there, and no index that may be replaced.
    """
    if path.is_dir() and not any(path.iterdir()):
        return  # an empty folder, such as one made for it
    if path.exists() and not (overwrite and Manifest.is_one(path)):
        hint = "overwrite it" if Manifest.is_one(path) else "choose another place"
        raise OutputExistsError(f"{path} exists. Add to it, or {hint}.")
