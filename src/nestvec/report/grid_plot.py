"""Quality against bytes as one picture: every cell with its interval, and the cells that nothing beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nestvec.evaluation import Cell
from nestvec.extras import require
from nestvec.report.grid_document import GridReport
from nestvec.report.plot import figure_style, save_figure, strip_axes

__all__ = ["save_grid_plot"]

_SCALAR = {"float32": "#5b6470", "float16": "#8a63b8", "int8": "#0b6e99", "int4": "#2a8f5b", "binary": "#c4561f"}
_PRODUCT, _PALEST = "#a8336f", 0.65  # one hue for product quantization, paler the fewer bytes it takes
_MODELS = ("#0b6e99", "#8a8f98", "#c4561f", "#2a8f5b", "#8a63b8")


def save_grid_plot(report: GridReport, path: Path) -> None:
    """Draw the headline metric against the bytes that a vector takes in memory.

    One model is drawn by precision, more of them by model. A line joins the cells that no other cell with as little
    memory beats: solid without a second stage, dashed with one.

    Args:
        report: What to show.
        path: File to write; the suffix says the format, `.png` or `.svg`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The disk is full, or the folder cannot be written.
    """
    figures = require("matplotlib.figure", extra="train")
    with figure_style():
        figure = figures.Figure(figsize=(8.4, 5.0), layout="constrained")
        axes = figure.add_subplot()
        models, hues = list(report.models), _hues(report)
        for place, model in enumerate(models):
            own = [cell for cell in report.cells if cell.model == model]
            for cell in own:
                color = hues[cell.precision] if len(models) == 1 else _MODELS[place % len(_MODELS)]
                _draw_cell(axes, report, cell, color)
            line = "#22262b" if len(models) == 1 else _MODELS[place % len(_MODELS)]
            for reranked in (False, True):
                front = _front([cell for cell in own if (cell.rerank is not None) == reranked], report.headline)
                if front:
                    axes.plot(
                        [cell.bytes_per_vector for cell in front],
                        [cell.metrics[report.headline].value for cell in front],
                        color=line,
                        lw=1.4,
                        ls="--" if reranked else "-",
                        alpha=0.7,
                        zorder=1,
                    )
        _label(axes, report, hues)
        save_figure(figure, path)


def _hues(report: GridReport) -> dict[str, str]:
    """A colour for each precision."""
    product = [precision for precision in report.precisions if precision not in _SCALAR]
    whole = [int(_PRODUCT[place : place + 2], 16) for place in (1, 3, 5)]
    hues = {precision: _SCALAR[precision] for precision in report.precisions if precision in _SCALAR}
    for place, precision in enumerate(product):
        pale = _PALEST * place / max(1, len(product) - 1)
        hues[precision] = "#" + "".join(f"{round(part + pale * (255 - part)):02x}" for part in whole)
    return hues


def _draw_cell(axes: Any, report: GridReport, cell: Cell, color: str) -> None:
    score = cell.metrics[report.headline]
    axes.errorbar(
        cell.bytes_per_vector,
        score.value,
        yerr=[[max(0.0, score.value - score.low)], [max(0.0, score.high - score.value)]],
        fmt="o" if cell.rerank is None else "D",
        ms=6 if cell.rerank is None else 5,
        color=color,
        mfc=color if cell.rerank is None else "white",
        elinewidth=0.8,
        alpha=0.9,
    )


def _front(cells: Sequence[Cell], headline: str) -> list[Cell]:
    """Cells that nothing with as little memory beats, smallest first."""
    front: list[Cell] = []
    for cell in sorted(cells, key=lambda cell: (cell.bytes_per_vector, -cell.metrics[headline].value)):
        if not front or cell.metrics[headline].value > front[-1].metrics[headline].value:
            front.append(cell)
    return front


def _label(axes: Any, report: GridReport, hues: Mapping[str, str]) -> None:
    lines = require("matplotlib.lines", extra="train")
    sizes = sorted({cell.bytes_per_vector for cell in report.cells})
    axes.set_xscale("log", base=2)
    ticks = [size for size in sizes if size & (size - 1) == 0] or sizes
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("bytes of a vector in memory")
    axes.set_ylabel(report.headline)
    strip_axes(axes)
    models = list(report.models)
    if len(models) == 1:
        entries = list(hues.items())
    else:
        entries = [(name, _MODELS[place % len(_MODELS)]) for place, name in enumerate(models)]
    handles = [lines.Line2D([], [], color=color, marker="o", ls="", label=name) for name, color in entries]
    for stage in dict.fromkeys(cell.rerank for cell in report.cells if cell.rerank is not None):
        label = f"the best {stage.shortlist} reranked by {stage.precision}"
        handles.append(lines.Line2D([], [], color="#22262b", marker="D", mfc="white", ls="--", label=label))
    axes.legend(handles=handles, frameon=False, loc="lower right")
    counts = ", ".join(f"{count:,} {name}" for name, count in report.benchmark.items() if isinstance(count, int))
    about = f"bars: {report.confidence:.0%} intervals; ranges and codebooks learned from {report.fitted_on}"
    axes.set_title(
        f"{' and '.join(models)} on {report.benchmark['name']}: {counts}\n{about}",
        loc="left",
        fontsize=10,
    )
