"""What an adaptor gave on held-out data, as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nestvec.adaptors import Adaptor

__all__ = ["adaptor_outcome", "adaptor_table"]

_STARTS = {
    "identity": "the vectors as they are",
    "pca": "their principal components",
    "pairs": "the axes on which pairs agree",
}


def adaptor_table(adaptor: Adaptor) -> RenderableType:
    """Draw the scores of the vectors as they were, of their principal components and of the adaptor, by size.

    Args:
        adaptor: What was fitted.

    Returns:
        Something rich can print.
    """
    metric = adaptor.settings.get("metric", "score")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("dim", justify="right")
    for name in adaptor.held_out:
        table.add_column(name, justify="right")
    full = max(adaptor.dims)
    table.add_column(f"of raw at {full}", justify="right")
    reference = adaptor.held_out["raw"].get(str(full), 0.0)
    for dim in adaptor.dims:
        scores = {name: by_dim[str(dim)] for name, by_dim in adaptor.held_out.items()}
        kept = scores[adaptor.method]
        share = f"{kept / reference:.1%}" if reference > 0 else "-"
        table.add_row(str(dim), *(f"{score:.3f}" for score in scores.values()), share)
    blocks: list[RenderableType] = [Text(f"{metric} on held-out data", style="bold"), table]
    if outcome := adaptor_outcome(adaptor):
        blocks.append(Text(outcome))
    if adaptor.replaced:
        worse = ", ".join(f"{dim} ({replacement.method})" for dim, replacement in adaptor.replaced.items())
        blocks.append(
            Text(
                f"Worse than another map at {worse}: the file holds that one too, for those who ask for just this "
                "size.",
                style="yellow",
            )
        )
    return Group(*blocks)


def adaptor_outcome(adaptor: Adaptor) -> str:
    """Say from where, and how far, a trained map was taken, or why none was.

    Args:
        adaptor: What was fitted.

    Returns:
        A sentence or two; empty where nothing was trained.
    """
    if adaptor.method == "raw" and adaptor.settings.get("nested"):
        return (
            "The leading dimensions matter more than the others already, and documents alone do not say which would "
            "find more: the vectors stay as they are. Give queries with documents to try."
        )
    if adaptor.method == "raw" and adaptor.settings.get("method") == "rotation":
        return (
            "No rotation gains clearly on held-out data with no size losing more than .002: the vectors stay as they "
            "are."
        )
    if adaptor.method == "raw":
        return "No map gains at every size and clearly on the whole: the vectors stay as they are."
    start, strength = adaptor.settings.get("start"), adaptor.settings.get("strength")
    if start is None or strength is None:
        return ""
    return f"Kept: {adaptor.method}, {strength:.0%} of the way from {_STARTS.get(start, start)}."
