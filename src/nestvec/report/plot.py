"""Score against size, before and after, as one picture."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nestvec.extras import require
from nestvec.files import atomic_path
from nestvec.report.document import Report, SizeRow, size_rows

__all__ = ["figure_style", "save_figure", "save_plot", "strip_axes"]

_BEFORE, _AFTER, _INK, _GRID = "#8a8f98", "#0b6e99", "#22262b", "#e3e5e8"


def save_plot(report: Report, path: Path) -> None:
    """Draw the headline metric against the numbers kept, with intervals.

    Args:
        report: What to show.
        path: File to write; the suffix says the format, `.png` or `.svg`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The disk is full, or the folder cannot be written.
    """
    figures = require("matplotlib.figure", extra="train")
    rows = size_rows(report)
    dims = [row.dim for row in rows]
    with figure_style():
        figure = figures.Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for label, color, cells in (
            ("before", _BEFORE, [row.before for row in rows]),
            ("after", _AFTER, [row.after for row in rows]),
        ):
            scores = [cell.metrics[report.headline] for cell in cells]
            axes.fill_between(dims, [s.low for s in scores], [s.high for s in scores], color=color, alpha=0.15, lw=0)
            axes.plot(dims, [s.value for s in scores], color=color, marker="o", ms=5, lw=2)
            axes.annotate(
                label,
                (dims[-1], scores[-1].value),
                xytext=(-8, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=color,
                weight="bold",
            )
        _label_axes(axes, report, rows)
        save_figure(figure, path)


def figure_style() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn in the house's style."""
    matplotlib = require("matplotlib", extra="train")
    style = {"font.size": 10, "svg.hashsalt": "nestvec", "text.color": _INK, "axes.labelcolor": _INK}
    context: AbstractContextManager[None] = matplotlib.rc_context(style)
    return context


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, atomically and without a date: equal figures are equal files.

    Args:
        figure: The matplotlib figure.
        path: File to write; the suffix says the format, `.png` or `.svg`.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    file_format = path.suffix.removeprefix(".")
    metadata = {"Title": "nestvec", **({"Software": None} if file_format == "png" else {"Date": None})}
    with atomic_path(path) as partial:
        figure.savefig(partial, format=file_format, dpi=150, metadata=metadata)


def strip_axes(axes: Any) -> None:
    """Leave of the frame of a plot only what helps to read it."""
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def _label_axes(axes: Any, report: Report, rows: list[SizeRow]) -> None:
    dims = [row.dim for row in rows]
    axes.set_xscale("log", base=2)
    axes.set_xticks(dims, [f"{row.dim}\n{row.after.bytes_per_vector:,} B" for row in rows])
    axes.minorticks_off()
    axes.set_xlim(dims[-1] / 1.45, dims[0] * 1.1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("numbers kept, and bytes of a float32 vector")
    axes.set_ylabel(report.headline)
    strip_axes(axes)
    counts = report.benchmark
    axes.set_title(
        f"{report.base}, {counts['queries']:,} queries, {counts['documents']:,} documents; "
        f"bands: {report.confidence:.0%} intervals",
        loc="left",
        fontsize=10,
    )
